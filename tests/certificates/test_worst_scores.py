"""Radii of scores from components, from halves and of sparse rows beside a count of what each may lose.

As in test_worst_roundings.py every operation is off by a whole unit, and all errors add up; what Cauchy and Schwarz
bound is as large as it can be.  Each radius must hold, and half of any of its terms must not.
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from gpukmeans.certificates.components import anchored_radius, projected_rows_error, projection_radius
from gpukmeans.certificates.halves import (
    LARGEST_HALF_NORM,
    TENSOR_CORES,
    WORST_TENSOR_CORES,
    half_score_radius,
    tensor_accumulation,
)
from gpukmeans.certificates.rounding import LARGEST_NORM32, SLACK, TINY32, UNIT32, UNIT64, ScoreRadius
from gpukmeans.certificates.sparse import TINY64, sparse_score_radius

UP32, UP64 = 1 + Fraction(UNIT32), 1 + Fraction(UNIT64)
ROOM = Fraction(SLACK)


def assert_between(least, bound, most):
    assert least <= bound
    assert bound <= most


# ---- components ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("defect", [0.0, 1e-7, 0.2])
@pytest.mark.parametrize(("d", "m"), [(3, 1), (300, 16), (2**18, 64)])
def test_projected_rows_error(d, m, defect):
    """Each component off by d + 2 roundings of |q| |x|, all directions alike: then Q'Q - I stretches what is there."""
    long = math.sqrt(1.0 + defect)  # of a direction
    off = math.sqrt(m) * long * math.expm1((d + 2) * math.log1p(UNIT32))
    worst = off + defect * (long + off)
    assert_between(worst, projected_rows_error(d, m, defect), worst * (d + 6) / (d + 2) * (1.02 + defect / 2))


ETA_DEFECT_LEAK = [(0.0, 0.0, 0.0), (1e-3, 0.0, 0.0), (0.0, 1e-3, 0.0), (0.0, 0.0, 1e-3), (0.5, 0.7, 0.1)]


@pytest.mark.parametrize(("eta", "defect", "leak"), ETA_DEFECT_LEAK)
@pytest.mark.parametrize("x", [2.0**-10, 1.0, 2.0**10])
@pytest.mark.parametrize(("C", "m"), [(1.0, 3), (2.0**10, 60)])
def test_projection_radius(eta, defect, leak, x, C, m):
    """The norm of a row and its rest is as `Components.fill` makes it; that of a center as far above C as Q'Q - I."""
    leak *= C
    both = eta + defect
    row = x * math.sqrt(1 + 2 * both * (1 + 4 * both))
    center = C * math.sqrt(1 + 2 * defect)
    middle = (defect + eta) * row * center + row * leak
    dot = row * center * float(UP32 ** (m + 2) - 1) + C * C * float(UP32 ** (m + 3) - 1) / 2
    radius = projection_radius(m, C, eta, defect, leak)
    bound = radius.per_norm * x + radius.constant
    assert 2 * (middle + dot) <= bound
    if both < 0.1:
        assert bound <= 2 * (middle + dot) * (m + 8) / (m + 2) * 1.03 + SLACK * UNIT32 * (m + 16) * C * C
        assert radius.per_norm <= 2 * (both + leak / C + UNIT32 * (m + 8)) * C * 1.03


def test_flushing_to_zero_is_inside_the_radius_of_a_projection():
    """Products, sums and entries of rows and centers, each of which may be lost."""
    for m, C in ((1, TINY32), (60, TINY32), (60, 1.0)):
        radius = projection_radius(m, C, 0.0, 0.0, 0.0)
        least, rounding = 2 * (m + 2) * TINY32 + 2 * (m + 1) * TINY32 * C, 3 * UNIT32 * (m + 8) * C * C
        assert_between(least, radius.constant, 20 * (least + 2 * TINY32) + rounding)
        least, rounding = 2 * (m + 1) * TINY32, 3 * UNIT32 * (m + 8) * C
        assert_between(least, radius.per_norm, 20 * least + rounding)
    assert projection_radius(3, LARGEST_NORM32, 0.0, 0.0, 0.0).constant == math.inf


@pytest.mark.parametrize(("x", "C"), [(1, 1), (1, 2**30), (2**30, 1)])
def test_anchored_radius(x, C):
    """Scores of C^2 + 2 |x| C and opposite signs: roundings of two such, and twice of three."""
    largest = C * C + 2 * x * C
    for whole, projected in itertools.product((0.0, 2.0**-20), repeat=2):
        for parts in ((1.0, 0.0), (0.0, 1.0)):
            radii = [ScoreRadius(parts[0] * r * C, parts[1] * r * C * C) for r in (whole, projected)]
            given = [r.per_norm * x + r.constant for r in radii]
            radius = anchored_radius(radii[0], radii[1], C)
            least = given[0] + 2 * given[1] + 8 * UNIT32 * (1 + 4 * UNIT32) * largest
            assert_between(least, radius.per_norm * x + radius.constant, least * 1.13)
    nothing = anchored_radius(ScoreRadius(0.0, 0.0), ScoreRadius(0.0, 0.0), 0.0)
    assert_between(3 * TINY32, nothing.constant, 5 * TINY32)
    assert_between(0.0, nothing.per_norm, 5 * TINY32)


# ---- halves ----------------------------------------------------------------------------------------------------------

S = Fraction(2) ** -14  # what a subnormal half may be taken for


@pytest.mark.parametrize("alpha", [0.0, 2.0**-10])
@pytest.mark.parametrize("x_rest", [0, Fraction(1, 2**8)])
@pytest.mark.parametrize("c_rest", [0, Fraction(1, 2**8)])
@pytest.mark.parametrize(("x", "c"), [(1, 1), (2**20, 1), (1, 2**20), (1, Fraction(1, 2**20)), (2**-20, 2**-20)])
def test_half_score_radius(x, c, c_rest, x_rest, alpha):
    """Halves that are longer than what they stand for, and point the same way."""
    x, r, R = Fraction(x), x_rest * x, c_rest * c
    h = x + r, c + R
    C, N = h[1] + R, h[0] + r
    chain = Fraction(alpha) * (h[0] * h[1] + Fraction(c * c) / 2 + S * (h[0] + h[1]))
    error = r * c + h[0] * R + Fraction(UNIT32) * c * c / 2 + chain
    radius = half_score_radius(alpha, float(C), float(R))
    bound = Fraction(radius.per_rest) * r + Fraction(radius.per_norm) * N + Fraction(radius.constant)
    assert_between(error, bound, (error + Fraction(2) ** -100) * ROOM * Fraction(102, 100))


def test_half_scores_at_both_ends_of_their_range():
    assert half_score_radius(0.0, 0.0, 0.0).constant >= TINY32
    assert half_score_radius(0.0, LARGEST_HALF_NORM, 0.0).constant == math.inf


@pytest.mark.parametrize("cores", {*TENSOR_CORES.values(), WORST_TENSOR_CORES}, ids=str)
@pytest.mark.parametrize("n_columns", [16, 4096, 2**20])
def test_tensor_accumulation(n_columns, cores):
    """Each addition cuts its addends and its result, and what they grew to by that is the next one's largest."""
    each = Fraction(cores.products + 1, 2**cores.guard_bits) + 1
    n = n_columns // cores.products
    grown = math.expm1(n * math.log1p(float(each) * 2.0**-23))
    alpha = tensor_accumulation(n_columns, cores)
    assert grown <= alpha
    assert n_columns == 2**20 or alpha <= (grown + 12 * 2.0**-23) * SLACK * 1.01


def test_tensor_cores_are_those_that_were_measured():
    """Units in the last place a product, as `tensor_accumulation` counts them."""
    each = {
        c: ((t.products + 1) / 2**t.guard_bits + 1) / t.products
        for c, t in {**TENSOR_CORES, None: WORST_TENSOR_CORES}.items()
    }
    assert {c: round(units, 2) for c, units in each.items()} == {
        (8, 0): 0.69, (8, 6): 0.69, (8, 9): 0.69, (9, 0): 0.33, (10, 0): 0.33, None: 1.5
    }  # fmt: skip


# ---- sparse rows -----------------------------------------------------------------------------------------------------


def radius_of_sparse(m, x, C, roundings, unit):
    (radius,) = sparse_score_radius(np.array([m]), np.array([float(x)]), float(C), roundings, unit)
    return radius


@pytest.mark.parametrize("unit", [UNIT32, UNIT64])
@pytest.mark.parametrize("square_roundings", [1, 400])
@pytest.mark.parametrize("m", [0, 1, 10, 300])
@pytest.mark.parametrize(("x", "c"), [(1, -1), (1000, -1), (1, -1000)])
def test_sparse_score_radius(m, square_roundings, unit, x, c):
    """Products of m entries, each rounded before, and the square by itself; all too large, and so is their sum."""
    x, c, up = Fraction(x), Fraction(c), 1 + Fraction(unit)
    product = -2 * x * c * up ** (m + 2) if m else Fraction(0)
    true = c * c - (2 * x * c if m else 0)
    score = (c * c * UP64**square_roundings * up + product) * up
    bound = Fraction(radius_of_sparse(m, x, abs(c), square_roundings, unit))
    assert score - true <= bound
    # Both parts, of a row that is next to nothing, and beside a center that is.
    spare = Fraction(unit) * (c * c + (4 if m else 8) * x * abs(c))
    squares = Fraction(UNIT64) * square_roundings * c * c
    assert bound <= (score - true + spare + squares) * Fraction(101, 100)
    assert m or bound <= (4 * Fraction(unit) * (c * c + 2 * x * abs(c)) + 2 * squares) * Fraction(101, 100)


@pytest.mark.parametrize(("unit", "tiny"), [(UNIT32, TINY32), (UNIT64, TINY64)])
def test_what_vanishes_is_inside_the_radius_of_sparse_rows(unit, tiny):
    """Every product and sum of numbers next to nothing; the entries beside a large center or a long row."""
    least = Fraction(2) ** -1000
    for m in (1, 300):
        lost = Fraction(tiny) * 2 * (m + 1)
        assert_between(
            lost, Fraction(radius_of_sparse(m, 0.0, 0.0, 1, unit)), 9 * lost + 2 * least + 16 * Fraction(tiny)
        )
        far = Fraction(radius_of_sparse(m, 2.0**50, 0.0, 1, unit))
        assert_between(lost * 2**50, far, 3 * (lost + 8 * Fraction(tiny)) * 2**50 + 2 * least)
    assert radius_of_sparse(1, 0.0, 0.0, 1, UNIT64) >= least
    assert float(np.finfo(np.float64).tiny) == TINY64


def test_sparse_rows_out_of_range_are_not_certified():
    below = np.nextafter(LARGEST_NORM32, 0)
    for x, C, unit, finite in [
        (below, below, UNIT32, True), (LARGEST_NORM32, 1.0, UNIT32, False), (1.0, LARGEST_NORM32, UNIT32, False),
        (LARGEST_NORM32, LARGEST_NORM32, UNIT64, True), (math.inf, 1.0, UNIT64, False), (1.0, math.inf, UNIT64, False),
        (0.0, math.inf, UNIT64, False), (math.nan, 1.0, UNIT64, False),
    ]:  # fmt: skip
        assert math.isfinite(radius_of_sparse(3, x, C, 1, unit)) == finite
        assert not math.isnan(radius_of_sparse(3, x, C, 1, unit))
    half = int(0.5 / UNIT32) - 4  # gamma(m + 4) of so many terms says nothing any more
    assert radius_of_sparse(half, 1.0, 1.0, 1, UNIT32) == math.inf
    assert 2.0 - 2.0**-10 < radius_of_sparse(half - 1, 1.0, 1.0, 1, UNIT32) < 3.0  # 2 mu / (1 - mu), mu nearly a half
