"""Random rows in CSR for fits, and a fit of them."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from gpukmeans import KMeans


def table(n, d, density, dtype=np.float64, seed=0, kind="normal"):
    """Random rows in CSR, some empty and some twice."""
    local = np.random.default_rng(seed)
    X = sparse.random_array((n, d), density=density, rng=local, format="csr")
    X.data = local.standard_normal(X.nnz) * 3 if kind == "normal" else local.integers(1, 5, X.nnz).astype(np.float64)
    X = sparse.csr_array(X[np.where(np.arange(n) % 7, np.arange(n), 0)])
    return normalised(X).astype(dtype) if kind == "normalised" else X.astype(dtype)


def normalised(X):
    owner = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
    X.data = X.data / np.sqrt(np.bincount(owner, X.data**2, X.shape[0]))[owner]
    return X


def fitted(X, k, **params):
    weight = params.pop("sample_weight", None)
    return KMeans(k, **{"random_state": 3, "backend": "numpy", "n_init": 1, **params}).fit(X, sample_weight=weight)
