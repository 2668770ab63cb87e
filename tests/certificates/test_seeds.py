"""The radii of k-means++ on a device, against rational arithmetic and errors as large as they may be."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gpukmeans.certificates import seeds
from gpukmeans.certificates.rounding import SQUARE_UNDERFLOW
from gpukmeans.certificates.scores import exact_in_float64
from gpukmeans.certificates.seeds import SeedRadii, distance_roundings, separated, terms_in_float32

#: The largest relative error that `separated` allows for.
LARGEST_ERROR = Fraction(1, 2**11)


def square(a, b):
    return sum((Fraction(x) - Fraction(y)) ** 2 for x, y in zip(a.tolist(), b.tolist(), strict=True))


def off_by(value, sign, absolute):
    """A float64 as wrong as a computed squared distance may be."""
    wrong = value * (1 + sign * LARGEST_ERROR) + sign * absolute
    return max(0.0, float(wrong))


def claims(scale, seed, largest=0.6):
    """Seeds, rows on the way to a candidate and beside it, and what `separated` returns at the worst errors."""
    local = np.random.default_rng(seed)
    absolute = Fraction(SQUARE_UNDERFLOW)
    for _ in range(200):
        s, c = local.standard_normal((2, 3)) * scale
        x = s + (c - s) * local.uniform(0.3, largest) + local.standard_normal(3) * scale * local.choice([0.0, 1e-6])
        own, other, reach = square(x, s), square(x, c), square(c, s)
        claimed = separated(off_by(reach, 1, absolute), off_by(own, -1, absolute))
        yield claimed, own <= other, reach > 5 * own


@pytest.mark.parametrize("scale", [1.0, 1e6, 1e-140, 1e-150, 1e-160])
def test_a_row_that_is_left_out_has_no_nearer_candidate(scale):
    found = list(claims(scale, 0))
    assert all(true for claimed, true, _ in found if claimed)
    if scale > 1e-145:  # near the end of the range nothing is claimed, but for rows at distance zero
        assert all(claimed for claimed, _, far in found if far)


@pytest.mark.parametrize("scale", [1.0, 2.0**-400, 2.0**400])
def test_a_candidate_a_little_less_than_twice_as_far_is_not_left_out(scale):
    """The row lies on the way, a little nearer to the candidate; distances are as wrong as they may be."""
    s, x, c = np.array([0.0]), np.array([scale]), np.array([scale * (2 - 2.0**-20)])
    assert square(x, c) < square(x, s)
    absolute = Fraction(SQUARE_UNDERFLOW)
    assert not separated(off_by(square(c, s), 1, absolute), off_by(square(x, s), -1, absolute))
    assert separated(float(square(c, s)) * (1 + 2.0**-7), float(square(x, s)))


def test_a_factor_below_four_is_seen(monkeypatch):
    monkeypatch.setattr(seeds, "SKIP_FACTOR", 3.9)
    assert not all(true for claimed, true, _ in claims(1.0, 0) if claimed)


def test_a_row_equal_to_its_seed_is_left_out_only_if_the_floor_is_passed():
    assert separated(1e-290, 0.0)
    assert not separated(0.0, 0.0)


def radii(n=1000, d=20, lanes=2, whole=np.inf, spread=np.inf, weights=None):
    return SeedRadii(n, d, lanes, whole, spread, weights)


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("d", [1, 20, 784, 100_000])
def test_rows_that_are_not_marked_gain_nothing(d, wide):
    """Whatever the true values within their errors: a row beyond the threshold is as near to its seed."""
    of = radii(d=d, lanes=8)
    gain, of_distance = of.of_gain(60.0, wide=wide), Fraction(of.of_distance())
    relative = of_distance if wide else Fraction(terms_in_float32(d, 8) + 2, 2**24)
    absolute = Fraction(SQUARE_UNDERFLOW) if wide else Fraction(2 * d, 2**126)
    local = np.random.default_rng(1)
    missed = 0
    for closest in [*(10.0 ** local.uniform(-30, 30, 50)).tolist(), 0.0, 1e-300, 1e-38]:
        edge = (closest + gain.margin) / gain.shrink
        for distance in (np.nextafter(edge, np.inf), edge * (1 + 2.0**-40)):
            if gain.shrink * distance < closest + gain.margin:
                continue
            missed += 1
            least = Fraction(distance) * (1 - relative) - absolute
            most = Fraction(closest) * (1 + of_distance) + (Fraction(SQUARE_UNDERFLOW) if closest else 0)
            assert least >= most
    assert missed > 50
    assert gain.shrink > 0.99


@pytest.mark.parametrize("d", [1, 5, 33, 257, 5000])
@pytest.mark.parametrize("lanes", [2, 8])
def test_distances_round_no_more_often_than_is_said(lanes, d):
    """The same order of additions in float64, one by one, against Fractions; and the count by counting."""
    local = np.random.default_rng(d)
    x, c = local.standard_normal((2, d)) * 10.0 ** local.uniform(-3, 3, d)
    total, depth = [0.0] * lanes, [0] * lanes
    for lane in range(lanes):
        span = 0.0
        for start in range(4 * lane, d, 4 * lanes):
            for f in range(start, min(d, start + 4)):
                exact = Fraction(float(x[f] - c[f])) ** 2 + Fraction(span)
                span = float(exact)  # fused: rounded once
                depth[lane] += 1
            if (start // (4 * lanes) + 1) % 64 == 0:
                total[lane], span = total[lane] + span, 0.0
                depth[lane] += 1
        total[lane] += span
        depth[lane] += 1
    while len(total) > 1:
        half = len(total) // 2
        total = [total[i] + total[i + half] for i in range(half)]
        depth = [max(depth[i], depth[i + half]) + 1 for i in range(half)]
    assert depth[0] + 2 <= distance_roundings(d, lanes)
    true = square(x, c)
    assert abs(Fraction(total[0]) - true) <= Fraction(radii(d=d, lanes=lanes).of_distance()) * true


def test_whole_numbers_carry_no_error():
    pixels = radii(d=784, lanes=8, whole=255.0, spread=255.0)
    assert pixels.exact_distances
    assert pixels.exact_in_float32
    assert pixels.exact_sums
    assert pixels.of_sum(50.0, 1000).exact
    gain = pixels.of_gain(50.0, wide=False)
    assert (gain.shrink, gain.margin, gain.per_far, gain.per_near, gain.floor, gain.zero_floor) == (1, 0, 0, 0, 0, 0)
    # 256 squares of 255 are the most that float32 holds; 256 of 257 are not
    assert 256 * 255**2 < 2**24 < 256 * 257**2
    assert radii(d=10**5, lanes=8, whole=255.0, spread=255.0).exact_in_float32
    assert not radii(d=10**5, lanes=8, whole=257.0, spread=257.0).exact_in_float32
    assert not radii(d=784, lanes=8, whole=0.5 * 2.0**26, spread=2.0**26).exact_in_float32
    # many rows: distances are exact, their sums need not be
    many = radii(n=2**31, d=2**16, lanes=8, whole=255.0, spread=255.0)
    assert exact_in_float64(2**16, 255.0)
    assert many.exact_distances
    assert not many.exact_sums
    assert many.of_sum(50.0, 2**31).relative > 0
    weighted = radii(whole=255.0, spread=255.0, weights=(0.5, 2.0))
    assert weighted.exact_distances
    assert not weighted.exact_sums
    assert weighted.of_term().relative > 0


def test_a_zero_is_a_zero_unless_weights_are_tiny():
    assert radii(weights=(2.0**-60, 1.0)).of_sum(50.0, 1000).zero_floor == 0
    tiny = radii(weights=(2.0**-80, 1.0))
    assert tiny.of_sum(50.0, 1000).zero_floor > 0
    assert tiny.of_gain(50.0, wide=True).zero_floor > 0
