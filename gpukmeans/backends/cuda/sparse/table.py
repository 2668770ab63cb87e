"""Rows in CSR on the device, with the facts and weights that kernels read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64
from gpukmeans.backends.csr.scores import SparseRowScreen
from gpukmeans.backends.csr.table import SparseTable
from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda.control import Scale
from gpukmeans.backends.cuda.device.seam import explained_memory_errors
from gpukmeans.backends.cuda.table import CupyTable, Launcher
from gpukmeans.exact.sums import power_of_two_above, weight_grid

#: Column indices are int32 on the device, and centers are scaled by powers of two within 2**-450 and 2**450, whose
#: squares are normal numbers.
MOST_FEATURES = 2**31 - 1
LARGEST_EXPONENT = 450


@dataclass(frozen=True)
class SparseFacts:
    """The facts about rows in CSR for kernels that dense rows use, too.

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


class CupySparseTable(CupyTable):
    """Rows in CSR on the device; a copy on the host gives their facts and settles what float64 leaves open.

    Parameters
    ----------
    launcher : Launcher
    X : csr_array or csr_matrix of shape (n_samples, n_features), float32 or float64, or SparseTable
        Finite; the indices of each row ascending and not repeated (`gpukmeans.arrays.sparse.canonical`).
    sample_weight : ndarray of shape (n_samples,), float64, or None
    sums : bool, default=True
        Whether the rows are to be summed.
    resident : CupySparseTable, optional
        A table of the same rows, whose device arrays are used.

    Attributes
    ----------
    host : SparseTable
        The rows on the host.
    screen : SparseRowScreen
        What the host needs to screen rows that the device leaves open.
    rows : Struct
        The entries as kernels take them, ``SparseRows`` of kernels/rows.cuh.
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
        resident: CupySparseTable | None = None,
    ) -> None:
        host = X if isinstance(X, SparseTable) else SparseTable(X)
        if host.dtype not in tuning.SPARSE_DTYPES:
            raise TypeError(f"Sparse rows of dtype {host.dtype} cannot be loaded; float32 and float64 can.")
        n, d = host.shape
        if d > MOST_FEATURES:
            raise ValueError(f"n_features={d} should be at most {MOST_FEATURES} on a GPU; use backend='numpy'.")
        self.host = host
        self.n_samples, self.n_features = n, d
        device = launcher.device
        n_bytes = host.size * (4 + host.dtype.itemsize) + 32 * n
        with explained_memory_errors(device, f"{n} sparse rows with {host.size} entries", n_bytes):
            weights = None if sample_weight is None else device.upload(np.ascontiguousarray(sample_weight))
            super().__init__(launcher, host.dtype, sample_weight, weights)
            if resident is not None:
                self._share(resident)
            else:
                self._upload()
            self.grid = host.grid(sample_weight) if sums else None
            self.weight_grid = weight_grid(n, sample_weight)
            scales = np.zeros(len(Scale))
            scales[Scale.HALF_SCALE], scales[Scale.LARGEST_WHOLE] = self.half_scale, self.largest_integer
            scales[Scale.WEIGHT_SCALE] = self.weight_grid.scale[0]
            scale = unit = None
            if self.grid is not None:
                scale, unit = device.upload(self.grid.scale), device.upload(1.0 / self.grid.scale)
            self.facts = SparseFacts(device.upload(scales), scale, unit)

    def _upload(self) -> None:
        device, host = self.device, self.host
        X = host.X
        # An empty array has no address.
        indices, data = (X.indices, X.data) if host.size else (np.zeros(1, np.int32), np.zeros(1, host.dtype))
        self.rows = self.struct(
            "SparseRows",
            indptr=device.upload(X.indptr.astype(np.int64)),
            indices=device.upload(indices.astype(np.int32)),
            data=device.upload(data),
        )
        self.screen = SparseRowScreen(host)
        self.squares = device.upload(self.screen.squares)
        norms = self.screen.norms
        exponent = int(power_of_two_above(float(norms.max()))) if norms.any() else 0
        self.half_scale = 2.0 ** -max(-LARGEST_EXPONENT, min(LARGEST_EXPONENT, exponent))
        self.norms = device.upload(norms * self.half_scale + 2.0**-70)  # squares may have underflown
        self.largest_integer = host.largest_integer()

    def _share(self, other: CupySparseTable) -> None:
        """Take from a table of the same rows what does not depend on weights."""
        self.rows = other.rows
        self.screen, self.squares, self.norms = other.screen, other.squares, other.norms
        self.half_scale, self.largest_integer = other.half_scale, other.largest_integer

    def unweighted(self) -> CupySparseTable:
        """The same rows, not copied, without weights, to be summed."""
        return CupySparseTable(self.launch, self.host, None, resident=self)

    def take(self, indices: NDArray[np.int64]) -> NDArray:
        return self.host.dense(indices)
