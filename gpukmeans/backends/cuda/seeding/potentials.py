"""Squared distances to the closest seeds on the device: what both ways of seeding there keep and launch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda.device.seam import explained_memory_errors
from gpukmeans.certificates.rounding import LARGEST_NORM32
from gpukmeans.certificates.seeds import SKIP_FACTOR, SKIP_FLOOR, SeedRadii
from gpukmeans.threads import parts_of

if TYPE_CHECKING:
    from gpukmeans.backends.cuda.backend import CupyRows


class Potentials:
    """The distances of `n_runs` runs of k-means++: 14 bytes for each row and run, and little else.

    Attributes
    ----------
    closest : device array of shape (n_runs * n_samples,), float64
        Squared distance to the closest seed; above every distance where there is none.
    owners : device array of shape (n_runs * n_samples,), int32
        Which seed that is, in the order in which they came.
    near : device array of shape (n_runs * n_samples,), uint16
        Which candidates may be nearer: see kernels/seed_gain.cu.
    sums : device array of shape (n_runs, n_blocks), float64
        Sums over blocks of rows of weight * closest.
    """

    def __init__(self, rows: CupyRows, n_runs: int) -> None:
        self.rows, self.n_runs = rows, n_runs
        #: How runs share a launch: those of a problem, and problems (kernels/common.cuh).
        self.shared = (n_runs // rows.n_problems, rows.n_problems)
        self.launch, self.device = rows.launch, rows.device
        n, d = rows.n_samples, rows.n_features
        self.n_blocks = -(-n // tuning.SEEDING_BLOCK)
        with explained_memory_errors(self.device, f"k-means++ of {n} rows", 14 * n * n_runs):
            self.closest = self.device.empty(n_runs * n, np.float64)
            self.owners = self.device.empty(n_runs * n, np.int32)
            self.near = self.device.empty(n_runs * n, np.uint16)
            self.sums = self.device.empty((n_runs, self.n_blocks), np.float64)
        # Without a seed every row is farther than any two rows can be: 0x7f7f... is 1.4e306, and distances stay
        # below d * 2**962.
        self.device.fill(self.closest, 0x7F)
        weight = rows.host_weight
        lanes = tuning.seeding_lanes(d)
        whole = rows.largest_integer
        spread = 255.0 if rows.dtype == np.uint8 else 2.0 * whole
        weights = None if weight is None else (float(weight[weight > 0].min()), float(weight.max()))
        self.radii = SeedRadii(n, d, lanes, whole, spread, weights)
        #: What a sum over all blocks rounds: kernels/seed_locate.cu and, in 32 stretches, seed_choose.cu.
        self.located = self.radii.of_sum(48.0 + 2.0 * -(-self.n_blocks // 256), n)
        self.chosen_roundings = 48.0 + -(-self.n_blocks // 32)

    def add(self, seeds: Any, first: int, count: int) -> None:
        """Make rows seeds: `seeds` is a device array (n_runs, n_listed), of whose columns `count` are taken."""
        rows, n, d = self.rows, self.rows.n_samples, self.rows.n_features
        constants, grid = self.kept_constants(), (self.n_blocks, *self.shared)
        screen = self.radii.of_gain(self.chosen_roundings, wide=False)
        screened = (np.int32(not self.wide_gains()), np.float64(screen.shrink), np.float64(screen.margin))
        for part in parts_of(count, tuning.SEEDS_TOGETHER):
            args = (
                *(rows.X, rows.weights, seeds, np.int32(seeds.shape[1])),
                *(np.int32(first + part.start), np.int32(part.stop - part.start), np.int64(n), np.int32(d)),
                *(*screened, self.closest, self.owners, self.sums),
            )
            self.launch("seed_add", constants, grid, 256, args)

    def kept_constants(self) -> tuning.Constants:
        """For kernels that take distances to be kept."""
        rows = self.rows
        wide = tuning.wide_distances(rows.dtype)
        return tuning.distance_constants(rows.dtype, rows.n_features, rows.aligned, wide=wide)

    def wide_gains(self) -> bool:
        """Whether gains need float64: for float64 rows, and where float32 is inexact or might overflow in vain."""
        rows, radii = self.rows, self.radii
        if rows.dtype == np.float64:
            return True
        if radii.exact_distances:
            return not radii.exact_in_float32
        return rows.largest * math.sqrt(rows.n_features) >= LARGEST_NORM32

    def gain(self, candidates: Any, sums: Any, *, wide: bool, progress: tuple[Any, int] | None, reach: Any) -> None:
        """What every block of rows would gain by each candidate: kernels/seed_gain.cu.

        `candidates` is (n_runs, n_trials), `sums` (n_runs, 2, n_trials, n_blocks), `progress` the runs' state and
        n_clusters, `reach` (n_runs, n_clusters) or None.
        """
        rows, n, d = self.rows, self.rows.n_samples, self.rows.n_features
        n_trials = candidates.shape[1]
        radius = self.radii.of_gain(self.chosen_roundings, wide=wide)
        state, n_clusters = progress or (None, 0)
        args = (
            *(rows.X, self.closest, self.owners, rows.weights, reach, candidates, np.int32(n_trials)),
            *(state, np.int32(n_clusters), np.int64(n), np.int32(d)),
            *(np.float64(radius.shrink), np.float64(radius.margin)),
            *(np.float64(SKIP_FACTOR), np.float64(SKIP_FLOOR), self.near, sums),
        )
        constants = tuning.gain_constants(rows.dtype, d, rows.aligned, n_trials, wide=wide)
        self.launch("seed_gain", constants, (self.n_blocks, *self.shared), 256, args)
