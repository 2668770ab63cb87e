"""What runs on the CPU compute from the distance of every row to its own center."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64
from gpukmeans.backends.cpu.table import Table
from gpukmeans.backends.defaults import RunDefaults
from gpukmeans.exact.sums import exact_total, exact_totals_by_label
from gpukmeans.exact.warp_order import farthest_rows


class OwnDistances(RunDefaults):
    """The methods of a run that need its labels and centers only."""

    _table: Table[Any]
    _centers: NDArray
    _assigned: NDArray  # those that the labels belong to

    _labels: Any  # of the rows of the table, (n_samples,), int32

    def centers(self) -> NDArray:
        return self._centers

    def assigned_centers(self) -> NDArray:
        return self._assigned

    def labels(self) -> NDArray[np.int32]:
        return self._table.of_all(self._labels)

    def farthest(self, count: int) -> NDArray[np.int64]:
        return farthest_rows(self._table.own_distances(self._labels, self._assigned), count)

    def inertia(self) -> float:
        return exact_total(self._inertia_terms())

    def inertias(self) -> F64:
        return exact_totals_by_label(self._inertia_terms(), self.labels(), len(self._centers))

    def _inertia_terms(self) -> F64:
        distances = self._table.own_distances(self._labels, self._centers)
        weight = self._table.sample_weight
        return distances if weight is None else distances * weight


def check_precision(precision: str) -> None:
    """Refuse a `precision` that is not one."""
    if precision not in ("exact", "fast"):
        raise ValueError(f"precision={precision!r} should be 'exact' or 'fast'.")
