"""Arrays in, arrays out: results go back as the kind of array that the rows came as, where those lie.

| rows | results |
|---|---|
| NumPy arrays, lists, data frames; JAX arrays wherever they lie | NumPy arrays |
| torch tensors | torch tensors on the same device |
| CuPy arrays, and arrays of other libraries on a CUDA device (Numba's) | CuPy arrays on the same device |
| Dask arrays and data frames | centers NumPy arrays; one result a row: Dask arrays, on the workers of the rows |

JAX rounds float64 arrays to float32 by default, so JAX rows get NumPy results, which JAX reads as they are.  No library
is imported that the caller has not imported.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.arrow import from_arrow
from gpukmeans.arrays.on_device import host_copy, is_torch, on_device
from gpukmeans.backends.protocol import Backend


class OnWorkers:
    """A result that lies with its rows on workers."""

    def given(self) -> Any:
        """As one array for the caller: an ndarray, or a Dask array."""
        raise NotImplementedError


@dataclass(frozen=True)
class ArrayKind:
    """The library and place of the caller's arrays; `give` makes results such arrays.

    Attributes
    ----------
    library : {"numpy", "torch", "cupy"}
    device : int or None
        The number of the CUDA device that they lie on; None for the host.
    """

    library: str
    device: int | None

    @classmethod
    def of(cls, X: Any) -> ArrayKind:
        """The kind of X, which is not read.

        Examples
        --------
        >>> from gpukmeans.intake.kinds import ArrayKind
        >>> ArrayKind.of([[1.0, 2.0]])
        ArrayKind(library='numpy', device=None)
        """
        found = on_device(X)
        if is_torch(X) and (found is not None or X.device.type == "cpu"):
            return cls("torch", None if found is None else found.device)
        return cls("numpy", None) if found is None or _is_jax(X) else cls("cupy", found.device)

    def give(self, values: Any, backend: Backend | None = None) -> Any:
        """A result as an array of this kind.

        Parameters
        ----------
        values : ndarray, or an array on the caller's device (of `Device.for_caller`), or what lies on workers
            Must not be used elsewhere: the returned torch tensor shares this memory.
        backend : Backend, optional
            The backend of the rows, which copies NumPy arrays to their device; needed if they have one.

        Returns
        -------
        ndarray, torch.Tensor or cupy.ndarray
        """
        if isinstance(values, OnWorkers):
            values = values.given()
        if type(values).__module__.startswith("dask."):
            return values
        if self.device is None:
            host = np.asarray(host_copy(values))
            return sys.modules["torch"].from_numpy(host) if self.library == "torch" else host
        if isinstance(values, np.ndarray):
            assert backend is not None
            values = backend.hand_out(values)
        if self.library != "torch":
            return values
        with values.device:  # torch makes its stream wait for CuPy's current one there, which waits for ours
            return sys.modules["torch"].from_dlpack(values)


def check_places(X: Any, **others: Any) -> None:
    """Raise a ValueError for an array on a device that X does not lie on; arrays on the host are always allowed.

    Parameters
    ----------
    X : array-like
    **others : array-like, str, callable or None
        The keywords are their names in the message.
    """
    rows = on_device(X)
    for name, values in others.items():
        found = None if isinstance(values, str) or callable(values) else on_device(values)
        if found is None or (rows is not None and rows.device == found.device):
            continue
        place = "the host" if rows is None else f"CUDA device {rows.device}"
        raise ValueError(
            f"{name} lies on CUDA device {found.device}, but X lies on {place}. Bring {name} to the host "
            "(cupy.asnumpy for CuPy, .cpu() for torch), where it may lie for any X, or to X's device."
        )


def on_host(values: Any) -> NDArray:
    """Any array-like as a NumPy array, copied from its device if it lies on one."""
    return np.asarray(from_arrow(host_copy(values)))


def n_axes(X: Any) -> int:
    """The number of dimensions of any array-like, which is not copied if it has a shape."""
    return len(X.shape) if hasattr(X, "shape") else np.ndim(X)


def arrays_on_host(attributes: dict[str, Any]) -> dict[str, Any]:
    """Attributes with the arrays of devices and of torch as NumPy arrays; everything else as it is."""
    return {name: host_copy(value) for name, value in attributes.items()}


def _is_jax(X: object) -> bool:
    jax = sys.modules.get("jax")
    return isinstance(X, getattr(jax, "Array", ()))
