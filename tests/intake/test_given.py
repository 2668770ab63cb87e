"""The one door for X: what `receive` finds out of rows, and that every public way goes through it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

import gpukmeans
from gpukmeans import BisectingKMeans, KMeans, MiniBatchKMeans, SphericalKMeans
from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.backends.cuda.backend import CupyBackend
from gpukmeans.intake import given, problems
from gpukmeans.intake.given import receive
from gpukmeans.intake.kinds import ArrayKind
from tests.support.toy_backend import ToyBackend

ESTIMATORS = [KMeans, MiniBatchKMeans, BisectingKMeans, SphericalKMeans]


def rows(dtype=np.float64, n=30, d=3):
    return np.random.default_rng(9).integers(1, 200, (n, d)).astype(dtype)


def found(X, sample_weight=None, **options):
    return receive(KMeans(2), X, sample_weight, **{"backend": "numpy", "reset": True, **options})


@pytest.mark.parametrize(
    ("dtype", "want", "centers"),
    [
        (np.uint8, np.uint8, np.float64),
        (np.float32, np.float32, np.float32),
        (np.float64, np.float64, np.float64),
        (np.float16, np.float64, np.float64),
        (np.int32, np.float64, np.float64),
    ],
)
def test_dense_rows(dtype, want, centers):
    got = found(rows(dtype))
    assert got.form == "dense"
    assert (got.X.dtype, got.center_dtype) == (want, centers)
    assert (got.n_samples, got.n_features) == (30, 3)
    assert got.kind == ArrayKind("numpy", None)
    assert got.backend.name == "numpy"
    assert got.sample_weight is None
    assert got.host_rows() is got.X
    assert np.array_equal(got.load().take(np.arange(30)), rows(dtype))


@pytest.mark.parametrize("layout", ["csr", "csc", "coo"])
def test_sparse_rows(layout):
    got = found(sparse.csr_array(rows()).asformat(layout))
    assert got.form == "csr"
    assert got.X.format == "csr"
    assert got.host_rows() is got.X
    assert np.array_equal(got.load(sums=False).take(np.arange(30)), rows())


def test_rows_on_a_device(device):
    there = device.upload(rows(np.float32))
    got = found(there, backend=CupyBackend(device))
    assert got.form == "device"
    assert got.X.array is there
    assert got.kind == ArrayKind("cupy", 0)
    assert np.array_equal(got.host_rows(), rows(np.float32))
    assert np.array_equal(got.load(sums=False).take(np.arange(30)), rows(np.float32))


def test_weights_are_rounded_as_those_of_a_fit():
    weight = np.random.default_rng(1).random(30)
    narrow = weight.astype(np.float32).astype(np.float64)
    assert np.array_equal(found(rows(), weight).sample_weight, weight)
    assert np.array_equal(found(rows(np.float32), weight).sample_weight, narrow)
    assert np.array_equal(found(rows(np.float32), weight, fitted_dtype=np.float64).sample_weight, narrow)
    assert np.array_equal(found(rows(np.float32), weight, weight_dtype=np.dtype(np.float64)).sample_weight, weight)
    assert found(rows(), np.ones(30)).sample_weight is None


def test_rows_are_widened_for_centers_in_float64():
    assert found(rows(np.float32), fitted_dtype=np.dtype(np.float64)).X.dtype == np.float64
    assert found(rows(np.float32), fitted_dtype=np.dtype(np.float32)).X.dtype == np.float32
    assert found(rows(np.uint8), fitted_dtype=np.dtype(np.float64)).X.dtype == np.uint8


def test_values_are_read_once():
    """By the backend where it checks them itself, unless the rows are loaded in parts."""
    X = rows(np.float32)
    X[2, 1] = np.nan
    assert found(X).form == "dense"  # NumpyBackend checks float32 when it loads rows
    with pytest.raises(ValueError, match="contains NaN"):
        found(X).load()
    with pytest.raises(ValueError, match="contains NaN"):
        found(X, check_values=True)
    with pytest.raises(ValueError, match="contains NaN"):
        found(X, backend=ToyBackend())
    with pytest.raises(ValueError, match="contains NaN"):
        found(X.astype(np.float64))


def test_too_few_rows():
    with pytest.raises(ValueError, match="n_samples=30 should be >= n_clusters=31"):
        found(rows(), n_clusters=31)


def test_rows_of_unit_length_keep_the_rest():
    weight = np.random.default_rng(1).random(30)
    got = found(rows(np.uint8), weight)
    unit, largest = got.of_unit_length()
    assert np.abs((unit.X**2).sum(axis=1) - 1).max() < 1e-15
    assert np.array_equal(largest, got.X.max(axis=1))
    assert unit.sample_weight is got.sample_weight
    assert (unit.form, unit.kind, unit.backend) == (got.form, got.kind, got.backend)


# ---- every public way ------------------------------------------------------------------------------------------------


@pytest.fixture
def calls(monkeypatch):
    """The shapes of the rows that are checked."""
    seen = []
    real = given.check_rows
    for module in (given, problems):
        monkeypatch.setattr(
            module, "check_rows", lambda *args, **kwargs: seen.append(args[1].shape) or real(*args, **kwargs)
        )
    return seen


@pytest.mark.parametrize("method", ["predict", "transform", "score", "partial_fit"])
@pytest.mark.parametrize("cls", ESTIMATORS)
@pytest.mark.parametrize("form", ["dense", "csr"])
def test_every_method_checks_its_rows_once(cls, method, form, calls):
    X = rows()
    model = cls(2, backend="numpy", random_state=0).fit(X)
    assert calls == [(30, 3)]
    if hasattr(model, method):
        getattr(model, method)(X[:20] if form == "dense" else sparse.csr_array(X[:20]))
        assert calls == [(30, 3), (20, 3)]


@pytest.mark.parametrize(
    ("call", "want"),
    [
        (lambda X: gpukmeans.fit(X, 2), 1),
        (lambda X: gpukmeans.k_means(X, 2), 1),
        (lambda X: gpukmeans.kmeans_plusplus(X, 2), 1),
        (lambda X: gpukmeans.fit_many([X, X], 2), 2),
        (lambda X: KMeans(2).fit_predict(X), 1),
        (lambda X: KMeans(2).fit_transform(X), 2),
    ],
)
def test_every_function_checks_its_rows_once(call, want, calls):
    call(rows())
    assert len(calls) == want


def test_problems_given_as_one_array_are_checked_once(device, calls):
    stack = np.stack([rows(np.float32)] * 3)
    gpukmeans.fit_many(stack, 2, backend=CupyBackend(device), random_state=0)
    assert calls == [(30, 3)]


def test_a_backend_object_is_used_as_it_is():
    backend = NumpyBackend(lockstep=False)
    assert found(rows(), backend=backend).backend is backend
