"""One run of Lloyd's algorithm on the CPU: skip, screen, resolve, move."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64, I64, Index
from gpukmeans.backends.cpu.screens.bounds import DriftBounds
from gpukmeans.backends.cpu.screens.components import Anchors
from gpukmeans.backends.cpu.screens.full import FullScreen
from gpukmeans.backends.cpu.screens.groups import GroupBounds
from gpukmeans.backends.cpu.sums import ClusterSums
from gpukmeans.backends.defaults import RunDefaults
from gpukmeans.backends.protocol import Assigned, Updated
from gpukmeans.certificates.verdicts import Screened
from gpukmeans.exact.sums import Grid, exact_total, exact_totals_by_label
from gpukmeans.exact.tie_break import exact_squares, first_of_equal_rows, resolve
from gpukmeans.exact.warp_order import WARP, farthest_rows, row_square_distances
from gpukmeans.threads import FETCHED, Workers, parts_of, rows_of, rows_to_screen, workers

if TYPE_CHECKING:
    from gpukmeans.backends.cpu.backend import NumpyRows

#: Share of the rows from which all are looked at, without fetching them by index.
NEARLY_ALL = 0.9
#: Fewer rows are not worth a second thread.
LEAST = 1024
#: Rows that are resolved at a time.
RESOLVE_ROWS = 256
#: Iterations without bounds after they were of no use twice, and as many more after each time on end.
PAUSE = 3
#: Share of the rows to look at from which it pays to anchor all.
ANCHOR_FROM = 0.5


class NumpyRun(RunDefaults):
    """Centers, labels and exact sums, and what the screens remember of the rows."""

    def __init__(self, rows: NumpyRows, centers: NDArray, precision: str) -> None:
        self._rows = rows
        self._centers = self._assigned = centers
        self._certify = precision == "exact"
        self._labels = np.full(rows.n_samples, -1, np.int32)
        self._n_assigned = 0
        self._bounds: DriftBounds | None = None
        self._n_futile = 0  # times on end that the bounds settled hardly any row
        self._pause = 0  # iterations to go without bounds
        self._anchors: Anchors | None = None
        self._groups = self._new_groups()
        self._sums: ClusterSums | None = None if rows.grid is None else self._new_sums(rows.grid)

    # ---- what a run over rows that are stored otherwise replaces -------------------------------------------------

    def _new_groups(self) -> GroupBounds | None:
        return GroupBounds.where_it_may_pay(self._rows, len(self._centers))

    def _new_sums(self, grid: Grid) -> ClusterSums:
        return ClusterSums(self._rows.X, self._rows.sample_weight, grid, len(self._centers))

    def _full_screen(self, alive: NDArray[np.int64]) -> FullScreen:
        return FullScreen(self._rows.screen(), self._centers[alive])

    # ---- assign ------------------------------------------------------------------------------------------------

    def assign(self, *, move: bool = True) -> Assigned:
        rows = self._rows
        before, self._assigned = self._assigned, self._centers
        first = first_of_equal_rows(self._centers)
        alive = np.flatnonzero(first == np.arange(len(first)))
        with workers(rows.X.size) as pool:
            clock = _Clock()
            self._n_assigned += 1
            look = self._look_by_groups(alive, pool, clock) or self._look(alive, before, move, pool, clock)
            looked_at, undecided = look.rows, look.undecided
            n_looked_at = rows.n_samples if looked_at is None else len(looked_at)
            n_open = rows.n_samples if undecided is None else len(undecided)
            n_exact = self._resolve(undecided, alive, look.screen, pool) if n_open and look.certify else 0
            clock.lap("resolve")
            if len(alive) < len(first):  # equal centers may part, and of those left out nothing is known
                self._anchors = None
                if self._bounds is not None:
                    self._bounds.forget()
            new = self._labels if looked_at is None else self._labels[looked_at]
            changed = np.flatnonzero(new != look.labels)
            if move and len(changed):
                index = changed if looked_at is None else looked_at[changed]
                self._need_sums().move(index, look.labels[changed], new[changed], self._labels, pool)
            clock.lap("move")
        return Assigned(
            len(changed),
            n_certified=n_looked_at - n_open,
            n_resolved=n_open - n_exact if look.certify else 0,
            n_exact=n_exact,
            n_uncertain=0 if look.certify else n_open,
            n_skipped=rows.n_samples - n_looked_at,
            seconds=clock.seconds,
        )

    def _look_by_groups(self, alive: NDArray[np.int64], pool: Workers, clock: _Clock) -> _Look | None:
        """Label rows by bounds of groups of centers; None where there are few centers, or these bounds do not serve."""
        groups = self._groups
        if groups is None:
            return None
        labels = self._labels.copy()
        settled = groups.assign(self._centers, alive, self._labels, pool) if len(alive) > 1 else None
        if settled is None:
            groups.forget()  # labels will change without its knowledge
            return None
        clock.lap("screen groups")
        if self._bounds is not None:
            self._bounds.forget()  # likewise
        rows = settled.looked_at
        if (labels < 0).any():  # the first look gives all rows a label
            return _Look(None, labels, settled.undecided, groups, self._certify)
        return _Look(rows, labels[rows], settled.undecided, groups, self._certify)

    def _look(self, alive: NDArray[np.int64], before: NDArray, move: bool, pool: Workers, clock: _Clock) -> _Look:
        """Label rows row by row: skip, screen."""
        rows = self._rows
        if len(alive) == 1:
            labels = self._labels.copy()
            self._mind_infinities(slice(None))
            self._labels[:] = alive[0]
            return _Look(None, labels, np.zeros(0, np.int64), None, True)
        looked_at = self._open_rows(move, pool)
        if self._bounds is not None:
            clock.lap("skip")
        screened = rows.options.screen and (looked_at is None or bool(len(looked_at)))
        anchors = self._anchors_for(looked_at, before, len(alive)) if screened else None
        if anchors is not None and not anchors.made:
            looked_at = None  # all rows are anchored
        labels = self._labels.copy() if looked_at is None else self._labels[looked_at]
        if not screened:
            return _Look(looked_at, labels, looked_at, None, True)
        full = self._full_screen(alive)
        undecided = self._screen(full, anchors, looked_at, alive, pool, clock)
        return _Look(looked_at, labels, undecided, full, self._certify or not full.in_range)

    def _open_rows(self, move: bool, pool: Workers) -> NDArray[np.int64] | None:
        """Rows to look at, or None for all."""
        bounds = self._bounds
        if self._n_assigned == 1 or not self._rows.options.skip:
            return None
        if bounds is None:
            if move:  # the second iteration: from here on bounds will serve
                bounds = self._bounds = DriftBounds(self._rows.n_samples, len(self._centers))
                bounds.advance(self._centers)
            return None
        if self._pause:  # no bound would hold yet
            self._pause -= 1
            if not self._pause:
                bounds.advance(self._centers)
            return None
        bounds.advance(self._centers)
        rows = bounds.open_rows(pool)
        if len(rows) <= NEARLY_ALL * self._rows.n_samples:
            self._n_futile = 0
            return rows
        self._n_futile += 1
        if self._n_futile > 1 and self._anchors is None:
            self._pause = PAUSE * (self._n_futile - 1)
            bounds.forget()
        return None

    def _screen(
        self,
        full: FullScreen,
        anchors: Anchors | None,
        looked_at: NDArray[np.int64] | None,
        alive: NDArray[np.int64],
        pool: Workers,
        clock: _Clock,
    ) -> NDArray[np.int64]:
        """Label rows by the screens; returns those that they leave open."""
        n, screen = self._rows.n_samples, self._rows.screen()
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
            anchors.advance(full, screen.shifted(self._centers))
            clock.lap("project")
        left = looked_at
        if anchors is not None and anchors.made:
            known = anchors
            left = _left_open(lambda rows: settle(rows, known(rows, screen.norms[rows])), looked_at, n, most, pool)
            clock.lap("screen components")
        elif anchors is not None:
            if bounds is not None:
                bounds.forget()  # all rows are looked at
            left = _left_open(lambda rows: settle(rows, anchors.make(rows, full)), None, n, most // 4, pool)
            anchors.made = anchors.projection.filled = True
            clock.lap("screen and anchor")
            return left
        if left is None or len(left):
            left = _left_open(look, left, n, most, pool)
            screen.measured |= looked_at is None
            clock.lap("screen")
        return left

    def _anchors_for(self, looked_at: NDArray[np.int64] | None, before: NDArray, n_alive: int) -> Anchors | None:
        """The anchors to screen by, new ones where they pay and nearly all rows must be looked at, or None."""
        anchors = self._anchors
        n, k = self._rows.n_samples, len(self._centers)
        if anchors is not None and not anchors.full and n_alive == k:
            return anchors
        self._anchors = None
        many = looked_at is None or len(looked_at) > ANCHOR_FROM * n or anchors is not None
        # Centers that still are, or almost are, single rows project badly; equal ones may part.
        if many and self._n_assigned > 2 and self._bounds is not None and n_alive == k:
            projection = self._rows.projection(before, self._centers)
            if projection is not None:
                self._anchors = Anchors(projection, n, k)
        return self._anchors

    def _resolve(
        self,
        undecided: NDArray[np.int64] | None,
        alive: NDArray[np.int64],
        screen: FullScreen | GroupBounds | None,
        pool: Workers,
    ) -> int:
        """Label rows by float64 distances and exact arithmetic; returns how many needed the latter."""
        rows = self._rows
        index = np.arange(rows.n_samples) if undecided is None else undecided
        exact = exact_squares(rows.largest_integer(), self._centers)

        def settle(part: slice) -> int:
            some = index[part]
            self._mind_infinities(some)
            candidates = None if screen is None else screen.candidates(some)
            self._labels[some], n = resolve(rows.X[some], self._centers, alive, exact, candidates)
            if self._bounds is not None:
                self._bounds.void(some)
            return n

        return sum(pool.map(settle, parts_of(len(index), RESOLVE_ROWS)))

    def _mind_infinities(self, some: Index) -> None:
        """Raise if rows are not finite.  No screen certifies such rows, so all that are loaded unseen end here."""
        if self._rows.grid is None and not np.isfinite(self._rows.X[some]).all():
            from sklearn.utils import assert_all_finite

            assert_all_finite(self._rows.X, input_name="X")

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
        assert self._rows.grid is not None
        values = self._rows.grid.value(sums.sums)
        return values, sums.total_weights()

    def centers(self) -> NDArray:
        return self._centers

    def assigned_centers(self) -> NDArray:
        return self._assigned

    def set_centers(self, centers: NDArray) -> None:
        self._centers = np.array(centers, self._rows.center_dtype, order="C")
        if self._sums is not None:
            self._sums.touched[:] = True

    def labels(self) -> NDArray[np.int32]:
        return self._labels.copy()

    # ---- distances to the own center ---------------------------------------------------------------------------

    def farthest(self, count: int) -> NDArray[np.int64]:
        return farthest_rows(self._own_distances(self._assigned), count)

    def inertia(self) -> float:
        return exact_total(self._inertia_terms())

    def inertias(self) -> F64:
        return exact_totals_by_label(self._inertia_terms(), self._labels, len(self._centers))

    def _inertia_terms(self) -> F64:
        distances = self._own_distances(self._centers)
        weight = self._rows.sample_weight
        return distances if weight is None else distances * weight

    def _own_distances(self, centers: NDArray) -> F64:
        rows = self._rows
        distances = np.empty(rows.n_samples)
        wide = centers.astype(np.float64)

        def measure(part: slice) -> None:
            step = max(32, FETCHED // 2 // max(WARP, rows.n_features))
            room = np.empty((min(step, part.stop - part.start), rows.n_features))
            for block in parts_of(part.stop - part.start, step):
                some = rows_of(part, block)
                own = np.take(wide, self._labels[some], axis=0, out=room[: some.stop - some.start], mode="clip")
                distances[some] = row_square_distances(rows.X, some, own)

        with workers(rows.X.size) as pool:
            pool.map(measure, pool.share(rows.n_samples, rows.n_samples, LEAST))
        return distances


class _Look(NamedTuple):
    """What an assignment has done before it resolves: rows it looked at, and their labels until then."""

    rows: NDArray[np.int64] | None  # None: all
    labels: NDArray[np.int32]
    undecided: NDArray[np.int64] | None
    screen: FullScreen | GroupBounds | None  # knows the candidates of the undecided
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
