"""k-means++ distances of sparse rows: what `NumpySeeding` asks of a `SeedScreen`, from products of CSR."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64, Index
from gpukmeans.backends.cpu.seeding.screen import SeedScreen
from gpukmeans.backends.cpu.seeding.steps import NumpySeeding
from gpukmeans.backends.csr.table import SparseTable, entry_rows
from gpukmeans.certificates.rounding import SQUARE_UNDERFLOW, UNIT64
from gpukmeans.certificates.scores import exact_in_float64, square_distance_radius
from gpukmeans.certificates.seeds import CandidateRadius, candidate_radius
from gpukmeans.threads import Workers


class SparseSeedScreen(SeedScreen):
    """What every k-means++ run over the same sparse rows needs of them.  All products are taken in float64."""

    X: SparseTable  # type: ignore[assignment]

    def __init__(self, table: SparseTable, squares: F64, largest_integer: float) -> None:
        self.X = table
        self.largest_integer = largest_integer
        #: A difference of two rows has as many terms at most; products and squares have fewer.
        self.n_terms = max(1, min(table.shape[1], 2 * int(table.counts.max(initial=0))))
        self.exact = exact_in_float64(self.n_terms, largest_integer)
        self.squares = squares
        self.norms = np.sqrt(self.squares) * (1.0 + 2.0**-20) + self.n_terms * 2.0**-60
        self.narrow = False
        self.looks = 0

    @property
    def radius(self) -> CandidateRadius:
        return CandidateRadius(0.0, 0.0, 0.0) if self.exact else candidate_radius(self.n_terms, UNIT64)

    def shadow(self, pool: Workers) -> None:
        return None

    def products(self, rows: Index, seeds: F64, largest_norm: float) -> NDArray:
        return self.X.rows(rows) @ np.ascontiguousarray(-2.0 * seeds.T)

    def wide_rows(self, indices: NDArray[np.int64]) -> F64:
        return self.X.dense(indices).astype(np.float64)

    def wide_products(self, rows: Index, vector: F64) -> F64:
        return self.X.rows(rows) @ vector


class SparseSeeding(NumpySeeding):
    """`NumpySeeding` of rows in CSR."""

    def _from_differences(self, rows: NDArray[np.int64], seeds: NDArray[np.int64] | int) -> tuple[F64, F64]:
        table = cast(SparseTable, self._screen.X)
        of_rows = np.full(len(rows), self._seed_rows[seeds]) if isinstance(seeds, int) else self._seed_rows[seeds]
        difference = table.rows(rows).astype(np.float64) - table.rows(of_rows).astype(np.float64)
        owner = entry_rows(difference)
        distance: F64 = np.bincount(owner, difference.data**2, len(rows)).astype(np.float64, copy=False)
        differs = np.zeros(len(rows), bool)
        differs[owner[difference.data != 0.0]] = True
        error = square_distance_radius(self._d) * distance
        error[(distance < 2.0**-900) & differs] += SQUARE_UNDERFLOW
        return distance, error
