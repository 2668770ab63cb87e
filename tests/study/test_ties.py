"""Rows made for tests of ties: near ties are no ties but defeat plain arithmetic, exact ties are ties."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gpukmeans.datasets import exact_ties, near_ties


def rational_distances(X, centers):
    rows = [[Fraction(float(value)) for value in row] for row in X]
    columns = [[Fraction(float(value)) for value in center] for center in centers]
    return [[sum((x - c) ** 2 for x, c in zip(row, center, strict=True)) for center in columns] for row in rows]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_near_ties_defeat_plain_arithmetic_but_are_no_ties(dtype):
    X, centers = near_ties(60, 6, 7, seed=1, dtype=dtype)
    assert X.shape == (60, 7)
    assert centers.shape == (6, 7)
    assert X.dtype == centers.dtype == dtype
    distances = rational_distances(X, centers)
    labels = [min(range(6), key=row.__getitem__) for row in distances]
    assert set(labels) == set(range(6))
    assert sum(row.count(min(row)) == 1 for row in distances) >= 55
    plain = ((centers * centers).sum(axis=1) - 2 * X @ centers.T).argmin(axis=1)
    assert np.count_nonzero(plain != labels) >= 10


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_exact_ties_are_ties_and_some_centers_are_equal(dtype):
    X, centers = exact_ties(200, 16, 9, seed=1, dtype=dtype)
    assert X.dtype == centers.dtype == dtype
    distances = ((X[:, None].astype(np.int64) - centers.astype(np.int64)) ** 2).sum(axis=2)
    n_nearest = (distances == distances.min(axis=1, keepdims=True)).sum(axis=1)
    assert (n_nearest >= 2).mean() > 0.9
    assert len(np.unique(centers, axis=0)) == 14


@pytest.mark.parametrize("make", [near_ties, exact_ties])
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 1, 3), (2, 3, 1), (127, 257, 33)])
def test_ties_come_in_every_shape_and_repeat_with_their_seed(make, shape):
    n_samples, n_clusters, n_features = shape
    X, centers = make(*shape, seed=3)
    assert X.shape == (n_samples, n_features)
    assert centers.shape == (n_clusters, n_features)
    assert np.isfinite(X).all()
    again = make(*shape, seed=3)
    assert np.array_equal(X, again[0])
    assert np.array_equal(centers, again[1])


def test_ties_refuse_empty_shapes_and_other_dtypes():
    with pytest.raises(ValueError, match="n_clusters=0 should be at least 1"):
        near_ties(1, 0, 1)
    with pytest.raises(ValueError, match="n_samples=0 should be at least 1"):
        exact_ties(0, 1, 1)
    with pytest.raises(ValueError, match="dtype=uint8 should be float32 or float64"):
        near_ties(1, 1, 1, dtype=np.uint8)
