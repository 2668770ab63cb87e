"""The nearest centers of a few rows, by all differences at once: no screen pays for them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpukmeans.certificates.rounding import SQUARE_UNDERFLOW
from gpukmeans.certificates.scores import square_distance_radius
from gpukmeans.exact.tie_break import first_of_equal_rows, resolve

#: Differences of values up to which this takes less time than screens.
FEW = 1 << 14


def nearest_of_few(X: NDArray, centers: NDArray) -> tuple[NDArray[np.int32], int] | None:
    """The true nearest center of each row (ties: the lowest index), and how many needed exact arithmetic.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features), uint8, float32 or float64
    centers : ndarray of shape (n_clusters, n_features)

    Returns
    -------
    labels : ndarray of shape (n_rows,), int32
    n_exact : int
        Or None instead of both, if a row is not finite.
    """
    difference = np.subtract(X[:, None, :], centers, dtype=np.float64)
    distances = np.vecdot(difference, difference)
    lowest = distances.min(axis=1, keepdims=True)
    if not np.isfinite(lowest).all():
        return None
    labels = distances.argmin(axis=1).astype(np.int32)
    radius = square_distance_radius(X.shape[1])
    within = distances - lowest <= radius * (distances + lowest) + SQUARE_UNDERFLOW
    open_rows = np.flatnonzero(np.count_nonzero(within, axis=1) > 1)
    if not len(open_rows):
        return labels, 0
    alive = np.flatnonzero(first_of_equal_rows(centers) == np.arange(len(centers)))
    labels[open_rows], n_exact = resolve(X[open_rows], centers, alive, False)
    return labels, n_exact
