"""Values far from one, brought near it by a power of two, which rounds nothing.

Squares of values below 1e-154 underflow, and float32 represents no square of values beyond 1e-23 to 1e19.  Clusters do
not depend on the unit of the values, so rows of such magnitudes are fitted in another one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.limits import LARGEST_VALUE

#: Magnitudes 2**lowest to 2**highest of the largest value that are left as they are.
NEAR_ONE = (-40, 40)
#: Values are not made smaller than 2**LEAST: squares of differences in their last digits would lose digits.
LEAST = -390
#: Rows that are looked at to see whether values are near one; fewer where they have more values than that together.
SAMPLE, SAMPLE_VALUES = 64, 1 << 18


def unit_exponent(values: NDArray, *others: NDArray | None) -> int:
    """The exponent e by which ``times_power(values, e)`` have a largest magnitude of 1/2 to 1; 0 if they are near one.

    Also 0 if small values would lose digits, or their squares, if all are zero, and if a value is not allowed.

    Parameters
    ----------
    values : ndarray of shape (n, ...), floating or unsigned
        A sample of them is looked at first.
    *others : ndarray or None
        Other values in the same unit, to be multiplied by the same power.

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans.arrays.magnitude import times_power, unit_exponent
    >>> X = np.array([[1e-300], [3e-300]])
    >>> times_power(X, unit_exponent(X)).ravel()
    array([0.16742322, 0.50226966])
    >>> unit_exponent(np.array([[1e-300], [3.0]]))
    0
    """
    if values.dtype.kind != "f":
        return 0
    arrays = [array for array in (values, *others) if array is not None]
    n_rows = min(SAMPLE, SAMPLE_VALUES // max(1, math.prod(values.shape[1:])) + 1)
    return exponent_of(values[:: max(1, len(values) // n_rows)], lambda: arrays)


def exponent_of(sample: NDArray, arrays: Callable[[], Iterable[NDArray]]) -> int:
    """`unit_exponent` of values that come in parts, floating, each time that they are asked for."""
    seen = _largest(sample)
    if seen and near_one(seen):
        return 0
    largest = max(map(_largest, arrays()))
    if near_one(largest) or not largest <= LARGEST_VALUE:
        return 0
    exponent = -math.frexp(largest)[1]
    if exponent < 0 and min(map(_smallest, arrays())) < 2.0 ** (LEAST - exponent):
        return 0
    same = (np.array_equal(times_power(times_power(a, exponent), -exponent), a) for a in arrays())
    return exponent if all(same) else 0


def _largest(values: NDArray) -> float:
    return float(np.maximum(values.max(), -values.min())) if values.size else 0.0  # NaN if there is one


def _smallest(values: NDArray) -> float:
    """Of the magnitudes other than zero."""
    return float(np.abs(values).min(where=values != 0, initial=np.inf))


def near_one(largest: float) -> bool:
    """Whether the largest magnitude is left as it is: also 0 and NaN."""
    return NEAR_ONE[0] < math.frexp(largest)[1] < NEAR_ONE[1]


def times_power(values: Any, exponent: int) -> Any:
    """``values * 2**exponent``, rounded only where values become subnormal.

    Parameters
    ----------
    values : float or array
        Any array with a product: NumPy's, CuPy's, a torch tensor.
    """
    step = 100 if exponent > 0 else -100  # 2**100 is a float32 number
    while abs(exponent) > 100:
        values, exponent = values * 2.0**step, exponent - step
    return values * 2.0**exponent


def rows_times_power(X: Any, exponent: int) -> Any:
    """`times_power` of rows, dense or in CSR, whose indices are shared."""
    if not hasattr(X, "indptr"):
        return times_power(X, exponent)
    return type(X)((times_power(X.data, exponent), X.indices, X.indptr), shape=X.shape, copy=False)
