"""Arrays in, arrays out: results go back as the kind of array that the rows came as, where those lie.

| rows | results |
|---|---|
| NumPy arrays, lists, data frames; JAX arrays wherever they lie | NumPy arrays |
| torch tensors | torch tensors on the same device |
| CuPy arrays, and arrays of other libraries on a CUDA device (Numba's) | CuPy arrays on the same device |

JAX would round float64 centers to float32 unless it is told otherwise, so it gets NumPy arrays, which it takes as they
are.  No library is imported that the caller has not imported.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpukmeans.arrays.on_device import host_copy, is_torch, on_device
from gpukmeans.backends.protocol import Backend


@dataclass(frozen=True)
class ArrayKind:
    """What a caller's arrays are, and how results become arrays of the same kind.

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
        values : ndarray, or an array of the caller's on the device (of `Device.for_caller`)
            Nobody else's: a torch tensor on the host shares its memory.
        backend : Backend, optional
            That the rows are on; it brings NumPy arrays to their device, if they have one.

        Returns
        -------
        ndarray, torch.Tensor or cupy.ndarray
        """
        if self.device is None:
            host = np.asarray(host_copy(values))
            return sys.modules["torch"].from_numpy(host) if self.library == "torch" else host
        if isinstance(values, np.ndarray):
            assert backend is not None
            values = backend.hand_out(values)
        # torch makes its stream wait for CuPy's, which waits for ours.
        return sys.modules["torch"].from_dlpack(values) if self.library == "torch" else values


def check_places(X: Any, **others: Any) -> None:
    """Refuse what lies on a device that X does not lie on; the host's arrays are welcome everywhere.

    Parameters
    ----------
    X : array-like
    **others : array-like, str, callable or None
        By the names that a message calls them.

    Raises
    ------
    ValueError
        That says what lies where, and what to do.
    """
    here = on_device(X)
    for name, values in others.items():
        there = None if isinstance(values, str) or callable(values) else on_device(values)
        if there is None or (here is not None and here.device == there.device):
            continue
        place = "the host" if here is None else f"CUDA device {here.device}"
        raise ValueError(
            f"{name} lies on CUDA device {there.device}, but X lies on {place}. Bring {name} to the host "
            "(cupy.asnumpy for CuPy, .cpu() for torch), where it may lie for any X, or to X's device."
        )


def _is_jax(X: object) -> bool:
    jax = sys.modules.get("jax")
    return isinstance(X, getattr(jax, "Array", ()))
