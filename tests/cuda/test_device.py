"""The seam's own code: kernel sources as NVRTC sees them, what the probe says, and CupyDevice over a stand-in CuPy."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from gpukmeans import KMeans
from gpukmeans.arrays.on_device import bfloat16_values, on_device
from gpukmeans.backends import get_backend
from gpukmeans.backends.cuda.backend import CupyBackend
from gpukmeans.backends.cuda.device import cupy_device, nvrtc
from gpukmeans.backends.cuda.device import probe as probing_module
from gpukmeans.backends.cuda.device.cupy_device import CupyDevice
from gpukmeans.backends.cuda.device.probe import probe
from gpukmeans.backends.cuda.device.seam import DeviceMemoryError
from gpukmeans.backends.cuda.workspace import GRAPH_ITERATIONS
from tests.emulator import EmulatorDevice, EmulatorError
from tests.emulator.module import load
from tests.emulator.testing import skip_without_compiler
from tests.support.oracles import nearest
from tests.support.small_fits import same

# ---- sources --------------------------------------------------------------------------------------------------


def test_headers_are_inlined_once_and_lines_stay_true():
    text = nvrtc.source("nearest_of_few", {"ROW": "float", "CENTER": "float"})
    assert text.startswith("#define ROW float\n#define CENTER float\n#line 1 ")
    assert "#include" not in text
    assert "#pragma once" not in text
    assert text.count("double float_to_double(") == 1
    file, number = None, 0
    for line in text.splitlines():
        if line.startswith("#line "):
            _, start, name = line.split()
            file, number = name.strip('"'), int(start) - 1
            continue
        number += 1
        if file and line and "pragma" not in line:
            assert (nvrtc.kernels_folder() / file).read_text().splitlines()[number - 1] == line


def test_every_kernel_begins_with_its_header():
    for path in nvrtc.kernels_folder().glob("*.cu"):
        first, text = path.read_text().splitlines()[0], path.read_text()
        assert first.startswith(f"/* {path.name} -- ")
        assert "Launch grid" in text
        assert f"\n{path.stem}(" in text  # file and function have one name


def test_sources_that_are_missing_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(nvrtc, "__file__", str(tmp_path / "gpukmeans" / "backends" / "cuda" / "device" / "nvrtc.py"))
    nvrtc.kernels_folder.cache_clear()
    try:
        with pytest.raises(FileNotFoundError, match=r"neither .*gpukmeans/kernels nor .*/kernels"):
            nvrtc.kernels_folder()
        for folder in (tmp_path / "kernels", tmp_path / "gpukmeans" / "kernels"):  # a checkout; an installed package
            folder.mkdir(parents=True)
            (folder / "common.cuh").touch()
            nvrtc.kernels_folder.cache_clear()
            assert nvrtc.kernels_folder() == folder
    finally:
        nvrtc.kernels_folder.cache_clear()


# ---- the probe ------------------------------------------------------------------------------------------------


@pytest.fixture
def probing(monkeypatch):
    """Call with a module (or an exception that importing CuPy raises, or None where it is not installed)."""

    def look(found):
        if isinstance(found, ModuleType):
            monkeypatch.setitem(sys.modules, "cupy", found)
        else:
            monkeypatch.delitem(sys.modules, "cupy", raising=False)
            monkeypatch.setattr(sys, "meta_path", [_Finder(found)])
        probe.cache_clear()
        cupy_device.cached_device.cache_clear()
        return probe()

    yield look
    probe.cache_clear()
    cupy_device.cached_device.cache_clear()


class _Finder:
    def __init__(self, error):
        self.error = error or ModuleNotFoundError("No module named 'cupy'", name="cupy")

    def find_spec(self, name, path=None, target=None):
        if name == "cupy":
            raise self.error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (None, "CuPy is not installed (pip install 'gpukmeans[cuda13]', or [cuda12])."),
        (
            ImportError("libcublas.so.13: no such file"),
            "could not be imported: ImportError: libcublas.so.13: no such file.",
        ),
        (ModuleNotFoundError("No module named 'cuda'", name="cuda"), "could not be imported: ModuleNotFoundError"),
        (
            PermissionError(13, "Permission denied", "/root/.cupy"),
            "Set CUPY_CACHE_DIR to a folder that can be written.",
        ),
        (RuntimeError("two CuPys\nat once"), "RuntimeError: two CuPys."),
        (SystemError(), "could not be imported: SystemError."),
    ],
)
def test_the_probe_never_raises(probing, error, words):
    found = probing(error)
    assert not found.usable
    assert words in found.reason
    assert found.device_name is None


def stand_in(device=None, *, count=1, is_hip=False, devices_error=None, wrong=False):
    """What CupyDevice uses of CuPy, over the emulator."""
    device = device or EmulatorDevice()
    log = []
    captured = None  # launches of the graph that is being recorded

    class Device:
        def __init__(self, index=None):
            self.id = index or 0
            self.attributes = {"MaxSharedMemoryPerBlockOptin": device.shared_bytes, "MultiProcessorCount": 3}

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
                inner = [a.inner if isinstance(a, Array) else a for a in args]
                # CuPy has no null pointer: a zero of its size stands for it.
                pointers = [p.pointer for p in function.parameters]
                inner = [
                    None if p and type(a) is np.uint64 and a == 0 else a for p, a in zip(pointers, inner, strict=True)
                ]
                limit = run.max_dynamic_shared_size_bytes
                launch = functools.partial(function, grid, block, inner, shared_mem=shared_mem, shared_limit=limit)
                return launch() if captured is None else captured.append(launch)

            run.max_dynamic_shared_size_bytes = 48 * 1024
            return run

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


def test_a_usable_device_is_recognised(probing):
    skip_without_compiler()
    found = probing(stand_in())
    assert found.usable
    assert found.device_name == "Stand-in GPU"
    assert found.versions == {"cupy": "14.2.0", "runtime": "13.2", "driver": "12.8"}
    assert found.reason == "Stand-in GPU (CuPy 14.2.0, CUDA 13.2)."
    assert CupyBackend().describe() == "Stand-in GPU, cupy 14.2.0, runtime 13.2, driver 12.8"


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ({"count": 0}, "the driver knows no CUDA device."),
        ({"is_hip": True}, "this CuPy is built for ROCm, not for CUDA."),
        (
            {"devices_error": RuntimeError("insufficient driver")},
            "no CUDA device answers: RuntimeError: insufficient driver.",
        ),
        ({"wrong": True}, "a trial kernel on Stand-in GPU gave a wrong result."),
        ({"device": EmulatorDevice}, "a trial on Stand-in GPU failed: MemoryError"),
    ],
)
def test_unusable_devices_are_explained(probing, trouble, words):
    skip_without_compiler()
    if "device" in trouble:
        trouble = {"device": EmulatorDevice(memory_limit=4)}
    found = probing(stand_in(**trouble))
    assert not found.usable
    assert words in found.reason
    assert found.versions["cupy"] == "14.2.0"


def test_whole_iterations_through_cupys_calls(monkeypatch):
    skip_without_compiler()
    monkeypatch.setitem(sys.modules, "cupy", stand_in())
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 9)).astype(np.float32)
    run = CupyBackend(CupyDevice()).load(X).start(X[:4])
    run.assign()
    assert np.array_equal(run.labels(), nearest(X, X[:4]))
    run.update()
    steps = run.advance(12, -1.0)
    assert len(steps) > GRAPH_ITERATIONS  # launched one by one at first, then in a graph
    plain = CupyBackend(EmulatorDevice()).load(X).start(X[:4])
    assert len(plain.advance(13, -1.0)) == len(steps) + 1
    centers = run.centers()
    assert np.array_equal(centers, plain.centers())
    run.assign(move=False)
    assert np.array_equal(run.labels(), nearest(X, centers))
    assert run.inertia() > 0


def test_launches_that_cannot_be_recorded_go_one_by_one(monkeypatch):
    skip_without_compiler()
    cupy = stand_in()
    monkeypatch.setitem(sys.modules, "cupy", cupy)

    def refuse(self):
        raise RuntimeError("cudaErrorStreamCaptureUnsupported: not here\nmore")

    monkeypatch.setattr(cupy.cuda.Stream, "begin_capture", refuse)
    X = np.random.default_rng(0).standard_normal((60, 9)).astype(np.float32)
    with pytest.warns(
        RuntimeWarning, match=r"recorded as a graph \(RuntimeError: cudaErrorStreamCap.*: not here\.\) They"
    ):
        model = KMeans(4, init=X[:4], n_init=1, tol=0, backend=CupyBackend(CupyDevice())).fit(X)
    want = KMeans(4, init=X[:4], n_init=1, tol=0, backend="numpy").fit(X)
    assert np.array_equal(model.labels_, want.labels_)


class Producer:
    """An array of another library: on a device, handed over by DLPack or by the CUDA array interface."""

    def __init__(self, inner, dtype=None):
        self.inner, self.shape, self.dtype = inner, inner.shape, dtype or inner.dtype

    def view(self, dtype):
        return type(self)(self.inner.view(dtype))


class Tensor(Producer):
    def __dlpack_device__(self):
        return 2, self.inner.__dlpack_device__()[1]

    def __dlpack__(self, *, stream):
        assert stream == "ours"
        return self.inner


class NumbaArray(Producer):
    @property
    def __cuda_array_interface__(self):
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (self.inner.address, False), "version": 3}

    def copy_to_host(self):
        return self.inner.get()


@pytest.fixture
def cupy_over(monkeypatch):
    """An emulated device, and the stand-in CuPy over it."""
    skip_without_compiler()
    device = EmulatorDevice()
    module = stand_in(device)
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setitem(sys.modules, "cupy.cuda", module.cuda)
    probe.cache_clear()
    cupy_device.cached_device.cache_clear()
    yield device, module
    probe.cache_clear()
    cupy_device.cached_device.cache_clear()


def test_arrays_of_every_library_are_taken_in_place_and_in_order(cupy_over):
    device, cupy = cupy_over
    inner = device.upload(np.arange(12, dtype=np.float32).reshape(4, 3))
    for array, words in (
        (cupy.ndarray(inner), []),
        (Tensor(inner), ["ours takes DLPack"]),
        (NumbaArray(inner), ["ours takes an array interface"]),
    ):
        ours, before = CupyDevice(), device.bytes_in_use
        cupy.log.clear()
        assert ours.adopt(array, np.dtype(np.float32)).inner is inner
        assert cupy.log == ["ours waits for the caller's", *words]
        assert device.bytes_in_use == before


def test_results_are_the_callers_and_come_in_order(cupy_over):
    """Memory of the caller's stream: ours waits until it is free, the caller's until it is filled."""
    device, cupy = cupy_over
    ours = CupyDevice()
    source = ours.upload(np.arange(12, dtype=np.int32))
    cupy.log.clear()
    with ours.for_caller(12, np.int32) as array:
        ours.copy(array, source)
        assert cupy.log == ["the caller's allocates", "ours waits for the caller's"]
    assert cupy.log[2:] == ["the caller's waits for ours"]
    assert np.array_equal(device.download(array.inner), np.arange(12))
    with pytest.raises(ZeroDivisionError), ours.for_caller(12, np.int32):
        raise ZeroDivisionError
    assert cupy.log[-1] == "the caller's waits for ours"


def test_other_layouts_and_dtypes_take_one_copy_on_the_device(cupy_over):
    device, cupy = cupy_over
    inner = device.upload(np.arange(12, dtype=np.float32).reshape(4, 3))
    for array, dtype in ((cupy.ndarray(inner, c_contiguous=False), np.float32), (cupy.ndarray(inner), np.float64)):
        cupy.log.clear()
        got = CupyDevice().adopt(array, np.dtype(dtype))
        assert cupy.log == ["ours waits for the caller's", "ours copies"]
        assert got.dtype == dtype
        assert np.array_equal(device.download(got.inner), device.download(inner))


def test_auto_goes_where_the_rows_lie(cupy_over):
    """From the public call down to the kernels, for an array of each library; the host's own rows as the oracle."""
    device, cupy = cupy_over
    X = np.random.default_rng(0).standard_normal((60, 5)).astype(np.float32)
    want = KMeans(4, random_state=0, backend="numpy").fit(X)
    for kind in (cupy.ndarray, Tensor, NumbaArray):
        for backend in ("auto", "cupy"):
            got = KMeans(4, random_state=0, backend=backend).fit(kind(device.upload(X)))
            assert got.backend_ == "cupy"
            assert type(got.labels_) is type(got.cluster_centers_) is cupy.ndarray
            assert same(got, want)
        with pytest.raises(ValueError, match=r"X lies on CUDA device 0, and backend='numpy'.*X\.cpu\(\)"):
            KMeans(4, backend="numpy").fit(kind(device.upload(X)))
    there = EmulatorDevice(index=3)
    for name, kind in (("numbered", Tensor), ("named by its memory", NumbaArray)):
        found = on_device(kind(there.upload(X)))
        assert found.device == (3 if name == "numbered" else 0)
        assert get_backend("auto", found.device)._device.index == found.device


def test_bfloat16_of_any_library_is_taken_as_integers(cupy_over):
    class Named(SimpleNamespace):
        def __str__(self):
            return self.name

    device, _ = cupy_over
    X = np.random.default_rng(0).standard_normal((60, 5)).astype(np.float32)
    bits = (X.view(np.uint32) >> 16).astype(np.uint16)
    want = KMeans(4, random_state=0, backend="numpy").fit(bfloat16_values(bits).astype(np.float64))
    got = KMeans(4, random_state=0).fit(Tensor(device.upload(bits), dtype=Named(name="torch.bfloat16")))
    assert same(got, want)
    with pytest.raises(TypeError, match=r"An array of torch\.float8_e5m2 on a device cannot be read; convert it"):
        KMeans(4).fit(Tensor(device.upload(bits), dtype=Named(name="torch.float8_e5m2")))


def test_memory_of_the_pool_counts_as_free(monkeypatch):
    skip_without_compiler()
    monkeypatch.setitem(sys.modules, "cupy", stand_in(EmulatorDevice(memory_limit=10_000)))
    device = CupyDevice()
    assert device.memory() == (10_005, 10_000)
    with pytest.raises(DeviceMemoryError, match=r"Stand-in GPU has no room for 100 rows of 30 float32 features"):
        CupyBackend(device).load(np.zeros((100, 30), np.float32))


def test_shared_memory_beyond_the_plain_limit_is_asked_for(monkeypatch):
    skip_without_compiler()
    monkeypatch.setitem(sys.modules, "cupy", stand_in())
    device = CupyDevice()
    assert device.shared_bytes == 227 * 1024
    assert device.multiprocessors == 3
    text = 'extern "C" __global__ void nothing(int* x) {}'
    monkeypatch.setattr(nvrtc, "source", lambda file, constants: text)
    kernel = device.kernel("nothing", "nothing", {})
    for shared in (0, 1 << 10, 227 << 10, 100 << 10):
        kernel(1, 256, (None,), shared_mem=shared)
    monkeypatch.setattr(cupy_device, "PLAIN_SHARED_BYTES", 1 << 30)  # a seam that does not ask
    fresh = CupyDevice().kernel("nothing", "nothing", {})
    with pytest.raises(EmulatorError, match="more static and dynamic shared memory than a block gets"):
        fresh(1, 256, (None,), shared_mem=49 << 10)


def test_the_backend_imports_no_cupy():
    code = "import gpukmeans.backends.cuda.backend, sys; assert 'cupy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[2])


def test_a_child_forked_after_cuda_was_used_says_so(probing, monkeypatch):
    """CUDA does not survive a fork; "auto" then takes NumPy instead of failing deep in CuPy."""
    skip_without_compiler()
    monkeypatch.setattr(probing_module, "_forked_after_cuda", False)
    assert probing(stand_in()).usable
    probing_module._after_fork()
    found = probe()
    assert not found.usable
    assert "spawn" in found.reason
