"""Rows scaled to unit length, in one fixed order of operations: the same bits on the host and on a device.

A row is brought to magnitudes below one by a power of two (which rounds nothing, and keeps squares from over- and
underflowing), its length is the rounded root of its squares summed in float64 and warp order, and every value is
divided by that once.  A row of zeros has no direction and stays as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.on_device import center_dtype
from gpukmeans.arrays.types import F64
from gpukmeans.exact.warp_order import WARP, warp_order_sum
from gpukmeans.threads import blocks, parts_of, workers

#: Rows in CSR that are scaled at a time.
CSR_ROWS = 1 << 14


def unit_rows(X: NDArray) -> tuple[NDArray, F64]:
    """The rows of X scaled to unit length, and the largest magnitude of each row: 0 where it has no direction.

    kernels/unit_rows.cu does the same operations, for the same bits.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), uint8, float16, float32 or float64
        Finite.  Or CSR, float32 or float64, as `gpukmeans.arrays.sparse.canonical` returns it.

    Returns
    -------
    unit : ndarray, or CSR with the same entries, of shape (n_samples, n_features)
        float32 for float32 rows, else float64: each value is rounded to it at the end, so that lengths are one only to
        about a unit in the last place.
    largest : ndarray of shape (n_samples,), float64

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans.exact.unit_rows import unit_rows
    >>> unit, largest = unit_rows(np.array([[3.0, 4.0], [0.0, 0.0], [0.0, -1e-320]]))
    >>> unit
    array([[ 0.6,  0.8],
           [ 0. ,  0. ],
           [ 0. , -1. ]])
    >>> int(np.flatnonzero(largest == 0.0)[0])
    1
    """
    if not isinstance(X, np.ndarray):
        return _unit_csr(X)
    n, d = X.shape
    unit = np.empty((n, d), center_dtype(X.dtype))
    largest = np.empty(n)

    def scale(part: slice) -> None:
        values = X[part].astype(np.float64)
        largest[part] = np.maximum(values.max(axis=1), -values.min(axis=1))
        exponents = np.frexp(largest[part])[1]
        np.ldexp(values, -exponents[:, None], out=values)
        lengths = np.sqrt(warp_order_sum(values * values))
        lengths[lengths == 0.0] = 1.0
        unit[part] = np.divide(values, lengths[:, None], out=values)

    with workers(X.size) as pool:
        pool.map(scale, blocks(n, d))
    return unit, largest


def _unit_csr(X: Any) -> tuple[Any, F64]:
    """`unit_rows` of CSR, from the stored entries: the others add nothing to a lane."""
    n, data = X.shape[0], np.empty(len(X.data), X.dtype)
    largest = np.zeros(n)
    for part in parts_of(n, CSR_ROWS):
        ends = X.indptr[part.start : part.stop + 1]
        entries = slice(ends[0], ends[-1])
        values = X.data[entries].astype(np.float64)
        n_rows = part.stop - part.start
        rows = np.repeat(np.arange(n_rows), np.diff(ends))
        np.maximum.at(largest[part], rows, np.abs(values))
        np.ldexp(values, -np.frexp(largest[part])[1][rows], out=values)
        lane = rows * WARP + X.indices[entries] % WARP
        lanes = np.bincount(lane, values * values, n_rows * WARP).astype(np.float64)  # entry by entry, in order
        lengths = np.sqrt(warp_order_sum(lanes.reshape(n_rows, WARP)))
        lengths[lengths == 0.0] = 1.0  # of rows whose stored entries are zeros
        data[entries] = values / lengths[rows]
    return type(X)((data, X.indices, X.indptr), shape=X.shape, copy=False), largest


def unit_centers(centers: NDArray, before: NDArray) -> NDArray:
    """Centers scaled to unit length, in their dtype; for a center of length zero the one `before` is returned.

    One whose length is one up to rounding stays as it is: the mean of equal rows is that row, and the fit ends there.
    """
    unit, largest = unit_rows(centers)
    still = largest == 0.0
    unit[still] = before[still]
    lengths = np.sqrt(warp_order_sum(centers.astype(np.float64) ** 2))
    whole = np.abs(lengths - 1.0) <= 4.0 * np.finfo(centers.dtype).eps
    unit[whole] = centers[whole]
    return unit
