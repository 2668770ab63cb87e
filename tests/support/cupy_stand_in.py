"""A stand-in for CuPy over the emulated device, and a finder that fails to import it."""

from __future__ import annotations

import functools
from types import ModuleType, SimpleNamespace
from typing import ClassVar

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


def stand_in(device=None, *, count=1, is_hip=False, devices_error=None, wrong=False):
    """A module with the part of CuPy that CupyDevice uses, over the emulator."""
    device = device or EmulatorDevice()
    log = []
    captured = None  # launches of the graph that is being recorded

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
        current: ClassVar = []

        def __init__(self, name="ours", **options):
            self.name = name
            assert options == ({} if name == "the caller's" else {"non_blocking": True})

        def __enter__(self):
            Stream.current.append(self)

        def __exit__(self, *_):
            Stream.current.pop()

        def record(self):
            return self.name

        def wait_event(self, event):
            log.append(f"{self.name} waits for {event}")

        def synchronize(self):
            pass

        def begin_capture(self):
            nonlocal captured
            captured = []

        def end_capture(self):
            nonlocal captured
            graph, captured = captured, None
            return SimpleNamespace(launch=lambda stream: [launch() for launch in graph])

    class Array:
        def __init__(self, inner, c_contiguous=True):
            self.inner, self.shape, self.dtype = inner, inner.shape, inner.dtype
            self.size, self.nbytes = inner.size, inner.nbytes
            self.data = SimpleNamespace(
                memset_async=self._fill, copy_from_device_async=self._copy, ptr=inner.address, inner=inner
            )
            self.c_contiguous = c_contiguous

        def __dlpack_device__(self):
            return self.inner.__dlpack_device__()

        def __len__(self):
            return self.shape[0]

        def __getitem__(self, part):
            return Array(self.inner[part])

        def reshape(self, *shape):
            return Array(self.inner.reshape(*shape))

        def _fill(self, value, size, stream):
            assert size == self.nbytes
            device.fill(self.inner, value)

        def _copy(self, source, size, stream):
            assert size == self.nbytes
            assert stream.name == "ours"
            device.copy(self.inner, source.inner)

        def set(self, host, stream):
            assert host.flags.c_contiguous
            device.write(self.inner, host)

        def get(self, stream=None):
            return device.download(self.inner) + int(wrong)

    class RawModule:
        def __init__(self, code, options):
            assert options == nvrtc.OPTIONS
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
                launch = functools.partial(function, grid, block, inner, shared_mem=shared_mem, shared_limit=limit)
                return launch() if captured is None else captured.append(launch)

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
        log.append(f"{Stream.current[-1].name} takes {name}")
        return Array(inner)

    def from_dlpack(array):
        return taken("DLPack", array.__dlpack__(stream=Stream.current[-1].name))

    def ascontiguousarray(array, dtype=None):
        if array.c_contiguous and (dtype is None or dtype == array.dtype):  # None equals float64, to NumPy
            return array
        log.append(f"{Stream.current[-1].name} copies")
        return Array(device.upload(device.download(array.inner).astype(dtype or array.dtype)))

    def device_count():
        if devices_error:
            raise devices_error
        return count

    module = ModuleType("cupy")
    module.__version__ = "14.2.0"
    module.empty = lambda shape, dtype: (
        log.append(f"{Stream.current[-1].name} allocates") or Array(device.empty(shape, dtype))
    )
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
    Stream.current.append(Stream("the caller's"))
    module.cuda = ModuleType("cupy.cuda")
    vars(module.cuda).update(
        Device=Device, Stream=Stream, runtime=runtime, get_current_stream=lambda: Stream.current[-1]
    )
    module.ndarray, module.from_dlpack, module.ascontiguousarray = Array, from_dlpack, ascontiguousarray
    module.asarray = lambda array: taken("an array interface", array.inner)
    module.log = log
    return module
