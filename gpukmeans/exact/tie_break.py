"""The decisions that float32 scores leave open: which of nearly equal distances is the smallest.

They are made in two steps: by float64 distances with their error radius, then, for the very few that float64 cannot
separate, by error-free products and a correctly rounded sum.  Every backend ends here, so all end in the same labels.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from gpukmeans.certificates.rounding import SQUARE_UNDERFLOW
from gpukmeans.certificates.scores import exact_in_float64, square_distance_radius
from gpukmeans.exact.sums import two_product
from gpukmeans.threads import blocks, parts_of

#: Differences of values that are taken at a time.
PAIRED = 1 << 18
#: Features from which a single difference is enough work for a call.
WIDE = 1 << 13


def first_of_equal_rows(centers: NDArray) -> NDArray[np.int64]:
    """For each row, the lowest index of a row with equal values (-0.0 equals 0.0).

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans.exact.tie_break import first_of_equal_rows
    >>> first_of_equal_rows(np.array([[1.0, 2.0], [0.0, 0.0], [1.0, 2.0], [-0.0, 0.0]])).tolist()
    [0, 1, 0, 1]
    """
    values = np.ascontiguousarray(centers) + 0  # -0.0 becomes 0.0
    bits = values.view(np.dtype(f"u{values.dtype.itemsize}")).astype(np.uint64)
    odd = 2 * np.arange(values.shape[1], dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    if len(np.unique((bits * odd).sum(axis=1))) == len(values):  # a wrapping sum: equal rows have equal ones
        return np.arange(len(values))
    keys = values.view(np.dtype((np.void, values.dtype.itemsize * values.shape[1]))).ravel()
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return first[inverse.ravel()].astype(np.int64)


def all_integers(values: NDArray) -> bool:
    """Whether every value is a whole number."""
    if values.dtype.kind in "iu":
        return True
    n_rows, n_columns = values.shape
    return all(np.array_equal(values[s], np.rint(values[s])) for s in blocks(n_rows, n_columns, values.itemsize))


def largest_integer(X: NDArray) -> float:
    """The largest magnitude in X if every value is a whole number, else infinity."""
    if X.dtype == np.uint8:
        return 255.0
    return float(max(X.max(), -X.min())) if all_integers(X) else float("inf")


def exact_squares(largest: float, centers: NDArray) -> bool:
    """Whether float64 distances to `centers` carry no error, of rows whose `largest_integer` is `largest`."""
    d = centers.shape[1]
    within = exact_in_float64(d, largest) and exact_in_float64(d, float(np.abs(centers).max()))
    return within and all_integers(centers)


def resolve(
    rows: NDArray,
    centers: NDArray,
    alive: NDArray[np.int64],
    exact: bool,
    candidates: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.int32], int]:
    """The nearest center of each row, by float64 distances and, where these leave it open, exactly.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_features), uint8, float32 or float64
    centers : ndarray of shape (n_clusters, n_features), float32 or float64
    alive : ndarray of indices
        Indices of the centers that equal no center with a lower index, in rising order.
    exact : bool
        Whether float64 distances of these rows to these centers carry no error (see `exact_squares`).
    candidates : ndarray of shape (n_rows, n_alive), bool, default=None
        Which of the centers `alive` may be nearest to each row, at least one; None: any.

    Returns
    -------
    labels : ndarray of shape (n_rows,), int32
    n_exact : int
        How many rows needed exact arithmetic.
    """
    labels = np.empty(len(rows), np.int32)
    radius = 0.0 if exact else square_distance_radius(rows.shape[1])
    underflow = 0.0 if exact else SQUARE_UNDERFLOW
    n_exact = 0
    d = rows.shape[1]
    for part in blocks(len(rows), max(d, len(alive))):
        n = part.stop - part.start
        open_ = np.ones((n, len(alive)), bool) if candidates is None else candidates[part]
        distances = np.full(open_.shape, np.inf)
        of_row, of_center = np.nonzero(open_)
        if len(of_row) <= 8 * n or d >= WIDE:  # few candidates each, or much work for each: by pairs
            for some in parts_of(len(of_row), max(1, PAIRED // d)):
                pairs = of_row[some], of_center[some]
                difference = np.subtract(rows[part.start + pairs[0]], centers[alive[pairs[1]]], dtype=np.float64)
                distances[pairs] = np.vecdot(difference, difference)
        else:
            x = rows[part].astype(np.float64)
            for j in np.flatnonzero(open_.any(axis=0)):
                index = np.flatnonzero(open_[:, j])
                difference = x[index] - centers[alive[j]]
                distances[index, j] = np.einsum("ij,ij->i", difference, difference)
        best = distances.argmin(axis=1)  # of equal distances the lowest index
        labels[part] = alive[best]
        if exact:
            continue
        lowest = distances[np.arange(n), best][:, None]
        with np.errstate(invalid="ignore"):
            open_ = open_ & ~(distances - lowest > radius * (distances + lowest) + underflow)
        for i in np.flatnonzero(open_.sum(axis=1) > 1):
            choices = alive[np.flatnonzero(open_[i])]
            labels[part.start + i] = nearest_exactly(rows[part][i : i + 1], centers, [choices])[0]
            n_exact += 1
    return labels, n_exact


def nearest_exactly(rows: NDArray, centers: NDArray, candidates: list[NDArray]) -> NDArray[np.int32]:
    """The nearest center of each row in real arithmetic; ties go to the lowest index.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_features)
    centers : ndarray of shape (n_clusters, n_features)
    candidates : list of n_rows integer arrays
        The centers that may be nearest to each row, in rising order; others are not compared.

    Returns
    -------
    ndarray of shape (n_rows,), int32

    Notes
    -----
    |x - a|^2 - |x - b|^2 is a sum of products of floats.  Each product is split into two floats without error
    (T. J. Dekker, "A floating-point technique for extending the available precision", 1971) and `math.fsum`
    rounds the exact sum once (J. R. Shewchuk, "Adaptive precision floating-point arithmetic", 1997), so its sign
    is right.  Magnitudes where a product could under- or overflow go through `fractions.Fraction`.
    """
    labels = np.empty(len(rows), np.int32)
    for i, (x, choices) in enumerate(zip(rows, candidates, strict=True)):
        best = int(choices[0])
        for other in choices[1:]:
            if _square_distance_sign(x, centers[other], centers[best]) < 0:
                best = int(other)
        labels[i] = best
    return labels


def _square_distance_sign(x: NDArray, a: NDArray, b: NDArray) -> int:
    """Sign of |x - a|^2 - |x - b|^2 = sum(a*a) - sum(b*b) + sum(2x * (b - a)), exactly."""
    differs = a != b
    x, a, b = (v[differs].astype(np.float64) for v in (x, a, b))
    largest = max((float(np.abs(v).max(initial=0.0)) for v in (x, a, b)), default=0.0)
    nonzero = np.concatenate([np.abs(v[v != 0]) for v in (x, a, b)])
    smallest = float(nonzero.min(initial=1.0))
    if largest < 2.0**480 and smallest > 2.0**-450:
        total = math.fsum(
            np.concatenate([*two_product(a, a), *two_product(-b, b), *two_product(2 * x, b), *two_product(-2 * x, a)])
        )
        return (total > 0) - (total < 0)
    exact = sum(
        (Fraction(xi) - Fraction(ai)) ** 2 - (Fraction(xi) - Fraction(bi)) ** 2
        for xi, ai, bi in zip(x.tolist(), a.tolist(), b.tolist(), strict=True)
    )
    return (exact > 0) - (exact < 0)
