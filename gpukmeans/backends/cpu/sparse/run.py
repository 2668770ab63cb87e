"""One run of Lloyd's algorithm over sparse rows on the CPU: skip, screen, resolve, move, as over dense ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64, Index
from gpukmeans.backends.cpu.run import NumpyRun
from gpukmeans.backends.cpu.screens.components import Anchors
from gpukmeans.backends.cpu.screens.full import FullScreen
from gpukmeans.backends.cpu.screens.groups import GroupBounds
from gpukmeans.backends.cpu.sparse.sums import SparseSums
from gpukmeans.backends.csr.exact import settled_rows
from gpukmeans.backends.csr.scores import SparseFullScreen, block_squares, square_roundings
from gpukmeans.backends.csr.table import own_products, own_square_distances
from gpukmeans.certificates.rounding import SQUARE_UNDERFLOW, UNIT64, gamma
from gpukmeans.certificates.scores import square_distance_radius
from gpukmeans.certificates.sparse import sparse_score_radius
from gpukmeans.exact.sums import Grid
from gpukmeans.threads import Workers, workers

if TYPE_CHECKING:
    from gpukmeans.backends.cpu.sparse.rows import SparseRows


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
        n_exact = 0
        for part, labels, n in settled_rows(rows.screen(), rows.X, self._centers, alive, rows.largest_integer(), index):
            self._labels[index[part]] = labels
            if self._bounds is not None:
                self._bounds.void(index[part])
            n_exact += n
        return n_exact

    def inertia_bounds(self) -> tuple[float, float]:
        """A lower and an upper bound of `inertia`, from the stored entries alone and without the warp order.

        Notes
        -----
        Each |x - c|^2 is taken as |x|^2 + (|c|^2 - 2 x.c): the radius of float64 scores bounds the second part, gamma
        of the entries the first, and two roundings more are within those of a row of two entries more.  Sums of n
        terms, and their products with weights, round by gamma(n + 1) of the summed magnitudes.  What `inertia` returns
        is off itself by `square_distance_radius`, the products with the weights and one rounding.
        """
        rows = self._rows
        screen, table, centers = rows.screen(), rows.X, self._centers
        roundings = square_roundings(rows.n_features)
        squares = block_squares(centers)
        largest = float(np.sqrt(squares.max())) * (1.0 + 2.0**-20)
        products = own_products(table, self._labels, centers)
        distances = screen.squares + (squares[self._labels] - 2.0 * products)
        magnitudes = screen.norms * screen.norms + largest * largest + 2.0 * screen.norms * largest
        radii = sparse_score_radius(table.counts + 2, screen.norms, largest, roundings + 2, UNIT64)
        radii += gamma(float(table.counts.max(initial=0)) + 4.0, UNIT64) * magnitudes
        weight = 1.0 if rows.sample_weight is None else rows.sample_weight
        total = float((distances * weight).sum())
        error = float((radii * weight).sum()) * (1.0 + 2.0**-20)
        error += gamma(rows.n_samples + 4.0, UNIT64) * float((magnitudes * weight).sum())
        relative = square_distance_radius(rows.n_features) + 2.0**-50
        underflow = SQUARE_UNDERFLOW * rows.n_samples * (1.0 + float(np.max(weight)))
        lowest = (total - error) * (1.0 - relative) - underflow
        return max(0.0, lowest), (total + error) * (1.0 + relative) + underflow

    def _own_distances(self, centers: NDArray) -> F64:
        with workers(self._rows.X.size) as pool:
            return own_square_distances(self._rows.X, self._labels, centers, pool)
