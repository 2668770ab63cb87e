"""Rows and centers without a direction: rows of zeros, rows that cancel out, too few directions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from gpukmeans.exact.unit_rows import unit_rows
from tests.support.directions import directions, fitted
from tests.support.small_fits import same


@pytest.mark.parametrize("weighted", [False, True])
def test_rows_of_zeros_take_no_part(backend, weighted):
    X = directions(70)
    weight = np.random.default_rng(6).uniform(0.5, 2, 70) if weighted else None
    zeros = [0, 7, 69]
    rest = np.delete(np.arange(70), zeros)
    X[zeros] = 0
    model = fitted(X, 4, weight, backend=backend)
    others = fitted(X[rest], 4, None if weight is None else weight[rest], backend=backend)
    assert np.array_equal(model.cluster_centers_, others.cluster_centers_)
    assert np.array_equal(model.labels_[rest], others.labels_)
    assert not model.labels_[zeros].any()
    lost = 3.0 if weight is None else float(sum(Fraction(w) for w in weight[zeros].tolist()))
    assert model.inertia_ == others.inertia_ + lost
    assert model.score(X, sample_weight=weight) == -model.inertia_
    assert np.array_equal(model.predict(X), model.labels_)
    assert (model.transform(X)[zeros] == 1.0).all()
    assert model.predict(X[zeros]).tolist() == [0, 0, 0]
    assert model.score(X[zeros]) == -3.0


def test_callbacks_count_rows_of_zeros():
    X = directions(70)
    X[:5] = 0
    told = []
    model = fitted(X, 4, callback=lambda *words: told.append(words))
    assert abs(told[-1][1] - model.inertia_) < 1e-12


def test_too_few_directions():
    X = directions(10)
    X[2:] = 0
    with pytest.raises(ValueError, match="Only 2 of 10 rows of X have a direction, the others are zero; n_clusters=3"):
        fitted(X, 3)
    with pytest.raises(ValueError, match="n_samples=2 should be >= n_clusters=3"):
        fitted(X[:2], 3)
    with pytest.raises(ValueError, match="sample_weight is zero for all rows but those"):
        fitted(X, 2, np.append(np.zeros(9), 1.0))


def test_rows_that_cancel_out_leave_their_center_where_it_was(backend):
    X = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    start = np.array([[1.0, 0.0], [0.8, 0.6]])
    model = fitted(X, 2, np.array([1.0, 1.0, 1e-3]), init=[[0.0, -2.0], [0.0, 3.0]], max_iter=1, backend=backend)
    assert np.isfinite(model.cluster_centers_).all()
    far = fitted(np.array([[0.0, 1.0], [-1.0, 0.0], [1.0, 0.0]]), 2, init=[[0.0, 7.0], [0.0, -7.0]], backend=backend)
    assert np.abs(np.linalg.norm(far.cluster_centers_, axis=1) - 1).max() < 1e-15
    opposite = fitted(X[:2], 1, init=start[1:], backend=backend)
    assert opposite.cluster_centers_.tolist() == unit_rows(start[1:])[0].tolist()
    assert abs(opposite.inertia_ - 2.0) < 1e-15


def test_given_centers_are_scaled_and_must_have_a_direction():
    X = directions()
    assert same(fitted(X, init=X[:4] * 8), fitted(X, init=X[:4]))
    assert same(
        fitted(X, init=lambda rows, k, random_state: rows[:k] * 3, n_init=1), fitted(X, init=unit_rows(X)[0][:4])
    )
    start = X[:4].copy()
    start[2] = 0
    with pytest.raises(ValueError, match="Row 2 of init is zero, which is no direction"):
        fitted(X, init=start)
    with pytest.raises(ValueError, match="Row 2 of the centers of init is zero"):
        fitted(X, init=lambda rows, k, random_state: start)


def test_empty_clusters_get_the_farthest_row(backend):
    X = directions(50)
    mean = unit_rows(X)[0].mean(axis=0)
    model = fitted(X, 4, init=np.stack([mean, -mean, -mean * 2, -mean * 3]), tol=0.0, backend=backend)
    assert len(set(model.labels_.tolist())) == 4
    assert sum(record.n_relocated for record in model.fit_report_.iterations) > 0


def test_fewer_directions_than_clusters_warn(backend):
    with pytest.warns(ConvergenceWarning, match=r"Number of distinct clusters \(\d+\) found smaller than n_clusters"):
        model = fitted(2.0 ** np.arange(20)[:, None] * directions(2)[[0, 1] * 10], 3, backend=backend)
    assert len(set(model.labels_)) == 2
