"""Greedy k-means++ without the host: launches with constant arguments, and one download at the end.

For each further seed the same four or five kernels run: seed_locate finds the rows that the draws hit, seed_reach their
distances to the seeds (used to skip rows where seeds are many), seed_gain by how much each row would lower the
potential, seed_choose takes the best, and seed_accept brings the distances up to date.  The number of seeds of each run
is kept on the device, so the launches for each seed are the same and can be recorded once.  A run stops at a decision
that rounding leaves open; the engine takes this step exactly and calls `Rows.plusplus` for the rest.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from gpukmeans.arrays.types import F64, I64
from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda.device.seam import explained_memory_errors
from gpukmeans.backends.cuda.seeding.potentials import Potentials
from gpukmeans.backends.cuda.table import CupyDenseTable
from gpukmeans.backends.protocol import Drawn
from gpukmeans.threads import parts_of

#: Bytes of distances of runs that are seeded together, where an eighth of the rows is less.
LITTLE = 1 << 26
#: Steps before the first download in a call that goes on from an open decision: the next one may be as close.
SHORT_WAY = 8
#: With more steps than this, the launches of a step are recorded after the first step, and replayed.
WORTH_RECORDING = 3
#: Runs in one launch: a grid has at most 65535 rows of blocks.
MOST_RUNS = 1024


def plusplus(table: CupyDenseTable, seeds: I64, draws: F64) -> Drawn:
    """See `gpukmeans.backends.Rows.plusplus`."""
    n_runs, n_steps, n_trials = draws.shape
    if n_steps == 0 or n_trials > tuning.MOST_TRIALS:
        return Drawn.nothing(seeds, n_steps)
    if table.n_problems > 1:  # `Backend.problems_at_a_time` has limited their number
        return _Plusplus(table, seeds, draws).drawn()
    n_bytes = table.n_samples * table.n_features * table.dtype.itemsize
    together = max(1, min(MOST_RUNS, max(LITTLE, n_bytes // 8) // (14 * table.n_samples)))
    parts = [_Plusplus(table, seeds[part], draws[part]).drawn() for part in parts_of(n_runs, together)]
    return Drawn(np.concatenate([part.rows for part in parts]), np.concatenate([part.n_certain for part in parts]))


class _Plusplus:
    """Several runs side by side."""

    def __init__(self, table: CupyDenseTable, seeds: I64, draws: F64) -> None:
        self._table = table
        self._launch, self._device = table.launch, table.device
        n_runs, self._n_steps, self._n_trials = draws.shape
        self._n_given = seeds.shape[1]
        self._k = k = self._n_given + self._n_steps
        self._potentials = potentials = Potentials(table, n_runs)
        self._wide = potentials.wide_gains()
        self._choice = potentials.radii.of_gain(potentials.chosen_roundings, wide=self._wide)
        n_sums = n_runs * 2 * self._n_trials * potentials.n_blocks
        with explained_memory_errors(self._device, f"{n_runs} runs of k-means++", 8 * n_sums + draws.nbytes):
            #: Of each run: seeds chosen, whether (and why) it waits for the host, which candidate was chosen.
            state = np.tile(np.array([self._n_given, 0, 0, 0], np.int32), (n_runs, 1))
            listed = np.pad(seeds, ((0, 0), (0, self._n_steps))).astype(np.int32)
            self._draws, self._seeds, self._state = self._device.uploads(draws, listed, state)
            gains = ((n_runs, 2, self._n_trials, potentials.n_blocks), np.float64)
            reach = [((n_runs, k), np.float64)] if k >= tuning.SEEDS_TO_SKIP else []
            arrays = self._device.arrays(gains, ((n_runs, self._n_trials), np.int32), *reach)
            self._gains, self._candidates, self._reach = [*arrays, None][:3]
        potentials.add(self._seeds, 0, self._n_given)
        self._launches = self._launches_of_a_seed()

    def drawn(self) -> Drawn:
        """Launch all steps and download once; after an open decision, download after 8 steps, 16 more, 32 more, ..."""
        launched, ahead = 0, self._n_steps if self._n_given == 1 else SHORT_WAY
        step = self._one_seed
        while launched < self._n_steps:
            for _ in range(min(ahead, self._n_steps - launched)):
                step()
                launched += 1
                if launched == 1 and self._n_steps > WORTH_RECORDING:
                    step = self._device.record(self._one_seed)
            ahead *= 2
            state, seeds = self._device.downloads(self._state, self._seeds)
            if state[:, 1].all():
                break
        return Drawn(seeds.astype(np.int64), state[:, 0].astype(np.int64))

    def _one_seed(self) -> None:
        """Launch what draws one further seed of each run that has not stopped; the arguments are always the same."""
        for launch in self._launches:
            launch()

    def _launches_of_a_seed(self) -> list[Callable[[], None]]:
        table, potentials, struct = self._table, self._potentials, self._table.struct
        rows, weights, row = table.rows, table.weights, tuning.row_constants(table.dtype)
        progress = struct("Progress", state=self._state, n_clusters=self._k)
        trials = struct("Trials", candidates=self._candidates, n_trials=self._n_trials)
        found: list[Callable[[], None]] = []

        def add(name: str, constants: tuning.Constants, blocks: int, block: int, *args: Any) -> None:
            launch_grid = (blocks, *potentials.shared)
            found.append(functools.partial(self._launch, name, constants, launch_grid, block, args))

        draws = struct("Draws", draws=self._draws, n_steps=self._n_steps, n_given=self._n_given)
        potential = struct("BlockSums", sums=potentials.sums, n_blocks=potentials.n_blocks)
        located = potentials.located
        radius = struct(
            "SumRadius",
            relative=located.relative,
            floor=located.floor,
            zero_floor=located.zero_floor,
            exact=located.exact,
        )
        n = np.int64(table.n_samples)
        args: tuple[Any, ...] = (potential, potentials.closest, weights, n, draws, progress, radius, self._candidates)
        add("seed_locate", {}, self._n_trials, 256, *args)
        if self._reach is not None:
            add("seed_reach", row, -(-self._k // 8), 256, rows, self._seeds, trials, progress, self._reach)
        reach = self._reach
        found.append(
            potentials.gain_launch(self._candidates, self._gains, wide=self._wide, progress=progress, reach=reach)
        )
        choice = self._choice
        radii = struct(
            "GainRadius",
            per_far=choice.per_far,
            per_near=choice.per_near,
            floor=choice.floor,
            zero_floor=choice.zero_floor,
        )
        lost = struct("BlockSums", sums=self._gains, n_blocks=potentials.n_blocks)
        add("seed_choose", row, 1, 1024, rows, trials, lost, radii, progress, self._seeds)
        gains = struct("Gains", near=potentials.near, sums=self._gains)
        args = (
            rows,
            weights,
            self._seeds,
            progress,
            gains,
            np.int32(self._n_trials),
            potentials.so_far,
            potentials.sums,
        )
        add("seed_accept", potentials.kept_constants(), potentials.n_blocks, 256, *args)
        return found
