"""Columns that neither rows in CSR nor centers use are left out of a fit, and change no bit."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy import sparse

import gpukmeans
from gpukmeans import BisectingKMeans, KMeans, MiniBatchKMeans, SphericalKMeans
from gpukmeans.exact.warp_order import warp_order_sum
from gpukmeans.intake import given as door
from gpukmeans.intake.columns import narrow_rows, used_columns

ESTIMATORS = [KMeans, MiniBatchKMeans, BisectingKMeans, SphericalKMeans]
D = 3001


def table(dtype=np.float64, n=60, seed=0):
    """Rows of a few features out of D, some of them shared by many rows."""
    local = np.random.default_rng(seed)
    X = np.zeros((n, D), dtype)
    for row in X:
        columns = np.r_[local.integers(0, D, 6), 32 * local.integers(0, 9, 4), 7]
        row[columns] = local.normal(size=len(columns)).round(2)
    return sparse.csr_array(X)


@pytest.fixture
def whole(monkeypatch):
    """A function that calls another one with all columns."""

    def call(function):
        with monkeypatch.context() as patch:
            patch.setattr(door, "used_columns", lambda *_: None)
            return function()

    return call


def outcome(model, X):
    if not isinstance(model, BisectingKMeans):
        assert np.array_equal(model.transform(X).argmin(axis=1), model.predict(X))
    found = [model.labels_, model.cluster_centers_, model.predict(X)]
    return [array.tobytes() for array in found], model.score(X), getattr(model, "inertia_", None), model.n_features_in_


@pytest.mark.one_in(6)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cls", ESTIMATORS)
def test_fits_end_in_the_same_bits(backend, whole, cls, dtype, weighted):
    X = table(dtype)
    weight = np.random.default_rng(1).uniform(0.1, 2, 60) if weighted else None
    assert used_columns(X, None) is not None

    def fit():
        return outcome(cls(4, random_state=0, backend=backend).fit(X, sample_weight=weight), X)

    assert fit() == whole(fit)


@pytest.mark.parametrize("cls", [KMeans, SphericalKMeans])
@pytest.mark.parametrize("tol", [0.0, 1e-4, 0.3])
def test_the_tolerance_counts_all_features(cls, tol):
    X = table()
    csr, dense = (cls(5, random_state=1, tol=tol, backend="numpy").fit(rows) for rows in (X, X.toarray()))
    assert csr.n_iter_ == dense.n_iter_
    assert csr.inertia_ == dense.inertia_
    assert csr.cluster_centers_.tobytes() == dense.cluster_centers_.tobytes()


@pytest.mark.parametrize("cls", [KMeans, MiniBatchKMeans, SphericalKMeans])
def test_centers_may_use_other_columns(backend, whole, cls):
    X = table()
    init = np.zeros((3, D))
    init[[0, 1, 2], [11, 12, 2999]] = 1.0  # hardly any row has a value there
    init[:, 7] = [1.0, -1.0, 0.5]

    def fit():
        return outcome(cls(3, init=init, n_init=1, random_state=0, max_iter=1, backend=backend).fit(X), X)

    assert fit() == whole(fit)


def test_batches_and_functions(whole):
    X, later = table(), table(seed=5)

    def batches():
        model = MiniBatchKMeans(3, random_state=0, backend="numpy").partial_fit(X).partial_fit(later)
        return outcome(model, later)

    def functions():
        seeds = gpukmeans.kmeans_plusplus(X, 4, random_state=0)
        found = gpukmeans.k_means(X, 4, random_state=0)
        return [array.tobytes() for array in (*seeds, *found[:2])], found[2]

    assert batches() == whole(batches)
    assert functions() == whole(functions)


def test_a_callable_gets_all_columns():
    seen = []

    def init(X, k, random_state):
        seen.append(X.shape)
        return X[:k].toarray()

    for cls in (KMeans, MiniBatchKMeans, BisectingKMeans, SphericalKMeans):
        assert cls(3, init=init, n_init=1, backend="numpy").fit(table()).cluster_centers_.shape == (3, D)
    assert {columns for _, columns in seen} == {D}


def test_lanes_and_their_order_are_kept():
    X = table()
    columns = used_columns(X, None)
    narrow = narrow_rows(X, columns)
    assert columns.width < D / 2
    assert (columns.places % 32 == columns.kept % 32).all()
    for lane in range(32):
        assert (np.diff(columns.places[columns.kept % 32 == lane]) > 0).all()
    assert narrow.has_canonical_format
    dense = X.toarray()
    assert np.array_equal(columns.widen(narrow.toarray()), dense)
    assert np.array_equal(columns.narrow(dense), narrow.toarray())
    squares = warp_order_sum(dense**2), warp_order_sum(narrow.toarray() ** 2)
    assert squares[0].tobytes() == squares[1].tobytes()


def test_rows_that_use_most_columns_stay():
    assert used_columns(sparse.csr_array(np.ones((3, 100))), None) is None
    assert used_columns(table(), np.ones((1, D))) is None
    assert used_columns(sparse.csr_array((5, D)), None).width == 32


def test_a_fit_of_few_used_columns_takes_memory_for_these_and_the_centers():
    local = np.random.default_rng(3)
    n_features, k = 2_000_000, 2
    columns = np.sort(local.choice(n_features, 3000, replace=False))
    X = sparse.csr_array((local.normal(size=3000), columns, np.arange(0, 3001, 30)), shape=(100, n_features))
    tracemalloc.start()
    try:
        model = KMeans(k, random_state=0, backend="numpy").fit(X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert model.cluster_centers_.shape == (k, n_features)
    assert peak < 3 * model.cluster_centers_.nbytes
