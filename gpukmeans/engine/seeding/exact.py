"""Decisions of a seeding step in whole numbers of unlimited size, for those that float64 leaves open."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64, I64
from gpukmeans.backends.protocol import Rows
from gpukmeans.exact.fixed_point import (
    MORE,
    FixedPoint,
    carried,
    number_of,
    products_by_owner,
    range_of,
    square_distances,
    squares,
    union,
)
from gpukmeans.threads import parts_of

#: Rows whose terms are computed at a time.
BLOCK = 4096


class ExactPotentials:
    """Potentials in Python integers, and the decisions that follow from them: rarely needed.

    The potential of seeds is the sum over the rows of weight * min |x - seed|^2.  A run over the same rows finds the
    nearest seed of each row; only the distances to these are computed in fixed point.

    Parameters
    ----------
    rows : Rows
    sample_weight : ndarray of shape (n_samples,), float64, or None
        The weights that `rows` were loaded with.
    """

    def __init__(self, rows: Rows, sample_weight: F64 | None) -> None:
        self._rows = rows
        self._weight = sample_weight

    def locate(self, u: float, chosen: list[int]) -> int:
        """The first row at which the running sum of the potential of the seeds `chosen` reaches u times its total."""
        seeds, nearest = self._rows.take(np.array(chosen)), self._nearest(chosen)
        parts = parts_of(self._rows.n_samples, BLOCK)
        sums = [self._sum(np.arange(part.start, part.stop), seeds, nearest[part]) for part in parts]
        total, ratio = sum(sums), Fraction(u)
        running = 0
        for part, of_part in zip(parts, sums, strict=True):
            if (running + of_part) * ratio.denominator < total * ratio.numerator:
                running += of_part
                continue
            for row, term in enumerate(self._terms(np.arange(part.start, part.stop), seeds, nearest[part])):
                running += term
                if running * ratio.denominator >= total * ratio.numerator:
                    return part.start + row
        return self._rows.n_samples - 1

    def kept(self, ids: NDArray[np.int64], draws: F64, factor: int, chosen: list[int]) -> list[bool]:
        """Whether, for each row of `ids`, its draw times the potential is less than `factor` times its own term."""
        seeds, nearest = self._rows.take(np.array(chosen)), self._nearest(chosen)
        total = self._sum(np.arange(self._rows.n_samples), seeds, nearest)
        ratios = [Fraction(u) for u in draws.tolist()]
        terms = self._terms(ids, seeds, nearest[ids])
        return [r.numerator * total < factor * t * r.denominator for r, t in zip(ratios, terms, strict=True)]

    def smallest(self, ids: NDArray[np.int64], chosen: list[int]) -> int:
        """The position in `ids` of the row that leaves the smallest potential beside the seeds `chosen`.

        Of equal ones the first.
        """
        before = self._nearest(chosen)
        gains = []
        for candidate in ids.tolist():
            with_it = [*chosen, candidate]
            nearer = np.flatnonzero(self._nearest(with_it) == len(chosen))  # of equally near seeds the first is nearest
            seeds = self._rows.take(np.array(with_it))
            gains.append(
                self._sum(nearer, seeds, before[nearer]) - self._sum(nearer, seeds, np.full(len(nearer), len(chosen)))
            )
        return max(range(len(ids)), key=lambda t: (gains[t], -t))

    def _nearest(self, chosen: list[int]) -> NDArray[np.intp]:
        """The position of the seed nearest to every row, of equally near ones the first."""
        run = self._rows.start(self._rows.take(np.array(chosen)).astype(self._rows.center_dtype))
        run.assign(move=False)
        return run.labels().astype(np.intp)

    # ---- terms in fixed point ----------------------------------------------------------------------------------------

    def _sum(self, index: I64, seeds: NDArray, nearest: NDArray[np.intp]) -> int:
        """The sum of weight * |x - seed|^2 over some rows and a seed for each, as a Python integer on one grid."""
        total = 0
        for part, limbs in self._distances(index, seeds, nearest):
            if self._weight is None:
                total += number_of(limbs.sum(axis=1).tolist(), self._form.bits)
            else:
                form = self._weight_form
                weights = form.limbs(self._weight[index[part]]).astype(np.int64)
                for i, of_limb in enumerate((limbs @ weights.T).T.tolist()):
                    total += number_of(of_limb, self._form.bits) << form.bits * i
        return total

    def _terms(self, index: I64, seeds: NDArray, nearest: NDArray[np.intp]) -> list[int]:
        """The terms of `_sum`."""
        terms: list[int] = []
        for part, limbs in self._distances(index, seeds, nearest):
            some = [number_of(of_row, self._form.bits) for of_row in limbs.T.tolist()]
            if self._weight is not None:
                form = self._weight_form
                weights = form.limbs(self._weight[index[part]]).astype(np.int64).T.tolist()
                some = [t * number_of(w, form.bits) for t, w in zip(some, weights, strict=True)]
            terms += some
        return terms

    def _distances(self, index: I64, seeds: NDArray, nearest: NDArray[np.intp]) -> Iterator[tuple[slice, I64]]:
        """Parts of `index`, and |x - seed|^2 of their rows: see `carried`."""
        seeds = seeds.astype(np.float64)
        for part in parts_of(len(index), BLOCK):
            some, of_some = index[part], nearest[part]
            entries = self._rows.entries(some)
            if entries is None:
                x = self._rows.take(some).astype(np.float64)
                yield part, square_distances(x, seeds, np.arange(len(some)), of_some, self._form, MORE)
            else:
                yield part, self._of_entries(len(some), entries, seeds, of_some)

    def _of_entries(
        self, n_rows: int, entries: tuple[NDArray, NDArray, NDArray], seeds: F64, nearest: NDArray[np.intp]
    ) -> I64:
        """|x - seed|^2 from the stored entries of x alone: |seed|^2 plus the sum of x x - 2 x seed."""
        owner, columns, values = entries
        x, form = values.astype(np.float64), self._form
        used, place = np.unique(nearest, return_inverse=True)
        of_seeds = squares(seeds[used], form)
        own = products_by_owner(x, x, owner, n_rows, form)
        mixed = products_by_owner(x, seeds[nearest[owner], columns], owner, n_rows, form)
        return carried([q[place] + o - 2.0 * m for q, o, m in zip(of_seeds, own, mixed, strict=True)], form.bits, MORE)

    @cached_property
    def _form(self) -> FixedPoint:
        """Of all values of the rows."""
        ranges = []
        for part in parts_of(self._rows.n_samples, BLOCK):
            index = np.arange(part.start, part.stop)
            entries = self._rows.entries(index)
            ranges.append(range_of(self._rows.take(index) if entries is None else entries[2]))
        return FixedPoint.for_products(self._rows.n_features, union(ranges))

    @cached_property
    def _weight_form(self) -> FixedPoint:
        assert self._weight is not None
        return FixedPoint.for_products(1, range_of(self._weight))
