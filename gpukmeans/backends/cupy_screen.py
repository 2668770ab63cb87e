"""The kernels that find the nearest centers, and the buffers in which they are told of the centers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpukmeans.backends import tuning
from gpukmeans.certificates import SQUARE_UNDERFLOW, square_distance_radius

if TYPE_CHECKING:
    from gpukmeans.backends.cupy_backend import CupyRows


class FewCenters:
    """One launch for an assignment: kernels/nearest_of_few.cu."""

    def __init__(self, rows: CupyRows, n_clusters: int, exact: bool) -> None:
        self._rows, self._k, self._exact = rows, n_clusters, exact
        self.n_padded = tuning.TILE_CENTERS * tuning.few_tiles(n_clusters)

    def launch(
        self,
        C: Any,
        half_centers: Any,
        half_squares: Any,
        drift: Any,
        facts: Any,
        labels: Any,
        limits: Any,
        control: Any,
    ) -> None:
        """Bring labels up to date with the centers."""
        rows, d = self._rows, self._rows.n_features
        tiles = tuning.few_tiles(self._k)
        args = (
            *(rows.X, rows.norms, rows.rests, np.float64(rows.half_scale), rows.offsets),
            *(half_centers, half_squares, C, drift, facts),
            *(np.int32(rows.n_samples), np.int32(self._k), np.int32(d), np.int32(tuning.n_steps(d, rows.dtype))),
            *(np.int32(self._exact), np.float64(square_distance_radius(d)), np.float64(SQUARE_UNDERFLOW)),
            *(labels, limits, rows.moved_rows, rows.moved_from, rows.open_rows, control),
        )
        constants = tuning.few_constants(rows.dtype, d, rows.aligned, tiles)
        rows.launch("nearest_of_few", constants, -(-rows.n_samples // tuning.FEW_ROWS), 128, args)
