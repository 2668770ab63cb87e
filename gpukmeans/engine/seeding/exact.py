"""Decisions of a seeding step in whole numbers of unlimited size, for those that float64 leaves open."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64
from gpukmeans.backends.protocol import Rows


class ExactPotentials:
    """Potentials in Python integers, and the decisions that follow from them: slow, and rarely needed.

    The potential of seeds is the sum over the rows of weight * min |x - seed|^2.

    Parameters
    ----------
    rows : Rows
    sample_weight : ndarray of shape (n_samples,), float64, or None
        The weights that `rows` were loaded with.
    """

    #: Rows whose terms are computed at a time.
    BLOCK = 4096

    def __init__(self, rows: Rows, sample_weight: F64 | None) -> None:
        self._rows = rows
        self._weight = sample_weight

    def locate(self, u: float, chosen: list[int]) -> int:
        """The first row at which the running sum of the potential of the seeds `chosen` reaches u times its total."""
        seeds = self._rows.take(np.array(chosen))
        terms = [self._closest(part, seeds) for part in self._parts()]
        total = sum(int(t.sum()) for t in terms)
        ratio = Fraction(u)
        running, row = 0, 0
        for block in terms:
            for term in block:
                running += int(term)
                if running * ratio.denominator >= total * ratio.numerator:
                    return row
                row += 1
        return row - 1

    def kept(self, ids: NDArray[np.int64], draws: F64, factor: int, chosen: list[int]) -> list[bool]:
        """Whether, for each row of `ids`, its draw times the potential is less than `factor` times its own term."""
        seeds = self._rows.take(np.array(chosen))
        total = sum(int(self._closest(part, seeds).sum()) for part in self._parts())
        ratios = [Fraction(u) for u in draws.tolist()]
        terms = self._closest(ids, seeds)
        return [r.numerator * total < factor * int(t) * r.denominator for r, t in zip(ratios, terms, strict=True)]

    def smallest(self, ids: NDArray[np.int64], chosen: list[int]) -> int:
        """The position in `ids` of the row that leaves the smallest potential beside the seeds `chosen`.

        Of equal ones the first.
        """
        potentials = []
        for candidate in ids:
            seeds = self._rows.take(np.array([*chosen, int(candidate)]))
            potentials.append(sum(int(self._closest(part, seeds).sum()) for part in self._parts()))
        return min(range(len(ids)), key=lambda t: (potentials[t], t))

    def _parts(self) -> Iterator[NDArray[np.int64]]:
        n = self._rows.n_samples
        for start in range(0, n, self.BLOCK):
            yield np.arange(start, min(n, start + self.BLOCK))

    def _closest(self, part: NDArray[np.int64], seeds: NDArray) -> NDArray[np.object_]:
        """weight * min |x - seed|^2 of some rows, as Python integers on one grid."""
        entries = self._rows.entries(part)
        distances = self._of_dense(part, seeds) if entries is None else self._of_entries(len(part), entries, seeds)
        closest = None
        for distance in distances:
            closest = distance if closest is None else np.minimum(closest, distance)
        assert closest is not None
        if self._weight is not None:
            closest = closest * _whole(self._weight[part], -1074)
        return closest

    def _of_dense(self, part: NDArray[np.int64], seeds: NDArray) -> Iterator[NDArray[np.object_]]:
        """|x - seed|^2 of some rows, seed by seed."""
        x = self._integers(self._rows.take(part))
        for seed in self._integers(seeds):
            difference = x - seed
            yield (difference * difference).sum(axis=1)

    def _of_entries(
        self, n_rows: int, entries: tuple[NDArray, NDArray, NDArray], seeds: NDArray
    ) -> Iterator[NDArray[np.object_]]:
        """The same from the stored entries alone: |seed|^2 plus x (x - 2 seed) for each of a row's."""
        owner, columns, values = entries
        x = self._integers(values)
        for seed in seeds:
            there = np.flatnonzero(seed)
            s = np.zeros(len(seed), object)
            s[there] = self._integers(seed[there])
            distance = np.full(n_rows, (s * s).sum(), object)
            np.add.at(distance, owner, x * (x - 2 * s[columns]))
            yield distance

    def _integers(self, values: NDArray) -> NDArray[np.object_]:
        lowest = {"u": 0, "f": -149 if values.dtype == np.float32 else -1074}[values.dtype.kind]
        return _whole(values.astype(np.float64), lowest)


def _whole(values: F64, exponent: int) -> NDArray[np.object_]:
    """values / 2**exponent as Python integers; every value must be a multiple of 2**exponent."""
    mantissas, exponents = np.frexp(values)
    whole = (mantissas * 2.0**53).astype(np.int64).astype(object)
    shifts = (exponents - 53 - exponent).astype(object)
    shift = np.frompyfunc(lambda m, s: m << s if s >= 0 else m >> -s, 2, 1)
    return shift(whole, shifts)
