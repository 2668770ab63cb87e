"""Which center is nearest to a sparse row where float64 cannot decide, without making the dense row.

|x - a|^2 - |x - b|^2 is |a|^2 - |b|^2 - 2 x.(a - b), and the last product has a term for each stored entry of x only.
Squares and products are whole numbers in fixed point, so none of them is rounded (exact/fixed_point.py).

Short texts of normalised rows share no entry with most of the first centers, which are rows, too: to these centers all
distances are nearly the same, or the very same.  Such centers are ranked once for all rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64, I64
from gpukmeans.backends.csr.scores import SparseFullScreen, SparseRowScreen
from gpukmeans.backends.csr.table import SparseTable
from gpukmeans.exact.fixed_point import FixedPoint, carried, first_smallest, products_by_owner, range_of, squares
from gpukmeans.exact.tie_break import exact_squares
from gpukmeans.threads import parts_of, rows_to_screen

#: Rows up to which float64 centers are made in the columns of their entries only.
FEW_ROWS = 64
#: Products of entries that are worked on at a time.
PRODUCTS = 1 << 20


class ExactCenters:
    """The centers of one assignment, of which no two are equal.

    Parameters
    ----------
    centers : ndarray of shape (n_centers, n_features), float32 or float64
    """

    def __init__(self, table: SparseTable, centers: NDArray) -> None:
        self._table = table
        self._centers = centers
        self._form = FixedPoint.for_products(centers.shape[1], table.value_range, range_of(centers))
        self._squares = np.zeros((2 * self._form.n_limbs - 1, len(centers)), np.int64)
        self._squared = np.zeros(len(centers), bool)
        self._patterns: F64 | None = None

    def nearest(self, rows: NDArray[np.int64], candidates: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The nearest of some candidates, (n_rows, n_centers) with one in each row at least; ties: the lowest index."""
        x = self._table.rows(rows)
        disjoint = candidates & ~self._shares_entries(x)
        # Of the centers that share no entry with a row the one with the smallest |c|^2 is nearest.
        several = np.flatnonzero(disjoint.sum(axis=1) > 1)
        if len(several):
            ranked = self._ranked(np.flatnonzero(disjoint[several].any(axis=0)))
            first = disjoint[several][:, ranked].argmax(axis=1)
            candidates = candidates.copy()
            candidates[several] &= ~disjoint[several]
            candidates[several, ranked[first]] = True
        labels = candidates.argmax(axis=1)
        open_ = np.flatnonzero(candidates.sum(axis=1) > 1)
        pairs = max(1, PRODUCTS // max(1, int(self._table.counts[rows].max(initial=1))))
        for part in parts_of(len(open_), max(1, pairs // candidates.shape[1])):
            some = open_[part]
            row, center = np.nonzero(candidates[some])
            best = first_smallest(self._distances(x[some], row, center), np.flatnonzero(np.diff(row, prepend=-1)))
            labels[some] = center[best]
        return labels

    def _shares_entries(self, x: Any) -> NDArray[np.bool_]:
        """Whether a row and a center have an entry in common that is not zero, (n_rows, n_centers)."""
        if self._patterns is None:
            self._patterns = np.ascontiguousarray((self._centers != 0.0).T, np.float32)
        there = x.copy()
        there.data = (x.data != 0.0).astype(np.float32)
        return np.asarray(there @ self._patterns) > 0.0

    def _ranked(self, some: NDArray[np.int64]) -> NDArray[np.int64]:
        """Centers by rising |c|^2, equal ones by rising index."""
        return some[np.lexsort([some, *self._squares_of(some)])]

    def _squares_of(self, some: NDArray[np.intp]) -> I64:
        """|c|^2 of some centers, exactly, (n_limbs, n_some): see `carried`."""
        new = some[~self._squared[some]]
        if len(new):
            new = np.unique(new)
            self._squares[:, new] = squares(self._centers[new], self._form)
            self._squared[new] = True
        return self._squares[:, some]

    def _distances(self, x: Any, row: NDArray[np.intp], center: NDArray[np.intp]) -> I64:
        """|c|^2 - 2 x.c of pairs of a row of x and a center, exactly, (n_limbs, n_pairs): see `carried`."""
        counts = np.diff(x.indptr)[row]
        owner = np.repeat(np.arange(len(row)), counts)
        entry = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts - x.indptr[row], counts)
        values = x.data[entry].astype(np.float64)
        near = self._centers[center[owner], x.indices[entry]].astype(np.float64)
        products = products_by_owner(values, near, owner, len(row), self._form)
        own = self._squares_of(center)
        return carried([s - 2.0 * p for p, s in zip(products, own, strict=True)], self._form.bits)


def settled_rows(
    screen: SparseRowScreen, table: SparseTable, centers: NDArray, alive: I64, largest_integer: float, index: I64
) -> Iterator[tuple[slice, NDArray[np.int32], int]]:
    """The nearest center of rows that a screen leaves open: by float64 products, and by exact arithmetic where these
    overlap.

    Parameters
    ----------
    screen : SparseRowScreen
        Of the rows of `table`.
    centers : ndarray of shape (n_clusters, n_features)
    alive : ndarray of int64
        The centers that no equal one stands before.
    largest_integer : float
        The largest magnitude of the rows if every value is a whole number, else infinity.
    index : ndarray of int64
        The rows.

    Yields
    ------
    part : slice
        Of `index`; some rows at a time.
    labels : ndarray of int32
        Of these rows.
    n_exact : int
        How many of them needed exact arithmetic.
    """
    exact = exact_squares(largest_integer, centers)
    few = np.unique(table.rows(index).indices) if len(index) <= FEW_ROWS else None
    wide = SparseFullScreen(screen, centers[alive], np.dtype(np.float64), exact=exact, columns=few)
    last = None
    for part in parts_of(len(index), rows_to_screen(len(alive))):
        some = index[part]
        candidates, best = wide.candidates_and_best(some)
        open_ = np.flatnonzero(candidates.sum(axis=1) > 1) if not exact else np.zeros(0, np.int64)
        if len(open_):
            last = last or ExactCenters(table, centers[alive])
            best[open_] = last.nearest(some[open_], candidates[open_])
        yield part, alive[best].astype(np.int32), len(open_)
