"""The CUDA backend's rows in CSR: they stay so on the device; fits end in the bits of dense rows."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64
from gpukmeans.backends.csr.table import SparseTable, entry_rows
from gpukmeans.backends.cuda.rows import ResidentRows
from gpukmeans.backends.cuda.sparse.seeding import CupySparseSeeding
from gpukmeans.backends.cuda.sparse.table import CupySparseTable
from gpukmeans.backends.cuda.sparse.workspace import SparseWorkspace
from gpukmeans.backends.cuda.table import Launcher


class CupySparseRows(ResidentRows):
    """Rows in CSR of one fit."""

    table: CupySparseTable

    def __init__(self, table: CupySparseTable) -> None:
        super().__init__(table, functools.partial(SparseWorkspace, table))

    def seeding(self) -> CupySparseSeeding:
        return CupySparseSeeding(self.table)

    def _batch_inertia(self, centers: NDArray, labels: NDArray[np.int32], weights: F64) -> float:
        return self.table.host.batch_inertia(centers, labels, weights)

    def entries(self, indices: NDArray[np.int64]) -> tuple[NDArray, NDArray, NDArray]:
        """The stored entries of some rows: for each entry the index into `indices`, the column, the value."""
        x = self.table.host.rows(indices)
        return entry_rows(x), x.indices, x.data

    def unweighted(self) -> CupySparseRows:
        return CupySparseRows(self.table.unweighted())

    def subset(
        self, indices: NDArray[np.int64], sample_weight: F64 | None = None, *, sums: bool = True
    ) -> CupySparseRows:
        return _some(self.table.launch, self.table.host, indices, sample_weight, sums)


class SparseSource:
    """Sparse rows on the host, of which only batches are copied to the device."""

    def __init__(self, launcher: Launcher, X: Any) -> None:
        self._launch, self._host = launcher, SparseTable(X)

    def subset(
        self, indices: NDArray[np.int64], sample_weight: F64 | None = None, *, sums: bool = True
    ) -> CupySparseRows:
        return _some(self._launch, self._host, indices, sample_weight, sums)


def _some(
    launcher: Launcher, host: SparseTable, indices: NDArray[np.int64], sample_weight: F64 | None, sums: bool
) -> CupySparseRows:
    return CupySparseRows(CupySparseTable(launcher, host.rows(indices), sample_weight, sums=sums))
