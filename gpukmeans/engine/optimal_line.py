"""The partition of numbers on a line into k segments of the smallest cost: dynamic programming on ever finer blocks.

A cost is smaller the fewer numbers a segment has, and costs satisfy the quadrangle inequality, so that the best place
of a boundary moves to the right with the next one: minima of a layer are found by halving (H. Wang and M. Song,
"Ckmeans.1d.dp: optimal k-means clustering in one dimension by dynamic programming", The R Journal 2011; A. Gronlund et
al., "Fast exact k-means, k-medians and Bregman divergence clustering in 1D", arXiv:1701.07204, 2017).

Here boundaries are first known to lie in blocks of numbers.  A segment contains at least what lies between its two
blocks, which gives lower bounds of all partitions with a boundary in a block.  Blocks whose bound is above the cost of
a partition at hand are dropped, the others cut, down to single places.  What is left within the errors of the costs is
compared in fractions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64, I64
from gpukmeans.exact.segments import Segments, gain

#: Blocks of the first layer, and parts that a block is cut into.
BLOCKS, CUT = 1024, 4
#: Pairs of blocks up to which all are compared.
PAIRS = 1 << 12

#: Rows and columns of a matrix, to its values there.
Values = Callable[[I64, I64], F64]


def optimal_cuts(segments: Segments, n_segments: int) -> I64:
    """The places at which the numbers are cut best into segments: (n_segments + 1,), the ends included.

    Of equal costs, the partition whose last boundary lies leftmost, and so on down to the first.  There must be at
    least `n_segments` distinct numbers.
    """
    n, k = len(segments.x), n_segments
    if k == 1:
        return np.array([0, n])
    size = CUT ** max(0, int(np.ceil(np.log(n / BLOCKS) / np.log(CUT))))
    layers = [_blocks(j, n - k + j, size) for j in range(1, k)]
    best = np.inf
    while True:
        forward, path = _bounds(segments, layers, n)
        best = min(best, _cost(segments, _improved(segments, np.array([0, *path, n]))))
        backward = _backward(segments, layers, n)
        # 64 comparisons of costs, at most, lie between a bound and the cost that it is of, for each of the segments.
        slack = 64.0 * (k + 1) * (2.0**-51 * best + segments.error)
        kept = [f + b <= best + slack for f, b in zip(forward, backward, strict=True)]
        layers = [(low[keep], high[keep]) for (low, high), keep in zip(layers, kept, strict=True)]
        if size == 1:
            break
        size //= CUT
        layers = [_cut(low, high, size) for low, high in layers]
    places = [low for low, _ in layers]
    if all(len(some) == 1 for some in places):
        return np.array([0, *(int(some[0]) for some in places), n])
    return _exactly(segments, places, n, slack)


def _blocks(first: int, last: int, size: int) -> tuple[I64, I64]:
    """Blocks of at most `size` places, from `first` to `last`: the first and the last place of each."""
    low = np.arange(first - first % size, last + 1, size)
    return np.maximum(low, first), np.minimum(low + size - 1, last)


def _cut(low: I64, high: I64, size: int) -> tuple[I64, I64]:
    """Blocks cut at the multiples of `size`."""
    base = low - low % size
    starts = (base[:, None] + size * np.arange(CUT)).ravel()
    starts, stops = np.maximum(starts, low.repeat(CUT)), np.minimum(starts + size - 1, high.repeat(CUT))
    some = starts <= stops
    return starts[some], stops[some]


def _bounds(segments: Segments, layers: list[tuple[I64, I64]], n: int) -> tuple[list[F64], list[int]]:
    """Lower bounds of the cost before each block, and a path of boundaries that goes with the lowest."""
    low, high = layers[0]
    bounds, origins = [segments.costs(np.zeros_like(low), low)], []
    for (_, before), (low, _) in pairwise(layers):
        known = bounds[-1]

        def through(rows: I64, columns: I64, known: F64 = known, before: I64 = before, low: I64 = low) -> F64:
            return known[columns] + segments.costs(before[columns], low[rows])

        found, where = row_minima(through, len(low), len(before))
        bounds.append(found)
        origins.append(where)
    _, high = layers[-1]
    place = int((bounds[-1] + segments.costs(high, np.full_like(high, n))).argmin())
    path = [place]
    for where in reversed(origins):
        path.append(int(where[path[-1]]))
    return bounds, [int(low[p]) for (low, _), p in zip(layers, reversed(path), strict=True)]


def _backward(segments: Segments, layers: list[tuple[I64, I64]], n: int) -> list[F64]:
    """Lower bounds of the cost behind each block."""
    _, high = layers[-1]
    bounds = [segments.costs(high, np.full_like(high, n))]
    for (after, _), (_, high) in pairwise(reversed(layers)):
        known = bounds[-1]

        def through(rows: I64, columns: I64, known: F64 = known, after: I64 = after, high: I64 = high) -> F64:
            return known[columns] + segments.costs(high[rows], after[columns])

        bounds.append(row_minima(through, len(high), len(after))[0])
    return bounds[::-1]


def row_minima(values: Values, n_rows: int, n_columns: int) -> tuple[F64, NDArray[np.intp]]:
    """The smallest value of each row, and its column, where the column does not fall from one row to the next.

    Every second row is found first, then those between, which look only between the columns of their neighbours.
    """
    least, where = np.full(n_rows, np.inf), np.zeros(n_rows, np.intp)
    step = 1 if n_rows * n_columns <= PAIRS else 1 << (n_rows - 1).bit_length()
    first = True
    while step:
        rows = np.arange(0, n_rows, step) if first else np.arange(step, n_rows, 2 * step)
        lowest = np.zeros(len(rows), np.intp) if first else where[rows - step]
        following = np.minimum(rows + step, n_rows)
        highest = np.full(len(rows), n_columns - 1)
        inner = following < n_rows
        if not first:
            highest[inner] = where[following[inner]]
        counts = highest - lowest + 1
        ends = counts.cumsum()
        starts = ends - counts
        columns = np.arange(ends[-1]) - (starts - lowest).repeat(counts) if len(rows) else np.zeros(0, np.intp)
        if len(rows):
            found = np.concatenate(list(_by_parts(values, rows.repeat(counts), columns)))
            least[rows] = np.minimum.reduceat(found, starts)
            at_least = np.flatnonzero(found == least[rows].repeat(counts))
            where[rows] = columns[at_least[np.searchsorted(at_least, starts)]]
        first = False
        step //= 2
    return least, where


def _by_parts(values: Values, rows: I64, columns: I64, most: int = 1 << 14) -> Iterator[F64]:
    """The values of some pairs, so few at a time that they stay in a cache."""
    for start in range(0, len(rows), most):
        yield values(rows[start : start + most], columns[start : start + most])


def _improved(segments: Segments, cuts: I64) -> I64:
    """Cuts with a lower cost, by Lloyd's iteration in rounded arithmetic."""
    cost = _cost(segments, cuts)
    while True:
        means = segments.means(cuts)
        moved = cuts.copy()
        moved[1:-1] = segments.x.searchsorted(0.5 * (means[1:] + means[:-1]))
        if (np.diff(moved) < 1).any():
            return cuts
        lower = _cost(segments, moved)
        if not lower < cost * (1.0 - 2.0**-30):
            return moved if lower < cost else cuts
        cuts, cost = moved, lower


def _cost(segments: Segments, cuts: I64) -> float:
    return float(segments.costs(cuts[:-1], cuts[1:]).sum())


def _exactly(segments: Segments, places: list[I64], n: int, slack: float) -> I64:
    """The best cuts among some places of each boundary, in fractions; pairs that rounding excludes are left out."""
    sums = segments.exact_sums(np.unique(np.concatenate([[0], *places, [n]])))
    layers = [np.array([0]), *places, np.array([n])]
    lowest, gains = np.zeros(1), [Fraction(0)]
    origins: list[list[int]] = []
    for before, after in pairwise(layers):
        bounds, best, origin = np.empty(len(after)), [], []
        for i, stop in enumerate(after.tolist()):
            costs = lowest + segments.costs(before, np.full(len(before), stop))
            costs[before >= stop] = np.inf
            bounds[i] = costs.min()
            near = np.flatnonzero((costs <= bounds[i] + slack) & np.isfinite(costs))
            found = [(gains[p] + gain(sums, int(before[p]), stop), -int(p)) for p in near]
            top = max(found, default=(Fraction(-1), 0))
            best.append(top[0])
            origin.append(-top[1])
        lowest, gains = bounds, best
        origins.append(origin)
    path = [0]
    for origin in reversed(origins):
        path.append(origin[path[-1]])
    return np.array([int(layer[p]) for layer, p in zip(layers, reversed(path), strict=True)])
