"""The distances of rows to every center, as `transform` gives them: near ones from differences, in the order of labels.

|x|^2 - 2 x.c + |c|^2 is one product for all pairs and loses what is small beside |x|^2 + |c|^2.  Dense rows are shifted
by the mean of the centers first, so that no distance from the origin enters; pairs that are still near for their norms
get |x - c|^2 by the difference.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.magnitude import times_power
from gpukmeans.arrays.types import F64, I64
from gpukmeans.backends.csr.scores import block_squares, square_roundings
from gpukmeans.backends.csr.table import SparseTable, square_distances_to
from gpukmeans.backends.protocol import Rows
from gpukmeans.certificates.rounding import SQUARE_UNDERFLOW, UNIT64, gamma
from gpukmeans.threads import Workers, parts_of, rows_in_block, rows_to_fetch

#: A square distance below this share of |x|^2 + |c|^2 is taken from the difference: ten of 53 bits may cancel before.
CANCELLED = 2.0**-10
#: Fewer rows are not worth a second thread.
LEAST = 1024


def dense_distances(X: NDArray, centers: NDArray, out: NDArray, pool: Workers) -> tuple[I64, bool]:
    """The distances, in the dtype of `out`, which is float32 or float64.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), uint8, float32 or float64
    centers : ndarray of shape (n_clusters, n_features)
    out : ndarray of shape (n_samples, n_clusters)

    Returns
    -------
    open_rows : ndarray of int64
        The rows of which rounding leaves the nearest center open.
    finite : bool
        Whether all rows are; if not, `out` is not filled.
    """
    wide = centers.astype(np.float64)
    shift = wide.mean(axis=0)
    moved = wide - shift
    minus_two, squares = -2.0 * moved, np.vecdot(moved, moved)

    def fill(rows: slice) -> tuple[NDArray[np.intp], bool]:
        x = np.subtract(X[rows], shift, dtype=np.float64)
        own = np.vecdot(x, x)
        if not np.isfinite(own).all():
            return np.zeros(0, np.intp), False
        differences = partial(_differences, X[rows], wide)
        return rows.start + _finish(minus_two @ x.T, own, squares, differences, X.shape[1], out[rows]), True

    found = pool.map(fill, pool.share(len(X), rows_in_block(max(X.shape[1], len(centers))), LEAST))
    return np.concatenate([rows for rows, _ in found]), all(finite for _, finite in found)


def sparse_distances(table: SparseTable, centers: NDArray, out: NDArray, pool: Workers) -> I64:
    """`dense_distances` of rows in CSR, which cannot be shifted and are finite."""
    wide = centers.astype(np.float64)
    minus_two, squares, own = np.ascontiguousarray(-2.0 * wide.T), block_squares(wide), table.squares()
    n_terms = max(int(table.counts.max()), square_roundings(table.shape[1]))

    def fill(part: slice) -> NDArray[np.intp]:
        x = table.rows(part)

        def differences(i: I64, j: I64) -> F64:
            found = np.empty(len(i))
            for center in np.unique(j).tolist():
                of_center = np.flatnonzero(j == center)
                found[of_center] = square_distances_to(x[i[of_center]], wide[center])
            return found

        scores = np.ascontiguousarray((x @ minus_two).T)
        return part.start + _finish(scores, own[part], squares, differences, n_terms, out[part])

    return np.concatenate(pool.map(fill, table.blocks(len(table))))


def _finish(
    scores: F64,
    row_squares: F64,
    center_squares: F64,
    differences: Callable[[I64, I64], F64],
    n_terms: int,
    out: NDArray,
) -> NDArray[np.intp]:
    """Distances from ``-2 c.x``, (n_centers, n_rows), which is overwritten; returns the rows that are open.

    `differences` returns |x - c|^2 of pairs of row and center.  Centers lie along the first axis, along which NumPy
    compares and adds fast however few they are.

    Notes
    -----
    A score of `n_terms` products and the two squares is off by gamma of some terms more times |x|^2 + |c|^2 and
    2 |x| |c|, which is no more; shifted rows and centers by a rounding of each value, that is 8 roundings of the same
    size.  The reach is twice that on either side, so that roots of what is further apart differ, too.
    """
    scores += center_squares[:, None]
    scores += row_squares
    lowest = scores.min(axis=0)
    largest_square = center_squares.max()
    rows = np.flatnonzero(lowest < CANCELLED * (row_squares + largest_square))
    if len(rows):
        some = scores[:, rows]
        j, i = np.nonzero(some < CANCELLED * np.add.outer(center_squares, row_squares[rows]))
        some[j, i] = differences(rows[i], j)
        scores[:, rows] = some
        lowest[rows] = some.min(axis=0)
    reach = (row_squares + largest_square) * (8.0 * gamma(n_terms + 16.0, UNIT64))
    reach += lowest + 4.0 * SQUARE_UNDERFLOW
    open_rows = np.flatnonzero((scores <= reach).sum(axis=0) > 1)
    np.sqrt(scores, out=scores)
    with np.errstate(over="ignore"):
        out[:] = scores.T
        nearest = np.sqrt(lowest).astype(out.dtype)
    if out.dtype != np.float64:  # distances that are apart may round to one
        equal = np.flatnonzero((nearest >= out.T).sum(axis=0) > 1)
        some_out = out[equal]
        order_by_labels(some_out, scores[:, equal].argmin(axis=0))
        out[equal] = some_out
    return open_rows


def settle_open(rows: Rows, open_rows: I64, centers: NDArray, distances: NDArray) -> None:
    """Find the true nearest centers of some rows and order their distances by them."""
    if not len(open_rows):
        return
    run = rows.subset(open_rows, sums=False).start(centers)
    run.assign(move=False)
    some = distances[open_rows]
    order_by_labels(some, run.labels())
    distances[open_rows] = some


def _differences(X: NDArray, centers: F64, i: I64, j: I64) -> F64:
    found = np.empty(len(i))
    for part in parts_of(len(i), rows_to_fetch(X.shape[1])):
        difference = np.subtract(X[i[part]], centers[j[part]], dtype=np.float64)
        found[part] = np.vecdot(difference, difference)
    return found


def order_by_labels(distances: NDArray, labels: NDArray[np.integer]) -> None:
    """Make the first of the lowest distances of each row that to its label, where rounding has it otherwise.

    The distances to the other centers are raised for that: no further than rounding has lowered them, or by one unit in
    the last place where an equal one stands before the label.  kernels/center_distances.cu does the same.

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans.backends.cpu.distances import order_by_labels
    >>> distances = np.array([[1.0, 1.0, 0.75], [2.0, 1.0, 1.0]])
    >>> order_by_labels(distances, np.array([1, 1], np.int32))
    >>> distances.argmin(axis=1).tolist(), distances[0].tolist()
    ([1, 1], [1.0000000000000002, 1.0, 1.0])
    """
    wrong = np.flatnonzero(distances.argmin(axis=1) != labels)
    if not len(wrong):
        return
    rows, label = distances[wrong], labels[wrong, None]
    own = np.minimum(np.take_along_axis(rows, label, axis=1), np.finfo(rows.dtype).max)  # where all are infinite
    with np.errstate(over="ignore"):
        above = np.where(np.arange(rows.shape[1]) < label, np.nextafter(own, own.dtype.type(np.inf)), own)
    rows = np.maximum(rows, above)
    np.put_along_axis(rows, label, own, axis=1)
    distances[wrong] = rows


def times_power_in_order(distances: NDArray, exponent: int) -> NDArray:
    """`times_power` of distances, whose first lowest stay so where values become subnormal, equal or infinite."""
    with np.errstate(over="ignore"):  # of float32
        scaled = times_power(distances, exponent)
    order_by_labels(scaled, distances.argmin(axis=1))
    return scaled
