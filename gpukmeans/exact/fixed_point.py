"""Exact sums of products of floats, many at a time: floats as whole numbers of a common unit, cut into limbs.

Every float64 is a whole number times a power of two.  Values that share one power are whole numbers of up to some
hundred bits; cut into limbs of about 20 bits they are multiplied and added by ordinary float64 operations, none of
which rounds.  So NumPy decides what rounding leaves open without a Python integer for each value.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64, I64
from gpukmeans.threads import parts_of

#: The most bits of a limb.
MOST_BITS = 24
#: Values that are multiplied at a time: they should stay in a core's cache.
TOGETHER = 1 << 17

#: Limbs on top of a distance that leave its highest as small as the others, so that many may be added.
MORE = 3

#: Exponents (low, high) of numbers that are multiples of 2**low and less than 2**high in magnitude.
Range = tuple[int, int]


def range_of(*arrays: NDArray) -> Range | None:
    """The exponents of all values that are not zero; None if there are none.

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans.exact.fixed_point import range_of
    >>> range_of(np.array([6.0, 0.0, -0.75]))
    (-2, 3)
    """
    smallest, largest = np.inf, 0.0
    for values in arrays:
        for part in parts_of(values.size, TOGETHER):
            some = np.abs(values.reshape(-1)[part].astype(np.float64))
            largest = max(largest, float(some.max()))
            bits = some.view(np.int64)
            without_last = (bits & (bits - 1)).view(np.float64)  # where the fraction has a bit, the lowest is cleared
            last = np.where(bits & ((1 << 52) - 1), some - without_last, some)
            smallest = min(smallest, float(last.min(where=last > 0.0, initial=np.inf)))
    return (math.frexp(smallest)[1] - 1, math.frexp(largest)[1]) if largest else None


def union(ranges: Iterable[Range | None]) -> Range | None:
    """The range of all values of some sets, from those of the sets."""
    known = [r for r in ranges if r is not None]
    return (min(low for low, _ in known), max(high for _, high in known)) if known else None


@dataclass(frozen=True)
class FixedPoint:
    """A format that holds some floats exactly: multiples of ``2**unit`` in `n_limbs` limbs of `bits` bits.

    Limb l of a value counts 2**(unit + bits * l) and has its sign.
    """

    unit: int
    bits: int
    n_limbs: int

    @classmethod
    def for_products(cls, n_terms: int, *ranges: Range | None) -> FixedPoint:
        """The format of all values in these ranges, for sums of `n_terms` products of two differences of such values.

        The sums of products of limbs that belong together are whole numbers below 2**53: each factor is less than
        2**(bits + 1), and each of at most `n_limbs` pairs of limbs has `n_terms` terms.
        """
        low, high = union(ranges) or (0, 1)
        bits = MOST_BITS
        while max(1, n_terms) * -(-(high - low) // bits) * 4 ** (bits + 1) > 2**53:
            bits -= 1
        return cls(low, bits, -(-(high - low) // bits))

    def limbs(self, values: F64) -> F64:
        """The limbs of `values`, (n_limbs, *values.shape), the lowest first; they are whole numbers."""
        out = np.empty((self.n_limbs, *values.shape))
        left = values
        for limb in range(self.n_limbs - 1, 0, -1):
            exponent = self.unit + self.bits * limb
            np.trunc(_scaled(left, -exponent), out=out[limb])
            left = left - _scaled(out[limb], exponent)
        out[0] = _scaled(left, -self.unit)
        return out


def _scaled(values: F64, exponent: int) -> F64:
    """values * 2**exponent, where the power alone may be beyond float64."""
    half = exponent // 2 if abs(exponent) > 1000 else 0
    scaled = values * 2.0 ** (exponent - half)
    return scaled * 2.0**half if half else scaled


def carried(sums: Sequence[F64], bits: int, more: int = 0) -> I64:
    """Numbers as the limbs that stand for them alone: in [0, 2**bits) but for the highest, which has the sign.

    Two numbers compare as their limbs do, the highest first.

    Parameters
    ----------
    sums : sequence of n_limbs arrays of shape (n,), float64
        Whole numbers below 2**53 in magnitude, the lowest limb first.
    bits : int
    more : int
        Limbs that are put on top, to keep the highest small.

    Returns
    -------
    ndarray of shape (n_limbs + more, n), int64
    """
    out = np.empty((len(sums) + more, len(sums[0])), np.int64)
    carry = np.zeros(len(sums[0]), np.int64)
    for i in range(len(out)):
        if i < len(sums):
            carry += sums[i].astype(np.int64)
        if i == len(out) - 1:
            out[i] = carry
        else:
            np.bitwise_and(carry, (1 << bits) - 1, out=out[i])
            carry >>= bits
    return out


def number_of(limbs: Sequence[int], bits: int) -> int:
    """The number that limbs stand for, the lowest first; they may be larger than `bits` bits.

    Examples
    --------
    >>> from gpukmeans.exact.fixed_point import number_of
    >>> number_of([1, 2, 3], 4) == 1 + 2 * 16 + 3 * 256
    True
    """
    number = 0
    for limb in reversed(limbs):
        number = (number << bits) + limb
    return number


def first_smallest(numbers: I64, starts: NDArray[np.intp]) -> NDArray[np.intp]:
    """The position of the smallest number of each group, of equal ones the first.

    Parameters
    ----------
    numbers : ndarray of shape (n_limbs, n), int64
        As `carried` returns them.
    starts : ndarray of shape (n_groups,)
        Where groups begin; none is empty.
    """
    n = numbers.shape[1]
    sizes = np.diff(np.append(starts, n))
    may = np.ones(n, bool)
    for limb in numbers[::-1]:
        values = np.where(may, limb, np.iinfo(np.int64).max)
        may &= values == np.repeat(np.minimum.reduceat(values, starts), sizes)
    positions = np.flatnonzero(may)
    return positions[np.searchsorted(positions, starts)]


def square_distances(
    rows: F64, centers: F64, row: NDArray[np.intp], center: NDArray[np.intp], form: FixedPoint, more: int = 0
) -> I64:
    """|x - c|^2 of pairs of a row and a center, exactly: limbs as of `carried`, the lowest counts 2**(2 * form.unit).

    Parameters
    ----------
    rows, centers : ndarray of shape (n_rows, n_features) and (n_centers, n_features), float64
    row, center : ndarray of shape (n_pairs,)
        `row` does not fall.
    form : FixedPoint
        Of `n_features` products of these values.
    more : int
        As of `carried`.
    """
    # Features first: sums over them run along the pairs, however few features there are.
    c = form.limbs(np.ascontiguousarray(centers.T))
    n_limbs, n_features = form.n_limbs, rows.shape[1]
    out = np.empty((2 * n_limbs - 1 + more, len(row)), np.int64)
    for part in parts_of(len(row), max(16, TOGETHER // (n_limbs * n_features))):
        first, last = row[part][0], row[part][-1]
        x = form.limbs(np.ascontiguousarray(rows[first : last + 1].T))
        difference = x.take(row[part] - first, axis=2)
        difference -= c.take(center[part], axis=2)
        out[:, part] = carried(_squares(difference), form.bits, more)
    return out


def _squares(limbs: F64) -> list[F64]:
    """The limbs of the sum of squares over the second axis of (n_limbs, n_features, n)."""
    n_limbs, _, n = limbs.shape
    sums = [np.zeros(n) for _ in range(2 * n_limbs - 1)]
    filled = [bool(limb.any()) for limb in limbs]
    for i in range(n_limbs):
        for j in range(i, n_limbs):
            if filled[i] and filled[j]:
                products = np.einsum("fp,fp->p", limbs[i], limbs[j])
                sums[i + j] += products if i == j else 2.0 * products
    return sums


def squares(vectors: NDArray, form: FixedPoint) -> I64:
    """|v|^2 of dense vectors, (n_vectors, n_features), from their values that are not zero: limbs as of `carried`."""
    owner, column = np.nonzero(vectors)
    values = vectors[owner, column].astype(np.float64)
    return carried(products_by_owner(values, values, owner, len(vectors), form), form.bits)


def products_by_owner(a: F64, b: F64, owner: NDArray[np.intp], n_owners: int, form: FixedPoint) -> list[F64]:
    """The sum of a * b for each owner, exactly: the limbs for `carried`, the lowest first.

    Parameters
    ----------
    a, b, owner : ndarray of shape (n_products,)
        Of float64, float64 and indices.
    form : FixedPoint
        Of as many products as an owner has.
    """
    sums = [np.zeros(n_owners) for _ in range(2 * form.n_limbs - 1)]
    for part in parts_of(len(a), TOGETHER):
        left, right = form.limbs(a[part]), form.limbs(b[part])
        for i, x in enumerate(left):
            for j, y in enumerate(right):
                sums[i + j] += np.bincount(owner[part], x * y, n_owners)
    return sums
