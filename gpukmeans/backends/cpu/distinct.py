"""Rows of few features that repeat, such as the colours of an image: a run looks at each distinct one once.

Equal rows have one label, so that sums count each distinct row as often as it occurs: the same integers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64
from gpukmeans.backends.cpu.sums import NARROW
from gpukmeans.backends.cpu.table import DenseTable
from gpukmeans.exact.tie_break import distinct_rows

#: Rows from which repetitions are looked for, evenly spaced ones of which a sample is made first, and its size.
LEAST, SAMPLE = 1 << 13, 1 << 14
#: Share of distinct rows in the sample, and among all rows, up to which these serve.
SAMPLE_SHARE, SHARE = 0.99, 0.75


class DistinctTable(DenseTable):
    """The distinct rows of a table without weights.

    Parameters
    ----------
    table : DenseTable
    first, inverse : ndarray of int64
        See `gpukmeans.exact.tie_break.distinct_rows`.
    """

    def __init__(self, table: DenseTable, first: NDArray[np.int64], inverse: NDArray[np.int64]) -> None:
        super().__init__(table.switches, table.X[first], None, table.grid)
        self._inverse = inverse
        self.counts = np.bincount(inverse)

    def of_all(self, labels: NDArray[np.int32]) -> NDArray[np.int32]:
        return labels[self._inverse]

    def nearest_of_few(self, centers: NDArray) -> None:
        return None

    def own_distances(self, labels: NDArray[np.int32], centers: NDArray) -> F64:
        return super().own_distances(labels, centers)[self._inverse]


def distinct_table(table: DenseTable) -> DenseTable:
    """The table of the distinct rows, where these are few enough to pay; else `table` itself."""
    n = table.n_samples
    if n < LEAST or table.n_features > NARROW or table.sample_weight is not None or table.grid is None:
        return table
    size = min(n, SAMPLE)
    if len(distinct_rows(table.X[:: n // size][:size])[0]) > SAMPLE_SHARE * size:
        return table
    first, inverse = distinct_rows(table.X)
    return table if len(first) > SHARE * n else DistinctTable(table, first, inverse)
