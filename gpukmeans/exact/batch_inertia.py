"""The inertia of a batch: the true sum of squared distances, rounded to 32 significant bits.

Mini-batch k-means needs it for its stopping rules, for which a cheap evaluation with a proved error is enough.  To end
in the same bits, every backend rounds the same real number: if both bounds of an evaluation round to the same value,
this is the result.  Otherwise a more precise evaluation follows, the last of them in whole numbers.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64
from gpukmeans.certificates.rounding import SLACK, SQUARE_UNDERFLOW, UNIT64, gamma
from gpukmeans.exact.fixed_point import MORE, FixedPoint, number_of, range_of, square_distances
from gpukmeans.exact.sums import two_product
from gpukmeans.exact.warp_order import WARP
from gpukmeans.threads import parts_of

#: Significant bits of the result.  Two evaluations of error 2**-44 leave one in some thousand sums open.
BITS = 32
#: The fraction of a unit from which on values are rounded up, in units of 2**-20, so that floats represent it exactly.
#: Inertias of small whole numbers are far from it, but would often be at one half.
TURNING = 648019
#: Rows whose distances are computed at a time.
ROWS = 4096
#: Magnitudes between which neither a product of three, one of them a count, nor its error over- or underflows.
PRODUCTS = (2.0**-450, 2.0**480)


def rounded(value: float) -> float:
    """A value >= 0 rounded to `BITS` significant bits; up from `TURNING` on.

    Examples
    --------
    >>> from gpukmeans.exact.batch_inertia import rounded
    >>> rounded(3.0), rounded(1.0 + 2.0**-32), rounded(1.0 + 0.75 * 2.0**-31) - 1.0 == 2.0**-31
    (3.0, 1.0, True)
    """
    mantissa, exponent = math.frexp(value)
    return math.ldexp(math.floor(math.ldexp(mantissa, BITS) + (1.0 - TURNING * 2.0**-20)), exponent - BITS)


def rounded_within(value: float, error: float) -> float | None:
    """The value that all numbers >= 0 within `error` of `value` are `rounded` to; None if there are several."""
    if not math.isfinite(value + error):
        return None
    lower, upper = (rounded(max(0.0, value + sign * error)) for sign in (-1.0, 1.0))
    return lower if lower == upper else None


def from_sums(squares: F64, centers: F64, sums: F64, weights: F64) -> float | None:
    """The inertia by the sums of the clusters: sum of |x|^2 + sum of c.(w c - 2 s); None if that leaves it open.

    Parameters
    ----------
    squares : ndarray of shape (n_samples,), float64
        |x|^2 of the rows, summed over the features in any order.
    centers : ndarray of shape (n_clusters, n_features), float64
        Finite, also those of clusters without rows.
    sums, weights : ndarray of shape (n_clusters, n_features) and (n_clusters,), float64
        Of the rows of each cluster, each within one rounding of the true ones; rows weigh 1.

    Notes
    -----
    Each |x|^2 is within gamma(d) of itself.  c.(w c - 2 s) takes one rounding for s, one for w c, one for their
    difference, d for the product: within gamma(d + 3) |c| (w |c| + 2 |s|), by Cauchy and Schwarz.  `math.fsum` rounds
    once.
    """
    d = centers.shape[1]
    inner = np.vecdot(centers, weights[:, None] * centers - 2.0 * sums)
    norms, sum_norms = (np.sqrt(np.vecdot(v, v)) for v in (centers, sums))
    magnitude = float(squares.sum() + (norms * (weights * norms + 2.0 * sum_norms)).sum())
    value = math.fsum(np.concatenate([squares, inner]).tolist())
    return rounded_within(value, SLACK * gamma(d + 8.0, UNIT64) * magnitude + SQUARE_UNDERFLOW)


def from_distances(total: float, n_features: int) -> float | None:
    """The inertia by the exact total of squared distances in warp order (`Run.inertia`); None if that leaves it open.

    Parameters
    ----------
    total : float
    n_features : int

    Notes
    -----
    A term (x - c)^2 takes two roundings for the difference, as it is squared, and one for the square; then follow
    ceil(d / 32) + 5 sums, one product with a weight, and two roundings in the total.
    """
    return rounded_within(total, SLACK * gamma(math.ceil(n_features / WARP) + 12.0, UNIT64) * total + SQUARE_UNDERFLOW)


def from_entries(
    values: NDArray, labels: NDArray[np.integer], columns: NDArray[np.integer], centers: NDArray, counts: F64
) -> float | None:
    """The inertia by the stored entries of sparse rows, with one rounding: sum of x (x - 2 c) + sum of n |c|^2.

    Slower than `from_sums` and `from_distances`, but it reads no dense row.  None if it leaves the inertia open (one in
    a million), or if a part of a product might be too small for a float.

    Parameters
    ----------
    values, labels, columns : ndarray of shape (n_entries,)
        For each entry its value, the cluster of its row, and its column.
    centers : ndarray of shape (n_clusters, n_features)
    counts : ndarray of shape (n_clusters,), float64
        The number of rows in each cluster.

    Notes
    -----
    Products are split into two floats without error (T. J. Dekker, 1971); `math.fsum` rounds their sum once.
    """
    x = values.astype(np.float64)
    c = centers[labels, columns].astype(np.float64)
    used = np.flatnonzero(counts)
    own = centers[used].astype(np.float64)
    cluster, column = np.nonzero(own)
    own, n = own[cluster, column], counts[used][cluster]
    magnitudes = np.abs(np.concatenate([x[x != 0.0], own]))
    if magnitudes.size and not PRODUCTS[0] < magnitudes.min() <= magnitudes.max() < PRODUCTS[1]:
        return None
    high, low = two_product(own, own)
    terms = [*two_product(x, x), *two_product(-2.0 * x, c), *two_product(n, high), *two_product(n, low)]
    value = math.fsum(np.concatenate(terms).tolist())
    return rounded_within(value, 2.0**-52 * value)


def in_whole_numbers(X: NDArray, centers: NDArray, labels: NDArray[np.int32]) -> float:
    """The inertia in whole numbers of unlimited size, which leave nothing open; rarely needed.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    centers : ndarray of shape (n_clusters, n_features)
    labels : ndarray of shape (n_samples,), int32
    """
    form = FixedPoint.for_products(X.shape[1], range_of(X), range_of(centers))
    wide, total = centers.astype(np.float64), 0
    for part in parts_of(len(X), ROWS):
        row = np.arange(part.stop - part.start)
        limbs = square_distances(X[part].astype(np.float64), wide, row, labels[part].astype(np.intp), form, MORE)
        total += number_of(limbs.sum(axis=1).tolist(), form.bits)
    return _rounded_whole(total, -2 * form.unit)


def _rounded_whole(total: int, shift: int) -> float:
    """`rounded` of ``total * 2**-shift``."""
    spare = total.bit_length() - BITS
    if spare <= 0:
        return math.ldexp(total, -shift)
    rest = total & ((1 << spare) - 1)
    return math.ldexp((total >> spare) + (rest << 20 >= TURNING << spare), spare - shift)
