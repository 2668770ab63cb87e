"""Costs of segments of numbers in rising order: what each loses when its mean stands for all.

The cost is Q - S^2 / N, with the sums Q of w x^2, S of w x and N of w.  These are prefix sums of integers on a grid,
taken to twice the precision of float64, so that a common offset of the numbers cancels nothing that matters.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64, I64
from gpukmeans.exact.midpoints import two_sum
from gpukmeans.exact.sums import Grid, two_product


class Segments:
    """Costs of the segments of some distinct numbers.

    Parameters
    ----------
    x : ndarray of shape (n,), float64
        In rising order.
    weight : ndarray of shape (n,), float64
        Positive.

    Attributes
    ----------
    x : ndarray of shape (n_distinct,), float64
        The distinct numbers; segments begin and end between these, at places from 0 to n_distinct.
    error : float
        Each cost is within ``error + 2**-51 * cost`` of its value.

    Notes
    -----
    Numbers are taken less one of them, a difference of two floats whose rounding error is kept.  Let u, v and w be the
    units of the grids of Q, S and N, and R the largest magnitude.  A prefix sum of n terms is off by less than n units
    (each term is rounded to the grid, once, and was right to 2**-98 before); so Q by 2 n u, S^2 / N by
    2 (4 R n v + 2 R^2 n w), as |S| is at most R N and v at most 2 R w, where N is more than 8 n w; lighter segments
    cost less than 10 R^2 n w and count as free.  Products and quotients in two floats are right to 2**-98 of Q.
    """

    def __init__(self, x: F64, weight: F64) -> None:
        self._rows, self._weight = x, weight
        starts = np.flatnonzero(np.concatenate([[True], x[1:] != x[:-1]]))
        self.x = x[starts]
        self._places = np.append(starts, len(x))
        self._shift = shift = x[len(x) // 2]
        high, low = two_sum(x, np.full(len(x), -shift))
        once, once_low = two_product(weight, high)
        square, square_low = two_product(high, high)
        twice, twice_low = two_product(weight, square)
        terms = [
            (twice, twice_low + weight * (square_low + 2.0 * high * low)),
            (once, once_low + weight * low),
            (weight, np.zeros(len(x))),
        ]
        self._sums = [_PrefixSums(*each, self._places) for each in terms]
        of_square, of_once, of_weight = (sums.unit for sums in self._sums)
        largest = float(np.abs(high).max())
        self._lightest = 8.0 * len(x) * of_weight
        roundings = 4.0 * len(x) * (of_square + 2.0 * largest * of_once + 3.0 * largest * largest * of_weight)
        self.error = roundings + 2.0**-94 * float(twice.sum())

    def costs(self, starts: I64, stops: I64) -> F64:
        """The costs of the segments from `starts` up to `stops`; 0 where these have no number or hardly a weight."""
        square, square_low = self._sums[0].between(starts, stops)
        once, once_low = self._sums[1].between(starts, stops)
        weight, weight_low = self._sums[2].between(starts, stops)
        some = (stops > starts) & (weight > self._lightest)
        weight = np.where(some, weight, 1.0)
        top, rest = two_product(once, once)
        rest += 2.0 * once * once_low
        quotient = top / weight
        product, error = two_product(quotient, weight)
        remainder = (((top - product) - error) + rest - quotient * weight_low) / weight
        return np.where(some, np.maximum((square - quotient) + (square_low - remainder), 0.0), 0.0)

    def means(self, cuts: I64) -> F64:
        """The means of the segments between some cuts, rounded; anything where these have hardly a weight."""
        once, weight = (sums.between(cuts[:-1], cuts[1:])[0] for sums in self._sums[1:])
        return self._shift + once / np.maximum(weight, self._lightest)

    def exact_means(self, cuts: I64) -> F64:
        """The means of the segments between some cuts, each rounded once."""
        sums, unit = self.exact_sums(cuts), Fraction(2) ** _whole_numbers(self._rows)[1]
        both = [[b - a for a, b in zip(*ends, strict=True)] for ends in pairwise(sums[cut] for cut in cuts.tolist())]
        return np.array([float(Fraction(once, weight) * unit) for once, weight in both])

    def exact_sums(self, places: I64) -> dict[int, tuple[int, int]]:
        """Sums of w x and of w before each of some rising places, as Python integers of two common units."""
        whole, weights = _whole_numbers(self._rows)[0], _whole_numbers(self._weight)[0]
        ends = [0, *self._places[places].tolist()]
        running_once = running_weight = 0
        found = {}
        for place, (start, stop) in zip(places.tolist(), pairwise(ends), strict=True):
            running_once += int((whole[start:stop] * weights[start:stop]).sum())
            running_weight += int(weights[start:stop].sum())
            found[place] = running_once, running_weight
        return found


class _PrefixSums:
    """Prefix sums of numbers in two floats each, on a grid of two limbs."""

    def __init__(self, high: F64, low: F64, places: I64) -> None:
        grid = Grid.for_largest(float(np.abs(high).max()), len(high))
        self._scale, self._bits = float(grid.scale[0]), grid.bits
        scaled = high * self._scale
        first = np.rint(scaled)
        second = np.rint(((scaled - first) + low * self._scale) * 2.0**self._bits)
        limbs = np.zeros((2, len(high) + 1), np.int64)
        np.cumsum(first.astype(np.int64), out=limbs[0, 1:])
        np.cumsum(second.astype(np.int64), out=limbs[1, 1:])
        self._limbs = limbs if len(places) == len(high) + 1 else limbs[:, places]
        self.unit = 2.0**-self._bits / self._scale

    def between(self, starts: I64, stops: I64) -> tuple[F64, F64]:
        """Sums from `starts` up to `stops`, each as two floats."""
        first = self._limbs[0].take(stops) - self._limbs[0].take(starts)
        second = self._limbs[1].take(stops) - self._limbs[1].take(starts)
        high = first.astype(np.float64)
        rest = (first - high.astype(np.int64)).astype(np.float64) + second * 2.0**-self._bits
        total, error = two_sum(high, rest)
        return total / self._scale, error / self._scale


def _whole_numbers(values: F64) -> tuple[NDArray[np.object_], int]:
    """Floats as Python integers of a common unit, and the exponent of this power of two."""
    fractions, exponents = np.frexp(values)
    whole = (fractions * 2.0**53).astype(np.int64).astype(object)
    return whole << (exponents - exponents.min()).astype(object), int(exponents.min()) - 53


def gain(sums: dict[int, tuple[int, int]], start: int, stop: int) -> Fraction:
    """S^2 / N of a segment, by which its cost is less than Q."""
    once, weight = (b - a for a, b in zip(sums[start], sums[stop], strict=True))
    return Fraction(once * once, weight)
