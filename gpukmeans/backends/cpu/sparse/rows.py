"""The rows of the NumPy backend in CSR: never made dense whole, and ending in the bits of dense rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64
from gpukmeans.backends.cpu.distances import settle_open, sparse_distances
from gpukmeans.backends.cpu.run import NumpyRun
from gpukmeans.backends.cpu.seeding.steps import NumpySeeding
from gpukmeans.backends.cpu.sparse.table import EntriesTable
from gpukmeans.backends.cpu.table import Switches
from gpukmeans.backends.csr.scores import SparseFullScreen
from gpukmeans.backends.csr.table import entry_rows
from gpukmeans.backends.defaults import RowsDefaults
from gpukmeans.backends.protocol import BatchSums
from gpukmeans.exact import batch_inertia
from gpukmeans.threads import workers


class SparseRows(RowsDefaults):
    """Rows in CSR.

    Parameters
    ----------
    switches : Switches
    X : csr_array or csr_matrix of shape (n_samples, n_features), float32 or float64, or SparseTable
        See `EntriesTable`.
    sample_weight : ndarray of shape (n_samples,), float64, or None
    sums : bool
        Whether the rows are to be summed.
    """

    def __init__(self, switches: Switches, X: Any, sample_weight: F64 | None = None, *, sums: bool = True) -> None:
        self.table = EntriesTable(switches, X, sample_weight, sums=sums)
        self.n_samples, self.n_features = self.table.X.shape
        self.grid = self.table.grid
        self.center_dtype = self.table.center_dtype

    def start(self, centers: NDArray, *, precision: str = "exact") -> NumpyRun[SparseFullScreen]:
        return NumpyRun(self.table, centers, precision)

    def seeding(self) -> NumpySeeding:
        return NumpySeeding(self.table.seed_screen, self.table.sample_weight)

    def take(self, indices: NDArray[np.int64]) -> NDArray:
        return self.table.X.dense(indices)

    def subset(self, indices: NDArray[np.int64], sample_weight: F64 | None = None, *, sums: bool = True) -> SparseRows:
        return SparseRows(self.table.switches, self.table.X.rows(indices), sample_weight, sums=sums)

    def entries(self, indices: NDArray[np.int64]) -> tuple[NDArray, NDArray, NDArray]:
        """The stored entries of some rows: the position of each one's row among `indices`, its column, its value."""
        x = self.table.X.rows(indices)
        return entry_rows(x), x.indices, x.data

    def batch_sums(self, centers: NDArray, *, precision: str = "exact", inertia: bool = True) -> BatchSums:
        run = self.start(centers, precision=precision)
        run.assign()
        sums, weights = run.batch_sums()
        return BatchSums(sums, weights, self._batch_inertia(run, sums, weights) if inertia else float("nan"))

    def _batch_inertia(self, run: NumpyRun[SparseFullScreen], sums: F64, weights: F64) -> float:
        """By the cheapest evaluation that is certain."""
        centers, table = run.assigned_centers(), self.table.X
        found = batch_inertia.from_sums(table.squares(), centers.astype(np.float64), sums, weights)
        if found is None:
            found = batch_inertia.from_distances(run.inertia(), self.n_features)
        return table.batch_inertia(centers, run.labels(), weights) if found is None else found

    def center_distances(self, centers: NDArray) -> NDArray:
        """See `gpukmeans.backends.protocol.DeviceRows`."""
        distances = np.empty((self.n_samples, len(centers)), self.center_dtype)
        with workers(self.table.size) as pool:
            open_rows = sparse_distances(self.table.X, centers, distances, pool)
        settle_open(self, open_rows, centers, distances)
        return distances

    def scatter_bounds(self) -> tuple[float, float]:
        run = self.unweighted().start(np.zeros((1, self.n_features)))
        run.assign()
        run.update()
        return self.table.inertia_bounds(run.labels(), run.centers(), None)

    def unweighted(self) -> SparseRows:
        rows = SparseRows(self.table.switches, self.table.X)
        rows.table.row_screen = self.table.row_screen
        return rows
