"""The NumPy backend's rows where they come in CSR: never made dense whole, and ending in the bits of dense rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.on_device import center_dtype
from gpukmeans.arrays.types import F64
from gpukmeans.backends.cpu.sparse.run import SparseRun
from gpukmeans.backends.cpu.sparse.seeding import SparseSeeding, SparseSeedScreen
from gpukmeans.backends.csr.scores import SparseRowScreen
from gpukmeans.backends.csr.table import SparseTable, entry_rows
from gpukmeans.backends.defaults import RowsDefaults
from gpukmeans.backends.protocol import BatchSums
from gpukmeans.exact import batch_inertia

if TYPE_CHECKING:
    from gpukmeans.backends.cpu.backend import NumpyBackend


class SparseRows(RowsDefaults):
    """Rows in CSR, and what the screens keep of them.

    Parameters
    ----------
    X : csr_array or csr_matrix of shape (n_samples, n_features), float32 or float64
        Finite; the indices of each row rising and not repeated (`gpukmeans.arrays.sparse.canonical`).
    """

    def __init__(self, options: NumpyBackend, X: Any, sample_weight: F64 | None, *, sums: bool) -> None:
        self.options = options
        self.X = X if isinstance(X, SparseTable) else SparseTable(X)
        self.sample_weight = sample_weight
        self.grid = self.X.grid(sample_weight) if sums else None
        self.n_samples, self.n_features = self.X.shape
        self.center_dtype = center_dtype(self.X.dtype)
        self._largest_integer: float | None = None
        self._screen: SparseRowScreen | None = None
        self._seed_screen: SparseSeedScreen | None = None

    def start(self, centers: NDArray, *, precision: str = "exact") -> SparseRun:
        if precision not in ("exact", "fast"):
            raise ValueError(f"precision={precision!r} should be 'exact' or 'fast'.")
        return SparseRun(self, np.array(centers, self.center_dtype, order="C"), precision)  # type: ignore[arg-type]

    def seeding(self) -> SparseSeeding:
        if self._seed_screen is None:
            self._seed_screen = SparseSeedScreen(self.X, self.screen().squares, self.largest_integer())
        return SparseSeeding(self._seed_screen, self.sample_weight)

    def take(self, indices: NDArray[np.int64]) -> NDArray:
        return self.X.dense(indices)

    def subset(self, indices: NDArray[np.int64], sample_weight: F64 | None = None, *, sums: bool = True) -> SparseRows:
        return SparseRows(self.options, self.X.rows(indices), sample_weight, sums=sums)

    def entries(self, indices: NDArray[np.int64]) -> tuple[NDArray, NDArray, NDArray]:
        """The stored entries of some rows: the place of each one's row among the indices, its column, its value."""
        x = self.X.rows(indices)
        return entry_rows(x), x.indices, x.data

    def batch_sums(self, centers: NDArray, *, precision: str = "exact", inertia: bool = True) -> BatchSums:
        run = self.start(centers, precision=precision)
        run.assign()
        sums, weights = run.batch_sums()
        return BatchSums(sums, weights, self._batch_inertia(run, sums, weights) if inertia else float("nan"))

    def _batch_inertia(self, run: SparseRun, sums: F64, weights: F64) -> float:
        """The cheapest evaluation that tells."""
        centers = run.assigned_centers()
        found = batch_inertia.from_sums(self.X.squares(), centers.astype(np.float64), sums, weights)
        if found is None:
            found = batch_inertia.from_distances(run.inertia(), self.n_features)
        return self.X.batch_inertia(centers, run.labels(), weights) if found is None else found

    def unweighted(self) -> SparseRows:
        rows = SparseRows(self.options, self.X, None, sums=True)
        rows._screen = self.screen()
        return rows

    def screen(self) -> SparseRowScreen:
        if self._screen is None:
            self._screen = SparseRowScreen(self.X)
        return self._screen

    def largest_integer(self) -> float:
        """The largest magnitude if every value is a whole number, else infinity."""
        if self._largest_integer is None:
            self._largest_integer = self.X.largest_integer()
        return self._largest_integer
