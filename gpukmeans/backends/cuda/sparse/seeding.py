"""Seeding over rows in CSR on the device, step by step: k-means++ and k-means||."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64
from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda.device.seam import explained_memory_errors
from gpukmeans.backends.cuda.seeding.steps import DeviceSeeding
from gpukmeans.backends.cuda.sparse.table import CupySparseTable
from gpukmeans.certificates.seeds import SparseSeedRadii
from gpukmeans.threads import parts_of

#: Roundings in a sum over a block of rows: a product, five additions in a warp, eight of warps.
BLOCK_ROUNDINGS = 14.0


class CupySparseSeeding(DeviceSeeding):
    """Squared distances to the closest seed in float64: kernels/sparse_seed.cu."""

    def __init__(self, table: CupySparseTable) -> None:
        super().__init__(table.n_samples)
        self._table, self._device = table, table.device
        n, d, width = table.n_samples, table.n_features, tuning.SPARSE_TOGETHER
        self._n_blocks = -(-n // self.block_size)
        n_bytes = 8 * n + d * width * table.dtype.itemsize
        with explained_memory_errors(self._device, f"k-means++ of {n} sparse rows", n_bytes):
            self._closest = self._device.empty(n, np.float64)
            self._lookup = self._device.empty((d, width), table.dtype)
        # Larger than any distance between two rows: see seeding/potentials.py.
        self._device.fill(self._closest, 0x7F)
        weight = table.host_weight
        weights = None if weight is None else (float(weight[weight > 0].min()), float(weight.max()))
        most = int(table.host.counts.max(initial=0))
        self._radii = SparseSeedRadii(n, d, most, table.largest_integer, weights)

    def add(self, indices: NDArray[np.int64]) -> tuple[F64, F64]:
        sums: Any = None
        for part in parts_of(len(indices), tuning.SPARSE_TOGETHER):
            sums = self._launch(indices[part], keep=True)
        values, squares = self._device.download(sums)[:, 0]
        return values, self._radii.of_sums(values, squares, BLOCK_ROUNDINGS, self.block_size)

    def propose(self, candidates: NDArray[np.int64]) -> tuple[F64, F64]:
        parts = parts_of(len(candidates), tuning.SPARSE_TOGETHER)
        found = [self._device.download(self._launch(candidates[part], keep=False)) for part in parts]
        values, squares = np.concatenate(found, axis=1).sum(axis=2)
        roundings = BLOCK_ROUNDINGS + self._n_blocks
        self._candidates = candidates
        self._proposal = values, self._radii.of_sums(values, squares, roundings, self._table.n_samples)
        return self._proposal

    def _terms(self, part: slice) -> tuple[F64, F64]:
        terms = self._device.download(self._closest[part])
        squares = np.where(terms > 0.0, self._table.screen.squares[part], 0.0)
        if self._table.host_weight is not None:
            terms *= self._table.host_weight[part]
            squares *= self._table.host_weight[part]
        return terms, self._radii.of_sums(terms, squares, 2.0, 1)

    def _launch(self, indices: NDArray[np.int64], *, keep: bool) -> Any:
        """Sums over the blocks, (2, n_values, n_blocks), by `SPARSE_TOGETHER` seeds or candidates at most."""
        table, count = self._table, len(indices)
        some = self._device.upload(np.asarray(indices, np.int32))
        self._device.fill(self._lookup, 0)
        width = tuning.SPARSE_TOGETHER
        args: tuple[Any, ...] = (table.rows, some, np.int32(count), np.int32(width), self._lookup)
        table.launch("sparse_lookup", tuning.row_constants(table.dtype), 1, 256, args)
        sums = self._device.empty((2, 1 if keep else count, self._n_blocks), np.float64)
        others = table.struct("Others", rows=some, table=self._lookup, count=count)
        args = (table.rows, table.squares, table.weights, others, np.int64(table.n_samples), self._closest, sums)
        table.launch("sparse_seed", tuning.sparse_seed_constants(table.dtype, keep=keep), self._n_blocks, 256, args)
        return sums
