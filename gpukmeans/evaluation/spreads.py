"""Means of clusters, and indices that compare the spread within clusters with that between them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from gpukmeans.arrays.types import F64
from gpukmeans.backends.csr.table import SparseTable, own_square_distances
from gpukmeans.threads import parts_of, workers

#: Values of rows whose differences are held at a time.
TOGETHER = 1 << 22


def cluster_means(rows: Any, place: NDArray[np.intp], sizes: NDArray[np.intp]) -> F64:
    """The mean of each cluster, (n_clusters, n_features), dense.

    Parameters
    ----------
    rows : ndarray of float64, or CSR, of shape (n_samples, n_features)
    place : ndarray of shape (n_samples,)
        The cluster of each row.
    sizes : ndarray of shape (n_clusters,)
        Their rows; none is empty.
    """
    n = len(place)
    sums = sparse.csr_array((np.ones(n), place, np.arange(n + 1)), shape=(n, len(sizes))).T @ rows
    return (sums.toarray() if sparse.issparse(sums) else sums) / sizes[:, None]


class Spreads:
    """The indices of Calinski and Harabasz, and of Davies and Bouldin, of clusterings of the same rows."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows.astype(np.float64, copy=False)
        self._mean = np.asarray(self._rows.mean(axis=0)).reshape(1, -1)
        self._table = SparseTable(self._rows) if sparse.issparse(rows) else None

    def of(self, labels: NDArray[np.integer]) -> tuple[float, float]:
        """Both indices; NaN where there is one cluster, or as many as rows."""
        used, place, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        k, n = len(used), len(labels)
        if not 2 <= k < n:
            return np.nan, np.nan
        means = cluster_means(self._rows, place, sizes)
        squares = self._square_distances(place, means)
        within = float(squares.sum())
        between = float(sizes @ ((means - self._mean) ** 2).sum(axis=1))
        ch = between / (k - 1) / (within / (n - k)) if within else np.inf
        scatter = np.bincount(place, np.sqrt(squares)) / sizes
        apart = np.stack([np.sqrt(((means - mean) ** 2).sum(axis=1)) for mean in means])
        with np.errstate(divide="ignore", invalid="ignore"):
            likeness = (scatter[:, None] + scatter) / apart
        likeness[~np.isfinite(likeness)] = (
            0.0  # scikit-learn's rule for centers that coincide; also of each with itself
        )
        return ch, float(likeness.max(axis=1).mean())

    def _square_distances(self, place: NDArray[np.intp], means: F64) -> F64:
        """Of each row to the mean of its cluster."""
        with workers(self._rows.size) as pool:
            if self._table is not None:
                return own_square_distances(self._table, place.astype(np.int32), means, pool)

            def squares(part: slice) -> F64:
                difference = self._rows[part] - means[place[part]]
                return np.vecdot(difference, difference)

            return np.concatenate(pool.map(squares, parts_of(len(place), max(1, TOGETHER // means.shape[1]))))
