"""What runs over rows in CSR keep on the device, and the kernels that work on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpukmeans.backends.csr.exact import settled_rows
from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda.workspace import Workspace, living
from gpukmeans.certificates.rounding import UNIT64, gamma

if TYPE_CHECKING:
    from gpukmeans.backends.cuda.sparse.rows import CupySparseRows

#: Centers of which a column is padded to a multiple of this: whole sectors of 32 bytes in float32.
PADDING = 8


class SparseCenters:
    """One launch for an assignment: kernels/sparse_nearest.cu."""

    #: There are no groups of centers with drifts of their own.
    n_groups = 0

    def __init__(self, rows: CupySparseRows, n_clusters: int, exact: bool) -> None:
        self.rows, self._k, self._exact = rows, n_clusters, exact
        #: Centers that a column has room for.
        self.n_padded = -(-n_clusters // PADDING) * PADDING

    def launch(self, work: Workspace) -> None:
        """Bring labels, limits and lists of a single run up to date with the centers."""
        rows, n = self.rows, self.rows.n_samples
        args = (
            *(rows.indptr, rows.indices, rows.data, rows.norms, np.float64(rows.half_scale)),
            *(work.half_centers, work.half_squares, work.drift, work.facts),
            *(np.int32(n), np.int32(self._k), np.int32(self.n_padded), np.int32(self._exact)),
            *(work.labels, work.limits, work.moved_rows, work.moved_from, work.open_rows, work.control),
        )
        constants = tuning.sparse_nearest_constants(rows.dtype, self._k)
        rows.launch("sparse_nearest", constants, -(-n // tuning.SPARSE_ROWS), tuning.SPARSE_ROWS, args)


class SparseWorkspace(Workspace):
    """Of a single run over rows in CSR, whose screen reads the centers column by column, in float64 as it goes."""

    _rows: CupySparseRows
    _half_dtype = np.dtype(np.float64)

    def __init__(self, rows: CupySparseRows, n_clusters: int, exact: bool) -> None:
        self._copy_dtype = rows.center_dtype
        screen = SparseCenters(rows, n_clusters, exact)
        super().__init__(rows, screen, n_clusters, 1, exact, rows.n_features * screen.n_padded)

    def _update_constants(self, given: bool) -> tuning.Constants:
        return tuning.sparse_update_constants(self._rows.dtype, given=given)

    def _accumulation(self) -> float:
        """Twice the unit for the last rounding of a score, and what |c|^2 rounds in float64: its square with the sum of
        a thread's columns, five additions in a warp and seven of warps."""
        square = gamma(-(-self._rows.n_features // 256) + 16.0, UNIT64)
        return square + 4.0 * UNIT64

    def launch_move(self) -> None:
        rows, grid, weights = self._rows, self.need_grid(), self.weight_grid
        args = (
            *(rows.indptr, rows.indices, rows.data, rows.weights, rows.facts.scale, np.float64(2.0**grid.bits)),
            *(np.float64(weights.scale[0]), np.float64(2.0**weights.bits)),
            *(np.int32(self.n_clusters), np.int32(rows.n_features)),
            *(self.moved_rows, self.moved_from, self.labels, self.sums, self.weights, self.control),
        )
        constants = tuning.sparse_move_constants(rows.dtype, self.n_limbs, rows.weights is not None)
        rows.launch("sparse_move_sums", constants, tuning.stride_blocks(rows.n_samples, 8), 256, args)

    def launch_distances(self, centers: Any, weights: Any, distances: Any) -> Any:
        rows = self._rows
        largest = self._device.empty(1, np.float64)
        self._device.fill(largest, 0)
        args = (
            *(rows.indptr, rows.indices, rows.data, centers, self.labels, weights),
            *(np.int64(rows.n_samples), np.int32(rows.n_features), distances, largest),
        )
        constants = tuning.row_center_constants(rows.dtype)
        rows.launch("sparse_row_distance", constants, tuning.stride_blocks(rows.n_samples, 8), 256, args)
        return largest

    def decide_exactly(self, n_open: int) -> int:
        rows, device = self._rows, self._device
        centers = device.download(self.centers)[0]
        index = device.download(self.open_rows.reshape(-1)[:n_open]).astype(np.int64)
        n_exact = 0
        for part, labels, n in settled_rows(
            rows.screen, rows.table, centers, living(centers), rows.largest_integer, index
        ):
            self.settle(part.start, labels)
            n_exact += n
        self.all_settled()
        return n_exact
