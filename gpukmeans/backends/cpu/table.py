"""The rows of a fit on the CPU: what is kept of them, and what a run computes from them.

`Table` is the interface for runs; `DenseTable` implements it for rows in an array, sparse/table.py for rows in CSR.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.limits import ALGORITHM
from gpukmeans.arrays.on_device import center_dtype
from gpukmeans.arrays.types import F64, I64, Index
from gpukmeans.backends.cpu.few import FEW, FEW_ROWS, nearest_of_few, nearest_of_wide
from gpukmeans.backends.cpu.screens.components import Anchors, Components, choose_basis
from gpukmeans.backends.cpu.screens.full import FullScreen, RowScreen
from gpukmeans.backends.cpu.screens.grouping import group_components
from gpukmeans.backends.cpu.screens.groups import GroupBounds, may_pay
from gpukmeans.backends.cpu.seeding.screen import SeedScreen
from gpukmeans.backends.cpu.sums import NARROW, ClusterSums, DenseSums, NarrowSums
from gpukmeans.certificates.verdicts import Screened
from gpukmeans.exact.sums import Grid
from gpukmeans.exact.tie_break import WIDE, exact_squares, largest_integer, resolve
from gpukmeans.exact.warp_order import WARP, row_square_distances
from gpukmeans.threads import Rooms, Workers, parts_of, rows_of, rows_to_fetch, workers

#: Rows that are resolved at a time, at least, and their pairs with centers, about.
RESOLVE_ROWS, RESOLVED = 256, 1 << 18
#: Differences of rows and their own centers that are taken at a time: few enough to stay in a cache of a core's own.
MEASURED = 1 << 18
#: Fewer rows are not worth a second thread.
LEAST = 1024


class Switches(NamedTuple):
    """The short cuts of `NumpyBackend`, on or off; no result depends on them."""

    skip: bool = True
    screen: bool = True
    project: bool = True
    lockstep: bool = True
    sort: bool = True


class Norms(Protocol):
    """Upper bounds of the norms of the rows, (n_samples,), and whether they have all been computed."""

    norms: F64
    measured: bool


class Screen(Protocol):
    """Scores of rows against the centers of one assignment, with their radii."""

    @property
    def rows(self) -> Norms: ...

    @property
    def in_range(self) -> bool:
        """Whether float32 reaches from the smallest to the largest of these scores."""

    def scores(self, rows: Index) -> NDArray:
        """Of some rows, (n_rows, n_centers)."""

    def labels(self, rows: Index) -> tuple[NDArray[np.integer], NDArray[np.bool_]]:
        """The best center of each row, and whether it is certified."""

    def judge(self, rows: Index, scores: NDArray) -> Screened:
        """The verdict on rows whose scores are known; the scores are overwritten."""

    def candidates(self, rows: I64) -> NDArray[np.bool_]:
        """The centers that may be nearest, (n_rows, n_centers)."""


S = TypeVar("S", bound=Screen)
ScreenIn = TypeVar("ScreenIn", bound=Screen, contravariant=True)


class Anchored(Protocol[ScreenIn]):
    """A screen by a few components of the rows, anchored to their whole scores (screens/components.py)."""

    made: bool

    @property
    def full(self) -> bool:
        """Whether it has begun so many assignments that it is to be made anew."""

    def advance(self, full: ScreenIn, centers: NDArray) -> None:
        """Begin an assignment to `centers`, which `full` scores, too."""

    def make(self, rows: Index, full: ScreenIn) -> Screened:
        """Anchor rows for the first time, and screen them by their whole scores."""

    def finish(self) -> None:
        """All rows have been anchored."""

    def anchor(self, rows: Index, scores: NDArray) -> None:
        """Anchor rows anew, to these scores."""

    def __call__(self, rows: Index, norms: F64) -> Screened:
        """Screen anchored rows, whose norms are `norms`."""


class Table(Protocol[S]):
    """The interface of the rows, dense or sparse, for runs.

    Attributes
    ----------
    counts : ndarray of shape (n_samples,), int64, or None
        How many rows of the caller each one stands for; None: one.
    n_samples, n_features : int
    size : int
        Stored values.
    center_dtype : dtype
    sample_weight : ndarray of shape (n_samples,), float64, or None
    grid : Grid or None
        None: the rows cannot be summed.
    switches : Switches
    """

    n_samples: int
    n_features: int
    size: int
    center_dtype: np.dtype
    sample_weight: F64 | None
    grid: Grid | None
    switches: Switches
    counts: I64 | None

    def of_all(self, labels: NDArray[np.int32]) -> NDArray[np.int32]:
        """The labels of all rows of the caller, from those of these rows: a new array."""

    def sums(self, n_clusters: int, grid: Grid) -> ClusterSums:
        """New sums of the clusters, all zero."""

    def groups(self, n_clusters: int) -> GroupBounds | None:
        """Bounds of groups of centers, where they may pay."""

    def screen(self, centers: NDArray) -> S:
        """Whole rows against these centers."""

    def anchors(self, before: NDArray, centers: NDArray) -> Anchored[S] | None:
        """A screen by components, where it pays for centers such as these two."""

    def refuse_infinities(self, rows: Index) -> None:
        """Raise a ValueError if rows are not finite whose values have not been checked before."""

    def nearest_of_few(self, centers: NDArray) -> tuple[NDArray[np.int32], int] | None:
        """The true nearest centers of all rows, and how many needed exact arithmetic; None if there are too many."""

    def resolve(
        self,
        rows: I64,
        centers: NDArray,
        alive: I64,
        candidates: Callable[[I64], NDArray[np.bool_]] | None,
        take: Callable[[I64, NDArray[np.int32]], None],
        pool: Workers,
    ) -> int:
        """Find the true nearest centers of some rows, ties to the lowest index.

        Parameters
        ----------
        alive : ndarray of int64
            The centers that no equal one stands before.
        candidates : callable or None
            The centers that may be nearest to given rows, (n_rows, len(alive)); None: all.
        take : callable
            Called with row indices and their labels, once for each part of `rows`, from several threads.

        Returns
        -------
        int
            How many rows needed exact arithmetic.
        """

    def own_distances(self, labels: NDArray[np.int32], centers: NDArray) -> F64:
        """|x - own center|^2 of every row of the caller, float64, warp order."""


class DenseTable:
    """Rows as the caller's array holds them, never copied whole, and what the screens keep of them; restarts share it.

    Parameters
    ----------
    switches : Switches
    X : ndarray of shape (n_samples, n_features), uint8, float32 or float64
    sample_weight : ndarray of shape (n_samples,), float64, or None
    grid : Grid or None
    """

    counts: I64 | None = None

    def __init__(self, switches: Switches, X: NDArray, sample_weight: F64 | None, grid: Grid | None) -> None:
        self.switches = switches
        self.X = X
        self.sample_weight = sample_weight
        self.grid = grid
        self.n_samples, self.n_features = X.shape
        self.size = X.size
        self.center_dtype = center_dtype(X.dtype)
        self._components: Components | None = None
        self._basis_tried = False
        self._group_components: list[Components] | None = None
        self.rooms = Rooms()

    @cached_property
    def row_screen(self) -> RowScreen:
        """The shift and the norms of the rows."""
        return RowScreen(self.X)

    @cached_property
    def seed_screen(self) -> SeedScreen:
        """What k-means++ needs of the rows, computed once for all restarts."""
        with workers(self.X.size) as pool:
            return SeedScreen(self.X, self.largest_integer, pool)

    @cached_property
    def largest_integer(self) -> float:
        """The largest magnitude if every value is a whole number, else infinity."""
        return largest_integer(self.X)

    def largest_integer_of(self, x: NDArray) -> float:
        """`largest_integer` of all rows, or of the rows `x` only, where the former is not known."""
        return self.largest_integer

    def of_all(self, labels: NDArray[np.int32]) -> NDArray[np.int32]:
        return labels.copy()

    def sums(self, n_clusters: int, grid: Grid) -> ClusterSums:
        if self.n_features <= NARROW:
            return NarrowSums(self.X, self.sample_weight, grid, n_clusters, self.counts)
        return DenseSums(self.X, self.sample_weight, grid, n_clusters, counts=self.counts)

    def groups(self, n_clusters: int) -> GroupBounds | None:
        if not may_pay(self.n_samples, self.n_features, n_clusters):
            return None
        if not (self.switches.skip and self.switches.screen):
            return None
        return GroupBounds(lambda: self.row_screen, self._components_for_groups if self.switches.project else None)

    def _components_for_groups(self, centers: NDArray, pool: Workers) -> list[Components]:
        if self._group_components is None:
            self._group_components = group_components(self.row_screen, centers, pool)
        return self._group_components

    def screen(self, centers: NDArray) -> FullScreen:
        return FullScreen(self.row_screen, centers)

    def anchors(self, before: NDArray, centers: NDArray) -> Anchors | None:
        if not self._basis_tried:
            self._basis_tried = True
            basis = choose_basis(self.row_screen, before, centers) if self.switches.project else None
            if basis is not None:
                self._components = Components(self.n_samples, basis)
        return None if self._components is None else Anchors(self._components, self.n_samples, len(centers))

    def nearest_of_few(self, centers: NDArray) -> tuple[NDArray[np.int32], int] | None:
        if self.n_samples > FEW_ROWS or self.size * len(centers) > FEW or not self.switches.screen:
            return None
        return nearest_of_few(self.X, centers)

    def refuse_infinities(self, rows: Index) -> None:
        """No screen certifies rows that are not finite, so all that are loaded unchecked end here."""
        if self.grid is None and not np.isfinite(self.X[rows]).all():
            from sklearn.utils import assert_all_finite

            assert_all_finite(self.X, estimator_name=ALGORITHM, input_name="X")

    def resolve(
        self,
        rows: I64,
        centers: NDArray,
        alive: I64,
        candidates: Callable[[I64], NDArray[np.bool_]] | None,
        take: Callable[[I64, NDArray[np.int32]], None],
        pool: Workers,
    ) -> int:

        def settle(part: slice) -> int:
            some = rows[part]
            self.refuse_infinities(some)
            x = self.X[some]
            exact = exact_squares(self.largest_integer_of(x), centers)
            among = None if candidates is None or len(alive) <= 2 else candidates(some)  # an open row has two
            if self.n_features >= WIDE:
                labels, n = nearest_of_wide(x, centers, alive, exact, among)
            else:
                counts = None if self.counts is None else self.counts[some]
                labels, n = resolve(x, centers, alive, exact, among, counts)
            take(some, labels)
            return n

        most = min(max(RESOLVE_ROWS, RESOLVED // len(alive)), rows_to_fetch(self.n_features))
        return sum(pool.map(settle, pool.share(len(rows), most, min(most, RESOLVE_ROWS))))

    def own_distances(self, labels: NDArray[np.int32], centers: NDArray) -> F64:
        distances = np.empty(self.n_samples)
        wide = centers.astype(np.float64)

        def measure(part: slice) -> None:
            step = max(1, MEASURED // max(WARP, self.n_features))
            room = np.empty((min(step, part.stop - part.start), self.n_features))
            for block in parts_of(part.stop - part.start, step):
                some = rows_of(part, block)
                own = np.take(wide, labels[some], axis=0, out=room[: some.stop - some.start], mode="clip")
                distances[some] = row_square_distances(self.X, some, own, own)

        with workers(self.X.size) as pool:
            pool.map(measure, pool.share(self.n_samples, self.n_samples, LEAST))
        return distances
