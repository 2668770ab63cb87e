"""Columns of numbers that are hard to sum, and what limbs of a grid stand for."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

rng = np.random.default_rng(20)

COLUMNS = {
    "ordinary": rng.standard_normal(40),
    "zero": np.zeros(40),
    "constant": np.full(40, 0.1),
    "whole numbers": rng.integers(-1000, 1000, 40).astype(float),
    "far from zero": 1e6 + rng.random(40),
    "float32 subnormal": (rng.integers(-9, 9, 40) * 2.0**-149),
    "float32 largest": np.full(40, float(np.finfo(np.float32).max)) * rng.choice([-1.0, 1.0], 40),
    "a tiny value beside a huge one": np.where(np.arange(40) == 7, 3e30, 1.2345e-9),
    "a single value": np.where(np.arange(40) == 3, 5e-324 * 2**60, 0.0),
    "largest allowed": 2.0**480 * rng.choice([-1.0, 1.0, 2.0**-70 / 3], 40),
    "power of two": np.full(40, 2.0**-30),
    "just below a power of two": np.full(40, np.nextafter(2.0**-30, 0)),
}


def sum_limbs(grid, values):
    return np.stack([limb.astype(np.int64) for limb in grid.limbs(values)])


def as_fractions(grid, limbs):
    """The rows that limbs stand for."""
    rows = np.empty(limbs.shape[1:], object)
    for index in np.ndindex(rows.shape):
        scale = Fraction(grid.scale[index[-1]])
        rows[index] = sum(Fraction(int(limbs[i][index])) / 2 ** (grid.bits * i) for i in range(grid.n_limbs)) / scale
    return rows
