"""Sums that do not depend on the order of their terms.

Every sum whose bits a user sees (cluster sums, weights, inertia) is taken over integers: each feature is rounded to a
power-of-two grid and added up in int64.  Integer addition is associative, so blocks, threads, atomics and workers
cannot change a bit, and a sum that is updated by differences never drifts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64, I64
from gpukmeans.threads import Workers, blocks, parts_of, rows_in_block, workers

#: Most bits in a limb.  36 + 36 bits lie well beyond float64's 53, and 2**17 such limbs still add up exactly in a
#: float64, which lets NumPy sum them by matrix products.
LIMB_BITS = 36

#: Rows whose limbs may be added in float64 without rounding: 2**(53 - LIMB_BITS).
EXACT_FLOAT64_ROWS = 1 << (53 - LIMB_BITS)

#: Features of a block of rows that is looked at: those of few long rows stay in a cache, too.
COLUMNS = 1 << 13

#: Features below 2**MIN_EXPONENT in magnitude share its grid, so that no scale overflows.
MIN_EXPONENT = -900


def power_of_two_above(largest: NDArray[np.floating] | float) -> NDArray[np.int32]:
    """Exponents e with ``largest < 2**e`` (0 for zero), never below `MIN_EXPONENT`."""
    _, exponents = np.frexp(np.asarray(largest, np.float64))
    return np.maximum(exponents, MIN_EXPONENT).astype(np.int32)


class Extremes(NamedTuple):
    """The largest and smallest magnitudes of some rows, times their weights.

    Attributes
    ----------
    n_rows : int
    largest : ndarray of shape (n_columns,)
        Not finite where a value is not.
    smallest : float
        Of all values but zero; NaN where it was not looked for, as it would not show that few bits are enough.
    """

    n_rows: int
    largest: NDArray
    smallest: float

    @classmethod
    def of(cls, X: NDArray, sample_weight: F64 | None, pool: Workers, known: Extremes | None = None) -> Extremes:
        """Of all rows of X, of which the first may be known."""
        d, first = X.shape[1], 0 if known is None else known.n_rows
        few_bits = X.dtype == np.float32 and sample_weight is None

        def look(tile: tuple[slice, slice]) -> tuple[NDArray, float]:
            part, columns = tile
            rows = slice(first + part.start, first + part.stop)
            block = weighted_rows(X[:, columns], sample_weight, rows, convert=False)
            return magnitudes(block) if few_bits else (largest_magnitudes(block), np.nan)

        width = min(d, COLUMNS)
        parts = pool.share(len(X) - first, rows_in_block(width, 16), 1024)
        tiles = [(part, columns) for columns in parts_of(d, width) for part in parts]
        found = [look(tile) for tile in tiles[:1]]
        of_first, smallest = found[0] if known is None else known[1:]
        few_bits &= bool(smallest >= 2.0**-12 * of_first.max())
        found += pool.map(look, tiles[1:])
        largest = np.zeros(d) if known is None else known.largest.copy()
        for (_, columns), (of_tile, _) in zip(tiles, found, strict=True):
            np.maximum(largest[columns], of_tile, out=largest[columns])
        least = [smallest, *(value for _, value in found)]
        return cls(len(X), largest, min(filter(None, least), default=np.inf) if few_bits else np.nan)


@dataclass(frozen=True)
class Grid:
    """The power-of-two grid to which the columns of a table are rounded before they are added up.

    A value y of column f becomes ``limb0 = rint(y * scale[f])`` and, where one limb does not hold every bit,
    ``limb1 = rint((y * scale[f] - limb0) * 2**bits)``; both are integers and are summed in int64.
    With two limbs the grid is 2**-72 of the column's largest magnitude (less where n > 2**26 rows need the room);
    what lies below is rounded to nearest, the same for every order of the rows.

    Attributes
    ----------
    scale : ndarray of shape (n_columns,), float64
        Powers of two.
    bits : int
        Bits of a limb: ``|limb| <= 2**bits``, and n_rows of them stay below 2**62.
    n_limbs : int
        1 if every value lies on the first limb's grid, else 2.
    """

    scale: F64
    bits: int
    n_limbs: int

    @staticmethod
    def limb_bits(n_rows: int) -> int:
        """Bits of a limb, so that the sum of `n_rows` limbs stays below 2**62."""
        return min(LIMB_BITS, 62 - n_rows.bit_length())

    @classmethod
    def for_largest(cls, largest: NDArray[np.floating] | float, n_rows: int) -> Grid:
        """The grid of two limbs for values up to `largest` (per column) in magnitude, `n_rows` of them in all."""
        bits = cls.limb_bits(n_rows)
        exponents = power_of_two_above(np.atleast_1d(largest))
        return cls(np.ldexp(1.0, bits - exponents), bits, 2)

    @classmethod
    def for_rows(cls, X: NDArray, sample_weight: F64 | None = None, known: Extremes | None = None) -> Grid:
        """The grid for the rows of X, times their weights.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features), uint8, float32 or float64
        sample_weight : ndarray of shape (n_samples,), float64, or None
        known : Extremes, optional
            Of the first rows.

        Raises
        ------
        FloatingPointError
            If a value is not finite.
        """
        n, d = X.shape
        bits = cls.limb_bits(n)
        if X.dtype == np.uint8 and sample_weight is None:
            return cls(np.ones(d), bits, 1)
        with workers(X.size) as pool:
            largest, smallest = Extremes.of(X, sample_weight, pool, known)[1:]
            if not np.isfinite(largest).all():
                raise FloatingPointError("Rows or their products with the weights are not finite.")
            grid = cls.for_largest(largest, n)
            # 24 bits of a value that is not much smaller than the largest lie on the first limb's grid.
            if smallest * float(grid.scale.min()) >= 2.0**23:
                return cls(grid.scale, grid.bits, 1)

            # float32 rows need no conversion where every product with their scale is a float32 number.
            narrow = float(grid.scale.min()) >= 1.0 and float(grid.scale.max()) <= 2.0**90
            scale = grid.scale.astype(np.float32) if narrow else grid.scale

            def on_first_limb(rows: slice) -> bool:
                scaled = np.multiply(weighted_rows(X, sample_weight, rows, convert=False), scale)
                return bool((scaled == np.rint(scaled)).all())

            # Of most data that need both limbs the first rows need them already.
            parts = pool.share(n, rows_in_block(d, 32), 1024)
            few = slice(0, min(16, parts[0].stop))
            if on_first_limb(few) and on_first_limb(parts[0]) and all(pool.map(on_first_limb, parts[1:])):
                return cls(grid.scale, grid.bits, 1)
        return grid

    @classmethod
    def for_entries(cls, values: F64, columns: NDArray[np.integer], n_rows: int, n_columns: int) -> Grid:
        """The same grid as `for_rows` of the rows in float64, from their stored entries.

        Parameters
        ----------
        values : ndarray of shape (n_entries,), float64
            Finite, times the weights of their rows if there are any.  Entries that are not stored are zero.
        columns : ndarray of shape (n_entries,), int
        n_rows, n_columns : int
            The shape of the table.
        """
        largest = np.zeros(n_columns)
        np.maximum.at(largest, columns, np.abs(values))
        grid = cls.for_largest(largest, n_rows)
        scaled = (values[part] * grid.scale[columns[part]] for part in blocks(len(values), 1))
        on_first_limb = all(np.array_equal(part, np.rint(part)) for part in scaled)
        return cls(grid.scale, grid.bits, 1 if on_first_limb else 2)

    def of_columns(self, columns: slice | NDArray[np.integer]) -> Grid:
        """The grid of some columns, which may repeat."""
        return Grid(self.scale[columns], self.bits, self.n_limbs)

    def limbs(self, values: F64, room: tuple[F64, F64] | tuple[None, None] = (None, None)) -> Iterator[F64]:
        """The limbs of float64 `values` (last axis: columns), as float64 integers, the first one first.

        They are computed in `room`, two arrays of the shape of `values` (the first may be `values` itself).  Each limb
        is valid until the next one is requested.
        """
        scaled = np.multiply(values, self.scale, out=room[0])
        first = np.rint(scaled, out=room[1])
        yield first
        if self.n_limbs == 2:
            np.subtract(scaled, first, out=scaled)
            np.multiply(scaled, 2.0**self.bits, out=scaled)
            yield np.rint(scaled, out=scaled)

    def parts(self, sums: I64) -> tuple[F64, F64]:
        """Sums of limbs, (n_limbs, ..., n_columns) int64, as two float64 (high and low) in units of the first limb."""
        high = sums[0].astype(np.float64)
        low = (sums[0] - high.astype(np.int64)).astype(np.float64)
        if self.n_limbs == 2:
            low = low + sums[1].astype(np.float64) * 2.0**-self.bits
        return high, low

    def value(self, sums: I64) -> F64:
        """Sums of limbs, (n_limbs, ..., n_columns) int64, as float64: within about one unit in the last place."""
        high, low = self.parts(sums)
        return (high + low) * (1.0 / self.scale)


def weighted_rows(
    X: NDArray, sample_weight: F64 | None, rows: slice | NDArray, *, convert: bool = True, out: F64 | None = None
) -> NDArray:
    """Rows of X in float64, each times its weight: the values that are summed.

    One rounded product, which is exact for uint8 and float32 rows under weights of up to 29 significant bits.
    With ``convert=False`` unweighted rows keep their dtype.
    """
    block = X[rows]
    if sample_weight is not None:
        with np.errstate(invalid="ignore"):  # infinity times a weight of zero is NaN, which is rejected with the rest
            return np.multiply(block, sample_weight[rows, None], out=out)
    if out is not None:
        np.copyto(out, block)
        return out
    return block.astype(np.float64) if convert else block


def largest_magnitudes(block: NDArray) -> NDArray:
    """The largest magnitude of each column of `block`, (n_columns,); NaN for a column that contains NaN."""
    return np.maximum(_of_columns(np.maximum, block), -_of_columns(np.minimum, block))


def magnitudes(block: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """`largest_magnitudes`, and the smallest magnitude of all float32 values other than zero; 0 if all are zero."""
    bits = block.view(np.uint32) & np.uint32(0x7FFFFFFF)  # are in the order of magnitudes, NaN beyond infinity
    largest = _of_columns(np.maximum, bits).view(np.float32)
    bits -= np.uint32(1)  # zeros come last
    return largest, float((bits.min(keepdims=True) + np.uint32(1)).view(np.float32)[0, 0])


def _of_columns(extreme: np.ufunc, block: NDArray) -> NDArray:
    """The maximum or minimum of each column, (n_columns,)."""
    n, d = block.shape
    side_by_side = min(n, max(1, 256 // d))  # NumPy is slow at rows of few columns
    even = n - n % side_by_side
    wide = extreme.reduce(block[:even].reshape(-1, side_by_side * d), axis=0)
    found = extreme.reduce(wide.reshape(side_by_side, d), axis=0)
    return found if even == n else extreme(found, _of_columns(extreme, block[even:]))


def weight_grid(n_rows: int, sample_weight: F64 | None) -> Grid:
    """The grid on which the weights of a cluster are added up; without weights each row counts as 1."""
    if sample_weight is None:
        return Grid(np.ones(1), Grid.limb_bits(n_rows), 1)
    return Grid.for_rows(sample_weight[:, None])


def exact_total(terms: F64) -> float:
    """Sum of non-negative float64 `terms`, (n_terms,): exact to 2**-72 of the largest, in any order, rounded once.

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans.exact.sums import exact_total
    >>> terms = np.array([1e16] + 5 * [1.0])
    >>> exact_total(terms) == exact_total(terms[::-1])
    True
    >>> exact_total(terms) - 1e16, float(terms.cumsum()[-1]) - 1e16
    (4.0, 0.0)
    """
    return float(exact_totals(terms[:, None])[0]) if terms.size else 0.0


def exact_totals_by_label(terms: F64, labels: NDArray[np.int32], n_clusters: int) -> F64:
    """`exact_total` of the terms of each label, (n_clusters,); 0 for a label without terms."""
    order = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=n_clusters))
    return np.array([exact_total(part) for part in np.split(terms[order], ends[:-1])])


def exact_totals(terms: F64) -> F64:
    """`exact_total` of each column of `terms`, (n_terms, n_columns), with at least one term."""
    grid = Grid.for_largest(terms.max(axis=0), len(terms))
    total = np.zeros((grid.n_limbs, terms.shape[1]), np.int64)
    for start in range(0, len(terms), 1 << 16):
        for i, limb in enumerate(grid.limbs(terms[start : start + (1 << 16)])):
            total[i] += limb.astype(np.int64).sum(axis=0)
    return grid.value(total)


def cluster_means(sums: I64, weights: F64, grid: Grid, dtype: np.dtype) -> NDArray:
    """Centers from exact sums: ``sums / weights``, nearly always the nearest float64, rounded to `dtype`.

    A quotient and one correction by its remainder, so that the mean of equal rows is that row: with a center one unit
    beside it, rows could change their labels forever.  (Where sums cancel almost entirely, or another row is so large
    that the grid rounds this one, the mean is off by the grid's last unit instead.)  kernels/update_centers.cu does the
    same operations, for the same bits.

    Parameters
    ----------
    sums : ndarray of shape (n_limbs, n_clusters, n_features), int64
    weights : ndarray of shape (n_clusters,), float64
        Summed weights.  A cluster of weight 0 gets NaN, which the caller must replace.
    grid : Grid
        Of the sums.
    dtype : dtype
        Of the centers.

    Returns
    -------
    ndarray of shape (n_clusters, n_features), of `dtype`
    """
    return means_of_parts(*grid.parts(sums), weights, grid, dtype)


def means_of_parts(high: F64, low: F64, weights: F64, grid: Grid, dtype: np.dtype) -> NDArray:
    """`cluster_means` of sums in two parts, as `Grid.parts` returns them."""
    weight = weights[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        quotient = high / weight
        if low.any():  # else the remainder is half a unit of the quotient at most, which rounds to itself
            product, error = two_product(quotient, weight)
            quotient += (((high - product) - error) + low) / weight
        return (quotient * (1.0 / grid.scale)).astype(dtype)


def two_product(a: F64, b: F64) -> tuple[F64, F64]:
    """Two float64 arrays whose sum is exactly a * b, if nothing over- or underflows.

    T. J. Dekker, "A floating-point technique for extending the available precision", 1971.

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans.exact.sums import two_product
    >>> product, error = two_product(np.array([1.0 + 2.0**-30]), np.array([1.0 - 2.0**-30]))
    >>> float(product[0]), float(error[0]) == -(2.0**-60)
    (1.0, True)
    """
    product = a * b
    a_high, b_high = _high_half(a), _high_half(b)
    a_low, b_low = a - a_high, b - b_high
    error = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    return product, error


def _high_half(a: F64) -> F64:
    """The upper 26 bits of float64 numbers."""
    scaled = a * 134217729.0  # 2**27 + 1
    return scaled - (scaled - a)
