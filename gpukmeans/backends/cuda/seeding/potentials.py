"""Squared distances to the closest seeds on the device, which both ways of seeding dense rows use."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda.device.seam import explained_memory_errors
from gpukmeans.backends.cuda.device.structs import Struct
from gpukmeans.backends.cuda.table import CupyDenseTable
from gpukmeans.certificates.rounding import LARGEST_NORM32
from gpukmeans.certificates.seeds import SKIP_FACTOR, SKIP_FLOOR, SeedRadii
from gpukmeans.threads import parts_of


class Potentials:
    """The distances of `n_runs` runs of k-means++: 14 bytes for each row and run, and 8 for each block and run.

    Attributes
    ----------
    closest : device array of shape (n_runs * n_samples,), float64
        Squared distance to the closest seed; larger than any distance if there is no seed.
    owners : device array of shape (n_runs * n_samples,), int32
        The number of that seed, in the order in which seeds are added.
    near : device array of shape (n_runs * n_samples,), uint16
        A bit for each candidate that may be nearer than the closest seed: see kernels/seed_gain.cu.
    sums : device array of shape (n_runs, n_blocks), float64
        Sums over blocks of rows of weight * closest.
    """

    def __init__(self, table: CupyDenseTable, n_runs: int) -> None:
        self._table, self.n_runs = table, n_runs
        #: The second and third axis of launches: runs of a problem, and problems (kernels/common.cuh).
        self.shared = (n_runs // table.n_problems, table.n_problems)
        self.launch, self.device = table.launch, table.device
        n, d = table.n_samples, table.n_features
        self.n_blocks = -(-n // tuning.SEEDING_BLOCK)
        with explained_memory_errors(self.device, f"k-means++ of {n} rows", 14 * n * n_runs):
            of_rows = [(n_runs * n, dtype) for dtype in (np.float64, np.int32, np.uint16)]
            arrays = self.device.arrays(*of_rows, ((n_runs, self.n_blocks), np.float64))
            self.closest, self.owners, self.near, self.sums = arrays
        self.so_far = table.struct("Closest", closest=self.closest, owners=self.owners)
        # Larger than any distance between two rows: 0x7f7f... is 1.4e306, and distances are below d * 2**962.
        self.device.fill(self.closest, 0x7F)
        weight = table.host_weight
        lanes = tuning.seeding_lanes(d)
        whole = table.largest_integer
        spread = 255.0 if table.dtype == np.uint8 else 2.0 * whole
        weights = None if weight is None else (float(weight[weight > 0].min()), float(weight.max()))
        self.radii = SeedRadii(n, d, lanes, whole, spread, weights)
        #: Roundings in a sum over all blocks: kernels/seed_locate.cu and, in 32 parts, seed_choose.cu.
        self.located = self.radii.of_sum(48.0 + 2.0 * -(-self.n_blocks // 256), n)
        self.chosen_roundings = 48.0 + -(-self.n_blocks // 32)

    def add(self, seeds: Any, first: int, count: int) -> None:
        """Make rows seeds: `count` columns of the device array `seeds`, (n_runs, n_listed), from column `first` on."""
        table, screened = self._table, np.int32(not self.wide_gains())
        constants, launch_grid = self.kept_constants(), (self.n_blocks, *self.shared)
        near_test = self._near_test(wide=False)
        for part in parts_of(count, tuning.SEEDS_TOGETHER):
            some = {"first": first + part.start, "count": part.stop - part.start}
            listed = table.struct("Listed", seeds=seeds, n_listed=seeds.shape[1], **some)
            args = (table.rows, table.weights, listed, screened, near_test, self.so_far, self.sums)
            self.launch("seed_add", constants, launch_grid, 256, args)

    def _near_test(self, *, wide: bool) -> Struct:
        radius = self.radii.of_gain(self.chosen_roundings, wide=wide)
        return self._table.struct("NearTest", shrink=radius.shrink, margin=radius.margin)

    def kept_constants(self) -> tuning.Constants:
        """Constants of kernels that compute the distances in `closest`."""
        table = self._table
        wide = tuning.wide_distances(table.dtype)
        return tuning.distance_constants(table.dtype, table.n_features, table.aligned, wide=wide)

    def wide_gains(self) -> bool:
        """Whether gains need float64: for float64 rows, and where float32 sums would be inexact or might overflow."""
        table, radii = self._table, self.radii
        if table.dtype == np.float64:
            return True
        if radii.exact_distances:
            return not radii.exact_in_float32
        return table.largest * math.sqrt(table.n_features) >= LARGEST_NORM32

    def gain_launch(
        self, candidates: Any, sums: Any, *, wide: bool, progress: Struct | None = None, reach: Any = None
    ) -> Callable[[], None]:
        """Launches that find by how much each candidate would lower the sum of each block: kernels/seed_gain.cu.

        `candidates` is (n_runs, n_trials), `sums` (n_runs, 2, n_trials, n_blocks), `progress` how far the runs are,
        `reach` (n_runs, n_clusters) or None.
        """
        table, struct, n_trials = self._table, self._table.struct, candidates.shape[1]
        args = (
            *(table.rows, table.weights, self.so_far),
            struct("Trials", candidates=candidates, n_trials=n_trials),
            progress or struct("Progress", state=None, n_clusters=0),
            struct("Skip", reach=reach, factor=SKIP_FACTOR, floor=SKIP_FLOOR),
            self._near_test(wide=wide),
            struct("Gains", near=self.near, sums=sums),
        )
        constants = tuning.gain_constants(table.dtype, table.n_features, table.aligned, n_trials, wide=wide)
        return functools.partial(self.launch, "seed_gain", constants, (self.n_blocks, *self.shared), 256, args)
