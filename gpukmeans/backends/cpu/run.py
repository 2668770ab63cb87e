"""One run of Lloyd's algorithm on the CPU: skip, screen, resolve, move."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64, I64, Index
from gpukmeans.backends.cpu.own import OwnDistances, check_precision
from gpukmeans.backends.cpu.screens.bounds import DriftBounds
from gpukmeans.backends.cpu.sums import ClusterSums
from gpukmeans.backends.cpu.table import Anchored, S, Table
from gpukmeans.backends.known import Known
from gpukmeans.backends.protocol import Assigned, Updated
from gpukmeans.certificates.verdicts import Screened
from gpukmeans.exact.tie_break import first_of_equal_rows
from gpukmeans.threads import Workers, rows_to_screen, workers

#: Share of the rows from which all are looked at, without fetching them by index.
NEARLY_ALL = 0.9
#: Fewer rows are not worth a second thread.
LEAST = 1024
#: If bounds skip almost no row in two iterations running, ignore them for PAUSE iterations; each further failure adds
#: PAUSE.
PAUSE = 3
#: Share of the rows to look at from which it pays to anchor all.
ANCHOR_FROM = 0.5


class NumpyRun(OwnDistances, Generic[S]):
    """Centers, labels and exact sums of one run, and what its screens keep of the rows.

    Parameters
    ----------
    table : Table
        The rows, dense or sparse.
    centers : ndarray of shape (n_clusters, n_features)
    precision : {"exact", "fast"}
        "fast": rows that the screens leave open keep the center of the best score.
    """

    def __init__(self, table: Table[S], centers: NDArray, precision: str) -> None:
        check_precision(precision)
        self._table = table
        self._centers = self._assigned = np.array(centers, table.center_dtype, order="C")
        self._certify = precision == "exact"
        self._labels = np.full(table.n_samples, -1, np.int32)
        self._n_assigned = 0
        self._bounds: DriftBounds | None = None
        self._n_futile = 0  # iterations running in which the bounds skipped hardly any row
        self._pause = 0  # iterations to go without bounds
        self._anchors: Anchored[S] | None = None
        self._groups = table.groups(len(self._centers))
        grid = table.grid
        self._sums: ClusterSums | None = None if grid is None else table.sums(len(self._centers), grid)
        self._n_known = 0  # rows that had a label before the first assignment

    # ---- rows that are known ---------------------------------------------------------------------------------------

    def take_known(self, known: Known) -> Self:
        """Begin with what is known of the first rows: only the others are looked at."""
        n = self._n_known = len(known.labels)
        self._labels[:n] = known.labels
        self._groups, self._n_assigned = None, 1  # as if these rows had been looked at
        self._bounds = DriftBounds(self._table.n_samples, len(self._centers))
        self._bounds.advance(self._centers)
        gaps = Screened(known.labels, known.second, np.ones(n, bool), known.near, known.rest)
        self._bounds.settle(slice(0, n), known.labels, known.second, gaps)
        sums = self._need_sums()
        if known.sums is not None:
            sums.sums[:], sums.weights[:] = known.sums
        else:
            with workers(self._table.size) as pool:
                sums.add(np.arange(n), np.full(n, -1, np.int32), known.labels, pool)
        return self

    def known(self) -> Known:
        """Assign all rows and tell what is known of them, beside the centers that the run started from."""
        self._groups = None
        self._bounds = DriftBounds(self._table.n_samples, len(self._centers))
        self._bounds.advance(self._centers)
        self.assign()
        return Known(self._labels, *self._bounds.gaps(), self.sums())

    # ---- assign ------------------------------------------------------------------------------------------------

    def assign(self, *, move: bool = True) -> Assigned:
        table = self._table
        if not move and not self._n_assigned:
            found = table.nearest_of_few(self._centers)
            if found is not None:
                self._labels, n_exact = found
                self._n_assigned = 1
                n = table.n_samples
                return Assigned(n, n_certified=0, n_resolved=n - n_exact, n_exact=n_exact, n_uncertain=0, n_skipped=0)
        before, self._assigned = self._assigned, self._centers
        first = first_of_equal_rows(self._centers)
        alive = np.flatnonzero(first == np.arange(len(first)))
        with workers(table.size) as pool:
            clock = _Clock()
            self._n_assigned += 1
            look = self._look_by_groups(alive, pool, clock) or self._look(alive, before, move, pool, clock)
            looked_at, undecided = look.rows, look.undecided
            n_samples, n_looked_at, n_open = (self._count(rows) for rows in (None, looked_at, undecided))
            n_exact = self._resolve(undecided, alive, look.candidates, pool) if n_open and look.certify else 0
            clock.lap("resolve")
            if len(alive) < len(first):  # equal centers may part later, and no bounds exist for those left out
                self._anchors = None
                if self._bounds is not None:
                    self._bounds.forget()
            new = self._labels if looked_at is None else self._labels[looked_at]
            changed = np.flatnonzero(new != look.labels)
            index = changed if looked_at is None else looked_at[changed]
            if move and len(changed):
                self._need_sums().move(index, look.labels[changed], new[changed], self._labels, pool)
            clock.lap("move")
        n_moved = n_samples if self._n_known else self._count(index)  # known rows are given their labels, too
        self._n_known = 0
        return Assigned(
            n_moved,
            n_certified=n_looked_at - n_open,
            n_resolved=n_open - n_exact if look.certify else 0,
            n_exact=n_exact,
            n_uncertain=0 if look.certify else n_open,
            n_skipped=n_samples - n_looked_at,
            seconds=clock.seconds,
        )

    def _count(self, rows: NDArray[np.int64] | None) -> int:
        """How many rows of the caller some rows (None: all) stand for."""
        counts = self._table.counts
        if counts is None:
            return self._table.n_samples if rows is None else len(rows)
        return int(counts.sum() if rows is None else counts[rows].sum())

    def _look_by_groups(self, alive: NDArray[np.int64], pool: Workers, clock: _Clock) -> _Look | None:
        """Label rows by bounds of groups of centers; None where there are few centers, or these bounds do not serve."""
        groups = self._groups
        if groups is None:
            return None
        labels = self._labels.copy()
        found = groups.assign(self._centers, alive, self._labels, pool) if len(alive) > 1 else None
        if found is None:
            groups.forget()  # labels will change that its bounds are for
            return None
        clock.lap("screen groups")
        if self._bounds is not None:
            self._bounds.forget()  # likewise
        if (labels < 0).any():  # the first look gives all rows a label
            return _Look(None, labels, found.undecided, groups.candidates, self._certify)
        return _Look(found.rows, labels[found.rows], found.undecided, groups.candidates, self._certify)

    def _look(self, alive: NDArray[np.int64], before: NDArray, move: bool, pool: Workers, clock: _Clock) -> _Look:
        """Label rows row by row: skip, screen."""
        table = self._table
        if len(alive) == 1:
            labels = self._labels.copy()
            table.refuse_infinities(slice(None))
            self._labels[:] = alive[0]
            return _Look(None, labels, np.zeros(0, np.int64), None, True)
        looked_at = self._open_rows(move, pool)
        if self._bounds is not None:
            clock.lap("skip")
        screened = table.switches.screen and (looked_at is None or bool(len(looked_at)))
        anchors = self._anchors_for(looked_at, before, len(alive)) if screened else None
        if anchors is not None and not anchors.made:
            looked_at = None  # all rows are anchored
        labels = self._labels.copy() if looked_at is None else self._labels[looked_at]
        if not screened:
            return _Look(looked_at, labels, looked_at, None, True)
        full = table.screen(self._centers[alive])
        undecided = self._screen(full, anchors, looked_at, alive, pool, clock)
        return _Look(looked_at, labels, undecided, full.candidates, self._certify or not full.in_range)

    def _open_rows(self, move: bool, pool: Workers) -> NDArray[np.int64] | None:
        """Rows to look at, or None for all."""
        bounds = self._bounds
        if self._n_assigned == 1 or not self._table.switches.skip:
            return None
        if bounds is None:
            if move:  # the second iteration: from here on bounds will serve
                bounds = self._bounds = DriftBounds(self._table.n_samples, len(self._centers))
                bounds.advance(self._centers)
            return None
        if self._pause:  # no bound would hold yet
            self._pause -= 1
            if not self._pause:
                bounds.advance(self._centers)
            return None
        bounds.advance(self._centers)
        rows = bounds.open_rows(pool)
        if len(rows) <= NEARLY_ALL * self._table.n_samples:
            self._n_futile = 0
            return rows
        self._n_futile += 1
        if self._n_futile > 1 and self._anchors is None:
            self._pause = PAUSE * (self._n_futile - 1)
            bounds.forget()
        return None

    def _screen(
        self,
        full: S,
        anchors: Anchored[S] | None,
        looked_at: NDArray[np.int64] | None,
        alive: NDArray[np.int64],
        pool: Workers,
        clock: _Clock,
    ) -> NDArray[np.int64]:
        """Label rows by the screens; returns those that they leave open."""
        n, screen = self._table.n_samples, full.rows
        bounds = None if self._pause else self._bounds
        labels, names = self._labels, alive.astype(np.int32)

        def settle(index: Index, found: Screened) -> NDArray[np.intp]:
            best = names[found.best]
            labels[index] = best
            if bounds is not None:
                bounds.settle(index, best, names[found.second], found)
            return np.flatnonzero(~found.certain)

        def look(index: Index) -> NDArray[np.intp]:
            if bounds is None:
                best, certain = full.labels(index)
                labels[index] = names[best]
                return np.flatnonzero(~certain)
            scores = full.scores(index)
            if anchors is not None:
                anchors.anchor(index, scores)
            return settle(index, full.judge(index, scores))

        most = rows_to_screen(len(alive))
        if anchors is not None:
            anchors.advance(full, self._centers)
            clock.lap("project")
        left = looked_at
        if anchors is not None and anchors.made:
            known = anchors
            left = _left_open(lambda rows: settle(rows, known(rows, screen.norms[rows])), looked_at, n, most // 4, pool)
            clock.lap("screen components")
        elif anchors is not None:
            if bounds is not None:
                bounds.forget()  # all rows are looked at
            left = _left_open(lambda rows: settle(rows, anchors.make(rows, full)), None, n, most // 4, pool)
            anchors.finish()
            clock.lap("screen and anchor")
            return left
        if left is None or len(left):
            left = _left_open(look, left, n, most, pool)
            screen.measured |= looked_at is None
            clock.lap("screen")
        return left

    def _anchors_for(self, looked_at: NDArray[np.int64] | None, before: NDArray, n_alive: int) -> Anchored[S] | None:
        """The anchors to screen by, new ones where they pay and nearly all rows must be looked at, or None."""
        anchors = self._anchors
        n, k = self._table.n_samples, len(self._centers)
        if anchors is not None and not anchors.full and n_alive == k:
            return anchors
        self._anchors = None
        many = looked_at is None or len(looked_at) > ANCHOR_FROM * n or anchors is not None
        # Centers that still are, or almost are, single rows project badly; equal ones may part.
        if many and self._n_assigned > 2 and self._bounds is not None and n_alive == k:
            self._anchors = self._table.anchors(before, self._centers)
        return self._anchors

    def _resolve(
        self,
        undecided: NDArray[np.int64] | None,
        alive: NDArray[np.int64],
        candidates: Callable[[I64], NDArray[np.bool_]] | None,
        pool: Workers,
    ) -> int:
        """Label rows by float64 distances and exact arithmetic; returns how many needed the latter."""
        rows = np.arange(self._table.n_samples) if undecided is None else undecided

        def take(some: I64, labels: NDArray[np.int32]) -> None:
            self._labels[some] = labels
            if self._bounds is not None:
                self._bounds.void(some)

        return self._table.resolve(rows, self._centers, alive, candidates, take, pool)

    # ---- update ------------------------------------------------------------------------------------------------

    def update(self) -> Updated:
        sums = self._need_sums()
        with workers(self._centers.size) as pool:
            self._centers, weights, shift = sums.means(self._centers, pool)
        if self._bounds is not None:
            self._bounds.shifted(self._assigned, self._centers, shift)
        self._weights = weights
        return Updated(weights, shift)

    def weights(self) -> F64:
        return self._weights

    def _need_sums(self) -> ClusterSums:
        if self._sums is None:
            raise ValueError("These rows were loaded without a grid: they can be labelled (move=False), not summed.")
        return self._sums

    def sums(self) -> tuple[I64, I64]:
        sums = self._need_sums()
        return sums.sums.copy(), sums.weights.copy()

    def batch_sums(self) -> tuple[F64, F64]:
        """The sums and weights of `Rows.batch_sums`, after an assignment."""
        sums = self._need_sums()
        assert self._table.grid is not None
        values = self._table.grid.value(sums.sums)
        return values, sums.total_weights()

    def set_centers(self, centers: NDArray) -> None:
        self._centers = np.array(centers, self._table.center_dtype, order="C")
        if self._sums is not None:
            self._sums.touched[:] = True


class _Look(NamedTuple):
    """What an assignment has done before it resolves: the rows that it scored, and their labels before."""

    rows: NDArray[np.int64] | None  # None: all
    labels: NDArray[np.int32]
    undecided: NDArray[np.int64] | None
    candidates: Callable[[I64], NDArray[np.bool_]] | None  # of the undecided, see Table.resolve
    certify: bool  # whether these are resolved


class _Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now


def _left_open(
    look: Callable[[Index], NDArray[np.intp]],
    rows: NDArray[np.int64] | None,
    n_rows: int,
    most: int,
    pool: Workers,
) -> NDArray[np.int64]:
    """Look at some rows (None: all), block by block; returns those that `look` leaves open, in rising order."""

    def part_of(part: slice) -> NDArray[np.int64]:
        with np.errstate(over="ignore", invalid="ignore"):  # scores that are no numbers certify nothing
            if rows is None:
                return look(part) + part.start
            return rows[part][look(rows[part])]

    parts = pool.share(n_rows if rows is None else len(rows), most, LEAST)
    return np.concatenate([np.zeros(0, np.int64), *pool.map(part_of, parts)])
