"""Screening rows by a few of their components, anchored to scores of whole rows.

A row is x = Q p + e: components p in an orthonormal basis Q of a few leading directions, and a rest e of known norm r.
A center is c = Q g + f.  Of a score |c|^2 - 2 x.c the components give all but -2 e.f, up to rounding.  A run
keeps that part of each row and center from the last time it had the score of the whole row, its *anchor*; since then f
has moved from f_then to f_now, so the score is known up to 2 r |f_now - f_then|.  Centers move less and less, and
rows near a tie are scored often: so the little that a few components leave out hardly matters.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F32, F64, Index
from gpukmeans.backends.cpu.screens.full import SAMPLE, FullScreen, RowScreen, product
from gpukmeans.certificates.components import anchored_radius, projected_rows_error, projection_radius
from gpukmeans.certificates.lowest import lowest_scores
from gpukmeans.certificates.rounding import UNIT32, ScoreRadius, gamma
from gpukmeans.certificates.scores import score_radius
from gpukmeans.certificates.verdicts import Screened, verdict
from gpukmeans.threads import SCORES, Workers

#: Numbers of components that are tried on the sample.
COMPONENTS = (16, 32, 64)
#: Values below which squares of squares, of which directions are made, stay within float32.
LARGEST_TO_PROJECT = 2.0**40
#: The anchors may take this share of the bytes of float32 rows.
ANCHOR_SHARE = 0.25
#: Epochs after which all rows are anchored anew, so that their table stays small.
MOST_EPOCHS = 512


class Components:
    """The rows in a few orthonormal directions, plus the norm of what these leave out."""

    def __init__(self, n_rows: int, basis: F32) -> None:
        d, self.n_components = basis.shape
        m = self.n_components
        self.basis = basis
        self._wide = wide = basis.astype(np.float64)
        self.defect = float(np.linalg.norm(wide.T @ wide - np.eye(m))) * (1.0 + 2.0**-20) + 2.0**-40
        self.eta = projected_rows_error(d, m, self.defect)
        #: (n, m + 2) float32: components, norm of the rest, 1.
        self.table = np.empty((n_rows, m + 2), np.float32)
        #: Whether all rows are in it.
        self.filled = False

    def fill(self, part: Index, components: F32, norms: F64) -> None:
        """Enter rows: their float32 products with the basis, and their norms (see RowScreen)."""
        m = self.n_components
        table = np.empty((len(components), m + 2), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            kept = np.einsum("ij,ij->i", components, components).astype(np.float64)
            kept *= 1.0 - 2.0 * gamma(m + 4.0, UNIT32)
            squares = norms * norms
            # |e|^2 = |x|^2 - |p|^2 - 2 p.(Q'x - p) + p'(Q'Q - I)p
            slack = 2.0 * (self.eta + self.defect) * (1.0 + 4.0 * (self.eta + self.defect))
            rest = np.sqrt(np.maximum(squares - kept + slack * squares, 0.0))
            table[:, :m] = components
            table[:, m] = rest * (1.0 + 2.0**-22)
        table[:, m + 1] = 1.0
        self.table[part] = table

    def rows(self, rows: Index) -> F32:
        """Some rows of the table."""
        return self.table[rows] if isinstance(rows, slice) else np.take(self.table, rows, axis=0)

    def leak(self, largest_center_norm: float) -> float:
        """Bound of |Q'f|: Q'f = (Q'c - g) - (Q'Q - I) g, the rounding of g to float32 and the defect."""
        return largest_center_norm * (2.0**-23 + self.defect) * (1.0 + self.defect)

    def split(self, wide: F64) -> tuple[F32, F64]:
        """Centers (float64, shifted) in the basis, and what that leaves out."""
        with np.errstate(over="ignore", invalid="ignore"):  # infinite scores certify nothing
            inside = (wide @ self._wide).astype(np.float32)
            return inside, wide - inside.astype(np.float64) @ self._wide.T


def fill_together(projections: list[Components], screen: RowScreen, pool: Workers) -> None:
    """Enter all rows in projections whose directions are the last one's foremost: the rows are read once."""
    finest = projections[-1]

    def enter(part: slice) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            components = screen.products(part, finest.basis)
            for projection in projections:
                projection.fill(part, components[:, : projection.n_components], screen.norms[part])

    pool.map(enter, pool.share(len(screen.X), max(64, SCORES // finest.n_components), 1024))
    for projection in projections:
        projection.filled = True


def lower_scores(projection: Components, wide: F64) -> tuple[F32, ScoreRadius]:
    """What to multiply rows of a projection's table with for lower bounds of the scores, and their radius.

    Parameters
    ----------
    wide : ndarray of shape (n_centers, n_features), float64
        The centers, shifted like the rows.

    Returns
    -------
    table : ndarray of shape (n_centers, n_components + 2), float32
    radius : ScoreRadius
        See `projection_radius`.
    """
    m = projection.n_components
    inside, outside = projection.split(wide)
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->i", wide, wide)
        largest = float(np.sqrt(squares.max())) * (1.0 + 2.0**-20)
        rest = np.sqrt(np.einsum("ij,ij->i", outside, outside)) * (1.0 + 2.0**-20) + largest * 2.0**-40
        table = np.empty((len(wide), m + 2), np.float32)
        table[:, :m] = -2.0 * inside
        table[:, m] = (-2.0 * rest).astype(np.float32) * np.float32(1.0 + 2.0**-21)
        table[:, m + 1] = squares
    return table, projection_radius(m, largest, projection.eta, projection.defect, projection.leak(largest))


class Anchors:
    """What a run remembers of its rows' whole scores: the part that the components leave out, and since when."""

    def __init__(self, projection: Components, n_rows: int, n_centers: int) -> None:
        self.projection = projection
        #: (n, k) float32: score minus projected score, when the row was anchored.
        self._left_out = np.empty((n_rows, n_centers), np.float32)
        self._epoch = np.zeros(n_rows, np.uint16)
        self._paths = np.zeros((0, n_centers))  # at each epoch: how far each center's rest has moved since the first
        self._centers: F64 | None = None
        self._largest = 0.0
        #: Whether all rows are anchored.
        self.made = False

    @staticmethod
    def fit_into(n_centers: int, n_features: int) -> bool:
        """Whether scores of all centers are small beside the rows."""
        return n_centers <= ANCHOR_SHARE * n_features

    @property
    def full(self) -> bool:
        return len(self._paths) >= MOST_EPOCHS

    def advance(self, full: FullScreen, centers: NDArray) -> None:
        """Begin the next epoch, of all centers of the run, (n_clusters, n_features), which `full` scores."""
        projection = self.projection
        wide = full.rows.shifted(centers)
        m = projection.n_components
        with np.errstate(over="ignore", invalid="ignore"):
            self._largest = largest = max(self._largest, full.largest)
            path = np.zeros(len(wide))
            if self._centers is None:
                self._inside, self._rests = projection.split(wide)
            else:
                moved = np.flatnonzero((wide != self._centers).any(axis=1))
                self._inside[moved], rests = projection.split(wide[moved])
                step = rests - self._rests[moved]
                path += self._paths[-1]
                path[moved] += np.sqrt(np.einsum("ij,ij->i", step, step)) * (1.0 + 2.0**-20) + largest * 2.0**-40
                self._rests[moved] = rests
            self._centers = wide
            self._paths = np.concatenate([self._paths, path[None]])
            whole = score_radius(wide.shape[1], largest)
            projected = projection_radius(m, largest, projection.eta, projection.defect, projection.leak(largest))
            self._radius = anchored_radius(whole, projected, largest)
            #: Twice the way that the rest of each center has gone since each epoch.
            self._ways = (2.0 * (1.0 + 2.0**-20) * (path - self._paths)).astype(np.float32)
            self._table = np.zeros((m + 2, len(wide)), np.float32)
            self._table[:m] = -2.0 * self._inside.T
            self._table[m + 1] = np.einsum("ij,ij->i", wide, wide)

    def finish(self) -> None:
        """All rows are anchored now."""
        self.made = self.projection.filled = True

    def make(self, rows: Index, full: FullScreen) -> Screened:
        """Anchor rows for the first time, and screen them on the way."""
        screen, projection, m = full.rows, self.projection, self.projection.n_components
        with np.errstate(over="ignore", invalid="ignore"):
            if projection.filled:
                scores = full.scores(rows)
            else:  # both products at once: the rows are read once
                products = screen.products(rows, np.hstack([projection.basis, full.minus_two]))
                projection.fill(rows, products[:, :m], screen.norms[rows])
                scores = full.from_products(products[:, m:])
        self.anchor(rows, scores)
        return full.judge(rows, scores)

    def anchor(self, rows: Index, scores: F32) -> None:
        """Keep what the components leave out of these scores of whole rows, of this epoch's centers."""
        table = self.projection.rows(rows)
        with np.errstate(over="ignore", invalid="ignore"):
            self._left_out[rows] = scores - product(table, self._table)
        self._epoch[rows] = len(self._paths) - 1

    def __call__(self, rows: Index, norms: F64) -> Screened:
        """Screen anchored rows, whose norms (see RowScreen) are `norms`."""
        table = self.projection.rows(rows)
        with np.errstate(over="ignore", invalid="ignore"):
            scores = product(table, self._table)
            scores += self._left_out[rows] if isinstance(rows, slice) else np.take(self._left_out, rows, axis=0)
            slack = np.take(self._ways, self._epoch[rows], axis=0)
            slack *= table[:, -2:-1]
            scores -= slack
            lowest = lowest_scores(scores)
            upper = lowest.best_score + 2.0 * slack[np.arange(len(slack)), lowest.best].astype(np.float64)
            return verdict(norms, lowest, upper, self._radius)


# Nanoseconds on one core of a recent x86 server, to within a factor of two; only the choice of a basis depends on them.
_PRODUCT = 0.022  # a multiply-add of a float32 matrix product
_THIN = 0.45  # a float32 of a row in a product with few centers
_FETCH = 0.35  # a float32 of a row fetched by index
_PASS = 0.4  # a float32 read and written once more
_REUSES = 10.0  # screens of a row in a fit, on average

#: Weight of the centers among the rows of the sample: their own rests matter more than those of the rows.
_CENTER_WEIGHT = 6.0


def choose_basis(rows: RowScreen, before: NDArray, centers: NDArray) -> F32 | None:
    """The basis that makes screening cheapest, as tried on a sample of the rows; None if whole rows are cheaper.

    Parameters
    ----------
    before, centers : ndarray of shape (n_clusters, n_features)
        The centers of the last iteration and of this one: the step between them shows what anchors lose by a step.
    """
    d, k = rows.X.shape[1], len(centers)
    sizes = [m for m in COMPONENTS if 3 * m <= d]
    if not sizes or len(rows.X) < 8 * SAMPLE or not Anchors.fit_into(k, d):
        return None
    sample = rows.block(rows.sample)
    wide = rows.shifted(centers)
    if not (np.abs(sample).max() < LARGEST_TO_PROJECT and np.abs(wide).max() < LARGEST_TO_PROJECT):
        return None
    weight = _CENTER_WEIGHT * np.sqrt(len(sample) / k)
    directions = leading_directions(np.concatenate([sample, (weight * wide).astype(np.float32)]), sizes[-1])
    scores = np.einsum("ij,ij->i", wide, wide).astype(np.float32) - 2.0 * (sample @ wide.astype(np.float32).T)
    step = (wide - rows.shifted(before)).astype(np.float32)
    whole = d * (_FETCH + max(_THIN, _PRODUCT * k))
    cheapest, n_components = whole, 0
    for m in sizes:
        left = _left_open(scores, sample, step, directions[:, :m])
        row = (m + k) * _FETCH + m * max(_THIN, _PRODUCT * k) + 3 * k * _PASS
        cost = row + left * whole + _PRODUCT * d * m / _REUSES
        if cost < cheapest:
            cheapest, n_components = cost, m
    return np.ascontiguousarray(directions[:, :n_components]) if n_components else None


def _left_open(scores: F32, sample: F32, step: F32, basis: F32) -> float:
    """The share of rows, anchored a step ago, that would be left open."""
    inside = sample @ basis
    squares = np.einsum("ij,ij->i", sample, sample) - np.einsum("ij,ij->i", inside, inside)
    rest = step - (step @ basis) @ basis.T
    slack = 2.0 * np.sqrt(np.maximum(squares, 0.0))[:, None] * np.sqrt(np.einsum("ij,ij->i", rest, rest))
    lowest = lowest_scores(scores - slack, count=2)
    upper = lowest.best_score + 2.0 * slack[np.arange(len(slack)), lowest.best]
    return float(np.mean(~(lowest.second_score > upper)))


def leading_directions(table: F32, count: int) -> F32:
    """About the `count` leading right singular vectors of a table, as orthonormal columns, the foremost first.

    Two steps of subspace iteration from a fixed start (N. Halko, P. G. Martinsson, J. A. Tropp, "Finding structure with
    randomness", SIAM Review 2011).  How good they are changes the cost of a fit and none of its labels.
    """
    basis = np.random.default_rng(0).standard_normal((table.shape[1], count + 8)).astype(np.float32)
    for _ in range(2):
        basis, _ = np.linalg.qr(table.T @ (table @ basis))
    inner = table @ basis
    _, vectors = np.linalg.eigh((inner.T @ inner).astype(np.float64))
    return np.ascontiguousarray((basis @ vectors[:, ::-1].astype(np.float32))[:, :count])
