"""Bounds for groups of centers: how the NumPy backend keeps most centers out of sight where there are many.

Y. Ding et al., "Yinyang K-means: a drop-in replacement of the classic K-means with consistent speedup", ICML 2015: the
centers are put into groups of about 32, and each row keeps a lower bound of its distance to each group, its own center
left out.  What follows is this package's own, and made for matrix products.  In each iteration a row goes through

bounds      a group farther than the own center, by last iteration's bounds less the drift, is out
own         the distance to the own center is computed afresh, in float32 with its radius; the bounds are compared again
projected   the groups left: a lower bound of each from the rows' leading components (components.py), which costs
            a fraction of a product of whole rows and, held against a sharp upper bound, settles most of them
whole       the groups still left: float32 products of whole rows

and its label is certified where the best whole score wins by more than the radii.  All the steps work on blocks of
rows and group by group, so that every product is one of matrices.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F32, F64, I64, Index
from gpukmeans.backends.cpu.screens.components import Components, lower_scores
from gpukmeans.backends.cpu.screens.full import FullScreen, RowScreen
from gpukmeans.backends.cpu.screens.grouping import (
    GROUP_SIZE,
    Level,
    Tables,
    by_group,
    group_centers,
    leave_out,
    length_of_drift,
    nearest_and_others,
    open_share,
    pairs_where,
)
from gpukmeans.certificates.drift import group_base, group_lower_bound, group_threshold, upper_distance
from gpukmeans.certificates.rounding import ScoreRadius
from gpukmeans.threads import Workers, parts_of, rows_of

#: Iterations after which the centers are grouped anew: the first ones still travel far.
REGROUP = 2
#: Without a projection bounds cost a plain pass to make: a sample decides in this iteration whether to make them.
TRIAL = 3
#: Most rows of a block, and most of its (row, group) pairs.  Many: threads that hand the interpreter to and fro between
#: small operations gain nothing.
BLOCK = 40_000
BLOCK_PAIRS = 1 << 21
#: Bounds of that many groups are kept in any case; those of more may take as many bytes as float32 rows.
FEW_GROUPS = 8
#: Share of the (row, group) pairs of a block beyond which all are looked at, in one product.
DENSE = 0.5
#: Share of the pairs left open by the bounds from which these are not worth their keep without a projection.
WORTHWHILE = 0.5
#: Scores, and values of rows, that are made at a time: they should stay in the shared cache.
FEW_SCORES = 1 << 20
FEW_VALUES = 1 << 19


class LookedAt(NamedTuple):
    """The outcome of an assignment: the rows that bounds did not skip, and those that float32 cannot decide."""

    rows: I64
    undecided: I64


class _Open(NamedTuple):
    """What the bounds and the first look leave open in a block: pairs of groups and rows."""

    groups: NDArray[np.int16]
    rows: I64
    looked_at: I64
    n_pairs: int


def may_pay(n_samples: int, n_features: int, n_clusters: int) -> bool:
    """Whether groups and rows are many enough for bounds of groups, and the bounds not too many."""
    if n_clusters <= 4 * GROUP_SIZE or n_samples < 4 * n_clusters:
        return False
    return n_clusters <= GROUP_SIZE * max(FEW_GROUPS, n_features)


class GroupBounds:
    """The bounds of all rows of one run.

    Parameters
    ----------
    screen : callable
        Returns the shift and the norms of the rows; called when bounds are computed for the first time.
    components : callable or None
        Called then with the centers and a pool: returns components of the rows to screen by, an empty list where they
        do not pay.  None: whole rows only.

    Notes
    -----
    The labels handed in need not be near, nor the centers near those before: labels are starting points, and drift is
    measured here.  Call `forget` after changing the label of a row that was not undecided.
    """

    def __init__(
        self, screen: Callable[[], RowScreen], components: Callable[[NDArray, Workers], list[Components]] | None
    ) -> None:
        self._screen = screen
        self._choose = components
        self._n_tried = 0  # see TRIAL
        self._n_assigned = 0  # since the last grouping from scratch
        self._pays = True

    def _start(self, centers: NDArray, pool: Workers) -> None:
        self._rows = self._screen()
        self._rows.measure(pool)
        self._centers = centers
        self._projections = [] if self._choose is None else self._choose(centers, pool)
        n = len(self._rows.norms)
        self._lower = np.zeros((0, n), np.float32)  # (n_groups, n_rows)
        self._upper = np.zeros(n, np.float32)
        self._score = np.zeros(n, np.float32)  # of the own centers, where a row was looked at

    def forget(self) -> None:
        """The labels are no longer those that the bounds are for."""
        self._n_assigned = min(self._n_assigned, REGROUP - 1)

    def assign(self, centers: NDArray, alive: I64, labels: NDArray[np.int32], pool: Workers) -> LookedAt | None:
        """Label, in place, every row whose nearest center float32 scores can decide.

        Parameters
        ----------
        centers : ndarray of shape (n_clusters, n_features)
        alive : ndarray of indices
            Centers that no equal center stands before.
        labels : ndarray of shape (n_rows,), int32
            Starting points; -1 where there are none.

        Returns
        -------
        LookedAt or None
            None, and no label changed: centers are equal, float32 does not reach, there are neither labels nor a
            projection to start from, or the bounds proved not worth their keep.
        """
        if not self._pays or len(alive) < len(centers):
            self.forget()
            return None
        if not hasattr(self, "_rows"):
            self._start(centers, pool)
        unlabelled = bool((labels < 0).any())
        if not self._projections and self._n_tried < TRIAL:
            self._n_tried += 1
            before, self._centers = self._centers, centers.copy()
            self._pays = self._n_tried < TRIAL or open_share(self._rows, before, centers) < WORTHWHILE
            if self._n_tried < TRIAL or not self._pays:
                return None
        tables = None if unlabelled and not self._projections else self._prepare(centers, pool)
        if tables is None:
            self._n_assigned = REGROUP - 1
            return None
        self._tables = tables

        def look(part: slice) -> _Open:
            return (self._first_look if unlabelled else self._look)(part, labels, tables)

        most = min(BLOCK, max(1024, BLOCK_PAIRS // len(self._lower)), self._rows.most_held)
        parts = pool.map(look, pool.share(len(labels), most, 1))
        groups = np.concatenate([part.groups for part in parts])
        rows = np.concatenate([part.rows for part in parts])
        order = np.argsort(groups, kind="stable")
        undecided = self._decide(groups[order], rows[order], labels, tables, pool)
        if self._n_assigned > REGROUP and not self._projections:
            self._pays = sum(part.n_pairs for part in parts) < WORTHWHILE * self._lower.size
        return LookedAt(np.concatenate([part.looked_at for part in parts]), undecided)

    def candidates(self, rows: I64) -> NDArray[np.bool_]:
        """(n_rows, n_clusters): the centers that may be nearest, among those of the last assignment."""
        return self._tables.full.candidates(rows)[:, self._tables.place]

    # ---- the centers -------------------------------------------------------------------------------------------------

    def _prepare(self, centers: NDArray, pool: Workers) -> Tables | None:
        """Group the centers or follow their drift; None where float32 does not reach."""
        rows = self._rows
        anew = self._n_assigned < REGROUP
        self._n_assigned += 1
        if anew:
            self._group(rows.shifted(centers))
        order, starts = self._order, self._starts
        ordered = centers[order]
        before = ordered if anew else self._centers[order]
        drift = np.zeros(len(order))

        def project(part: slice) -> list[tuple[F32, ScoreRadius]]:
            drift[part] = length_of_drift(ordered[part], before[part])
            wide = rows.shifted(ordered[part])
            return [lower_scores(projection, wide) for projection in self._projections]

        halves = pool.map(project, parts_of(len(order), -(-len(order) // pool.threads)))
        levels = []
        for projection, *screens in zip(self._projections, *halves, strict=True):
            tables, radii = zip(*screens, strict=True)
            radius = ScoreRadius(max(r.per_norm for r in radii), max(r.constant for r in radii))
            levels.append(Level(projection, np.concatenate(tables), None, radius))
        full = FullScreen(rows, ordered)
        if not full.in_range:
            return None
        minus_two = np.ascontiguousarray(full.minus_two.T)
        if not levels:
            levels.append(Level(None, minus_two, full.squares, full.radius))
        self._centers = centers.copy()
        self._travelled += np.maximum.reduceat(drift, starts[:-1])
        place = np.empty(len(order), np.int32)
        place[order] = np.arange(len(order))
        return Tables(
            order.astype(np.int32),
            place,
            starts.tolist(),
            np.repeat(np.arange(len(starts) - 1, dtype=np.int16), np.diff(starts)),
            full,
            minus_two,
            levels,
            (drift * (1.0 + 2.0**-22) + 2.0**-140).astype(np.float32),
            self._travelled.astype(np.float32),
        )

    def _group(self, centers: F64) -> None:
        """Order the centers by groups of near ones, and void all bounds."""
        group = group_centers(centers, max(1, round(len(centers) / GROUP_SIZE)))
        self._order = np.argsort(group, kind="stable")
        self._starts = np.concatenate([[0], np.cumsum(np.bincount(group))])
        n_groups = len(self._starts) - 1
        self._travelled = np.zeros(n_groups)
        if len(self._lower) != n_groups:
            self._lower = np.empty((n_groups, len(self._upper)), np.float32)
        self._lower[:] = -np.inf

    # ---- the rows ----------------------------------------------------------------------------------------------------

    def _first_look(self, part: slice, labels: NDArray[np.int32], tables: Tables) -> _Open:
        """Label rows by the finest projection, and open the groups that may have a nearer center: see `_look`."""
        level = tables.levels[-1]
        own = np.empty(part.stop - part.start, np.int64)
        lowest = np.empty((len(tables.starts) - 1, len(own)), np.float32)
        for some in parts_of(len(own), max(64, FEW_SCORES // len(level.centers))):
            scores = _scores(self._rows, rows_of(part, some), level, 0, tables.starts[-1])
            own[some], lowest[:, some] = nearest_and_others(scores, tables.starts)
        labels[part] = tables.labels[own]
        norms, every = self._rows.norms[part], np.arange(len(own))
        squares, beyond = norms * norms, level.radius.of(norms)
        self._score[part] = self._own_scores(self._rows, part, every, own, tables)
        highest = self._score[part] + tables.full.radius.of(norms)
        self._upper[part] = upper_distance(squares, highest)
        self._lower[:, part] = group_lower_bound(lowest, group_base(squares, beyond), tables.travelled[:, None])
        groups, rows = pairs_where(~(lowest > highest + beyond))
        return _Open(groups.astype(np.int16), part.start + rows, part.start + every, lowest.size)

    def _look(self, part: slice, labels: NDArray[np.int32], tables: Tables) -> _Open:
        """Ask the bounds, then cheap scores; from here on centers are counted group by group, rows from the block's."""
        own = tables.place[labels[part]]
        lower, travelled = self._lower[:, part], tables.travelled[:, None]
        upper = self._upper[part]
        upper += tables.drift[own]
        upper *= np.float32(1.0 + 2.0**-22)
        near = np.flatnonzero(~(lower > group_threshold(upper, travelled)).all(axis=0))
        if not len(near):
            return _Open(np.zeros(0, np.int16), near, near, 0)
        norms = self._rows.norms[part]
        squares = norms * norms
        score, whole = self._score[part], self._rows.held(part, part.start + near)
        score[near] = self._own_scores(whole, part, near, own, tables)
        highest = score + tables.full.radius.of(norms)
        upper[near] = upper_distance(squares[near], highest[near])

        fails = ~(lower > group_threshold(upper, travelled))
        n_pairs = int(np.count_nonzero(fails))
        dense = n_pairs > DENSE * fails.size
        groups, rows = (near[:0], near[:0]) if dense else pairs_where(fails)
        for level in tables.levels:
            beyond = level.radius.of(norms)
            base, reach = group_base(squares, beyond), highest + beyond
            if level is tables.levels[0] and dense:
                lowest = self._dense_scores(whole, part, own, level, tables.starts)
                np.maximum(lower, group_lower_bound(lowest, base, travelled), out=lower)
                groups, rows = pairs_where(fails & ~(lowest > reach))
            elif len(rows):
                lowest = self._sparse_scores(whole, part, groups, rows, own, level, tables.starts)
                lower[groups, rows] = group_lower_bound(lowest, base[rows], tables.travelled[groups])
                left = ~(lowest > reach[rows])
                groups, rows = groups[left], rows[left]
        return _Open(groups.astype(np.int16), part.start + rows, part.start + near, n_pairs)

    def _own_scores(self, whole: RowScreen, part: slice, near: I64, own: NDArray[np.int32], tables: Tables) -> F32:
        """Whole scores of the rows' own centers."""
        scores = np.empty(len(near), np.float32)
        all_near = len(near) == len(own)
        for some in parts_of(len(near), max(64, FEW_VALUES // tables.minus_two.shape[1])):
            index: Index = part.start + near[some]
            if all_near:
                index = rows_of(part, some)
            center = own[near[some]]
            np.einsum("ij,ij->i", whole.block(index), tables.minus_two[center], out=scores[some])
            scores[some] += tables.full.squares[center]
        return scores

    def _dense_scores(
        self, whole: RowScreen, part: slice, own: NDArray[np.int32], level: Level, starts: list[int]
    ) -> F32:
        """(n_groups, n_rows): the lowest score of each group, the own center left out."""
        lowest = np.empty((len(starts) - 1, len(own)), np.float32)
        for some in parts_of(len(own), max(64, FEW_SCORES // starts[-1])):
            scores = _scores(whole, rows_of(part, some), level, 0, starts[-1])
            scores[own[some], np.arange(scores.shape[1])] = np.inf
            for group, (first, end) in enumerate(pairwise(starts)):
                np.minimum.reduce(scores[first:end], axis=0, out=lowest[group, some])
        return lowest

    def _sparse_scores(
        self,
        whole: RowScreen,
        part: slice,
        groups: I64,
        rows: I64,
        own: NDArray[np.int32],
        level: Level,
        starts: list[int],
    ) -> F32:
        """The lowest score of each of some (group, row), the own center left out."""
        lowest = np.empty(len(rows), np.float32)
        for pairs, first, end in by_group(groups, starts):
            index = rows[pairs]
            scores = _scores(whole, part.start + index, level, first, end)
            leave_out(scores, own[index], first, end)
            np.minimum.reduce(scores, axis=0, out=lowest[pairs])
        return lowest

    def _decide(
        self, groups: NDArray[np.int16], rows: I64, labels: NDArray[np.int32], tables: Tables, pool: Workers
    ) -> I64:
        """Whole scores for the (group, row) left, the groups rising; returns the rows that stay undecided."""
        full = tables.full
        (best, second), column = np.empty((2, len(rows)), np.float32), np.empty(len(rows), np.int64)

        named = np.zeros(len(labels), bool)
        named[rows] = True
        looked_at = np.flatnonzero(named)
        for whole, some in self._rows.in_turn(rows, looked_at):

            def compare(task: tuple[slice, int, int], whole: RowScreen = whole, some: Index = some) -> None:
                piece, first, end = task
                pairs = rows_of(some, piece)
                index = rows[pairs]
                scores = tables.minus_two[first:end] @ whole.block(index).T
                scores += full.squares[first:end, None]
                leave_out(scores, tables.place[labels[index]], first, end)
                at, across = scores.argmin(axis=0), np.arange(len(index))
                best[pairs] = scores[at, across]
                scores[at, across] = np.inf
                second[pairs] = np.minimum.reduce(scores, axis=0)
                column[pairs] = first + at

            most = max(64, FEW_VALUES // tables.minus_two.shape[1])
            pool.map(compare, by_group(groups[some], tables.starts, most))

        # The winner of each row, if any is better than its own center; every other score bounds its group.
        lead = self._score.copy()
        np.minimum.at(lead, rows, best)
        winner = np.full(len(labels), -1)
        wins = np.flatnonzero((best == lead[rows]) & (best < self._score[rows]))
        winner[rows[wins]] = wins
        moved = np.flatnonzero(winner >= 0)
        wins = winner[moved]
        best[wins] = second[wins]
        runner_up = np.full(len(labels), np.inf, np.float32)
        runner_up[moved] = self._score[moved]
        np.minimum.at(runner_up, rows, best)

        norms = self._rows.norms
        squares, radius = norms * norms, full.radius.of(norms)
        base = group_base(squares, radius)
        self._lower[groups, rows] = group_lower_bound(best, base[rows], tables.travelled[groups])
        left = tables.group[tables.place[labels[moved]]]
        behind = group_lower_bound(self._score[moved], base[moved], tables.travelled[left])
        self._lower[left, moved] = np.minimum(self._lower[left, moved], behind)
        self._upper[moved] = upper_distance(squares[moved], lead[moved] + radius[moved])
        labels[moved] = tables.labels[column[wins]]

        margin = runner_up[looked_at].astype(np.float64) - lead[looked_at]
        undecided = looked_at[~(margin > 2.0 * radius[looked_at])]
        self._lower[:, undecided] = -np.inf  # they are labelled elsewhere
        return undecided


def _scores(whole: RowScreen, rows: Index, level: Level, first: int, end: int) -> F32:
    """(n_centers, n_rows)"""
    x = whole.block(rows) if level.projection is None else level.projection.rows(rows)
    scores = level.centers[first:end] @ x.T
    if level.squares is not None:
        scores += level.squares[first:end, None]
    return scores
