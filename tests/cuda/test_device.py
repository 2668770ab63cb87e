"""CupyDevice over a stand-in for CuPy: launches, graphs, arrays of other libraries, memory, forks."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gpukmeans import KMeans
from gpukmeans.arrays.on_device import bfloat16_values, on_device
from gpukmeans.backends import get_backend
from gpukmeans.backends.cuda.backend import CupyBackend
from gpukmeans.backends.cuda.device import cupy_device, nvrtc, stage
from gpukmeans.backends.cuda.device import probe as probing_module
from gpukmeans.backends.cuda.device.cupy_device import CupyDevice
from gpukmeans.backends.cuda.device.probe import probe
from gpukmeans.backends.cuda.device.seam import DeviceMemoryError
from gpukmeans.backends.cuda.device.stage import PinnedMemoryError
from gpukmeans.backends.cuda.workspace import FIRST_ITERATIONS, GRAPH_ITERATIONS
from tests.emulator import EmulatorDevice, EmulatorError
from tests.emulator.testing import skip_without_compiler
from tests.support.assertions import assert_labels, assert_same
from tests.support.cupy_stand_in import stand_in


def test_whole_iterations_through_cupys_calls(monkeypatch):
    skip_without_compiler()
    monkeypatch.setitem(sys.modules, "cupy", stand_in())
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 9)).astype(np.float32)
    run = CupyBackend(CupyDevice()).load(X).start(X[:4])
    run.assign()
    assert_labels(run.labels(), X, X[:4])
    run.update()
    steps = run.advance(12, -1.0)
    assert len(steps) > GRAPH_ITERATIONS  # launched one by one at first, then in a graph
    plain = CupyBackend(EmulatorDevice()).load(X).start(X[:4])
    assert len(plain.advance(13, -1.0)) == len(steps) + 1
    centers = run.centers()
    assert np.array_equal(centers, plain.centers())
    run.assign(move=False)
    assert_labels(run.labels(), X, centers)
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


@pytest.mark.parametrize("n_fits", [2, 8])
def test_fits_of_several_threads_keep_out_of_each_others_graphs(cupy_over, monkeypatch, n_fits):
    """All but the first record at the same time; the first launches all of its fit meanwhile."""
    _, cupy = cupy_over
    begin, barrier = cupy.cuda.Stream.begin_capture, threading.Barrier(n_fits, timeout=120)

    def begin_together(self):
        begin(self)
        barrier.wait()
        barrier.wait()

    monkeypatch.setattr(cupy.cuda.Stream, "begin_capture", begin_together)
    X = np.random.default_rng(0).standard_normal((400, 9)).astype(np.float32)

    def fit(number, backend):
        params = {"max_iter": FIRST_ITERATIONS} if number == 0 else {}
        return KMeans(4, init=X[4 * number :][:4], n_init=1, tol=0, backend=backend, **params).fit(X)

    def fit_beside_others(number):
        try:
            if number == 0:
                barrier.wait()
            found = fit(number, "cupy")
            if number == 0:
                barrier.wait()
        except Exception:
            barrier.abort()  # the others need not wait
            raise
        return found

    with ThreadPoolExecutor(n_fits) as threads:
        found = list(threads.map(fit_beside_others, range(n_fits)))
    for number, model in enumerate(found):
        assert_same(model, fit(number, "numpy"))
        assert (model.n_iter_ > FIRST_ITERATIONS) == (number > 0)


def test_streams_are_used_again(cupy_over, monkeypatch):
    """CuPy's pool keeps the memory that a stream has freed for that stream."""
    _, cupy = cupy_over
    X = np.random.default_rng(0).standard_normal((60, 9)).astype(np.float32)
    backend = CupyBackend(CupyDevice())
    backend.load(X)
    monkeypatch.setattr(cupy.cuda, "Stream", None)
    assert np.array_equal(backend.load(X).take(np.arange(3)), X[:3])


def test_a_stage_that_ends_while_launches_are_recorded_leaves_them_alone(monkeypatch):
    """The garbage collector may find one at any time."""
    skip_without_compiler()
    monkeypatch.setitem(sys.modules, "cupy", stand_in())
    device = CupyDevice()
    stages = [device.stage((3,), np.float32)]
    stages[0].host()[:] = 7
    stages[0].send()
    copy = device.empty(3, np.float32)

    def launches():
        stages.clear()
        device.fill(copy, 0)

    errors = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: errors.append(found.exc_value))
    monkeypatch.setattr(stage.contextlib, "suppress", lambda *_: contextlib.nullcontext())
    device.record(launches)()
    assert errors == []
    assert np.array_equal(device.download(copy), np.zeros(3, np.float32))


class CudaError(RuntimeError):
    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


def test_too_little_page_locked_memory_is_explained(monkeypatch):
    skip_without_compiler()
    X = np.zeros((90, 4), np.float32)
    for status, kind, words in ((2, PinnedMemoryError, "no 0.0 MiB of page-locked.*batch_size"), (700, CudaError, "x")):
        monkeypatch.setitem(sys.modules, "cupy", stand_in(pinned_error=CudaError(status, "x")))
        with pytest.raises(kind, match=words):
            CupyBackend(CupyDevice()).feed(X, 20)


def test_what_is_downloaded_is_a_copy(monkeypatch):
    """Also where the host may read the device's memory, and CuPy hands that out (CUPY_ENABLE_UMP=1)."""
    skip_without_compiler()
    monkeypatch.setitem(sys.modules, "cupy", stand_in())
    device = CupyDevice()
    array = device.upload(np.arange(3.0))
    found = device.download(array)
    device.fill(array, 0)
    assert np.array_equal(found, np.arange(3.0))


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
            assert_same(got, want)
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
    assert_same(got, want)
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
