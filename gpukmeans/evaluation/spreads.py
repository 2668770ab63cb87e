"""Indices that compare the spread within clusters with that between them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from gpukmeans.arrays.types import F64


class Spreads:
    """The indices of Calinski and Harabasz, and of Davies and Bouldin, of clusterings of the same rows."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows.astype(np.float64)
        n = rows.shape[0]
        self._mean = np.asarray(self._rows.mean(axis=0)).reshape(1, -1)
        self._n = n

    def of(self, labels: NDArray[np.integer]) -> tuple[float, float]:
        """Both indices; NaN where there is one cluster, or as many as rows."""
        used, place, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        k, n = len(used), self._n
        if not 2 <= k < n:
            return np.nan, np.nan
        members = sparse.csr_array((np.ones(n), place, np.arange(n + 1)), shape=(n, k))
        sums = members.T @ self._rows
        means = (sums.toarray() if sparse.issparse(sums) else sums) / sizes[:, None]
        squares = self._square_distances(place, means)
        within = float(squares.sum())
        between = float(sizes @ ((means - self._mean) ** 2).sum(axis=1))
        ch = between / (k - 1) / (within / (n - k)) if within else np.inf
        scatter = np.bincount(place, np.sqrt(squares)) / sizes
        apart = np.sqrt(((means[:, None] - means) ** 2).sum(axis=2)) if k * k * means.shape[1] < 1 << 24 else None
        if apart is None:
            apart = np.stack([np.sqrt(((means - mean) ** 2).sum(axis=1)) for mean in means])
        with np.errstate(divide="ignore", invalid="ignore"):
            likeness = (scatter[:, None] + scatter) / apart
        likeness[~np.isfinite(likeness)] = (
            0.0  # scikit-learn's rule for centers that coincide; also of each with itself
        )
        return ch, float(likeness.max(axis=1).mean())

    def _square_distances(self, place: NDArray[np.intp], means: F64) -> F64:
        """Of each row to the mean of its cluster."""
        if sparse.issparse(self._rows):
            own = np.asarray(self._rows.multiply(self._rows).sum(axis=1), np.float64).reshape(-1)
            products = np.asarray(self._rows.multiply(means[place]).sum(axis=1), np.float64).reshape(-1)
            return np.maximum(own - 2.0 * products + np.vecdot(means, means)[place], 0.0)
        found = np.empty(self._n)
        step = max(1, (1 << 22) // self._rows.shape[1])
        for start in range(0, self._n, step):
            part = slice(start, start + step)
            difference = self._rows[part] - means[place[part]]
            found[part] = np.vecdot(difference, difference)
        return found
