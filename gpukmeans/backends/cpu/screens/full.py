"""Scores of whole rows, shifted by a common vector where the data lie far from the origin.

They are in float32; of few centers and long float64 rows in float64.

The screens give each row a score per center whose order is the order of the distances, up to a radius that the
certificates derive.  components.py has the screen that reads a few components only.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gpukmeans.arrays.types import F64, I64, Index
from gpukmeans.certificates.lowest import lowest_scores
from gpukmeans.certificates.rounding import LARGEST_NORM32, SMALLEST_NORM32, UNIT32, UNIT64, gamma
from gpukmeans.certificates.scores import score_radius
from gpukmeans.certificates.verdicts import Screened, verdict
from gpukmeans.exact.tie_break import WIDE
from gpukmeans.threads import Rooms, Workers, parts_of, rows_of, rows_to_fetch

#: Rows from which the common shift and the basis are taken, evenly spaced; fewer where they have many features.
SAMPLE = 1024
SAMPLE_VALUES, SMALLEST_SAMPLE = 1 << 20, 16


#: Multiply-adds up to which OpenBLAS multiplies without packing first, where it can: twice as fast for a few columns.
UNPACKED = 900_000

#: Rows at a time from which that pays.
UNPACKED_ROWS = 16

#: Values of a block of rows that is multiplied by few columns: its norms are taken while it is in a core's cache.
CACHED = 1 << 18

#: Centers up to which products of long float64 rows cost less than their conversion to float32.
FEW_CENTERS = 16


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


class RowScreen:
    """What screens need of the rows: a shift, and norms once all rows have been read.

    `shift`: one that is known to be good, or None for none; "sampled" by default.
    """

    def __init__(self, X: NDArray, shift: NDArray | str | None = "sampled") -> None:
        self.X = X
        n = len(X)
        size = min(n, SAMPLE, max(SMALLEST_SAMPLE, SAMPLE_VALUES // X.shape[1]))
        self.sample = np.linspace(0, n - 1, size).astype(np.int64)
        self.shift = self._common_shift() if isinstance(shift, str) else shift
        self.norms = np.empty(n)  # upper bounds of |x - shift|, infinite beyond float32's use
        self.measured = False
        self._rooms = Rooms()

    def _common_shift(self) -> NDArray | None:
        """A vector near the mean, where it is worth subtracting: if it halves the norms of the sample at least."""
        sample = self.X[self.sample].astype(np.float64, copy=False)
        if not np.isfinite(sample).all():
            return None
        mean = sample.mean(axis=0)
        square = float(np.einsum("ij,ij->", sample, sample))
        if square < 4.0 * (square - len(sample) * float(mean @ mean)):
            return None
        if self.X.dtype == np.float64:
            return mean
        return np.rint(mean).astype(np.float32) if self.X.dtype == np.uint8 else mean.astype(np.float32)

    def block(self, rows: Index, dtype: DTypeLike = np.float32) -> NDArray:
        """Rows in float32 or float64, shifted: at most two roundings of relative size 2**-24 or 2**-53."""
        x = self.X[rows] if isinstance(rows, slice) else np.take(self.X, rows, axis=0)
        if self.shift is None:
            with np.errstate(over="ignore"):
                return x.astype(dtype, copy=False)
        if x.dtype == np.uint8:
            x = x.astype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # infinite scores certify nothing
            return np.subtract(x, self.shift).astype(dtype, copy=False)

    # ---- rows that stream are read once, and then asked for in any order: those in an array are there already ------

    @property
    def most_held(self) -> int:
        """Rows of a block that `held` may be asked for."""
        return len(self.X) if isinstance(self.X, np.ndarray) else self.X.most_held

    def held(self, part: slice, rows: I64) -> RowScreen:
        """The same of some rows of a block, which are asked for by their indices among all."""
        return self if isinstance(self.X, np.ndarray) else self._of(self.X.held(part, rows))

    def in_turn(self, rows: I64, named: I64) -> Iterator[tuple[RowScreen, Index]]:
        """`held` of `named`, which rise and are all that `rows` names, in parts; and the places in `rows` of each."""
        if isinstance(self.X, np.ndarray):
            yield self, slice(0, len(rows))
            return
        for part in parts_of(len(named), self.X.most_held):
            some = named[part]
            here = np.flatnonzero((rows >= some[0]) & (rows <= some[-1]))
            yield self._of(self.X.held(slice(some[0], some[-1] + 1), some)), here

    def of_block(self, x: NDArray) -> RowScreen:
        """The same shift for other rows, of which nothing is known."""
        twin = self._of(x)
        twin.norms, twin.measured = np.empty(len(x)), False
        return twin

    def _of(self, X: Any) -> RowScreen:
        twin = copy(self)
        twin.X = X
        return twin

    def shifted(self, centers: NDArray) -> F64:
        """Centers in float64, shifted like the rows."""
        wide = centers.astype(np.float64)
        return wide if self.shift is None else wide - self.shift

    def products(self, rows: Index, columns: NDArray) -> NDArray:
        """Products of rows with some columns, in their dtype, (n_rows, n_columns); the rows' norms are known then.

        They are overwritten by the next call from the same thread.
        """
        n_rows, d = rows.stop - rows.start if isinstance(rows, slice) else len(rows), self.X.shape[1]
        out = self._rooms.room("products", (n_rows, columns.shape[1]), columns.dtype)
        # As many rows as columns at least, which BLAS copies for each block of rows.
        for part in parts_of(n_rows, min(rows_to_fetch(d), max(1, CACHED // d, columns.shape[1]))):
            some = rows_of(rows, part)
            x = self.block(some, columns.dtype)
            if not self.measured:
                self._measure(some, x)
            product(x, columns, out[part])
        return out

    def _measure(self, rows: Index, x: NDArray) -> None:
        """Store the norms of rows whose `block` is `x`."""
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


class FullScreen:
    """Scores |c|^2 - 2 x.c from whole rows, in float32 or, where that costs less, in float64."""

    def __init__(self, rows: RowScreen, centers: NDArray) -> None:
        self.rows = rows
        wide = rows.shifted(centers)
        squares = np.einsum("ij,ij->i", wide, wide)
        self.largest = float(np.sqrt(squares.max())) * (1.0 + 2.0**-20)
        doubled = rows.X.dtype == np.float64 and wide.shape[1] >= WIDE and len(wide) <= FEW_CENTERS
        self.radius = score_radius(wide.shape[1], self.largest, UNIT64 if doubled else UNIT32)
        with np.errstate(over="ignore"):
            minus_two = np.multiply(wide, -2.0, out=wide).astype(np.float64 if doubled else np.float32, copy=False).T
            self.minus_two = minus_two if doubled else np.ascontiguousarray(minus_two)
            self.squares = squares.astype(self.minus_two.dtype)

    def of_block(self, x: NDArray) -> FullScreen:
        """The same centers and shift for other rows."""
        twin = copy(self)
        twin.rows = self.rows.of_block(x)
        return twin

    @property
    def in_range(self) -> bool:
        """Whether float32 reaches from the smallest to the largest of these scores (once all rows are measured)."""
        return SMALLEST_NORM32 <= self.largest < LARGEST_NORM32 and bool(np.isfinite(self.rows.norms).all())

    def scores(self, rows: Index) -> NDArray:
        """(n_rows, n_centers)"""
        return self.from_products(self.rows.products(rows, self.minus_two))

    def from_products(self, products: NDArray) -> NDArray:
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

    def judge(self, rows: Index, scores: NDArray) -> Screened:
        """The verdict on rows whose scores are known (and lost hereby)."""
        lowest = lowest_scores(scores)
        return verdict(self.rows.norms[rows], lowest, lowest.best_score, self.radius)

    def candidates(self, rows: Index) -> NDArray[np.bool_]:
        """(n_rows, n_centers): the centers that may be nearest."""
        with np.errstate(over="ignore", invalid="ignore"):
            scores = self.scores(rows)
            reach = self.rows.norms[rows] * self.radius.per_norm + self.radius.constant
            return ~(scores > (np.fmin.reduce(scores, axis=1) + 2.0 * reach)[:, None])
