"""The exact sums of the clusters of sparse rows: integers added where entries are stored."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64
from gpukmeans.backends.cpu.sums import MEAN_VALUES, ClusterSums
from gpukmeans.backends.csr.table import SparseTable, entry_rows, weighted_entries
from gpukmeans.exact.sums import Grid, cluster_means
from gpukmeans.exact.warp_order import center_shift_square
from gpukmeans.threads import Workers, parts_of

#: Centers whose shifts are summed at a time at least: a call for each step of the warp order serves them all.
SHIFTED = 16


class SparseSums(ClusterSums):
    """Sums of rows in CSR, added where entries are stored: the same integers as of the dense rows."""

    def __init__(
        self,
        table: SparseTable,
        sample_weight: F64 | None,
        grid: Grid,
        n_clusters: int,
        weights_on: Grid | None = None,
    ) -> None:
        super().__init__(table.shape, sample_weight, grid, n_clusters, weights_on)
        self._table = table

    def _add(
        self, rows: NDArray[np.int64], old: NDArray[np.int32] | None, new: NDArray[np.int32], pool: Workers
    ) -> None:
        n_samples, n_features = self._table.shape
        everything = len(rows) == n_samples
        for part in self._table.blocks(len(rows)):
            index = rows[part]
            x = self._table.rows(part if everything else index)
            weight = None if self._weight is None else self._weight[index]
            owner = entry_rows(x)
            arriving = new[part].astype(np.int64)[owner] * n_features + x.indices
            leaving = None if old is None else old[part].astype(np.int64)[owner] * n_features + x.indices
            limbs = self._grid.of_columns(x.indices).limbs(weighted_entries(x, weight))
            for limb, sums in zip(limbs, self.sums.reshape(len(self.sums), -1), strict=True):
                whole = limb.astype(np.int64)
                np.add.at(sums, arriving, whole)
                if leaving is not None:
                    np.subtract.at(sums, leaving, whole)
            self._move_weights(index, None if old is None else old[part], new[part])

    def _move_weights(self, index: NDArray[np.int64], old: NDArray[np.int32] | None, new: NDArray[np.int32]) -> None:
        weight = np.ones((len(index), 1)) if self._weight is None else self._weight[index, None]
        for limb, sums in zip(self._weight_grid.limbs(weight), self.weights, strict=True):
            whole = limb[:, 0].astype(np.int64)
            np.add.at(sums, new, whole)
            if old is not None:
                np.subtract.at(sums, old, whole)

    def means(self, before: NDArray, pool: Workers) -> tuple[NDArray, F64, F64]:
        if before.size <= MEAN_VALUES:  # one call for all costs less than a look for the columns of each
            return super().means(before, pool)
        weights = self.total_weights()
        centers = before.copy()
        shift = np.zeros(len(before))

        def make(j: int) -> None:
            centers[j] = 0.0 if weights[j] else np.nan
            columns = np.flatnonzero(np.bitwise_or.reduce(self.sums[:, j], axis=0))  # other sums, and means, are zero
            sums = self.sums[:, j : j + 1, columns]
            centers[j, columns] = cluster_means(sums, weights[j : j + 1], self._grid.of_columns(columns), before.dtype)

        new = np.flatnonzero(self.touched)
        pool.map(make, new.tolist())
        for part in parts_of(len(new), max(SHIFTED, MEAN_VALUES // before.shape[1])):
            shift[new[part]] = center_shift_square(centers[new[part]], before[new[part]])
        self.touched[:] = False
        return centers, weights, shift
