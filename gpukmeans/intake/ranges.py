"""The range of the values of rows, and whether other rows have nothing to do with it: another unit, most likely."""

from __future__ import annotations

import math
from typing import Any

from gpukmeans.arrays.on_device import BFLOAT16, DeviceInput
from gpukmeans.intake.given import Given
from gpukmeans.intake.streams import Stream

Range = tuple[float, float]

#: Rows of another range are warned of from this factor on, and if there are so many.
FACTOR, FEWEST_ROWS = 16.0, 20
#: Values that are read, in evenly spaced rows: a pass over all would take a few per cent of a fit.
MOST_VALUES = 1 << 22


def value_range(given: Given, most: int = MOST_VALUES) -> Range | None:
    """The smallest and the largest value of rows; None if these lie on a device, in an array that does not tell.

    Parameters
    ----------
    given : Given
    most : int
        Of more values, those of evenly spaced rows count, unless rows that stream have been read before.
    """
    if isinstance(given.X, Stream):
        sample = None if given.X.surveyed else given.X.sampled(most)
        if sample is not None:
            return range_of(sample, most)
        found = given.X.survey()
        return found.low, found.high
    X: Any = given.X
    if isinstance(X, DeviceInput):
        dtype, X = X.dtype, X.array
        if dtype == BFLOAT16 or not (hasattr(X, "min") and hasattr(X, "max")):
            return None
    return range_of(X, most)


def range_of(X: Any, most: int = MOST_VALUES) -> Range:
    """`value_range` of an array that has `min` and `max`, or of rows in CSR."""
    step = -(-X.shape[0] * X.shape[1] // most)
    X = X[::step] if step > 1 else X
    if not hasattr(X, "indptr"):
        return float(X.min()), float(X.max())
    zero = [0.0] if X.nnz < X.shape[0] * X.shape[1] else []
    stored = [float(X.data.min()), float(X.data.max())] if X.nnz else []
    return min(zero + stored), max(zero + stored)


def union(one: Range | None, other: Range | None) -> Range | None:
    """From the smallest to the largest of both; None if one is not known."""
    return None if one is None or other is None else (min(one[0], other[0]), max(one[1], other[1]))


def another_range(given: Given, fitted: Range | None) -> Range | None:
    """The range of rows if it has nothing to do with that of the fitted ones, else None.

    That is: at least 20 rows, which all lie within 1/16 of the largest fitted magnitude, or reach beyond 16 times it.
    Rows on a device are not looked at, nor are zeros, which have no unit, nor what `predict` refuses: NaN and infinity.
    """
    if fitted is None or given.form == "device" or given.n_samples < FEWEST_ROWS:
        return None
    for most in (MOST_VALUES >> 4, MOST_VALUES):  # mostly the first look is enough
        found = value_range(given, most)
        assert found is not None
        here, there = (max(abs(low), abs(high)) for low, high in (found, fitted))
        if not 0.0 < here < math.inf or not there or there / FACTOR < here <= there * FACTOR:
            return None
    return found
