"""Rows on a device, as the engine uses them: runs, seeding and batches over a table."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64, I64
from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda.dense_workspace import DenseWorkspace
from gpukmeans.backends.cuda.device.seam import explained_memory_errors
from gpukmeans.backends.cuda.run import CupyRun
from gpukmeans.backends.cuda.runs import CupyRuns, variances
from gpukmeans.backends.cuda.seeding.plusplus import plusplus
from gpukmeans.backends.cuda.seeding.steps import CupySeeding
from gpukmeans.backends.cuda.table import CupyDenseTable, CupyTable
from gpukmeans.backends.cuda.workspace import Workspace, Workspaces
from gpukmeans.backends.defaults import RowsDefaults
from gpukmeans.backends.protocol import BatchSums, Drawn
from gpukmeans.certificates.scatter import scatter_bounds
from gpukmeans.exact import batch_inertia


class ResidentRows(RowsDefaults):
    """What dense rows and rows in CSR have in common: see `gpukmeans.backends.Rows`.

    Parameters
    ----------
    table : CupyTable
    new_workspace : callable
        A workspace for this table, by (n_clusters, n_runs, exact).
    """

    table: CupyTable

    def __init__(self, table: CupyTable, new_workspace: Callable[[int, int, bool], Workspace]) -> None:
        self.table = table
        self.n_samples, self.n_features, self.n_problems = table.n_samples, table.n_features, table.n_problems
        self.grid, self.center_dtype = table.grid, table.center_dtype
        self._workspaces = Workspaces(new_workspace)

    def start(self, centers: NDArray, *, precision: str = "exact") -> CupyRun:
        return CupyRun(self.table, self._workspaces, centers, precision)

    def n_used(self, labels: Any, n_clusters: int) -> int:
        if isinstance(labels, np.ndarray):
            return super().n_used(labels, n_clusters)
        return self.table.n_used_by_each(labels.reshape(1, -1), n_clusters)[0]

    def batch_sums(self, centers: NDArray, *, precision: str = "exact", inertia: bool = True) -> BatchSums:
        run = self.start(centers, precision=precision)
        run.assign()
        sums, weights = run.batch_sums()
        if not inertia:
            return BatchSums(sums, weights, float("nan"))
        found = batch_inertia.from_distances(run.inertia(), self.n_features)
        if found is None:
            found = self._batch_inertia(centers, run.labels(), weights)
        return BatchSums(sums, weights, found)

    def _batch_inertia(self, centers: NDArray, labels: NDArray[np.int32], weights: F64) -> float:
        """The inertia of an assignment whose rounded distances leave it open."""
        return batch_inertia.in_whole_numbers(self.take(np.arange(self.n_samples)), centers, labels)

    def take(self, indices: NDArray[np.int64]) -> NDArray:
        return self.table.take(indices)


class CupyRows(ResidentRows):
    """Dense rows of one fit, or of several fits of one shape (`gpukmeans.backends.problems.Problems`)."""

    table: CupyDenseTable

    def __init__(self, table: CupyDenseTable) -> None:
        super().__init__(table, functools.partial(DenseWorkspace, table))

    def problem(self, number: int) -> CupyRows:
        return self if self.n_problems == 1 else CupyRows(self.table.problem(number))

    def runs_at_a_time(self, n_clusters: int, n_runs: int) -> int:
        return tuning.runs_at_a_time(self.n_samples, n_clusters) if n_runs > 1 else 0

    def start_many(self, centers: NDArray) -> CupyRuns:
        return CupyRuns(self.table, self._workspaces, centers)

    def plusplus(self, seeds: I64, draws: F64) -> Drawn:
        return plusplus(self.table, seeds, draws)

    def seeding(self) -> CupySeeding:
        return CupySeeding(self.table)

    def unweighted(self) -> CupyRows:
        return CupyRows(self.table.unweighted())

    def subset(self, indices: NDArray[np.int64], sample_weight: F64 | None = None, *, sums: bool = True) -> CupyRows:
        return CupyRows(self.table.subset(indices, sample_weight, sums=sums))

    def scatter_bounds(self) -> tuple[float, float] | None:
        table = self.table
        if self.grid is None or self.n_problems > 1:
            return None
        _, sums, squares = table.columns[0]
        return scatter_bounds(sums, squares, self.n_samples, table.largest, table.center_dtype)

    def variances(self) -> F64:
        rows = self if self.table.weights is None else self.unweighted()
        return variances(rows.table, rows._workspaces)

    def center_distances(self, centers: NDArray) -> Any:
        table, n, k = self.table, self.n_samples, len(centers)
        constants = tuning.transform_constants(table.dtype, wide=centers.dtype != np.float32)
        dtype = np.dtype(np.float32 if constants["CENTER"] == "float" else np.float64)
        with (
            explained_memory_errors(table.device, f"{n} x {k} distances", n * k * dtype.itemsize),
            table.device.for_caller((n, k), dtype) as distances,
        ):
            run = self.start(centers)
            run.assign(move=False)
            labels = run.labels_for_caller()
            on_device = table.device.upload(np.ascontiguousarray(centers, dtype))
            step = max(1, tuning.DISTANCE_TERMS // (k * self.n_features))
            for start in range(0, n, step):
                X, part = table.X[start : start + step], distances[start : start + step]
                sizes = np.int64(len(X)), np.int32(self.n_features), np.int32(k)
                args = (X, on_device, labels[start : start + step], *sizes, part)
                table.launch("center_distances", constants, tuning.stride_blocks(len(X), 8), 256, args)
        return distances
