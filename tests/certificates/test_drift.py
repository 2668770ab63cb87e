"""How a gap shrinks when centers drift: bounds against rational arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from gpukmeans.certificates.drift import (
    GAP_SLACK,
    drift_limit,
    gap_after_move,
    group_base,
    group_lower_bound,
    group_threshold,
    lower_limit,
    upper_distance,
    upper_limit,
)


def test_a_gap_shrinks_by_no_more_than_the_drift():
    """On a line, own center moving away and another coming near: the bound is met with equality, never crossed."""
    local = np.random.default_rng(4)
    for own, other in np.ldexp(local.random((500, 2)), local.integers(-60, 60, (500, 2))).tolist():
        shrunk = Fraction(gap_after_move(own, other))
        assert Fraction(own) + Fraction(other) <= shrunk <= (Fraction(own) + Fraction(other)) * (1 + Fraction(1, 2**30))


def test_a_kept_gap_stays_below_the_true_one():
    """100,000 rounded subtractions, each of half an ulp of the gap and a little less: the slack pays for them."""
    lower, upper = 3.0, 1.0
    gap = (1.0 - GAP_SLACK) * lower - (1.0 + GAP_SLACK) * upper
    true = Fraction(2)
    plain = 2.0
    step = 2.0**-54 * 1.999
    for _ in range(100_000):
        gap -= gap_after_move(step / 2, step / 2)
        plain -= step
        true -= Fraction(step)
    assert Fraction(gap) <= true
    assert Fraction(plain) > true  # without slack the rounding would win


# ---- bounds of groups, in float32 ------------------------------------------------------------------------------------


def below_root(value, square):
    """Whether a float is at most the root of a Fraction."""
    return value <= 0 or Fraction(value) ** 2 <= square


def random32(seed, n, least=-8, most=8):
    """Positive float32 numbers of many sizes and all mantissas."""
    local = np.random.default_rng(seed)
    return np.ldexp(local.uniform(1, 2, n), local.integers(least, most, n)).astype(np.float32)


def test_a_base_is_below_what_it_stands_for():
    squares, radii = random32(0, 2000).astype(float) * (1 + 2.0**-30), random32(1, 2000, -30, 8).astype(float)
    for base, n, r in zip(group_base(squares, radii).tolist(), squares.tolist(), radii.tolist(), strict=True):
        total, true = Fraction(n) + Fraction(r), Fraction(n) - Fraction(r)
        assert true - total / 2**19 <= Fraction(base) <= true


@pytest.mark.parametrize("far", [0.0, 1.0, 2.0**12])
def test_lower_bounds_of_groups_are_lower_and_not_much(far):
    """Whatever the roundings of the sum, the root, the count and the last sum."""
    n = 4000
    scores, base, travelled = random32(2, n) - random32(3, n, -8, 4), random32(4, n), far * random32(5, n).astype(float)
    travelled *= 1 + 2.0**-26
    told = group_lower_bound(scores, base, travelled.astype(np.float32))
    n_zero = 0
    for bound, s, b, t in zip(told.tolist(), scores.tolist(), base.tolist(), travelled.tolist(), strict=True):
        square = max(Fraction(0), Fraction(s) + Fraction(b))
        assert below_root(Fraction(bound) - Fraction(t), square)
        enough = Fraction(bound) * (1 + Fraction(1, 2**19)) - Fraction(t)
        assert enough >= 0
        assert enough**2 >= square
        n_zero += square == 0
    assert n_zero > 20


def test_thresholds_of_groups_pay_for_later_additions_too():
    """Of the slack 2**-22 of all must be left for the float64 count."""
    upper, travelled = random32(6, 4000), random32(7, 4000).astype(float) * (1 - 2.0**-26)
    told = group_threshold(upper, travelled.astype(np.float32))
    for threshold, a, t in zip(told.tolist(), upper.tolist(), travelled.tolist(), strict=True):
        total = Fraction(a) + Fraction(t)
        assert total * (1 + Fraction(1, 2**22)) <= Fraction(threshold) <= total * (1 + Fraction(1, 2**20))


def test_upper_distances_are_upper_and_not_much():
    squares, scores = random32(8, 4000).astype(float), random32(9, 4000).astype(float) * (1 + 2.0**-30)
    scores[::2] *= -0.25
    scores[::5] = -squares[::5]
    told = upper_distance(squares, scores)
    assert told.dtype == np.float32
    assert (told > 0).all()
    for distance, n, s in zip(told.tolist(), squares.tolist(), scores.tolist(), strict=True):
        square = max(Fraction(0), Fraction(n) + Fraction(s))
        assert square * (1 - Fraction(1, 2**50)) <= Fraction(distance) ** 2
        assert Fraction(distance) ** 2 <= square * (1 + Fraction(1, 2**20)) + Fraction(1, 2**278)


# ---- limits, in real arithmetic --------------------------------------------------------------------------------------


def test_limits_are_those_of_the_triangle_inequality():
    """Scores z.c - |c|^2 / 2 off by their radius; rows a dimension up, where N is above |z|."""
    local = np.random.default_rng(10)
    for _ in range(300):
        z, own, other = local.standard_normal((3, 4))
        up, radius, so_far = local.uniform(0, 1), local.uniform(0, 0.1), local.uniform(0, 3)
        norm = math.sqrt(z @ z + up * up)
        near, far = (math.sqrt((z - c) @ (z - c) + up * up) for c in (own, other))
        best, second = (float(z @ c - c @ c / 2) for c in (own, other))
        assert upper_limit(best, 0.0, norm, so_far) == pytest.approx(near - so_far)
        assert lower_limit(second, 0.0, norm, so_far) == pytest.approx(far + so_far)
        assert drift_limit(best, second, 0.0, norm, so_far) == pytest.approx(far - near + so_far, abs=1e-9)
        # With scores that are off by the radius, the limits are what they would be for the right ones, and no better.
        assert upper_limit(best + radius, radius, norm, so_far) == pytest.approx(near - so_far)
        assert lower_limit(second - radius, radius, norm, so_far) == pytest.approx(far + so_far)
        assert drift_limit(best + radius, second - radius, radius, norm, 0.0) == pytest.approx(far - near, abs=1e-9)
    assert upper_limit(5.0, 0.5, 1.0, 0.25) == -0.25
    assert lower_limit(5.0, 0.5, 1.0, 0.25) == 0.25
    assert lower_limit(-math.inf, 0.5, 1.0, 0.25) == math.inf
    assert drift_limit(5.0, 4.0, 0.5, 1.0, 0.25) == 0.25
