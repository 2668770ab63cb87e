"""Sparse rows in the functions, BisectingKMeans and SphericalKMeans: the bits of the same rows made dense."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn import cluster
from sklearn.utils.estimator_checks import check_estimator

from gpukmeans import BisectingKMeans, SphericalKMeans, kmeans_plusplus
from gpukmeans.unit_rows import unit_rows


def text(n=300, d=120, density=0.08, dtype=np.float64, seed=0):
    """Rows of few entries around a few topics; some are empty, some store zeros."""
    local = np.random.default_rng(seed)
    X = sparse.random_array((n, d), density=density, format="csr", rng=local, dtype=np.float64)
    topics = local.integers(0, 4, n)
    X = (X + sparse.csr_array((local.uniform(1, 9, n), (np.arange(n), topics * 7)), shape=(n, d))).tocsr()
    X.data[::17] = 0.0
    keep = np.ones(n)
    keep[[5, 200]] = 0.0
    X = sparse.csr_array(sparse.diags_array(keep) @ X).astype(dtype)
    indices, indptr = X.indices.astype(np.int32), X.indptr.astype(np.int32)  # scikit-learn takes no others
    return sparse.csr_array((X.data, indices, indptr), shape=X.shape)


def same(one, other):
    return (
        np.array_equal(one.labels_, other.labels_)
        and np.array_equal(one.cluster_centers_, other.cluster_centers_)
        and one.inertia_ == other.inertia_
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("estimator", [BisectingKMeans, SphericalKMeans])
@pytest.mark.parametrize("weighted", [False, True])
def test_sparse_rows_end_in_the_bits_of_dense_ones(dtype, estimator, weighted):
    X, k = text(dtype=dtype), 6
    weight = np.random.default_rng(1).uniform(0.5, 2, 300).astype(np.float32) if weighted else None

    def first(rows, n_clusters, random_state):
        rows = rows[:n_clusters]
        return rows.toarray() if sparse.issparse(rows) else rows

    inits = ["k-means++", "random", *([first] if estimator is SphericalKMeans else [])]
    for init in inits:
        model = estimator(k, init=init, n_init=2, random_state=0, backend="auto")
        got = model.fit(X, sample_weight=weight)
        want = estimator(k, init=init, n_init=2, random_state=0, backend="numpy")
        want.fit(X.toarray(), sample_weight=weight)
        assert same(got, want)
        assert got.backend_ == "numpy"
        assert np.array_equal(got.predict(X), want.labels_)
        assert np.array_equal(got.predict(X.tocsc()), want.predict(X.toarray()))
        assert got.score(X) == want.score(X.toarray())
        np.testing.assert_allclose(
            got.transform(X), want.transform(X.toarray()), atol=1e-5 if dtype == np.float32 else 0
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sparse_unit_rows_are_the_dense_ones(dtype):
    X = text(dtype=dtype)
    scale = np.where(np.arange(300) % 7 == 0, 2.0**60, 2.0**-60).astype(dtype)
    X = sparse.csr_array(sparse.diags_array(scale) @ X)
    for table in (X, sparse.csr_matrix(X)):
        kept = table.data.copy()
        unit, largest = unit_rows(table)
        want, magnitudes = unit_rows(table.toarray())
        assert unit.dtype == want.dtype
        assert np.array_equal(unit.toarray(), want)
        assert np.array_equal(largest, magnitudes)
        assert np.array_equal(table.data, kept)


def test_seeds_are_scikit_learns():
    X = text()
    for seed in range(6):
        centers, indices = kmeans_plusplus(X, 7, random_state=seed)
        want, drawn = cluster.kmeans_plusplus(X, 7, random_state=seed)
        assert indices.tolist() == drawn.tolist()
        assert np.array_equal(centers, want)


@pytest.mark.parametrize("init", ["random", "k-means++", lambda rows, k, random_state: rows[:k].toarray()])
def test_sparse_bisections_are_scikit_learns(init):
    """A callable gets the rows as they are, not centered."""
    X = text()
    model = BisectingKMeans(5, init=init, random_state=3).fit(X)
    theirs = cluster.BisectingKMeans(5, init=init, random_state=3).fit(X)
    assert np.array_equal(model.labels_, theirs.labels_)
    assert np.abs(model.cluster_centers_ - theirs.cluster_centers_).max() < 1e-10
    assert np.array_equal(model.predict(X), theirs.labels_)


@pytest.mark.parametrize("estimator", [BisectingKMeans, SphericalKMeans])
def test_scikit_learns_own_checks_pass(estimator):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(estimator(backend="numpy"), on_fail=None)
    failed = {result["check_name"] for result in results if result["status"] == "failed"}
    assert failed <= {"check_sample_weight_equivalence_on_dense_data", "check_sample_weight_equivalence_on_sparse_data"}
