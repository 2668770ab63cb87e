"""The CUDA device through CuPy."""

from __future__ import annotations

import copy
import functools
import itertools
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gpukmeans.backends.cuda.device import nvrtc
from gpukmeans.backends.cuda.device.seam import Shape, Spec, error_sentence
from gpukmeans.backends.cuda.device.slabs import carved, follow_one_another, packed, padded, size_of
from gpukmeans.backends.cuda.device.stage import CupyStage, page_locked
from gpukmeans.backends.cuda.device.structs import Struct
from gpukmeans.backends.cuda.device.tensor_rounding import device_sums, measured, trusted
from gpukmeans.backends.cuda.device.uploads import upload_in_parts
from gpukmeans.callers import warn_caller
from gpukmeans.certificates.halves import TensorCores, tensor_cores_of

#: Host arrays up to this size are copied by the driver before a copy to the device returns (CUDA's API synchronization
#: behaviour for pageable memory).
STAGED_BYTES = 1 << 16
#: Dynamic shared memory that a launch may have without the kernel's attribute being raised.
PLAIN_SHARED_BYTES = 48 * 1024
_NULL = np.uint64(0)


class CupyDevice:
    """The current CUDA device, through CuPy, on a stream of its own.

    A stream that records a graph takes all that any thread launches on it.  So each fit has a stream (`own_order`).

    Parameters
    ----------
    index : int, optional
        The device's number; the current one by default.
    """

    def __init__(self, index: int | None = None) -> None:
        import cupy

        self._cupy = cupy
        self._device = cupy.cuda.Device(index)
        self._stream = self._new_stream()
        self._copies: Any = None  # a second stream, once there are stages
        self._landing: NDArray[np.uint8] | None = None  # page-locked memory for small downloads, once there are any
        self._landings = threading.Lock()
        with self._device:
            self.index = int(self._device.id)
            self.name = _device_name(cupy, self.index)
        attributes = self._device.attributes
        self.shared_bytes = int(attributes["MaxSharedMemoryPerBlockOptin"])
        self.multiprocessors = int(attributes["MultiProcessorCount"])
        self.capability = divmod(int(self._device.compute_capability), 10)
        # What all orders share.
        self._kernels: dict[tuple, Callable[..., None]] = {}
        self._lock = threading.Lock()  # of compilations, and of kernels' attributes
        self._tensor_cores: list[TensorCores] = []  # one, once it was measured
        self._idle_streams: list[Any] = []  # to be used again: CuPy's pool keeps freed memory for its stream

    def _new_stream(self) -> Any:
        with self._device:
            return self._cupy.cuda.Stream(non_blocking=True)

    @property
    def tensor_cores(self) -> TensorCores:
        """How its tensor cores add: those of their table, if a trial agrees (tensor_rounding.py)."""
        if not self._tensor_cores:
            self._tensor_cores.append(trusted(tensor_cores_of(self.capability), measured(device_sums(self))))
        return self._tensor_cores[0]

    def own_order(self) -> CupyDevice:
        other = copy.copy(self)
        try:
            other._stream = self._idle_streams.pop()
        except IndexError:
            other._stream = self._new_stream()
        other._copies = other._landing = None
        other._landings = threading.Lock()
        weakref.finalize(other, self._idle_streams.append, other._stream).atexit = False
        return other

    def empty(self, shape: Shape, dtype: DTypeLike) -> Any:
        with self._device, self._stream:
            return self._cupy.empty(shape, dtype)

    def arrays(self, *specs: Spec) -> list[Any]:
        slab = self.empty(sum(padded(size_of(*spec)) for spec in specs), np.uint8)
        return list(carved(slab, specs))

    def upload(self, host: NDArray) -> Any:
        array = self.empty(host.shape, host.dtype)
        self.write(array, host)
        return array

    def uploads(self, *hosts: NDArray) -> list[Any]:
        arrays = self.arrays(*((host.shape, host.dtype) for host in hosts))
        self.writes(*zip(arrays, hosts, strict=True))
        return arrays

    def adopt(self, array: Any, dtype: np.dtype | None) -> Any:
        cupy = self._cupy
        with self._device:
            # Wait for CuPy's current stream.  __dlpack__ passes this stream to other libraries, which make it wait for
            # theirs; for the stream that an array interface names, CuPy waits.
            self._stream.wait_event(cupy.cuda.get_current_stream().record())
            with self._stream:
                if not isinstance(array, cupy.ndarray):
                    array = cupy.from_dlpack(array) if hasattr(array, "__dlpack__") else cupy.asarray(array)
                return cupy.ascontiguousarray(array, dtype)

    @contextmanager
    def for_caller(self, shape: Shape, dtype: DTypeLike) -> Iterator[Any]:
        with self._device:
            theirs = self._cupy.cuda.get_current_stream()
            # The memory is of the pool of the caller's stream, and returns to it when the caller frees the array.  This
            # stream waits for what the caller's still does with the memory.
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
        host = np.ascontiguousarray(host)
        if upload_in_parts(self._cupy, self._device, self._stream, array, host):
            return
        with self._device:
            array.set(host, stream=self._stream)
            if host.nbytes > STAGED_BYTES:  # the driver may still read it; smaller arrays it has copied
                self._stream.synchronize()

    def writes(self, *pairs: tuple[Any, NDArray | int]) -> None:
        arrays = [array for array, _ in pairs]
        if sum(padded(array.nbytes) for array in arrays) <= STAGED_BYTES and follow_one_another(arrays):
            slab = packed(pairs)
            last = arrays[-1].nbytes  # whose padding may not be there
            with self._device:
                arrays[0].data.copy_from_host_async(slab.ctypes.data, len(slab) - padded(last) + last, self._stream)
            return
        for byte, some in itertools.groupby(pairs, key=lambda pair: pair[1] if isinstance(pair[1], int) else None):
            part = list(some)
            if byte is not None:
                self.fills([array for array, _ in part], byte)
            elif 1 < len(part) < len(pairs):
                self.writes(*part)
            else:
                for array, host in part:
                    self.write(array, cast(NDArray, host))

    def download(self, array: Any) -> NDArray:
        return self.downloads(array)[0]

    def downloads(self, *arrays: Any) -> list[NDArray]:
        # Asked for nothing, CuPy may hand out the device's own memory.
        hosts = [np.empty(array.shape, array.dtype) for array in arrays]
        if sum(padded(host.nbytes) for host in hosts) <= STAGED_BYTES and self._land(arrays, hosts):
            return hosts
        with self._device:
            for array, host in zip(arrays, hosts, strict=True):
                array.get(stream=self._stream, out=host)
        return hosts

    def _land(self, arrays: Sequence[Any], hosts: Sequence[NDArray]) -> bool:
        """Download to page-locked memory and wait once; False, and nothing done, where the host has none."""
        with self._landings, self._device:
            if self._landing is None:
                self._landing = page_locked(self._cupy, STAGED_BYTES)
                if self._landing is None:
                    return False
            places = list(carved(self._landing, [(host.shape, host.dtype) for host in hosts]))
            for array, place in zip(arrays, places, strict=True):
                array.data.copy_to_host_async(place.ctypes.data, place.nbytes, self._stream)
            self._stream.synchronize()
            for host, place in zip(hosts, places, strict=True):
                host[...] = place
        return True

    def fill(self, array: Any, byte: int) -> None:
        self.fills([array], byte)

    def fills(self, arrays: Sequence[Any], byte: int) -> None:
        n_bytes = sum(padded(array.nbytes) for array in arrays[:-1]) + arrays[-1].nbytes
        with self._device:
            if follow_one_another(arrays):
                arrays[0].data.memset_async(byte, n_bytes, self._stream)
                return
            for array in arrays:
                array.data.memset_async(byte, array.nbytes, self._stream)

    def kernel(self, file: str, name: str, constants: Mapping[str, int | str]) -> Callable[..., None]:
        key = (file, name, *sorted(constants.items()))
        if key not in self._kernels:
            with self._lock, self._device:
                if key not in self._kernels:
                    module = self._cupy.RawModule(code=nvrtc.source(file, constants), options=nvrtc.OPTIONS)
                    self._kernels[key] = self._launcher(module.get_function(name))
        return functools.partial(self._kernels[key], self._stream)

    def _launcher(self, function: Any) -> Callable[..., None]:
        """Launches a function on the stream that is given."""
        device, lock, granted = self._device, self._lock, PLAIN_SHARED_BYTES

        def launch(stream: Any, grid: Shape, block: Shape, args: Sequence[Any], shared_mem: int = 0) -> None:
            nonlocal granted
            values = tuple(arg.packed if isinstance(arg, Struct) else _NULL if arg is None else arg for arg in args)
            with device, stream:
                if shared_mem > granted:
                    with lock:
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
        except RuntimeError as error:  # CUDA's errors are RuntimeErrors
            warn_caller(
                f"Launches could not be recorded as a graph ({error_sentence(error)}) They go one by one, which is "
                "slower for small problems.",
                RuntimeWarning,
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
                self._copies = self._new_stream()
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
    """The CUDA device of this number, with the kernels that it has compiled so far."""
    return cached_device(index)


@functools.cache
def cached_device(index: int) -> CupyDevice:
    """One object for each device, with the kernels that it has compiled."""
    return CupyDevice(index)


def _as_tuple(extent: Shape) -> tuple[int, ...]:
    return extent if isinstance(extent, tuple) else (extent,)


def _device_name(cupy: Any, index: int) -> str:
    name = cupy.cuda.runtime.getDeviceProperties(index)["name"]
    return name.decode() if isinstance(name, bytes) else str(name)
