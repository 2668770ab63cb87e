"""Mini-batches on the CPU: rows gathered, scored and summed in one pass, with nothing kept for a second assignment."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from gpukmeans.arrays.types import F64, I64
from gpukmeans.backends.cpu.run import NumpyRun
from gpukmeans.backends.cpu.screens.full import CACHED, FullScreen, RowScreen
from gpukmeans.backends.cpu.table import DenseTable
from gpukmeans.backends.protocol import BatchSums
from gpukmeans.exact import batch_inertia
from gpukmeans.exact.sums import EXACT_FLOAT64_ROWS, Grid
from gpukmeans.exact.tie_break import all_integers, exact_squares, first_of_equal_rows, largest_integer, resolve
from gpukmeans.threads import parts_of, rows_of, workers

#: Fewer rows are not worth a second thread.
LEAST = 256


class Picked:
    """Rows of a table by their indices, which are gathered together only where one pass over them does not serve.

    Parameters
    ----------
    source : DenseTable
    indices : ndarray of int64, or None
        None: all rows.
    grid : Grid or None
        Of these rows.
    """

    def __init__(self, source: DenseTable, indices: I64 | None, grid: Grid | None) -> None:
        self.source, self.indices, self.grid = source, indices, grid
        self.n_samples = source.n_samples if indices is None else len(indices)

    @cached_property
    def table(self) -> DenseTable:
        """All of them."""
        if self.indices is None:
            return self.source
        return DenseTable(self.source.switches, gathered(self.source.X, self.indices), None, self.grid)

    def rows(self, some: slice | I64, room: NDArray | None = None) -> NDArray:
        """Some of them, in `room` if they have to be gathered."""
        if self.indices is None:
            return self.source.X[some]
        which = self.indices[some]
        return np.take(self.source.X, which, axis=0, out=None if room is None else room[: len(which)], mode="clip")


def batch_sums(picked: Picked, centers: NDArray, precision: str, inertia: bool) -> BatchSums:
    """`Rows.batch_sums`: as a run would find them, without what a run does for the assignments that follow."""
    k, source = len(centers), picked.source
    alive = np.flatnonzero(first_of_equal_rows(centers) == np.arange(k))
    lean = source.sample_weight is None and picked.grid is not None and source.switches.screen
    lean = lean and isinstance(source.X, np.ndarray)
    if not lean or len(alive) == 1 or picked.n_samples > EXACT_FLOAT64_ROWS:
        run = NumpyRun(picked.table, centers, precision)
        run.assign()
        sums, weights = run.batch_sums()
        found = batch_inertia.from_distances(run.inertia(), source.n_features) if inertia else float("nan")
        labels = run.labels()
    else:
        labels, sums, squares = _in_one_pass(picked, centers, alive, precision, inertia)
        weights = np.bincount(labels, minlength=k).astype(np.float64)
        found = float("nan")
        if squares is not None:
            found = batch_inertia.from_sums(squares, centers.astype(np.float64), sums, weights)
            if found is None:
                run = NumpyRun(picked.table, centers, precision)
                run.assign(move=False)
                found = batch_inertia.from_distances(run.inertia(), source.n_features)
    if found is None:
        found = batch_inertia.in_whole_numbers(picked.table.X, centers, labels)
    return BatchSums(sums, weights, found)


def _in_one_pass(
    picked: Picked, centers: NDArray, alive: NDArray[np.int64], precision: str, with_squares: bool
) -> tuple[NDArray[np.int32], F64, F64 | None]:
    """The nearest center of each row, exact sums of the clusters, rounded once, and |x|^2 of the rows if asked for.

    So few limbs add up in float64 without rounding; values that lie on a grid of one limb do so as they are.
    """
    source, grid, n, (k, d) = picked.source, picked.grid, picked.n_samples, centers.shape
    X = source.X
    assert grid is not None
    full = FullScreen(RowScreen(X[:1], shift=_shift_for(centers, X.dtype)), centers[alive])
    names = alive.astype(np.int32)
    labels, squares = np.empty(n, np.int32), np.empty(n) if with_squares else None
    # As many rows as columns at least, which BLAS copies for each block.
    most = max(CACHED // d, len(alive), 1)

    def look(part: slice) -> tuple[F64, list[NDArray[np.intp]], bool]:
        total, undecided, in_range = np.zeros((grid.n_limbs, k, d)), [], True
        length = part.stop - part.start
        size = -(-length // -(-length // most))  # blocks of even length, which share what is made for them
        gathered_in = None if picked.indices is None else source.rooms.room("gathered", (size, d), X.dtype)
        screen = full.of_block(X[part] if gathered_in is None else gathered_in)
        n_rooms = 3 if grid.n_limbs == 2 else int(X.dtype != np.float64)
        room = source.rooms.room("widened", (n_rooms, size, d), np.dtype(np.float64))
        members = _incidence(k, size)
        for block in parts_of(length, size):
            some, m = rows_of(part, block), block.stop - block.start
            x = picked.rows(some, gathered_in)
            best, certain = screen.labels(block if gathered_in is None else slice(0, m))
            labels[some] = names[best]
            undecided.append(np.flatnonzero(~certain) + some.start)
            if precision == "fast":
                in_range &= screen.in_range
            if m < size:
                members = _incidence(k, m)
            members.indices[:], members.data[:] = labels[some], certain
            if x.dtype != np.float64:
                room[0, :m] = x
                x = room[0, :m]
            if squares is not None:
                np.vecdot(x, x, out=squares[some])
            for limb, sums in zip(limbs(x, room), total, strict=True):
                sums += members @ limb
        return total, undecided, in_range

    def limbs(x: F64, room: F64) -> Iterable[F64]:
        return [x] if grid.n_limbs == 1 else grid.limbs(x, (room[1, : len(x)], room[2, : len(x)]))

    with workers(n * d) as pool:
        found = pool.map(look, pool.share(n, n, LEAST))
    total = sum((some for some, _, _ in found), np.zeros((grid.n_limbs, k, d)))
    undecided = np.concatenate([rows for _, of_part, _ in found for rows in of_part])
    certify = precision == "exact" or not all(in_range for _, _, in_range in found)
    for block in parts_of(len(undecided), most):
        rows = undecided[block]
        x = picked.rows(rows)
        if certify:
            exact = all_integers(centers) and exact_squares(largest_integer(x), centers)
            candidates = full.of_block(x).candidates(slice(0, len(x)))
            labels[rows], _ = resolve(x, centers, alive, exact, candidates)
        for limb, sums in zip(limbs(x.astype(np.float64), np.empty((3, *x.shape))), total, strict=True):
            np.add.at(sums, labels[rows], limb)
    return labels, (total[0] if grid.n_limbs == 1 else grid.value(total.astype(np.int64))), squares


def _incidence(n_clusters: int, n_rows: int) -> sparse.csc_array:
    """A matrix of (n_clusters, n_rows) with one entry in each column, whose `indices` and `data` are to be set."""
    entries = np.zeros(n_rows), np.zeros(n_rows, np.int32), np.arange(n_rows + 1, dtype=np.int32)
    return sparse.csc_array(entries, shape=(n_clusters, n_rows))


def _shift_for(centers: NDArray, dtype: np.dtype) -> NDArray | None:
    """The mean of the centers, where they are closer to it than half their norms, and so are their rows, one hopes.

    Any shift is right; a good one lets rows be certified that lie far from the origin.
    """
    wide = centers.astype(np.float64)
    mean = wide.mean(axis=0)
    square = float(np.vecdot(wide, wide).sum())
    if square < 4.0 * (square - len(wide) * float(mean @ mean)):
        return None
    if dtype == np.float64:
        return mean
    return (np.rint(mean) if dtype == np.uint8 else mean).astype(np.float32)


def gathered(X: NDArray, indices: I64) -> NDArray:
    """``X[indices]``, for indices that are known to be within."""
    if not isinstance(X, np.ndarray):
        return X[indices]
    out = np.empty((len(indices), X.shape[1]), X.dtype)
    with workers(out.size) as pool:
        parts = pool.share(len(indices), len(indices), LEAST)
        pool.map(lambda part: np.take(X, indices[part], axis=0, out=out[part], mode="clip"), parts)
    return out
