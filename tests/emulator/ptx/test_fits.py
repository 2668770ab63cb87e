"""Whole fits from the PTX that NVRTC makes end in NumPy's bits.

A few run always; all row types, shapes, starts and architectures, and every kernel, by

    python -m pytest -m weekly tests/emulator/ptx

Any test of the suite that uses the emulator runs from PTX as well with `-p tests.emulator.ptx.everywhere`.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gpukmeans import KMeans, MiniBatchKMeans, SphericalKMeans, fit_many
from gpukmeans.arrays.on_device import bfloat16_values
from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.backends.cuda.backend import CupyBackend
from gpukmeans.backends.cuda.device import nvrtc
from gpukmeans.backends.cuda.device.tensor_rounding import device_sums, measured
from gpukmeans.datasets import exact_ties, near_ties
from tests.emulator import EmulatorDevice
from tests.emulator.ptx import PtxDevice
from tests.emulator.testing import skip_without_compiler
from tests.support import many_problems, nvrtc_compiler, sparse_cases
from tests.support.assertions import assert_same
from tests.support.bfloat16_array import BFloat16Array
from tests.support.law_cases import blobs, uneven

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ARCHITECTURES = (750, 800, 900, 1000)  # of four kinds of PTX
DTYPES = ["uint8", "float16", "bfloat16", "float32", "float64"]


def crossed(*parameters):
    """All combinations, each with one of the architectures: each value of a parameter with several of them."""
    indexed = itertools.product(*(list(enumerate(values)) for values in parameters))
    return [(*(v for _, v in case), ARCHITECTURES[sum(i for i, _ in case) % 4]) for case in indexed]


@pytest.fixture(scope="module", autouse=True)
def _library():
    skip_without_compiler()
    nvrtc_compiler.skip_without_nvrtc()


class NotedDevice(PtxDevice):
    """Notes which kernels it has run."""

    def __init__(self, **chosen):
        super().__init__(**chosen)
        self.files = set()

    def kernel(self, file, name, constants):
        self.files.add(file)
        return super().kernel(file, name, constants)


# ---- dense rows ---------------------------------------------------------------------------------------------------


def dense(shape, dtype):
    """(rows as float64 that the dtype holds, number of clusters, parameters)."""
    X, k, params = {
        "few": lambda: (blobs(np.float64, 300, 20), 5, {"sample_weight": uneven(300), "max_iter": 12}),
        "bytes": lambda: (blobs(np.uint8, 200, 16), 5, {"n_init": 2, "init": "random", "max_iter": 8}),
        "many": lambda: (blobs(np.float64, 400, 24), 70, {"max_iter": 5}),
        "many columns": lambda: (blobs(np.float64, 150, 300), 130, {"max_iter": 3}),
        "restarts": lambda: (blobs(np.float64, 200, 7), 6, {"n_init": 3}),
        "random starts": lambda: (blobs(np.float64, 200, 7), 6, {"init": "random", "n_init": 2}),
        "k-means||": lambda: (blobs(np.float64, 300, 6), 9, {"init": "k-means||"}),
        "exact ties": lambda: ties(exact_ties(130, 7, 12, seed=1, dtype=np.float64), 4),
        "near ties": lambda: ties(near_ties(130, 7, 11, seed=1, dtype=np.float64), 3),
        "empty clusters": lambda: empty(blobs(np.float64, 60, 3)),
        "one row": lambda: (blobs(np.float64, 1, 5), 1, {}),
        "as many clusters as rows": lambda: (blobs(np.float64, 33, 6), 33, {}),
    }[shape]()
    return X, k, {"random_state": 0, "n_init": 1, "tol": 0, **params}


def ties(case, max_iter):
    X, centers = case
    return X, len(centers), {"init": centers, "max_iter": max_iter}


def empty(X):
    return X, 4, {"init": np.stack([X[0], X[30], np.full(3, 5000.0), np.full(3, 6000.0)])}


SHAPES = [
    "few", "bytes", "many", "many columns", "restarts", "random starts", "k-means||", "exact ties", "near ties",
    "empty clusters", "one row", "as many clusters as rows",
]  # fmt: skip


def on_both(device, X, dtype):
    """Rows for the device, and the same numbers for NumPy."""
    if dtype == "bfloat16":
        bits = (X.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        return BFloat16Array(device.upload(bits)), bfloat16_values(bits).astype(np.float64)
    X = X.astype(dtype)
    return (device.upload(X), X.astype(np.float64)) if dtype == "float16" else (X, X)


def fit_both(device, shape, dtype):
    """The fitted models, from PTX and of NumPy."""
    X, k, params = dense(shape, dtype)
    weight = params.pop("sample_weight", None)
    there, here = on_both(device, X, dtype)
    models = KMeans(k, backend=CupyBackend(device), **params), KMeans(k, backend="numpy", **params)
    return [model.fit(rows, sample_weight=weight) for model, rows in zip(models, (there, here), strict=True)]


@pytest.mark.parametrize(
    ("shape", "dtype", "arch"),
    [("few", "float32", 900), pytest.param("bytes", "uint8", 800, marks=pytest.mark.weekly)],
)
def test_a_fit_of_dense_rows(shape, dtype, arch):
    assert_same(*fit_both(PtxDevice(mode="check", order="random", seed=1, arch=arch), shape, dtype))


def test_bytes_are_assigned_on_integer_tensor_cores():
    """The one launch of a fit of bytes that no other row type has."""
    X, device = blobs(np.uint8, 130, 80), NotedDevice(mode="check", arch=800)
    C = X[:11].astype(np.float64) + 0.3
    labels = []
    for backend in (CupyBackend(device), NumpyBackend()):
        run = backend.load(X).start(C)
        run.assign()
        labels.append(run.labels())
    assert "nearest_of_few_bytes" in device.files
    assert np.array_equal(*labels)


@pytest.mark.weekly
@pytest.mark.parametrize(("shape", "dtype", "arch"), crossed(SHAPES, DTYPES))
def test_every_fit_of_dense_rows(shape, dtype, arch):
    assert_same(*fit_both(PtxDevice(arch=arch), shape, dtype))


@pytest.mark.weekly
@pytest.mark.parametrize(("dtype", "arch"), crossed(["uint8", "float32", "float64"]))
def test_images(mnist_sample, dtype, arch):
    X = mnist_sample if dtype == "uint8" else (mnist_sample / 255).astype(dtype)
    params = {"random_state": 0, "n_init": 1, "max_iter": 4}
    got = KMeans(10, backend=CupyBackend(PtxDevice(arch=arch)), **params).fit(X)
    assert_same(got, KMeans(10, backend="numpy", **params).fit(X))


# ---- sparse rows, batches, problems, unit vectors -----------------------------------------------------------------

SPARSE = {
    "few": ((200, 40, 0.1), 8, {"init": "random"}),
    "seeded": ((300, 40, 0.1), 10, {}),
    "k-means||": ((300, 40, 0.1), 10, {"init": "k-means||"}),
    "many": ((400, 300, 0.03), 90, {"max_iter": 6}),
    "restarts": ((200, 60, 0.1), 5, {"n_init": 3}),
}


def fit_sparse(device, shape, dtype):
    size, k, params = SPARSE[shape]
    X = sparse_cases.table(*size, dtype)
    return [sparse_cases.fitted(X, k, **params, backend=backend) for backend in (CupyBackend(device), "numpy")]


def test_a_fit_of_sparse_rows():
    assert_same(*fit_sparse(PtxDevice(mode="check", arch=900), "few", np.float32))


@pytest.mark.weekly
@pytest.mark.parametrize(("shape", "dtype", "arch"), crossed(SPARSE, [np.float32, np.float64]))
def test_every_fit_of_sparse_rows(shape, dtype, arch):
    assert_same(*fit_sparse(PtxDevice(arch=arch), shape, dtype))


def fit_batches(device, dtype, is_sparse):
    X = sparse_cases.table(500, 40, 0.1, dtype) if is_sparse else blobs(dtype, 500, 12)
    params = {"batch_size": 64, "random_state": 0, "n_init": 1, "max_iter": 6}
    return [MiniBatchKMeans(7, backend=backend, **params).fit(X) for backend in (CupyBackend(device), "numpy")]


@pytest.mark.weekly
@pytest.mark.parametrize(("dtype", "is_sparse", "arch"), crossed([np.uint8, np.float32, np.float64], [False, True]))
def test_batches(dtype, is_sparse, arch):
    got, want = fit_batches(PtxDevice(arch=arch), dtype, is_sparse)
    assert got.cluster_centers_.tobytes() == want.cluster_centers_.tobytes()
    assert np.array_equal(got.labels_, want.labels_)
    assert got.inertia_ == want.inertia_


def fit_problems(device, dtype):
    X = many_problems.problems(dtype)
    params = {"random_state": 0, "n_init": 2}
    return fit_many(X, 5, backend=CupyBackend(device), **params), many_problems.one_by_one(X, 5, **params)


@pytest.mark.weekly
@pytest.mark.parametrize(("dtype", "arch"), crossed([np.uint8, np.float32, np.float64]))
def test_many_problems(dtype, arch):
    many_problems.assert_same(*fit_problems(PtxDevice(arch=arch), dtype))


def fit_directions(device, dtype):
    """Rows on the device are scaled there."""
    X = blobs(dtype, 200, 30)
    params = {"random_state": 0, "n_init": 1}
    models = [SphericalKMeans(6, backend=backend, **params) for backend in (CupyBackend(device), "numpy")]
    return [model.fit(rows) for model, rows in zip(models, (device.upload(X), X), strict=True)]


@pytest.mark.weekly
@pytest.mark.parametrize(("dtype", "arch"), crossed([np.uint8, np.float32, np.float64]))
def test_unit_vectors(dtype, arch):
    assert_same(*fit_directions(PtxDevice(arch=arch), dtype))


def distances(device, dtype):
    """Distances to the centers of rows on the device."""
    X = blobs(dtype, 100, 30)
    model = KMeans(6, init=X[:6].astype(np.float64), n_init=1, max_iter=2, backend=CupyBackend(device))
    return model.fit(X).transform(device.upload(X)).get()


@pytest.mark.weekly
@pytest.mark.parametrize(("dtype", "arch"), crossed([np.uint8, np.float32, np.float64]))
def test_distances(dtype, arch):
    """NumPy's are right to rounding only (tests/laws/test_transform.py): the bits are those of the sources."""
    got, want = distances(PtxDevice(arch=arch), dtype), distances(EmulatorDevice(), dtype)
    assert got.dtype == want.dtype
    assert np.array_equal(got, want)


@pytest.mark.weekly
def test_the_fits_and_the_trial_of_tensor_cores_run_every_kernel():
    device = NotedDevice()
    for shape in SHAPES:
        fit_both(device, shape, "float32")
    fit_both(device, "bytes", "uint8")
    fit_both(device, "near ties", "float64")  # the host decides some
    for shape in SPARSE:
        fit_sparse(device, shape, np.float32)
    for is_sparse in (False, True):
        fit_batches(device, np.float32, is_sparse)
    fit_problems(device, np.float32)
    fit_directions(device, np.float32)
    distances(device, np.float32)
    assert measured(device_sums(device)) == device.tensor_cores
    assert {file for file, _ in nvrtc.variants()} - device.files == set()
