"""Seeding on the device step by step: k-means||, and the draws of k-means++ that rounding leaves open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64
from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda.seeding.potentials import Potentials
from gpukmeans.certificates.rounding import SLACK, UNIT64, gamma
from gpukmeans.certificates.seeds import SumRadius
from gpukmeans.threads import parts_of

if TYPE_CHECKING:
    from gpukmeans.backends.cuda.backend import CupyRows

#: What a sum over a block of rows rounds: its 256 threads are added in pairs and then by warps.
BLOCK_ROUNDINGS = 14.0


class DeviceSeeding:
    """What seeding on a device has in common, with rows dense or in CSR: all that follows from `add` and `propose`.

    A subclass keeps its last proposal, and has the terms of some rows.
    """

    block_size = tuning.SEEDING_BLOCK

    def __init__(self, n_samples: int) -> None:
        self._n_samples = n_samples
        self._candidates: NDArray[np.int64] = np.empty(0, np.int64)
        self._proposal: tuple[F64, F64] = (np.empty(0), np.empty(0))

    def add(self, indices: NDArray[np.int64]) -> tuple[F64, F64]:
        raise NotImplementedError

    def _terms(self, part: slice) -> tuple[F64, F64]:
        raise NotImplementedError

    def refine(self, indices: NDArray[np.int64]) -> tuple[F64, F64]:
        """Proposals are as good as they get from the start."""
        potentials, errors = self._proposal
        return potentials[indices], errors[indices]

    def accept(self, index: int) -> tuple[F64, F64]:
        return self.add(self._candidates[index : index + 1])

    def block(self, block: int) -> tuple[F64, F64]:
        return self._terms(slice(block * self.block_size, min(self._n_samples, (block + 1) * self.block_size)))

    def terms(self) -> tuple[F64, F64]:
        return self._terms(slice(0, self._n_samples))


class CupySeeding(DeviceSeeding):
    """Squared distances to the closest seed, taken directly from the differences in float64."""

    def __init__(self, rows: CupyRows) -> None:
        super().__init__(rows.n_samples)
        self._rows, self._device = rows, rows.device
        self._potentials = potentials = Potentials(rows, 1)
        # Whether float64 is asked for makes no difference to bytes, whose float32 distances are exact.
        self._wide = tuning.wide_distances(rows.dtype)
        self._gain = potentials.radii.of_gain(potentials.chosen_roundings, wide=self._wide)
        self._term = potentials.radii.of_term()
        self._block = potentials.radii.of_sum(BLOCK_ROUNDINGS, self.block_size)

    def add(self, indices: NDArray[np.int64]) -> tuple[F64, F64]:
        # Which seed is the closest is not asked here, so these may be counted from zero every time.
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
            potentials.gain(some, gains, wide=self._wide, progress=None, reach=None)
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
        if self._rows.host_weight is not None:
            terms *= self._rows.host_weight[part]
        return terms, _errors(self._term, terms)


def _errors(radius: SumRadius, values: F64) -> F64:
    return radius.relative * values + np.where(values > 0.0, radius.floor, radius.zero_floor)
