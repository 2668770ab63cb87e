"""The CUDA backend's rows where they come in CSR: they stay so on the device; fits end in the bits of dense rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64
from gpukmeans.backends.csr.scores import SparseRowScreen
from gpukmeans.backends.csr.table import SparseTable, entry_rows
from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda.control import Scale
from gpukmeans.backends.cuda.device.seam import explained_memory_errors
from gpukmeans.backends.cuda.rows import DeviceRows, Launcher
from gpukmeans.backends.cuda.sparse.seeding import CupySparseSeeding
from gpukmeans.backends.cuda.sparse.workspace import SparseWorkspace
from gpukmeans.exact.sums import power_of_two_above, weight_grid

#: Column indices are int32 on the device, and centers are scaled by powers of two within 2**-450 and 2**450, whose
#: squares are normal numbers.
MOST_FEATURES = 2**31 - 1
LARGEST_EXPONENT = 450


@dataclass(frozen=True)
class SparseFacts:
    """What kernels that all rows share ask of rows in CSR.

    Attributes
    ----------
    scales : device array of shape (len(Scale),), float64
        See `Scale`.
    scale, unit : device arrays of shape (n_features,), float64, or None
        The scale of the grid, and one over it.
    """

    scales: Any
    scale: Any
    unit: Any
    offsets: None = None


class SparseSource:
    """Sparse rows on the host, of which batches go to the device."""

    def __init__(self, launcher: Launcher, X: Any) -> None:
        self._launch, self._table = launcher, SparseTable(X)

    def subset(
        self, indices: NDArray[np.int64], sample_weight: F64 | None = None, *, sums: bool = True
    ) -> CupySparseRows:
        return CupySparseRows(self._launch, self._table.rows(indices), sample_weight, sums=sums)


class CupySparseRows(DeviceRows):
    """Rows in CSR on the device, and on the host, where their facts are found and what float64 leaves open is settled.

    Parameters
    ----------
    X : csr_array or csr_matrix of shape (n_samples, n_features), float32 or float64, or SparseTable
        Finite; the indices of each row rising and not repeated (`gpukmeans.arrays.sparse.canonical`).

    Attributes
    ----------
    table : SparseTable
        The rows on the host.
    indptr, indices, data : device arrays of shape (n_samples + 1,), int64, (n_entries,), int32, and (n_entries,)
    squares, norms : device arrays of shape (n_samples,), float64
        |x|^2, and upper bounds of |x| times `half_scale`.
    """

    def __init__(
        self,
        launcher: Launcher,
        X: Any,
        sample_weight: F64 | None,
        *,
        sums: bool = True,
        resident: CupySparseRows | None = None,
    ) -> None:
        table = X if isinstance(X, SparseTable) else SparseTable(X)
        if table.dtype not in tuning.SPARSE_DTYPES:
            raise TypeError(f"Sparse rows of dtype {table.dtype} cannot be loaded; float32 and float64 can.")
        n, d = table.shape
        if d > MOST_FEATURES:
            raise ValueError(f"n_features={d} should be at most {MOST_FEATURES} on a GPU; use backend='numpy'.")
        self.table = table
        self.n_samples, self.n_features = n, d
        device = launcher.device
        n_bytes = table.size * (4 + table.dtype.itemsize) + 32 * n
        with explained_memory_errors(device, f"{n} sparse rows with {table.size} entries", n_bytes):
            weights = None if sample_weight is None else device.upload(np.ascontiguousarray(sample_weight))
            super().__init__(launcher, table.dtype, sample_weight, weights)
            if resident is not None:
                self._share(resident)
            else:
                self._upload()
            self.grid = table.grid(sample_weight) if sums else None
            self.weight_grid = weight_grid(n, sample_weight)
            words = np.empty(len(Scale))
            words[Scale.HALF_SCALE], words[Scale.LARGEST_WHOLE] = self.half_scale, self.largest_integer
            words[Scale.WEIGHT_SCALE] = self.weight_grid.scale[0]
            scale = unit = None
            if self.grid is not None:
                scale, unit = device.upload(self.grid.scale), device.upload(1.0 / self.grid.scale)
            self.facts = SparseFacts(device.upload(words), scale, unit)

    def _upload(self) -> None:
        device, table = self.device, self.table
        X = table.X
        self.indptr = device.upload(X.indptr.astype(np.int64))
        # An empty array has no address.
        self.indices = device.upload(X.indices.astype(np.int32) if table.size else np.zeros(1, np.int32))
        self.data = device.upload(X.data if table.size else np.zeros(1, table.dtype))
        #: What the host screens with the rows that are left to it.
        self.screen = SparseRowScreen(table)
        self.squares = device.upload(self.screen.squares)
        norms = self.screen.norms
        exponent = int(power_of_two_above(float(norms.max()))) if norms.any() else 0
        self.half_scale = 2.0 ** -max(-LARGEST_EXPONENT, min(LARGEST_EXPONENT, exponent))
        self.norms = device.upload(norms * self.half_scale + 2.0**-70)  # squares may have underflown
        self.largest_integer = table.largest_integer()

    def _share(self, other: CupySparseRows) -> None:
        """Use what does not depend on weights of the same rows."""
        self.indptr, self.indices, self.data = other.indptr, other.indices, other.data
        self.screen, self.squares, self.norms = other.screen, other.squares, other.norms
        self.half_scale, self.largest_integer = other.half_scale, other.largest_integer

    def _new_workspace(self, n_clusters: int, n_runs: int, exact: bool) -> SparseWorkspace:
        assert n_runs == 1
        return SparseWorkspace(self, n_clusters, exact)

    def seeding(self) -> CupySparseSeeding:
        return CupySparseSeeding(self)

    def _batch_inertia(self, centers: NDArray, labels: NDArray[np.int32], weights: F64) -> float:
        return self.table.batch_inertia(centers, labels, weights)

    def take(self, indices: NDArray[np.int64]) -> NDArray:
        return self.table.dense(indices)

    def entries(self, indices: NDArray[np.int64]) -> tuple[NDArray, NDArray, NDArray]:
        """The stored entries of some rows: the place of each one's row among the indices, its column, its value."""
        x = self.table.rows(indices)
        return entry_rows(x), x.indices, x.data

    def unweighted(self) -> CupySparseRows:
        return CupySparseRows(self.launch, self.table, None, resident=self)

    def subset(
        self, indices: NDArray[np.int64], sample_weight: F64 | None = None, *, sums: bool = True
    ) -> CupySparseRows:
        return CupySparseRows(self.launch, self.table.rows(indices), sample_weight, sums=sums)
