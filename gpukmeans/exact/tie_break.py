"""The decisions that float32 scores leave open: which of nearly equal distances is the smallest.

They are made in two steps: by float64 distances with their error radius, then, for those that float64 cannot separate,
exactly (fixed_point.py).  Every backend ends here, so all end in the same labels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import I64
from gpukmeans.certificates.rounding import SQUARE_UNDERFLOW
from gpukmeans.certificates.scores import exact_in_float64, square_distance_radius
from gpukmeans.exact.fixed_point import FixedPoint, first_smallest, range_of, square_distances
from gpukmeans.threads import blocks, parts_of

#: Differences of values that are taken at a time.
PAIRED = 1 << 18
#: Features from which a single difference is enough work for a call.
WIDE = 1 << 13

#: Columns of centers, evenly spaced, that are looked at first: where all differ there, no two are equal.
DIFFER = 64
#: Of so many rows equal ones are settled once, if there are any to speak of among the first.
MANY, SAMPLE = 256, 1024


def first_of_equal_rows(centers: NDArray) -> NDArray[np.int64]:
    """For each row, the lowest index of a row with equal values (-0.0 equals 0.0).

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans.exact.tie_break import first_of_equal_rows
    >>> first_of_equal_rows(np.array([[1.0, 2.0], [0.0, 0.0], [1.0, 2.0], [-0.0, 0.0]])).tolist()
    [0, 1, 0, 1]
    """
    n, d = centers.shape
    if d > 2 * DIFFER and len(distinct_rows(centers[:, :: d // DIFFER])[0]) == n:
        return np.arange(n)
    first, inverse = distinct_rows(centers)
    return first[inverse].astype(np.int64)


def distinct_rows(values: NDArray) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The first row of each set of equal rows (-0.0 equals 0.0), and the position of every row's set among these.

    If no two rows are equal, both are ``arange(n_rows)``.
    """
    n, d = values.shape
    # Powers of an odd number, which wrap around: in steps they would give small numbers equal sums in many ways.
    powers = np.full(d, 0x9E3779B97F4A7C15, np.uint64).cumprod()
    sums, parts = np.empty(n, np.uint64), blocks(n, d, 64)
    for part in parts:
        bits = _bits(values[part]).astype(np.uint64)
        bits ^= bits >> np.uint64(29)  # the low bits of whole numbers are zero
        bits *= powers
        np.add.reduce(bits, axis=1, out=sums[part])
    _, first, inverse = np.unique(sums, return_index=True, return_inverse=True)
    if len(first) < n and not all(np.array_equal(values[first[inverse[part]]], values[part]) for part in parts):
        keys = _bits(values).view(np.dtype((np.void, values.dtype.itemsize * d))).ravel()
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    if len(first) == n:
        return np.arange(n), np.arange(n)
    return first, inverse.ravel()


def _bits(values: NDArray) -> NDArray:
    """The bits of values, those of 0.0 for -0.0: a new array."""
    return (np.ascontiguousarray(values) + 0).view(np.dtype(f"u{values.dtype.itemsize}"))


def all_integers(values: NDArray) -> bool:
    """Whether every value is a whole number."""
    if values.dtype.kind in "iu":
        return True
    n_rows, n_columns = values.shape
    parts = [slice(0, 16), *blocks(n_rows, n_columns, 32)]  # of most that are none the first rows show it
    return all((values[part] == np.rint(values[part])).all() for part in parts)


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
    alive: I64,
    exact: bool,
    candidates: NDArray[np.bool_] | None = None,
    counts: I64 | None = None,
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
    counts : ndarray of shape (n_rows,), int64, default=None
        How many equal rows each one stands for; None: one.

    Returns
    -------
    labels : ndarray of shape (n_rows,), int32
    n_exact : int
        How many rows needed exact arithmetic.
    """
    first, inverse = distinct_rows(rows[:SAMPLE] if len(rows) >= MANY else rows[:0])
    if len(first) < 0.9 * len(inverse):
        if len(rows) > SAMPLE:
            first, inverse = distinct_rows(rows)
        of_distinct = None if candidates is None else _of_all_equal(candidates, inverse)
        labels, exactly = _resolve(rows[first], centers, alive, exact, of_distinct)
        labels, exactly = labels[inverse], exactly[inverse]
    else:
        labels, exactly = _resolve(rows, centers, alive, exact, candidates)
    return labels, int(np.count_nonzero(exactly) if counts is None else counts[exactly].sum())


def _of_all_equal(candidates: NDArray[np.bool_], inverse: NDArray[np.intp]) -> NDArray[np.bool_]:
    """The candidates of each set of equal rows: those that all of its rows have, the nearest center among them."""
    order = np.argsort(inverse, kind="stable")
    starts = np.flatnonzero(np.diff(inverse[order], prepend=-1))
    return np.logical_and.reduceat(candidates[order], starts, axis=0)


def _resolve(
    rows: NDArray, centers: NDArray, alive: I64, exact: bool, candidates: NDArray[np.bool_] | None
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """The labels of `resolve`, and which rows needed exact arithmetic."""
    labels, exactly = np.empty(len(rows), np.int32), np.zeros(len(rows), bool)
    radius = 0.0 if exact else square_distance_radius(rows.shape[1])
    underflow = 0.0 if exact else SQUARE_UNDERFLOW
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
        several = np.flatnonzero(open_.sum(axis=1) > 1)
        if len(several):
            labels[part.start + several] = alive[
                nearest_exactly(rows[part.start + several], centers[alive], open_[several])
            ]
            exactly[part.start + several] = True
    return labels, exactly


def nearest_exactly(rows: NDArray, centers: NDArray, candidates: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The nearest center of each row in real arithmetic; ties go to the lowest index.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_features)
    centers : ndarray of shape (n_clusters, n_features)
    candidates : ndarray of shape (n_rows, n_clusters), bool
        The centers that may be nearest to each row, one at least; others are not compared.

    Returns
    -------
    ndarray of shape (n_rows,), int64

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans.exact.tie_break import nearest_exactly
    >>> rows, centers = np.array([[0.1], [np.nextafter(0.1, 0)]]), np.array([[0.2], [0.0]])
    >>> nearest_exactly(rows, centers, np.ones((2, 2), bool)).tolist()
    [0, 1]
    """
    row, center = np.nonzero(candidates)
    used, center_used = np.unique(center, return_inverse=True)
    x, c = rows.astype(np.float64), centers[used].astype(np.float64)
    form = FixedPoint.for_products(x.shape[1], range_of(x), range_of(c))
    distances = square_distances(x, c, row, center_used, form)
    return center[first_smallest(distances, np.flatnonzero(np.diff(row, prepend=-1)))]
