"""k-means++ potentials on the device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.backends import tuning
from gpukmeans.backends.device import explained_memory_errors
from gpukmeans.certificates import SLACK, SQUARE_UNDERFLOW, UNIT64, exact_in_float64, gamma
from gpukmeans.exact_sums import F64
from gpukmeans.threads import parts_of

if TYPE_CHECKING:
    from gpukmeans.backends.cupy_backend import CupyRows


class CupySeeding:
    """Squared distances to the closest seed, taken directly from the differences in float64.

    Errors: a distance is within gamma(d + 2) of the true one, relative (kernels/seed_distance.cu), its weighted term
    one rounding more, and the sum of a block at most gamma(block_size) more.  So with g = gamma(d + block_size + 8) a
    true value v and a computed v' differ by |v - v'| <= g v'.  Squares that underflow add `SQUARE_UNDERFLOW` to a row,
    times its weight; but a computed zero is a true one, as the kernel lifts the others, unless weights are so small
    that products with them vanish.  Whole numbers that are small enough carry no error.
    """

    block_size = tuning.SEEDING_BLOCK

    def __init__(self, rows: CupyRows) -> None:
        self._rows = rows
        self._launch, self._device = rows.launch, rows.device
        n, d = rows.n_samples, rows.n_features
        with explained_memory_errors(self._device, "the distances to the seeds", 8 * n):
            self._closest = self._device.empty(n, np.float64)
        # Without a seed every row is farther than any two rows can be: 0x7f7f... is 1.4e306, and distances stay
        # below d * 2**962.
        self._device.fill(self._closest, 0x7F)
        self._proposed: Any = None
        self._sums: F64 = np.empty((0, 0))
        weight = rows.host_weight
        # 1024 such terms add up exactly, too.
        exact = weight is None and exact_in_float64(d * self.block_size, rows.largest_integer)
        self._relative = 0.0 if exact else SLACK * gamma(d + self.block_size + 8.0, UNIT64)
        largest_weight = 1.0 if weight is None else float(weight.max())
        self._zero_is_zero = weight is None or float(weight[weight > 0].min()) >= 2.0**-70
        self._absolute = 0.0 if exact else 2.0 * SQUARE_UNDERFLOW * (1.0 + largest_weight)

    def add(self, indices: NDArray[np.int64]) -> tuple[F64, F64]:
        for part in parts_of(len(indices), tuning.SEEDS_TOGETHER):
            self._propose(indices[part])
            self._accept(0, part.stop - part.start)
        sums = self._block_sums_of(self._closest, 1)
        return sums[0], self._errors(sums[0], self.block_size)

    def propose(self, candidates: NDArray[np.int64]) -> tuple[F64, F64]:
        self._propose(candidates)
        self._sums = self._block_sums_of(self._proposed, len(candidates))
        return self.refine(np.arange(len(candidates)))

    def _propose(self, candidates: NDArray[np.int64]) -> None:
        rows, n, count = self._rows, self._rows.n_samples, len(candidates)
        if self._proposed is None or len(self._proposed) != count:
            self._proposed = None  # free before asking for more
            with explained_memory_errors(self._device, f"{count} candidate seeds", 8 * n * count):
                self._proposed = self._device.empty((count, n), np.float64)
        indices = self._device.upload(np.asarray(candidates, np.int32))
        args = (rows.X, indices, np.int32(count), self._closest, np.int64(n), np.int32(rows.n_features), self._proposed)
        grid = min(tuning.STRIDE_BLOCKS, -(-n // 8))
        self._launch("seed_distance", tuning.row_constants(rows.dtype), grid, 256, args)

    def _block_sums_of(self, terms: Any, count: int) -> F64:
        """Sums over the blocks of `count` times n_samples numbers, times the weights."""
        n = self._rows.n_samples
        n_blocks = -(-n // self.block_size)
        with explained_memory_errors(self._device, f"{count} candidate seeds", 8 * n_blocks * count):
            sums = self._device.empty((count, n_blocks), np.float64)
        args = (terms, self._rows.weights, np.int64(n), np.int32(n_blocks), sums)
        self._launch("block_sums", {"BLOCK_ROWS": self.block_size}, (n_blocks, count), 256, args)
        return self._device.download(sums)

    def refine(self, indices: NDArray[np.int64]) -> tuple[F64, F64]:
        """Sums are as good as they get from the start."""
        potentials = self._sums[indices].sum(axis=1)
        errors = SLACK * self._errors(self._sums[indices], self.block_size).sum(axis=1)
        return potentials, errors + gamma(self._sums.shape[1] + 1.0, UNIT64) * potentials

    def _errors(self, values: F64, n_rows: int) -> F64:
        absolute = n_rows * self._absolute
        return self._relative * values + (np.where(values > 0.0, absolute, 0.0) if self._zero_is_zero else absolute)

    def accept(self, index: int) -> tuple[F64, F64]:
        self._accept(index, 1)
        return self._sums[index], self._errors(self._sums[index], self.block_size)

    def _accept(self, first: int, count: int) -> None:
        n = self._rows.n_samples
        args = (self._proposed, np.int32(first), np.int32(count), np.int64(n), self._closest)
        self._launch("accept_seeds", {}, -(-n // 256), 256, args)

    def block(self, block: int) -> tuple[F64, F64]:
        return self._terms(slice(block * self.block_size, min(self._rows.n_samples, (block + 1) * self.block_size)))

    def terms(self) -> tuple[F64, F64]:
        return self._terms(slice(0, self._rows.n_samples))

    def _terms(self, part: slice) -> tuple[F64, F64]:
        terms = self._device.download(self._closest[part])
        if self._rows.host_weight is not None:
            terms *= self._rows.host_weight[part]
        return terms, self._errors(terms, 1)
