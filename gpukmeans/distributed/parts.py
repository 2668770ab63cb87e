"""Rows of one part where they lie, and what a worker computes from them.

Every function here takes a `Part` first and returns what depends on its arguments alone.  What a part keeps between
calls (a run with its labels and bounds, distances to seeds) makes the next call cheap; where it is lost, with a worker
or by a move, it is computed again.  So a step may be repeated anywhere, and any engine may retry it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.limits import LARGEST_VALUE
from gpukmeans.arrays.magnitude import rows_times_power, times_power
from gpukmeans.arrays.on_device import center_dtype, host_copy
from gpukmeans.arrays.sparse import is_sparse
from gpukmeans.arrays.types import F64, I64
from gpukmeans.backends.choice import get_backend
from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.backends.cpu.run import NumpyRun
from gpukmeans.backends.cpu.sparse.sums import SparseSums
from gpukmeans.backends.cpu.sparse.table import EntriesTable
from gpukmeans.backends.cpu.sums import DenseSums
from gpukmeans.backends.cpu.table import DenseTable, Switches
from gpukmeans.backends.protocol import Backend
from gpukmeans.exact.sums import Grid
from gpukmeans.exact.totals import Total
from gpukmeans.scale.checkpoints import digests_of
from gpukmeans.scale.facts import Facts, SumGrids, entries_of, extremes_of, refused_row, stored_rows
from gpukmeans.scale.partials import FarRows, block_distances, block_far, block_sums
from gpukmeans.scale.row_blocks import bytes_of
from gpukmeans.threads import workers


class Part:
    """Some of the rows of a fit, as one worker has them.

    Parameters
    ----------
    number : int
        Of the part.
    X : ndarray or CSR of shape (n_rows, n_features)
        uint8, float32 or float64.
    sample_weight : ndarray of shape (n_rows,), float64, or None
    offset : int
        The place of its first row among all rows.
    where : str, optional
        Begins messages; by default the number.
    """

    def __init__(
        self, number: int, X: Any, sample_weight: F64 | None = None, offset: int = 0, where: str | None = None
    ) -> None:
        self.number, self.X, self.sample_weight, self.offset = number, X, sample_weight, offset
        self.where = f"part {number:,}" if where is None else where
        self.kept: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "kept": {}}

    def __sizeof__(self) -> int:
        """Of its rows: schedulers leave what is large where it is."""
        return bytes_of(self.X) + (0 if self.sample_weight is None else self.sample_weight.nbytes)

    def weights(self, job: Job) -> F64 | None:
        """The weights that a job counts."""
        return self.sample_weight if job.weighted else None


class Job(NamedTuple):
    """What all steps of a run have in common.

    Attributes
    ----------
    backend : {"auto", "numpy", "cupy"} or Backend
        Chosen by each worker for itself.
    precision : {"exact", "fast"}
    weighted : bool
        Whether weights count.
    grids : SumGrids or None
        Of all rows; None: nothing is summed.
    largest_integer : float
        The largest magnitude of all rows if all are whole numbers, else infinity.
    n_terms : int
        The products that the distance of two rows is summed from, at most.
    """

    backend: str | Backend
    precision: str
    weighted: bool
    grids: SumGrids | None
    largest_integer: float
    n_terms: int


class Look(NamedTuple):
    """What a first pass finds in a part.

    Attributes
    ----------
    facts : Facts
    low, high : float
        The smallest and the largest value.
    backend : str
        The name of the one that its worker has chosen.
    most_entries : int or None
        That are stored of a row in CSR; None: the rows are dense.
    """

    facts: Facts
    low: float
    high: float
    backend: str
    most_entries: int | None


def part_of(block: Any, number: int) -> Part:
    """A part from a block as the caller has it: an array on the host or on a device, or a function that returns one.

    Raises
    ------
    ValueError, TypeError
        The block is no table of numbers.
    """
    where = getattr(block, "where", None)
    if callable(block) and not hasattr(block, "shape"):
        block = block()
    try:
        if not is_sparse(block):
            block = host_copy(block)
            if hasattr(block, "to_numpy") and not isinstance(block, np.ndarray):
                block = block.to_numpy()
        return Part(number, stored_rows(block), where=where)
    except (ValueError, TypeError) as error:
        raise type(error)(f"part {number:,}: {error}") from None


def changed(part: Part, own: tuple[int, F64 | None], dtype: np.dtype, exponent: int) -> Part:
    """The same part with its offset and weights, in another dtype, times a power of two."""
    X = part.X.astype(dtype, copy=False)
    return Part(part.number, rows_times_power(X, exponent) if exponent else X, own[1], own[0], part.where)


def look(part: Part, backend: str | Backend) -> Look:
    """A first pass over the rows, which refuses values that are not allowed."""
    X, most = part.X, None if isinstance(part.X, np.ndarray) else int(np.diff(part.X.indptr).max(initial=0))
    name = get_backend(backend, sparse=most is not None).name
    low, high = extremes_of(X)
    if not max(high, -low) <= LARGEST_VALUE:
        row, what = refused_row(X)
        raise ValueError(
            f"{part.where} contains {what} in its row {row:,}; rows are finite and at most 2**480. Mend it, or leave "
            "the row out."
        )
    return Look(Facts.of(X, part.sample_weight), low, high, name, most)


def extremes(part: Part, exponent: int) -> tuple[F64, bool]:
    """The largest and the smallest magnitude (not zero), and whether values survive a product with 2**exponent."""
    values = entries_of(part.X)
    size = np.abs(values.astype(np.float64))
    smallest = float(size.min(where=size != 0, initial=np.inf))
    found = np.array([size.max(initial=0.0), 0.0 if np.isinf(smallest) else smallest])
    return found, np.array_equal(times_power(times_power(values, exponent), -exponent), values)


def taken(part: Part, indices: I64) -> Any:
    """Some rows by their places in the part."""
    return part.X[indices]


def digests(part: Part, step: int) -> tuple[Any, bytes, Any]:
    """SHA-256 of each `step` of all rows that lie in the part, and the rows before and behind these."""
    n = part.X.shape[0]
    first = min(n, -part.offset % step)
    stop = n - (n - first) % step
    return part.X[:first], digests_of(part.X[first:stop], step), part.X[stop:]


def distinct(part: Part) -> set[bytes]:
    """Checksums of the distinct rows of positive weight (-0.0 equals 0.0)."""
    X = part.X if part.sample_weight is None else part.X[part.sample_weight > 0.0]
    if isinstance(X, np.ndarray):
        rows = ((x + x.dtype.type(0)).tobytes() for x in X)
    else:
        X = X.copy()
        X.eliminate_zeros()
        rows = (X.indices[a:b].tobytes() + X.data[a:b].tobytes() for a, b in pairwise(X.indptr.tolist()))
    return {hashlib.blake2b(row, digest_size=8).digest() for row in rows}


# ---- steps of Lloyd's algorithm --------------------------------------------------------------------------------------


@dataclass
class Moved:
    """What an assignment of some rows adds to that of all.

    Attributes
    ----------
    sums : ndarray of shape (n_limbs, n_clusters, n_features), int64, or None
        Exact sums of the rows of each cluster.
    weights : ndarray of shape (n_weight_limbs, n_clusters), int64, or None
    counts : ndarray of shape (6,), int64
        The numbers of `gpukmeans.backends.protocol.Assigned`.
    """

    sums: I64 | None
    weights: I64 | None
    counts: I64

    def __add__(self, other: Moved) -> Moved:
        if self.sums is None or other.sums is None or self.weights is None or other.weights is None:
            return Moved(None, None, self.counts + other.counts)
        return Moved(self.sums + other.sums, self.weights + other.weights, self.counts + other.counts)


@dataclass
class Farthest:
    """The `count` rows that lie farthest from their centers, among some."""

    rows: FarRows
    count: int

    def __add__(self, other: Farthest) -> Farthest:
        return Farthest(self.rows.merged(other.rows, self.count), self.count)


def step(part: Part, job: Job, before: NDArray | None, centers: NDArray, move: bool) -> Moved:
    """Assign the rows, labelled by the centers `before` (None: not yet), to `centers`; with `move`, and sum them."""
    found, run = _assigned(part, job, before, centers)
    if not move:
        return Moved(None, None, found)
    sums, weights = run.sums()
    return Moved(sums, weights, found)


def labels_at(part: Part, job: Job, centers: NDArray) -> NDArray[np.int32]:
    """The labels of the rows, assigned to `centers`."""
    for summed in (job, job._replace(grids=None)):
        run = part.kept.get(_key(summed))
        if run is not None and np.array_equal(run.assigned_centers(), centers):
            return run.labels()
    return _assigned(part, job._replace(grids=None), None, centers)[1].labels()


def inertia(part: Part, job: Job, assigned: NDArray, centers: NDArray, n_samples: int, top: int) -> Total:
    """The inertia of rows labelled by the centers `assigned`, at `centers`."""
    labels, weight = labels_at(part, job, assigned), part.weights(job)
    terms = block_distances(part.X, labels, centers)
    return Total.of(terms if weight is None else terms * weight, n_samples, top)


def inertia_terms(part: Part, job: Job, assigned: NDArray, centers: NDArray) -> F64:
    """The terms of `inertia`."""
    distances, weight = block_distances(part.X, labels_at(part, job, assigned), centers), part.weights(job)
    return distances if weight is None else distances * weight


def farthest(part: Part, job: Job, centers: NDArray, count: int) -> Farthest:
    """The rows farthest from their centers, without regard to weights."""
    labels = labels_at(part, job, centers)
    distances = block_distances(part.X, labels, centers)
    return Farthest(block_far(part.X, distances, labels, None, part.offset, count), count)


def n_labelled(part: Part, job: Job, centers: NDArray) -> I64:
    """How many rows each cluster has."""
    return np.bincount(labels_at(part, job, centers), minlength=len(centers))


def distances(part: Part, centers: NDArray) -> NDArray:
    """The distances to all centers, (n_rows, n_clusters)."""
    if not part.X.shape[0]:
        return np.empty((0, len(centers)), center_dtype(part.X.dtype))
    return NumpyBackend().load(part.X, sums=False).center_distances(centers)


def _key(job: Job) -> str:
    return f"run {job.precision} {job.weighted} {job.grids is None}"


def _assigned(part: Part, job: Job, before: NDArray | None, centers: NDArray) -> tuple[I64, Any]:
    """The run of the rows, gone on to `centers`, and the counts of this."""
    run = part.kept.pop(_key(job), None)
    if before is None:
        run = _new_run(part, job, centers)
    elif run is None or not np.array_equal(run.assigned_centers(), before):
        run = _new_run(part, job, before)  # lost, or another run's
        run.assign(move=job.grids is not None)
    run.set_centers(centers)
    found = run.assign(move=job.grids is not None)
    part.kept[_key(job)] = run
    return np.array(found[:6]), run


def _new_run(part: Part, job: Job, centers: NDArray) -> Any:
    if not part.X.shape[0]:
        return BlockRun(part, None, job, centers)
    backend = part.kept.get("backend")
    if backend is None:
        backend = part.kept["backend"] = get_backend(job.backend, sparse=not isinstance(part.X, np.ndarray))
    if type(backend) is NumpyBackend:
        table = part.kept.get(key := f"table {job.weighted} {job.grids is None}")
        if table is None:
            kind = PartTable if isinstance(part.X, np.ndarray) else PartEntries
            table = part.kept[key] = kind(backend.switches, part, job)
        return NumpyRun(table, centers, job.precision)
    return BlockRun(part, backend, job, centers)


class PartTable(DenseTable):
    """Rows of a part as a run of the NumPy backend sees them, on the grids of all rows."""

    def __init__(self, switches: Switches, part: Part, job: Job) -> None:
        grids = job.grids
        super().__init__(switches, part.X, part.weights(job), None if grids is None else grids.rows)
        self._weights_on = None if grids is None else grids.weights
        self.largest_integer = job.largest_integer

    def sums(self, n_clusters: int, grid: Grid) -> DenseSums:
        return DenseSums(self.X, self.sample_weight, grid, n_clusters, self._weights_on)

    def refuse_infinities(self, rows: Any) -> None:
        """All values have been checked."""


class PartEntries(EntriesTable):
    """`PartTable` of rows in CSR."""

    def __init__(self, switches: Switches, part: Part, job: Job) -> None:
        grids = job.grids
        super().__init__(switches, part.X, part.weights(job), sums=False)
        if grids is not None:
            self.grid, self._weights_on = grids.rows, grids.weights
        self.largest_integer = job.largest_integer

    def sums(self, n_clusters: int, grid: Grid) -> SparseSums:
        return SparseSums(self.X, self.sample_weight, grid, n_clusters, self._weights_on)


class BlockRun:
    """A run of any backend over a part: it finds the labels, and the sums are added up on the host."""

    def __init__(self, part: Part, backend: Backend | None, job: Job, centers: NDArray) -> None:
        self._part, self._job, self._centers = part, job, centers
        self._labels = np.full(part.X.shape[0], -1, np.int32)
        self._rows = None if backend is None else backend.load(part.X, sums=False)
        if job.grids is not None:
            self._sums = block_sums(part.X, part.weights(job), job.grids, len(centers))

    def set_centers(self, centers: NDArray) -> None:
        self._centers = centers

    def assigned_centers(self) -> NDArray:
        return self._centers

    def assign(self, *, move: bool) -> tuple[int, ...]:
        if self._rows is None:
            return (0,) * 6
        run = self._rows.start(self._centers, precision=self._job.precision)
        found = run.assign(move=False)
        new = run.labels()
        changed = np.flatnonzero(new != self._labels)
        if move and len(changed):
            with workers(self._part.X.size) as pool:
                self._sums.add(changed, self._labels[changed], new[changed], pool)
        self._labels = new
        return (len(changed), *found[1:6])

    def labels(self) -> NDArray[np.int32]:
        return self._labels.copy()

    def sums(self) -> tuple[I64, I64]:
        return self._sums.sums.copy(), self._sums.weights.copy()
