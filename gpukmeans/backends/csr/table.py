"""Rows in CSR as the NumPy backend keeps them, and their distances to their own centers in warp order.

Only the entries that are stored are read.  The distances that end up in a result must be summed in the order in which
dense rows are (exact/warp_order.py), column by column of the features; `own_square_distances` does that without making
the dense rows.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from gpukmeans.arrays.types import F64, Index
from gpukmeans.exact import batch_inertia
from gpukmeans.exact.fixed_point import Range, range_of
from gpukmeans.exact.sums import Grid
from gpukmeans.exact.tie_break import largest_integer
from gpukmeans.exact.warp_order import WARP, packed_columns
from gpukmeans.threads import Workers, parts_of

#: Values of a table of squares that are summed at a time: they should stay in a core's cache.
SQUARES = 1 << 18
#: Rows whose lanes are kept at a time.
LANED = 1 << 14
#: Entries that are worked on at a time.
ENTRIES = 1 << 18
#: Views of neighbouring rows that are kept: to make one takes SciPy as long as to multiply some thousands of entries.
MOST_VIEWS = 256


class SparseTable:
    """Rows in CSR whose indices rise and do not repeat; the arrays are the caller's where their types allow it.

    Attributes
    ----------
    X : csr_array of shape (n_samples, n_features), float32 or float64
    counts : ndarray of shape (n_samples,), int64
        How many entries of each row are stored.
    """

    def __init__(self, X: Any) -> None:
        n_entries = int(X.indptr[-1])
        small = max(n_entries, *X.shape) < 2**31
        index_dtype = np.int32 if small else np.int64
        self.X = sparse.csr_array(
            (
                np.ascontiguousarray(X.data[:n_entries]),
                np.ascontiguousarray(X.indices[:n_entries], index_dtype),
                np.ascontiguousarray(X.indptr, index_dtype),
            ),
            shape=X.shape,
            copy=False,
        )
        self.shape: tuple[int, int] = X.shape
        self.dtype: np.dtype = X.dtype
        self.size = n_entries
        self.counts: NDArray[np.int64] = np.diff(X.indptr).astype(np.int64)
        self._views: dict[tuple[int, int], Any] = {}

    def __len__(self) -> int:
        return self.shape[0]

    def rows(self, index: Index) -> Any:
        """Some rows, a csr_array; neighbouring ones are not copied."""
        if not isinstance(index, slice):
            return self.X[index]
        start, stop, _ = index.indices(self.shape[0])
        if start == 0 and stop == self.shape[0]:
            return self.X
        found = self._views.get((start, stop))
        if found is None:
            ends = self.X.indptr[start : stop + 1]
            entries = slice(ends[0], ends[-1])
            arrays = (self.X.data[entries], self.X.indices[entries], ends - ends[0])
            found = sparse.csr_array(arrays, shape=(stop - start, self.shape[1]), copy=False)
            if len(self._views) < MOST_VIEWS:
                self._views[start, stop] = found
        return found

    def with_data(self, data: NDArray) -> SparseTable:
        """A table of other values in the same places."""
        return SparseTable(sparse.csr_array((data, self.X.indices, self.X.indptr), shape=self.shape, copy=False))

    def dense(self, index: Index) -> NDArray:
        """Some rows, as stored, (n_rows, n_features)."""
        return self.rows(index).toarray()

    def blocks(self, n_rows: int) -> list[slice]:
        """Slices that cut `n_rows` rows into blocks of about `ENTRIES` entries."""
        mean = self.size / max(1, self.shape[0])
        return parts_of(n_rows, max(32, int(ENTRIES / (mean + 1.0))))

    def squares(self) -> F64:
        """|x|^2 of every row in float64."""
        out = np.empty(self.shape[0])
        for part in self.blocks(self.shape[0]):
            x = self.rows(part)
            out[part] = np.bincount(entry_rows(x), x.data.astype(np.float64) ** 2, x.shape[0])
        return out

    def largest_integer(self) -> float:
        """The largest magnitude if every value is a whole number, else infinity."""
        return largest_integer(self.X.data[:, None]) if self.size else 0.0

    @cached_property
    def value_range(self) -> Range | None:
        """The exponents of the stored values."""
        return range_of(self.X.data)

    def batch_inertia(self, centers: NDArray, labels: NDArray[np.int32], weights: F64) -> float:
        """What cheaper evaluations leave open: from the entries; over dense rows only for values of extreme size."""
        x = self.X
        found = batch_inertia.from_entries(x.data, labels[entry_rows(x)], x.indices, centers, weights)
        return batch_inertia.in_whole_numbers(self.dense(slice(None)), centers, labels) if found is None else found

    def grid(self, sample_weight: F64 | None) -> Grid:
        """``Grid.for_rows`` of the same rows in float64."""
        return Grid.for_entries(weighted_entries(self.X, sample_weight), self.X.indices, *self.shape)


def entry_rows(x: Any) -> NDArray[np.int64]:
    """The row of each entry of a csr_array."""
    return np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))


def weighted_entries(x: Any, weight: F64 | None) -> F64:
    """The entries of a csr_array in float64, times the weights of their rows (one rounded product)."""
    values = x.data.astype(np.float64)
    return values if weight is None else np.multiply(values, weight[entry_rows(x)], out=values)


def own_products(table: SparseTable, labels: NDArray[np.int32], centers: NDArray) -> F64:
    """x.c of every row and its own center, float64."""
    out = np.empty(table.shape[0])
    wide = centers.astype(np.float64).reshape(-1)
    for part in table.blocks(table.shape[0]):
        x = table.rows(part)
        owner = entry_rows(x)
        own = wide.take(labels[part].astype(np.int64)[owner] * table.shape[1] + x.indices)
        out[part] = np.bincount(owner, x.data * own, x.shape[0])
    return out


def own_square_distances(table: SparseTable, labels: NDArray[np.int32], centers: NDArray, pool: Workers) -> F64:
    """|x - c|^2 of every row to its own center, float64: the bits of `row_square_distances`.

    Notes
    -----
    Lane l of the warp order adds the squares of columns l, l + 32, ... from the left.  Terms that are zero change no
    sum, so columns in which neither the center nor any of its rows has a value are left out, and each lane keeps the
    order of the others.  The squares of a row are those of its center, but for the row's own entries: a table of the
    center's is made once, and each row's entries are put in and taken out again.
    """
    distances = np.empty(table.shape[0])
    wide = centers.astype(np.float64)
    order = np.argsort(labels, kind="stable")
    ends = np.searchsorted(labels[order], np.arange(len(centers) + 1))
    mean = table.size / max(1, table.shape[0])
    most = max(256, min(LANED, int(2 * ENTRIES / (mean + 1.0))))
    pieces = []
    for j in range(len(centers)):
        of_j = order[ends[j] : ends[j + 1]]
        if len(of_j):
            pieces += [(j, of_j[part]) for part in pool.share(len(of_j), most, 1024)]

    def measure(piece: tuple[int, NDArray[np.int64]]) -> None:
        j, rows = piece
        every = len(rows) == table.shape[0]
        distances[rows] = square_distances_to(table.rows(slice(0, len(rows)) if every else rows), wide[j])

    pool.map(measure, pieces)
    return distances


def square_distances_to(x: Any, center: F64) -> F64:
    """|x - center|^2 of the rows of a csr_array, warp order."""
    n, d = x.shape
    place, height = _places(x.indices, center)
    base = np.zeros(height * WARP)
    if place is None:
        base[:d] = center * center
    else:
        used = np.flatnonzero(place >= 0)
        base[place[used]] = center[used] ** 2
    at = x.indices if place is None else place[x.indices]
    terms = x.data.astype(np.float64)
    terms -= center[x.indices]
    terms *= terms
    together = min(n, max(1, SQUARES // (height * WARP)))
    room = np.empty((height, together, WARP))
    room[:] = base.reshape(height, 1, WARP)
    flat = room.reshape(-1)
    step, lane = np.divmod(at, WARP)
    target = step.astype(np.int64) * (together * WARP) + lane
    target += (entry_rows(x) % together) * WARP
    before = base[at]
    lanes = np.empty((n, WARP))
    starts = x.indptr
    for part in parts_of(n, together):
        entries = slice(starts[part.start], starts[part.stop])
        some = target[entries]
        flat[some] = terms[entries]
        # Along the first axis NumPy adds one layer after the other, each to all lanes.
        np.add.reduce(room[:, : part.stop - part.start], axis=0, out=lanes[part])
        flat[some] = before[entries]
    half = WARP // 2
    by_lane = np.ascontiguousarray(lanes.T)
    while half:
        by_lane[:half] += by_lane[half : 2 * half]
        half //= 2
    return by_lane[0].copy()


def _places(columns: NDArray[np.integer], center: F64) -> tuple[NDArray[np.int64] | None, int]:
    """Where the columns that matter go: step * 32 + lane, -1 for the others, and the number of steps.

    None for every column in its own place, where leaving some out would save little.
    """
    d = len(center)
    used = center != 0.0
    used[columns] = True
    cols = np.flatnonzero(used)
    places, height = packed_columns(cols)
    whole = -(-d // WARP)
    if 4 * height > 3 * whole:
        return None, whole
    place = np.full(d, -1, np.int64)
    place[cols] = places
    return place, height
