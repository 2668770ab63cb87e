"""Cheap scores with rigorous radii: how the NumPy backend settles most labels in float32.

A screen gives each row a score per center whose order is the order of the distances, up to a radius that
certificates.py derives.  This module has the full screen, float32 products of whole rows (shifted by a common vector
where the data lie far from the origin); numpy_projection.py has the one that looks at a few components only.

Both report the best center, the second best, and lower bounds of two *gaps*: by how much the second best and all
others are farther than the best.  While both gaps, less what the centers drift, are positive, the label needs no look
in later iterations (numpy_bounds.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import local
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpukmeans.certificates import (
    GAP_SLACK,
    LARGEST_NORM32,
    SMALLEST_NORM32,
    UNIT32,
    ScoreRadius,
    gamma,
    score_radius,
)
from gpukmeans.exact_sums import F64
from gpukmeans.threads import Workers, parts_of, rows_of

if TYPE_CHECKING:
    from gpukmeans.backends.numpy_projection import Projection

F32 = NDArray[np.float32]
Index = slice | NDArray[np.int64]

#: Rows from which the common shift and the basis are taken, evenly spaced.
SAMPLE = 1024
#: Scores that a thread works on at a time.
SCORES = 1 << 18
#: Values of rows that are fetched at a time; more would make the allocator ask the system for fresh pages each time.
FETCHED = 1 << 20


#: Multiply-adds up to which OpenBLAS multiplies without packing first, where it can: twice as fast for a few columns.
UNPACKED = 900_000
#: Rows at a time from which that pays.
UNPACKED_ROWS = 16


def rows_to_screen(n_centers: int) -> int:
    """Rows that a thread screens at a time: enough to multiply fast, few enough to keep their scores in a cache."""
    return max(64, SCORES // n_centers, min(2048, 8 * SCORES // n_centers))


def rows_to_fetch(n_features: int) -> int:
    """Rows that are fetched at a time."""
    return max(64, FETCHED // n_features)


def product(x: NDArray, columns: NDArray, out: NDArray | None = None) -> NDArray:
    """``x @ columns`` for many rows and few columns, in batches so small that BLAS reads them where they are."""
    n, d = x.shape
    if out is None:
        out = np.empty((n, columns.shape[1]), np.result_type(x, columns))
    step = UNPACKED // max(1, columns.size)
    if not UNPACKED_ROWS <= step < n or not (x.flags.c_contiguous and out.flags.c_contiguous):
        return np.matmul(x, columns, out=out)
    even = n - n % step
    np.matmul(x[:even].reshape(-1, step, d), columns, out=out[:even].reshape(-1, step, columns.shape[1]))
    np.matmul(x[even:], columns, out=out[even:])
    return out


@dataclass(frozen=True)
class Screened:
    """The verdict of a screen on some rows.

    Attributes
    ----------
    best, second : ndarray of int
        The centers with the lowest scores.
    certain : ndarray of bool
        Whether the best center is certified to be the nearest.
    near, rest : ndarray of float64
        Lower bounds of |x - c_second| and of the smallest distance to any other center, minus |x - c_best|.
    """

    best: NDArray[np.integer]
    second: NDArray[np.integer]
    certain: NDArray[np.bool_]
    near: F64
    rest: F64


class RowScreen:
    """What the screens know of the rows: a shift, and norms once all rows have been looked at.

    `shift`: one that is known to be good, or None for none; "sampled" by default.
    """

    def __init__(self, X: NDArray, shift: NDArray | str | None = "sampled") -> None:
        self.X = X
        n = len(X)
        self.sample = np.linspace(0, n - 1, min(n, SAMPLE)).astype(np.int64)
        self.shift = self._common_shift() if isinstance(shift, str) else shift
        self.norms = np.empty(n)  # upper bounds of |x - shift|, infinite beyond float32's use
        self.measured = False
        self._room = local()
        self.group_projections: list[Projection] = []  # see numpy_grouping.py
        self.group_basis_tried = False

    def _common_shift(self) -> NDArray | None:
        """A vector near the mean, where it is worth subtracting: if it halves the norms of the sample at least."""
        sample = self.X[self.sample].astype(np.float64)
        if not np.isfinite(sample).all():
            return None
        mean = sample.mean(axis=0)
        square = float(np.einsum("ij,ij->", sample, sample))
        if square < 4.0 * (square - len(sample) * float(mean @ mean)):
            return None
        if self.X.dtype == np.float64:
            return mean
        return np.rint(mean).astype(np.float32) if self.X.dtype == np.uint8 else mean.astype(np.float32)

    def block(self, rows: Index) -> F32:
        """Rows in float32, shifted: at most two roundings of relative size 2**-24 of the result."""
        x = self.X[rows] if isinstance(rows, slice) else np.take(self.X, rows, axis=0)
        if self.shift is None:
            with np.errstate(over="ignore"):
                return x.astype(np.float32, copy=False)
        if x.dtype == np.uint8:
            x = x.astype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # infinite scores certify nothing
            return np.subtract(x, self.shift).astype(np.float32, copy=False)

    def shifted(self, centers: NDArray) -> F64:
        """Centers in float64, shifted like the rows."""
        wide = centers.astype(np.float64)
        return wide if self.shift is None else wide - self.shift

    def products(self, rows: Index, columns: F32) -> F32:
        """Float32 products of rows with some columns, (n_rows, n_columns); the norms of these rows are known then.

        They stay until the thread asks for others.
        """
        n_rows, d = rows.stop - rows.start if isinstance(rows, slice) else len(rows), self.X.shape[1]
        size = n_rows * columns.shape[1]
        room = getattr(self._room, "products", None)
        if room is None or len(room) < size:
            room = self._room.products = np.empty(size, np.float32)
        out = room[:size].reshape(n_rows, columns.shape[1])
        for part in parts_of(n_rows, rows_to_fetch(d)):
            some = rows_of(rows, part)
            x = self.block(some)
            if not self.measured:
                self._measure(some, x)
            product(x, columns, out[part])
        return out

    def _measure(self, rows: Index, x: F32) -> None:
        """Know the norms of rows whose `block` is `x`."""
        d = x.shape[1]
        norms = np.vecdot(x, x).astype(np.float64)
        norms *= 1.0 + 2.0 * gamma(d + 6.0, UNIT32)
        norms += d * 2.0**-120
        np.sqrt(norms, out=norms)
        norms[~(norms < LARGEST_NORM32)] = np.inf
        self.norms[rows] = norms

    def measure(self, pool: Workers) -> None:
        """Have all norms."""
        if not self.measured:
            n, d = self.X.shape

            def look(rows: slice) -> None:
                with np.errstate(over="ignore", invalid="ignore"):  # infinite norms certify nothing
                    self._measure(rows, self.block(rows))

            pool.map(look, pool.share(n, rows_to_fetch(d), 1024))
            self.measured = True


def verdict(norms: F64, lowest: Lowest, upper: NDArray, radius: ScoreRadius) -> Screened:
    """What follows from an upper score of the best center and lower scores of the others, each up to its radius.

    An upper bound of |x|^2 serves all distances: sqrt(|x|^2 + b) - sqrt(|x|^2 + a) falls as |x|^2 grows.
    """
    error = norms * radius.per_norm
    error += radius.constant
    return verdict_within(norms, lowest, upper, error)


def verdict_within(norms: F64, lowest: Lowest, upper: NDArray, error: F64) -> Screened:
    """`verdict` with the radius of each row, which is overwritten."""
    nearest = upper + error
    second = lowest.second_score - error
    certain = second > nearest
    squares = norms * norms
    nearest += squares
    nearest = np.sqrt(np.maximum(nearest, 0.0, out=nearest), out=nearest)
    nearest *= 1.0 + GAP_SLACK
    error -= squares
    near, rest = (_farther(scores, error, nearest) for scores in (lowest.second_score, lowest.third_score))
    return Screened(lowest.best, lowest.second, certain, near, rest)


def _farther(scores: NDArray, less: F64, nearest: F64) -> F64:
    distance = scores - less
    distance = np.sqrt(np.maximum(distance, 0.0, out=distance), out=distance)
    distance *= 1.0 - GAP_SLACK
    distance -= nearest
    return distance


@dataclass(frozen=True)
class Lowest:
    """The lowest scores of each row and where they are; no score (infinity) where there are too few centers."""

    best: NDArray[np.integer]
    best_score: F32
    second_score: F32
    second: NDArray[np.integer]
    third_score: F32


def lowest_scores(scores: F32, count: int = 3) -> Lowest:
    """The two or three lowest of each row of `scores`, (n_rows, n_centers), which may be overwritten.

    With ``count=2`` neither `second` nor `third_score` is looked for: `second` then repeats `best`.
    """
    n, k = scores.shape
    scores = np.ascontiguousarray(scores)
    flat, starts = scores.reshape(-1), np.arange(0, n * k, k)
    found = []
    for _ in range(count):
        index = scores.argmin(axis=1)
        at = starts + index
        found.append((index, flat.take(at)))
        flat[at] = np.inf
    (best, first), (second, runner_up) = found[:2]
    if count == 2:
        return Lowest(best, first, runner_up, best, runner_up)
    return Lowest(best, first, runner_up, second, found[2][1])


class FullScreen:
    """Scores |c|^2 - 2 x.c from whole rows in float32."""

    def __init__(self, rows: RowScreen, centers: NDArray) -> None:
        self.rows = rows
        wide = rows.shifted(centers)
        squares = np.einsum("ij,ij->i", wide, wide)
        self.largest = float(np.sqrt(squares.max())) * (1.0 + 2.0**-20)
        self.radius = score_radius(wide.shape[1], self.largest)
        with np.errstate(over="ignore"):
            self.minus_two = np.ascontiguousarray((-2.0 * wide).astype(np.float32).T)
            self.squares = squares.astype(np.float32)

    @property
    def in_range(self) -> bool:
        """Whether float32 reaches from the smallest to the largest of these scores (once all rows are measured)."""
        return SMALLEST_NORM32 <= self.largest < LARGEST_NORM32 and bool(np.isfinite(self.rows.norms).all())

    def scores(self, rows: Index) -> F32:
        """(n_rows, n_centers)"""
        return self.from_products(self.rows.products(rows, self.minus_two))

    def from_products(self, products: F32) -> F32:
        """Scores from products with `minus_two`, which are overwritten."""
        products += self.squares
        return products

    def labels(self, rows: Index) -> tuple[NDArray[np.integer], NDArray[np.bool_]]:
        """The best center, and whether it is certified."""
        with np.errstate(over="ignore", invalid="ignore"):
            lowest = lowest_scores(self.scores(rows), count=2)
            reach = self.rows.norms[rows] * (2.0 * self.radius.per_norm) + 2.0 * self.radius.constant
            return lowest.best, lowest.second_score.astype(np.float64) - lowest.best_score > reach

    def __call__(self, rows: Index) -> Screened:
        with np.errstate(over="ignore", invalid="ignore"):
            return self.judge(rows, self.scores(rows))

    def judge(self, rows: Index, scores: F32) -> Screened:
        """The verdict on rows whose scores are known (and lost hereby)."""
        lowest = lowest_scores(scores)
        return verdict(self.rows.norms[rows], lowest, lowest.best_score, self.radius)

    def candidates(self, rows: Index) -> NDArray[np.bool_]:
        """(n_rows, n_centers): the centers that may be nearest."""
        with np.errstate(over="ignore", invalid="ignore"):
            scores = self.scores(rows)
            reach = self.rows.norms[rows] * self.radius.per_norm + self.radius.constant
            return ~(scores > (np.fmin.reduce(scores, axis=1) + 2.0 * reach)[:, None])
