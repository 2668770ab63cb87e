"""Rows around some directions, and a spherical fit of them."""

from __future__ import annotations

import numpy as np

from gpukmeans import SphericalKMeans


def directions(n=90, d=6, dtype=np.float64, seed=0, spread=0.6):
    """Rows around five directions, of very different lengths."""
    local = np.random.default_rng(seed)
    X = local.standard_normal((5, d))[local.integers(0, 5, n)] + spread * local.standard_normal((n, d))
    if dtype == np.uint8:
        return np.abs(20 * X).clip(0, 255).astype(dtype)
    return (X * 10.0 ** local.uniform(-3, 3, (n, 1))).astype(dtype)


def fitted(X, k=4, weight=None, **params):
    return SphericalKMeans(k, **{"backend": "numpy", "random_state": 0, **params}).fit(X, sample_weight=weight)
