"""Radii beside a count of roundings: arithmetic in which every operation is off by a whole unit, all the same way.

Real data reach such errors only with many terms.  Here each bound must hold, and half of it must not, for any number of
terms, so that no term of a bound can be halved, left out or change its sign unseen.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gpukmeans.certificates.rounding import (
    LARGEST_NORM32,
    SLACK,
    SQUARE_UNDERFLOW,
    TINY32,
    UNIT32,
    UNIT64,
    ScoreRadius,
    gamma,
    screened_norm,
)
from gpukmeans.certificates.scores import score_radius, square_distance_radius, stacked_score_radius
from gpukmeans.certificates.seeds import (
    SeedRadii,
    SparseSeedRadii,
    candidate_radius,
    distance_roundings,
    terms_in_float32,
)

UP32, DOWN32 = 1 + Fraction(UNIT32), 1 - Fraction(UNIT32)
UP64, DOWN64 = 1 + Fraction(UNIT64), 1 - Fraction(UNIT64)
TERMS = [1, 2, 3, 10, 300]
#: Of a row and of a center that points the same way, or the other.
NORMS = [(1, 1), (1, -1), (1000, 1), (1000, -1), (1, 1000), (1, -1000)]


def allowed(radius, x):
    return Fraction(radius.per_norm) * x + Fraction(radius.constant)


def test_the_units_are_those_of_the_arithmetic():
    assert np.finfo(np.float32).eps / 2 == UNIT32
    assert np.finfo(np.float64).eps / 2 == UNIT64
    assert np.finfo(np.float32).tiny == TINY32
    # Squares that underflow lose half of the smallest number each.
    assert 2.0**40 * float(np.finfo(np.float64).smallest_subnormal) <= SQUARE_UNDERFLOW
    # The products, and the sum of a square and twice a product, of norms below the largest stay within float32.
    assert float(np.finfo(np.float32).max) > 4 * LARGEST_NORM32**2
    # A bound of some ten operations in float64, or of a conversion to float32, is not below its real value.
    assert SLACK * (1 - UNIT32) * (1 - UNIT64) ** 10 > 1
    assert screened_norm(LARGEST_NORM32) == float("inf")
    assert ScoreRadius(0.5, 0.25).of(np.array([0.0, 4.0])).tolist() == [0.25, 2.25]


@pytest.mark.parametrize("m", [1, 10, 1e5, 0.3 / UNIT32, 0.49 / UNIT32])
def test_gamma_bounds_so_many_roundings(m):
    grown = (1 + UNIT32) ** m - 1
    assert grown <= gamma(m, UNIT32) * (1 + 1e-9)
    assert gamma(m, UNIT32) <= 2 * grown
    assert (1 - UNIT32) ** -m - 1 <= gamma(m, UNIT32) * (1 + 1e-9)


def product(x, c, d):
    """x.c off as far as it may be: x and c rounded and shifted, the product, and d - 1 additions."""
    return x * UP32**2 * c * UP32**2 * UP32 * UP32 ** (d - 1)


@pytest.mark.parametrize(("x", "c"), NORMS)
@pytest.mark.parametrize("d", TERMS)
def test_score_radius(d, x, c):
    x, c = Fraction(x), Fraction(c)
    true = c * c - 2 * x * c
    score = c * c * (DOWN32 if c > 0 else UP32) - 2 * product(x, c, d)
    score *= DOWN32 if c > 0 and score > 0 else UP32
    bound = allowed(score_radius(d, float(abs(c))), x)
    assert abs(score - true) <= bound
    assert bound <= Fraction(21, 10) * abs(score - true) or d < 10


@pytest.mark.parametrize(("x", "c"), NORMS)
@pytest.mark.parametrize("d", TERMS)
def test_stacked_score_radius(d, x, c):
    """The square goes through all additions; and a center beyond the threshold, itself rounded, is not the nearest."""
    x, c = Fraction(x), Fraction(c)
    true = c * c - 2 * x * c
    sign = DOWN32 if c > 0 else UP32
    score = c * c * sign ** (d + 2) - 2 * product(x, c, d) * UP32
    radius = stacked_score_radius(d, float(abs(c)))
    bound = allowed(radius, x)
    error = abs(score - true)
    threshold = (2 * abs(x * c) + c * c + error) * Fraction(UNIT32)
    assert error + threshold / 2 <= bound
    assert bound <= 2 * (error + threshold / 2) or d < 10


@pytest.mark.parametrize("d", TERMS)
def test_flushing_to_zero_is_inside_the_radii(d):
    """Of norms near nothing: each product and each sum may be lost, and x and c beside one another."""
    norm, lost = Fraction(TINY32), Fraction(TINY32)
    error = 2 * d * (2 * lost + lost * norm * 2) + 2 * lost
    for radius in (score_radius(d, TINY32), stacked_score_radius(d, TINY32)):
        assert error <= allowed(radius, norm) <= 5 * error or d < 10
        assert Fraction(radius.per_norm) >= 4 * d * lost  # of a row far larger


@pytest.mark.parametrize("d", TERMS)
def test_square_distance_radius(d):
    """Two equal distances, one too large and one too small by all that may be, and a comparison that rounds, too."""
    larger, smaller = UP64 ** (d + 2), DOWN64 ** (d + 2)
    radius = Fraction(square_distance_radius(d))
    assert (larger - smaller) * UP64 <= radius * (larger + smaller) * DOWN64**2
    assert radius <= 2 * (larger - smaller) / (larger + smaller)


# ---- k-means++ -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("x", "c"), [(1, 1), (1, -1), (1000, 1), (1, 1000), (1, -1000)])
@pytest.mark.parametrize("unit", [UNIT32, UNIT64])
@pytest.mark.parametrize("d", TERMS)
def test_candidate_radius(d, unit, x, c):
    """g = fl(q + fl(fl(|x|^2) - v) + fl(|c|^2)) and q = fl(-2 x.c), with v as far as x is from its seed."""
    x, c, up = Fraction(x), Fraction(c), 1 + Fraction(unit)
    sign = UP64 if c < 0 else DOWN64  # of g: too large where -2 x.c is
    q = -2 * x * c * up**d
    radius = candidate_radius(d, unit)
    for v in (Fraction(0), x * x, 4 * x * x):
        inner = x * x * sign**d - v
        inner *= sign if inner > 0 else 2 - sign
        outer = q + inner
        outer *= sign if outer > 0 else 2 - sign
        g = outer + c * c * sign**d
        g *= sign if g > 0 else 2 - sign
        error = abs(v + g - (x - c) ** 2)
        bound = Fraction(radius.per_product) * abs(x * c) + Fraction(radius.per_square) * (x * x + c * c + v)
        assert error <= bound + Fraction(radius.constant)
        assert bound <= 2 * error or d < 100 or abs(x) != abs(c) or v > x * x
    lost = (
        2 * d * Fraction(TINY32) + d * Fraction(SQUARE_UNDERFLOW) / 2**40
        if unit == UNIT32
        else 2 * Fraction(2) ** -1074 * d
    )
    assert lost <= Fraction(radius.constant)
    assert Fraction(radius.constant) <= 12 * (d + 4) * Fraction(TINY32) + 2 * Fraction(SQUARE_UNDERFLOW)


@pytest.mark.parametrize("lanes", [2, 8])
@pytest.mark.parametrize("d", TERMS)
def test_distances_and_their_sums(d, lanes):
    """Of rows in order: the rounded distance times the rounded weight, and as many additions as are told."""
    of = SeedRadii(1000, d, lanes, np.inf, np.inf, (0.25, 3.0))
    roundings = distance_roundings(d, lanes)
    spans = -(-d // (4 * lanes))
    # A difference counts twice; each of a lane's columns, each 256 of them, and the lanes are added.
    assert 2 + 4 * spans + max(1, 4 * spans // 256) + int(np.log2(lanes)) <= roundings <= 2 * (4 * spans) + 8
    assert terms_in_float32(d, lanes) == min(256, 4 * spans)
    distance = UP64 ** int(roundings)
    assert distance - 1 <= Fraction(of.of_distance()) <= (distance - 1) * (1 + Fraction(1, 2**9))
    for rounded, radius in ((2, of.of_term()), (49, of.of_sum(40.0, 1000))):
        least = distance * UP64**rounded - 1
        assert least <= Fraction(radius.relative) <= least * (1 + Fraction(1, 2**9))
    lost = Fraction(2) ** -1000
    assert 3 * lost <= Fraction(of.of_term().floor) <= 9 * lost
    assert 1000 * 3 * lost <= Fraction(of.of_sum(40.0, 1000).floor) <= 1000 * 9 * lost
    plain = SeedRadii(1000, d, lanes, np.inf, np.inf)
    assert 1000 * lost <= Fraction(plain.of_sum(40.0, 1000).floor) <= 1000 * 4 * lost
    assert plain.of_sum(40.0, 1000).zero_floor == 0.0


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("d", TERMS)
def test_gains(d, wide):
    """A gain is far - near; far from distances v', near from the smaller of v' and of those to the candidate, d'."""
    of = SeedRadii(1000, d, 8, np.inf, np.inf, (0.25, 3.0))
    gain, total = of.of_gain(40.0, wide=wide), of.of_sum(40.0, 1000)
    own = Fraction(of.of_distance())
    error = own if wide else UP32 ** (terms_in_float32(d, 8) + 2) * (1 + own) - 1
    margin = Fraction(gain.margin)
    absolute = 2 * d * Fraction(0 if wide else TINY32) + Fraction(SQUARE_UNDERFLOW)
    assert 1 - Fraction(3) * (error + 2 * own) - Fraction(1, 2**48) < Fraction(gain.shrink) <= 1 - error - 2 * own
    assert absolute + Fraction(SQUARE_UNDERFLOW) <= margin <= 12 * (d + 4) * absolute
    assert gain.per_far == total.relative
    assert Fraction(total.relative) + error <= Fraction(gain.per_near) <= Fraction(total.relative) + 2 * error
    # Each of the marked rows is off by the absolute errors of both distances, times its weight.
    assert 1000 * 3 * (margin + absolute) <= Fraction(gain.floor) <= 1000 * 9 * (margin + absolute)
    plain = SeedRadii(1000, d, 8, np.inf, np.inf).of_gain(40.0, wide=wide)
    assert 1000 * (margin + absolute) <= Fraction(plain.floor) <= 1000 * 4 * (margin + absolute)
    assert gain.zero_floor == 0.0


@pytest.mark.parametrize("m", [1, 10, 300])
def test_sums_over_sparse_rows(m):
    """D = |x|^2 + |s|^2 - 2 x.s, all parts as wrong as m products make them; |s|^2 <= 2 |x|^2 + 2 D."""
    radii = SparseSeedRadii(1000, 10**6, m, np.inf, (0.25, 3.0))
    for x, s in ((Fraction(1), Fraction(-1)), (Fraction(1), Fraction(1)), (Fraction(1), Fraction(-2))):
        true = (x - s) ** 2
        sign = UP64 if s < 0 else DOWN64
        q = -2 * x * s * (UP64**m)
        inner = (x * x + s * s) * sign ** (m + 1)
        distance = (inner + q) * (sign if inner + q > 0 else 2 - sign)
        computed = distance * UP64**40
        (bound,) = radii.of_sums(np.array([float(computed)]), np.array([float(x * x)]), 40.0, 1000)
        assert abs(computed - true) <= Fraction(bound)
        assert Fraction(bound) <= 2 * abs(computed - true) + 8 * m * Fraction(UNIT64) * (3 * x * x + 2 * distance)
    lost = 1000 * Fraction(2) ** -1000
    far, zero = radii.of_sums(np.array([1e-290, 0.0]), np.zeros(2), 1.0, 1000)
    assert zero == 0.0
    assert 1000 * 3 * lost / 1000 <= Fraction(far)
    tiny = SparseSeedRadii(1000, 10**6, m, np.inf, (2.0**-71, 3.0)).of_sums(np.zeros(1), np.zeros(1), 1.0, 1000)
    assert 3 * lost <= Fraction(tiny[0]) <= 9 * lost
    assert SparseSeedRadii(1000, 10**6, m, np.inf, (2.0**-70, 3.0)).of_sums(np.zeros(1), np.zeros(1), 1.0, 9) == [0.0]
    plain = SparseSeedRadii(1000, 10**6, m, np.inf).of_sums(np.full(1, 1e-305), np.zeros(1), 1.0, 1000)
    assert lost <= Fraction(plain[0]) <= 5 * lost


def test_sums_of_sparse_whole_numbers_are_exact_up_to_their_limit():
    """Of 2 m terms in a row at most, fewer where there are fewer features, and at least one."""
    one = np.ones(1)

    def exact(n_rows, n_features, m, whole, weights=None):
        return SparseSeedRadii(n_rows, n_features, m, whole, weights).of_sums(one, one, 1.0, n_rows)[0] == 0.0

    assert exact(2**10, 10**6, 2, 2.0**19.5 // 1)  # 4 * whole^2 * 4 * 2^10 <= 2^53
    assert not exact(2**10, 10**6, 2, 2.0**20)
    assert exact(2**10, 2, 2, 2.0**20)
    assert not exact(2**10, 10**6, 2, 7.0, (1.0, 1.0))
    assert exact(1, 10**6, 0, 2.0**25)
    # Exact distances in a sum that is not: only the sum rounds.
    (some,) = SparseSeedRadii(2**30, 10**6, 2, 2.0**20).of_sums(one, one, 1.0, 2**30)
    assert UNIT64 < some < 4 * UNIT64
