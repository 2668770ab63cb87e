"""Few rows, clusters or columns, constant data and duplicates, on every backend."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from gpukmeans import KMeans
from tests.support.law_cases import DTYPES, assert_belong_together, cloud, fit


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_row_is_its_own_center(backend, dtype):
    X = np.array([[3, 0, 250]]).astype(dtype)
    model = fit(X, 1, backend)
    assert model.labels_.tolist() == [0]
    assert np.array_equal(model.cluster_centers_, X)
    assert model.inertia_ == 0.0


@pytest.mark.parametrize("dtype", DTYPES)
def test_as_many_clusters_as_rows(backend, dtype):
    X = cloud(dtype, n=20)
    model = fit(X, 20, backend, init=X)
    assert model.labels_.tolist() == list(range(20))
    assert np.array_equal(model.cluster_centers_, X)
    assert model.inertia_ == 0.0
    assert fit(X, 20, backend, random_state=0).inertia_ == 0.0


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_cluster_is_the_mean(backend, dtype):
    X = cloud(dtype)
    model = fit(X, 1, backend)
    exact = [sum(map(Fraction, column)) / len(X) for column in X.T.astype(float).tolist()]
    want = np.array([float(v) for v in exact]).astype(model.cluster_centers_.dtype)
    assert np.abs(model.cluster_centers_[0] - want).max() <= np.spacing(want.max())
    assert (model.labels_ == 0).all()
    assert_belong_together(model, X)


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_column(backend, dtype):
    """On a line clusters are intervals."""
    X = cloud(dtype, d=1)
    model = fit(X, 5, backend, init=np.unique(X)[:5, None])
    assert_belong_together(model, X)
    order = np.argsort(X[:, 0], kind="stable")
    changes = np.flatnonzero(np.diff(model.labels_[order]))
    assert len(changes) == len(np.unique(model.labels_)) - 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [0.0, 7.0, 0.9])
def test_constant_data_end_at_once(backend, dtype, value):
    """Every row is its cluster's center: nothing moves, nothing is far, whatever the start."""
    X = np.full((37, 2), value).astype(dtype)
    model = fit(X, 3, backend, random_state=0)
    assert np.array_equal(model.cluster_centers_, X[:3])
    assert model.inertia_ == 0.0
    assert (model.labels_ == 0).all()
    assert model.n_iter_ <= 2


@pytest.mark.parametrize("n", [37, 42])
def test_duplicates_converge_from_a_start_one_ulp_away(backend, n):
    """A fit with tol=0 must end: a mean that misses equal rows by an ulp would move them back and forth for ever."""
    X = np.full((n, 1), 0.9)
    model = fit(X, 2, backend, init=[[np.nextafter(0.9, 1)], [0.9]], max_iter=40)
    assert model.n_iter_ < 10
    assert model.inertia_ == 0.0


@pytest.mark.parametrize("dtype", DTYPES)
def test_duplicates_of_few_points(backend, dtype):
    """More clusters than distinct points: as many labels as points, no inertia, and a warning."""
    points = np.array([[1, 2], [9, 4], [30, 200]])
    X = np.repeat(points, 15, axis=0).astype(dtype)
    with pytest.warns(ConvergenceWarning, match=r"distinct clusters \(3\) found smaller than n_clusters \(5\)"):
        model = KMeans(5, backend=backend, random_state=0).fit(X)
    assert model.inertia_ == 0.0
    assert len(set(model.labels_.tolist())) == 3
    assert np.array_equal(model.cluster_centers_[model.labels_], X)


def test_equal_rows_share_a_label(backend):
    X = np.random.default_rng(68).integers(0, 4, (150, 2)).astype(np.float64)
    labels = fit(X, 6, backend, init=X[:6]).labels_
    for row in np.unique(X, axis=0):
        assert len(set(labels[(row == X).all(axis=1)].tolist())) == 1
