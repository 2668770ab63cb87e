"""What only hardware can show: how tensor cores round, and CuPy's own arrays, graphs and streams.

The emulator stands in for a GPU where there is none, so that the tests themselves are known to work.
"""

from __future__ import annotations

import copy
import functools
import importlib.util
import pickle
import sys

import numpy as np
import pytest
from scipy import sparse

import gpukmeans
from gpukmeans import KMeans
from gpukmeans.arrays.on_device import host_copy
from gpukmeans.backends.cuda.device.cupy_device import CupyDevice, current_device
from gpukmeans.backends.cuda.device.probe import probe
from gpukmeans.backends.cuda.device.tensor_rounding import device_sums, measured, trusted, vectors
from gpukmeans.certificates.halves import tensor_accumulation, tensor_units
from tests.emulator import KINDS_OF_TENSOR_CORES, EmulatorDevice, TensorCores
from tests.emulator.testing import skip_without_compiler
from tests.support.assertions import assert_same
from tests.support.cupy_stand_in import stand_in
from tests.support.small_fits import equal


@pytest.fixture(params=["emulated", pytest.param("cupy", marks=pytest.mark.gpu)])
def device(request):
    """The emulator, or a GPU where there is one."""
    if request.param == "emulated":
        skip_without_compiler()
        return EmulatorDevice()
    if not probe().usable:
        pytest.skip(probe().reason)
    return current_device()


def chained(device, A, B, starts):
    """starts + A B of (n, d), (d, 8) and (n, 8), 16 columns of A after another, by tensor cores."""
    launch = device.kernel("tensor_rounding", "tensor_rounding", {})
    sums = np.array(starts, np.float32)
    rows, columns = (np.repeat(A, 8, axis=0), np.tile(B.T, (len(A), 1)))
    for first in range(0, A.shape[1], 16):
        halves = [
            device.upload(np.ascontiguousarray(a[:, first : first + 16].astype(np.float16)).view(np.uint16))
            for a in (rows, columns)
        ]
        found = device.empty(sums.size, np.float32)
        launch(sums.size // 8, 32, (*halves, device.upload(sums.reshape(-1)), found))
        sums = device.download(found).reshape(sums.shape)
    return sums


@pytest.mark.parametrize("d", [16, 64, 784, 4096])
@pytest.mark.parametrize("kind", ["noise", "positive", "cancelling", "one large", "small after large"])
def test_tensor_cores_round_no_worse_than_their_certificate_says(device, d, kind):
    """Products of halves are exact in float64, and so are, to 2**-40 of the largest, sums of a few thousand."""
    rng = np.random.default_rng(d)
    A, B = rng.standard_normal((16, d)), rng.standard_normal((d, 8))
    if kind == "positive":
        A, B = np.abs(A), np.abs(B)
    if kind == "cancelling":
        A[:, 1::2], B[1::2] = A[:, ::2], -B[::2]
    if kind == "one large":
        A[:, d // 2] *= 4096
    if kind == "small after large":
        A *= np.geomspace(2048, 2.0**-10, d)
    A, B = A.astype(np.float16), B.astype(np.float16)
    starts = -(rng.uniform(0, 10, (16, 8)) ** 2).astype(np.float32)
    products = A.astype(np.float64)[:, :, None] * B.astype(np.float64)[None]
    running = starts.astype(np.float64)[:, None] + products.cumsum(axis=1)
    largest = np.maximum(np.abs(products).max(axis=1), np.maximum(np.abs(running).max(axis=1), np.abs(starts)))
    # Within a step of 16 products the order is the hardware's: partial sums reach the sum of magnitudes there.
    within = np.abs(products).reshape(16, d // 16, 16, 8).sum(axis=2).max(axis=1)
    wrong = np.abs(chained(device, A, B, starts) - running[:, -1])
    assert (wrong <= tensor_accumulation(d, device.tensor_cores) * (largest + within)).all()
    if kind == "cancelling":
        return
    assert (wrong <= tensor_accumulation(d, device.tensor_cores) * np.abs(products).sum(axis=1).max() + 1e-30).all()


def test_tensor_cores_are_those_of_their_table(device):
    assert measured(device_sums(device)) == device.tensor_cores


@pytest.mark.parametrize("cores", [*KINDS_OF_TENSOR_CORES, (2, 0), (16, 3)], ids=str)
def test_tensor_cores_that_differ_from_their_table_are_not_trusted_with_its_radius(cores, monkeypatch):
    """Of a CupyDevice that says to be an sm_90, whose own are (16, 2)."""
    skip_without_compiler()
    monkeypatch.setitem(sys.modules, "cupy", stand_in(EmulatorDevice(tensor_cores=TensorCores(*cores))))
    found = CupyDevice()
    assert measured(device_sums(found)) == cores
    own, worst = (16, 2), (4, 0)
    assert found.tensor_cores == found.own_order().tensor_cores == {own: own, (2, 0): (2, 0)}.get(tuple(cores), worst)


def test_sums_of_no_model_are_trusted_with_nothing():
    a, b, starts = vectors()
    once = (starts + (a * b).sum(axis=1)).astype(np.float32)  # a single rounding, as no tensor core does
    assert measured(once) is None
    assert trusted(TensorCores(16, 2), None) == (1, 0)
    assert tensor_units(TensorCores(1, 0)) > max(tensor_units(cores) for cores in KINDS_OF_TENSOR_CORES)


# ---- arrays of CuPy and torch ---------------------------------------------------------------------------------------


@functools.cache
def cupy_or_skip():
    if not probe().usable:
        return None
    import cupy

    return cupy


@pytest.fixture
def cupy():
    found = cupy_or_skip()
    if found is None:
        pytest.skip(probe().reason)
    return found


def blobs(n, d, dtype, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) + 3 * rng.standard_normal((20, d))[rng.integers(0, 20, n)]
    return (X * 20 + 128).clip(0, 255).astype(np.uint8) if dtype == np.uint8 else X.astype(dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
@pytest.mark.parametrize("k", [3, 10, 64, 65, 300])
@pytest.mark.parametrize("d", [3, 64, 200])
def test_cupy_arrays_are_clustered_in_place_to_numpys_bits(cupy, dtype, k, d):
    X = blobs(5000, d, np.dtype(dtype))
    on_device = cupy.asarray(X)
    used = cupy.get_default_memory_pool().used_bytes()
    model = gpukmeans.fit(on_device, k, random_state=0, max_iter=80, tol=0)
    assert model.backend_ == "cupy"
    assert_same(model, gpukmeans.fit(X, k, random_state=0, max_iter=80, tol=0, backend="numpy"))
    assert type(model.labels_) is type(model.cluster_centers_) is cupy.ndarray
    assert equal(model.predict(on_device), model.labels_)
    del model
    assert cupy.get_default_memory_pool().used_bytes() == used  # all came back


@pytest.mark.gpu
def test_results_are_arrays_of_the_rows_kind_where_the_rows_are(cupy):
    X = blobs(3000, 40, np.dtype(np.float32))
    host = gpukmeans.fit(X, 12, random_state=0, backend="numpy")
    kinds = [(cupy.asarray(X), cupy.ndarray)]
    if importlib.util.find_spec("torch"):
        import torch

        kinds.append((torch.from_numpy(X).cuda(), torch.Tensor))
    for there, kind in kinds:
        model = gpukmeans.fit(there, 12, random_state=0)
        assert_same(model, host)
        distances = model.transform(there)
        for result in (model.labels_, model.cluster_centers_, model.predict(there), distances):
            assert type(result) is kind
            assert result.device == there.device
        assert equal(model.predict(there), host.labels_)
        exact = np.sqrt(((X[:, None].astype(np.float64) - host.cluster_centers_) ** 2).sum(axis=2))
        np.testing.assert_allclose(host_copy(distances), exact, rtol=2**-23)  # rounded to float32 once
        assert type(model.predict(X)) is np.ndarray
        back = pickle.loads(pickle.dumps(model))
        assert type(back.labels_) is np.ndarray
        assert type(copy.deepcopy(model).labels_) is kind
        assert_same(back, host)
        if kind is cupy.ndarray:
            assert equal(host.set_params(backend="auto").predict(there), host.labels_)


@pytest.mark.gpu
def test_torch_reads_results_on_any_stream(cupy):
    torch = pytest.importorskip("torch")
    X = torch.randn(200_000, 32, device="cuda")
    model = gpukmeans.fit(X, 8, random_state=0, max_iter=3)
    want = host_copy(model.predict(X))
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        for _ in range(20):
            assert equal(model.predict(X * 1.0).clone(), want)


@pytest.mark.gpu
def test_more_iterations_than_one_record_and_one_graph_hold(cupy):
    X = np.random.default_rng(0).standard_normal((20_000, 8)).astype(np.float32)
    params = {"init": X[:30], "n_init": 1, "max_iter": 150, "tol": 0.0}
    model = KMeans(30, backend="cupy", **params).fit(cupy.asarray(X))
    assert model.n_iter_ > 64
    assert_same(model, KMeans(30, backend="numpy", **params).fit(X))


@pytest.mark.gpu
@pytest.mark.parametrize("k", [10, 100])
def test_torch_tensors_are_clustered_in_place(cupy, k):
    torch = pytest.importorskip("torch")
    X = torch.randn(4000, 96, device="cuda").bfloat16()
    model = gpukmeans.fit(X, k, random_state=0)
    assert_same(model, gpukmeans.fit(X.double().cpu().numpy(), k, random_state=0, backend="numpy"))
    assert_same(
        gpukmeans.fit(X.float()[::2], k, random_state=0), gpukmeans.fit(X.float().cpu().numpy()[::2], k, random_state=0)
    )


@pytest.mark.gpu
def test_rows_wait_for_the_stream_that_makes_them(cupy):
    with cupy.cuda.Stream(non_blocking=True):
        X = cupy.random.standard_normal((200_000, 64), dtype=cupy.float32)
        for _ in range(20):
            X = X * 1.0
        model = gpukmeans.fit(X, 8, random_state=0, max_iter=3)
    assert_same(model, gpukmeans.fit(X.get(), 8, random_state=0, max_iter=3, backend="numpy"))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("k", "init"), [(1, "random"), (7, "k-means++"), (20, "k-means||"), (40, "k-means++"), (200, "random")]
)
def test_sparse_rows_end_in_numpys_bits(cupy, k, init, dtype):
    X = sparse.random_array((5000, 3000), density=0.01, rng=np.random.default_rng(0), format="csr").astype(dtype)
    weight = np.random.default_rng(1).uniform(0.1, 3, 5000)
    params = {"init": init, "n_init": 1, "random_state": 0, "max_iter": 80, "tol": 0.0}
    for given in (None, weight):
        models = [KMeans(k, backend=name, **params).fit(X, sample_weight=given) for name in ("cupy", "numpy")]
        assert_same(*models)
        assert equal(models[0].predict(X[:99]), models[1].predict(X[:99]))


@pytest.mark.gpu
@pytest.mark.mnist
@pytest.mark.parametrize("k", [10, 100])
def test_all_of_mnist_in_numpys_bits(cupy, mnist, k):
    start = np.unique(mnist, axis=0)[np.random.RandomState(0).choice(60_000, k, replace=False)].astype(np.float64)
    params = {"init": start, "n_init": 1, "tol": 0.0, "max_iter": 100}
    assert_same(KMeans(k, backend="cupy", **params).fit(mnist), KMeans(k, backend="numpy", **params).fit(mnist))
