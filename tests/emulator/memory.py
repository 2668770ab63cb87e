"""Device memory: arrays between guard pages, which only kernels and explicit copies may touch."""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .runtime import LOCK, runtime

#: Numbers of the devices that are current, of which the last one counts.
CURRENT = [0]


@contextmanager
def _current(index: int) -> Iterator[None]:
    CURRENT.append(index)
    try:
        yield
    finally:
        CURRENT.pop()


class DeviceArray:
    """A C-contiguous array in emulated device memory.

    It is deliberately no ndarray: host code that computes with one would work on the emulator but not on a GPU.  It has
    the attributes of CuPy's arrays that backends need (shape, dtype, size, nbytes, slices along the first axis, reshape
    and view) and those that distinguish callers' arrays on a device from others (__dlpack_device__ and get).
    """

    def __init__(self, owner: object, address: int, shape: tuple[int, ...], dtype: np.dtype[Any]):
        self._owner = owner  # keeps the memory alive
        self.address = address
        self.shape = shape
        self.dtype = dtype

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Number of bytes."""
        return self.size * self.dtype.itemsize

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"DeviceArray(shape={self.shape}, dtype={self.dtype})"

    def __dlpack_device__(self) -> tuple[int, int]:
        """CUDA memory (DLPack's number for it), and the device's number."""
        return 2, getattr(self._owner, "index", 0)

    @property
    def device(self) -> AbstractContextManager[None]:
        """In it the array's device is the current one, whose streams CuPy copies by."""
        return _current(self.__dlpack_device__()[1])

    def get(self) -> NDArray[Any]:
        """A host copy, made on request."""
        assert CURRENT[-1] == self.__dlpack_device__()[1], "a copy by the stream of another device"
        return self.host_view().copy()

    def __array__(self, *_: object, **__: object) -> NDArray[Any]:
        raise TypeError(f"{self!r} is in device memory; device.download(array) copies it to the host")

    __array_ufunc__ = None  # NumPy's operators refuse instead of trying element by element

    def __getitem__(self, index: slice) -> DeviceArray:
        """A view of rows start:stop."""
        if not isinstance(index, slice) or index.step not in (None, 1):
            raise TypeError(f"a device array takes slices of rows, start:stop; got {index!r}")
        start, stop, _ = index.indices(self.shape[0])
        rows = max(stop - start, 0)
        row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        return DeviceArray(self._owner, self.address + start * row_bytes, (rows, *self.shape[1:]), self.dtype)

    def reshape(self, *shape: Any) -> DeviceArray:
        """The same memory in another shape."""
        wanted = np.empty(self.shape, dtype=[]).reshape(*shape).shape
        return DeviceArray(self._owner, self.address, wanted, self.dtype)

    def view(self, dtype: DTypeLike) -> DeviceArray:
        """The same memory as another dtype; the last axis is shorter or longer where its size is another."""
        wanted = np.dtype(dtype)
        shape = np.empty(self.shape, f"V{self.dtype.itemsize}").view(f"V{wanted.itemsize}").shape
        return DeviceArray(self._owner, self.address, shape, wanted)

    def host_view(self) -> NDArray[Any]:
        """The memory itself as a NumPy array: for copies only."""
        raw = (ctypes.c_char * self.nbytes).from_address(self.address)
        raw._owner = self._owner  # type: ignore[attr-defined]
        return np.frombuffer(memoryview(raw).cast("B"), dtype=self.dtype).reshape(self.shape)


class _Owner:
    """Owns one allocation, and frees it when it is collected."""

    __slots__ = ("__weakref__", "index")

    def __init__(self, index: int):
        self.index = index


def _free(address: int, released: Callable[[], None]) -> None:
    with LOCK:
        runtime().cuemu_free(address)
    released()


def allocate(shape: tuple[int, ...], dtype: np.dtype[Any], released: Callable[[], None], index: int = 0) -> DeviceArray:
    """A new array on the device of a number, every byte 0xff; calls `released` when its memory is gone."""
    nbytes = math.prod(shape) * dtype.itemsize
    with LOCK:
        address = runtime().cuemu_malloc(nbytes)
    if not address:
        raise MemoryError(f"the host has no {nbytes} bytes for a device array of shape {shape} and dtype {dtype}")
    owner = _Owner(index)
    weakref.finalize(owner, _free, address, released).atexit = False
    return DeviceArray(owner, address, shape, dtype)
