"""Cheap scores with rigorous radii: how the NumPy backend settles most labels without touching a row twice.

Two screens give scores whose order is the order of the distances, up to a radius that certificates.py derives:

full        float32 products of whole rows (shifted by a common vector where the data lie far from the origin)
projected   float32 products of the rows' leading components in an orthonormal basis, plus the norm of what is left

Both report the best center, and a lower bound of the *gap*: by how much every other center is farther than the best.
While the gap, less what the centers drift, is positive, the label needs no look in later iterations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpukmeans.certificates import (
    GAP_SLACK,
    LARGEST_NORM32,
    SMALLEST_NORM32,
    UNIT32,
    ScoreRadius,
    gamma,
    projected_rows_error,
    projection_radius,
    score_radius,
)
from gpukmeans.exact_sums import F64, blocks
from gpukmeans.threads import Workers

F32 = NDArray[np.float32]
Index = slice | NDArray[np.int64]

#: Rows from which the common shift and the basis are taken, evenly spaced.
SAMPLE = 1024
#: Up to this many centers the best two are found center by center over all rows, beyond row by row.
FEW_CENTERS = 48
#: Bases that are tried on the sample.
COMPONENTS = (16, 32, 64, 128)


@dataclass(frozen=True)
class Screened:
    """The verdict of a screen on some rows.

    Attributes
    ----------
    best : ndarray of int
        The center with the best score.
    certain : ndarray of bool
        Whether the best center is certified to be the nearest.
    gap : ndarray of float64
        Lower bound of min over the others of |x - c_j|, minus |x - c_best|.
    """

    best: NDArray[np.intp]
    certain: NDArray[np.bool_]
    gap: F64


class RowScreen:
    """What the screens know of the rows: a shift, norms and, once asked for, a projection."""

    def __init__(self, X: NDArray, pool: Workers) -> None:
        self.X = X
        n, d = X.shape
        self.sample = np.linspace(0, n - 1, min(n, SAMPLE)).astype(np.int64)
        self.shift = self._common_shift()
        self.norms = np.empty(n)  # upper bounds of |x - shift|, infinite beyond float32's use

        def measure(rows: slice) -> None:
            x = self.block(rows)
            squares = np.einsum("ij,ij->i", x, x).astype(np.float64)
            norms = np.sqrt(squares * (1.0 + 2.0 * gamma(d + 6.0, UNIT32)) + d * 2.0**-120)
            self.norms[rows] = np.where(norms < LARGEST_NORM32, norms, np.inf)

        pool.map(measure, blocks(n, d, 4))
        self.projection: Projection | None = None

    def _common_shift(self) -> NDArray | None:
        """A vector near the mean, where it is worth subtracting: if it halves the norms of the sample at least."""
        sample = self.X[self.sample].astype(np.float64)
        mean = sample.mean(axis=0)
        if np.einsum("ij,ij->", sample, sample) < 4.0 * np.square(sample - mean).sum():
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
        with np.errstate(over="ignore"):  # infinite scores certify nothing
            return np.subtract(x, self.shift).astype(np.float32, copy=False)

    def shifted(self, centers: NDArray) -> F64:
        """Centers in float64, shifted like the rows."""
        wide = centers.astype(np.float64)
        return wide if self.shift is None else wide - self.shift

    def verdict(
        self, rows: Index, best: NDArray[np.intp], nearest: NDArray, second: NDArray, radius: ScoreRadius
    ) -> Screened:
        """What follows from an upper score of the nearest and a lower score of the second nearest center.

        An upper bound of |x|^2 serves both distances: sqrt(|x|^2 + b) - sqrt(|x|^2 + a) falls as |x|^2 grows.
        """
        norms = self.norms[rows]
        error = norms * radius.per_norm
        error += radius.constant
        nearest = nearest + error
        second = second - error
        certain = second > nearest
        squares = norms * norms
        nearest += squares
        second += squares
        gap = np.sqrt(np.maximum(second, 0.0, out=second), out=second)
        gap *= 1.0 - GAP_SLACK
        np.sqrt(np.maximum(nearest, 0.0, out=nearest), out=nearest)
        nearest *= 1.0 + GAP_SLACK
        gap -= nearest
        return Screened(best, certain, gap)


def top_two(scores: F32, by_center: bool) -> tuple[NDArray[np.intp], F32, F32]:
    """Index and value of the lowest score of each row, and the second lowest value.  Overwrites `scores`.

    `scores` is (n_centers, n_rows) where `by_center`, else (n_rows, n_centers).
    """
    if not by_center:
        index = scores.argmin(axis=1)
        at = np.arange(len(index))
        best = scores[at, index]
        scores[at, index] = np.inf
        return index, best, scores.min(axis=1)
    best = scores[0].copy()
    index = np.zeros(len(best), np.intp)
    second = np.full(len(best), np.inf, np.float32)
    worse, less = np.empty_like(best), np.empty(len(best), bool)
    for j in range(1, len(scores)):
        score = scores[j]
        np.less(score, best, out=less)
        np.maximum(best, score, out=worse)
        np.minimum(second, worse, out=second)
        np.copyto(index, j, where=less)
        np.minimum(best, score, out=best)
    return index, best, second


class FullScreen:
    """Scores |c|^2 - 2 x.c from whole rows in float32."""

    def __init__(self, rows: RowScreen, centers: NDArray) -> None:
        self._rows = rows
        wide = rows.shifted(centers)
        squares = np.einsum("ij,ij->i", wide, wide)
        largest = float(np.sqrt(squares.max())) * (1.0 + 2.0**-20)
        self.radius = score_radius(wide.shape[1], largest)
        #: Whether float32 reaches from the smallest to the largest of these scores.
        self.in_range = SMALLEST_NORM32 <= largest < LARGEST_NORM32 and bool(np.isfinite(rows.norms).all())
        with np.errstate(over="ignore"):
            self._minus_two = (-2.0 * wide).astype(np.float32)
            self._squares = squares.astype(np.float32)

    def __call__(self, rows: Index) -> Screened:
        by_center = len(self._squares) <= FEW_CENTERS
        with np.errstate(over="ignore", invalid="ignore"):
            best, lowest, second = top_two(self._scores(rows, by_center), by_center)
            return self._rows.verdict(rows, best, lowest, second, self.radius)

    def candidates(self, rows: Index) -> NDArray[np.bool_]:
        """(n_rows, n_centers): the centers that may be nearest."""
        with np.errstate(over="ignore", invalid="ignore"):
            scores = self._scores(rows, by_center=False)
            reach = self._rows.norms[rows] * self.radius.per_norm + self.radius.constant
            return ~(scores > (np.fmin.reduce(scores, axis=1) + 2.0 * reach)[:, None])

    def _scores(self, rows: Index, by_center: bool) -> F32:
        x = self._rows.block(rows)
        if by_center:
            scores = self._minus_two @ x.T
            scores += self._squares[:, None]
        else:
            scores = x @ self._minus_two.T
            scores += self._squares
        return scores


class Projection:
    """The rows in a few orthonormal directions, plus the norm of what these leave out."""

    def __init__(self, rows: RowScreen, basis: F32, pool: Workers) -> None:
        n, d = rows.X.shape
        m = basis.shape[1]
        self.basis = basis
        wide = basis.astype(np.float64)
        self.defect = float(np.linalg.norm(wide.T @ wide - np.eye(m))) * (1.0 + 2.0**-20) + 2.0**-40
        self.eta = projected_rows_error(d, m, self.defect)
        #: (n, m + 2) float32: components, norm of the rest, 1.
        self.table = np.empty((n, m + 2), np.float32)

        def project(part: slice) -> None:
            self.table[part] = self.rows_table(rows, part)

        pool.map(project, blocks(n, d, 4))

    def rows_table(self, rows: RowScreen, part: Index) -> F32:
        m = self.basis.shape[1]
        x = rows.block(part)
        table = np.empty((len(x), m + 2), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            p = np.matmul(x, self.basis)
            kept = np.einsum("ij,ij->i", p, p).astype(np.float64) * (1.0 - 2.0 * gamma(m + 4.0, UNIT32))
            squares = np.square(rows.norms[part])
            # |e|^2 = |x|^2 - |p|^2 - 2 p.(Q'x - p) + p'(Q'Q - I)p
            slack = 2.0 * (self.eta + self.defect) * (1.0 + 4.0 * (self.eta + self.defect))
            rest = np.sqrt(np.maximum(squares - kept + slack * squares, 0.0))
            table[:, :m] = p
            table[:, m] = rest * (1.0 + 2.0**-22)
        table[:, m + 1] = 1.0
        return table


class ProjectedScreen:
    """Lower scores from the projection; the upper score of the best is 4 r q above its lower one."""

    def __init__(self, rows: RowScreen, projection: Projection, centers: NDArray) -> None:
        self._rows = rows
        self._projection = projection
        basis = projection.basis.astype(np.float64)
        m = basis.shape[1]
        wide = rows.shifted(centers)
        with np.errstate(over="ignore", invalid="ignore"):  # infinite scores certify nothing
            inside = (wide @ basis).astype(np.float32)
            outside = wide - inside.astype(np.float64) @ basis.T
            leak = float(np.sqrt(np.square(outside @ basis).sum(axis=1).max())) * (1.0 + 2.0**-20)
        squares = np.einsum("ij,ij->i", wide, wide)
        largest = float(np.sqrt(squares.max())) * (1.0 + 2.0**-20)
        rest = np.sqrt(np.einsum("ij,ij->i", outside, outside)) * (1.0 + 2.0**-20) + largest * 2.0**-40
        self.radius = projection_radius(m, largest, projection.eta, projection.defect, leak + largest * 2.0**-40)
        with np.errstate(over="ignore"):
            self._four_rest = (4.0 * rest).astype(np.float32) * np.float32(1.0 + 2.0**-21)
            self._table = np.empty((len(wide), m + 2), np.float32)
            self._table[:, :m] = -2.0 * inside
            self._table[:, m] = -0.5 * self._four_rest
            self._table[:, m + 1] = squares

    def __call__(self, rows: Index, table: F32 | None = None) -> Screened:
        """Screen rows, or the given rows of a table of another projection in the same basis."""
        if table is None:
            source = self._projection.table
            table = source[rows] if isinstance(rows, slice) else np.take(source, rows, axis=0)
        by_center = len(self._table) <= FEW_CENTERS
        with np.errstate(over="ignore", invalid="ignore"):
            scores = self._table @ table.T if by_center else table @ self._table.T
            best, lowest, second = top_two(scores, by_center)
            upper = lowest + table[:, -2].astype(np.float64) * self._four_rest[best]
            return self._rows.verdict(rows, best, upper, second, self.radius)


# Nanoseconds on one core of a recent x86 server, to within a factor of two; only the choice of a basis depends on them.
_PRODUCT = 0.027  # a multiply-add of a float32 matrix product
_THIN = 0.4  # a float32 of a row in a product with few centers, which memory bounds
_FETCH = 0.6  # a float32 of a row fetched by index
_REUSES = 10.0  # screens of a row in a fit, on average

#: Weight of the centers among the rows of the sample: their own residuals matter more than those of the rows.
_CENTER_WEIGHT = 6.0


def _row_cost(n_values: int, n_centers: int) -> float:
    return n_values * (max(_THIN, _PRODUCT * n_centers) + _FETCH)


def choose_basis(rows: RowScreen, centers: NDArray) -> F32 | None:
    """The basis that makes a screened row cheapest, as tried on a sample; None if whole rows are cheaper.

    The number of components is the one that does best with the leading directions of the sample alone.  The basis then
    leans towards the centers of the moment too, which helps them most but says little of those to come.
    """
    n, d = rows.X.shape
    k = len(centers)
    sizes = [m for m in COMPONENTS if 3 * m <= d]
    if not sizes or n < 8 * SAMPLE:
        return None
    sample = rows.block(rows.sample)
    if not np.abs(sample).max() < 2.0**40:  # their squares' squares would leave float32
        return None
    directions = leading_directions(sample, sizes[-1])
    subset = _Subset(rows)
    cheapest = whole = _row_cost(d, k)
    n_components = 0
    for m in sizes:
        trial = Projection(subset, np.ascontiguousarray(directions[:, :m]), Workers(1))
        verdict = ProjectedScreen(rows, trial, centers)(rows.sample, table=trial.table)
        left = float(np.mean(~verdict.certain))
        cost = _row_cost(m, k) + _PRODUCT * d * m / _REUSES + left * whole
        if cost < cheapest:
            n_components, cheapest = m, cost
    if not n_components:
        return None
    weight = _CENTER_WEIGHT * np.sqrt(len(sample) / k)
    both = np.concatenate([sample, (weight * rows.shifted(centers)).astype(np.float32)])
    return leading_directions(both, n_components)


def leading_directions(table: F32, count: int) -> F32:
    """About the `count` leading right singular vectors of a table, as orthonormal columns.

    Two steps of subspace iteration from a fixed start (N. Halko, P. G. Martinsson, J. A. Tropp, "Finding structure with
    randomness", SIAM Review 2011).  How good they are changes the cost of a fit and none of its labels.
    """
    basis = np.random.default_rng(0).standard_normal((table.shape[1], count + 8)).astype(np.float32)
    for _ in range(2):
        basis, _ = np.linalg.qr(table.T @ (table @ basis))
    inner = table @ basis
    _, vectors = np.linalg.eigh((inner.T @ inner).astype(np.float64))
    return np.ascontiguousarray((basis @ vectors[:, ::-1].astype(np.float32))[:, :count])


class _Subset(RowScreen):
    """The sample of a RowScreen, as a RowScreen."""

    def __init__(self, rows: RowScreen) -> None:
        self.X = rows.X[rows.sample]
        self.shift = rows.shift
        self.norms = rows.norms[rows.sample]
