"""One run of Lloyd's algorithm over sparse rows on the CPU: skip, screen, resolve, move, as over dense ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from gpukmeans.backends.numpy_groups import GroupBounds
from gpukmeans.backends.numpy_projection import Anchors
from gpukmeans.backends.numpy_run import NumpyRun
from gpukmeans.backends.numpy_screen import FullScreen, Index, rows_to_screen
from gpukmeans.backends.numpy_sparse_exact import ExactCenters
from gpukmeans.backends.numpy_sparse_screen import SparseFullScreen
from gpukmeans.backends.numpy_sparse_sums import SparseSums
from gpukmeans.backends.numpy_sparse_table import own_square_distances
from gpukmeans.exact_sums import F64, Grid
from gpukmeans.threads import Workers, parts_of, workers
from gpukmeans.tie_break import exact_squares

if TYPE_CHECKING:
    from gpukmeans.backends.numpy_sparse import SparseRows


class SparseRun(NumpyRun):
    """A run whose rows lie in CSR.  Drift bounds skip; float32 products screen; float64 products and exact sums settle.

    Groups of centers and projections, which read dense rows, are left out.
    """

    _rows: SparseRows  # type: ignore[assignment]

    def _new_groups(self) -> None:
        return None

    def _new_sums(self, grid: Grid) -> SparseSums:
        return SparseSums(self._rows.X, self._rows.sample_weight, grid, len(self._centers))

    def _full_screen(self, alive: NDArray[np.int64]) -> FullScreen:
        screen = SparseFullScreen(self._rows.screen(), self._centers[alive], np.dtype(np.float32))
        return cast(FullScreen, screen)  # what a run asks of one

    def _anchors_for(self, looked_at: NDArray[np.int64] | None, before: NDArray, n_alive: int) -> Anchors | None:
        return None

    def _mind_infinities(self, some: Index) -> None:
        """The entries of sparse rows are checked where they come in."""

    def _resolve(
        self,
        undecided: NDArray[np.int64] | None,
        alive: NDArray[np.int64],
        screen: FullScreen | GroupBounds | None,
        pool: Workers,
    ) -> int:
        """Label rows by float64 products and exact arithmetic; returns how many needed the latter."""
        rows = self._rows
        index = np.arange(rows.n_samples) if undecided is None else undecided
        centers = self._centers[alive]
        exact = exact_squares(rows.largest_integer(), self._centers)
        wide = SparseFullScreen(rows.screen(), centers, np.dtype(np.float64), exact=exact)
        last = ExactCenters(rows.X, centers)

        def settle(part: slice) -> int:
            some = index[part]
            candidates, best = wide.candidates(some)
            open_ = np.flatnonzero(candidates.sum(axis=1) > 1) if not exact else np.zeros(0, np.int64)
            if len(open_):
                best[open_] = last.nearest(some[open_], candidates[open_])
            self._labels[some] = alive[best]
            if self._bounds is not None:
                self._bounds.void(some)
            return len(open_)

        return sum(settle(part) for part in parts_of(len(index), rows_to_screen(len(alive))))

    def _own_distances(self, centers: NDArray) -> F64:
        with workers(self._rows.X.size) as pool:
            return own_square_distances(self._rows.X, self._labels, centers, pool)
