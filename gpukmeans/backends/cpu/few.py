"""The nearest centers of a few rows, or of rows with many features, in float64: no float32 screen pays for them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpukmeans.certificates.rounding import SQUARE_UNDERFLOW, UNIT64, gamma
from gpukmeans.certificates.scores import square_distance_radius
from gpukmeans.exact.tie_break import first_of_equal_rows, resolve

#: Rows, and differences of values, up to which this takes less time than screens.
FEW_ROWS, FEW = 16, 1 << 14


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
    labels[open_rows], n_exact = resolve(X[open_rows], centers, alive, False, within[np.ix_(open_rows, alive)])
    return labels, n_exact


def nearest_of_wide(
    X: NDArray, centers: NDArray, alive: NDArray[np.int64], exact: bool, candidates: NDArray[np.bool_] | None
) -> tuple[NDArray[np.int32], int]:
    """`gpukmeans.exact.tie_break.resolve`, with one product for all pairs before any difference.

    Notes
    -----
    Scores about the mean of the centers are off by gamma of n_features and some terms, times |x|^2 + |c|^2 and
    2 |x| |c|, which is no more; rows and centers that are shifted by a rounding of each value, 8 roundings of the same
    size.  The reach is twice that on either side.
    """
    wide = centers[alive].astype(np.float64)
    shift = wide.mean(axis=0)
    wide -= shift
    x = np.subtract(X, shift, dtype=np.float64)
    squares, own = np.vecdot(wide, wide), np.vecdot(x, x)
    with np.errstate(over="ignore", invalid="ignore"):  # scores that are no numbers leave all open
        scores = x @ (-2.0 * wide.T)
        scores += squares
        reach = (own + squares.max()) * (8.0 * gamma(X.shape[1] + 16.0, UNIT64)) + 4.0 * SQUARE_UNDERFLOW
        if candidates is not None:
            scores[~candidates] = np.inf
        open_ = ~(scores - scores.min(axis=1, keepdims=True) > reach[:, None])
    if candidates is not None:
        open_ &= candidates
    labels, n_exact = alive[open_.argmax(axis=1)].astype(np.int32), 0
    several = np.flatnonzero(np.count_nonzero(open_, axis=1) > 1)
    if len(several):
        labels[several], n_exact = resolve(X[several], centers, alive, exact, open_[several])
    return labels, n_exact
