"""Rows whose parts lie on workers, over any backend: the fit's own loop asks for steps, and exact sums come back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.on_device import center_dtype
from gpukmeans.arrays.types import F64, I64
from gpukmeans.backends.csr.table import entry_rows
from gpukmeans.backends.defaults import RowsDefaults
from gpukmeans.backends.protocol import Assigned, Backend, Rows
from gpukmeans.distributed import parts
from gpukmeans.distributed.engine import Engine
from gpukmeans.distributed.parts import Job, Look
from gpukmeans.distributed.seeding import PartedSeeding
from gpukmeans.exact.sums import exact_totals_by_label
from gpukmeans.intake.kinds import OnWorkers
from gpukmeans.scale.facts import SumGrids, top_of
from gpukmeans.scale.row_blocks import joined
from gpukmeans.scale.summed_run import SummedRun


class PartedRows(RowsDefaults):
    """`gpukmeans.backends.Rows` on workers.

    Parameters
    ----------
    engine : Engine
        Its parts have their offsets, and the weights.
    found : Look
        About all rows.
    offsets : ndarray of shape (n_parts + 1,), int64
        Where parts begin, and the number of rows.
    sample_weight : ndarray of shape (n_samples,), float64, or None
    worker_backend : str or Backend
        Chosen by each worker.
    backend : Backend
        Of this process, for a few rows.
    grids : SumGrids or None
        None: the rows are not to be summed.
    plain_grids : SumGrids
        Of the rows without weights.
    """

    def __init__(
        self,
        engine: Engine,
        found: Look,
        offsets: I64,
        sample_weight: F64 | None,
        worker_backend: str | Backend,
        backend: Backend,
        grids: SumGrids | None,
        plain_grids: SumGrids,
    ) -> None:
        self.engine, self.found, self.offsets, self.sample_weight = engine, found, offsets, sample_weight
        self.worker_backend, self.backend, self.grids, self._plain = worker_backend, backend, grids, plain_grids
        self.grid = None if grids is None else grids.rows
        facts = found.facts
        self.n_samples, self.n_features, self.dtype = facts.n_samples, facts.n_features, facts.dtype
        self.center_dtype = center_dtype(facts.dtype)

    def job(self, precision: str = "exact", *, sums: bool = True) -> Job:
        """Of a run."""
        return Job(
            self.worker_backend, precision, self.sample_weight is not None, self.grids if sums else None,
            self.found.facts.values.largest_integer, self.n_terms,
        )  # fmt: skip

    @property
    def n_terms(self) -> int:
        """See `Job`."""
        most = self.found.most_entries
        return self.n_features if most is None else max(1, min(self.n_features, 2 * most))

    @property
    def sizes(self) -> list[int]:
        """Rows of each part."""
        return np.diff(self.offsets).tolist()

    def start(self, centers: NDArray, *, precision: str = "exact") -> PartedRun:
        return PartedRun(self, centers, precision)

    def seeding(self) -> PartedSeeding:
        return PartedSeeding(self.engine, self.job(sums=False), self.offsets, self.n_features, self.take)

    def taken(self, indices: I64) -> Any:
        """Some rows, dense or in CSR."""
        wanted = np.asarray(indices, np.int64)
        owner = np.searchsorted(self.offsets, wanted, side="right") - 1
        only = np.unique(owner).tolist() or [0]
        places = [np.flatnonzero(owner == part) for part in only]
        each = [wanted[some] - self.offsets[part] for part, some in zip(only, places, strict=True)]
        found = joined(self.engine.map(parts.taken, each=each, only=only))
        return found[np.argsort(np.concatenate(places))]

    def take(self, indices: I64) -> NDArray:
        rows = self.taken(indices)
        return rows if isinstance(rows, np.ndarray) else rows.toarray()

    def entries(self, indices: I64) -> tuple[NDArray, NDArray, NDArray] | None:
        if self.found.most_entries is None:
            return None
        x = self.taken(indices)
        return entry_rows(x), x.indices, x.data

    def unweighted(self) -> PartedRows:
        return PartedRows(
            self.engine, self.found, self.offsets, None, self.worker_backend, self.backend, self._plain, self._plain
        )

    def subset(self, indices: I64, sample_weight: F64 | None = None, *, sums: bool = True) -> Rows:
        return self.backend.load(self.taken(indices), sample_weight, sums=sums)

    def n_used(self, labels: Any, n_clusters: int) -> int:
        return int(np.count_nonzero(labels.counts()))

    def center_distances(self, centers: NDArray) -> Any:
        """The distances of every row to every center, as one array for the caller."""
        engine = self.engine
        shared = engine.share(centers)
        return engine.rows(parts.distances, shared, sizes=self.sizes, width=len(centers), dtype=self.center_dtype)


class PartedLabels(OnWorkers):
    """The labels of a run where the rows are; `given` brings them to the caller.

    Attributes
    ----------
    run : PartedRun
    """

    def __init__(self, run: PartedRun) -> None:
        self._rows, self._shared = run.rows, run.shared_job_and(run.assigned_centers())

    def counts(self) -> I64:
        """How many rows each cluster has."""
        return self._rows.engine.total(parts.n_labelled, *self._shared)

    def given(self) -> Any:
        """As one array: an ndarray, or a Dask array on the cluster."""
        rows = self._rows
        return rows.engine.rows(parts.labels_at, *self._shared, sizes=rows.sizes, width=None, dtype=np.int32)


class PartedRun(SummedRun):
    """One run of Lloyd's algorithm: a round trip to the workers for each iteration."""

    def __init__(self, rows: PartedRows, centers: NDArray, precision: str) -> None:
        super().__init__(rows, centers)
        self.rows = rows
        self._job = rows.job(precision)
        self._before: Any = None  # a handle of the centers of the last assignment

    def shared_job_and(self, centers: NDArray) -> tuple[Any, Any]:
        """The first arguments of steps about these centers."""
        if self._before is None or centers is not self._assigned:
            return self._job, self.rows.engine.share(centers)
        return self._job, self._before

    def assign(self, *, move: bool = True) -> Assigned:
        engine = self.rows.engine
        centers = engine.share(self._centers)
        alone = not move and self._before is None  # many candidates, whose sums nobody needs
        job = self._job._replace(grids=None) if alone else self._job
        found = engine.total(parts.step, job, self._before, centers, move)
        self._assigned, self._before = self._centers, centers
        if move:
            assert found.sums is not None, "rows that are loaded with sums=False cannot be summed"
            self._sums.sums, self._sums.weights = found.sums, found.weights
            self._sums.touched[:] = True
        return Assigned(*found.counts.tolist())

    def labels(self) -> NDArray[np.int32]:
        return np.concatenate(self.rows.engine.map(parts.labels_at, *self.shared_job_and(self._assigned)))

    def labels_for_caller(self) -> PartedLabels:
        return PartedLabels(self)

    def farthest(self, count: int) -> I64:
        return self.rows.engine.total(parts.farthest, *self.shared_job_and(self._assigned), count).rows.indices

    def inertia(self) -> float:
        rows, facts = self.rows, self.rows.found.facts
        heaviest = 1.0 if rows.sample_weight is None else float(rows.sample_weight.max())
        top = top_of(facts.values.largest, self._centers, heaviest)
        shared = self.shared_job_and(self._assigned)
        here = shared[1] if self._centers is self._assigned else rows.engine.share(self._centers)
        return rows.engine.total(parts.inertia, *shared, here, rows.n_samples, top).value()

    def inertias(self) -> F64:
        engine = self.rows.engine
        terms = engine.map(parts.inertia_terms, *self.shared_job_and(self._assigned), engine.share(self._centers))
        return exact_totals_by_label(np.concatenate(terms), self.labels(), len(self._centers))
