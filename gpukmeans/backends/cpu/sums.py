"""The exact sums of the clusters on the CPU, kept up to date by the rows that change sides."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from gpukmeans.arrays.types import F64, I64
from gpukmeans.exact.sums import EXACT_FLOAT64_ROWS, Grid, cluster_means, weight_grid, weighted_rows
from gpukmeans.exact.warp_order import center_shift_square
from gpukmeans.threads import Workers, parts_of

#: Rows that are summed at a time at most, and their values in float64, about: few enough to stay in a cache, enough to
#: pay for a sparse matrix.
MOVE_ROWS, MOVE_VALUES = 1024, 1 << 18
#: Rows that are summed in float64 before they are added to integers, and how often one may count there.
EXACT_ROWS, PIECE = EXACT_FLOAT64_ROWS // 2, EXACT_FLOAT64_ROWS // 4
#: Fewer rows are not worth a second thread.
LEAST = 512
#: Multiply-adds up to which a dense product costs less than making a sparse matrix.
DENSE_PRODUCT = 1 << 20
#: Features up to which rows are summed column by column, and rows of a block of these.
NARROW, NARROW_ROWS = 8, 1 << 14
#: Features that are summed at a time: their blocks of rows should stay in a core's cache.
COLUMNS = 1 << 11
#: Values of centers that are made at a time.
MEAN_VALUES = 1 << 16


class ClusterSums:
    """Exact sums of rows and weights for each cluster, as limbs (gpukmeans/exact/sums.py); a subclass adds the rows.

    Attributes
    ----------
    sums : ndarray of shape (n_limbs, n_clusters, n_features), int64
    weights : ndarray of shape (n_weight_limbs, n_clusters), int64
        On the grid `weights_on`; that of these rows' weights unless they are part of more rows.
    touched : ndarray of shape (n_clusters,), bool
        Clusters whose sums have changed since their centers were computed.
    stands_for : ndarray of shape (n_samples,), int64, or None
        The rows that callers name each stand for all rows with this number; None: for themselves.
    """

    stands_for: I64 | None = None

    def __init__(
        self,
        shape: tuple[int, int],
        sample_weight: F64 | None,
        grid: Grid,
        n_clusters: int,
        weights_on: Grid | None = None,
    ) -> None:
        n_samples, n_features = shape
        self._weight, self._grid = sample_weight, grid
        self._weight_grid = weights_on or weight_grid(n_samples, sample_weight)
        self.sums = np.zeros((grid.n_limbs, n_clusters, n_features), np.int64)
        self.weights = np.zeros((self._weight_grid.n_limbs, n_clusters), np.int64)
        self.touched = np.ones(n_clusters, bool)

    def move(
        self, rows: NDArray[np.int64], old: NDArray[np.int32], new: NDArray[np.int32], all_new: NDArray, pool: Workers
    ) -> None:
        """Move rows from the clusters `old` (-1: none) to the clusters `new`; `all_new` are the labels of all rows.

        Where more than half of the rows move, all rows are added afresh, which costs less than the differences.
        """
        if 2 * len(rows) > len(all_new):
            self.sums[:] = 0
            self.weights[:] = 0
            self.touched[:] = True
            rows, new = np.arange(len(all_new)), all_new
            old = np.full(len(new), -1, np.int32)
        self.add(rows, old, new, pool)

    def add(self, rows: NDArray[np.int64], old: NDArray[np.int32], new: NDArray[np.int32], pool: Workers) -> None:
        """As `move`, by differences only."""
        first = bool((old < 0).all())
        assert first or (old >= 0).all(), "either all rows of an update are new or none"
        index, before, after = rows, old, new
        if self.stands_for is not None:
            place = np.full(len(self.stands_for), -1)  # there are no more of them
            place[rows] = np.arange(len(rows))
            of_all = place[self.stands_for]
            index = np.flatnonzero(of_all >= 0)
            before, after = old[of_all[index]], new[of_all[index]]
        self._add(index, None if first else before, after, pool)
        self.touched[new] = True
        if not first:
            self.touched[old] = True

    def _add(
        self, rows: NDArray[np.int64], old: NDArray[np.int32] | None, new: NDArray[np.int32], pool: Workers
    ) -> None:
        """Add rows to the sums and weights of `new`, and take them out of those of `old`, if there are any."""
        raise NotImplementedError

    def total_weights(self) -> F64:
        """(n_clusters,) float64."""
        return self._weight_grid.value(self.weights[:, :, None])[:, 0]

    def means(self, before: NDArray, pool: Workers) -> tuple[NDArray, F64, F64]:
        """New centers (those of untouched clusters are the ones before), summed weights, |new - before|^2."""
        weights = self.total_weights()
        centers = before.copy()
        shift = np.zeros(len(before))
        new = np.flatnonzero(self.touched)

        def make(part: slice) -> None:
            some = new[part]
            centers[some] = cluster_means(self.sums[:, some], weights[some], self._grid, before.dtype)
            shift[some] = center_shift_square(centers[some], before[some])

        pool.map(make, parts_of(len(new), max(1, MEAN_VALUES // before.shape[1])))
        self.touched[:] = False
        return centers, weights, shift


class DenseSums(ClusterSums):
    """Sums of rows in an array, by products with an incidence matrix.

    Parameters
    ----------
    counts : ndarray of shape (n_samples,), int64, or None
        How often each row counts; only without weights.
    """

    def __init__(
        self,
        X: NDArray,
        sample_weight: F64 | None,
        grid: Grid,
        n_clusters: int,
        weights_on: Grid | None = None,
        counts: I64 | None = None,
    ) -> None:
        super().__init__(X.shape, sample_weight, grid, n_clusters, weights_on)
        self._X, self._counts = X, counts

    def _add(
        self, rows: NDArray[np.int64], old: NDArray[np.int32] | None, new: NDArray[np.int32], pool: Workers
    ) -> None:
        grid = self._grid
        touched = np.unique(new) if old is None else np.union1d(new, old)
        place = np.zeros(len(self.touched), np.int32)
        place[touched] = np.arange(len(touched))
        counts = None if self._counts is None else self._counts[rows]
        self._add_counts(old, new, counts)
        # Sums of whole numbers up to 2**36 over so many rows are exact in float64.
        parts, in_pieces = pool.share(len(rows), EXACT_ROWS, LEAST), False
        if counts is not None and counts.sum() > EXACT_ROWS:
            repeats = -(-counts // PIECE)  # a row that counts often counts in pieces
            counts, some = _pieces(counts, repeats), np.arange(len(rows)).repeat(repeats)
            rows, new, old = rows[some], new[some], None if old is None else old[some]
            ends = np.append(np.flatnonzero(np.diff(np.cumsum(counts) // (EXACT_ROWS - PIECE))) + 1, len(rows))
            parts, in_pieces = [slice(start, stop) for start, stop in pairwise([0, *ends.tolist()])], True

        def add(part: slice) -> tuple[I64, I64]:
            d, width = self._X.shape[1], min(self._X.shape[1], COLUMNS)
            total = np.zeros((grid.n_limbs, len(touched), d))
            weights = np.zeros((len(self.weights), len(touched)))
            # As many rows as sums at least, which are added up once for each block of rows.
            most = min(MOVE_ROWS, max(MOVE_VALUES // width, len(touched)), part.stop - part.start)
            room = np.empty((grid.n_limbs, most, width))
            for block in parts_of(part.stop - part.start, most):
                index = rows[part][block]
                leaving, entering = None if old is None else old[part][block], new[part][block]
                dense = len(touched) * len(index) * width <= DENSE_PRODUCT
                times = None if counts is None else counts[part][block]
                signs = _incidence(leaving, entering, place, len(touched), dense, times)
                some = index if in_pieces else _as_slice(index)
                weight = None if self._weight is None else self._weight[some]
                # Rows that stream are read once, those in memory a part of their columns at a time.
                x, of_block = (self._X, some) if isinstance(self._X, np.ndarray) else (self._X[some], slice(None))
                for columns in parts_of(d, width):
                    here, *more = room[:, : len(index), : columns.stop - columns.start]
                    values = x[of_block, columns]
                    if weight is not None or values.dtype != np.float64:
                        values = weighted_rows(values, weight, slice(None), out=here)
                    if grid.n_limbs == 1:  # on the grid already: a power of two apart from whole numbers
                        total[0, :, columns] += signs @ values
                    else:
                        limbs = grid.of_columns(columns).limbs(values, (here, *more))
                        for limb, sums in zip(limbs, total[:, :, columns], strict=True):
                            sums += signs @ limb
                if weight is not None:
                    for limb, sums in zip(self._weight_grid.limbs(weight[:, None]), weights, strict=True):
                        sums += (signs @ limb)[:, 0]
            if grid.n_limbs == 1:
                total *= grid.scale
            return total.astype(np.int64), weights.astype(np.int64)

        for first in range(0, len(parts), pool.threads):
            for total, weights in pool.map(add, parts[first : first + pool.threads]):
                self.sums[:, touched] += total
                self.weights[:, touched] += weights

    def _add_counts(self, old: NDArray[np.int32] | None, new: NDArray[np.int32], counts: I64 | None) -> None:
        """The weights of rows without weights."""
        if self._weight is None:
            k = len(self.touched)
            self.weights[0] += np.bincount(new, counts, k).astype(np.int64)
            if old is not None:
                self.weights[0] -= np.bincount(old, counts, k).astype(np.int64)


def _pieces(counts: I64, repeats: I64) -> I64:
    """Counts in pieces of `PIECE`, and what is left of each last."""
    pieces = np.full(int(repeats.sum()), PIECE)
    pieces[repeats.cumsum() - 1] = counts - (repeats - 1) * PIECE
    return pieces


class NarrowSums(ClusterSums):
    """Sums of rows of few features, column by column, in whole numbers.

    Parameters
    ----------
    counts : ndarray of shape (n_samples,), int64, or None
        How often each row counts; only without weights.
    """

    def __init__(
        self, X: NDArray, sample_weight: F64 | None, grid: Grid, n_clusters: int, counts: I64 | None = None
    ) -> None:
        super().__init__(X.shape, sample_weight, grid, n_clusters)
        self._X, self._counts = X, counts

    def _add(
        self, rows: NDArray[np.int64], old: NDArray[np.int32] | None, new: NDArray[np.int32], pool: Workers
    ) -> None:
        k, d = len(self.touched), self._X.shape[1]

        def add(part: slice) -> tuple[I64, I64]:
            total, weights = np.zeros((len(self.sums), d, k), np.int64), np.zeros((len(self.weights), k), np.int64)
            for block in parts_of(part.stop - part.start, NARROW_ROWS):
                index = rows[part][block]
                entering = new[part][block].astype(np.intp)
                leaving = None if old is None else old[part][block].astype(np.intp)

                def put(sums: I64, values: I64, to: I64 = entering, out: I64 | None = leaving) -> None:
                    np.add.at(sums, to, values)
                    if out is not None:
                        np.subtract.at(sums, out, values)

                counts = None if self._counts is None else self._counts[index]
                values = weighted_rows(self._X, self._weight, _as_slice(index)).astype(np.float64, copy=False)
                for limb, sums in zip(self._grid.limbs(values), total, strict=True):
                    whole = limb.T.astype(np.int64, order="C")
                    for column, of_column in zip(whole, sums, strict=True):
                        put(of_column, column if counts is None else column * counts)
                if self._weight is not None:
                    for limb, sums in zip(self._weight_grid.limbs(self._weight[index, None]), weights, strict=True):
                        put(sums, limb[:, 0].astype(np.int64))
                else:
                    put(weights[0], np.ones(len(index), np.int64) if counts is None else counts)
            return total, weights

        for total, weights in pool.map(add, pool.share(len(rows), len(rows), LEAST)):
            self.sums += total.transpose(0, 2, 1)
            self.weights += weights


def _as_slice(index: NDArray[np.int64]) -> slice | NDArray[np.int64]:
    """A run of neighbouring rows as a slice, which NumPy reads without a copy."""
    if len(index) and index[-1] - index[0] + 1 == len(index):
        return slice(int(index[0]), int(index[-1]) + 1)
    return index


def _incidence(
    old: NDArray[np.int32] | None,
    new: NDArray[np.int32],
    place: NDArray[np.int32],
    n_places: int,
    dense: bool,
    counts: I64 | None = None,
) -> NDArray | sparse.csc_array:
    """(n_places, n_rows): 1, or how often the row counts, where a row arrives, and less than zero where it leaves."""
    n = len(new)
    times = np.ones(n) if counts is None else counts.astype(np.float64)
    if dense:
        signs = np.zeros((n_places, n))
        signs[place[new], np.arange(n)] = times
        if old is not None:
            signs[place[old], np.arange(n)] = -times
        return signs
    if old is None:
        return sparse.csc_array((times, place[new], np.arange(n + 1, dtype=np.int32)), shape=(n_places, n))
    both = place[np.stack([new, old], axis=1).ravel()]
    starts = np.arange(0, 2 * n + 1, 2, dtype=np.int32)
    return sparse.csc_array((np.stack([times, -times], axis=1).ravel(), both, starts), shape=(n_places, n))
