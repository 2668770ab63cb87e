"""k-means++ distances on a line: each from its difference, in passes over blocks that stay in a cache."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64
from gpukmeans.backends.cpu.line.rows import SortedRows
from gpukmeans.backends.defaults import SeedingDefaults
from gpukmeans.certificates.rounding import SLACK, UNIT64, gamma
from gpukmeans.certificates.scores import exact_in_float64, square_distance_radius
from gpukmeans.threads import parts_of, workers

#: Rows of a block of `gpukmeans.backends.protocol.Seeding`, and those that a thread works on at a time.
BLOCK, PART = 512, 1 << 14
#: Differences of two float64 numbers, neither smaller than this unless zero, have squares that do not underflow; nor do
#: these times a weight that is not smaller than the other.
SMALLEST, SMALLEST_WEIGHT = 2.0**-390, 2.0**-100


def serves(line: SortedRows) -> bool:
    """Whether no square distance of these rows, times a weight, can underflow."""
    values, weight = line.values, line.table.sample_weight
    below, above = values.searchsorted(0.0), values.searchsorted(0.0, "right")
    near_zero = [*values[:below][-1:].tolist(), *values[above:][:1].tolist()]
    if any(abs(value) < SMALLEST for value in near_zero):
        return False
    return weight is None or not ((weight > 0.0) & (weight < SMALLEST_WEIGHT)).any()


class LineSeeding(SeedingDefaults):
    """Squared distances to the closest seed, times the weights.

    Parameters
    ----------
    line : SortedRows
        For which `serves` holds.

    Notes
    -----
    Nothing underflows, so that all errors are relative: of whole numbers there are none; else those of a square
    distance and one product with a weight.  The smallest of several numbers carries no more than each of them.
    """

    block_size = BLOCK

    def __init__(self, line: SortedRows) -> None:
        table = line.table
        self._x, self._weight = table.X[:, 0], table.sample_weight
        n = self._n = table.n_samples
        n_blocks = self._n_blocks = -(-n // BLOCK)
        self._closest = np.zeros(n_blocks * BLOCK)
        self._closest[:n] = np.inf
        largest = table.largest_integer if self._weight is None else np.inf
        exact = [exact_in_float64(terms, largest) for terms in (1, BLOCK, n)]
        term = square_distance_radius(1) + 2.0 * UNIT64
        errors = [SLACK * (term + gamma(m, UNIT64)) for m in (0.0, BLOCK + 2.0, BLOCK + n_blocks + 4.0)]
        #: The relative errors of a term, of a sum over a block, and of one over all rows.
        self._of_term, self._of_block, self._of_all = np.where(exact, 0.0, errors).tolist()
        self._candidates: NDArray[np.int64] = np.zeros(0, np.int64)
        self._proposed: F64 = np.zeros(0)

    def add(self, indices: NDArray[np.int64]) -> tuple[F64, F64]:
        seeds = self._x[indices].astype(np.float64)
        sums = np.empty(self._n_blocks)

        def settle(blocks: slice, x: F64, closest: F64, room: F64) -> None:
            for seed in seeds:
                np.minimum(closest, _squares(x, seed, room), out=closest)
            room[:] = closest
            sums[blocks] = self._sums(blocks, room)

        self._by_blocks(settle)
        return sums, self._of_block * sums

    def propose(self, candidates: NDArray[np.int64]) -> tuple[F64, F64]:
        self._candidates = candidates
        seeds = self._x[candidates].astype(np.float64)
        sums = np.empty((len(candidates), self._n_blocks))

        def look(blocks: slice, x: F64, closest: F64, room: F64) -> None:
            for seed, of_seed in zip(seeds, sums, strict=True):
                np.minimum(closest, _squares(x, seed, room), out=room)
                of_seed[blocks] = self._sums(blocks, room)

        self._by_blocks(look)
        self._proposed = sums.sum(axis=1)
        return self._proposed, self._of_all * self._proposed

    def refine(self, indices: NDArray[np.int64]) -> tuple[F64, F64]:
        return self._proposed[indices], self._of_all * self._proposed[indices]

    def accept(self, index: int) -> tuple[F64, F64]:
        return self.add(self._candidates[index : index + 1])

    def block(self, block: int) -> tuple[F64, F64]:
        return self._terms(slice(block * BLOCK, min(self._n, (block + 1) * BLOCK)))

    def terms(self) -> tuple[F64, F64]:
        return self._terms(slice(0, self._n))

    def _terms(self, rows: slice) -> tuple[F64, F64]:
        terms = self._closest[rows]
        if self._weight is not None:
            terms = terms * self._weight[rows]
        return terms, self._of_term * terms

    def _sums(self, blocks: slice, squares: F64) -> F64:
        """The squares times their weights, which overwrite them, summed over each of some blocks."""
        if self._weight is not None:
            weight = self._weight[blocks.start * BLOCK : blocks.stop * BLOCK]
            squares[: len(weight)] *= weight
        return squares.reshape(-1, BLOCK).sum(axis=1)

    def _by_blocks(self, work: Callable[[slice, F64, F64, F64], None]) -> None:
        """Call ``work(blocks, x, closest, room)`` for all blocks, some at a time; missing rows are at distance 0."""

        def share(some: slice) -> None:
            x, room = np.zeros((2, PART))
            for part in parts_of(some.stop - some.start, PART // BLOCK):
                blocks = slice(some.start + part.start, some.start + part.stop)
                closest = self._closest[blocks.start * BLOCK : blocks.stop * BLOCK]
                values = self._x[blocks.start * BLOCK : blocks.stop * BLOCK]
                x[: len(values)] = values
                work(blocks, x[: len(closest)], closest, room[: len(closest)])

        with workers(self._n) as pool:
            pool.map(share, pool.share(self._n_blocks, self._n_blocks, PART // BLOCK))


def _squares(x: F64, seed: float, room: F64) -> F64:
    np.subtract(x, seed, out=room)
    return np.multiply(room, room, out=room)
