"""What is found out about rows when they are loaded on the device: are they allowed, their norms, their grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpukmeans.backends import tuning
from gpukmeans.backends.device import Device
from gpukmeans.device_arrays import BFLOAT16
from gpukmeans.exact_sums import F64, Grid, refuse_values


@dataclass(frozen=True)
class RowFacts:
    """Facts about rows.

    Attributes
    ----------
    norms : device array of shape (n_samples,), float32
        Upper bounds of |x|.
    largest_integer : float
        The largest magnitude if every value is a whole number, else infinity.
    grid : Grid or None
        ``Grid.for_rows`` of the same values and weights, bit for bit, if it was asked for.
    scale : device array of shape (n_features,), float64, or None
        That of the grid.
    """

    norms: Any
    largest_integer: float
    grid: Grid | None
    scale: Any


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
    scale, grid = None, None
    if sums:
        grid = _grid_of_two_limbs(device, launch, X, dtype, weights)
        if grid is not None:
            scale = device.upload(grid.scale)
    norms, facts = device.empty(n, np.float32), device.empty(3, np.float64)
    device.fill(facts, 0)
    doubtful = grid is not None and grid.n_limbs == 2
    args = (X, np.int64(n), np.int32(d), norms, facts, *((weights, scale) if doubtful else (None, None)))
    launch("row_facts", tuning.row_constants(dtype), min(tuning.STRIDE_BLOCKS, -(-n // 8)), 256, args)
    largest_integer, largest, finer = device.download(facts).tolist()
    refuse_values(largest, "bfloat16" if dtype == BFLOAT16 else dtype)
    if sums and grid is None:
        raise FloatingPointError("Rows or their products with the weights are not finite.")
    if grid is not None and not finer:
        grid = Grid(grid.scale, grid.bits, 1)
    return RowFacts(norms, largest_integer, grid, scale)


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
