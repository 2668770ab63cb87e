"""k-means++ distances on the CPU."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64, I64, Index
from gpukmeans.backends.cpu.seeding.screen import PART, Shadow
from gpukmeans.certificates.rounding import SLACK, SQUARE_UNDERFLOW, UNIT64, gamma
from gpukmeans.certificates.scores import exact_in_float64
from gpukmeans.certificates.seeds import CandidateRadius
from gpukmeans.threads import SMALL, Workers, parts_of, rows_in_block, workers

#: Rows of a k-means++ block.
SEEDING_BLOCK = 512
#: Up to this many rows every block is one row: to look for a row among all costs less than to look twice.
FEW_ROWS = 4096
#: Seeds that are added at a time.
TOGETHER = 256
#: Where a larger share of a part's rows is wanted, all are read.
MOST = 0.5


class SeedTable(Protocol):
    """What every k-means++ run over the same rows needs of them: `SeedScreen`, or `SparseSeedScreen` for rows in CSR.

    Attributes
    ----------
    shape : (n_samples, n_features)
    size : int
        Stored values.
    n_terms : int
        The products that a squared distance is summed from, at most.
    largest_integer : float
        The largest magnitude if every value is a whole number, else infinity.
    exact : bool
        Whether squared distances, and the products here, are whole numbers that float64 holds.
    narrow : bool
        Whether `products` are taken in float32.
    squares, norms : ndarray of shape (n_samples,), float64
        |x|^2, and upper bounds of |x|.
    looks : int
        Proposals so far.
    radius : CandidateRadius
        Of the products.
    """

    shape: tuple[int, int]
    size: int
    n_terms: int
    largest_integer: float
    exact: bool
    narrow: bool
    squares: F64
    norms: F64
    looks: int

    @property
    def radius(self) -> CandidateRadius: ...

    def widen(self) -> None:
        """Take products in float64 from now on."""

    def shadow(self, pool: Workers) -> Shadow | None:
        """A few components of the rows, where they pay."""

    def products(self, rows: Index, seeds: F64, largest_norm: float) -> NDArray:
        """-2 x.c of some rows and every seed, (n_rows, n_seeds); `largest_norm` bounds the seeds' norms."""

    def wide_rows(self, indices: NDArray[np.int64]) -> F64:
        """Some rows in float64, (n_rows, n_features)."""

    def wide_products(self, rows: Index, vector: F64) -> F64:
        """The float64 products of some rows with one vector, (n_rows,)."""

    def from_differences(self, rows: I64, which: I64 | int, seeds: F64, seed_rows: I64) -> tuple[F64, F64]:
        """|x - seed|^2 from differences and its error, good to nearly every bit; zero for equal rows only.

        `which`, one for each row or one for all, are positions among `seeds`, (n_seeds, n_features), which are the rows
        `seed_rows`, (n_seeds,), in float64.
        """


class _Look(NamedTuple):
    """What a proposal found in a part of the rows."""

    rows: Index
    change: F64  # (n_candidates, n_rows): min(0, squared distance to the candidate less that to the closest seed)
    nearer: NDArray[np.bool_]  # whether the candidate may be nearer than the closest seed


class _Closer(NamedTuple):
    """Rows and their squared distances to the closest seed, were a candidate one."""

    rows: Index
    closest: F64
    error: F64


class NumpySeeding:
    """Distances to the closest seed in float64, each with its error bound, and cheap proposals.

    A proposal looks at the rows in the precision in which they are stored, which nearly always decides which candidate
    is best.  Only rows that a chosen candidate may be nearer to get float64 distances: |x|^2 + |c|^2 - 2 x.c and, where
    cancellation leaves few good bits, from the differences, so that a row equal to a seed is at distance zero exactly.
    """

    #: A distance is taken again where its error may exceed this share of it.
    COARSE = 2.0**-20
    #: Float32 products are given up where their radii reach this share of the distances.
    VAGUE = 2.0**-6

    def __init__(self, screen: SeedTable, sample_weight: F64 | None) -> None:
        self._screen = screen
        self._weight = sample_weight
        self._n, n_features = screen.shape
        n, d = self._n, screen.n_terms
        self._d = d
        self.block_size = 1 if n <= FEW_ROWS else SEEDING_BLOCK
        self._parts = parts_of(n, PART)
        plain = screen.exact and sample_weight is None
        #: The relative error of a sum over a block, and of one over all rows.
        whole_block = plain and exact_in_float64(d * self.block_size, screen.largest_integer)
        whole_total = plain and exact_in_float64(d * n, screen.largest_integer)
        self._block_sum = 0.0 if whole_block else SLACK * gamma(self.block_size + 2.0, UNIT64)
        self._total = 0.0 if whole_total else SLACK * gamma(PART + n / self.block_size + n / PART + 8.0, UNIT64)
        padded = -(-n // self.block_size) * self.block_size
        self._closest, self._error = self._zeros(padded), self._zeros(padded)
        self._closest[:n] = np.inf
        self._terms, self._slack = self._closest, self._error  # weighted, where there are weights
        self._potential = self._potential_error = 0.0
        self._begun = False
        self._seeds: F64 = np.empty((0, n_features))
        self._seed_squares: F64 = np.empty(0)
        self._seed_rows: NDArray[np.int64] = np.empty(0, np.int64)
        self._largest = 0.0  # bounds the norms of the seeds
        self._looks: list[_Look] = []
        self._closer: dict[int, list[_Closer]] = {}

    def _zeros(self, n_rows: int) -> F64:
        """Room for a number of every row."""
        return np.zeros(n_rows)

    def _workers(self) -> AbstractContextManager[Workers]:
        size = self._screen.size
        return workers(size) if size >= SMALL else nullcontext(Workers(1))

    def add(self, indices: NDArray[np.int64]) -> tuple[F64, F64]:
        if not self._begun:
            self._begin(indices[:1])
            indices = indices[1:]
        for part in parts_of(len(indices), TOGETHER):
            self._set_seeds(indices[part])
            step = min(PART, max(256, TOGETHER * PART // (8 * len(self._seeds))))
            with self._workers() as pool:
                self._settle([closer for closer in pool.map(self._nearest, parts_of(self._n, step)) if closer])
        return self._sums()

    def _begin(self, row: NDArray[np.int64]) -> None:
        screen = self._screen
        self._set_seeds(row)
        with self._workers() as pool:
            self._settle(pool.map(lambda part: self._distances(part, 0), self._parts))
        self._begun = True
        if screen.narrow and not screen.exact:
            radius = self._radius(slice(0, self._n), float(screen.norms.max()))
            if float(radius.sum()) > self.VAGUE * float(self._closest.sum()):
                screen.widen()

    def _set_seeds(self, indices: NDArray[np.int64]) -> None:
        screen = self._screen
        self._seed_rows = indices
        self._seeds = screen.wide_rows(indices)
        self._seed_squares = screen.squares[indices]
        self._largest = float(screen.norms[indices].max())
        self._closer = {}

    def _nearest(self, part: slice) -> _Closer | None:
        """The rows of a part that one of the seeds is nearer to, with their distances to the nearest."""
        screen = self._screen
        old, old_error = self._closest[part], self._error[part]
        change = screen.products(part, self._seeds, self._largest) + (screen.squares[part] - old)[:, None]
        change += self._seed_squares
        best = change.min(axis=1)
        if screen.exact:
            rows = np.flatnonzero(best < 0.0)
            return _Closer(rows + part.start, (old + best)[rows], np.zeros(len(rows)))
        # Where the computed best is the nearest seed, others that may be are within twice the radius of it.
        radius = self._radius(part, self._largest)
        limit = np.minimum(best + 2.0 * radius, radius + old_error)
        limit[old + old_error == 0.0] = -np.inf
        row, seed = np.nonzero(change <= limit[:, None])
        if not len(row):
            return None
        distance, error = np.empty(len(row)), np.empty(len(row))
        for some in parts_of(len(row), rows_in_block(self._d)):
            distance[some], error[some] = self._from_differences(row[some] + part.start, seed[some])
        first = np.flatnonzero(np.diff(row, prepend=-1))
        smallest, doubt = np.minimum.reduceat(distance, first), np.maximum.reduceat(error, first)
        # The smallest of some numbers carries the largest of their errors at most; zero without error is the smallest.
        doubt[np.logical_or.reduceat((distance == 0.0) & (error == 0.0), first)] = 0.0
        row = row[first]
        return _closer_of(row + part.start, smallest, doubt, old[row], old_error[row])

    def propose(self, candidates: NDArray[np.int64]) -> tuple[F64, F64]:
        screen = self._screen
        self._set_seeds(candidates)
        with self._workers() as pool:
            shadow = screen.shadow(pool)
            seeds = None if shadow is None else shadow.of_seeds(self._seeds)

            def look(part: slice) -> tuple[_Look, F64, F64]:
                rows: Index = part
                if shadow is not None and seeds is not None:
                    left = shadow.left(part, *seeds, self._closest[part] + self._error[part])
                    rows = left if len(left) < MOST * (part.stop - part.start) else part
                return self._look(rows)

            found = pool.map(look, self._parts)
        screen.looks += 1
        self._looks = [f[0] for f in found]
        change, error = found[0][1:]
        for _, some, doubt in found[1:]:
            change, error = change + some, error + doubt
        return self._potentials(change, error)

    def _look(self, rows: Index) -> tuple[_Look, F64, F64]:
        """A part of a proposal, the summed change of the potentials by it and its error, but for the summation's."""
        screen = self._screen
        closest = self._closest[rows]
        base = screen.squares[rows] - closest
        doubt = np.zeros(len(self._seeds))
        if screen.exact:
            change = screen.products(rows, self._seeds, self._largest).T + base
            change += self._seed_squares[:, None]
            nearer = change < 0.0
        else:
            error = self._error[rows]
            base[closest + error == 0.0] = np.inf  # no candidate is nearer
            change = screen.products(rows, self._seeds, self._largest).T + base
            change += self._seed_squares[:, None]
            radius = self._radius(rows, self._largest)
            nearer = change < radius + error
            weights = 1.0 if self._weight is None else self._weight[rows]
            doubt = nearer @ (radius * weights + SQUARE_UNDERFLOW)
        np.minimum(change, 0.0, out=change)
        total = change.sum(axis=1) if self._weight is None else change @ self._weight[rows]
        return _Look(rows, change, nearer), total, doubt

    def _radius(self, rows: Index, largest: float) -> F64:
        """Bounds of the error of the squared distances of rows to candidates of norm `largest` at most."""
        screen, radius = self._screen, self._screen.radius
        bounds = screen.squares[rows] + self._closest[rows]
        bounds += largest * largest
        bounds *= radius.per_square
        bounds += screen.norms[rows] * (radius.per_product * largest)
        bounds += radius.constant
        return bounds

    def _potentials(self, change: F64, error: F64) -> tuple[F64, F64]:
        potentials = self._potential + change
        return potentials, self._potential_error + SLACK * error + self._total * (self._potential - change)

    def refine(self, indices: NDArray[np.int64]) -> tuple[F64, F64]:
        change, error = np.empty(len(indices)), np.empty(len(indices))
        for place, index in enumerate(indices.tolist()):
            change[place] = error[place] = 0.0
            for rows, closest, bound in self._refined(index):
                terms, slack = self._weighted(closest, bound, rows)
                before, _ = self._weighted(self._closest[rows], bound, rows)
                change[place] += (terms - before).sum()
                error[place] += slack.sum()
        return self._potentials(change, error)

    def nearer(self, indices: NDArray[np.int64]) -> I64:
        every = np.arange(self._n)
        return np.unique(np.concatenate([every[found.rows] for i in indices.tolist() for found in self._refined(i)]))

    def _refined(self, index: int) -> list[_Closer]:
        if index not in self._closer:
            with self._workers() as pool:
                found = pool.map(lambda look: self._of_look(look, index), self._looks)
            self._closer[index] = [closer for closer in found if closer is not None]
        return self._closer[index]

    def _of_look(self, look: _Look, index: int) -> _Closer | None:
        near = np.flatnonzero(look.nearer[index])
        if not len(near):
            return None
        if isinstance(look.rows, slice):
            rows: Index = near + look.rows.start
            if len(near) > MOST * look.nearer.shape[1] and not self._screen.exact:
                rows = look.rows
        else:
            rows = look.rows[near]
        if self._screen.exact:
            return _Closer(rows, self._closest[rows] + look.change[index, near], np.zeros(len(near)))
        return self._distances(rows, index)

    def _distances(self, rows: Index, index: int) -> _Closer:
        """min(closest, |x - seed|^2) of some rows, and its error.

        Errors: gamma(d) of each square, the same of the product (2 |x||c| <= |x|^2 + |c|^2), two more roundings.
        """
        screen, d = self._screen, self._d
        square = self._seed_squares[index]
        old, old_error = self._closest[rows], self._error[rows]
        squares = screen.squares[rows]
        new = screen.wide_products(rows, -2.0 * self._seeds[index])
        new += squares
        new += square
        if screen.exact:
            return _Closer(rows, np.minimum(new, old), old_error)
        error = SLACK * 2.0 * gamma(d + 4.0, UNIT64) * (squares + square) + 2.0**-1000
        again = np.flatnonzero(error > self.COARSE * new)
        for part in parts_of(len(again), rows_in_block(d)):
            some = again[part]
            new[some], error[some] = self._from_differences(
                some + rows.start if isinstance(rows, slice) else rows[some], index
            )
        return _closer_of(rows, new, error, old, old_error)

    def _from_differences(self, rows: NDArray[np.int64], seeds: NDArray[np.int64] | int) -> tuple[F64, F64]:
        """`SeedTable.from_differences`; `seeds` are positions among the present seeds: one a row, or one for all."""
        return self._screen.from_differences(rows, seeds, self._seeds, self._seed_rows)

    def _weighted(self, terms: F64, errors: F64, rows: Index) -> tuple[F64, F64]:
        if self._weight is None:
            return terms, errors
        weight = self._weight[rows]
        weighted = terms * weight
        vanishing = (weighted < 2.0**-900) & ((terms > 0.0) | (errors > 0.0)) & (weight > 0.0)
        underflow = np.where(vanishing, SQUARE_UNDERFLOW, 0.0)
        return weighted, SLACK * (errors * weight + 2.0 * UNIT64 * weighted) + underflow

    def accept(self, index: int) -> tuple[F64, F64]:
        self._settle(self._refined(index))
        self._looks = []
        return self._sums()

    def _settle(self, found: list[_Closer]) -> None:
        for rows, closest, error in found:
            self._closest[rows] = closest
            self._error[rows] = error

    def _sums(self) -> tuple[F64, F64]:
        if self._weight is not None:
            if self._terms is self._closest:
                self._terms, self._slack = self._zeros(len(self._closest)), self._zeros(len(self._closest))
            every = slice(0, self._n)
            self._terms[every], self._slack[every] = self._weighted(self._closest[every], self._error[every], every)
        if self.block_size == 1:
            sums, errors = self._terms.copy(), self._slack.copy()
        else:
            sums = self._terms.reshape(-1, self.block_size).sum(axis=1)
            errors = SLACK * self._slack.reshape(-1, self.block_size).sum(axis=1) + self._block_sum * sums
        self._potential = float(sums.sum())
        self._potential_error = SLACK * float(errors.sum()) + self._total * self._potential
        return sums, errors

    def block(self, block: int) -> tuple[F64, F64]:
        part = slice(block * self.block_size, min(self._n, (block + 1) * self.block_size))
        return self._terms[part], self._slack[part]

    def terms(self) -> tuple[F64, F64]:
        return self._terms[: self._n], self._slack[: self._n]


def _closer_of(rows: Index, new: F64, error: F64, old: F64, old_error: F64) -> _Closer:
    """The smaller of two distances; it is as good as itself where their errors keep them apart."""
    worse = np.maximum(error, old_error)
    worse = np.where(new + error <= old - old_error, error, worse)
    worse = np.where(old + old_error <= new - error, old_error, worse)
    return _Closer(rows, np.minimum(new, old), worse)
