"""What exact sums over blocks of rows need to know before the first of them is added: the first of two passes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpukmeans.arrays.limits import LARGEST_VALUE, refuse_values, refuse_weights
from gpukmeans.arrays.on_device import center_dtype
from gpukmeans.arrays.sparse import canonical, is_sparse, scipy_rows
from gpukmeans.arrays.types import F64
from gpukmeans.exact.sums import LIMB_BITS, Grid, largest_magnitudes, power_of_two_above
from gpukmeans.scale.sources import row_dtype_of
from gpukmeans.threads import blocks

#: Rows that are looked at first: most data that need two limbs show it there.
FIRST_ROWS = 16


@dataclass(frozen=True)
class ColumnFacts:
    """The magnitudes of the columns of some rows.

    Attributes
    ----------
    largest : ndarray of shape (n_columns,), float64
        The largest magnitude.
    finest : ndarray of shape (n_columns,), float64, or None
        The largest power of two of which every value is a multiple; infinity where all are zero.  None: some column
        needs two limbs, whatever rows are added.
    """

    largest: F64
    finest: F64 | None

    @classmethod
    def of(cls, values: Any) -> ColumnFacts:
        """Of dense rows, (n_rows, n_columns), uint8, float32 or float64, or of rows in CSR."""
        n_rows, n_columns = values.shape
        if not isinstance(values, np.ndarray):
            sizes, units = np.zeros(n_columns), np.full(n_columns, np.inf)
            np.maximum.at(sizes, values.indices, np.abs(values.data.astype(np.float64)))
            np.minimum.at(units, values.indices, _lowest_bits(values.data))
            return cls(sizes, units)
        if not n_rows:
            return cls(np.zeros(n_columns), np.full(n_columns, np.inf))
        if values.dtype == np.uint8:
            return cls(values.max(axis=0).astype(np.float64), np.ones(n_columns))
        largest = largest_magnitudes(values).astype(np.float64)
        finest: F64 = np.full(n_columns, np.inf)
        least = np.ldexp(1.0, power_of_two_above(largest) - LIMB_BITS)
        for rows in (slice(0, FIRST_ROWS), *blocks(n_rows, n_columns, values.itemsize)):
            finest = np.minimum(finest, _lowest_bits(values[rows]).min(axis=0))
            if (finest < least).any():  # the largest magnitude only grows
                return cls(largest, None)
        return cls(largest, finest)

    @property
    def largest_integer(self) -> float:
        """The largest magnitude if every value is a whole number (of at most 36 bits), else infinity."""
        whole = self.finest is not None and bool((self.finest >= 1.0).all())
        return float(self.largest.max()) if whole else float("inf")

    def __add__(self, other: ColumnFacts) -> ColumnFacts:
        both = self.finest is not None and other.finest is not None
        finest = np.minimum(self.finest, other.finest) if both else None  # type: ignore[arg-type]
        return ColumnFacts(np.maximum(self.largest, other.largest), finest)

    def grid(self, n_rows: int) -> Grid:
        """`Grid.for_rows` of all rows."""
        grid = Grid.for_largest(self.largest, n_rows)
        one = self.finest is not None and bool((self.finest * grid.scale >= 1.0).all())
        return Grid(grid.scale, grid.bits, 1 if one else 2)


def _lowest_bits(values: NDArray) -> F64:
    """The largest power of two that divides each value; infinity for zero."""
    some = np.abs(values)
    fraction = np.finfo(some.dtype).nmant
    bits = some.view(np.dtype(f"i{some.itemsize}"))
    without_last = (bits & (bits - 1)).view(some.dtype)  # where the fraction has a bit, the lowest is cleared
    with np.errstate(invalid="ignore"):  # what is not finite is refused elsewhere
        last = np.where(bits & ((1 << fraction) - 1), some - without_last, some)
    last[last == 0.0] = np.inf
    return last.astype(np.float64)


@dataclass(frozen=True)
class SumGrids:
    """The grids on which all partial sums of a fit are taken; made by `Facts.grid`.

    Attributes
    ----------
    rows, weights : Grid
        Of the rows times their weights, and of the weights.
    n_samples : int
        All rows.
    weighted : bool
        Whether the rows have weights.
    dtype : dtype
        uint8, float32 or float64: of the rows.
    largest : ndarray of shape (n_features,), float64
        The largest magnitude in each column.
    largest_weight : float
    """

    rows: Grid
    weights: Grid
    n_samples: int
    weighted: bool
    dtype: np.dtype
    largest: F64
    largest_weight: float

    @property
    def center_dtype(self) -> np.dtype:
        """float32 for float32 rows, else float64."""
        return center_dtype(self.dtype)

    def identity(self) -> Iterator[bytes]:
        """All that tells these grids from others."""
        yield f"{self.n_samples} {self.weighted} {self.dtype} {self.rows.n_limbs} {self.weights.n_limbs}".encode()
        yield from (array.tobytes() for array in (self.rows.scale, self.weights.scale, self.largest))

    def top(self, centers: NDArray) -> int:
        """An exponent e so that no row's weight * |x - center|^2 reaches 2**e, for any of these centers."""
        return top_of(self.largest, centers, self.largest_weight)


def top_of(largest: F64, centers: NDArray, largest_weight: float) -> int:
    """`SumGrids.top` from the largest magnitude in each column."""
    reach = largest + np.abs(centers.astype(np.float64)).max(axis=0)
    return int(power_of_two_above(largest_weight * float(np.square(reach).sum()))) + 1  # for the roundings of both


@dataclass(frozen=True)
class Facts:
    """Facts about some rows, which add up to those about all rows, in any grouping.

    Attributes
    ----------
    n_samples, n_features : int
    dtype : dtype
        uint8, float32 or float64: how the rows are read.
    values : ColumnFacts
        Of the rows.
    products : ColumnFacts or None
        Of the rows times their weights; None without weights.
    weights : ColumnFacts or None
        Of the weights.

    See Also
    --------
    gpukmeans.partial : the second pass.

    Examples
    --------
    >>> import numpy as np
    >>> import gpukmeans
    >>> X = np.arange(12.0).reshape(6, 2)
    >>> both = gpukmeans.Facts.of(X[:1]) + gpukmeans.Facts.of(X[1:])
    >>> both.n_samples, both.grid().rows.n_limbs
    (6, 1)
    """

    n_samples: int
    n_features: int
    dtype: np.dtype
    values: ColumnFacts
    products: ColumnFacts | None = None
    weights: ColumnFacts | None = None

    @classmethod
    def of(cls, block: Any, sample_weight: ArrayLike | None = None) -> Facts:
        """The facts about a block of rows.

        Parameters
        ----------
        block : array-like or sparse matrix of shape (n_rows, n_features)
            uint8, float32 or float64, or CSR; others are converted as `gpukmeans.KMeans.fit` does.
        sample_weight : array-like of shape (n_rows,), optional
            Of all blocks or of none.

        Raises
        ------
        ValueError
            The block is not two-dimensional, or a value or weight is not finite, too large or a weight negative.
        """
        X = stored_rows(block)
        values = ColumnFacts.of(X)
        largest = float(values.largest.max(initial=0.0))
        refuse_values(largest, X.dtype, "block")
        if sample_weight is None:
            return cls.about(X, values)
        return cls.about(X, values, stored_weights(sample_weight, X.shape[0], center_dtype(X.dtype)))

    @classmethod
    def about(cls, X: Any, values: ColumnFacts, weight: F64 | None = None) -> Facts:
        """Of rows that are stored and whose values are known and have been checked."""
        n, d = X.shape
        if weight is None:
            return cls(n, d, X.dtype, values)
        return cls(n, d, X.dtype, values, ColumnFacts.of(times_weights(X, weight)), ColumnFacts.of(weight[:, None]))

    def __add__(self, other: Facts) -> Facts:
        if not isinstance(other, Facts):
            return NotImplemented
        mine, its = ((f.dtype.name, f.n_features, f.weights is not None) for f in (self, other))
        if mine != its:
            raise ValueError(
                "Facts about different rows cannot be added: " + " and ".join(
                    f"{dtype} rows of {n} features {'with' if weighted else 'without'} weights"
                    for dtype, n, weighted in (mine, its)
                ) + ". Give all blocks one dtype and width, and weights to all or none."
            )  # fmt: skip
        products = None if self.products is None or other.products is None else self.products + other.products
        weights = None if self.weights is None or other.weights is None else self.weights + other.weights
        n_samples = self.n_samples + other.n_samples
        return Facts(n_samples, self.n_features, self.dtype, self.values + other.values, products, weights)

    def grid(self) -> SumGrids:
        """The grids of the sums over all rows: of an in-memory fit of the same rows.

        Raises
        ------
        ValueError
            There is no row, or the largest weight is 0, below 2**-400 or above 2**50.
        """
        n = self.n_samples
        if not n:
            raise ValueError("These are the facts about no row; add those about some.")
        if self.products is None or self.weights is None:
            plain = Grid(np.ones(self.n_features), Grid.limb_bits(n), 1)
            rows = plain if self.dtype == np.uint8 else self.values.grid(n)
            ones = Grid(np.ones(1), Grid.limb_bits(n), 1)
            return SumGrids(rows, ones, n, False, self.dtype, self.values.largest, 1.0)
        heaviest = float(self.weights.largest[0])
        refuse_weights(heaviest)
        weights = self.weights.grid(n)
        return SumGrids(self.products.grid(n), weights, n, True, self.dtype, self.values.largest, heaviest)


def stored_rows(block: Any) -> Any:
    """A block as rows that a backend reads: C-contiguous uint8, float32 or float64, or CSR in the latter two.

    Raises
    ------
    ValueError
        It is not two-dimensional, has no feature, or holds no real numbers.
    """
    sparse = is_sparse(block)
    values: Any = scipy_rows(block) if sparse else np.asarray(block)
    if values.ndim != 2:
        raise ValueError(f"a block has shape {values.shape}; rows need two dimensions, (n_rows, n_features)")
    if values.dtype.kind not in "buif":
        raise ValueError(f"a block has dtype {values.dtype}; rows are real numbers")
    if not values.shape[1]:
        raise ValueError(f"a block has shape {values.shape}; rows need a feature at least")
    if not sparse:
        return np.ascontiguousarray(values, row_dtype_of(values.dtype))
    rows = canonical(values) if values.format == "csr" else canonical(values.tocsr())
    return rows.astype(np.float32 if rows.dtype == np.float32 else np.float64, copy=False)


def entries_of(rows: Any) -> NDArray:
    """The values that are stored of rows, dense or in CSR."""
    return rows if isinstance(rows, np.ndarray) else rows.data


def extremes_of(rows: Any) -> tuple[float, float]:
    """The smallest and the largest value of rows, dense or in CSR; infinity and its negative where there is none."""
    entries = entries_of(rows)
    low, high = (float(entries.min()), float(entries.max())) if entries.size else (np.inf, -np.inf)
    if entries.size < rows.shape[0] * rows.shape[1]:
        low, high = float(np.minimum(low, 0.0)), float(np.maximum(high, 0.0))  # NaN stays
    return low, high


def refused_row(rows: Any) -> tuple[int, str]:
    """The first row with a value that is not allowed, and what it is; there is one."""
    entries = entries_of(rows).astype(np.float64)
    place = int(np.flatnonzero(~(np.abs(entries.reshape(-1)) <= LARGEST_VALUE))[0])
    value = float(entries.reshape(-1)[place])
    row = place // rows.shape[1] if entries.ndim == 2 else int(np.searchsorted(rows.indptr, place, "right")) - 1
    return row, "NaN" if np.isnan(value) else "infinity" if np.isinf(value) else f"a value of {value:.3g}"


def stored_weights(sample_weight: ArrayLike, n_rows: int, dtype: np.dtype) -> F64:
    """Weights of a block in float64, rounded to `dtype` first, as those of a fit are.

    Raises
    ------
    ValueError
        They are as many as there are rows, or one is negative or not finite.
    """
    weight = np.asarray(sample_weight, dtype).astype(np.float64)
    if weight.shape != (n_rows,):
        raise ValueError(f"sample_weight has shape {weight.shape}; it should be ({n_rows},), one for each row")
    if len(weight) and not (np.isfinite(weight).all() and weight.min() >= 0.0):
        raise ValueError("sample_weight should be finite and not negative in every block")
    return weight


def times_weights(X: Any, weight: F64) -> Any:
    """Rows times their weights, each product rounded once to float64: what is summed."""
    if isinstance(X, np.ndarray):
        return np.multiply(X, weight[:, None], dtype=np.float64)
    data = X.data.astype(np.float64) * np.repeat(weight, np.diff(X.indptr))
    return type(X)((data, X.indices, X.indptr), shape=X.shape)
