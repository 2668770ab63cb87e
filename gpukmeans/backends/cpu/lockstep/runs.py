"""Several runs at once over few rows: one product, one screen and one move an iteration for all of them.

On small problems an iteration costs the calls it makes, not the arithmetic in them.  Here the scores of all centers of
all runs come out of one float32 product, and sums, means and shifts of all runs are taken together.  One thread does
it: on scikit-learn's digits a second one made fits take 3 to 18 % longer.  What the scores leave open is settled by
float64 distances and, beyond these, by exact arithmetic, so every run ends in the bits that it ends in alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from gpukmeans.arrays.types import F64, Limit
from gpukmeans.backends.cpu.lockstep.steps import ManyAssigned, finish_in_steps
from gpukmeans.backends.protocol import Ended, Updated
from gpukmeans.certificates.rounding import LARGEST_NORM32, SMALLEST_NORM32, SQUARE_UNDERFLOW
from gpukmeans.certificates.scores import square_distance_radius, stacked_score_radius
from gpukmeans.exact.sums import EXACT_FLOAT64_ROWS, Grid, exact_total, means_of_parts, weight_grid, weighted_rows
from gpukmeans.exact.tie_break import exact_squares, first_of_equal_rows, resolve
from gpukmeans.exact.warp_order import center_shift_square, row_square_distances
from gpukmeans.threads import blocks, parts_of

#: Values (rows times features) up to which a problem is small.
SMALL_VALUES = 1 << 18
#: Scores of all runs that advance together: few enough to stay in a core's cache.
SCORES = 1 << 18
#: Differences (rows times centers times features) that are taken at a time where scores leave rows open.
DIFFERENCES = 1 << 20
#: Values that are worked on at a time where fresh memory would cost more than the work.
BLOCK = 1 << 14
#: Multiply-adds up to which a dense product costs less than making a sparse matrix.
DENSE_PRODUCT = 1 << 18


def runs_at_a_time(n_samples: int, n_features: int, n_clusters: int) -> int:
    """How many runs advance together best; 0 where the problem is too large to be run so."""
    if n_samples * n_features > SMALL_VALUES or 2 * n_samples > EXACT_FLOAT64_ROWS:
        return 0
    scores = n_samples * n_clusters
    return max(1, SCORES // scores) if scores <= 2 * SCORES else 0


class SmallRows:
    """What all runs read of the rows, made once a fit."""

    def __init__(self, X: NDArray, sample_weight: F64 | None, largest_integer: float) -> None:
        self.X = X
        self.sample_weight = sample_weight
        self.largest_integer = largest_integer
        n = len(X)
        self.wide = X.astype(np.float64, copy=False)
        self.mean = self.wide.mean(axis=0)
        self.shifted = self.wide - self.mean
        self.squares = np.vecdot(self.shifted, self.shifted)
        #: Upper bounds of |x - mean|, never so small that float32 products about them vanish.
        self.norms = np.sqrt(self.squares) * (1.0 + 2.0**-20) + 2.0**-60
        self.in_range = bool(self.norms.max() < LARGEST_NORM32)
        self._stacked: NDArray[np.float32] | None = None
        self._summands: F64 | None = None
        self.weight_grid = weight_grid(n, sample_weight)

    def scatter_bounds(self, center_dtype: np.dtype) -> tuple[float, float]:
        """See `gpukmeans.backends.Rows`.

        Notes
        -----
        The squares, their sum and the inertia in warp order round by less than gamma(2 n_samples + 2 n_features).  The
        mean here and the center there are off the true mean by 2**-34 and two roundings of what is at most the norm of
        a row; they add the square of that for each row.
        """
        total = float(self.squares.sum())
        reach = float(np.sqrt(np.vecdot(self.mean, self.mean)) + self.norms.max())
        off = len(self.X) * (reach * (2.0**-34 + 2.0 * float(np.finfo(center_dtype).eps))) ** 2 + SQUARE_UNDERFLOW
        return max(0.0, total * (1.0 - 2.0**-30) - off), total * (1.0 + 2.0**-30) + off

    def stacked(self) -> NDArray[np.float32]:
        """(n_features + 1, n_samples): the shifted rows as columns, over a row of ones."""
        if self._stacked is None:
            n, d = self.X.shape
            self._stacked = np.ones((d + 1, n), np.float32)
            self._stacked[:d] = self.shifted.astype(np.float32).T
        return self._stacked

    def summands(self, grid: Grid) -> F64:
        """(n_samples, n_limbs * n_features + n_weight_limbs): all that is summed, as whole numbers."""
        if self._summands is None:
            n, d = self.X.shape
            weight = np.ones((n, 1)) if self.sample_weight is None else self.sample_weight[:, None]
            table = np.empty((n, grid.n_limbs * d + self.weight_grid.n_limbs))
            for part in parts_of(n, max(32, BLOCK // d)):
                values = weighted_rows(self.X, self.sample_weight, part)
                for i, limb in enumerate(grid.limbs(values)):
                    table[part, i * d : (i + 1) * d] = limb
            for i, limb in enumerate(self.weight_grid.limbs(weight)):
                table[:, grid.n_limbs * d + i] = limb[:, 0]
            self._summands = table
        return self._summands


class NumpyRuns:
    """Runs of Lloyd's algorithm that advance together.

    Parameters
    ----------
    rows : SmallRows
    grid : Grid
    centers : ndarray of shape (n_runs, n_clusters, n_features)
        In the center dtype of the fit.
    """

    def __init__(self, rows: SmallRows, grid: Grid, centers: NDArray) -> None:
        self._rows = rows
        self._grid = grid
        self._centers = self._assigned = centers
        n_runs, k, _ = centers.shape
        n = len(rows.X)
        self._labels: NDArray | None = None
        # The sum of a row's nearest centers, by these numbers, tells whether there is one, and which.
        self._one = 1 << (k - 1).bit_length()
        numbers = self._one + np.arange(k)
        self._index = np.min_scalar_type(int(numbers.sum()))
        self._numbers = numbers.astype(self._index)[:, None]
        self._scores = np.empty((n_runs * k, n), np.float32)
        self._near = np.empty((n_runs * k, n), bool)
        self._hits = np.empty((n_runs * k, n), self._index)
        self._best = np.empty((n_runs, n), np.float32)
        self._largest = 0.0  # an upper bound of the norms of the centers so far
        self._reach = np.zeros(n, np.float32)  # by how much the score of the nearest center may exceed the lowest
        self._summands = rows.summands(grid)
        self._sums = np.zeros((n_runs * k, self._summands.shape[1]))

    def finish(self, max_iter: int, tols: Sequence[Limit]) -> list[Ended | None]:
        """See `gpukmeans.backends.Runs`."""
        return finish_in_steps(self, max_iter, tols)

    def assign(self) -> ManyAssigned | None:
        """Give every row its true nearest center in every run, and bring the sums along.

        None, and nothing done, where float32 does not reach the centers.
        """
        n_runs, k, d = self._centers.shape
        moved = self._centers.reshape(-1, d) - self._rows.mean
        squares = np.einsum("ij,ij->i", moved, moved)
        largest = float(np.sqrt(squares.max())) * (1.0 + 2.0**-20)
        if not (self._rows.in_range and SMALLEST_NORM32 <= largest < LARGEST_NORM32):
            return None
        self._assigned = self._centers
        if largest > self._largest:
            self._largest = largest
            radius = stacked_score_radius(d, largest)
            self._reach = (self._rows.norms * (2.0 * radius.per_norm) + 2.0 * radius.constant).astype(np.float32)
        labels, open_run, open_row = self._screen(moved, squares, n_runs, k)
        n_exact = np.zeros(n_runs, np.int64)
        step = max(64, DIFFERENCES // (k * d))
        for part in parts_of(len(open_run), step):
            self._settle(labels, open_run[part], open_row[part], n_exact)
        n_open = np.bincount(open_run, minlength=n_runs)
        before, self._labels = self._labels, labels
        changed = np.ones(labels.shape, bool) if before is None else labels != before
        n_moved = np.add.reduce(changed, axis=1, dtype=np.int64)
        if n_moved.any():
            self._move(changed, before)
        return ManyAssigned(n_moved, labels.shape[1] - n_open, n_open - n_exact, n_exact)

    def _screen(
        self, moved: F64, squares: F64, n_runs: int, k: int
    ) -> tuple[NDArray, NDArray[np.intp], NDArray[np.intp]]:
        """Labels by scores |c|^2 - 2 x.c, and run and row of those that more than one center may be nearest to."""
        n, d = self._rows.X.shape
        factors = np.empty((len(moved), d + 1), np.float32)
        np.multiply(moved, -2.0, out=factors[:, :d], casting="same_kind")
        factors[:, d] = squares
        scores = np.matmul(factors, self._rows.stacked(), out=self._scores[: len(moved)]).reshape(n_runs, k, n)
        best = np.minimum.reduce(scores, axis=1, out=self._best[:n_runs])
        near = np.less_equal(scores, (best + self._reach)[:, None], out=self._near[: len(moved)].reshape(n_runs, k, n))
        hits = np.multiply(near.view(np.uint8), self._numbers, out=self._hits[: len(moved)].reshape(n_runs, k, n))
        labels = np.add.reduce(hits, axis=1, dtype=self._index)
        labels -= self._index.type(self._one)
        open_run, open_row = np.divmod(np.flatnonzero(labels >= self._one), n)
        return labels, open_run, open_row

    def _settle(
        self, labels: NDArray, runs: NDArray[np.intp], rows: NDArray[np.intp], n_exact: NDArray[np.int64]
    ) -> None:
        """Label some rows of some runs by float64 distances and, where these overlap, by exact arithmetic."""
        n_runs, k, d = self._centers.shape
        near = self._near[: n_runs * k].reshape(n_runs, k, -1)[runs, :, rows]
        place, center = np.nonzero(near)
        difference = self._rows.wide[rows[place]] - self._centers[runs[place], center]
        square = np.einsum("ij,ij->i", difference, difference)
        distances = np.full(near.shape, np.inf)
        distances[place, center] = square
        labels[runs, rows] = distances.argmin(axis=1)
        lowest = distances.min(axis=1)[place]
        close = ~(square - lowest > square_distance_radius(d) * (square + lowest) + SQUARE_UNDERFLOW)
        tied = np.flatnonzero(np.bincount(place[close], minlength=len(runs)) > 1)
        for run in np.unique(runs[tied]):
            mine = tied[runs[tied] == run]
            centers = self._centers[run]
            first = first_of_equal_rows(centers)
            alive = np.flatnonzero(first == np.arange(k))
            exact = exact_squares(self._rows.largest_integer, centers)
            settled, n = resolve(self._rows.X[rows[mine]], centers, alive, exact, near[mine][:, alive])
            labels[run, rows[mine]] = settled
            n_exact[run] += n

    def _move(self, changed: NDArray[np.bool_], before: NDArray | None) -> None:
        """Bring the exact sums from the old labels to the new ones.

        Whole numbers up to 2**36, at most 2 * n_samples <= 2**17 of them: exact in float64, in every order.
        """
        assert self._labels is not None
        k, (n_runs, n) = len(self._numbers), changed.shape
        pairs = np.flatnonzero(changed)
        if n_runs * k * len(pairs) * self._summands.shape[1] <= DENSE_PRODUCT:
            run, row = np.divmod(pairs, n)
            first, place = run * k, np.arange(len(pairs))
            signs = np.zeros((n_runs * k, len(pairs)))
            signs[first + self._labels.ravel()[pairs], place] = 1.0
            if before is not None:
                signs[first + before.ravel()[pairs], place] = -1.0
            self._sums += signs @ self._summands.take(row, axis=0)
            return
        row, run = np.divmod(np.flatnonzero(changed.T), n_runs)
        first = run * k
        signs, clusters = np.ones(len(row)), first + self._labels[run, row]
        starts = np.zeros(n + 1, np.int32)
        changed.sum(axis=0, dtype=np.int32).cumsum(out=starts[1:])
        if before is not None:
            signs = np.stack([signs, -signs], axis=1).ravel()
            clusters = np.stack([clusters, first + before[run, row]], axis=1).ravel()
            starts *= 2
        incidence = sparse.csc_array((signs, clusters.astype(np.int32), starts), shape=(n_runs * k, n))
        self._sums += incidence @ self._summands

    def update(self) -> Updated:
        """Replace the centers by the means of the exact sums; of shape (n_runs, n_clusters) each."""
        n_runs, k, d = self._centers.shape
        rows, grid, wide = self._rows, self._grid, self._grid.n_limbs * d
        # Whole numbers below 2**53: the high part of a sum is its first limb, and nothing is left over.
        high, low = self._sums[:, :d], np.zeros(1)
        if grid.n_limbs == 2:
            low = low + self._sums[:, d:wide] * 2.0**-grid.bits
        weights = self._sums[:, wide]
        if rows.sample_weight is not None:
            weights = rows.weight_grid.value(self._sums[:, wide:].astype(np.int64).T[:, :, None])[:, 0]
        before = self._centers.reshape(-1, d)
        centers = means_of_parts(high, low, weights, grid, before.dtype)
        shift = center_shift_square(centers, before)
        self._centers = centers.reshape(n_runs, k, d)
        return Updated(weights.reshape(n_runs, k), shift.reshape(n_runs, k))

    def keep(self, which: NDArray[np.bool_]) -> None:
        """Go on with these runs only."""
        assert self._labels is not None
        k = len(self._numbers)
        self._centers, self._assigned = self._centers[which], self._assigned[which]
        self._labels = self._labels[which]
        self._sums = self._sums.reshape(len(which), k, -1)[which].reshape(-1, self._sums.shape[1])

    def outcome(self, run: int) -> tuple[NDArray[np.int32], NDArray]:
        """The labels of a run and the centers that they belong to."""
        assert self._labels is not None
        return self._labels[run].astype(np.int32), self._assigned[run]

    def inertia_bounds(self) -> tuple[F64, F64]:
        """A lower and an upper bound of the inertia of each run, from the scores of the last `assign`.

        The lowest score of a row lies within its radius of |c|^2 - 2 x.c for its own center.  Room is left for the
        float64 roundings on both ways: a few times (n_samples + n_features) 2**-53, of at most 2 (|x|^2 + |c|^2) a row.
        """
        rows = self._rows
        best = self._best[: len(self._centers)].astype(np.float64)
        error = 0.5 * self._reach.astype(np.float64)
        error += 2.0**-30 * (rows.squares + self._largest * self._largest)
        best += rows.squares
        if rows.sample_weight is None:
            total, slack = best.sum(axis=1), float(error.sum())
        else:
            total, slack = best @ rows.sample_weight, float(error @ rows.sample_weight)
        slack *= 1.0 + 2.0**-20
        return total - slack, total + slack

    def inertia(self, labels: NDArray[np.int32], centers: NDArray) -> float:
        """As `Run.inertia`."""
        rows = self._rows
        wide = centers.astype(np.float64)
        distances = np.empty(len(labels))
        for part in blocks(len(labels), wide.shape[1], 64):
            distances[part] = row_square_distances(rows.X, part, wide[labels[part]])
        return exact_total(distances if rows.sample_weight is None else distances * rows.sample_weight)
