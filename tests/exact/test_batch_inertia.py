"""The inertia of a batch: one rounding of one real number, however it is evaluated."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import sparse

from gpukmeans.exact import batch_inertia
from gpukmeans.exact.batch_inertia import (
    BITS,
    from_distances,
    from_entries,
    from_sums,
    in_whole_numbers,
    rounded,
    rounded_within,
)
from gpukmeans.exact.sums import exact_total
from gpukmeans.exact.warp_order import row_square_distances
from tests.support.oracles import nearest

TURN = Fraction(batch_inertia.TURNING, 1 << 20)


def rounded_fraction(value):
    """By whole numbers alone."""
    if value == 0:
        return 0.0
    exponent = 0
    while value * Fraction(2) ** -exponent >= 2**BITS:
        exponent += 1
    while value * Fraction(2) ** -exponent < 2 ** (BITS - 1):
        exponent -= 1
    units = value * Fraction(2) ** -exponent
    whole = units.numerator // units.denominator
    return math.ldexp(whole + (units - whole >= TURN), exponent)


def test_values_are_rounded_as_numbers_are():
    rng = np.random.default_rng(0)
    values = [0.0, 1.0, 2.0**-400, 3e200, *np.exp(rng.uniform(-300, 300, 300))]
    for power in (0, 31, 32, 80):  # beside the turning point, and beside where an exponent ends
        for whole in (2**31, 2**31 + 1, 2**32 - 1):
            turning = math.ldexp(whole + float(TURN), power)
            values += [math.nextafter(turning, 0), turning, math.nextafter(turning, math.inf)]
    for value in values:
        assert rounded(value) == rounded_fraction(Fraction(value))


def test_bounds_decide_only_where_all_between_agree():
    turning = float(2**31 + TURN)
    assert rounded_within(turning, 1e-6) is None
    assert rounded_within(turning + 1e-3, 1e-6) == 2**31 + 1
    assert rounded_within(turning - 1e-3, 1e-6) == 2**31
    assert rounded_within(1.0, math.inf) is None
    assert rounded_within(math.nan, 1.0) is None
    assert rounded_within(0.0, 0.0) == 0.0


def cases():
    for seed, (n, k, d, scale, offset) in enumerate(
        [(60, 3, 5, 1, 0), (40, 4, 33, 1e-3, 10), (30, 2, 9, 50, 1e4), (25, 25, 3, 1, 0), (20, 3, 2, 1e90, 0)]
    ):
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((n, d)) * scale + offset
        C = X[:k] + 0.1 * scale * rng.standard_normal((k, d))
        for dtype in (np.float64, np.float32) if scale < 1e30 else (np.float64,):
            yield X.astype(dtype), C.astype(dtype)
        yield X, X[:k].copy()
        if scale == 50:
            yield (X % 256).astype(np.uint8), np.rint(C % 256)


@pytest.mark.parametrize("case", range(len(list(cases()))))
def test_every_evaluation_rounds_the_true_sum(case):
    X, C = list(cases())[case]
    labels = nearest(X, C)
    true = sum(
        (Fraction(float(x)) - Fraction(float(c))) ** 2
        for row, label in zip(X, labels, strict=True)
        for x, c in zip(row, C[label], strict=True)
    )
    want = rounded_fraction(true)
    assert in_whole_numbers(X, C, labels) == want
    wide, centers = X.astype(np.float64), C.astype(np.float64)
    close = from_distances(exact_total(row_square_distances(X, slice(0, len(X)), centers[labels])), X.shape[1])
    assert close in (None, want)
    sums = np.array([[float(sum(map(Fraction, column))) for column in wide[labels == j].T] for j in range(len(C))])
    sums = sums.reshape(C.shape)
    weights = np.bincount(labels, minlength=len(C)).astype(float)
    cheap = from_sums(np.vecdot(wide, wide), centers, sums, weights)
    assert of_entries(X, C, labels) == want
    assert cheap in (None, want)
    if abs(X).max() < 100 and true:
        assert want in (close, cheap)  # rows that lie near the origin, beside their spread, leave hardly anything open


def of_entries(X, C, labels):
    """Of the values that are not zero, with a cluster without rows beside, whose center is not read."""
    stored = sparse.coo_array(X)
    C = np.vstack([C, np.full(C.shape[1], np.nan, C.dtype)])
    counts = np.bincount(labels, minlength=len(C)).astype(float)
    return from_entries(stored.data, labels[stored.coords[0]], stored.coords[1], C, counts)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_entries_of_sparse_rows_tell_where_a_sum_in_floats_does_not(dtype):
    """Far from the origin, beside their spread; the other evaluations leave some of these open."""
    rng = np.random.default_rng(0)
    n_open = 0
    for offset in (0.0, 1e3, 1e6):
        for _ in range(20):
            C = np.where(rng.random((3, 20)) < 0.5, 0.0, offset + rng.standard_normal((3, 20))).astype(dtype)
            labels = rng.integers(0, 3, 30)
            X = (C[labels] + (C[labels] != 0) * rng.standard_normal((30, 20))).astype(dtype)
            want = in_whole_numbers(X, C, labels)
            assert of_entries(X, C, labels) == want
            sums = np.stack([X[labels == j].sum(axis=0, dtype=np.float64) for j in range(3)])
            squares = np.vecdot(X.astype(np.float64), X.astype(np.float64))
            n_open += from_sums(squares, C.astype(np.float64), sums, np.bincount(labels, minlength=3) * 1.0) is None
    assert n_open > 10


@pytest.mark.parametrize("scale", [2.0**-460, 2.0**480])
def test_entries_of_extreme_size_are_left_to_whole_numbers(scale):
    X = np.array([[0.0, scale], [scale, 0.0]])
    assert of_entries(X, X[:1] / 2, np.zeros(2, np.int32)) is None
    assert of_entries(np.zeros((2, 2)), np.zeros((1, 2)), np.zeros(2, np.int32)) == 0.0


def test_equal_rows_have_no_inertia():
    X = np.full((5, 3), 0.1)
    assert in_whole_numbers(X, X[:1], np.zeros(5, np.int32)) == 0.0


def test_the_smaller_halves_of_products_matter(monkeypatch):
    X = 1e8 + np.random.default_rng(0).standard_normal((30, 4))
    C, labels = X[:1] + 0.5, np.zeros(30, np.int32)
    want = in_whole_numbers(X, C, labels)
    assert of_entries(X, C, labels) == want
    monkeypatch.setattr(batch_inertia, "two_product", lambda a, b: (a * b, 0.0 * (a * b)))
    assert of_entries(X, C, labels) != want


@pytest.mark.parametrize("error", [2.0**-30, -(2.0**-30)])
def test_a_planted_error_is_seen(error):
    X, C = next(cases())
    labels = nearest(X, C)
    total = exact_total(row_square_distances(X, slice(0, len(X)), C[labels]))
    assert from_distances(total * (1 + error), X.shape[1]) != in_whole_numbers(X, C, labels)
