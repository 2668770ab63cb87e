"""The NumPy backend: the fallback without a GPU, and the reference for every other backend."""

from __future__ import annotations

import platform

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from gpukmeans.backends import Assigned, Updated
from gpukmeans.backends.numpy_screen import (
    FullScreen,
    Index,
    ProjectedScreen,
    Projection,
    RowScreen,
    choose_basis,
)
from gpukmeans.backends.numpy_seed_screen import SeedScreen
from gpukmeans.backends.numpy_seeding import NumpySeeding
from gpukmeans.certificates import exact_in_float64, gap_after_move, square_distance_radius
from gpukmeans.exact_sums import (
    EXACT_FLOAT64_ROWS,
    F64,
    I64,
    Grid,
    blocks,
    center_shift_square,
    cluster_means,
    exact_total,
    farthest_rows,
    row_square_distances,
    weight_grid,
    weighted_rows,
)
from gpukmeans.threads import Workers, parts_of, workers
from gpukmeans.tie_break import all_integers, first_of_equal_rows, resolve

#: Rows that are summed at a time: few enough to stay in a shared cache, enough to pay for a sparse matrix.
MOVE_ROWS = 512
#: Multiply-adds up to which a dense product costs less than making a sparse matrix.
DENSE_PRODUCT = 1 << 20


class NumpyBackend:
    """Runs on the CPU with NumPy, SciPy's sparse products and BLAS.

    Parameters
    ----------
    skip : bool, default=True
        Keep drift bounds, and look only at rows that these cannot settle.
    screen : bool, default=True
        Settle rows by float32 scores where their error radius allows it; without, float64 distances settle all.
    project : bool, default=True
        Try screening by a few leading components first, where a sample says that it pays.

    Notes
    -----
    The switches are for experiments: they change the time of a fit and none of its bits.
    """

    name = "numpy"

    def __init__(self, *, skip: bool = True, screen: bool = True, project: bool = True) -> None:
        self.skip = skip
        self.screen = screen
        self.project = project

    def load(self, X: NDArray, sample_weight: F64 | None = None, grid: Grid | None = None) -> NumpyRows:
        return NumpyRows(self, X, sample_weight, grid)

    def describe(self) -> str:
        return f"NumPy {np.__version__} on {platform.machine()}"


class NumpyRows:
    """Rows as the caller's array holds them, never copied whole, and what the screens keep of them."""

    def __init__(self, options: NumpyBackend, X: NDArray, sample_weight: F64 | None, grid: Grid | None) -> None:
        self.options = options
        self.X = X
        self.sample_weight = sample_weight
        self.grid = grid
        self.n_samples, self.n_features = X.shape
        self.center_dtype = np.dtype(np.float32 if X.dtype == np.float32 else np.float64)
        self._largest_integer: float | None = None
        self._seed_screen: SeedScreen | None = None
        self._screen: RowScreen | None = None
        self._basis_tried = False

    def start(self, centers: NDArray, *, precision: str = "exact") -> NumpyRun:
        if precision not in ("exact", "fast"):
            raise ValueError(f"precision={precision!r} should be 'exact' or 'fast'.")
        return NumpyRun(self, np.array(centers, self.center_dtype, order="C"), precision)

    def take(self, indices: NDArray[np.int64]) -> NDArray:
        return self.X[indices]

    def unweighted(self, grid: Grid) -> NumpyRows:
        return NumpyRows(self.options, self.X, None, grid)

    def seeding(self) -> NumpySeeding:
        if self._seed_screen is None:  # made once for all restarts
            with workers(self.X.size) as pool:
                self._seed_screen = SeedScreen(self.X, self.largest_integer(), pool)
        return NumpySeeding(self._seed_screen, self.sample_weight)

    def screen(self, pool: Workers) -> RowScreen:
        if self._screen is None:
            self._screen = RowScreen(self.X, pool)
        return self._screen

    def projection(self, centers: NDArray, pool: Workers) -> Projection | None:
        """The projection of the rows, made at the first call if it pays for centers such as these."""
        screen = self.screen(pool)
        if not self._basis_tried:
            self._basis_tried = True
            basis = choose_basis(screen, centers) if self.options.project else None
            if basis is not None:
                screen.projection = Projection(screen, basis, pool)
        return screen.projection

    def largest_integer(self) -> float:
        """The largest magnitude if every value is a whole number, else infinity."""
        if self._largest_integer is None:
            if self.X.dtype == np.uint8:
                self._largest_integer = 255.0
            elif all_integers(self.X):
                self._largest_integer = float(max(self.X.max(), -self.X.min()))
            else:
                self._largest_integer = float("inf")
        return self._largest_integer


class NumpyRun:
    """One run of Lloyd's algorithm on the CPU."""

    def __init__(self, rows: NumpyRows, centers: NDArray, precision: str) -> None:
        self._rows = rows
        self._centers = self._assigned = centers
        self._certify = precision == "exact"
        self._labels = np.full(rows.n_samples, -1, np.int32)
        #: Lower bounds of how much farther the other centers are, for the centers in `_gap_centers`.
        self._gap = np.zeros(rows.n_samples)
        self._gap_centers: NDArray | None = None
        self._n_assigned = 0
        n_clusters = len(centers)
        self._weight_grid = weight_grid(rows.n_samples, rows.sample_weight)
        self._touched = np.ones(n_clusters, bool)  # clusters whose sums are newer than their centers
        if rows.grid is not None:
            self._sums = np.zeros((rows.grid.n_limbs, n_clusters, rows.n_features), np.int64)
            self._weights = np.zeros((self._weight_grid.n_limbs, n_clusters), np.int64)

    def assign(self, *, move: bool = True) -> Assigned:
        rows = self._rows
        self._assigned = self._centers
        before = self._labels
        first = first_of_equal_rows(self._centers)
        alive = np.flatnonzero(first == np.arange(len(first)))
        with workers(rows.X.size) as pool:
            if len(alive) == 1:
                self._labels = np.full(rows.n_samples, alive[0], np.int32)
                self._gap_centers = None  # the bounds were for other labels
                counts = Assigned(0, rows.n_samples, 0, 0)
            else:
                counts = self._nearest(alive, pool)
            changed = np.flatnonzero(self._labels != before)
            if move and len(changed):
                self._move(changed, before, pool)
        return Assigned(len(changed), *counts[1:])

    def _nearest(self, alive: NDArray[np.int64], pool: Workers) -> Assigned:
        """Label every row: skip, screen, resolve."""
        rows = self._rows
        active = self._active()
        n_active = rows.n_samples if active is None else len(active)
        self._labels = self._labels.copy()
        undecided, certify = active, self._certify
        full: FullScreen | None = None
        self._n_assigned += 1
        if rows.options.screen:
            screen = rows.screen(pool)
            living = self._centers[alive]
            early = self._n_assigned <= 2  # centers that still are, or almost are, single rows project badly
            projection = None if early or not n_active else rows.projection(living, pool)
            if projection is not None:
                undecided = self._screen(ProjectedScreen(screen, projection, living), undecided, alive, pool)
            if undecided is None or len(undecided):
                full = FullScreen(screen, living)
                certify = certify or not full.in_range
                undecided = self._screen(full, undecided, alive, pool)
        self._gap_centers = self._centers
        n_open = n_active if undecided is None else len(undecided)
        n_exact = 0
        certify = certify or not rows.options.screen
        if n_open and certify:
            n_exact = self._resolve(undecided, alive, full, pool)
        if len(alive) < len(self._centers):
            self._gap[:] = 0.0  # equal centers may part: bounds on the living ones do not cover the others
        return Assigned(
            0,
            n_certified=n_active - n_open,
            n_resolved=n_open - n_exact if certify else 0,
            n_exact=n_exact,
            n_uncertain=0 if certify else n_open,
            n_skipped=rows.n_samples - n_active,
        )

    def _active(self) -> NDArray[np.int64] | None:
        """Rows whose label may have changed, or None for all, after their gaps have shrunk by the drift."""
        if self._gap_centers is None or not self._rows.options.skip:
            return None
        if self._gap_centers is not self._centers:
            square = center_shift_square(self._centers, self._gap_centers)
            drift = np.sqrt(square * (1.0 + 2.0 * square_distance_radius(self._rows.n_features)) + 2.0**-990)
            order = np.argsort(drift)
            others = np.full(len(drift), drift[order[-1]])
            others[order[-1]] = drift[order[-2]]
            self._gap -= gap_after_move(drift, others)[self._labels]
        active = np.flatnonzero(~(self._gap > 0.0))
        return None if len(active) > 0.9 * len(self._gap) else active

    def _screen(
        self,
        screen: FullScreen | ProjectedScreen,
        active: NDArray[np.int64] | None,
        alive: NDArray[np.int64],
        pool: Workers,
    ) -> NDArray[np.int64]:
        """Label rows by a screen; returns those that it leaves open."""
        n = self._rows.n_samples if active is None else len(active)
        labels, gap = self._labels, self._gap

        def label(part: slice) -> NDArray[np.int64]:
            index: Index = part if active is None else active[part]
            verdict = screen(index)
            labels[index] = alive[verdict.best]
            gap[index] = verdict.gap
            left = np.flatnonzero(~verdict.certain)
            return left + part.start if active is None else active[part][left]

        step = max(256, min(8192, (1 << 20) // max(len(alive), 1)))
        if isinstance(screen, FullScreen):
            step = max(256, min(step, (1 << 20) // self._rows.n_features))
        return np.concatenate(pool.map(label, parts_of(n, step)))

    def _resolve(
        self, undecided: NDArray[np.int64] | None, alive: NDArray[np.int64], full: FullScreen | None, pool: Workers
    ) -> int:
        """Label rows by float64 distances and exact arithmetic; returns how many needed the latter."""
        rows, d = self._rows, self._rows.n_features
        index = np.arange(rows.n_samples) if undecided is None else undecided
        exact = (
            exact_in_float64(d, rows.largest_integer())
            and exact_in_float64(d, float(np.abs(self._centers).max()))
            and all_integers(self._centers)
        )

        def settle(part: slice) -> int:
            some = index[part]
            candidates = None if full is None else full.candidates(some)
            self._labels[some], n = resolve(rows.X[some], self._centers, alive, exact, candidates)
            self._gap[some] = 0.0
            return n

        return sum(pool.map(settle, parts_of(len(index), 256)))

    def _move(self, changed: NDArray[np.int64], old: NDArray[np.int32], pool: Workers) -> None:
        """Bring the exact sums from the old labels to the new ones."""
        rows, grid, labels = self._rows, self._need_grid(), self._labels
        if 2 * len(changed) > rows.n_samples:  # cheaper afresh than by differences
            self._sums[:] = 0
            self._weights[:] = 0
            self._touched[:] = True
            old = np.full(rows.n_samples, -1, np.int32)
            changed = np.arange(rows.n_samples)
        leaving = old[changed]
        touched = np.union1d(labels[changed], leaving[leaving >= 0])
        place = np.zeros(len(self._centers), np.int32)
        place[touched] = np.arange(len(touched))

        def add(part: slice) -> tuple[I64, I64]:
            total = np.zeros((grid.n_limbs, len(touched), rows.n_features))
            weights = np.zeros((self._weight_grid.n_limbs, len(touched)))
            for block in parts_of(part.stop - part.start, MOVE_ROWS):
                index = changed[part][block]
                dense = len(touched) * len(index) * rows.n_features <= DENSE_PRODUCT
                signs = _incidence(old[index], labels[index], place, len(touched), dense)
                values = weighted_rows(rows.X, rows.sample_weight, _as_slice(index))
                if grid.n_limbs == 1:  # on the grid already: a power of two apart from whole numbers
                    total[0] += signs @ values
                else:
                    for limb, sums in zip(grid.limbs(values), total, strict=True):
                        sums += signs @ limb
                weight = np.ones((len(index), 1)) if rows.sample_weight is None else rows.sample_weight[index, None]
                for limb, sums in zip(self._weight_grid.limbs(weight), weights, strict=True):
                    sums += (signs @ limb)[:, 0]
            if grid.n_limbs == 1:
                total *= grid.scale
            return total.astype(np.int64), weights.astype(np.int64)

        # Sums of whole numbers up to 2**36 over so many rows are exact in float64.
        step = min(EXACT_FLOAT64_ROWS // 2, max(1024, -(-len(changed) // (2 * pool.threads))))
        for total, weights in pool.map(add, parts_of(len(changed), step)):
            self._sums[:, touched] += total
            self._weights[:, touched] += weights
        self._touched[touched] = True

    def update(self) -> Updated:
        grid = self._need_grid()
        weights = self._weight_grid.value(self._weights[:, :, None])[:, 0]
        new = np.flatnonzero(self._touched)
        before, centers = self._centers, self._centers.copy()
        centers[new] = cluster_means(self._sums[:, new], weights[new], grid, self._rows.center_dtype)
        shift = np.zeros(len(centers))
        shift[new] = center_shift_square(centers[new], before[new])
        self._centers = centers
        self._touched[:] = False
        return Updated(weights, shift)

    def _need_grid(self) -> Grid:
        if self._rows.grid is None:
            raise ValueError("These rows were loaded without a grid: they can be labelled (move=False), not summed.")
        return self._rows.grid

    def sums(self) -> tuple[I64, I64]:
        self._need_grid()
        return self._sums.copy(), self._weights.copy()

    def centers(self) -> NDArray:
        return self._centers

    def assigned_centers(self) -> NDArray:
        return self._assigned

    def set_centers(self, centers: NDArray) -> None:
        self._centers = np.array(centers, self._rows.center_dtype, order="C")
        self._touched[:] = True

    def labels(self) -> NDArray[np.int32]:
        return self._labels

    def farthest(self, count: int) -> NDArray[np.int64]:
        return farthest_rows(self._own_distances(self._assigned), count)

    def inertia(self) -> float:
        distances = self._own_distances(self._centers)
        weight = self._rows.sample_weight
        return exact_total(distances if weight is None else distances * weight)

    def _own_distances(self, centers: NDArray) -> F64:
        rows = self._rows
        distances = np.empty(rows.n_samples)
        wide = centers.astype(np.float64)

        def measure(part: slice) -> None:
            distances[part] = row_square_distances(rows.X, part, wide[self._labels[part]])

        with workers(rows.X.size) as pool:
            pool.map(measure, blocks(rows.n_samples, rows.n_features))
        return distances


def _as_slice(index: NDArray[np.int64]) -> Index:
    """A run of neighbouring rows as a slice, which NumPy reads without a copy."""
    if len(index) and index[-1] - index[0] + 1 == len(index):
        return slice(int(index[0]), int(index[-1]) + 1)
    return index


def _incidence(
    old: NDArray[np.int32], new: NDArray[np.int32], place: NDArray[np.int32], n_places: int, dense: bool
) -> NDArray | sparse.csc_array:
    """(n_places, n_rows): +1 where a row arrives, -1 where it leaves (old labels of -1 leave nothing)."""
    n = len(new)
    first = bool((old < 0).all())
    assert first or (old >= 0).all(), "either all rows of an update are new or none"
    if dense:
        signs = np.zeros((n_places, n))
        signs[place[new], np.arange(n)] = 1.0
        if not first:
            signs[place[old], np.arange(n)] = -1.0
        return signs
    if first:
        return sparse.csc_array((np.ones(n), place[new], np.arange(n + 1, dtype=np.int32)), shape=(n_places, n))
    both = place[np.stack([new, old], axis=1).ravel()]
    starts = np.arange(0, 2 * n + 1, 2, dtype=np.int32)
    return sparse.csc_array((np.tile([1.0, -1.0], n), both, starts), shape=(n_places, n))
