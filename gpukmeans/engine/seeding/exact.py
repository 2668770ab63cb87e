"""Decisions of a seeding step in whole numbers of unlimited size, for those that float64 leaves open."""

from __future__ import annotations

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

    def smallest(self, ids: NDArray[np.int64], chosen: list[int], nearer: I64 | None = None) -> int:
        """The position in `ids` of the row that leaves the smallest potential beside the seeds `chosen`.

        Of equal ones the first.  `nearer`, in rising order, has every row that one of `ids` is nearer to than its seed
        is, and may have others; without it a run finds them.
        """
        if nearer is None:  # of equally near seeds the first is nearest
            nearer = np.flatnonzero(self._nearest([*chosen, *ids.tolist()]) >= len(chosen))
        few = 2 * len(nearer) < self._rows.n_samples
        if few and len(nearer):
            own = self._nearest(chosen, self._rows.subset(nearer, sums=False))
        else:
            own = self._nearest(chosen)[nearer]
        gains = self._gains(nearer, own, self._rows.take(np.array(chosen)), self._rows.take(ids))
        return max(range(len(ids)), key=lambda t: (gains[t], -t))

    def _gains(self, index: I64, own: NDArray[np.intp], seeds: NDArray, candidates: NDArray) -> list[int]:
        """For each candidate the sum of weight * max(0, |x - seed|^2 - |x - candidate|^2) over some rows."""
        used, own = np.unique(own, return_inverse=True)
        with_candidates = np.concatenate([seeds[used], candidates])
        n_candidates = len(candidates)
        gains = [0] * n_candidates
        for part in parts_of(len(index), max(1, BLOCK // (1 + n_candidates))):
            some = index[part]
            which = np.empty((len(some), 1 + n_candidates), np.intp)
            which[:, 0], which[:, 1:] = own[part], len(used) + np.arange(n_candidates)
            limbs = self._distances(some.repeat(1 + n_candidates), with_candidates, which.reshape(-1))
            limbs = limbs.reshape(len(limbs), *which.shape)
            for t in range(n_candidates):
                gain = carried(list((limbs[:, :, 0] - limbs[:, :, 1 + t]).astype(np.float64)), self._form.bits)
                gain[:, gain[-1] < 0] = 0  # the highest limb has the sign
                gains[t] += self._weighted_sum(some, gain)
        return gains

    def _nearest(self, chosen: list[int], rows: Rows | None = None) -> NDArray[np.intp]:
        """The position of the seed nearest to every row, or to each of some `rows`; of equally near ones the first."""
        run = (rows or self._rows).start(self._rows.take(np.array(chosen)).astype(self._rows.center_dtype))
        run.assign(move=False)
        return run.labels().astype(np.intp)

    # ---- terms in fixed point ----------------------------------------------------------------------------------------

    def _sum(self, index: I64, seeds: NDArray, nearest: NDArray[np.intp]) -> int:
        """The sum of weight * |x - seed|^2 over some rows and a seed for each, as a Python integer on one grid."""
        parts = parts_of(len(index), BLOCK)
        return sum(self._weighted_sum(index[p], self._distances(index[p], seeds, nearest[p])) for p in parts)

    def _weighted_sum(self, index: I64, limbs: I64) -> int:
        """The sum of weight * number over at most `BLOCK` rows, each with a number given by its limbs."""
        if self._weight is None:
            return number_of(limbs.sum(axis=1).tolist(), self._form.bits)
        form = self._weight_form
        weights = form.limbs(self._weight[index]).astype(np.int64)
        sums = [number_of(of_limb, self._form.bits) for of_limb in (weights @ limbs.T).tolist()]
        return number_of(sums, form.bits)

    def _terms(self, index: I64, seeds: NDArray, nearest: NDArray[np.intp]) -> list[int]:
        """The terms of `_sum`."""
        terms: list[int] = []
        for part in parts_of(len(index), BLOCK):
            limbs = self._distances(index[part], seeds, nearest[part])
            some = [number_of(of_row, self._form.bits) for of_row in limbs.T.tolist()]
            if self._weight is not None:
                form = self._weight_form
                weights = form.limbs(self._weight[index[part]]).astype(np.int64).T.tolist()
                some = [t * number_of(w, form.bits) for t, w in zip(some, weights, strict=True)]
            terms += some
        return terms

    def _distances(self, index: I64, seeds: NDArray, nearest: NDArray[np.intp]) -> I64:
        """|x - seed|^2 of at most `BLOCK` rows: limbs as of `carried`."""
        seeds = seeds.astype(np.float64)
        entries = self._rows.entries(index)
        if entries is not None:
            return self._of_entries(len(index), entries, seeds, nearest)
        x = self._rows.take(index).astype(np.float64)
        return square_distances(x, seeds, np.arange(len(index)), nearest, self._form, MORE)

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
