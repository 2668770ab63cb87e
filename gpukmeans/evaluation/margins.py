"""How near each row is to its center and to the next one: the margin by which it belongs to its cluster."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpukmeans.arrays.magnitude import times_power, unit_exponent
from gpukmeans.arrays.types import F64, I64
from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.evaluation.classes import checked_labels, rows_by_cluster
from gpukmeans.exact.fixed_point import FixedPoint, carried, range_of, union
from gpukmeans.intake.checks import check_rows_on_host
from gpukmeans.threads import parts_of

#: Values of rows that are taken at a time: with their limbs they should stay in a core's cache.
_TOGETHER = 1 << 18
#: Limbs on top of a square distance, so that differences of two keep their sign.
_MORE = 1


class Margins(NamedTuple):
    """Of each row; every number is rounded once from its true value.

    Attributes
    ----------
    distance : ndarray of shape (n_samples,), float64
        Euclidean, to the center of its cluster.
    second : ndarray of shape (n_samples,), int64
        The nearest of the other centers (ties: the lowest index); -1 if there is no other.
    margin : ndarray of shape (n_samples,), float64
        Distance to `second` minus `distance`: 0 for ties, NaN if there is no other center. Negative only where the
        label is not that of the nearest center.
    """

    distance: F64
    second: NDArray[np.int64]
    margin: F64


def margins(X: ArrayLike, labels: ArrayLike, centers: ArrayLike) -> Margins:
    """Compare each row's distance to its own center with that to the nearest other center.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Dense rows.
    labels : array-like of shape (n_samples,), int
        The cluster of each row.
    centers : array-like of shape (n_clusters, n_features)

    Returns
    -------
    Margins

    Raises
    ------
    ValueError
        Shapes do not fit each other, or a label has no center.

    Notes
    -----
    Square distances and their differences are exact, and roots have twice the digits of float64: the margin of a tie is
    0, and that of a near tie has all its digits.

    Examples
    --------
    >>> from gpukmeans.evaluation import margins
    >>> found = margins([[0.0], [2.0], [5.0]], [0, 0, 1], [[0.0], [4.0], [9.0]])
    >>> found.distance.tolist(), found.second.tolist(), found.margin.tolist()
    ([0.0, 2.0, 1.0], [1, 1, 2], [4.0, 0.0, 3.0])
    """
    rows = check_rows_on_host(X, "margins")
    C = check_rows_on_host(centers, "margins").astype(np.float64)
    own, _ = checked_labels(labels, len(C))
    if rows.shape[0] != len(own) or rows.shape[1] != C.shape[1]:
        raise ValueError(
            f"X has shape {rows.shape}, labels {own.shape} and centers {C.shape}; expected (n_samples, n_features), "
            "(n_samples,) and (n_clusters, n_features)"
        )
    rows = rows if rows.dtype in (np.uint8, np.float64) else rows.astype(np.float64)
    exponent = unit_exponent(rows, C)
    if exponent:
        rows, C = times_power(rows, exponent), times_power(C, exponent)
    second = _nearest_others(rows, own, C)
    form = FixedPoint.for_products(C.shape[1], union([range_of(rows), range_of(C)]))
    top = form.unit + form.bits * form.n_limbs  # distances in units of 2**top are near one, at most
    near = _square_distances(rows, C, own, form)
    root = _root(_double_of(near, form))
    distance, margin = times_power(root[0], top - exponent), np.full(len(rows), np.nan)
    if len(C) > 1:
        far = _square_distances(rows, C, second, form)
        both = _sum(root, _root(_double_of(far, form)))
        margin = times_power(_quotient(_double_of(far - near, form), both), top - exponent)
    return Margins(distance, second, margin)


def _nearest_others(rows: NDArray, own: I64, centers: F64) -> NDArray[np.int64]:
    """The nearest center but its own of each row, exactly: by labelling the rows of each cluster without its center."""
    second = np.full(len(rows), -1)
    if len(centers) == 1:
        return second
    backend = NumpyBackend()
    for cluster, members in rows_by_cluster(own, len(centers)):
        run = backend.load(rows[members], sums=False).start(np.delete(centers, cluster, axis=0))
        run.assign(move=False)
        found = run.labels().astype(np.int64)
        second[members] = found + (found >= cluster)
    return second


def _square_distances(rows: NDArray, centers: F64, labels: I64, form: FixedPoint) -> I64:
    """|x - c|^2 of each row and the center of its label, exactly: limbs as of `fixed_point.carried`.

    It is |x|^2 - 2 x.c + |c|^2, where products of limbs with one center are left to BLAS: they are whole numbers, whose
    sums stay below 2**53 in any order.
    """
    n_limbs, n_features = form.n_limbs, centers.shape[1]
    out = np.empty((2 * n_limbs - 1 + _MORE, len(rows)), np.int64)
    for cluster, members in rows_by_cluster(labels, len(centers)):
        c = form.limbs(centers[cluster])
        minus_two_c = -2.0 * c.T
        for part in parts_of(len(members), max(1, _TOGETHER // (n_limbs * n_features))):
            some = members[part]
            x = form.limbs(rows[some].astype(np.float64))
            sums = [np.zeros(len(some)) for _ in range(2 * n_limbs - 1)]
            filled = [limb for limb in range(n_limbs) if x[limb].any()]
            for i, j in np.ndindex(n_limbs, n_limbs):
                sums[i + j] += c[i] @ c[j]
            for i in filled:
                products = x[i] @ minus_two_c
                for j in range(n_limbs):
                    sums[i + j] += products[:, j]
                for j in filled:
                    sums[i + j] += np.vecdot(x[i], x[j])
            out[:, some] = carried(sums, form.bits, _MORE)
    return out


# ---- numbers of twice the digits: pairs (high, low) of float64; T. J. Dekker, Numerische Mathematik 18, 1971 ---------

_Pair = tuple[F64, F64]


def _double_of(limbs: I64, form: FixedPoint) -> _Pair:
    """Numbers in limbs, the lowest first, which may be negative, in units of 2**(2 * bits * n_limbs) of the lowest."""
    total: _Pair = (np.zeros(limbs.shape[1]), np.zeros(limbs.shape[1]))
    for place in range(len(limbs) - 1, -1, -1):
        scaled = np.ldexp(limbs[place].astype(np.float64), form.bits * (place - 2 * form.n_limbs))
        total = _sum(total, (scaled, np.zeros_like(scaled)))
    return total


def _two_sum(a: F64, b: F64) -> _Pair:
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def _two_product(a: F64, b: F64) -> _Pair:
    def halves(x: F64) -> _Pair:
        t = x * 134217729.0  # 2**27 + 1
        high = t - (t - x)
        return high, x - high

    p = a * b
    (a1, a2), (b1, b2) = halves(a), halves(b)
    return p, ((a1 * b1 - p) + a1 * b2 + a2 * b1) + a2 * b2


def _sum(a: _Pair, b: _Pair) -> _Pair:
    s, e = _two_sum(a[0], b[0])
    t, f = _two_sum(a[1], b[1])
    s, e = _two_sum(s, e + t)
    return _two_sum(s, e + f)


def _root(a: _Pair) -> _Pair:
    """The square root: one step of Newton's from that in float64."""
    first = np.sqrt(a[0])
    p, e = _two_product(first, first)
    left = ((a[0] - p) - e) + a[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        return _two_sum(first, np.where(first > 0.0, left / (2.0 * first), 0.0))


def _quotient(a: _Pair, b: _Pair) -> F64:
    """a / b, rounded once; 0 where a is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        first = np.where(a[0] == 0.0, 0.0, a[0] / b[0])
        p, e = _two_product(first, b[0])
        left = (((a[0] - p) - e) + a[1]) - first * b[1]
        return np.where(a[0] == 0.0, 0.0, first + left / b[0])
