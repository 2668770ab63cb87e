"""Arrays on a CUDA device: recognised, and described without being read.

These are CuPy's arrays, torch's tensors and JAX's arrays (DLPack) and Numba's (the CUDA array interface).  None of
these libraries is imported here.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: The dtype of bfloat16 rows; NumPy has none.  On a device they are arrays of 16-bit integers, on the host float32,
#: which represents every value.
BFLOAT16 = np.dtype([("bfloat16", np.uint16)])

#: The dtypes of rows that are read without conversion, and the same for messages.
ROW_DTYPES = (np.dtype(np.uint8), np.dtype(np.float16), BFLOAT16, np.dtype(np.float32), np.dtype(np.float64))
ROW_DTYPE_NAMES = "uint8, float16, bfloat16 (on a device only), float32 and float64"

#: DLPack's numbers for CUDA memory and CUDA managed memory.
_CUDA_MEMORY = (2, 13)


def dtype_name(dtype: np.dtype) -> str:
    """The name of a dtype, for messages."""
    return "bfloat16" if dtype == BFLOAT16 else str(dtype)


def storage_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype of device arrays that hold rows of this dtype."""
    return np.dtype(np.uint16) if dtype == BFLOAT16 else dtype


def center_dtype(row_dtype: np.dtype) -> np.dtype:
    """The dtype of the centers: float32 for float32 rows, else float64, as in scikit-learn; float16 rows, too."""
    return np.dtype(np.float32 if row_dtype == np.float32 else np.float64)


def dtype_of(array: Any) -> np.dtype:
    """NumPy's dtype for that of an array of any library."""
    return np.dtype(str(array.dtype).rpartition(".")[2])  # "torch.float32" is float32


def bfloat16_values(bits: NDArray) -> NDArray[np.float32]:
    """The values of bfloat16 numbers, given as 16-bit integers of either sign.

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans.arrays.on_device import bfloat16_values
    >>> bfloat16_values(np.array([0x3F80, 0x3FC0, 0xC000], np.uint16)).tolist()
    [1.0, 1.5, -2.0]
    """
    return (bits.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


@dataclass(frozen=True)
class DeviceInput:
    """The caller's array on a CUDA device, which has not been read.

    Attributes
    ----------
    array : object
        The caller's array itself; one of bfloat16 is viewed as 16-bit integers.
    shape : tuple of int
    dtype : dtype
        Of the rows when they are loaded: that of the array (`BFLOAT16` for bfloat16), or the one given to `astype`.
    device : int
        The number of the device.
    """

    array: Any
    shape: tuple[int, ...]
    dtype: np.dtype
    device: int

    def astype(self, dtype: np.typing.DTypeLike) -> DeviceInput:
        """The same rows, to be converted on the device when they are loaded."""
        return replace(self, dtype=np.dtype(dtype))

    def on_host(self) -> NDArray:
        """A copy on the host, made by the array's own library; 16-bit floats become float64."""
        values = _download(self.array)
        if self.dtype == BFLOAT16:
            values = bfloat16_values(values)
        return values.astype(np.float64) if self.dtype in (BFLOAT16, np.float16) else values


def on_device(X: object) -> DeviceInput | None:
    """The description of X if it is an array on a CUDA device, None otherwise.

    Raises
    ------
    TypeError
        If its elements have a type that NumPy lacks and that is not bfloat16.
    """
    if isinstance(X, np.ndarray):
        return None
    if hasattr(type(X), "__dlpack_device__"):
        memory, index = X.__dlpack_device__()  # type: ignore[attr-defined]
        if int(memory) not in _CUDA_MEMORY:
            return None
        shape, dtype = X.shape, X.dtype  # type: ignore[attr-defined]
    else:
        interface = getattr(X, "__cuda_array_interface__", None)
        if interface is None:
            return None
        shape, dtype = interface["shape"], np.dtype(interface["typestr"])
        index = _device_of(interface["data"][0])
    name = str(dtype).rpartition(".")[2]  # "torch.float32" is float32
    array: Any = X.detach() if is_torch(X) else X  # type: ignore[attr-defined]  # torch exports no array with a gradient
    if name == "bfloat16":
        array, known = _as_integers(array), BFLOAT16
    else:
        try:
            known = dtype if isinstance(dtype, np.dtype) else np.dtype(name)
        except TypeError:
            raise TypeError(f"An array of {dtype} on a device cannot be read; convert it to float32 first.") from None
    return DeviceInput(array, tuple(int(extent) for extent in shape), known, int(index))


def is_torch(values: object) -> bool:
    """Whether `values` is a torch tensor."""
    torch = sys.modules.get("torch")
    return isinstance(values, getattr(torch, "Tensor", ()))


def _is_bfloat16(X: Any) -> bool:
    return is_torch(X) and str(X.dtype) == "torch.bfloat16"


def host_view(X: Any) -> Any:
    """A torch tensor in the host's memory as a NumPy array of the same memory; any other object is returned as it is.

    So are tensors of bfloat16, which NumPy lacks, and tensors on devices other than the host.
    """
    if not is_torch(X) or X.device.type != "cpu" or _is_bfloat16(X):
        return X
    return X.numpy(force=True)  # without its gradient


def host_copy(values: Any) -> Any:
    """An array on a device or a torch tensor as a NumPy array; any other object is returned as it is.

    16-bit floats on a device become float64.
    """
    found = on_device(values)
    if found is not None:
        return found.on_host()
    return host_view(values.double() if _is_bfloat16(values) else values)


def out_of_reach(device: int, backend: str = "numpy") -> str:
    """Why an array on a device is no input for a backend of this name, and what to do."""
    return (
        f"X lies on CUDA device {device}, and backend={backend!r} computes on the host: pass backend='auto' or 'cupy', "
        "or bring X to the host first (cupy.asnumpy(X) for CuPy, X.cpu() for torch)."
    )


def _as_integers(X: Any) -> Any:
    """A view of a bfloat16 array as 16-bit integers: CuPy accepts no bfloat16 from other libraries."""
    return X.view(sys.modules["torch"].int16) if is_torch(X) else X.view(np.uint16)


def _device_of(address: int) -> int:
    """The number of the device that an address belongs to."""
    try:
        from cupy.cuda import runtime
    except ImportError:
        return 0  # without CuPy the choice of a backend raises before anything is read
    return runtime.pointerGetAttributes(address).device


def _download(array: Any) -> NDArray:
    """A copy on the host of an array on a device."""
    if callable(getattr(array, "get", None)):  # CuPy
        with array.device:  # by its current stream there
            return array.get()
    if callable(getattr(array, "cpu", None)):  # torch
        return array.detach().cpu().numpy()
    if callable(getattr(array, "copy_to_host", None)):  # Numba
        return array.copy_to_host()
    return np.asarray(array)  # JAX
