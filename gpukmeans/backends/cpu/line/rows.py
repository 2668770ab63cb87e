"""Rows of one feature in rising order, with prefix sums on the exact grid: made once, for all runs of a fit."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64, I64
from gpukmeans.backends.cpu.table import DenseTable
from gpukmeans.exact.sums import Grid, weight_grid
from gpukmeans.threads import parts_of, workers

#: Rows that are labelled or summed at a time, few enough to stay in a cache of a core's own.
PART = 1 << 14
#: Boundaries up to which comparing with each costs less than a binary search a row.
FEW = 24
#: Fewer rows are not worth a second thread.
LEAST = 1 << 15


class SortedRows:
    """What runs need of rows of one feature.

    Attributes
    ----------
    table : DenseTable
    dtype : dtype
        In which rows and boundaries are compared: float32 for uint8 and float32 rows, else float64.
    weight_grid : Grid
        Of the summed weights.
    """

    def __init__(self, table: DenseTable) -> None:
        self.table = table
        self.dtype = np.dtype(np.float64 if table.X.dtype == np.float64 else np.float32)
        self.weight_grid = weight_grid(table.n_samples, table.sample_weight)

    @cached_property
    def _sorted(self) -> tuple[NDArray, F64 | None]:
        """The rows in rising order, and their weights."""
        x, weight = self.table.X[:, 0], self.table.sample_weight
        if weight is None:
            return np.sort(x).astype(self.dtype, copy=False), None
        order = np.argsort(x)
        return x[order].astype(self.dtype, copy=False), weight[order]

    @property
    def values(self) -> NDArray:
        """(n_samples,), of `dtype`"""
        return self._sorted[0]

    @cached_property
    def sums(self) -> I64:
        """The limbs of the first i rows, times their weights, summed: (n_limbs, n_samples + 1)."""
        assert self.table.grid is not None
        values, weight = self._sorted
        return _prefix_sums(self.table.grid, values, weight)

    @cached_property
    def weights(self) -> I64:
        """The limbs of the weights of the first i rows, summed: (n_weight_limbs, n_samples + 1)."""
        weight = self._sorted[1]
        if weight is None:
            return np.arange(self.table.n_samples + 1)[None]
        return _prefix_sums(self.weight_grid, weight, None)

    def cuts(self, firsts: NDArray) -> I64:
        """The places in rising order from which rows are not below `firsts`: 0, one for each, n_samples."""
        cuts = np.empty(len(firsts) + 2, np.int64)
        cuts[0], cuts[-1] = 0, self.table.n_samples
        cuts[1:-1] = self.values.searchsorted(firsts)
        return cuts

    def labels(self, ids: I64, firsts: NDArray) -> NDArray[np.int32]:
        """The labels of all rows, as they came, by `Boundaries`."""
        x, names = self.table.X[:, 0], ids.astype(np.int32)
        labels = np.empty(len(x), np.int32)

        def label(rows: slice) -> None:
            for part in parts_of(rows.stop - rows.start, PART):
                some = slice(rows.start + part.start, rows.start + part.stop)
                block = x[some].astype(self.dtype, copy=False)
                if len(firsts) > FEW:
                    place = firsts.searchsorted(block, "right")
                else:
                    place = np.zeros(len(block), np.int8)
                    for first in firsts:
                        place += block >= first
                np.take(names, place, out=labels[some], mode="clip")

        with workers(len(x)) as pool:
            pool.map(label, pool.share(len(x), len(x), LEAST))
        return labels


def _prefix_sums(grid: Grid, values: NDArray, weight: F64 | None) -> I64:
    sums = np.zeros((grid.n_limbs, len(values) + 1), np.int64)
    for part in parts_of(len(values), PART):
        block = values[part].astype(np.float64)
        if weight is not None:
            block *= weight[part]
        for limb, total in zip(grid.limbs(block[:, None]), sums, strict=True):
            total[part.start + 1 : part.stop + 1] = limb[:, 0]
    return np.cumsum(sums, axis=1, out=sums)
