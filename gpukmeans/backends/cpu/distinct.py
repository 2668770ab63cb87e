"""Rows that repeat, such as the colours of an image or copies: a run looks at each distinct one once.

Equal rows have one label, so that sums count each distinct row as often as it occurs: the same integers.  With weights,
whose products with the rows are rounded, sums add row by row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64
from gpukmeans.backends.cpu.sums import NARROW, ClusterSums
from gpukmeans.backends.cpu.table import DenseTable
from gpukmeans.exact.sums import Grid
from gpukmeans.exact.tie_break import distinct_rows

#: Rows from which repetitions are looked for; evenly spaced ones, and values of these, of which a sample is made first.
LEAST, SAMPLE, SAMPLE_VALUES = 1 << 13, 1 << 14, 1 << 18
#: Share of distinct rows in the sample, and among all rows, up to which these serve.
SAMPLE_SHARE, SHARE = 0.99, 0.75
#: The same of rows of more than `NARROW` features, of which the copy takes memory that counts.
WIDE_SHARE = 0.25


class DistinctTable(DenseTable):
    """The distinct rows of a table.

    Parameters
    ----------
    table : DenseTable
    first, inverse : ndarray of int64
        See `gpukmeans.exact.tie_break.distinct_rows`.
    """

    def __init__(self, table: DenseTable, first: NDArray[np.int64], inverse: NDArray[np.int64]) -> None:
        super().__init__(table.switches, table.X[first], table.sample_weight, table.grid)
        self._whole, self._inverse = table, inverse
        self.counts = np.bincount(inverse)

    def sums(self, n_clusters: int, grid: Grid) -> ClusterSums:
        if self.sample_weight is None:
            return super().sums(n_clusters, grid)
        sums = self._whole.sums(n_clusters, grid)
        sums.stands_for = self._inverse
        return sums

    def of_all(self, labels: NDArray[np.int32]) -> NDArray[np.int32]:
        return labels[self._inverse]

    def nearest_of_few(self, centers: NDArray) -> None:
        return None

    def own_distances(self, labels: NDArray[np.int32], centers: NDArray) -> F64:
        return super().own_distances(labels, centers)[self._inverse]


def distinct_table(table: DenseTable) -> DenseTable:
    """The table of the distinct rows, where these are few enough to pay; else `table` itself."""
    n, X = table.n_samples, table.X
    if n < LEAST or table.grid is None or not isinstance(X, np.ndarray):
        return table
    share = SHARE if table.n_features <= NARROW else WIDE_SHARE
    size = max(1, min(n, SAMPLE, SAMPLE_VALUES // table.n_features))
    # If all rows repeat alike, and just often enough, of a sample about two thirds of its share of the rows do.
    enough = max(1.0 - SAMPLE_SHARE, min(1.0 - share, size / (2 * n)))
    if len(distinct_rows(X[:: n // size][:size])[0]) > (1.0 - enough) * size:
        return table
    first, inverse = distinct_rows(X)
    return table if len(first) > share * n else DistinctTable(table, first, inverse)
