"""Which center is nearest to a sparse row where float64 cannot decide, without making the dense row.

|x - a|^2 - |x - b|^2 is |a|^2 - |b|^2 - 2 x.(a - b), and the last product has a term for each stored entry of x only.
|a|^2 is kept as floats whose sum it is exactly; products are split into two floats without error (T. J. Dekker, 1971)
and `math.fsum` rounds the whole once (J. R. Shewchuk, 1997), so its sign is right.

Short texts of normalised rows share no entry with most of the first centers, which are rows, too: to these centers all
distances are nearly the same, or the very same.  Such centers are ranked once for all rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64, I64
from gpukmeans.backends.csr.scores import SparseFullScreen, SparseRowScreen
from gpukmeans.backends.csr.table import SparseTable
from gpukmeans.exact.sums import two_product
from gpukmeans.exact.tie_break import exact_squares, nearest_exactly
from gpukmeans.threads import parts_of, rows_to_screen

#: Magnitudes between which no product, nor its error, under- or overflows.
RANGE = (2.0**-450, 2.0**480)


class ExactCenters:
    """The centers of one assignment, of which no two are equal.

    Parameters
    ----------
    centers : ndarray of shape (n_centers, n_features), float32 or float64
    """

    def __init__(self, table: SparseTable, centers: NDArray) -> None:
        self._table = table
        self._centers = centers
        self._squares: dict[int, list[float] | None] = {}
        self._patterns: F64 | None = None

    def nearest(self, rows: NDArray[np.int64], candidates: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The nearest of some candidates, (n_rows, n_centers) with one in each row at least; ties: the lowest index."""
        x = self._table.rows(rows)
        disjoint = candidates & ~self._shares_entries(x)
        for j in np.flatnonzero(disjoint.any(axis=0)).tolist():
            if self._square(j) is None:
                disjoint[:, j] = False
        # Of the centers that share no entry with a row the one with the smallest |c|^2 is nearest.
        several = np.flatnonzero(disjoint.sum(axis=1) > 1)
        if len(several):
            ranked = self._ranked(np.flatnonzero(disjoint[several].any(axis=0)))
            first = disjoint[several][:, ranked].argmax(axis=1)
            candidates = candidates.copy()
            candidates[several] &= ~disjoint[several]
            candidates[several, ranked[first]] = True
        labels = candidates.argmax(axis=1)
        for i in np.flatnonzero(candidates.sum(axis=1) > 1).tolist():
            labels[i] = self._nearest(x, i, np.flatnonzero(candidates[i]))
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
        return np.array(sorted(some.tolist(), key=lambda j: (self._square(j), j)))

    def _square(self, j: int) -> list[float] | None:
        """|c_j|^2 as rounded sums of what is left of it, zero being the last; None where float64 products might vanish.

        Of two such lists the lexicographically smaller one has the smaller sum: where their heads are equal, the rest
        of each is what its next element rounds, and nothing is left where that is zero.
        """
        if j not in self._squares:
            c = self._centers[j].astype(np.float64)
            c = c[c != 0.0]
            self._squares[j] = [*exact_parts(np.concatenate(two_product(c, c))), 0.0] if _in_range(c) else None
        return self._squares[j]

    def _nearest(self, x: Any, i: int, choices: NDArray[np.int64]) -> int:
        """The nearest of some centers to row i of x."""
        entries = slice(x.indptr[i], x.indptr[i + 1])
        values, columns = x.data[entries].astype(np.float64), x.indices[entries]
        values, columns = values[values != 0.0], columns[values != 0.0]
        near = self._centers[choices][:, columns].astype(np.float64)
        squares = [self._square(j) for j in choices.tolist()]
        if None in squares or not _in_range(values) or not _in_range(near):
            return int(nearest_exactly(x[[i]].toarray(), self._centers, [choices])[0])
        products = [np.concatenate(two_product(-2.0 * values, c)) for c in near]
        best = 0
        for other in range(1, len(choices)):
            difference = [*squares[other], *products[other], *(-v for v in squares[best]), *(-products[best])]  # type: ignore[misc, union-attr]
            if math.fsum(difference) < 0.0:
                best = other
        return int(choices[best])


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
    wide = SparseFullScreen(screen, centers[alive], np.dtype(np.float64), exact=exact)
    last = ExactCenters(table, centers[alive])
    for part in parts_of(len(index), rows_to_screen(len(alive))):
        some = index[part]
        candidates, best = wide.candidates_and_best(some)
        open_ = np.flatnonzero(candidates.sum(axis=1) > 1) if not exact else np.zeros(0, np.int64)
        if len(open_):
            best[open_] = last.nearest(some[open_], candidates[open_])
        yield part, alive[best].astype(np.int32), len(open_)


def _in_range(values: F64) -> bool:
    magnitudes = np.abs(values[values != 0.0])
    lowest, highest = RANGE
    return not magnitudes.size or (float(magnitudes.min()) > lowest and float(magnitudes.max()) < highest)


def exact_parts(values: F64) -> list[float]:
    """Floats whose sum is exactly that of `values`, each the rounded sum of what those before it leave.

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans.backends.csr.exact import exact_parts
    >>> exact_parts(np.array([1.0, 2.0**-60, 2.0**-60]))
    [1.0, 1.734723475976807e-18]
    """
    left = values.tolist()
    parts: list[float] = []
    while (rounded := math.fsum(left)) != 0.0:
        parts.append(rounded)
        left.append(-rounded)
    return parts
