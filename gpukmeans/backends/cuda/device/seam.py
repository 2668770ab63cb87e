"""The seam: all functions of a device that the CUDA backend uses.

CuPy implements them, or the emulator in tests; no module that uses the seam imports CuPy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gpukmeans.backends.cuda.device.stage import PinnedMemoryError, Stage
from gpukmeans.certificates.halves import TensorCores

Shape = int | tuple[int, ...]
#: The shape and the dtype of an array.
Spec = tuple[Any, Any]


class Device(Protocol):
    """Memory, copies and launches, all in one order.

    A device array is C-contiguous and has shape, dtype, size, nbytes, slices of rows and reshape; otherwise it
    is only passed to kernels.
    """

    name: str
    index: int  # CUDA's number of it

    @property
    def shared_bytes(self) -> int:
        """Shared memory that a block can have, if a launch asks for it: 64 to 227 KiB."""

    @property
    def multiprocessors(self) -> int:
        """How many blocks can run at the same time at least."""

    capability: tuple[int, int]  # the compute capability, (major, minor)

    @property
    def tensor_cores(self) -> TensorCores:
        """How its tensor cores add."""

    def own_order(self) -> Device:
        """This device with another order, for one fit: threads that fit at the same time share none.

        An array of one order is used in another only after `adopt`, or after a `download`.
        """

    def empty(self, shape: Shape, dtype: DTypeLike) -> Any:
        """A new device array; its contents are not defined.  Raises MemoryError."""

    def arrays(self, *specs: Spec) -> list[Any]:
        """New device arrays of these shapes and dtypes, by one allocation.  Raises MemoryError.

        Those that follow one another here can be filled or written together.
        """

    def upload(self, host: NDArray) -> Any:
        """A new device array with the contents of `host`.  Raises MemoryError."""

    def uploads(self, *hosts: NDArray) -> list[Any]:
        """The same of several, by one allocation and one copy if they are small.  Raises MemoryError."""

    def adopt(self, array: Any, dtype: np.dtype | None) -> Any:
        """The caller's array on this device as a device array: its memory itself, if it is C-contiguous.

        Else, or if its dtype is not `dtype`, a copy (raises MemoryError).  Later launches come after all that the
        caller has queued for the array.
        """

    def for_caller(self, shape: Shape, dtype: DTypeLike) -> AbstractContextManager[Any]:
        """A context with a new device array for the caller, to be filled in the context.  Raises MemoryError.

        What the caller queues for it afterwards comes after all launches in the context.
        """

    def write(self, array: Any, host: NDArray) -> None:
        """Copy a host array into a device array of the same shape and dtype."""

    def writes(self, *pairs: tuple[Any, NDArray | int]) -> None:
        """Copy host arrays into whole device arrays, or set every byte of these to a number.

        By one copy, if all are small and follow one another.
        """

    def copy(self, array: Any, source: Any) -> None:
        """Copy a device array into another of the same shape and dtype."""

    def download(self, array: Any) -> NDArray:
        """A host copy; waits for everything launched before."""

    def downloads(self, *arrays: Any) -> list[NDArray]:
        """Host copies of several arrays, by one wait."""

    def fill(self, array: Any, byte: int) -> None:
        """Set every byte."""

    def fills(self, arrays: Sequence[Any], byte: int) -> None:
        """Set every byte of whole arrays; at once, if they follow one another."""

    def kernel(self, file: str, name: str, constants: Mapping[str, int | str]) -> Callable[..., None]:
        """The compiled kernel `name` of kernels/<file>.cu: call it with (grid, block, args, shared_mem=0).

        args are device arrays, `structs.Struct`, NumPy scalars of exactly the parameter's type, or None for a null
        pointer; shared_mem are the bytes of dynamic shared memory, up to `shared_bytes`.
        """

    def record(self, launches: Callable[[], None]) -> Callable[[], None]:
        """Record the launches of `launches`; returns a function that launches all of them by one cheap call.

        `launches` must have been called once before (its kernels are compiled then), and only launch kernels.
        """

    def address(self, array: Any) -> int:
        """The address of the array in the device's memory."""

    def synchronize(self) -> None:
        """Wait for everything launched before."""

    def stage(self, shape: tuple[int, ...], dtype: DTypeLike) -> Stage:
        """Room on the host and on the device for copies beside the launches.  Raises MemoryError."""

    def memory(self) -> tuple[int, int]:
        """Free and total bytes."""


class DeviceMemoryError(MemoryError):
    """The device has too little free memory; the message gives the size wanted, the free size, and what to do."""


@contextmanager
def explained_memory_errors(device: Device, what: str, wanted: int) -> Iterator[None]:
    """Turn a MemoryError of the device into a `DeviceMemoryError`."""
    try:
        yield
    except (DeviceMemoryError, PinnedMemoryError):
        raise
    except MemoryError as error:
        free, total = device.memory()
        raise DeviceMemoryError(
            f"{device.name} has no room for {what}: {_size(wanted)} wanted, {_size(free)} of {_size(total)} free. "
            "Free memory held by others on this device, pass uint8 or float32 instead of float64 rows or fewer of "
            "them, or use backend='numpy'."
        ) from error


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.2f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:.1f} MiB"


def error_sentence(error: Exception) -> str:
    """The first line of an error, as a sentence."""
    text = str(error).strip()
    line = f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
    return line if line.endswith(".") else f"{line}."
