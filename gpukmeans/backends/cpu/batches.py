"""Mini-batches on the CPU: rows gathered by index, and a single assignment of them with nothing kept for a second."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from gpukmeans.arrays.types import F64, I64
from gpukmeans.backends.cpu.run import NumpyRun
from gpukmeans.backends.cpu.screens.full import FullScreen, RowScreen
from gpukmeans.backends.cpu.table import DenseTable
from gpukmeans.backends.protocol import BatchSums
from gpukmeans.exact import batch_inertia
from gpukmeans.exact.sums import EXACT_FLOAT64_ROWS
from gpukmeans.exact.tie_break import all_integers, exact_squares, first_of_equal_rows, resolve
from gpukmeans.threads import Workers, parts_of, workers

#: Fewer rows are not worth a second thread.
LEAST = 256
#: Rows that are widened and summed at a time, few enough to stay in a cache of a core's own.
SUMMED_ROWS = 256


def batch_sums(table: DenseTable, centers: NDArray, precision: str, inertia: bool) -> BatchSums:
    """`Rows.batch_sums`: as a run would find them, without what a run does for the assignments that follow."""
    k = len(centers)
    alive = np.flatnonzero(first_of_equal_rows(centers) == np.arange(k))
    lean = table.sample_weight is None and table.grid is not None and table.switches.screen
    lean = lean and isinstance(table.X, np.ndarray)
    if not lean or len(alive) == 1 or table.n_samples > EXACT_FLOAT64_ROWS:
        run = NumpyRun(table, centers, precision)
        run.assign()
        sums, weights = run.batch_sums()
        found = batch_inertia.from_distances(run.inertia(), table.n_features) if inertia else float("nan")
        labels = run.labels()
        squares = None
    else:
        with workers(table.X.size) as pool:
            labels = _nearest(table, centers, alive, precision, pool)
            sums, squares = _sums(table, labels, k, inertia, pool)
        weights = np.bincount(labels, minlength=k).astype(np.float64)
        found = float("nan")
        if squares is not None:
            found = batch_inertia.from_sums(squares, centers.astype(np.float64), sums, weights)
            if found is None:
                run = NumpyRun(table, centers, precision)
                run.assign(move=False)
                found = batch_inertia.from_distances(run.inertia(), table.n_features)
    if found is None:
        found = batch_inertia.in_whole_numbers(table.X, centers, labels)
    return BatchSums(sums, weights, found)


def _nearest(
    table: DenseTable, centers: NDArray, alive: NDArray[np.int64], precision: str, pool: Workers
) -> NDArray[np.int32]:
    """The nearest center of each row."""
    screen = RowScreen(table.X, shift=_shift_for(centers, table.X.dtype))
    full = FullScreen(screen, centers[alive])
    labels = np.empty(table.n_samples, np.int32)
    names = alive.astype(np.int32)

    def look(part: slice) -> NDArray[np.intp]:
        best, certain = full.labels(part)
        labels[part] = names[best]
        return np.flatnonzero(~certain) + part.start

    open_ = np.concatenate(pool.map(look, pool.share(table.n_samples, table.n_samples, LEAST)))
    if len(open_) and (precision == "exact" or not full.in_range):
        exact = all_integers(centers) and exact_squares(table.largest_integer, centers)
        labels[open_], _ = resolve(table.X[open_], centers, alive, exact, full.candidates(open_))
    return labels


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


def _sums(
    table: DenseTable, labels: NDArray[np.int32], k: int, with_squares: bool, pool: Workers
) -> tuple[F64, F64 | None]:
    """Exact sums of the rows of each cluster, rounded once, and |x|^2 of each row if `with_squares`.

    So few limbs add up in float64 without rounding; values that lie on the grid do so as they are.
    """
    grid, d = table.grid, table.n_features
    assert grid is not None
    squares = np.empty(table.n_samples) if with_squares else None

    def add(part: slice) -> F64:
        total = np.zeros((grid.n_limbs, k, d))
        room = np.empty((3, min(SUMMED_ROWS, part.stop - part.start), d))
        for block in parts_of(part.stop - part.start, SUMMED_ROWS):
            some = slice(part.start + block.start, part.start + block.stop)
            m = some.stop - some.start
            x = table.X[some]
            if x.dtype != np.float64:
                room[0, :m] = x
                x = room[0, :m]
            if squares is not None:
                np.vecdot(x, x, out=squares[some])
            ends = np.arange(m + 1, dtype=np.int32)
            members = sparse.csc_array((np.ones(m), labels[some], ends), shape=(k, m))
            limbs = [x] if grid.n_limbs == 1 else grid.limbs(x, (room[1, :m], room[2, :m]))
            for limb, sums in zip(limbs, total, strict=True):
                sums += members @ limb
        return total

    total = sum(pool.map(add, pool.share(table.n_samples, table.n_samples, LEAST)), np.zeros((grid.n_limbs, k, d)))
    return (total[0] if grid.n_limbs == 1 else grid.value(total.astype(np.int64))), squares


def gathered(X: NDArray, indices: I64) -> NDArray:
    """``X[indices]``, for indices that are known to be within."""
    if not isinstance(X, np.ndarray):
        return X[indices]
    out = np.empty((len(indices), X.shape[1]), X.dtype)
    with workers(out.size) as pool:
        parts = pool.share(len(indices), len(indices), LEAST)
        pool.map(lambda part: np.take(X, indices[part], axis=0, out=out[part], mode="clip"), parts)
    return out
