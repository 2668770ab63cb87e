"""Totals of terms that come in blocks: the bits of `exact_total` of all terms, however they are grouped.

`exact_total` rounds each term to a grid that depends on the largest of all, which no block knows.  A `Total` therefore
keeps one pair of limbs for every grid that the largest term may still ask for: a few up to `top`, which bounds all
terms; more than ``2 * bits`` steps beyond its own largest term a block rounds to zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpukmeans.arrays.types import F64, I64
from gpukmeans.exact.sums import MIN_EXPONENT, Grid, power_of_two_above

#: Terms that are added at a time: they stay in a core's cache.
TOGETHER = 1 << 15


@dataclass(frozen=True)
class Total:
    """The sum of some of `n_terms` non-negative terms.

    Attributes
    ----------
    n_terms : int
        All of them, in this total and in those that are added to it.
    top : int
        Every term is less than 2**top.
    base : int
        The terms of this total are less than 2**base.
    limbs : ndarray of shape (n_grids, 2), int64
        Sums of the limbs on the grids of the largest terms 2**base, 2**(base + 1) and so on; zero on all further ones.
    """

    n_terms: int
    top: int
    base: int
    limbs: I64

    @classmethod
    def of(cls, terms: F64, n_terms: int, top: int) -> Total:
        """The total of a block of terms."""
        some = bool(terms.any())  # zeros alone must not widen the grid of other blocks
        base = int(power_of_two_above(float(terms.max()))) if some else MIN_EXPONENT
        bits = Grid.limb_bits(n_terms)
        n_grids = max(1, min(top - base, 2 * bits + 1) + 1) if some else 1
        limbs = np.zeros((n_grids, 2), np.int64)
        for start in range(0, len(terms), TOGETHER):
            part = terms[start : start + TOGETHER, None]
            for step in range(n_grids):
                grid = Grid(np.ldexp(np.ones(1), bits - base - step), bits, 2)
                for place, limb in enumerate(grid.limbs(part)):
                    limbs[step, place] += limb.astype(np.int64).sum()
        return cls(n_terms, top, base, limbs)

    def __add__(self, other: Total) -> Total:
        base = max(self.base, other.base)
        mine, its = self.limbs[base - self.base :], other.limbs[base - other.base :]
        limbs = np.zeros((max(len(mine), len(its), 1), 2), np.int64)
        limbs[: len(mine)] += mine
        limbs[: len(its)] += its
        return Total(self.n_terms, self.top, base, limbs)

    def value(self) -> float:
        """`gpukmeans.exact.sums.exact_total` of all terms added so far."""
        bits = Grid.limb_bits(self.n_terms)
        return float(Grid(np.ldexp(np.ones(1), bits - self.base), bits, 2).value(self.limbs[0][:, None])[0])
