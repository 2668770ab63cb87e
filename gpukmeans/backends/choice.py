"""Which backend computes: by name, by what is usable here, and by where the rows lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpukmeans.arrays.on_device import out_of_reach

if TYPE_CHECKING:
    from gpukmeans.backends.protocol import Backend


class BackendUnavailable(RuntimeError):
    """The backend that was asked for cannot run here; the message says why and what to do."""


_NO_SPARSE = (
    "X is sparse, and {} reads dense rows only. Pass backend='auto', 'numpy' or 'cupy', which read sparse rows, or "
    "X.toarray()."
)


def get_backend(backend: str | Backend = "auto", device: int | None = None, *, sparse: bool = False) -> Backend:
    """The backend of a name: "numpy", "cupy", or "auto" (CuPy where an NVIDIA GPU is usable, else NumPy).

    A Backend object is returned as it is.

    Parameters
    ----------
    backend : {"auto", "numpy", "cupy"} or Backend, default="auto"
    device : int, optional
        The CUDA device that the rows lie on, for which CuPy is the only choice.  None: they lie on the host, and CuPy
        computes on its current device.
    sparse : bool, default=False
        Whether the rows are sparse, which both of them read, but not every Backend object.

    Raises
    ------
    BackendUnavailable
        If CuPy is asked for, or is the only choice, and cannot be used.
    ValueError
        If the name is none of these, or "numpy" for rows on a device, or the object does not read sparse rows.

    Examples
    --------
    >>> from gpukmeans.backends import get_backend
    >>> get_backend("numpy").name
    'numpy'
    """
    if not isinstance(backend, str):
        if sparse and not getattr(backend, "reads_sparse", False):
            raise ValueError(_NO_SPARSE.format(f"The backend {backend.name!r}"))
        return backend
    if backend not in ("auto", "numpy", "cupy"):
        raise ValueError(f"backend={backend!r} is not one of 'auto', 'numpy', 'cupy'.")
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
    from gpukmeans.backends.cpu.backend import NumpyBackend

    return NumpyBackend()


def explain() -> dict[str, dict[str, object]]:
    """What was found for each backend and which one "auto" chooses, for `gpukmeans info`.

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
