"""Rows scaled to unit length, in one fixed order of operations: the same bits on the host and on a device.

A row is brought to magnitudes below one by a power of two (which rounds nothing, and keeps squares from over- and
underflowing), its length is the rounded root of its squares summed in float64 and warp order, and every value is
divided by that once.  A row of zeros has no direction and stays as it is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpukmeans.exact_sums import F64, blocks, warp_order_sum
from gpukmeans.threads import workers


def unit_rows(X: NDArray) -> tuple[NDArray, F64]:
    """The rows of X scaled to unit length, and the largest magnitude of each row: 0 where it has no direction.

    kernels/unit_rows.cu does the same operations, for the same bits.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), uint8, float16, float32 or float64
        Finite.

    Returns
    -------
    unit : ndarray of shape (n_samples, n_features)
        float32 for float32 rows, else float64: each value is rounded to it at the end, so that lengths are one only to
        about a unit in the last place.
    largest : ndarray of shape (n_samples,), float64

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans.unit_rows import unit_rows
    >>> unit, largest = unit_rows(np.array([[3.0, 4.0], [0.0, 0.0], [0.0, -1e-320]]))
    >>> unit
    array([[ 0.6,  0.8],
           [ 0. ,  0. ],
           [ 0. , -1. ]])
    >>> int(np.flatnonzero(largest == 0.0)[0])
    1
    """
    n, d = X.shape
    unit = np.empty((n, d), np.float32 if X.dtype == np.float32 else np.float64)
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


def unit_centers(centers: NDArray, before: NDArray) -> NDArray:
    """Centers scaled to unit length, in their dtype; one of length zero stays where it was before."""
    unit, largest = unit_rows(centers)
    still = largest == 0.0
    unit[still] = before[still]
    return unit
