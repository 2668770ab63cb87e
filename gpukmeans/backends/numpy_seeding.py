"""k-means++ distances on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpukmeans.certificates import SLACK, SQUARE_UNDERFLOW, UNIT64, exact_in_float64, gamma, square_distance_radius
from gpukmeans.exact_sums import F64
from gpukmeans.threads import workers

if TYPE_CHECKING:
    from gpukmeans.backends.numpy_backend import NumpyRows

#: Rows of a k-means++ block.
SEEDING_BLOCK = 512


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
        self._squares = rows.squares()
        self._exact = exact_in_float64(d, rows.largest_integer())
        #: Whether sums over a block carry no error either.
        self._exact_sums = rows.sample_weight is None and exact_in_float64(d * self.block_size, rows.largest_integer())
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

        def sum_block(b: int) -> None:
            part = self._part(b)
            new, new_error = self._distances(part, seeds, seed_squares)
            old, old_error = self._closest[part], self._error[part]
            np.minimum(new, old, out=self._proposed[:, part])
            # The smaller of two numbers is as good as itself where their errors keep them apart.
            error = np.maximum(new_error, old_error)
            error = np.where(new + new_error <= old - old_error, new_error, error)
            self._proposed_error[:, part] = np.where(old + old_error <= new - new_error, old_error, error)
            terms, slack = self._weighted(self._proposed[:, part], self._proposed_error[:, part], part)
            sums[:, b] = terms.sum(axis=1)
            errors[:, b] = SLACK * (slack.sum(axis=1) + (0.0 if self._exact_sums else summing) * sums[:, b])

        with workers(self._rows.X.size) as pool:
            pool.map(sum_block, range(n_blocks))
        return sums, errors

    def _part(self, block: int) -> slice:
        return slice(block * self.block_size, min(self._rows.n_samples, (block + 1) * self.block_size))

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
        for t, seed in enumerate(seeds):
            again = np.flatnonzero(errors[t] > self.COARSE * distances[t])
            difference = x[again] - seed
            closer = np.einsum("ij,ij->i", difference, difference)
            underflow = np.where((closer < 2.0**-900) & difference.any(axis=1), SQUARE_UNDERFLOW, 0.0)
            distances[t, again] = closer
            errors[t, again] = square_distance_radius(d) * closer + underflow
        return distances, errors

    def _weighted(self, terms: F64, errors: F64, part: slice) -> tuple[F64, F64]:
        weight = self._rows.sample_weight
        if weight is None:
            return terms, errors
        weighted = terms * weight[part]
        vanishing = (weighted < 2.0**-900) & ((terms > 0.0) | (errors > 0.0)) & (weight[part] > 0.0)
        underflow = np.where(vanishing, SQUARE_UNDERFLOW, 0.0)
        return weighted, SLACK * (errors * weight[part] + 2.0 * UNIT64 * weighted) + underflow

    def accept(self, index: int) -> None:
        self._closest = self._proposed[index].copy()
        self._error = self._proposed_error[index].copy()

    def block(self, block: int) -> tuple[F64, F64]:
        part = self._part(block)
        return self._weighted(self._closest[part], self._error[part], part)
