"""Sums on a power-of-two grid keep every promised bit, in any order, and so do means of them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gpukmeans.exact.sums import (
    Grid,
    cluster_means,
    exact_total,
    exact_totals_by_label,
    two_product,
    weight_grid,
    weighted_rows,
)
from tests.support.oracles import on_grid
from tests.support.sum_cases import COLUMNS, sum_limbs

rng = np.random.default_rng(20)

U = Fraction(1, 2**53)


def test_weighted_rows_are_exact_for_float32_and_weights_of_29_bits():
    X = rng.standard_normal((50, 4)).astype(np.float32)
    weight = rng.integers(0, 2**29, 50) * 2.0**-20
    got = weighted_rows(X, weight, slice(None))
    want = [Fraction(float(x)) * Fraction(w) for row, w in zip(X, weight, strict=True) for x in row]
    assert [Fraction(v) for v in got.ravel().tolist()] == want


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_weighted_rows_keep_the_dtype_only_where_asked(dtype):
    X = np.arange(6).reshape(3, 2).astype(dtype)
    assert weighted_rows(X, None, slice(0, 2), convert=False).dtype == dtype
    assert weighted_rows(X, None, np.array([2])).dtype == np.float64
    for weight, times in ((None, 1.0), (np.full(3, 2.0), 2.0)):
        room = np.full((2, 2), np.nan)
        for got in (weighted_rows(X, weight, slice(1, 3)), weighted_rows(X, weight, slice(1, 3), out=room)):
            assert got.tolist() == (times * X[1:3]).tolist()


def test_weight_grid_counts_whole_rows_without_weights():
    grid = weight_grid(2**20, None)
    assert grid.n_limbs == 1
    assert grid.value(np.array([[[2**20]]])).tolist() == [[2**20]]
    assert weight_grid(2, np.array([1.0, 1 / 3])).n_limbs == 2


@pytest.mark.parametrize("name", COLUMNS)
def test_a_sum_is_the_float64_nearest_to_the_exact_sum(name):
    """Up to 2**17 rows both sums of limbs are exact float64 numbers, so only their sum is rounded."""
    values = COLUMNS[name][:, None]
    grid = Grid.for_rows(values)
    total = sum_limbs(grid, values).sum(axis=1)
    assert grid.value(total)[0] == float(sum(on_grid(values)[:, 0]))


def test_value_of_any_sums():
    """|error| <= 2u (|second limb's share| + |first's rounding|) and half an ulp of the result."""
    grid = Grid(np.ones(1), 36, 2)  # in units of the first limb
    first = rng.integers(-(2**62), 2**62, 4000) >> rng.integers(0, 62, 4000)
    second = rng.integers(-(2**61), 2**61, 4000) >> rng.integers(0, 61, 4000)
    first[:500] >>= 45
    second[:500] = -(first[:500] << 36) + rng.integers(-3, 4, 500)  # all but a few units cancel
    got = grid.value(np.stack([first, second])[:, :, None])[:, 0]
    for s0, s1, value in zip(first.tolist(), second.tolist(), got.tolist(), strict=True):
        share = Fraction(s1, 2**36)
        exact = s0 + share
        slack = 2 * U * (abs(share) + abs(s0) * U * 2) + Fraction(float(np.spacing(abs(float(exact))))) / 2
        assert abs(Fraction(value) - exact) <= slack


def terms_for_totals(seed, n):
    local = np.random.default_rng(seed)
    return np.ldexp(local.random(n), local.integers(-20, 1, n))


@pytest.mark.parametrize("n", [1, 2, 1000, (1 << 16) + 1])
def test_exact_total_is_rounded_once(n):
    terms = terms_for_totals(n, n)
    assert exact_total(terms) == float(sum(on_grid(terms[:, None])[:, 0]))


def test_exact_total_does_not_know_the_order():
    terms = terms_for_totals(1, 5000)
    orders = [np.random.default_rng(seed).permutation(5000) for seed in range(20)]
    assert len({exact_total(terms[order]) for order in orders}) == 1
    assert len({float(terms[order].cumsum()[-1]) for order in orders}) > 1  # plain sums do


def test_exact_totals_by_label():
    terms, labels = terms_for_totals(3, 90), np.random.default_rng(3).choice([0, 1, 3, 4], 90).astype(np.int32)
    want = [exact_total(terms[labels == label]) for label in range(6)]
    assert exact_totals_by_label(terms, labels, 6).tolist() == want


def test_two_product_is_exact():
    a, b = np.random.default_rng(4).uniform(1, 2, (2, 3000)).tolist()
    product, error = two_product(np.array(a), np.array(b))
    for x, y, p, e in zip(a, b, product.tolist(), error.tolist(), strict=True):
        assert Fraction(p) + Fraction(e) == Fraction(x) * Fraction(y)


@pytest.mark.parametrize(
    ("terms", "total"),
    [([], 0.0), ([0.0, 0.0], 0.0), ([5e-200], 5e-200), ([2.0**960] * 4, 2.0**962), ([1e16, *[1.0] * 4], 1e16 + 4)],
)
def test_exact_total_at_the_edges(terms, total):
    assert exact_total(np.array(terms)) == total


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_workers_chunks_and_order_cannot_change_the_sums(dtype, weighted):
    """Any split of the rows, each part summed by itself in any order, then the parts added: the same integers."""
    X = (200 * rng.random((999, 5))).astype(dtype)
    weight = rng.random(999) if weighted else None
    grid = Grid.for_rows(X, weight)
    limbs = sum_limbs(grid, weighted_rows(X, weight, slice(None)))
    want = limbs.sum(axis=1)
    for seed in range(5):
        local = np.random.default_rng(seed)
        order = local.permutation(999)
        cuts = np.sort(local.choice(999, 6, replace=False))
        parts = [
            sum_limbs(grid, weighted_rows(X, weight, part)).sum(axis=1) for part in np.split(order, cuts) if len(part)
        ]
        local.shuffle(parts)
        assert np.array_equal(np.sum(parts, axis=0), want)


def test_sums_kept_by_differences_never_drift():
    X = rng.standard_normal((300, 4)) * np.array([1e-12, 1, 1e9, 1e30])
    limbs = sum_limbs(Grid.for_rows(X), X)
    total = limbs.sum(axis=1)
    kept = total.copy()
    for i in rng.integers(300, size=5000):
        kept -= limbs[:, i]
        kept += limbs[:, i]
    assert np.array_equal(kept, total)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, np.float64) for name in COLUMNS] + [(name, np.float32) for name in COLUMNS if name != "largest allowed"],
)
def test_cluster_means_are_within_half_an_ulp_and_a_trace(name, dtype):
    """A quotient corrected by its remainder errs by u of the correction, and rounds; float32 rounds once more."""
    values = COLUMNS[name][:, None]
    grid = Grid.for_rows(values)
    sums = sum_limbs(grid, values).sum(axis=1)[:, None, :]
    for weight in (1.0, 3.0, 40.0, 41.7):
        if dtype == np.float32 and weight < 40 and name == "float32 largest":
            continue  # not a mean: too few rows for the sum
        got = cluster_means(sums, np.array([weight]), grid, np.dtype(dtype))
        exact = sum(on_grid(values)[:, 0]) / Fraction(weight)
        spacing = np.spacing(dtype(abs(float(exact))))
        share = Fraction(1, 2) + Fraction(1, 2**20)
        assert got.dtype == dtype
        assert abs(Fraction(float(got[0, 0])) - exact) <= share * Fraction(float(spacing))


def test_cluster_means_are_the_nearest_floats():
    """The quotient corrected by its remainder is the exact quotient rounded once; float32 rounds that once more."""
    X = rng.standard_normal((500, 60))
    X[:, 0] = 1.0  # a sum that float64 holds, beside those that it does not
    grid = Grid.for_rows(X)
    sums = sum_limbs(grid, X).sum(axis=1)[:, None, :]
    exact = on_grid(X).sum(axis=0)
    for dtype in (np.float32, np.float64):
        got = cluster_means(sums, np.array([487.0]), grid, np.dtype(dtype))[0]
        assert got.tolist() == [dtype(float(Fraction(total) / 487)) for total in exact]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_the_mean_of_equal_rows_is_that_row(dtype):
    """Otherwise duplicates move their own center by an ulp each iteration, and a fit of them need not end."""
    for n in range(1, 60):
        for value in (0.1, 0.9, 1.7, 2.3e-7, 123.456):
            X = np.full((n, 1), value).astype(dtype)
            grid = Grid.for_rows(X)
            sums = sum_limbs(grid, X.astype(np.float64)).sum(axis=1)[:, None, :]
            center_dtype = np.dtype(np.float32 if dtype == np.float32 else np.float64)
            assert cluster_means(sums, np.array([float(n)]), grid, center_dtype)[0, 0] == X[0, 0], (n, value)


def test_a_cluster_without_weight_has_no_mean():
    grid = Grid(np.ones(2), 36, 1)
    means = cluster_means(np.array([[[0, 0], [4, 6]]]), np.array([0.0, 2.0]), grid, np.dtype(np.float64))
    assert np.isnan(means[0]).all()
    assert means[1].tolist() == [2.0, 3.0]
