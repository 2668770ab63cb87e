"""Fits and rows of the laws of k-means, and what must hold of every fitted model."""

from __future__ import annotations

import warnings
from fractions import Fraction

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from gpukmeans import KMeans
from gpukmeans.certificates.rounding import UNIT64, gamma
from tests.support.assertions import assert_labels
from tests.support.oracles import inertia

DTYPES = [np.uint8, np.float32, np.float64]


def fit(X, k, backend, sample_weight=None, **params):
    """A fit with one start, without tolerance, that does not warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return KMeans(k, backend=backend, **{"tol": 0, "n_init": 1, **params}).fit(X, sample_weight=sample_weight)


def cloud(dtype, n=120, d=5, seed=60):
    """Rows about three points of the diagonal, nearer to each other than those of `blobs`."""
    local = np.random.default_rng(seed)
    X = 100 + 12 * local.standard_normal((n, d)) + 40 * local.integers(-1, 2, (n, 1))
    return X.clip(0, 255).astype(dtype)


def blobs(dtype, n, d, seed=70):
    """Rows about three points of the diagonal."""
    local = np.random.default_rng(seed)
    X = 100 + 15 * local.standard_normal((n, d)) + 50 * local.integers(-1, 2, (n, 1))
    return X.clip(0, 255).astype(dtype)


def uneven(n, seed=71):
    """Weights of n rows, each seventh of them zero."""
    return np.random.default_rng(seed).random(n) * (np.arange(n) % 7 != 3)


def assert_belong_together(model, X, sample_weight=None):
    """Labels are the nearest centers as stored, and the inertia is theirs, within gamma(d + 3) of its real value."""
    assert_labels(model.labels_, X, model.cluster_centers_)
    true = inertia(X, model.cluster_centers_, model.labels_, sample_weight)
    assert abs(Fraction(model.inertia_) - true) <= Fraction(gamma(X.shape[1] + 3, UNIT64)) * true
