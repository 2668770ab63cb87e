"""The NumPy backend: the fallback without a GPU, and the reference for every other backend."""

from __future__ import annotations

import platform

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from gpukmeans.backends import Assigned, Updated
from gpukmeans.certificates import (
    SLACK,
    UNIT32,
    UNIT64,
    exact_in_float64,
    gamma,
    score_radius,
    square_distance_radius,
)
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
from gpukmeans.tie_break import all_integers, first_of_equal_rows, resolve

#: Rows of a k-means++ block.
SEEDING_BLOCK = 1024


class NumpyBackend:
    """Runs on the CPU with NumPy, SciPy's sparse products and BLAS."""

    name = "numpy"

    def load(self, X: NDArray, sample_weight: F64 | None = None, grid: Grid | None = None) -> NumpyRows:
        return NumpyRows(X, sample_weight, grid)

    def describe(self) -> str:
        return f"NumPy {np.__version__} on {platform.machine()}"


class NumpyRows:
    """Rows as the caller's array holds them: nothing is copied."""

    def __init__(self, X: NDArray, sample_weight: F64 | None, grid: Grid | None) -> None:
        self.X = X
        self.sample_weight = sample_weight
        self.grid = grid
        self.n_samples, self.n_features = X.shape
        self.center_dtype = np.dtype(np.float32 if X.dtype == np.float32 else np.float64)
        #: Scores of uint8 and float32 rows are formed in float32, those of float64 rows in float64.
        self.score_dtype = np.dtype(np.float64 if X.dtype == np.float64 else np.float32)
        self._largest_integer: float | None = None
        self._norms: NDArray | None = None

    def start(self, centers: NDArray, *, precision: str = "exact") -> NumpyRun:
        return NumpyRun(self, np.array(centers, self.center_dtype, order="C"), precision)

    def take(self, indices: NDArray[np.int64]) -> NDArray:
        return self.X[indices]

    def unweighted(self, grid: Grid) -> NumpyRows:
        return NumpyRows(self.X, None, grid)

    def seeding(self) -> NumpySeeding:
        return NumpySeeding(self)

    def norms(self) -> NDArray:
        """Upper bounds of |x_i|, in the score dtype."""
        if self._norms is None:
            unit = UNIT64 if self.score_dtype == np.float64 else UNIT32
            squares = np.empty(self.n_samples, self.score_dtype)
            for rows in blocks(self.n_samples, self.n_features):
                x = self.X[rows].astype(self.score_dtype, copy=False)
                np.einsum("ij,ij->i", x, x, out=squares[rows])
            underflow = self.n_features * (2.0**-120 if unit == UNIT32 else 2.0**-1000)
            bound = squares.astype(np.float64) * (1.0 + 2.0 * gamma(self.n_features + 4.0, unit)) + underflow
            self._norms = (np.sqrt(bound) * (1.0 + 4.0 * unit)).astype(self.score_dtype)
        return self._norms

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
        self._centers = centers
        self._certify = precision == "exact"
        self._labels = np.full(rows.n_samples, -1, np.int32)
        n_clusters = len(centers)
        self._weight_grid = weight_grid(rows.n_samples, rows.sample_weight)
        if rows.grid is not None:
            self._sums = np.zeros((rows.grid.n_limbs, n_clusters, rows.n_features), np.int64)
            self._weights = np.zeros((self._weight_grid.n_limbs, n_clusters), np.int64)

    def assign(self, *, move: bool = True) -> Assigned:
        rows, k = self._rows, len(self._centers)
        first = first_of_equal_rows(self._centers)
        alive = np.flatnonzero(first == np.arange(k))
        if len(alive) == 1:
            labels = np.full(rows.n_samples, alive[0], np.int32)
            undecided = np.empty(0, np.int64)
        else:
            labels, undecided = self._screen(alive)
        n_exact = 0
        if len(undecided) and self._certify:
            exact = exact_in_float64(rows.n_features, rows.largest_integer()) and exact_in_float64(
                rows.n_features, float(np.abs(self._centers).max())
            )
            exact = exact and all_integers(self._centers)
            labels[undecided], n_exact = resolve(rows.X[undecided], self._centers, alive, exact)
        changed = np.flatnonzero(labels != self._labels)
        if move:
            self._move(changed, labels)
        self._labels = labels
        n_open = len(undecided)
        return Assigned(
            n_moved=len(changed),
            n_certified=rows.n_samples - n_open,
            n_resolved=n_open - n_exact if self._certify else 0,
            n_exact=n_exact,
            n_uncertain=0 if self._certify else n_open,
        )

    def _screen(self, alive: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Labels by rounded scores |c|^2 - 2 x.c, and the rows that these cannot certify."""
        rows = self._rows
        living = self._centers[alive].astype(np.float64)
        squares = np.einsum("ij,ij->i", living, living)
        unit = UNIT64 if rows.score_dtype == np.float64 else UNIT32
        largest = float(np.sqrt(squares.max())) * (1.0 + 2.0**-20)
        radius = score_radius(rows.n_features, largest, unit)
        with np.errstate(over="ignore"):
            minus_two = np.ascontiguousarray((-2.0 * living.T).astype(rows.score_dtype))
            squares = squares.astype(rows.score_dtype)
        norms = rows.norms()
        best = np.empty(rows.n_samples, np.int32)
        certain = np.empty(rows.n_samples, bool)
        step = max(1024, (1 << 22) // max(rows.n_features, len(living)))
        for start in range(0, rows.n_samples, step):
            part = slice(start, min(start + step, rows.n_samples))
            with np.errstate(over="ignore", invalid="ignore"):
                scores = rows.X[part].astype(rows.score_dtype, copy=False) @ minus_two
                scores += squares
                nearest = scores.argmin(axis=1)
                index = np.arange(len(nearest))
                lowest = scores[index, nearest]
                scores[index, nearest] = np.inf
                second = scores.min(axis=1)
                needed = 2.0 * (radius.per_norm * norms[part].astype(np.float64) + radius.constant)
                certain[part] = second.astype(np.float64) - lowest > needed
            best[part] = nearest
        return alive[best].astype(np.int32), np.flatnonzero(~certain)

    def _move(self, changed: NDArray[np.int64], labels: NDArray[np.int32]) -> None:
        """Bring the exact sums from the old labels to the new ones."""
        rows, grid = self._rows, self._rows.grid
        assert grid is not None, "rows loaded without a grid cannot be summed"
        old = self._labels
        if 2 * len(changed) > rows.n_samples:  # cheaper afresh than by differences
            self._sums[:] = 0
            self._weights[:] = 0
            old = np.full(rows.n_samples, -1, np.int32)
            changed = np.arange(rows.n_samples)
        k = len(self._centers)
        for part in blocks(len(changed), rows.n_features):
            index = changed[part]
            signs = _incidence(old[index], labels[index], k)
            values = weighted_rows(rows.X, rows.sample_weight, _as_slice(index))
            for limb, total in zip(grid.limbs(values), self._sums, strict=True):
                total += (signs @ limb).astype(np.int64)  # exact: fewer than EXACT_FLOAT64_ROWS rows
            weights = np.ones((len(index), 1)) if rows.sample_weight is None else rows.sample_weight[index, None]
            for limb, total in zip(self._weight_grid.limbs(weights), self._weights, strict=True):
                total += (signs @ limb)[:, 0].astype(np.int64)

    def update(self) -> Updated:
        grid = self._rows.grid
        assert grid is not None
        weights = self._weight_grid.value(self._weights[:, :, None])[:, 0]
        centers = cluster_means(self._sums, weights, grid, self._rows.center_dtype)
        before, self._centers = self._centers, centers
        return Updated(weights, center_shift_square(centers, before))

    def sums(self) -> tuple[I64, I64]:
        return self._sums.copy(), self._weights.copy()

    def centers(self) -> NDArray:
        return self._centers

    def set_centers(self, centers: NDArray) -> None:
        self._centers = np.array(centers, self._rows.center_dtype, order="C")

    def labels(self) -> NDArray[np.int32]:
        return self._labels

    def farthest(self, count: int, centers: NDArray) -> NDArray[np.int64]:
        return farthest_rows(self._own_distances(centers), count)

    def inertia(self) -> float:
        distances = self._own_distances(self._centers)
        weight = self._rows.sample_weight
        return exact_total(distances if weight is None else distances * weight)

    def _own_distances(self, centers: NDArray) -> F64:
        distances = np.empty(self._rows.n_samples)
        wide = centers.astype(np.float64)
        for part in blocks(self._rows.n_samples, self._rows.n_features):
            distances[part] = row_square_distances(self._rows.X, part, wide[self._labels[part]])
        return distances


def _as_slice(index: NDArray[np.int64]) -> slice | NDArray[np.int64]:
    """A run of neighbouring rows as a slice, which NumPy reads without a copy."""
    if len(index) and index[-1] - index[0] + 1 == len(index):
        return slice(int(index[0]), int(index[-1]) + 1)
    return index


def _incidence(old: NDArray[np.int32], new: NDArray[np.int32], n_clusters: int) -> sparse.csr_array:
    """(n_clusters, n_rows): +1 where a row arrives, -1 where it leaves (old labels of -1 leave nothing)."""
    n = len(new)
    assert n <= EXACT_FLOAT64_ROWS // 2
    left = np.flatnonzero(old >= 0)
    ones = np.concatenate([np.ones(n), np.full(len(left), -1.0)])
    cluster = np.concatenate([new, old[left]])
    row = np.concatenate([np.arange(n), left])
    return sparse.csr_array((ones, (cluster, row)), shape=(n_clusters, n))


class NumpySeeding:
    """k-means++ distances by float64 products, |x|^2 + |c|^2 - 2 x.c, each with its error bound.

    Where cancellation leaves such a distance few good bits it is taken again from the differences, so that a row equal
    to a seed is at distance zero exactly.
    """

    block_size = SEEDING_BLOCK
    #: A distance is taken again where its error may exceed this share of it.
    COARSE = 2.0**-20

    def __init__(self, rows: NumpyRows) -> None:
        self._rows = rows
        n, d = rows.n_samples, rows.n_features
        self._squares = np.empty(n)
        for part in blocks(n, d):
            x = rows.X[part].astype(np.float64)
            np.einsum("ij,ij->i", x, x, out=self._squares[part])
        self._exact = exact_in_float64(d, rows.largest_integer())
        self._closest = np.full(n, np.inf)
        self._error = np.zeros(n)
        self._proposed = np.empty((0, n))
        self._proposed_error = np.empty((0, n))

    def propose(self, candidates: NDArray[np.int64]) -> tuple[F64, F64]:
        n = self._rows.n_samples
        n_blocks = -(-n // self.block_size)
        if len(self._proposed) != len(candidates):
            self._proposed = np.empty((len(candidates), n))
            self._proposed_error = np.empty((len(candidates), n))
        sums = np.empty((len(candidates), n_blocks))
        errors = np.empty_like(sums)
        seeds = self._rows.X[candidates].astype(np.float64)
        seed_squares = self._squares[candidates]
        summing = gamma(self.block_size + 2.0, UNIT64)
        for b in range(n_blocks):
            part = slice(b * self.block_size, min(n, (b + 1) * self.block_size))
            closest, error = self._distances(part, seeds, seed_squares)
            np.minimum(closest, self._closest[part], out=self._proposed[:, part])
            np.maximum(error, self._error[part], out=self._proposed_error[:, part])
            terms, slack = self._weighted(self._proposed[:, part], self._proposed_error[:, part], part)
            sums[:, b] = terms.sum(axis=1)
            errors[:, b] = SLACK * (slack.sum(axis=1) + (0.0 if self._exact_sums else summing) * sums[:, b])
        return sums, errors

    @property
    def _exact_sums(self) -> bool:
        return self._exact and self._rows.sample_weight is None

    def _distances(self, part: slice, seeds: F64, seed_squares: F64) -> tuple[F64, F64]:
        """|x - seed|^2 of a block of rows, (n_seeds, n_rows), and error bounds.

        Errors: gamma(d) of each square, the same of the product (2 |x||c| <= |x|^2 + |c|^2), two more roundings.
        """
        d = self._rows.n_features
        x = self._rows.X[part].astype(np.float64)
        squares = self._squares[part]
        distances = (seeds * -2.0) @ x.T
        distances += squares
        distances += seed_squares[:, None]
        if self._exact:
            return distances, np.zeros_like(distances)
        errors = SLACK * 2.0 * gamma(d + 4.0, UNIT64) * (squares + seed_squares[:, None]) + 2.0**-1000
        for t, i in np.argwhere(errors > self.COARSE * distances):
            difference = x[i] - seeds[t]
            distances[t, i] = difference @ difference
            errors[t, i] = square_distance_radius(d) * distances[t, i]
        return distances, errors

    def _weighted(self, terms: F64, errors: F64, part: slice) -> tuple[F64, F64]:
        weight = self._rows.sample_weight
        if weight is None:
            return terms, errors
        weighted = terms * weight[part]
        return weighted, SLACK * (errors * weight[part] + 2.0 * UNIT64 * weighted)

    def accept(self, index: int) -> None:
        self._closest = self._proposed[index].copy()
        self._error = self._proposed_error[index].copy()

    def block(self, block: int) -> tuple[F64, F64]:
        part = slice(block * self.block_size, min(self._rows.n_samples, (block + 1) * self.block_size))
        return self._weighted(self._closest[part], self._error[part], part)
