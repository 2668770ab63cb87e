"""Which centers go into one group, how far they move, and which components serve the bounds of groups.py."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F32, F64, I64
from gpukmeans.backends.cpu.screens.components import (
    LARGEST_TO_PROJECT,
    Components,
    fill_together,
    leading_directions,
    lower_scores,
)
from gpukmeans.backends.cpu.screens.full import SAMPLE, FullScreen, RowScreen
from gpukmeans.certificates.rounding import ScoreRadius
from gpukmeans.certificates.scores import square_distance_radius
from gpukmeans.threads import Workers, parts_of

#: Centers in a group, on average.
GROUP_SIZE = 32
#: Steps of k-means over the centers that make the groups.
GROUPING_STEPS = 5
#: Share of the (row, group) pairs that the bounds leave open, about, in the iterations that take the most time.
OPEN_SHARE = 0.3
#: Numbers of components that are tried on the sample.
COMPONENTS = (16, 32, 64, 128)
#: How many times fewer components the coarse projection has.
COARSER = 4
# Nanoseconds on one core of a recent x86 server, to within a factor of two; only the choice of a basis depends on them.
_PRODUCT = 0.027  # a multiply-add of a float32 matrix product
_FETCH = 0.6  # a float32 of a row fetched by index
_REUSES = 10.0  # looks at a row in a fit, on average


class Level(NamedTuple):
    """Scores of one accuracy: of the rows in a projection, or of whole rows."""

    projection: Components | None  # None: whole rows
    centers: F32  # one a row, in the order of Tables
    squares: F32 | None  # to add to the products with whole rows
    radius: ScoreRadius


class Tables(NamedTuple):
    """The centers of an assignment, group after group."""

    labels: NDArray[np.int32]  # of the centers in this order
    place: NDArray[np.int32]  # of each label in this order
    starts: list[int]  # of the groups, and the end of the last
    group: NDArray[np.int16]  # of the centers in this order
    full: FullScreen
    minus_two: F32  # (n_clusters, n_features), in this order
    levels: list[Level]  # the coarsest first
    drift: F32  # of the centers, in this order, rounded up
    travelled: F32  # by the groups, see certificates.drift.group_lower_bound


def group_centers(centers: F64, n_groups: int) -> I64:
    """Groups of near centers, by a few steps of k-means from evenly spaced ones.

    Any grouping keeps the labels right; a good one keeps more centers out of sight.
    """
    middles = centers[np.linspace(0, len(centers) - 1, n_groups).astype(np.int64)]
    group = np.zeros(len(centers), np.int64)
    for _ in range(GROUPING_STEPS):
        group = (np.einsum("ij,ij->i", middles, middles) - 2.0 * (centers @ middles.T)).argmin(axis=1)
        here = (group[:, None] == np.unique(group)).astype(np.float64)
        middles = (here.T @ centers) / here.sum(axis=0)[:, None]
    return np.unique(group, return_inverse=True)[1].ravel()


def by_group(groups: NDArray[np.integer], starts: list[int], most: int | None = None) -> list[tuple[slice, int, int]]:
    """Where each group that occurs lies in `groups`, which rise, and where its centers begin and end.

    Cut into pieces of at most `most`.
    """
    ends = np.searchsorted(groups, np.arange(len(starts), dtype=groups.dtype)).tolist()
    return [
        (slice(a + piece.start, a + piece.stop), first, end)
        for (a, b), (first, end) in zip(pairwise(ends), pairwise(starts), strict=True)
        for piece in parts_of(b - a, most or b - a or 1)
    ]


def pairs_where(pairs: NDArray[np.bool_]) -> tuple[I64, I64]:
    """np.nonzero, several times faster."""
    flat = np.flatnonzero(pairs)
    groups = flat // pairs.shape[1]
    return groups, flat - groups * pairs.shape[1]


def nearest_and_others(scores: F32, starts: list[int]) -> tuple[I64, F32]:
    """The nearest center of each column of `scores`, (n_centers, n_rows), and the lowest of each group's other ones."""
    lowest = np.empty((len(starts) - 1, scores.shape[1]), np.float32)
    for group, (first, end) in enumerate(pairwise(starts)):
        np.minimum.reduce(scores[first:end], axis=0, out=lowest[group])
    nearest = np.empty(scores.shape[1], np.int64)
    of_group = lowest.argmin(axis=0)
    for group, (first, end) in enumerate(pairwise(starts)):
        rows = np.flatnonzero(of_group == group)
        here = scores[first:end, rows]
        at, across = here.argmin(axis=0), np.arange(len(rows))
        nearest[rows] = first + at
        here[at, across] = np.inf
        lowest[group, rows] = here.min(axis=0)
    return nearest, lowest


def leave_out(scores: F32, own: NDArray[np.int32], first: int, end: int) -> None:
    """Make the scores of the rows' own centers infinite, where these are among the centers of the group."""
    here = np.flatnonzero((own >= first) & (own < end))
    scores[own[here] - first, here] = np.inf


def length_of_drift(new: NDArray, old: NDArray) -> F64:
    """How far each center moved, rounded up."""
    difference = new.astype(np.float64) - old.astype(np.float64)
    square = np.einsum("ij,ij->i", difference, difference)
    square *= 1.0 + 2.0 * square_distance_radius(new.shape[1])
    return np.sqrt(square + 2.0**-990) * (1.0 + 2.0**-40)


def group_components(rows: RowScreen, centers: NDArray, pool: Workers) -> list[Components]:
    """The components of all rows that suit bounds of groups, few of them and more; none where whole rows are cheaper.

    Tried on a sample, as in `choose_basis`, but with sharp upper bounds: what counts is how many centers are left.
    """
    n, d = rows.X.shape
    k = len(centers)
    sizes = [m for m in COMPONENTS if 3 * m <= d]
    sample = rows.block(rows.sample)
    if not sizes or n < 8 * SAMPLE or not np.abs(sample).max() < LARGEST_TO_PROJECT:
        return []
    nearest = FullScreen(rows, centers).scores(rows.sample).min(axis=1)
    directions = leading_directions(sample, sizes[-1])
    norms = rows.norms[rows.sample]
    cheapest, best = OPEN_SHARE * _PRODUCT * d * k, 0
    for m in sizes:
        projection = Components(len(sample), np.ascontiguousarray(directions[:, :m]))
        projection.fill(slice(None), sample @ projection.basis, norms)
        table, radius = lower_scores(projection, rows.shifted(centers))
        left = float(((projection.table @ table.T) <= (nearest + radius.of(norms))[:, None]).sum(axis=1).mean())
        cost = OPEN_SHARE * _PRODUCT * m * k + _PRODUCT * d * m / _REUSES
        cost += min(left, k / GROUP_SIZE) * d * (_PRODUCT * GROUP_SIZE + _FETCH)
        if cost < cheapest:
            cheapest, best = cost, m
    if not best:
        return []
    made = [Components(n, np.ascontiguousarray(directions[:, :m])) for m in (best // COARSER, best)]
    fill_together(made, rows, pool)
    return made


def open_share(rows: RowScreen, before: NDArray, after: NDArray) -> float:
    """About the share of the (row, group) pairs that bounds leave open when the centers move, by the sample."""
    x = rows.block(rows.sample[::4]).astype(np.float64)
    if not np.isfinite(x).all():
        return 1.0
    group = group_centers(rows.shifted(before), max(1, round(len(before) / GROUP_SIZE)))
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))

    def distances(centers: NDArray) -> F64:
        wide = rows.shifted(centers[order])
        squares = np.einsum("ij,ij->i", wide, wide) - 2.0 * (x @ wide.T)
        return np.sqrt(np.maximum(squares + np.einsum("ij,ij->i", x, x)[:, None], 0.0))

    old, each = distances(before), np.arange(len(x))
    own = old.argmin(axis=1)
    upper = distances(after)[each, own]
    old[each, own] = np.inf
    drift = np.maximum.reduceat(length_of_drift(after[order], before[order]), starts)
    return float(np.mean(np.minimum.reduceat(old, starts, axis=1) - drift <= upper[:, None]))
