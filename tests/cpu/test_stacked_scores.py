"""The radius of scores that come out of one product with |c|^2 as its last term, against rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gpukmeans.certificates.rounding import LARGEST_NORM32, UNIT32, ScoreRadius
from gpukmeans.certificates.scores import stacked_score_radius
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

ORDERS = ["forward", "square first", "rising", "falling", "matmul", "fused", "flushed"]


def stacked(x, C, how):
    """(-2 c, |c|^2) . (x, 1) in float32: the square in float64, then rounded, last in the sum or first."""
    squares = np.einsum("ij,ij->i", C.astype(np.float64), C.astype(np.float64)).astype(np.float32)
    row = np.append(x.astype(np.float32), np.float32(1))
    table = np.column_stack([(-2.0 * C).astype(np.float32), squares])
    rising = np.argsort(np.abs(row.astype(np.float64) * table[0]), kind="stable")
    forward = np.arange(len(row))
    order = {"square first": forward[::-1], "rising": rising, "falling": rising[::-1]}.get(how, forward)
    if how == "matmul":
        return table @ row
    if how == "fused":
        return dot_fused(row, table, np.float32, order)
    return dot_in_order(row, table, np.float32, order, flush if how == "flushed" else lambda v: v)


def allowed(x, C):
    radius = stacked_score_radius(len(x), max(norm_above(c) for c in C))
    return Fraction(radius.per_norm) * Fraction(norm_above(x)) + Fraction(radius.constant), radius


def candidates(computed, norm, radius):
    """As the runs decide: all in float32."""
    reach = np.float32(norm * (2.0 * radius.per_norm) + 2.0 * radius.constant)
    return computed <= computed.min() + reach


@pytest.mark.parametrize("how", ORDERS)
@pytest.mark.parametrize(
    ("name", "x", "C"), CASES32 + CASES64, ids=[f"{case[0]} {case[1].dtype}" for case in CASES32 + CASES64]
)
def test_stacked_scores_lie_within_their_radius_and_lose_no_candidate(name, x, C, how):
    if norm_above(x) >= LARGEST_NORM32 or max(norm_above(c) for c in C) >= LARGEST_NORM32:
        pytest.skip("not scored in float32")
    computed, exact = stacked(x, C, how), exact_scores(x, C)
    bound, radius = allowed(x, C)
    for got, want in zip(computed.tolist(), exact, strict=True):
        assert abs(Fraction(got) - want) <= bound
    keeps = candidates(computed, norm_above(x), radius)
    assert all(keep for keep, score in zip(keeps, exact, strict=True) if score == min(exact))


def test_the_radius_is_reached_to_a_half():
    """One half as wide would not hold."""
    x = every_rounding_the_same_way(500, UNIT32).astype(np.float32)
    C = np.stack([x, -x])
    bound, _ = allowed(x, C)
    errors = [
        abs(Fraction(got) - want)
        for how in ("forward", "square first")
        for got, want in zip(stacked(x, C, how).tolist(), exact_scores(x, C), strict=True)
    ]
    assert bound / 2 < max(errors) <= bound


def test_a_radius_too_tight_loses_the_nearest_center():
    """The same candidates by a radius of a rounding or two: seen on the near ties above."""
    lost = 0
    for name, x, C in CASES32:
        if name.startswith("near ties"):
            exact = exact_scores(x, C)
            keeps = candidates(stacked(x, C, "forward"), norm_above(x), ScoreRadius(UNIT32, UNIT32))
            lost += not keeps[exact.index(min(exact))]
    assert lost


def test_centers_beyond_float32_have_no_finite_radius():
    assert stacked_score_radius(3, LARGEST_NORM32).constant == float("inf")
