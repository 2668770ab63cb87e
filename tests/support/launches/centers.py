"""Sums whose means are given centers, for launches of kernels/update_centers.cu."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from gpukmeans.exact.sums import Grid, weight_grid
from tests.support.launches.common import rational_sums
from tests.support.launches.few import Scaling

PLAIN = Scaling(1.0, np.zeros(16, np.float32))


def fractions(vector):
    return [Fraction(float(v)) for v in vector]


def sums_of(X, weight, labels, k):
    """Sums, weights' sums and their grids."""
    grid, on_weights = Grid.for_rows(X, weight), weight_grid(len(X), weight)
    ones, start = np.ones((len(X), 1)) if weight is None else weight[:, None], np.full(len(X), -1)
    weight_sums = rational_sums(ones, None, start, labels, k, on_weights)[:, :, 0]
    return rational_sums(X, weight, start, labels, k, grid), weight_sums, grid, on_weights


def towards(targets, *, empty=()):
    """Sums whose means are the targets (a row each); NaN for the empty clusters."""
    labels = np.arange(len(targets))
    sums, weight_sums, *grids = sums_of(targets, None, labels, len(targets))
    sums[:, list(empty)] = 0
    weight_sums[:, list(empty)] = 0
    return sums, weight_sums, *grids
