"""Every radius holds against rational arithmetic, is not much wider than the worst case, and is needed."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gpukmeans.certificates.rounding import SQUARE_UNDERFLOW, UNIT32, UNIT64, gamma
from gpukmeans.certificates.scores import exact_in_float64, score_radius, square_distance_radius
from gpukmeans.datasets import near_ties
from tests.support.oracles import square_distances
from tests.support.score_cases import (
    CASES32,
    CASES64,
    dot_fused,
    dot_in_order,
    every_rounding_the_same_way,
    exact_scores,
    flush,
    norm_above,
)


def scores(x, C, dtype, how):
    """|c|^2 - 2 x.c as a backend may form it: the square in float64, the rest in `dtype`."""
    d = len(x)
    rising = np.argsort(np.abs(x.astype(np.float64) * C[0]), kind="stable")
    order = {"forward": np.arange(d), "backward": np.arange(d)[::-1], "rising": rising, "falling": rising[::-1]}
    squares = np.einsum("ij,ij->i", C.astype(np.float64), C.astype(np.float64)).astype(dtype)
    if how == "matmul":
        return C.astype(dtype) @ (dtype(-2) * x.astype(dtype)) + squares
    if how == "flushed":
        return flush(flush(squares) - flush(2 * dot_in_order(x, C, dtype, order["forward"], flush)))
    if how == "fused":
        return squares - 2 * dot_fused(x, C, dtype, order["forward"])
    return squares - 2 * dot_in_order(x, C, dtype, order[how])


def assert_within(x, C, how, dtype=np.float32):
    unit = UNIT32 if dtype == np.float32 else UNIT64
    radius = score_radius(len(x), max(norm_above(c) for c in C), unit)
    allowed = Fraction(radius.per_norm) * Fraction(norm_above(x)) + Fraction(radius.constant)
    for got, want in zip(scores(x, C, dtype, how).tolist(), exact_scores(x, C), strict=True):
        assert abs(Fraction(got) - want) <= allowed


@pytest.mark.parametrize("how", ["forward", "backward", "rising", "falling", "matmul", "fused", "flushed"])
@pytest.mark.parametrize(("name", "x", "C"), CASES32, ids=[case[0] for case in CASES32])
def test_scores_lie_within_their_radius(name, x, C, how):
    assert_within(x, C, how)


@pytest.mark.parametrize("how", ["forward", "rising", "matmul"])
@pytest.mark.parametrize(("name", "x", "C"), CASES64, ids=[case[0] for case in CASES64])
def test_scores_in_float64_lie_within_their_radius(name, x, C, how):
    assert_within(x, C, how, np.float64)


@pytest.mark.parametrize("how", ["forward", "rising", "matmul", "fused"])
@pytest.mark.parametrize(("name", "x", "C"), CASES64, ids=[case[0] for case in CASES64])
def test_scores_of_float64_rows_and_centers_lie_within_their_radius(name, x, C, how):
    """Rounding to float32 first is inside the bound (uint8 rows meet float64 centers so)."""
    assert_within(x, C, how)


def test_the_score_radius_is_reached_to_three_quarters():
    """Worst-case roundings: the radius holds, and one a quarter smaller would not."""
    x = every_rounding_the_same_way(500, UNIT32).astype(np.float32)
    C = np.stack([x, -x])
    radius = score_radius(500, max(norm_above(c) for c in C))
    allowed = Fraction(radius.per_norm) * Fraction(norm_above(x)) + Fraction(radius.constant)
    error = max(
        abs(Fraction(got) - want)
        for got, want in zip(scores(x, C, np.float32, "forward").tolist(), exact_scores(x, C), strict=True)
    )
    assert Fraction(3, 4) * allowed < error <= allowed


def test_what_cannot_be_bounded_is_not_certified():
    assert gamma(0.5 / UNIT32, UNIT32) == float("inf")
    assert score_radius(int(0.6 / UNIT32), 1.0).per_norm == float("inf")
    assert 0 < gamma(1000, UNIT64) < 1001 * UNIT64


# ---- squared distances -------------------------------------------------------------------------------------------


def float64_square(x, c, order):
    total = 0.0
    for f in order:
        total += (float(x[f]) - float(c[f])) ** 2
    return total


@pytest.mark.parametrize(("name", "x", "C"), CASES64, ids=[case[0] for case in CASES64])
def test_float64_square_distances_lie_within_their_radius(name, x, C):
    radius = Fraction(square_distance_radius(len(x)))
    distances, unit = square_distances(x[None], C)
    for j, c in enumerate(C):
        exact = int(distances[0, j]) * unit
        for order in (range(len(x)), range(len(x))[::-1], np.argsort(np.abs(x - c))):
            assert abs(Fraction(float64_square(x, c, order)) - exact) <= radius * exact + Fraction(SQUARE_UNDERFLOW)
        fused = float(np.einsum("i,i->", x - c, x - c))
        assert abs(Fraction(fused) - exact) <= radius * exact + Fraction(SQUARE_UNDERFLOW)


def test_the_square_distance_radius_is_reached_to_three_quarters():
    x = every_rounding_the_same_way(500, UNIT64)
    zero = np.zeros((1, 500))
    distances, unit = square_distances(x[None], zero)
    exact = int(distances[0, 0]) * unit
    error = abs(Fraction(float64_square(x, zero[0], range(500))) - exact) / exact
    radius = Fraction(square_distance_radius(500))
    assert Fraction(3, 4) * radius < error <= radius


@pytest.mark.parametrize("scale", [1.0, 2.0**-505, 2.0**-520, 2.0**470])
def test_squares_that_differ_by_more_than_the_radius_are_ordered_alike(scale):
    """The comparison that callers make, on near ties and where squares under- or nearly overflow."""
    X, C = near_ties(60, 6, 12, seed=5, dtype=np.float64)
    X, C = X * scale / 32, C * scale / 32
    radius = square_distance_radius(12)
    exact, _ = square_distances(X, C)
    decided = 0
    for i, x in enumerate(X):
        computed = [float64_square(x, c, range(12)) for c in C]
        for a in range(6):
            for b in range(6):
                if computed[b] - computed[a] > radius * (computed[a] + computed[b]) + SQUARE_UNDERFLOW:
                    decided += 1
                    assert exact[i, a] < exact[i, b]
    assert decided > (500 if scale >= 1 else -1)  # tiny squares may all stay open


@pytest.mark.parametrize(
    ("d", "largest"),
    [
        (1, 2.0**25),
        (2, 2.0**25),
        (1, 47453132.0),
        (1, 47453133.0),
        (784, 255.0),
        (784, 65535.0),
        (3, 2.0**24),
        (64, 2.0**22),
    ],
)
def test_whole_numbers_that_are_called_exact_are(d, largest):
    assert exact_in_float64(d, largest) == (4 * int(largest) ** 2 * d <= 2**53)
    if exact_in_float64(d, largest):
        x, c = np.full((1, d), largest), np.full((1, d), -largest + 1)
        x[0, 0] -= 1
        distances, unit = square_distances(x, c)
        assert float64_square(x[0], c[0], range(d)) == int(distances[0, 0]) * unit
        product = float(x[0] @ x[0]) + float(c[0] @ c[0]) - 2 * float(x[0] @ c[0])
        assert product == int(distances[0, 0]) * unit


def test_whole_numbers_beyond_the_limit_are_not_exact():
    """The limit is needed: a little above it float64 rounds."""
    d, largest = 2, 2.0**26
    assert not exact_in_float64(d, largest)
    x, c = np.array([[largest, largest - 1]]), np.array([[-largest + 1, -largest]])
    distances, unit = square_distances(x, c)
    assert float64_square(x[0], c[0], range(d)) != int(distances[0, 0]) * unit


@pytest.mark.parametrize("value", [float("inf"), 1e200])
def test_no_whole_number_is_exact_beyond_float64(value):
    assert not exact_in_float64(1, value)
