"""The kernels of sums, centers, results and seeds, each alone, against rational arithmetic or plain Python."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gpukmeans.backends import tuning
from gpukmeans.exact_sums import Grid, cluster_means, exact_total
from tests.emulator.testing import skip_without_compiler
from tests.kernel_launches import (
    IN_ORDER,
    ROW_DTYPES,
    filled,
    finish,
    launch,
    move,
    moves,
    plain_square_distance,
    rational_sums,
    relabel,
    row_distance,
    rows_and_centers,
    watched,
)


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


# ---- move_sums, relabel ---------------------------------------------------------------------------------------


@ROW_DTYPES
@pytest.mark.parametrize(("n", "k", "d", "weighted"), [(1, 1, 1, False), (700, 3, 5, True), (33, 7, 150, True)])
@pytest.mark.parametrize("shared", [True, False])
def test_sums_follow_the_rows_exactly(n, k, d, weighted, shared, dtype):
    X, _ = rows_and_centers(n, k, d, dtype)
    weight = np.random.default_rng(1).uniform(0.1, 3, n) if weighted else None
    old, new = moves(n, k)
    grid = Grid.for_rows(X, weight)
    got = move(watched("random", 5), X, weight, old, new, k, grid, shared=shared)
    assert np.array_equal(got, rational_sums(X, weight, old, new, k, grid))


@IN_ORDER
def test_no_order_changes_a_sum(order, seed):
    X, _ = rows_and_centers(300, 1, 6, np.float64)
    grid = Grid.for_rows(X)
    assert grid.n_limbs == 2
    old, new = np.full(300, -1, np.int32), np.zeros(300, np.int32)
    for shared in (True, False):
        got = move(watched(order, seed), X, None, old, new, 1, grid, shared=shared)
        assert np.array_equal(got, rational_sums(X, None, old, new, 1, grid))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shared", [True, False])
@IN_ORDER
def test_weights_and_labels_follow(weighted, shared, order, seed):
    n, k = 700, 5
    old, new = moves(n, k)
    weight = np.random.default_rng(1).uniform(0, 1, n) if weighted else None
    grid = Grid.for_rows(weight[:, None]) if weighted else Grid(np.ones(1), 36, 1)
    labels, sums, n_moved = relabel(watched(order, seed), weight, old, new, k, grid, shared=shared)
    ones = np.ones((n, 1)) if weight is None else weight[:, None]
    assert np.array_equal(labels, new)
    assert n_moved == (old != new).sum()
    assert np.array_equal(sums, rational_sums(ones, None, old, new, k, grid)[:, :, 0])
    labels, sums, n_moved = relabel(watched(order, seed), weight, old, new, k, grid, with_sums=False)
    assert np.array_equal(labels, new)
    assert n_moved == (old != new).sum()
    assert not sums.any()


# ---- finish, center_facts -------------------------------------------------------------------------------------


@ROW_DTYPES
@pytest.mark.parametrize("weighted", [False, True])
def test_centers_are_the_means_in_numpys_bits(dtype, weighted):
    k, d = 6, 37
    X, C = rows_and_centers(50, k, d, dtype)
    C = C.astype(tuning.center_dtype(X.dtype))
    labels = np.random.default_rng(2).integers(0, k - 1, 50)  # the last cluster is empty
    weight = np.random.default_rng(3).uniform(0.1, 1, 50) if weighted else None
    sums, grid, centers, weights, shifts = finish(watched("random", 1), X, weight, labels, k, C)
    assert weights[-1] == 0
    assert np.isnan(centers[-1]).all()
    assert np.isnan(shifts[-1])
    assert np.array_equal(centers, cluster_means(sums, weights, grid, C.dtype), equal_nan=True)
    parts = [Fraction(1)] * 50 if weight is None else [Fraction(w) for w in weight.tolist()]
    for j in range(k - 1):
        total = sum((w for w, own in zip(parts, labels, strict=True) if own == j), Fraction(0))
        assert abs(Fraction(weights[j]) - total) <= total / 2**51
        for f in range(d):
            y = [Fraction(float(x[f]) * float(w)) for x, w, own in zip(X, parts, labels, strict=True) if own == j]
            mean = sum(y, Fraction(0)) / total
            largest = max(abs(v) for v in y) / total * len(y)
            ulp = Fraction(float(np.spacing(np.abs(centers[j, f]))))
            assert abs(Fraction(float(centers[j, f])) - mean) <= ulp + largest / 2**48
        assert shifts[j] == plain_square_distance(centers[j].astype(np.float64), C[j].astype(np.float64))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_facts_about_centers(dtype):
    C = np.random.default_rng(0).standard_normal((7, 40)).astype(dtype)
    C[2] = np.arange(40) - 50
    C[5] = C[3]
    device = watched("random", 2)
    outputs = [device.empty(shape, t) for shape, t in (((7, 40), np.float32), (7, np.float32))]
    outputs += [device.empty(7, np.float64), device.empty(7, np.float64)]
    args = (device.upload(C), np.int32(7), np.int32(40), *outputs)
    launch(device, "center_facts", tuning.center_constants(C.dtype), 2, 128, *args)
    narrow, c_sq, squares, largest = (device.download(a) for a in outputs)
    assert np.array_equal(narrow, C.astype(np.float32))
    assert squares.tolist() == [plain_square_distance(c.astype(np.float64), np.zeros(40)) for c in C]
    assert squares[5] == squares[3]
    assert np.array_equal(c_sq, squares.astype(np.float32))
    assert largest.tolist() == [np.inf, np.inf, 50, np.inf, np.inf, np.inf, np.inf]


# ---- results --------------------------------------------------------------------------------------------------


@ROW_DTYPES
@pytest.mark.parametrize("d", [1, 33, 100])
def test_distances_are_added_in_warp_order(dtype, d):
    X, C = rows_and_centers(60, 4, d, dtype)
    C = C.astype(tuning.center_dtype(X.dtype))
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
    args = (np.int64(1500), np.float64(grid.scale[0]), np.float64(2.0**grid.bits), total)
    launch(device, "exact_total", {}, 3, 256, device.upload(terms), *args)
    got = float(grid.value(device.download(total))[0])
    assert got == exact_total(terms)
    assert abs(Fraction(got) - sum(map(Fraction, terms.tolist()), Fraction(0))) <= Fraction(got) / 2**52


# ---- copies ---------------------------------------------------------------------------------------------------


@ROW_DTYPES
def test_gather_and_scatter(dtype):
    X, _ = rows_and_centers(30, 1, 37, dtype)
    device = watched("random", 1)
    index = np.random.default_rng(0).permutation(30)[:11].astype(np.int32)
    target = device.empty((7, 37), X.dtype)
    args = (device.upload(X), device.upload(index), np.int64(2), np.int64(7), np.int32(37), target)
    launch(device, "gather_rows", tuning.row_constants(X.dtype), 1, 256, *args)
    assert np.array_equal(device.download(target), X[index[2:9]])
    labels = device.upload(np.zeros(30, np.int32))
    decided = np.arange(1, 12, dtype=np.int32)
    launch(device, "scatter_labels", {}, 1, 256, device.upload(index), device.upload(decided), np.int64(11), labels)
    want = np.zeros(30, np.int32)
    want[index] = decided
    assert np.array_equal(device.download(labels), want)
