"""Rows that stream, over any backend: it finds the labels of a block, and exact integer sums of the blocks are added.

Beside the labels nothing is kept of a row between iterations.  On the CPU, where memory allows it, a run of the NumPy
backend reads them instead, from sources that give single rows: what it keeps of a row, drift bounds and leading
components with their proved radii, settles most rows unread.  Labels, centers, inertia and draws are those of the same
rows in memory: labels are the true nearest centers there and here, and sums do not depend on their order.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.on_device import center_dtype
from gpukmeans.arrays.types import F64, I64, Index
from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.backends.cpu.run import NumpyRun
from gpukmeans.backends.cpu.screens.groups import GroupBounds
from gpukmeans.backends.cpu.seeding.screen import SeedScreen
from gpukmeans.backends.cpu.seeding.steps import NumpySeeding
from gpukmeans.backends.cpu.sparse.seeding import SparseSeedScreen
from gpukmeans.backends.cpu.table import DenseTable, Switches
from gpukmeans.backends.csr.table import SparseTable, entry_rows
from gpukmeans.backends.defaults import RowsDefaults
from gpukmeans.backends.protocol import Assigned, Backend, DeviceRows, Rows
from gpukmeans.exact.sums import exact_totals_by_label
from gpukmeans.exact.tie_break import largest_integer
from gpukmeans.exact.totals import Total
from gpukmeans.scale.facts import ColumnFacts, SumGrids, top_of
from gpukmeans.scale.partials import FarRows, block_distances, block_far, block_sums
from gpukmeans.scale.row_blocks import RowBlocks
from gpukmeans.scale.summed_run import SummedRun
from gpukmeans.threads import workers


class Room(NamedTuple):
    """What a memory limit allows to keep of every row.

    Attributes
    ----------
    labels_in_file : bool
        Labels lie in a temporary file.
    bounds : bool
        Drift bounds and norms.
    tables : bool
        Leading components, and bounds of groups of centers.
    seeds_in_file : bool
        What k-means++ keeps of the rows lies in temporary files.
    shadow : bool
        Leading components while k-means++ draws.
    """

    labels_in_file: bool = False
    bounds: bool = True
    tables: bool = True
    seeds_in_file: bool = False
    shadow: bool = True


def in_file(n_rows: int, dtype: Any) -> NDArray:
    """An array of zeros in a temporary file, which is gone with it.

    Raises
    ------
    OSError
        The disk is full: found here, as a process that writes to mapped pages without room is killed.
    """
    n_bytes = n_rows * np.dtype(dtype).itemsize
    try:
        with tempfile.TemporaryFile() as file:  # stays as long as the memory map
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, n_bytes)
            return np.memmap(file, dtype, "w+", shape=(n_rows,))
    except OSError as error:
        raise OSError(
            error.errno,
            f"{tempfile.gettempdir()} has no room for a temporary file of {n_bytes:,} bytes ({error.strerror}): name "
            "another folder by TMPDIR, or raise memory_limit, and nothing is put into files",
        ) from None


class StreamedRows(RowsDefaults):
    """`gpukmeans.backends.Rows` that are read block by block.

    Parameters
    ----------
    blocks : RowBlocks
    backend : Backend
        Labels blocks.
    sample_weight : ndarray of shape (n_samples,), float64, or None
    grids : callable or None
        ``grids(sample_weight)`` returns the grids of the sums; None: the rows are not to be summed.
    survey : callable
        ``survey()`` returns the facts about the rows; a pass over them, the first time, which refuses bad values.
    room : Room
        What is kept of the rows.
    """

    def __init__(
        self,
        blocks: RowBlocks,
        backend: Backend,
        sample_weight: F64 | None,
        grids: Callable[[F64 | None], SumGrids] | None,
        survey: Callable[[], ColumnFacts],
        room: Room,
    ) -> None:
        self.blocks, self.backend, self.sample_weight = blocks, backend, sample_weight
        self.n_samples, self.n_features = blocks.shape
        self.center_dtype = center_dtype(blocks.dtype)
        self.grids = None if grids is None else grids(sample_weight)
        self.grid = None if self.grids is None else self.grids.rows
        self._survey, self.room = survey, room
        self._grids_of = grids

    @cached_property
    def values(self) -> ColumnFacts:
        """Of the rows; bad values are refused here, except by `BlocksTable`."""
        return self._survey()

    def walk(self) -> Iterator[tuple[slice, Any, F64 | None]]:
        """All blocks: their places, rows and weights."""
        for part, X in self.blocks.walk():
            yield part, X, None if self.sample_weight is None else self.sample_weight[part]

    def new_labels(self) -> NDArray[np.int32]:
        """Room for the labels of a run, -1 each."""
        if not self.room.labels_in_file:
            return np.full(self.n_samples, -1, np.int32)
        labels = in_file(self.n_samples, np.int32)
        labels[:] = -1
        return labels

    def start(self, centers: NDArray, *, precision: str = "exact") -> StreamedRun | NumpyRun:
        if self._bounded is not None:
            return NumpyRun(self._bounded, centers, precision)
        return StreamedRun(self, centers, precision)

    @cached_property
    def _bounded(self) -> BlocksTable | None:
        """The rows as the NumPy backend knows them, where it is to keep bounds."""
        direct = self.blocks.reader.direct and not self.blocks.is_sparse
        if not (direct and self.room.bounds and type(self.backend) is NumpyBackend):
            return None
        checks = self.grid is None and self.backend.checks_values(self.blocks.dtype)
        values = None if checks or self.blocks.dtype == np.uint8 else self.values
        return BlocksTable(self.backend.switches, self, values)

    def seeding(self) -> NumpySeeding:
        screen: Any
        if self.blocks.is_sparse:
            screen = SparseSeedScreen(self._table, self._table.squares, self.values.largest_integer)  # type: ignore[arg-type]
        else:
            screen = self._seed_screen
        return (FiledSeeding if self.room.seeds_in_file else NumpySeeding)(screen, self.sample_weight)

    @cached_property
    def _seed_screen(self) -> SeedScreen:
        with workers(self.blocks.size) as pool:
            screen = SeedScreen(self.blocks, self.values.largest_integer, pool, self.room.shadow)  # type: ignore[arg-type]
        if self.room.seeds_in_file:
            screen.squares, screen.norms = map(_filed, (screen.squares, screen.norms))
        return screen

    @cached_property
    def _table(self) -> _BlockTable:
        return _BlockTable(self.blocks)

    def take(self, indices: I64) -> NDArray:
        rows = self.blocks.take(indices)
        return rows if isinstance(rows, np.ndarray) else rows.toarray()

    def entries(self, indices: I64) -> tuple[NDArray, NDArray, NDArray] | None:
        if not self.blocks.is_sparse:
            return None
        x = self.blocks.take(indices)
        return entry_rows(x), x.indices, x.data

    def unweighted(self) -> StreamedRows:
        return StreamedRows(self.blocks, self.backend, None, self._grids_of, self._survey, self.room)

    def subset(self, indices: I64, sample_weight: F64 | None = None, *, sums: bool = True) -> Rows:
        return self.backend.load(self.blocks.take(indices), sample_weight, sums=sums)

    def center_distances(self, centers: NDArray) -> NDArray:
        """See `gpukmeans.backends.protocol.DeviceRows`."""
        distances = np.empty((self.n_samples, len(centers)), self.center_dtype)
        assert self.values is not None
        for part, X, _ in self.walk():
            rows: DeviceRows = self.backend.load(X, sums=False)  # type: ignore[assignment]
            distances[part] = rows.center_distances(centers)
        return distances


class FiledSeeding(NumpySeeding):
    """k-means++ whose distances lie in temporary files."""

    def _zeros(self, n_rows: int) -> F64:
        return np.asarray(in_file(n_rows, np.float64))


def _filed(values: F64) -> F64:
    """The same in a temporary file."""
    found = in_file(len(values), np.float64)
    found[:] = values
    return np.asarray(found)


class StreamedRun(SummedRun):
    """One run of Lloyd's algorithm, a pass over the blocks for each iteration."""

    def __init__(self, rows: StreamedRows, centers: NDArray, precision: str) -> None:
        super().__init__(rows, centers)
        assert rows.values is not None
        self._rows, self._precision = rows, precision
        self._labels = rows.new_labels()

    def assign(self, *, move: bool = True) -> Assigned:
        rows, self._assigned = self._rows, self._centers
        counts = np.zeros(6, np.int64)
        reading, seconds = time.perf_counter(), dict[str, float]()
        for part, X, loaded in rows.backend.load_in_turn(rows.blocks.walk(), rows.blocks.step):
            seconds["read"] = seconds.get("read", 0.0) + time.perf_counter() - reading
            run = loaded.start(self._centers, precision=self._precision)
            found = run.assign(move=False)
            new, old = run.labels(), self._labels[part]
            changed = np.flatnonzero(new != old)
            counts += (len(changed), *found[1:6])
            for stage, spent in found.seconds.items():
                seconds[stage] = seconds.get(stage, 0.0) + spent
            if move and len(changed):
                weight = None if rows.sample_weight is None else rows.sample_weight[part]
                self._move(X, weight, changed, old[changed], new[changed])
            self._labels[part] = new
            reading = time.perf_counter()
        n_moved, certified, resolved, exact, uncertain, skipped = counts.tolist()
        return Assigned(n_moved, certified, resolved, exact, uncertain, skipped, seconds)

    def _move(self, X: Any, weight: F64 | None, changed: I64, old: NDArray[np.int32], new: NDArray[np.int32]) -> None:
        assert self._rows.grids is not None, "rows that are loaded with sums=False cannot be summed"
        sums = block_sums(X, weight, self._rows.grids, len(self._centers), self._sums)
        with workers(X.shape[0] * X.shape[1]) as pool:
            sums.add(changed, old, new, pool)

    def labels(self) -> NDArray[np.int32]:
        return self._labels.copy()

    def labels_for_caller(self) -> NDArray[np.int32]:
        return self._labels if self._rows.room.labels_in_file else self._labels.copy()

    # ---- distances to the own center: a pass each --------------------------------------------------------------------

    def _distances(self, centers: NDArray) -> Iterator[tuple[slice, Any, F64 | None, F64]]:
        for part, X, weight in self._rows.walk():
            yield part, X, weight, block_distances(X, self._labels[part], centers)

    def farthest(self, count: int) -> I64:
        found: FarRows | None = None
        for part, X, _, distances in self._distances(self._assigned):
            here = block_far(X, distances, self._labels[part], None, part.start, count)
            found = here if found is None else found.merged(here, count)
        assert found is not None
        return found.indices

    def inertia(self) -> float:
        total: Total | None = None
        rows = self._rows
        heaviest = 1.0 if rows.sample_weight is None else float(rows.sample_weight.max())
        top = top_of(rows.values.largest, self._centers, heaviest)
        for _, _, weight, distances in self._distances(self._centers):
            terms = distances if weight is None else distances * weight
            here = Total.of(terms, rows.n_samples, top)
            total = here if total is None else total + here
        assert total is not None
        return total.value()

    def inertias(self) -> F64:
        terms = np.empty(self._rows.n_samples)
        for part, _, weight, distances in self._distances(self._centers):
            terms[part] = distances if weight is None else distances * weight
        return exact_totals_by_label(terms, self._labels, len(self._centers))


class BlocksTable(DenseTable):
    """Rows that are read by ranges and one by one, as a run of the NumPy backend sees them.

    `values`: facts about them, or None where a run finds bad values by itself, as it does in rows in memory.
    """

    def __init__(self, switches: Switches, rows: StreamedRows, values: ColumnFacts | None) -> None:
        kept = switches if rows.room.tables else switches._replace(project=False)
        super().__init__(kept, rows.blocks, rows.sample_weight, rows.grid)  # type: ignore[arg-type]
        self._values, self._rows = values, rows

    def largest_integer_of(self, x: NDArray) -> float:
        return largest_integer(x) if self._values is None else self._values.largest_integer

    def groups(self, n_clusters: int) -> GroupBounds | None:
        return super().groups(n_clusters) if self._rows.room.tables else None

    def nearest_of_few(self, centers: NDArray) -> None:
        return None

    def refuse_infinities(self, rows: Index) -> None:
        """All values have been checked, or are here: the survey names the block of a bad one."""
        if self._values is None and self.X.dtype != np.uint8:
            every = isinstance(rows, slice)
            if every or not np.isfinite(self.X[rows]).all():
                self._values = self._rows.values


class _BlockTable:
    """What `SparseSeedScreen` needs of a `SparseTable`, from rows in CSR that stream."""

    def __init__(self, blocks: RowBlocks) -> None:
        self._blocks, self.shape, self.dtype = blocks, blocks.shape, blocks.dtype
        self.counts, self.squares, self.size = np.empty(len(blocks), np.int64), np.empty(len(blocks)), 0
        for part, X in blocks.walk():
            table = SparseTable(X)
            self.counts[part], self.squares[part] = table.counts, table.squares()
            self.size += table.size

    def rows(self, index: Any) -> Any:
        return self._blocks[index]

    def dense(self, index: Any) -> NDArray:
        return self._blocks[index].toarray()
