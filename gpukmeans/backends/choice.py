"""The choice of a backend: by name, by what is usable on this machine, and by where the rows lie."""

from __future__ import annotations

from gpukmeans.arrays.on_device import out_of_reach
from gpukmeans.backends.problems import BatchBackend
from gpukmeans.backends.protocol import Backend, missing
from gpukmeans.logs import logger


class BackendUnavailable(RuntimeError):
    """The requested backend cannot run here; the message says why and what to do."""


#: What `backend` may be, other than a Backend object.
NAMES = ("auto", "numpy", "cupy")

_NO_SPARSE = (
    "X is sparse, and the backend {!r} reads dense rows only. Pass backend='auto', 'numpy' or 'cupy', which read "
    "sparse rows, or X.toarray()."
)


def get_backend(backend: str | Backend = "auto", device: int | None = None, *, sparse: bool = False) -> Backend:
    """The backend of a name: "numpy", "cupy", or "auto" (CuPy where an NVIDIA GPU is usable, else NumPy).

    A Backend object is returned as it is, after a check.

    Parameters
    ----------
    backend : {"auto", "numpy", "cupy"} or Backend, default="auto"
    device : int, optional
        The CUDA device that the rows lie on, for which CuPy is the only choice by name.  None: they lie on the host,
        and CuPy computes on its current device.
    sparse : bool, default=False
        Whether the rows are sparse, which both of them read, but not every Backend object.

    Raises
    ------
    BackendUnavailable
        If CuPy is requested, or is the only choice, and cannot be used.
    TypeError
        If the object lacks a name of the protocol `gpukmeans.backends.Backend`.
    ValueError
        If the name is none of these, or if the backend does not read rows on a device, or sparse rows, and X is such.

    Examples
    --------
    >>> from gpukmeans.backends import get_backend
    >>> get_backend("numpy").name
    'numpy'
    """
    if not isinstance(backend, str):
        return _checked(backend, device, sparse=sparse)
    if backend not in NAMES:
        raise ValueError(
            f"backend={backend!r} is not one of {', '.join(map(repr, NAMES))}; 'cupy' computes on an NVIDIA GPU."
        )
    if backend == "numpy" and device is not None:
        raise ValueError(out_of_reach(device))
    if backend != "numpy":
        from gpukmeans.backends.cuda.device.cupy_device import numbered_device
        from gpukmeans.backends.cuda.device.probe import probe

        found = probe()
        if found.usable:
            from gpukmeans.backends.cuda.backend import CupyBackend

            return CupyBackend(None if device is None else numbered_device(device))
        if device is not None:
            raise BackendUnavailable(
                f"X lies on CUDA device {device}, where only CuPy computes, but {found.reason} Bring X to the host "
                "(X.cpu() for torch), or see `gpukmeans info`."
            )
        if backend == "cupy":
            raise BackendUnavailable(
                f"backend='cupy' needs an NVIDIA GPU and CuPy, but {found.reason} "
                "Use backend='numpy' or 'auto', or see `gpukmeans info`."
            )
        logger.debug("backend='auto' is NumPy: %s", found.reason)
    from gpukmeans.backends.cpu.backend import NumpyBackend

    return NumpyBackend()


def _checked(backend: Backend, device: int | None, *, sparse: bool) -> Backend:
    """A Backend object, if it has all names of its protocol and reads rows such as X."""
    lacking = missing(backend, Backend) or missing(backend, BatchBackend if backend.fits_many else Backend)
    if lacking:
        raise TypeError(
            f"backend={backend!r} lacks {', '.join(lacking)}: derive its class from "
            "gpukmeans.backends.defaults.BackendDefaults, which has all that is optional, and write the rest as "
            "gpukmeans.backends.protocol.Backend describes it."
        )
    if sparse and not backend.reads_sparse:
        raise ValueError(_NO_SPARSE.format(backend.name))
    if device is not None and not backend.reads_device:
        raise ValueError(out_of_reach(device, backend.name))
    return backend


def explain() -> dict[str, dict[str, object]]:
    """The state of each backend, and which one "auto" chooses, for `gpukmeans info`.

    Returns
    -------
    dict
        ``{"numpy": {"usable", "reason"}, "cupy": {"usable", "reason"}, "auto": {"chosen", "reason"}}``
    """
    from gpukmeans.backends.cpu.backend import NumpyBackend
    from gpukmeans.backends.cuda.device.probe import probe

    found = probe()
    chosen = "cupy" if found.usable else "numpy"
    why = "an NVIDIA GPU is usable." if found.usable else f"no usable NVIDIA GPU: {found.reason}"
    return {
        "numpy": {"usable": True, "reason": NumpyBackend().describe()},
        "cupy": {"usable": found.usable, "reason": found.reason},
        "auto": {"chosen": chosen, "reason": why},
    }
