"""What is found out about rows when they are loaded on the device: are they allowed, their norms, their grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpukmeans.backends import tuning
from gpukmeans.backends.device import Device
from gpukmeans.device_arrays import BFLOAT16
from gpukmeans.exact_sums import F64, Grid, power_of_two_above, refuse_values


@dataclass(frozen=True)
class RowFacts:
    """Facts about rows.

    Attributes
    ----------
    half_scale : float
    offsets : device array of shape (16 n_steps,), float32
        ``z = x * half_scale + offset`` is what is rounded to halves (kernels/screen.cuh).
    norms, rests : device arrays of shape (n_samples,), float32
        Upper bounds of |z| + |z - h| and of |z - h|, where h is z in halves.
    largest_integer : float
        The largest magnitude if every value is a whole number, else infinity.
    largest : float
        The largest magnitude.
    grid : Grid or None
        ``Grid.for_rows`` of the same values and weights, bit for bit, if it was asked for.
    scale : device array of shape (n_features,), float64, or None
        That of the grid.
    unit : device array of shape (n_features,), float64, or None
        One over it.
    """

    half_scale: float
    offsets: Any
    norms: Any
    rests: Any
    largest_integer: float
    largest: float
    grid: Grid | None
    scale: Any
    unit: Any


#: Rows are scaled so that those of the sample come to 2**HALF_ROOM at most; halves end at 2**16.
HALF_ROOM = 11
#: Of the scale of float64 rows, and of that of others, which must be a float32.
LARGEST_EXPONENTS = (900, 120)


def row_facts(
    device: Device, launch: Callable[..., None], X: Any, dtype: np.dtype, weights: Any, *, sums: bool
) -> RowFacts:
    """Read rows once, and once more where the grid depends on their values.

    Parameters
    ----------
    X : device array of shape (n_samples, n_features)
        Elements as `dtype` says.
    weights : device array of shape (n_samples,), float64, or None
    sums : bool
        Whether a grid is wanted.

    Raises
    ------
    ValueError
        If a value is NaN, infinite or too large.
    """
    n, d = X.shape
    scale, unit, grid = None, None, None
    if sums:
        grid = _grid_of_two_limbs(device, launch, X, dtype, weights)
        if grid is not None:
            scale, unit = device.upload(grid.scale), device.upload(1.0 / grid.scale)
    half_scale, offsets = _choose_halves(device, launch, X, dtype)
    norms, rests, facts = device.empty(n, np.float32), device.empty(n, np.float32), device.empty(3, np.float64)
    device.fill(facts, 0)
    doubtful = grid is not None and grid.n_limbs == 2
    args = (X, np.int64(n), np.int32(d), np.float64(half_scale), offsets, norms, rests, facts)
    args = (*args, *((weights, scale) if doubtful else (None, None)))
    launch("row_facts", tuning.row_constants(dtype), tuning.stride_blocks(n, 8), 256, args)
    largest_integer, largest, finer = device.download(facts).tolist()
    refuse_values(largest, "bfloat16" if dtype == BFLOAT16 else dtype)
    if sums and grid is None:
        raise FloatingPointError("Rows or their products with the weights are not finite.")
    if grid is not None and not finer:
        grid = Grid(grid.scale, grid.bits, 1)
    return RowFacts(half_scale, offsets, norms, rests, largest_integer, largest, grid, scale, unit)


def _choose_halves(device: Device, launch: Callable[..., None], X: Any, dtype: np.dtype) -> tuple[float, Any]:
    """The scale and the offsets of halves: about the mean of a sample, and as large as leaves room for outliers.

    Whole numbers of one byte stay whole.
    """
    n, d = X.shape
    sample = device.empty(d + 1, np.float64)
    device.fill(sample, 0)
    args = (X, np.int64(n), np.int32(d), np.int32(min(n, tuning.SAMPLE_ROWS)), sample[:d], sample[d:])
    launch("column_means", tuning.row_constants(dtype), -(-d // 32), (32, 32), args)
    found = device.download(sample)
    means, spread = found[:d], float(found[d])
    offsets = np.zeros(tuning.STEP_COLUMNS * tuning.n_steps(d, dtype), np.float32)
    if dtype == np.uint8:
        offsets[:d] = -np.rint(means)
        return 1.0, device.upload(offsets)
    most = LARGEST_EXPONENTS[dtype != np.float64]
    exponent = HALF_ROOM - int(power_of_two_above(spread)) if 0.0 < spread < np.inf else 0
    scale = 2.0 ** max(-most, min(most, exponent))
    with np.errstate(over="ignore", invalid="ignore"):  # values that are refused below
        offsets[:d] = np.nan_to_num(-means * scale, nan=0.0, posinf=0.0, neginf=0.0)
    return scale, device.upload(offsets)


def _grid_of_two_limbs(
    device: Device, launch: Callable[..., None], X: Any, dtype: np.dtype, weights: Any
) -> Grid | None:
    """As if no value lay on the first limb's grid; that of whole numbers of one byte; None if a value is not finite."""
    n, d = X.shape
    if dtype == np.uint8 and weights is None:
        return Grid(np.ones(d), Grid.limb_bits(n), 1)
    largest = device.empty(d, np.float64)
    device.fill(largest, 0)
    block, rows = tuning.column_shape(d)
    args = (X, weights, np.int64(n), np.int32(d), np.int32(rows), largest)
    launch("column_largest", tuning.row_constants(dtype), (-(-n // rows), -(-d // block[0])), block, args)
    found: F64 = device.download(largest)
    return Grid.for_largest(found, n) if np.isfinite(found).all() else None
