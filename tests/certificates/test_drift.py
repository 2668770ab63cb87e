"""How a gap shrinks when centers drift: bounds against rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from gpukmeans.certificates.drift import GAP_SLACK, gap_after_move


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
