"""Float64 sums in one fixed order, the *warp order*.

Squared distances that enter a result (inertia, center shifts, the farthest rows) are evaluated in float64 in this
order, in which both the lanes of a GPU warp and NumPy columns can add, so both return the same bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64, I64

#: Lanes of a GPU warp: the number of partial sums in `warp_order_sum`.
WARP = 32


def warp_order_sum(terms: F64) -> F64:
    """Sum over the last axis in the order of one GPU warp.

    Lane l adds columns l, l + 32, l + 64, ... from the left; then lanes are added in halves (l and l + 16, then
    l and l + 8, ...).  kernels/common.cuh follows the same order, so both return the same bits.

    Parameters
    ----------
    terms : ndarray of shape (n_rows, n_columns), float64

    Returns
    -------
    ndarray of shape (n_rows,), float64
    """
    n, d = terms.shape
    if d <= WARP:
        lanes = np.zeros((1 << (d - 1).bit_length(), n))  # the other lanes are zero, which is added last
        lanes[:d] += terms.T
    else:
        # Layers of lanes are added row by row, as they lie, one after the other; halves along long runs of memory.
        even = d - d % WARP
        rows = np.add.reduce(terms[:, :even].reshape(n, -1, WARP), axis=1)
        rows[:, : d - even] += terms[:, even:]
        lanes = np.ascontiguousarray(rows.T)
    half = len(lanes) // 2
    while half:
        lanes[:half] += lanes[half : 2 * half]
        half //= 2
    return lanes[0].copy()


def row_square_distances(X: NDArray, rows: slice | NDArray, centers: NDArray, room: NDArray | None = None) -> F64:
    """|x - c|^2 of some rows of X to one center each (or one for all), (n_rows,), float64, in warp order.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    rows : slice or ndarray of indices
    centers : ndarray of shape (n_rows, n_features) or (n_features,)
    room : ndarray of shape (n_rows, n_features), float64, optional
        To compute in; may be `centers`.
    """
    difference = np.subtract(X[rows], centers, out=room, dtype=np.float64)
    return warp_order_sum(np.multiply(difference, difference, out=difference))


def center_shift_square(new: NDArray, old: NDArray) -> F64:
    """|new - old|^2 of each center, (n_clusters,), float64, in warp order."""
    difference = new.astype(np.float64) - old.astype(np.float64)
    return warp_order_sum(difference * difference)


def farthest_rows(distances: F64, count: int) -> I64:
    """Indices of the `count` largest distances, the largest first; equal ones in the order of their indices.

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans.exact.warp_order import farthest_rows
    >>> farthest_rows(np.array([1.0, 5.0, 2.0, 5.0]), 3).tolist()
    [1, 3, 2]
    """
    return np.argsort(-distances, kind="stable")[:count].astype(np.int64)


def packed_columns(columns: NDArray[np.intp]) -> tuple[NDArray[np.intp], int]:
    """Places of some columns, in rising order, without gaps in their lanes, and the steps that the fullest lane takes.

    A column keeps its lane and stays behind those before it there, so that sums in warp order keep their bits.
    """
    lane = columns % WARP
    order = np.argsort(lane, kind="stable")
    counts = np.bincount(lane, minlength=WARP)
    places = np.empty(len(columns), np.intp)
    places[order] = (np.arange(len(columns)) - np.repeat(np.cumsum(counts) - counts, counts)) * WARP + lane[order]
    return places, max(1, int(counts.max()))
