"""Rows in CSR on the CPU: what is kept of them, and what a run computes from them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.on_device import center_dtype
from gpukmeans.arrays.types import F64, I64, Index
from gpukmeans.backends.cpu.sparse.seeding import SparseSeedScreen
from gpukmeans.backends.cpu.sparse.sums import SparseSums
from gpukmeans.backends.cpu.table import Switches
from gpukmeans.backends.csr.exact import settled_rows
from gpukmeans.backends.csr.scores import SparseFullScreen, SparseRowScreen, block_squares, square_roundings
from gpukmeans.backends.csr.table import SparseTable, own_products, own_square_distances
from gpukmeans.certificates.rounding import SQUARE_UNDERFLOW, TOTAL_UNDERFLOW, UNIT64, gamma
from gpukmeans.certificates.scores import square_distance_radius
from gpukmeans.certificates.sparse import sparse_score_radius
from gpukmeans.exact.sums import Grid
from gpukmeans.threads import Workers, workers


class EntriesTable:
    """`gpukmeans.backends.cpu.table.Table` of rows in CSR; restarts share it.

    Drift bounds skip rows, float32 products screen them, float64 products and exact sums settle the rest.  Bounds of
    groups of centers and components, which read dense rows, are left out.

    Parameters
    ----------
    switches : Switches
    X : csr_array or csr_matrix of shape (n_samples, n_features), float32 or float64, or SparseTable
        Finite; the indices of each row rising and not repeated (`gpukmeans.arrays.sparse.canonical`).
    sample_weight : ndarray of shape (n_samples,), float64, or None
    sums : bool
        Whether the rows are to be summed.
    """

    counts: I64 | None = None

    def __init__(self, switches: Switches, X: Any, sample_weight: F64 | None, *, sums: bool) -> None:
        self.switches = switches
        self.X = X if isinstance(X, SparseTable) else SparseTable(X)
        self.sample_weight = sample_weight
        self.grid = self.X.grid(sample_weight) if sums else None
        self.n_samples, self.n_features = self.X.shape
        self.size = self.X.size
        self.center_dtype = center_dtype(self.X.dtype)

    @cached_property
    def row_screen(self) -> SparseRowScreen:
        """The norms of the rows, and their entries in float32."""
        return SparseRowScreen(self.X)

    @cached_property
    def seed_screen(self) -> SparseSeedScreen:
        """What k-means++ needs of the rows, computed once for all restarts."""
        return SparseSeedScreen(self.X, self.row_screen.squares, self.largest_integer)

    @cached_property
    def largest_integer(self) -> float:
        """The largest magnitude if every value is a whole number, else infinity."""
        return self.X.largest_integer()

    def of_all(self, labels: NDArray[np.int32]) -> NDArray[np.int32]:
        return labels.copy()

    def sums(self, n_clusters: int, grid: Grid) -> SparseSums:
        return SparseSums(self.X, self.sample_weight, grid, n_clusters)

    def groups(self, n_clusters: int) -> None:
        return None

    def screen(self, centers: NDArray) -> SparseFullScreen:
        return SparseFullScreen(self.row_screen, centers, np.dtype(np.float32))

    def anchors(self, before: NDArray, centers: NDArray) -> None:
        return None

    def nearest_of_few(self, centers: NDArray) -> None:
        return None

    def refuse_infinities(self, rows: Index) -> None:
        """The entries of sparse rows are checked before they are loaded."""

    def resolve(
        self,
        rows: I64,
        centers: NDArray,
        alive: I64,
        candidates: Callable[[I64], NDArray[np.bool_]] | None,
        take: Callable[[I64, NDArray[np.int32]], None],
        pool: Workers,
    ) -> int:
        n_exact = 0
        for part, labels, n in settled_rows(self.row_screen, self.X, centers, alive, self.largest_integer, rows):
            take(rows[part], labels)
            n_exact += n
        return n_exact

    def own_distances(self, labels: NDArray[np.int32], centers: NDArray) -> F64:
        with workers(self.size) as pool:
            return own_square_distances(self.X, labels, centers, pool)

    def inertia_bounds(
        self, labels: NDArray[np.int32], centers: NDArray, sample_weight: F64 | None
    ) -> tuple[float, float]:
        """A lower and an upper bound of the inertia, from the stored entries alone and without the warp order.

        Notes
        -----
        Each |x - c|^2 is taken as |x|^2 + (|c|^2 - 2 x.c): the radius of float64 scores bounds the second part, gamma
        of the entries the first, and two roundings more are within those of a row of two entries more.  Sums of n
        terms, and their products with weights, round by gamma(n + 1) of the summed magnitudes.  The inertia itself
        is off by `square_distance_radius`, the products with the weights and one rounding.
        """
        screen, table = self.row_screen, self.X
        roundings = square_roundings(self.n_features)
        squares = block_squares(centers)
        largest = float(np.sqrt(squares.max())) * (1.0 + 2.0**-20)
        products = own_products(table, labels, centers)
        distances = screen.squares + (squares[labels] - 2.0 * products)
        magnitudes = screen.norms * screen.norms + largest * largest + 2.0 * screen.norms * largest
        radii = sparse_score_radius(table.counts + 2, screen.norms, largest, roundings + 2, UNIT64)
        radii += gamma(float(table.counts.max(initial=0)) + 4.0, UNIT64) * magnitudes
        weight = 1.0 if sample_weight is None else sample_weight
        total = float((distances * weight).sum())
        error = float((radii * weight).sum()) * (1.0 + 2.0**-20)
        error += gamma(self.n_samples + 4.0, UNIT64) * float((magnitudes * weight).sum())
        relative = square_distance_radius(self.n_features) + 2.0**-50
        underflow = self.n_samples * (SQUARE_UNDERFLOW * (1.0 + float(np.max(weight))) + TOTAL_UNDERFLOW)
        lowest = (total - error) * (1.0 - relative) - underflow
        return max(0.0, lowest), (total + error) * (1.0 + relative) + underflow
