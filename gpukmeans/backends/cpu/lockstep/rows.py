"""The NumPy backend's rows of small problems, whose restarts advance together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64, I64
from gpukmeans.backends.cpu.lockstep.draws import plusplus_of_few
from gpukmeans.backends.cpu.lockstep.runs import NumpyRuns, SmallRows, runs_at_a_time
from gpukmeans.backends.defaults import RowsDefaults
from gpukmeans.backends.protocol import Drawn
from gpukmeans.exact.sums import Grid
from gpukmeans.threads import parts_of


class LockstepRows(RowsDefaults):
    """What `Rows` says of several runs at once, for a subclass that holds the rows."""

    X: NDArray
    sample_weight: F64 | None
    grid: Grid | None
    center_dtype: np.dtype

    def __init__(self, lockstep: bool) -> None:
        self._lockstep = lockstep
        self._small: SmallRows | None = None

    def largest_integer(self) -> float:
        raise NotImplementedError

    def runs_at_a_time(self, n_clusters: int, n_runs: int) -> int:
        n, d = self.X.shape
        return runs_at_a_time(n, d, n_clusters) if self._lockstep else 0

    def start_many(self, centers: NDArray) -> NumpyRuns:
        if self.grid is None:
            raise ValueError("These rows were loaded without a grid: they cannot be summed.")
        return NumpyRuns(self._few(), self.grid, np.array(centers, self.center_dtype, order="C"))

    def plusplus(self, seeds: I64, draws: F64) -> Drawn:
        """Small problems; a run that was left open once is finished by the engine."""
        n_runs, n_steps, _ = draws.shape
        together = self.runs_at_a_time(n_steps + 1, len(seeds)) if seeds.shape[1] == 1 else 0
        if not together or not n_steps:
            return Drawn.nothing(seeds, n_steps)
        parts = [plusplus_of_few(self._few(), seeds[p, 0], draws[p]) for p in parts_of(n_runs, together)]
        return Drawn(np.concatenate([part.rows for part in parts]), np.concatenate([part.n_certain for part in parts]))

    def _few(self) -> SmallRows:
        if self._small is None:
            self._small = SmallRows(self.X, self.sample_weight, self.largest_integer())
        return self._small
