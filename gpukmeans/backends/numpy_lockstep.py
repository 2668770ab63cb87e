"""The NumPy backend's rows of small problems, whose restarts advance together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpukmeans.backends.numpy_draws import seed_many
from gpukmeans.backends.numpy_runs import NumpyRuns, SmallRows, runs_at_a_time
from gpukmeans.exact_sums import F64, I64, Grid


class LockstepRows:
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

    def runs_at_a_time(self, n_clusters: int) -> int:
        n, d = self.X.shape
        return runs_at_a_time(n, d, n_clusters) if self._lockstep else 0

    def start_many(self, centers: NDArray) -> NumpyRuns:
        if self.grid is None:
            raise ValueError("These rows were loaded without a grid: they cannot be summed.")
        return NumpyRuns(self._few(), self.grid, np.array(centers, self.center_dtype, order="C"))

    def seed_many(self, first: I64, draws: F64) -> tuple[I64, NDArray[np.bool_]]:
        return seed_many(self._few(), first, draws)

    def _few(self) -> SmallRows:
        if self._small is None:
            self._small = SmallRows(self.X, self.sample_weight, self.largest_integer())
        return self._small
