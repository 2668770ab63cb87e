"""Fits of sparse rows have the same bits as fits of the same rows made dense."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics.pairwise import euclidean_distances

from gpukmeans import KMeans
from gpukmeans.backends.cpu.backend import NumpyBackend
from tests.support.assertions import assert_same
from tests.support.sparse_cases import fitted, table

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


# ---- the law -----------------------------------------------------------------------------------------------------


@pytest.mark.one_in(3)
@pytest.mark.parametrize("init", ["k-means++", "k-means||", "random", "array"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["normal", "normalised", "whole numbers"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sparse_rows_end_in_the_bits_of_dense_rows(dtype, kind, weighted, init):
    shapes = [(300, 40, 0.1, 10), (60, 1, 0.5, 2), (90, 33, 0.2, 1)]
    if kind != "normalised":  # its ties take long over dense rows
        shapes.append((400, 500, 0.01, 25))
    for n, d, density, k in shapes:
        X = table(n, d, density, dtype, seed=k, kind=kind)
        weight = np.random.default_rng(k).integers(0, 9, n) / 8 if weighted else None
        start = X[np.arange(2, 2 + k)].toarray() if init == "array" else init
        params = {"init": start, "sample_weight": weight, "max_iter": 25}
        assert_same(fitted(X, k, **params), fitted(X.toarray(), k, **params))


@pytest.mark.parametrize("kind", ["normal", "whole numbers"])
def test_many_clusters_and_restarts(kind):
    X = table(1500, 300, 0.03, kind=kind)
    for k, n_init in [(200, 1), (7, 4)]:
        got, want = (fitted(rows, k, n_init=n_init) for rows in (X, X.toarray()))
        assert_same(got, want)
        assert [step.n_moved for step in got.fit_report_.iterations][-1] == 0 or got.n_iter_ < 300


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.int8, bool])
def test_integers_are_float64(dtype):
    X = table(200, 30, 0.2, kind="whole numbers").astype(dtype)
    got = fitted(X, 6)
    assert got.cluster_centers_.dtype == np.float64
    assert_same(got, fitted(X.toarray(), 6))


def test_empty_clusters_are_filled_alike():
    X = table(200, 60, 0.1)
    start = np.vstack([X[:4].toarray(), np.full((3, 60), 1e6)])
    got, want = (fitted(rows, 7, init=start) for rows in (X, X.toarray()))
    assert got.fit_report_.iterations[0].n_relocated == 3
    assert_same(got, want)


def test_rows_that_are_all_zero():
    X = sparse.csr_array((50, 20))
    with pytest.warns(ConvergenceWarning, match=r"Number of distinct clusters \(1\)"):
        got = fitted(X, 3)
    assert_same(got, fitted(np.zeros((50, 20)), 3))
    assert got.inertia_ == 0.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_and_small_values(dtype):
    """Beyond float32's range every row goes to float64, and where float64 products vanish to exact arithmetic."""
    for exponent in (-140, -60, 62, 100):
        X = table(80, 25, 0.2)
        X.data = np.ldexp(X.data, exponent)
        X = X.astype(dtype)
        assert_same(fitted(X, 5), fitted(X.toarray(), 5))
    X = table(80, 25, 0.2)
    for exponent in (-510, 470):
        wide = X.copy()
        wide.data = np.ldexp(X.data, exponent)
        assert_same(fitted(wide, 5, init="random"), fitted(wide.toarray(), 5, init="random"))


def test_switches_and_iterations_agree():
    X = table(2000, 200, 0.05)
    plain = fitted(X, 12)
    assert any(step.n_skipped for step in plain.fit_report_.iterations)
    for switches in ({"skip": False}, {"screen": False}, {"skip": False, "screen": False}):
        other = fitted(X, 12, backend=NumpyBackend(**switches))
        assert_same(plain, other)
        assert [s.n_moved for s in other.fit_report_.iterations] == [s.n_moved for s in plain.fit_report_.iterations]


# ---- beside scikit-learn -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("init", ["k-means++", "random"])
@pytest.mark.parametrize("k", [2, 9])
def test_scikit_learn_finds_the_same_clusters(k, init):
    X = table(500, 120, 0.1)
    for kind in (sparse.csr_array, sparse.csr_matrix):
        params = {"n_clusters": k, "init": init, "n_init": 2, "random_state": 5, "tol": 0.0}
        got, want = KMeans(**params, backend="numpy").fit(kind(X)), SklearnKMeans(**params).fit(kind(X))
        assert np.array_equal(got.labels_, want.labels_)
        assert got.n_iter_ == want.n_iter_
        assert np.abs(got.cluster_centers_ - want.cluster_centers_).max() <= 1e-10
        assert got.inertia_ == pytest.approx(want.inertia_, rel=1e-12)


def test_a_callable_gets_what_scikit_learn_gives_it():
    X = sparse.csr_matrix(table(100, 30, 0.2))
    seen = []

    def start(rows, n_clusters, random_state):
        seen.append((rows, random_state.randint(1000)))
        return rows[:n_clusters].toarray()

    for estimator in (KMeans, SklearnKMeans):
        estimator(4, init=start, n_init=1, random_state=0).fit(X)
    (ours, draw), (theirs, same) = seen
    assert draw == same
    assert type(ours) is type(theirs)
    assert ours.data.tobytes() == theirs.data.tobytes() == X.data.tobytes()
    assert_same(fitted(X, 4, init=start), fitted(X.toarray(), 4, init=X[:4].toarray()))


# ---- after the fit -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_follows_a_fit(dtype):
    X, other = table(200, 50, 0.1, dtype), table(90, 50, 0.2, np.float32, seed=1)
    model = fitted(X, 6)
    assert np.array_equal(model.predict(X), model.labels_)
    assert np.array_equal(model.predict(other), model.predict(other.toarray()))
    weight = np.arange(90.0)
    assert model.score(other, sample_weight=weight) == model.score(other.toarray(), sample_weight=weight)
    assert model.score(X) == -model.inertia_
    want = euclidean_distances(other, model.cluster_centers_)
    np.testing.assert_allclose(model.transform(other), want, rtol=1e-6 if dtype == np.float32 else 1e-12)
    assert np.array_equal(model.fit_predict(X), model.labels_)
    assert model.backend_ == "numpy"
