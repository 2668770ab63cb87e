"""Rows of unit length: the plain operations one by one, on the host and by the kernel, to the same bits."""

from __future__ import annotations

import doctest
import math
from fractions import Fraction

import numpy as np
import pytest

from gpukmeans.arrays.on_device import center_dtype
from gpukmeans.backends.cuda import tuning
from gpukmeans.exact import unit_rows as module
from gpukmeans.exact.unit_rows import unit_centers, unit_rows
from tests.emulator.testing import skip_without_compiler
from tests.support.launches.common import (
    IN_ORDER,
    launch,
    plain_warp_order,
    rows_and_centers,
    watched,
)
from tests.support.launches.faults import assert_fault_is_seen, some_weekly

DTYPES = [np.uint8, np.float16, np.float32, np.float64]


def table(dtype, n=21, d=37, seed=0):
    X = rows_and_centers(n, 1, d, np.dtype(dtype) if dtype != np.float16 else np.float32, seed)[0].astype(dtype)
    X[3] = 0
    X[5, 1:] = 0
    if dtype == np.float64:
        X[7:13] *= np.array([2.0**400, 1e-300, 1e-320, 5e-324, 1e150, 2.0**-537])[:, None]
        X[13, 0] = 1e290
    if dtype == np.float32:
        X[7:10] *= np.array([1e38, 1e-38, 1e-44], np.float32)[:, None] / 4
    return X


def plain(X):
    """In Python's floats: powers of two through exact rationals, correctly rounded roots and quotients."""
    unit = np.zeros(X.shape, np.float32 if X.dtype == np.float32 else np.float64)
    largest = []
    for i, row in enumerate(X.astype(np.float64).tolist()):
        largest.append(max(abs(value) for value in row))
        if largest[-1] == 0.0:
            continue
        power = Fraction(2) ** math.frexp(largest[-1])[1]
        small = [float(Fraction(value) / power) for value in row]
        length = math.sqrt(plain_warp_order([value * value for value in small]))
        unit[i] = [value / length for value in small]
    return unit, np.array(largest)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [1, 31, 37, 200])
def test_the_host_does_the_plain_operations(dtype, d):
    X = table(dtype, d=d)
    unit, largest = unit_rows(X)
    want, magnitudes = plain(X)
    assert np.array_equal(unit, want)
    assert unit.dtype == want.dtype
    assert np.array_equal(largest, magnitudes)


def test_lengths_are_one_to_a_few_units_in_the_last_place():
    """Of d = 37 values: the sum of squares is off by gamma(4), its root by half that, quotients by half a unit each."""
    unit, _ = unit_rows(table(np.float64))
    for i, row in enumerate(unit.tolist()):
        square = sum(Fraction(value) ** 2 for value in row)
        assert square == 0 if i == 3 else abs(square - 1) < Fraction(12, 2**53)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_powers_of_two_change_nothing_and_neither_do_blocks(dtype):
    X = np.random.default_rng(0).standard_normal((3000, 90)).astype(dtype)
    scales = 2.0 ** np.random.default_rng(1).integers(-60, 60, (3000, 1))
    unit, _ = unit_rows(X)
    assert np.array_equal(unit_rows((X * scales).astype(dtype))[0], unit)
    assert np.array_equal(unit_rows(X[1234:1235])[0], unit[1234:1235])


def test_a_center_of_length_zero_stays():
    centers = np.array([[3.0, 4.0], [0.0, 0.0]])
    assert unit_centers(centers, np.array([[1.0, 0.0], [0.0, 1.0]])).tolist() == [[0.6, 0.8], [0.0, 1.0]]


def by_the_kernel(device, X, blocks=2):
    unit, largest = device.empty(X.shape, center_dtype(X.dtype)), device.empty(len(X), np.float64)
    args = (device.upload(X), np.int64(len(X)), np.int32(X.shape[1]), unit, largest)
    launch(device, "unit_rows", tuning.row_center_constants(X.dtype), blocks, 256, *args)
    return device.download(unit), device.download(largest)


def check(device, dtype, d=37):
    X = table(dtype, d=d)
    unit, largest = by_the_kernel(device, X)
    want, magnitudes = plain(X)
    assert np.array_equal(unit, want)
    assert np.array_equal(largest, magnitudes)


@IN_ORDER
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_kernel_does_the_plain_operations(order, seed, dtype):
    skip_without_compiler()
    for d in (1, 37, 70):
        check(watched(order, seed), dtype, d)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_what_is_not_finite_is_told(dtype):
    skip_without_compiler()
    X = table(dtype)
    X[2, 30], X[4, 0], X[6, [1, 2]] = np.inf, np.nan, (np.nan, -np.inf)
    largest = by_the_kernel(watched(), X)[1]
    assert largest[2] == np.inf
    assert np.isnan(largest[[4, 6]]).all()
    assert np.isfinite(np.delete(largest, [2, 4, 6])).all()


FAULTS = {
    "squares over- or underflow": ("-(ilogb(most) + 1) : 0", "0 : 0"),
    "the power of two is one off": ("-(ilogb(most) + 1)", "-ilogb(most) + 1000"),
    "lanes keep their own largest": ("most = larger_magnitude(most, __shfl_xor_sync(EVERY_LANE, most, half));", ";"),
    "one lane has the sum": ("__shfl_sync(EVERY_LANE, warp_order_sum(square), 0)", "warp_order_sum(square)"),
    "the root is left out": ("__dsqrt_rn(sum)", "sum"),
    "multiplied by a rounded inverse": (
        "__ddiv_rn(scalbn(widen(x[f]), down), length)",
        "__dmul_rn(scalbn(widen(x[f]), down), __ddiv_rn(1.0, length))",
    ),
    "rows of zeros are divided": ("sum > 0.0 ? __dsqrt_rn(sum) : 1.0", "__dsqrt_rn(sum)"),
}


@pytest.mark.parametrize("name", some_weekly(FAULTS))
def test_planted_faults_are_caught(name):
    skip_without_compiler()
    assert_fault_is_seen(name, lambda device: check(device, np.float64), *FAULTS[name])


def test_the_example_runs():
    assert doctest.testmod(module).failed == 0
