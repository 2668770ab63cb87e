"""The workspace of runs over dense rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda.control import Measure
from gpukmeans.backends.cuda.screens import FewCentersOfBytes, screen_for
from gpukmeans.backends.cuda.table import CupyDenseTable
from gpukmeans.backends.cuda.workspace import Workspace, living
from gpukmeans.certificates.halves import tensor_accumulation
from gpukmeans.certificates.rounding import UNIT32
from gpukmeans.certificates.scores import exact_in_float64
from gpukmeans.exact import tie_break

#: Bytes of rows that are downloaded at a time to be labelled in exact arithmetic.
EXACT_BYTES = 1 << 26


class DenseWorkspace(Workspace):
    """The workspace of runs over dense rows, whose screens read centers in half precision or as limbs."""

    _table: CupyDenseTable

    def __init__(self, table: CupyDenseTable, n_clusters: int, n_runs: int, exact: bool) -> None:
        self._n_steps = tuning.n_steps(table.n_features, table.dtype)
        screen = screen_for(table, n_clusters, exact)
        size = screen.n_padded * tuning.STEP_COLUMNS * self._n_steps
        if isinstance(screen, FewCentersOfBytes):
            self._limbs, self._copy_dtype = True, np.dtype(np.int8)
            size = tuning.limb_bytes(table.n_features)
        super().__init__(table, screen, n_clusters, n_runs, exact, size)

    def _accumulation(self) -> float:
        if self._limbs:
            return UNIT32  # exact until a score is rounded once: certificates/fixed_point.py
        return tensor_accumulation(tuning.STEP_COLUMNS * self._n_steps, self._device.tensor_cores)

    def _update_constants(self, given: bool) -> tuning.Constants:
        if self._limbs:
            return tuning.limb_update_constants(self._table.dtype, given=given)
        return super()._update_constants(given)

    def launch_move(self) -> None:
        table = self._table
        shape = tuning.move_shape(table.n_samples, table.n_features)
        args = (
            *(table.X, table.weights, self._sum_grid, np.int32(table.n_samples), np.int32(self.shared[0])),
            *(self.moves, self._sums_of_clusters),
        )
        weighted = table.weights is not None
        constants = tuning.move_constants(table.dtype, table.n_features, table.aligned, self.n_limbs, weighted)
        table.launch("move_sums", constants, (*shape.grid, self.n_runs), shape.block, args)

    def _launch_distances(self, centers: Any, weights: Any, distances: Any) -> None:
        table = self._table
        args = (table.rows, centers, np.int32(self.n_clusters), self.labels, weights, distances, self.largest)
        launch_grid = (tuning.stride_blocks(table.n_samples, 8), *self.shared)
        constants = tuning.row_center_constants(table.dtype)
        table.launch("row_distance", constants, launch_grid, 256, args)

    def decide_exactly(self, n_open: int) -> int:
        table, device = self._table, self._device
        centers = device.download(self.centers)[0]
        alive = living(centers)
        largest = float(device.download(self.measures)[0, Measure.LARGEST].max())
        whole = all(exact_in_float64(table.n_features, value) for value in (largest, table.largest_integer))
        step = max(1, EXACT_BYTES // (table.n_features * table.X.dtype.itemsize))
        open_rows = self.open_rows.reshape(-1)
        n_exact = 0
        for start in range(0, n_open, step):
            count = min(step, n_open - start)
            values = table.gather(open_rows, start, count)
            labels, n = tie_break.resolve(values, centers, alive, whole)
            n_exact += n
            self.settle(start, labels)
        self.all_settled()
        return n_exact
