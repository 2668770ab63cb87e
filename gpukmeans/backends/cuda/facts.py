"""Facts about rows, computed when they are loaded on the device: whether values are allowed, norms, halves, grids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.limits import LARGEST_VALUE, refuse_values
from gpukmeans.arrays.on_device import BFLOAT16, storage_dtype
from gpukmeans.arrays.types import F64, I64
from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda.control import Scale
from gpukmeans.backends.cuda.device.seam import Device, Spec
from gpukmeans.backends.cuda.device.structs import Struct
from gpukmeans.backends.problems import ProblemError
from gpukmeans.exact.sums import Grid, power_of_two_above


@dataclass(frozen=True)
class RowFacts:
    """Facts about the rows of one problem or of several.

    Attributes
    ----------
    table : ndarray of shape (n_problems, len(Scale)), float64
        See kernels/control.cuh: ScaleWord.
    scales : device array
        The same.
    offsets : device array of shape (n_problems, 16 n_steps), float32
    norms, rests : device arrays of shape (n_problems * n_samples,), float32
        Upper bounds of |z| + |z - h| and of |z - h|, where h is z in halves.
    columns : ndarray of shape (n_problems, 3, n_features), float64, or None
        Of kernels/column_facts.cu; None where the grid did not need them.
    grids : Grid or None
        For all problems, with `scale` of shape (n_problems, n_features); two limbs if one problem needs them.  None
        for rows that are not to be summed.
    n_limbs : ndarray of shape (n_problems,)
        Limbs that each problem needs.
    scale : device array of shape (n_problems, n_features), float64, or None
        The scale of the grids.
    unit : device array of shape (n_problems, n_features), float64, or None
        One over it.
    """

    table: F64
    scales: Any
    offsets: Any
    norms: Any
    rests: Any
    columns: F64 | None
    grids: Grid | None
    n_limbs: I64
    scale: Any
    unit: Any

    def of_problem(self, number: int, n_samples: int) -> RowFacts:
        """The facts of one problem; device arrays are the same memory."""
        own, rows = slice(number, number + 1), slice(number * n_samples, (number + 1) * n_samples)
        grids = self.grids
        if grids is not None:
            grids = Grid(grids.scale[own], grids.bits, int(self.n_limbs[number]))
        scale, unit = (None if array is None else array[own] for array in (self.scale, self.unit))
        return RowFacts(
            *(self.table[own], self.scales[own], self.offsets[own], self.norms[rows], self.rests[rows]),
            *(None if self.columns is None else self.columns[own], grids, self.n_limbs[own], scale, unit),
        )

    @property
    def grid(self) -> Grid | None:
        """``Grid.for_rows`` of the values and weights of one problem, bit for bit; of several, the grid of all."""
        if self.grids is None or len(self.table) > 1:
            return self.grids
        return Grid(self.grids.scale[0], self.grids.bits, self.grids.n_limbs)


#: Rows are scaled so that those of the sample are at most 2**HALF_ROOM; the largest half is below 2**16.
HALF_ROOM = 11
#: Largest exponents of the scale: for float64 rows, and for others, whose scale must be a float32.
LARGEST_EXPONENTS = (900, 120)


def row_facts(
    device: Device,
    launch: Callable[..., None],
    X: Any,
    dtype: np.dtype,
    weights: Any,
    weight_scales: F64,
    *,
    sums: bool,
) -> RowFacts:
    """Compute the facts: rows are read once, and twice where the grid depends on their values.

    Many problems take as many launches as one.

    Parameters
    ----------
    X : device array of shape (n_problems * n_samples, n_features)
        Elements as `dtype` says.
    weights : device array of shape (n_problems * n_samples,), float64, or None
    weight_scales : ndarray of shape (n_problems,), float64
        The scales of the grids of the weights.
    sums : bool
        Whether the rows are to be summed, and need a grid.

    Raises
    ------
    ValueError
        If a value is NaN, infinite or too large.
    ProblemError
        That error with the number of the problem, if there are several.
    """
    n_problems = len(weight_scales)
    n, d = X.shape[0] // n_problems, X.shape[1]
    by_column, of_rows = ((n_problems, d), np.float64), (n_problems * n, np.float32)
    n_steps = tuning.n_steps(d, dtype)
    specs: list[Spec] = [((n_problems, 3, d), np.float64), (n_problems, np.float64), by_column, of_rows, of_rows]
    specs += [((n_problems, len(Scale)), np.float64), ((n_problems, tuning.STEP_COLUMNS * n_steps), np.float32)]
    specs += [by_column, by_column] if sums else []
    columns, spread, means, norms, rests, scales, offsets, *of_sums = device.arrays(*specs)
    scale, unit = of_sums or (None, None)
    device.fills([columns, spread], 0)
    whole = dtype == np.uint8 and weights is None
    if sums and not whole:
        launch_column_facts(launch, X, dtype, weights, columns)
    sample = np.int32(min(n, tuning.SAMPLE_ROWS))
    of_means = (X, np.int64(n), np.int32(d), sample, means, spread)
    launch("column_means", tuning.row_constants(dtype), (-(-d // 32), 1, n_problems), (32, 32), of_means)
    host_columns, host_spread, host_means = device.downloads(columns, spread, means)
    grids = _grids(host_columns[:, 0], n, whole=whole) if sums else None
    table = np.zeros((n_problems, len(Scale)))
    table[:, Scale.WEIGHT_SCALE] = weight_scales
    table[:, Scale.HALF_SCALE], host_offsets = _halves(host_means, host_spread, dtype)
    given: list[tuple[Any, NDArray]] = [(scales, table), (offsets, host_offsets)]
    given += [] if grids is None else [(scale, grids.scale), (unit, 1.0 / grids.scale)]
    device.writes(*given)
    doubtful = grids is not None and grids.n_limbs == 2
    row = {"ROW": storage_dtype(dtype)}
    rows = Struct(device, "Rows", row, X=X, n=n, d=d)
    scaling = Struct(device, "Scaling", {}, scales=scales, offsets=offsets, n_steps=n_steps)
    of_facts = (rows, scaling, norms, rests, *((weights, scale) if doubtful else (None, None)))
    launch("row_facts", tuning.row_constants(dtype), (tuning.stride_blocks(n, 8), 1, n_problems), 256, of_facts)
    table = device.download(scales)
    _refuse(table[:, Scale.LARGEST_ANY], dtype)
    if sums and grids is None:
        raise FloatingPointError("Rows or their products with the weights are not finite.")
    n_limbs = 1 + (table[:, Scale.FINER] > 0.0).astype(np.int64)
    if grids is not None:
        grids = Grid(grids.scale, grids.bits, int(n_limbs.max()))
    known = host_columns if sums and not whole else None
    return RowFacts(table, scales, offsets, norms, rests, known, grids, n_limbs, scale, unit)


def _refuse(largest: F64, dtype: np.dtype) -> None:
    """Raise unless the largest magnitudes of all problems are allowed."""
    for problem in np.flatnonzero(~(largest <= LARGEST_VALUE)).tolist():
        try:
            refuse_values(float(largest[problem]), "bfloat16" if dtype == BFLOAT16 else dtype)
        except ValueError as error:
            if len(largest) == 1:
                raise
            raise ProblemError(problem, error) from error


def _halves(means: F64, spread: F64, dtype: np.dtype) -> tuple[F64, NDArray[np.float32]]:
    """The scales and the offsets by which rows become halves, from the means and the spread of a sample.

    Offsets are minus the means; scales leave room for outliers.  Whole numbers of one byte stay whole.
    """
    n_problems, d = means.shape
    offsets = np.zeros((n_problems, tuning.STEP_COLUMNS * tuning.n_steps(d, dtype)), np.float32)
    if dtype == np.uint8:
        offsets[:, :d] = -np.rint(means)
        return np.ones(n_problems), offsets
    most = LARGEST_EXPONENTS[dtype != np.float64]
    useful = (spread > 0.0) & (spread < np.inf)
    exponents = np.where(useful, HALF_ROOM - power_of_two_above(np.where(useful, spread, 1.0)), 0)
    scales = np.ldexp(1.0, exponents.clip(-most, most))
    with np.errstate(over="ignore", invalid="ignore"):  # such values are refused later
        offsets[:, :d] = np.nan_to_num(-means * scales[:, None], nan=0.0, posinf=0.0, neginf=0.0)
    return scales, offsets


def launch_column_facts(launch: Callable[..., None], X: Any, dtype: np.dtype, weights: Any, columns: Any) -> None:
    """Add to `columns`, (n_problems, 3, n_features) float64 and zero before, what kernels/column_facts.cu says."""
    n_problems, _, d = columns.shape
    n, (block, rows) = X.shape[0] // n_problems, tuning.column_shape(d)
    args = (X, weights, np.int64(n), np.int32(d), np.int32(rows), columns)
    grid = (-(-n // rows), -(-d // block[0]), n_problems)
    launch("column_facts", tuning.row_constants(dtype), grid, block, args)


def _grids(largest: F64, n: int, *, whole: bool) -> Grid | None:
    """Grids with two limbs, or one for bytes without weights, which are whole; None if a value is not finite."""
    if whole:
        return Grid(np.ones(largest.shape), Grid.limb_bits(n), 1)
    return Grid.for_largest(largest, n) if np.isfinite(largest).all() else None
