"""The seam: all that the CUDA backend asks of a device.

Below it sits CuPy, or the emulator in tests; nothing above it imports CuPy.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gpukmeans.backends import nvrtc
from gpukmeans.backends.stage import CupyStage, Stage

Shape = int | tuple[int, ...]

#: Host arrays up to this size are copied by the driver before a copy to the device returns (CUDA's API synchronization
#: behaviour for pageable memory).
STAGED_BYTES = 1 << 16

#: Dynamic shared memory that a kernel gets without asking.
PLAIN_SHARED_BYTES = 48 * 1024


class Device(Protocol):
    """Memory, copies and launches, all in one order.

    A device array is C-contiguous and has shape, dtype, size, nbytes, slices of rows and reshape; nothing else is done
    with it but to hand it to kernels.
    """

    name: str
    index: int  # CUDA's number of it

    @property
    def shared_bytes(self) -> int:
        """Shared memory that a block can have, if a launch asks for it: 64 to 227 KiB."""

    @property
    def multiprocessors(self) -> int:
        """How many blocks can run side by side at least."""

    def empty(self, shape: Shape, dtype: DTypeLike) -> Any:
        """A new device array; its contents are not defined.  Raises MemoryError."""

    def upload(self, host: NDArray) -> Any:
        """A new device array with the contents of `host`.  Raises MemoryError."""

    def adopt(self, array: Any, dtype: np.dtype | None) -> Any:
        """The caller's array on this device as a device array: its memory itself, if it is C-contiguous.

        Else, or where it has another dtype than asked for, a copy (raises MemoryError).  What is launched from now on
        comes after all that the caller has queued for the array.
        """

    def for_caller(self, shape: Shape, dtype: DTypeLike) -> AbstractContextManager[Any]:
        """A new device array for the caller to keep, to be filled within.  Raises MemoryError.

        What the caller queues for it afterwards comes after all that was launched within.
        """

    def write(self, array: Any, host: NDArray) -> None:
        """Copy a host array into a device array of the same shape and dtype."""

    def copy(self, array: Any, source: Any) -> None:
        """Copy a device array into another of the same shape and dtype."""

    def download(self, array: Any) -> NDArray:
        """A host copy; waits for everything launched before."""

    def fill(self, array: Any, byte: int) -> None:
        """Set every byte."""

    def kernel(self, file: str, name: str, constants: Mapping[str, int | str]) -> Callable[..., None]:
        """The compiled kernel `name` of kernels/<file>.cu: call it with (grid, block, args, shared_mem=0).

        args are device arrays, NumPy scalars of exactly the parameter's type, or None for a null pointer; shared_mem
        are the bytes of dynamic shared memory, up to `shared_bytes`.
        """

    def record(self, launches: Callable[[], None]) -> Callable[[], None]:
        """What `launches` launches, to be launched again and again by one cheap call.

        `launches` must have been called once before (its kernels are compiled then), and only launch kernels.
        """

    def address(self, array: Any) -> int:
        """Where the array lies in the device's memory."""

    def synchronize(self) -> None:
        """Wait for everything launched before."""

    def stage(self, shape: tuple[int, ...], dtype: DTypeLike) -> Stage:
        """Room on the host and on the device for copies beside the launches.  Raises MemoryError."""

    def memory(self) -> tuple[int, int]:
        """Free and total bytes."""


class DeviceMemoryError(MemoryError):
    """The device has no room; the message gives the size wanted, what is free, and what to do."""


@contextmanager
def explained_memory_errors(device: Device, what: str, wanted: int) -> Iterator[None]:
    """Turn a MemoryError of the device into one that helps."""
    try:
        yield
    except DeviceMemoryError:
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


class CupyDevice:
    """The current CUDA device, through CuPy, on a stream of its own.

    Parameters
    ----------
    index : int, optional
        The device's number; the current one by default.
    """

    def __init__(self, index: int | None = None) -> None:
        import cupy

        self._cupy = cupy
        self._device = cupy.cuda.Device(index)
        with self._device:
            self._stream = cupy.cuda.Stream(non_blocking=True)
            self.index = int(self._device.id)
            self.name = _device_name(cupy, self.index)
        self._copies: Any = None  # a second stream, once there are stages
        self._kernels: dict[tuple, Callable[..., None]] = {}

    @functools.cached_property
    def shared_bytes(self) -> int:
        return int(self._device.attributes["MaxSharedMemoryPerBlockOptin"])

    @functools.cached_property
    def multiprocessors(self) -> int:
        return int(self._device.attributes["MultiProcessorCount"])

    def empty(self, shape: Shape, dtype: DTypeLike) -> Any:
        with self._device, self._stream:
            return self._cupy.empty(shape, dtype)

    def upload(self, host: NDArray) -> Any:
        array = self.empty(host.shape, host.dtype)
        self.write(array, host)
        return array

    def adopt(self, array: Any, dtype: np.dtype | None) -> Any:
        cupy = self._cupy
        with self._device:
            # Behind CuPy's current stream; other libraries are told our stream by __dlpack__ and make it wait for
            # theirs, and for the stream that an array interface names CuPy waits.
            self._stream.wait_event(cupy.cuda.get_current_stream().record())
            with self._stream:
                if not isinstance(array, cupy.ndarray):
                    array = cupy.from_dlpack(array) if hasattr(array, "__dlpack__") else cupy.asarray(array)
                return cupy.ascontiguousarray(array, dtype)

    @contextmanager
    def for_caller(self, shape: Shape, dtype: DTypeLike) -> Iterator[Any]:
        with self._device:
            theirs = self._cupy.cuda.get_current_stream()
            # Memory of the pool of the caller's stream, where others get it as soon as the caller lets it go; what that
            # stream still does with it comes first.
            array = self._cupy.empty(shape, dtype)
            self._stream.wait_event(theirs.record())
        try:
            yield array
        finally:
            with self._device:
                theirs.wait_event(self._stream.record())

    def copy(self, array: Any, source: Any) -> None:
        with self._device:
            array.data.copy_from_device_async(source.data, source.nbytes, self._stream)

    def write(self, array: Any, host: NDArray) -> None:
        with self._device:
            array.set(np.ascontiguousarray(host), stream=self._stream)
            if host.nbytes > STAGED_BYTES:  # the driver may still be reading; smaller ones it has copied for itself
                self._stream.synchronize()

    def download(self, array: Any) -> NDArray:
        with self._device:
            return array.get(stream=self._stream)

    def fill(self, array: Any, byte: int) -> None:
        with self._device:
            array.data.memset_async(byte, array.nbytes, self._stream)

    def kernel(self, file: str, name: str, constants: Mapping[str, int | str]) -> Callable[..., None]:
        key = (file, name, *sorted(constants.items()))
        if key not in self._kernels:
            with self._device:
                module = self._cupy.RawModule(code=nvrtc.source(file, constants), options=nvrtc.OPTIONS)
                self._kernels[key] = self._launcher(module.get_function(name))
        return self._kernels[key]

    def _launcher(self, function: Any) -> Callable[..., None]:
        granted = PLAIN_SHARED_BYTES

        def launch(grid: Shape, block: Shape, args: Sequence[Any], shared_mem: int = 0) -> None:
            nonlocal granted
            values = tuple(np.uint64(0) if arg is None else arg for arg in args)
            with self._device, self._stream:
                if shared_mem > granted:
                    function.max_dynamic_shared_size_bytes = granted = shared_mem
                function(_as_tuple(grid), _as_tuple(block), values, shared_mem=shared_mem)

        return launch

    def record(self, launches: Callable[[], None]) -> Callable[[], None]:
        try:
            with self._device:
                self._stream.begin_capture()
                try:
                    launches()
                finally:
                    graph = self._stream.end_capture()
        except RuntimeError as error:  # CUDA's errors are
            warnings.warn(
                f"Launches could not be recorded as a graph ({_what(error)}) They go one by one, which is slower for "
                "small problems.",
                RuntimeWarning,
                stacklevel=2,
            )
            return launches

        def replay() -> None:
            with self._device:
                graph.launch(self._stream)

        return replay

    def address(self, array: Any) -> int:
        return int(array.data.ptr)

    def synchronize(self) -> None:
        self._stream.synchronize()

    def stage(self, shape: tuple[int, ...], dtype: DTypeLike) -> CupyStage:
        with self._device:
            if self._copies is None:
                self._copies = self._cupy.cuda.Stream(non_blocking=True)
            return CupyStage(self._cupy, self._device, self._stream, self._copies, self.empty(shape, dtype))

    def memory(self) -> tuple[int, int]:
        with self._device:
            free, total = self._cupy.cuda.runtime.memGetInfo()
            return free + self._cupy.get_default_memory_pool().free_bytes(), total


def current_device() -> CupyDevice:
    """CuPy's current device, with the kernels that it has compiled so far."""
    import cupy

    return numbered_device(cupy.cuda.Device().id)


def numbered_device(index: int) -> CupyDevice:
    """The CUDA device of a number, likewise."""
    return _numbered_device(index)


@functools.cache
def _numbered_device(index: int) -> CupyDevice:
    return CupyDevice(index)


def _as_tuple(extent: Shape) -> tuple[int, ...]:
    return extent if isinstance(extent, tuple) else (extent,)


def _device_name(cupy: Any, index: int) -> str:
    name = cupy.cuda.runtime.getDeviceProperties(index)["name"]
    return name.decode() if isinstance(name, bytes) else str(name)


@dataclass(frozen=True)
class Probe:
    """What was found of a CUDA device.

    Attributes
    ----------
    usable : bool
    reason : str
        Why, or why not: a sentence.
    device_name : str or None
    versions : dict
        Of CuPy, the CUDA runtime and the driver, as far as they could be asked.
    """

    usable: bool
    reason: str
    device_name: str | None = None
    versions: dict[str, str] = field(default_factory=dict)


@functools.cache
def probe() -> Probe:
    """Try CuPy, a device, an allocation and a kernel, and say how far that went.  Never raises."""
    versions: dict[str, str] = {}
    if _forked_after_cuda:
        return Probe(False, "CUDA was in use before this process was forked; start processes with 'spawn' instead.")
    try:
        import cupy

        versions["cupy"] = str(cupy.__version__)
    except ModuleNotFoundError as error:
        if error.name == "cupy":
            return Probe(False, "CuPy is not installed (pip install 'gpukmeans[cuda13]', or [cuda12]).")
        return Probe(False, f"CuPy could not be imported: {_what(error)}")
    except Exception as error:  # an unwritable HOME, a missing library, two CuPys at once: anything
        return Probe(False, f"CuPy could not be imported: {_what(error)}{_hint(error)}", None, versions)
    name = None
    step = "no CUDA device answers"
    try:
        runtime = cupy.cuda.runtime
        if runtime.is_hip:
            return Probe(False, "this CuPy is built for ROCm, not for CUDA.", None, versions)
        if runtime.getDeviceCount() == 0:
            return Probe(False, "the driver knows no CUDA device.", None, versions)
        versions["runtime"] = _version(runtime.runtimeGetVersion())
        versions["driver"] = _version(runtime.driverGetVersion())
        device = current_device()
        name = device.name
        step = f"a trial on {name} failed"
        row, copy = device.upload(np.full((1, 1), 7, np.float32)), device.upload(np.zeros((1, 1), np.float32))
        kernel = device.kernel("gather_rows", "gather_rows", {"ROW": "float"})
        first = device.upload(np.zeros(1, np.int32))
        kernel(1, 256, (row, first, np.int64(0), np.int64(1), np.int32(1), copy))
        if device.download(copy)[0, 0] != 7:
            return Probe(False, f"a trial kernel on {name} gave a wrong result.", name, versions)
    except Exception as error:
        return Probe(False, f"{step}: {_what(error)}{_hint(error)}", name, versions)
    return Probe(True, f"{name} (CuPy {versions['cupy']}, CUDA {versions['runtime']}).", name, versions)


_forked_after_cuda = False


def _after_fork() -> None:
    """CUDA does not survive a fork: a child must not use its parent's device."""
    global _forked_after_cuda
    _forked_after_cuda = _forked_after_cuda or _numbered_device.cache_info().currsize > 0
    probe.cache_clear()
    _numbered_device.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _what(error: Exception) -> str:
    """The first line of an error, as a sentence."""
    text = str(error).strip()
    line = f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
    return line if line.endswith(".") else f"{line}."


def _hint(error: Exception) -> str:
    """CuPy keeps compiled kernels in a folder below HOME, and fails in many ways where it cannot."""
    return " Set CUPY_CACHE_DIR to a folder that can be written." if isinstance(error, OSError) else ""


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
