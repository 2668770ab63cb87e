"""What runs over rows in CSR keep on the device, and the launches that read and write it."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpukmeans.backends.csr.exact import settled_rows
from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda.sparse.table import CupySparseTable
from gpukmeans.backends.cuda.workspace import Workspace, living
from gpukmeans.certificates.rounding import UNIT64, gamma

#: The copy of the centers has this multiple of them in each column: whole sectors of 32 bytes in float32.
PADDING = 8


class SparseCenters:
    """One launch for an assignment: kernels/sparse_nearest.cu."""

    n_groups = 0

    def __init__(self, table: CupySparseTable, n_clusters: int, exact: bool) -> None:
        self._table, self._k, self._exact = table, n_clusters, exact
        self.n_padded = -(-n_clusters // PADDING) * PADDING

    def bind(self, work: Workspace) -> None:
        """See `Screen.bind`; for a single run."""
        table = self._table
        centers = table.struct(
            "ColumnCenters",
            columns=work.half_centers,
            half_squares=work.half_squares,
            facts=work.facts,
            k=self._k,
            n_padded=self.n_padded,
        )
        limits = table.struct("Limits", drift_so_far=work.drift, limits=work.limits, n=table.n_samples)
        self._args = (
            *(table.rows, table.norms, np.float64(table.half_scale), centers, limits),
            *(np.int32(self._exact), work.moves, work.open_rows),
        )

    def launch(self) -> None:
        """See `Screen.launch`."""
        table = self._table
        constants = tuning.sparse_nearest_constants(table.dtype, self._k)
        blocks = -(-table.n_samples // tuning.SPARSE_ROWS)
        table.launch("sparse_nearest", constants, blocks, tuning.SPARSE_ROWS, self._args)


class SparseWorkspace(Workspace):
    """The workspace of a single run over rows in CSR, whose screen reads centers by column and computes in float64."""

    _table: CupySparseTable
    _half_dtype = np.dtype(np.float64)

    def __init__(self, table: CupySparseTable, n_clusters: int, n_runs: int, exact: bool) -> None:
        assert n_runs == 1
        self._copy_dtype = table.center_dtype
        screen = SparseCenters(table, n_clusters, exact)
        super().__init__(table, screen, n_clusters, n_runs, exact, table.n_features * screen.n_padded)

    def _update_constants(self, given: bool) -> tuning.Constants:
        return tuning.sparse_update_constants(self._table.dtype, given=given)

    def _accumulation(self) -> float:
        """The factor of |c|^2 / 2 in the radius of a score.

        Twice the unit roundoff for the last rounding of a score, and the roundings of |c|^2 in float64: a square and
        the sum of a thread's columns, five additions in a warp and seven of warps.
        """
        square = gamma(-(-self._table.n_features // 256) + 16.0, UNIT64)
        return square + 4.0 * UNIT64

    def launch_move(self) -> None:
        table = self._table
        args = (table.rows, table.weights, self._sum_grid, self.moves, self._sums_of_clusters)
        constants = tuning.sparse_move_constants(table.dtype, self.n_limbs, table.weights is not None)
        table.launch("sparse_move_sums", constants, tuning.stride_blocks(table.n_samples, 8), 256, args)

    def _launch_distances(self, centers: Any, weights: Any, distances: Any) -> None:
        table = self._table
        args = (
            *(table.rows, centers, self.labels, weights),
            *(np.int64(table.n_samples), np.int32(table.n_features), distances, self.largest),
        )
        constants = tuning.row_center_constants(table.dtype)
        table.launch("sparse_row_distance", constants, tuning.stride_blocks(table.n_samples, 8), 256, args)

    def decide_exactly(self, n_open: int) -> int:
        table, device = self._table, self._device
        centers = device.download(self.centers)[0]
        index = device.download(self.open_rows.reshape(-1)[:n_open]).astype(np.int64)
        n_exact = 0
        for part, labels, n in settled_rows(
            table.screen, table.host, centers, living(centers), table.largest_integer, index
        ):
            self.settle(part.start, labels)
            n_exact += n
        self.all_settled()
        return n_exact
