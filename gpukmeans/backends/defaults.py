"""What a backend need not write: base classes with the default of everything that protocol.py calls optional.

They keep no state, and use only what every backend implements.  A default is right on any backend, and slow: a backend
replaces those that matter to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.on_device import DeviceInput
from gpukmeans.arrays.types import F64, I64
from gpukmeans.backends.known import Known
from gpukmeans.backends.protocol import Backend, BatchSums, CsrRows, Drawn, Feed, Rows, Run, Runs, Step
from gpukmeans.exact import batch_inertia
from gpukmeans.exact.unit_rows import unit_rows


class RunDefaults:
    """Defaults of `gpukmeans.backends.Run`: the caller takes iterations one by one, labels are on the host."""

    def advance(self, limit: int, tol: float) -> list[Step]:
        return []

    def labels_for_caller(self: Run) -> Any:
        return self.labels()

    def results(self: Run) -> tuple[Any, NDArray, float]:
        return self.labels_for_caller(), self.centers(), self.inertia()


class SeedingDefaults:
    """Defaults of `gpukmeans.backends.Seeding`: which rows a candidate is nearer to is not told."""

    def nearer(self, indices: NDArray[np.int64]) -> I64 | None:
        return None


class RowsDefaults:
    """Defaults of `gpukmeans.backends.Rows`: dense rows whose runs advance one by one."""

    def start_from(self: Rows, centers: NDArray, known: Known, *, precision: str = "exact") -> Run:
        return self.start(centers, precision=precision)

    def plusplus(self, seeds: I64, draws: F64) -> Drawn:
        return Drawn.nothing(seeds, draws.shape[1])

    def runs_at_a_time(self, n_clusters: int, n_runs: int) -> int:
        return 0

    def start_many(self, centers: NDArray) -> Runs:
        raise NotImplementedError("Runs over these rows advance one by one.")

    def n_used(self, labels: Any, n_clusters: int) -> int:
        return int(np.count_nonzero(np.bincount(labels, minlength=n_clusters)))

    def batch_sums(self: Rows, centers: NDArray, *, precision: str = "exact", inertia: bool = True) -> BatchSums:
        """The cheapest evaluation of the inertia that is certain, of those in `gpukmeans.exact.batch_inertia`."""
        assert self.grid is not None, "rows that are loaded with sums=False cannot be summed"
        run = self.start(centers, precision=precision)
        run.assign()
        sums, weights = self.grid.value(run.sums()[0]), run.update().weights
        if not inertia:
            return BatchSums(sums, weights, float("nan"))
        run = self.start(centers, precision=precision)
        run.assign(move=False)
        found = batch_inertia.from_distances(run.inertia(), self.n_features)
        if found is None:
            found = batch_inertia.in_whole_numbers(self.take(np.arange(self.n_samples)), centers, run.labels())
        return BatchSums(sums, weights, found)

    def entries(self, indices: NDArray[np.int64]) -> tuple[NDArray, NDArray, NDArray] | None:
        return None

    def scatter_bounds(self) -> tuple[float, float] | None:
        return None


class BackendDefaults:
    """Defaults of `gpukmeans.backends.Backend`: dense rows on the host, one problem at a time."""

    reads_sparse = False
    reads_device = False
    fits_many = False

    def hand_out(self, values: NDArray) -> Any:
        return values

    def unit_rows(self, X: NDArray | DeviceInput | CsrRows) -> tuple[Any, F64]:
        return unit_rows(cast(NDArray, X))  # without `reads_device` no rows on a device

    def feed(self: Backend, X: NDArray | DeviceInput | CsrRows, batch_size: int) -> Feed:
        return SubsetFeed(self.load(X, sums=False))

    def load_in_turn(
        self: Backend, blocks: Iterable[tuple[slice, Any]], most: int
    ) -> Iterator[tuple[slice, Any, Rows]]:
        for part, X in blocks:
            yield part, X, self.load(X, sums=False)


class Subsettable(Protocol):
    """Rows of which batches can be taken; `gpukmeans.backends.Rows` are."""

    def subset(self, indices: I64, sample_weight: F64 | None = None, *, sums: bool = True) -> Rows:
        """See `gpukmeans.backends.Rows.subset`."""


class SubsetFeed:
    """Batches that are subsets of rows in memory, on a device, or in a memory-mapped file; none is gathered early."""

    ahead = False

    def __init__(self, rows: Subsettable) -> None:
        self._rows = rows
        self._sent: list[I64] = []

    def __enter__(self) -> SubsetFeed:
        return self

    def __exit__(self, *error: object) -> None:
        self.drop()

    def send(self, indices: I64) -> None:
        self._sent.append(indices)

    def receive(self) -> Rows:
        return self._rows.subset(self._sent.pop(0))

    def drop(self) -> None:
        self._sent.clear()

    def some(self, indices: I64, sample_weight: F64 | None = None) -> Rows:
        return self._rows.subset(indices, sample_weight, sums=False)
