"""Seeding on the device step by step: k-means||, and the draws of k-means++ that rounding leaves open."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64
from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda.seeding.potentials import Potentials
from gpukmeans.backends.cuda.table import CupyDenseTable
from gpukmeans.backends.defaults import SeedingDefaults
from gpukmeans.certificates.rounding import SLACK, UNIT64, gamma
from gpukmeans.certificates.seeds import SumRadius
from gpukmeans.threads import parts_of

#: Roundings in a sum over a block of rows: its 256 threads are added in pairs and then by warps.
BLOCK_ROUNDINGS = 14.0


class DeviceSeeding(SeedingDefaults):
    """What seeding on a device has in common for dense rows and rows in CSR: see `gpukmeans.backends.Seeding`.

    A subclass has `add`, `propose` (which sets `_candidates` and `_proposal`) and `_terms`.
    """

    block_size = tuning.SEEDING_BLOCK

    def __init__(self, n_samples: int) -> None:
        self._n_samples = n_samples
        self._candidates: NDArray[np.int64] = np.empty(0, np.int64)
        self._proposal: tuple[F64, F64] = (np.empty(0), np.empty(0))

    def add(self, indices: NDArray[np.int64]) -> tuple[F64, F64]:
        raise NotImplementedError

    def _terms(self, part: slice) -> tuple[F64, F64]:
        """The terms weight * closest of some rows, and their error bounds."""
        raise NotImplementedError

    def refine(self, indices: NDArray[np.int64]) -> tuple[F64, F64]:
        """The last proposal itself, whose errors are those of float64 already."""
        potentials, errors = self._proposal
        return potentials[indices], errors[indices]

    def accept(self, index: int) -> tuple[F64, F64]:
        return self.add(self._candidates[index : index + 1])

    def block(self, block: int) -> tuple[F64, F64]:
        return self._terms(slice(block * self.block_size, min(self._n_samples, (block + 1) * self.block_size)))

    def terms(self) -> tuple[F64, F64]:
        return self._terms(slice(0, self._n_samples))


class CupySeeding(DeviceSeeding):
    """Squared distances to the closest seed, computed from differences in float64."""

    def __init__(self, table: CupyDenseTable) -> None:
        super().__init__(table.n_samples)
        self._table, self._device = table, table.device
        self._potentials = potentials = Potentials(table, 1)
        # float32 distances of bytes are exact, so float64 would give the same.
        self._wide = tuning.wide_distances(table.dtype)
        self._gain = potentials.radii.of_gain(potentials.chosen_roundings, wide=self._wide)
        self._term = potentials.radii.of_term()
        self._block = potentials.radii.of_sum(BLOCK_ROUNDINGS, self.block_size)

    def add(self, indices: NDArray[np.int64]) -> tuple[F64, F64]:
        # `Potentials.owners` are not used here, so the numbers of the seeds may begin at zero each time.
        self._potentials.add(self._upload(indices), 0, len(indices))
        sums = self._device.download(self._potentials.sums)[0]
        return sums, _errors(self._block, sums)

    def _upload(self, indices: NDArray[np.int64]) -> Any:
        return self._device.upload(np.asarray(indices, np.int32)[None])

    def propose(self, candidates: NDArray[np.int64]) -> tuple[F64, F64]:
        potentials = self._potentials
        sums = self._device.download(potentials.sums)[0]
        total = sums.sum()
        rounding = 0.0 if potentials.radii.exact_sums else gamma(len(sums) + 8.0, UNIT64) * total
        error = _errors(self._block, sums).sum() + rounding
        found = []
        for part in parts_of(len(candidates), tuning.MOST_TRIALS):
            some = self._upload(candidates[part])
            gains = self._device.empty((1, 2, some.shape[1], potentials.n_blocks), np.float64)
            potentials.gain_launch(some, gains, wide=self._wide)()
            found.append(self._device.download(gains)[0].sum(axis=2))
        far, near = np.concatenate(found, axis=1)
        radius = self._gain
        radii = radius.per_far * far + radius.per_near * near
        radii += np.where(far > 0.0, radius.floor, radius.zero_floor)
        left = total - (far - near)
        self._candidates = candidates
        self._proposal = left, SLACK * (error + radii)
        return self._proposal

    def _terms(self, part: slice) -> tuple[F64, F64]:
        terms = self._device.download(self._potentials.closest[part])
        if self._table.host_weight is not None:
            terms *= self._table.host_weight[part]
        return terms, _errors(self._term, terms)


def _errors(radius: SumRadius, values: F64) -> F64:
    return radius.relative * values + np.where(values > 0.0, radius.floor, radius.zero_floor)
