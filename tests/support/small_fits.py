"""A small fit to test the estimators with: rows and a model."""

from __future__ import annotations

import numpy as np

from gpukmeans import KMeans
from tests.support.assertions import equal, same  # noqa: F401  (still imported from here by other tests)

FITTED = ["cluster_centers_", "labels_", "inertia_", "n_iter_", "backend_", "fit_report_"]


def rows(dtype=np.float64, n=60, d=4, seed=90):
    local = np.random.default_rng(seed)
    return (100 + 20 * local.standard_normal((n, d)) + 60 * local.integers(-1, 2, (n, 1))).clip(0, 255).astype(dtype)


def model(**params):
    return KMeans(3, **{"backend": "numpy", "random_state": 0, **params})
