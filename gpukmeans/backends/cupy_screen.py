"""The kernels that find the nearest centers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gpukmeans.backends import tuning
from gpukmeans.certificates import SQUARE_UNDERFLOW, square_distance_radius

if TYPE_CHECKING:
    from gpukmeans.backends.cupy_backend import CupyRows
    from gpukmeans.backends.cupy_workspace import Workspace


class FewCenters:
    """One launch for an assignment: kernels/nearest_of_few.cu."""

    def __init__(self, rows: CupyRows, n_clusters: int, exact: bool) -> None:
        self._rows, self._k, self._exact = rows, n_clusters, exact
        self._tiles = tuning.few_tiles(n_clusters)
        #: Centers that the arrays of halves have room for.
        self.n_padded = tuning.TILE_CENTERS * self._tiles

    def launch(self, work: Workspace) -> None:
        """Bring labels, limits and lists up to date with the centers."""
        rows, d = self._rows, self._rows.n_features
        args = (
            *(rows.X, rows.norms, rows.rests, np.float64(rows.half_scale), rows.offsets),
            *(work.half_centers, work.half_squares, work.centers, work.drift, work.facts),
            *(np.int32(rows.n_samples), np.int32(self._k), np.int32(d), np.int32(tuning.n_steps(d, rows.dtype))),
            *(np.int32(self._exact), np.float64(square_distance_radius(d)), np.float64(SQUARE_UNDERFLOW)),
            *(work.labels, work.limits, work.moved_rows, work.moved_from, work.open_rows, work.control),
        )
        constants = tuning.few_constants(rows.dtype, d, rows.aligned, self._tiles)
        rows.launch("nearest_of_few", constants, (-(-rows.n_samples // tuning.FEW_ROWS), work.n_runs), 128, args)
