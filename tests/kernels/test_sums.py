"""The kernels of results, seeds and copies, each alone, against rational arithmetic or plain Python."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gpukmeans.arrays.on_device import center_dtype
from gpukmeans.backends.cuda import tuning
from gpukmeans.exact.sums import Grid, exact_total
from tests.emulator.testing import skip_without_compiler
from tests.support.launches.common import (
    IN_ORDER,
    ROW_DTYPES,
    filled,
    launch,
    plain_square_distance,
    row_distance,
    rows_and_centers,
    watched,
)


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


# ---- results --------------------------------------------------------------------------------------------------


@ROW_DTYPES
@pytest.mark.parametrize("d", [1, 33, 100])
def test_distances_are_added_in_warp_order(dtype, d):
    X, C = rows_and_centers(60, 4, d, dtype)
    C = C.astype(center_dtype(X.dtype))
    labels = np.random.default_rng(5).integers(0, 4, 60).astype(np.int32)
    weight = np.random.default_rng(6).uniform(0, 2, 60)
    plain = [
        plain_square_distance(x.astype(np.float64), C[j].astype(np.float64)) for x, j in zip(X, labels, strict=True)
    ]
    distances, largest = row_distance(watched("random", 1), X, C, labels)
    assert distances.tolist() == plain
    assert largest == max(plain)
    distances, largest = row_distance(watched(), X, C, labels, weight)
    assert distances.tolist() == [p * w for p, w in zip(plain, weight.tolist(), strict=True)]


@IN_ORDER
def test_totals_do_not_depend_on_the_order(order, seed):
    terms = np.random.default_rng(0).uniform(0, 1, 1500) ** 40
    grid = Grid.for_largest(float(terms.max()), len(terms))
    device = watched(order, seed)
    total = filled(device, (2, 1), np.int64)
    args = (device.upload(terms.max(keepdims=True)), np.int64(1500), np.int32(grid.bits), total)
    launch(device, "exact_total", {}, 3, 256, device.upload(terms), *args)
    got = float(grid.value(device.download(total))[0])
    assert got == exact_total(terms)
    assert abs(Fraction(got) - sum(map(Fraction, terms.tolist()), Fraction(0))) <= Fraction(got) / 2**52


# ---- copies ---------------------------------------------------------------------------------------------------


@ROW_DTYPES
def test_rows_are_gathered_as_they_are(dtype):
    X, _ = rows_and_centers(30, 1, 37, dtype)
    device = watched("random", 1)
    index = np.random.default_rng(0).permutation(30)[:11].astype(np.int32)
    target = device.empty((7, 37), X.dtype)
    args = (device.upload(X), device.upload(index), np.int64(2), np.int64(7), np.int32(37), target)
    launch(device, "gather_rows", tuning.row_constants(X.dtype), 1, 256, *args)
    assert np.array_equal(device.download(target), X[index[2:9]])
