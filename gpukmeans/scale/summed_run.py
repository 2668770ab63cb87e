"""Runs over rows that lie elsewhere: their centers and exact sums are here."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64, I64
from gpukmeans.backends.defaults import RunDefaults
from gpukmeans.backends.protocol import Updated
from gpukmeans.scale.facts import SumGrids
from gpukmeans.scale.partials import block_sums
from gpukmeans.threads import workers


class SummedRows(Protocol):
    """What a `SummedRun` asks of its rows."""

    n_features: int
    center_dtype: np.dtype
    grids: SumGrids | None  # None: the rows are not to be summed


class SummedRun(RunDefaults):
    """The methods of a run that need its centers and sums only."""

    _weights: F64

    def __init__(self, rows: SummedRows, centers: NDArray) -> None:
        self._center_dtype, self._has_sums = rows.center_dtype, rows.grids is not None
        self._centers = self._assigned = np.array(centers, rows.center_dtype, order="C")
        if rows.grids is not None:
            self._sums = block_sums(np.empty((0, rows.n_features)), None, rows.grids, len(centers))

    def update(self) -> Updated:
        with workers(self._centers.size) as pool:
            self._centers, self._weights, shift = self._sums.means(self._centers, pool)
        return Updated(self._weights, shift)

    def weights(self) -> F64:
        return self._weights

    def sums(self) -> tuple[I64, I64]:
        return self._sums.sums.copy(), self._sums.weights.copy()

    def centers(self) -> NDArray:
        return self._centers

    def assigned_centers(self) -> NDArray:
        return self._assigned

    def set_centers(self, centers: NDArray) -> None:
        self._centers = np.array(centers, self._center_dtype, order="C")
        if self._has_sums:
            self._sums.touched[:] = True
