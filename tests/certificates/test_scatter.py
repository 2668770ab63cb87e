"""Bounds of the inertia of one cluster: around what rational arithmetic gives, and around what fits compute."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.backends.cuda.backend import CupyBackend
from gpukmeans.certificates.scatter import scatter_bounds
from gpukmeans.engine.tolerance import mean_variance
from tests.emulator import EmulatorDevice
from tests.emulator.testing import skip_without_compiler


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


def rational_scatter(X):
    columns = [[Fraction(float(x)) for x in column] for column in X.T]
    return sum(sum(x * x for x in column) - sum(column) ** 2 / len(column) for column in columns)


def cases():
    """Name, rows, and how near the bounds lie to each other at least."""
    local = np.random.default_rng(0)
    X = local.standard_normal((300, 5))
    far = X.copy()
    far[0] = 1e8  # the row that sums are about
    mixed = X * [1e-30, 1.0, 1e30, 0.0, 1e-300]
    return {
        "noise": (X, 1e-9),
        "float32": (X.astype(np.float32), 1e-6),
        "an offset, float32": ((X + 1e3).astype(np.float32), 0.1),
        "bytes": (local.integers(0, 256, (300, 5)).astype(np.uint8), 1e-9),
        "the first row far away": (far, 1e-9),
        "features of any size": (mixed, 1e-9),
        "one row": (X[:1], None),
        "equal rows": (np.tile(X[:1], (9, 1)), None),
        "squares that totals lose": (np.column_stack([np.ones(9), X[:9, 0] * 1e-149]), None),
        "squares that totals round": (np.column_stack([np.ones(9), X[:9, 0] * 1e-145]), None),
        "subnormal": (X * 2.0**-1060, None),
        "more than a block": (local.standard_normal((2100, 3)), 1e-9),
    }


@pytest.mark.parametrize("name", cases())
@pytest.mark.parametrize("weighted", [False, True])
def test_the_inertia_of_one_cluster_lies_within_its_bounds(name, weighted):
    """Weights have no part in it."""
    X, width = cases()[name]
    weight = np.random.default_rng(1).uniform(0, 3, len(X)) if weighted else None
    rows = CupyBackend(EmulatorDevice()).load(X, weight)
    lowest, highest = rows.scatter_bounds()
    assert lowest <= rational_scatter(X) <= highest
    assert lowest <= mean_variance(NumpyBackend().load(X)) * X.size * (1 + 2.0**-50)
    assert mean_variance(NumpyBackend().load(X)) * X.size * (1 - 2.0**-50) <= highest
    assert width is None or highest - lowest <= width * highest


def test_roundings_need_the_room_that_they_are_given():
    """Sums in float64 about a row far from the others: their scatter is lost, but for the bounds."""
    X = np.full((1000, 1), 0.1) + np.random.default_rng(0).uniform(0, 1e-9, (1000, 1))
    X[0] = 3e7
    away = X[1:, 0] - X[0, 0]
    sums, squares = np.array([np.sum(away)]), np.array([np.sum(away**2)])
    truth = rational_scatter(X)
    lowest, highest = scatter_bounds(sums, squares, 1000, 3e7, np.dtype(np.float64))
    assert float(squares[0] - sums[0] * sums[0] / 1000) != float(truth)
    assert lowest <= truth <= highest
