"""A stand-in for CuPy over the emulated device, and a finder that fails to import it."""

from __future__ import annotations

import ctypes
import functools
import threading
from types import ModuleType, SimpleNamespace

import numpy as np

from gpukmeans.backends.cuda.device import nvrtc
from tests.emulator import EmulatorDevice
from tests.emulator.module import load


class MissingCupy:
    def __init__(self, error):
        self.error = error or ModuleNotFoundError("No module named 'cupy'", name="cupy")

    def find_spec(self, name, path=None, target=None):
        if name == "cupy":
            raise self.error


def stand_in(device=None, *, count=1, is_hip=False, devices_error=None, pinned_error=None, wrong=False):
    """A module with the part of CuPy that CupyDevice uses, over the emulator.

    It watches the order of streams: what uses an array comes after what another stream has done with it.
    """
    device = device or EmulatorDevice()
    log = []
    page_locked = []  # addresses and sizes
    turn = threading.RLock()  # the emulator runs one launch at a time
    local = threading.local()  # the current stream, of each thread

    class Device:
        def __init__(self, index=None):
            self.id = index or 0
            self.attributes = {"MaxSharedMemoryPerBlockOptin": device.shared_bytes, "MultiProcessorCount": 3}
            self.compute_capability = str(device.arch // 10)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return False

    class Stream(Device):
        def __init__(self, name="ours", **options):
            super().__init__()
            self.name = name
            assert options == ({} if name == "the caller's" else {"non_blocking": True})
            self.captured = None  # launches of the graph that is being recorded
            self.done = 0  # operations
            self.finished = 0  # of them, those that the host has waited for
            self.known = {}  # how many operations of other streams come before its next one
            self.waiting = []  # copies from and to page-locked memory, which nothing has waited for
            self.settled = 0  # of such copies, those that are done

        def __enter__(self):
            stack().append(self)

        def __exit__(self, *_):
            stack().pop()

        def record(self):
            assert self.captured is None, "an event in a graph"
            known, count = {**self.known, self: self.done}, self.settled + len(self.waiting)
            return SimpleNamespace(name=self.name, known=known, synchronize=lambda: self.synchronize(count))

        def wait_event(self, event):
            assert self.captured is None, "a graph that waits for an event"
            log.append(f"{self.name} waits for {event.name}")
            for stream, count in event.known.items():
                self.known[stream] = max(count, self.known.get(stream, 0))

        def synchronize(self, count=None):
            assert self.captured is None, "a wait for a stream that records"
            self.finished = self.done
            self.settle(count)

        def settle(self, count=None):
            """Do the copies that wait, up to so many since the beginning."""
            with turn:
                while self.waiting and (count is None or self.settled < count):
                    self.settled += 1
                    self.waiting.pop(0)()

        def late(self, work, *arrays):
            """Do it when something waits for it."""
            self.run(lambda: self.waiting.append(work), *arrays, settles=False)

        def run(self, work, *arrays, settles=True):
            """Do it, or record it."""
            for stream in [self, *self.known] if settles else []:
                stream.settle()
            if self.captured is not None:
                self.captured.append((work, arrays))
                return
            for use in (array.use for array in arrays):
                by, count = use.get("last", (self, 0))
                known = count if by is self else max(self.known.get(by, 0), by.finished)
                assert count <= known, "one stream too early for another"
                use["last"] = self, self.done + 1
            self.done += 1
            with turn:
                work()

        def begin_capture(self):
            assert self.captured is None, "recorded already"
            self.captured = []

        def end_capture(self):
            graph, self.captured = self.captured, None
            return SimpleNamespace(launch=lambda stream: [stream.run(work, *arrays) for work, arrays in graph])

    def stack():
        if not hasattr(local, "streams"):
            local.streams = [callers]
        return local.streams

    callers = Stream("the caller's")

    class Array:
        def __init__(self, inner, c_contiguous=True, use=None):
            self.inner, self.shape, self.dtype = inner, inner.shape, inner.dtype
            self.use = {} if use is None else use  # of its memory: the last stream and its operation
            self.size, self.nbytes = inner.size, inner.nbytes
            self.data = SimpleNamespace(
                memset_async=self._fill,
                copy_from_device_async=self._copy,
                copy_from_host_async=self._copy_from_host,
                copy_to_host_async=self._copy_to_host,
                ptr=inner.address,
                array=self,
            )
            self.c_contiguous = c_contiguous
            self.device = Device()

        def __dlpack_device__(self):
            return self.inner.__dlpack_device__()

        def __len__(self):
            return self.shape[0]

        def __getitem__(self, part):
            return Array(self.inner[part], use=self.use)

        def reshape(self, *shape):
            return Array(self.inner.reshape(*shape), use=self.use)

        def view(self, dtype):
            return Array(self.inner.view(dtype), use=self.use)

        def _fill(self, value, size, stream):
            assert size >= self.nbytes
            log.append("a fill")
            stream.run(lambda: ctypes.memset(self.inner.address, value, size), self)

        def _copy_from_host(self, address, size, stream):
            """The driver has copied from ordinary memory when the call returns."""
            assert size <= 1 << 16
            log.append("an upload")
            text = ctypes.string_at(address, size)
            stream.run(lambda: ctypes.memmove(self.inner.address, text, size), self)

        def _copy_to_host(self, address, size, stream):
            assert any(start <= address < start + many for start, many in page_locked), "ordinary memory"

            def land():
                host = device.download(self.inner) + int(wrong)
                ctypes.memmove(address, host.ctypes.data, size)

            stream.late(land, self)

        def _copy(self, source, size, stream):
            assert size == self.nbytes
            assert stream.name == "ours"
            stream.run(lambda: device.copy(self.inner, source.array.inner), self, source.array)

        def set(self, host, stream):
            """From page-locked memory as late as possible."""
            assert host.flags.c_contiguous
            log.append("an upload")
            address = host.ctypes.data
            late = any(start <= address < start + many for start, many in page_locked)
            (stream.late if late else stream.run)(lambda: device.write(self.inner, host), self)

        def get(self, stream=None, out=None):
            """Without `out`, as under CUPY_ENABLE_UMP=1: the device's own memory, and no wait for any stream."""
            if out is None:
                return self.inner.host_view()
            stream = stream or stack()[-1]
            stream.run(lambda: None, self)
            stream.synchronize()
            out[...] = device.download(self.inner) + int(wrong)
            return out

    def alloc_pinned_memory(size):
        if pinned_error:
            raise pinned_error
        log.append(f"{size} page-locked bytes")
        memory = (ctypes.c_char * size)()
        page_locked.append((ctypes.addressof(memory), size))
        return memory

    class RawModule:
        def __init__(self, code, options):
            assert options == nvrtc.OPTIONS
            with turn:
                self.module = load("kernel.cu", code, device.mode, device.arch)

        def get_function(self, name):
            function = self.module.get_function(name)

            def run(grid, block, args, shared_mem):
                assert isinstance(grid, tuple)
                assert isinstance(block, tuple)
                inner = [a.inner if isinstance(a, Array) else by_value(a) for a in args]
                # A zero of a pointer's size stands for the null pointer.
                pointers = [p.pointer for p in function.parameters]
                inner = [
                    None if p and type(a) is np.uint64 and a == 0 else a for p, a in zip(pointers, inner, strict=True)
                ]
                limit = run.max_dynamic_shared_size_bytes
                arrays = [a for a in args if isinstance(a, Array)]
                options = {"shared_mem": shared_mem, "shared_limit": limit, "launch": device.launch}
                work = functools.partial(function, grid, block, inner, **options)
                stack()[-1].run(work, *arrays)

            run.max_dynamic_shared_size_bytes = 48 * 1024
            return run

    def by_value(argument):
        """What CuPy 14 passes by value (cupy/cuda/function.pyx, _pointer): as many bytes as the parameter has."""
        if isinstance(argument, np.ndarray) and argument.size != 1:
            raise TypeError(f"You are trying to pass a numpy.ndarray of shape {argument.shape} as a kernel parameter.")
        if not isinstance(argument, (np.ndarray, np.generic)):
            raise TypeError(f"Unsupported type {type(argument)}")
        return argument

    def taken(name, inner):
        log.append(f"{stack()[-1].name} takes {name}")
        return Array(inner)

    def from_dlpack(array):
        return taken("DLPack", array.__dlpack__(stream=stack()[-1].name))

    def ascontiguousarray(array, dtype=None):
        if array.c_contiguous and (dtype is None or dtype == array.dtype):  # None equals float64, to NumPy
            return array
        log.append(f"{stack()[-1].name} copies")
        return Array(device.upload(device.download(array.inner).astype(dtype or array.dtype)))

    def device_count():
        if devices_error:
            raise devices_error
        return count

    module = ModuleType("cupy")
    module.__version__ = "14.2.0"
    module.empty = lambda shape, dtype: log.append(f"{stack()[-1].name} allocates") or Array(device.empty(shape, dtype))
    module.RawModule = RawModule
    module.get_default_memory_pool = lambda: SimpleNamespace(free_bytes=lambda: 5)
    runtime = SimpleNamespace(
        is_hip=is_hip,
        getDeviceCount=device_count,
        getDeviceProperties=lambda index: {"name": b"Stand-in GPU"},
        runtimeGetVersion=lambda: 13020,
        driverGetVersion=lambda: 12080,
        memGetInfo=device.memory,
        pointerGetAttributes=lambda address: SimpleNamespace(device=0 if address else 1),
    )
    module.cuda = ModuleType("cupy.cuda")
    vars(module.cuda).update(Device=Device, Stream=Stream, runtime=runtime, get_current_stream=lambda: stack()[-1])
    module.cuda.alloc_pinned_memory = alloc_pinned_memory
    module.ndarray, module.from_dlpack, module.ascontiguousarray = Array, from_dlpack, ascontiguousarray
    module.asarray = lambda array: taken("an array interface", array.inner)
    module.log = log
    return module
