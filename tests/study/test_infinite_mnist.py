"""Infinite MNIST: the same rows whatever the block, deformed a little, and none of a test image."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from gpukmeans import KMeans, load_mnist, open_rows
from gpukmeans.datasets import make_infinite_mnist


def test_rows_are_the_same_whatever_the_block():
    rows = make_infinite_mnist(8_100_000, 3)
    some = rows[180_000:180_600]
    assert hashlib.sha256(some.tobytes()).hexdigest()[:16] == "a09749b32b42ab64"  # integers alone: on every machine
    assert np.array_equal(rows[180_255:180_259], some[255:259])
    shuffled = np.random.default_rng(0).permutation(600)
    assert np.array_equal(rows[180_000 + shuffled], some[shuffled])
    assert np.array_equal(make_infinite_mnist(200_000, 3)[-19_500:-19_400], some[500:600])
    assert not np.array_equal(make_infinite_mnist(200_000, 4)[180_000:180_600], some)


def test_images_are_deformed_a_little_and_the_first_are_the_training_images():
    X, y = load_mnist(return_X_y=True)
    rows = make_infinite_mnist(250_000, 0)
    assert np.array_equal(rows[59_900:60_000], X[59_900:60_000])
    assert np.array_equal(rows.target[[0, 60_001, 249_999]], y[[0, 1, 9_999]])
    deformed, own = rows[120_000:121_000].astype(float), X[:1000].astype(float)
    apart = np.linalg.norm(deformed - own, axis=1) / np.linalg.norm(own, axis=1)
    assert 0.1 < np.quantile(apart, 0.01) < np.quantile(apart, 0.99) < 0.7
    # nearly all are nearer to their own image than to any other one of a thousand
    nearest = (-2.0 * deformed @ own.T + (own**2).sum(axis=1)).argmin(axis=1)
    assert (nearest == np.arange(1000)).mean() > 0.95
    with pytest.raises(ValueError, match=r"n_samples=0 should be a whole number"):
        make_infinite_mnist(0)
    with pytest.raises(IndexError, match="of 250,000"):
        rows[[250_000]]


def test_a_fit_of_rows_that_are_made_when_they_are_read():
    rows = make_infinite_mnist(3000, 1)
    want = KMeans(5, random_state=0, backend="numpy").fit(rows[:])
    got = KMeans(5, random_state=0, backend="numpy").fit(open_rows(rows))
    assert np.array_equal(got.labels_, want.labels_)
    assert got.inertia_ == want.inertia_
