"""k-means++ distances of rows in CSR, from products of stored entries."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64, I64, Index
from gpukmeans.backends.csr.table import SparseTable, entry_rows
from gpukmeans.certificates.rounding import SQUARE_UNDERFLOW, UNIT64
from gpukmeans.certificates.scores import exact_in_float64, square_distance_radius
from gpukmeans.certificates.seeds import CandidateRadius, candidate_radius
from gpukmeans.threads import Workers

#: Features up to which differences are taken of dense rows.
NARROW = 64


class SparseSeedScreen:
    """The `SeedTable` (gpukmeans/backends/cpu/seeding/steps.py) of rows in CSR.

    All products are taken in float64.  `n_terms`: of the difference of any two rows, where some are not in this table.
    """

    narrow = False

    def __init__(self, table: SparseTable, squares: F64, largest_integer: float, n_terms: int | None = None) -> None:
        self._table = table
        self.shape, self.size = table.shape, table.size
        self.largest_integer = largest_integer
        #: A difference of two rows has as many terms at most; products and squares have fewer.
        self.n_terms = n_terms or max(1, min(table.shape[1], 2 * int(table.counts.max(initial=0))))
        self.exact = exact_in_float64(self.n_terms, largest_integer)
        self.squares = squares
        self.norms = np.sqrt(self.squares) * (1.0 + 2.0**-20) + self.n_terms * 2.0**-60
        self.looks = 0

    @property
    def radius(self) -> CandidateRadius:
        return CandidateRadius(0.0, 0.0, 0.0) if self.exact else candidate_radius(self.n_terms, UNIT64)

    def widen(self) -> None:
        """Products are in float64 already."""

    def shadow(self, pool: Workers) -> None:
        return None

    def products(self, rows: Index, seeds: F64, largest_norm: float) -> NDArray:
        return self._table.rows(rows) @ np.ascontiguousarray(-2.0 * seeds.T)

    def wide_rows(self, indices: NDArray[np.int64]) -> F64:
        return self._table.dense(indices).astype(np.float64)

    def wide_products(self, rows: Index, vector: F64) -> F64:
        return self._table.rows(rows) @ vector

    def from_differences(self, rows: I64, which: I64 | int, seeds: F64, seed_rows: I64) -> tuple[F64, F64]:
        if self.shape[1] <= NARROW:  # zeros, which round nothing, cost less than another matrix
            dense = self._table.dense(rows) - seeds[which]
            return self._judged(np.vecdot(dense, dense), np.logical_or.reduce(dense, axis=1))
        difference = self._table.rows(rows).astype(np.float64) - self._of_seeds(which, len(rows), seeds, seed_rows)
        owner = entry_rows(difference)
        distance: F64 = np.bincount(owner, difference.data**2, len(rows)).astype(np.float64, copy=False)
        differs = np.zeros(len(rows), bool)
        differs[owner[difference.data != 0.0]] = True
        return self._judged(distance, differs)

    def _judged(self, distance: F64, differs: NDArray[np.bool_]) -> tuple[F64, F64]:
        """Distances with their errors, of rows that differ from their seeds or do not."""
        error = square_distance_radius(self.n_terms) * distance
        error[(distance < 2.0**-900) & differs] += SQUARE_UNDERFLOW
        return distance, error

    def _of_seeds(self, which: I64 | int, n: int, seeds: F64, seed_rows: I64) -> Any:
        """The seeds of `n` rows, a csr_array."""
        return self._table.rows(np.broadcast_to(seed_rows[which], n)).astype(np.float64)
