"""A small fit to test the estimator with: rows, a model, and what must not differ."""

from __future__ import annotations

import numpy as np

from gpukmeans import KMeans
from gpukmeans.arrays.on_device import host_copy

FITTED = ["cluster_centers_", "labels_", "inertia_", "n_iter_", "backend_", "fit_report_"]


def rows(dtype=np.float64, n=60, d=4, seed=90):
    local = np.random.default_rng(seed)
    return (100 + 20 * local.standard_normal((n, d)) + 60 * local.integers(-1, 2, (n, 1))).clip(0, 255).astype(dtype)


def model(**params):
    return KMeans(3, **{"backend": "numpy", "random_state": 0, **params})


def equal(one, other):
    """Arrays wherever they lie."""
    return np.array_equal(host_copy(one), host_copy(other))


def same(one, other):
    return (
        equal(one.labels_, other.labels_)
        and equal(one.cluster_centers_, other.cluster_centers_)
        and one.inertia_ == other.inertia_
        and one.n_iter_ == other.n_iter_
    )
