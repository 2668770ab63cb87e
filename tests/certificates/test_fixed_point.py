"""The radius of scores of bytes by centers in fixed point, against real arithmetic.

Each score is computed as kernels/update_centers.cu and nearest_of_few_bytes.cu do, in whole numbers, and every case is
made to err as far as one of the radius' terms lets it: none may err more, and each errs at least half as much.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from gpukmeans.certificates.fixed_point import FIXED_UNIT, LARGEST_FIXED_NORM, fixed_score_radius
from tests.support.limbs import LARGEST, fixed, start_of
from tests.support.rational_floats import norm, to_float32

E = Fraction(FIXED_UNIT)


def share(x, c, offset):
    """The error of the score of a row as a share of its radius."""
    z_i, z_j = ([Fraction(v) + o for v, o in zip(vector, offset, strict=True)] for vector in (x, c))
    q = [fixed(v) for v in z_j]
    computed = to_float32(Fraction(sum(a * b for a, b in zip(x, q, strict=True)) + start_of(z_j, q, offset))) * E
    true = sum(a * b for a, b in zip(z_i, z_j, strict=True)) - sum(b * b for b in z_j) / 2
    rest = norm([b - a * E for a, b in zip(q, z_j, strict=True)])[1]
    radius = fixed_score_radius(float(norm(z_j)[1] + rest), float(rest))
    bound = Fraction(radius.per_norm) * norm(z_i)[1] + Fraction(radius.constant)
    return abs(computed - true) / bound


def test_no_score_is_farther_off_than_its_radius():
    local = np.random.default_rng(0)
    for d in (1, 16, 300):
        for reach in (0, 1, 100, 255, 2000):  # some of the last are cut
            offset = [-int(v) for v in local.integers(0, 256, d)]
            x = [int(v) for v in local.integers(0, 256, d)]
            c = [Fraction(float(v)) - o for v, o in zip(local.uniform(-1, 1, d) * reach, offset, strict=True)]
            assert share(x, c, offset) <= 1


def test_what_fixed_point_loses_is_lost():
    """Every column off by almost half a unit, along the row."""
    c = [Fraction(100) + E * Fraction(49, 100)] * 784
    assert Fraction(1, 2) < share([255] * 784, c, [-100] * 784) <= 1


def test_the_rounding_of_a_score_to_float32_is_lost():
    """Opposite to the row, a whole number of units, and a score beyond -2**16, where floats are 2**7 units apart."""
    shares = [share([255], [E * -m], [0]) for m in range(186 * 2**14 + 4000, 190 * 2**14, 101)]
    assert Fraction(1, 2) < max(shares) <= 1


def test_the_rounding_of_the_start_is_lost():
    """Half a unit, of a row without extent."""
    shares = [share([7], [7 + E * m], [-7]) for m in range(120, 200)]
    assert Fraction(2, 5) < max(shares) <= 1


def test_centers_that_cannot_be_told_apart_from_infinity_certify_nothing():
    for size in (LARGEST_FIXED_NORM, math.inf, math.nan):
        assert set(vars(fixed_score_radius(size, 1.0)).values()) == {math.inf}


@pytest.mark.parametrize("d", [1, 1 << 16])
def test_no_sum_leaves_its_bits(d):
    """Sums of limbs in 32 bits, starts in 60, whatever the rows and the centers that are certified."""
    assert 255 * 128 * d < 1 << 31
    assert 255 * LARGEST * d < 1 << 47
    assert LARGEST_FIXED_NORM**2 / 2 / FIXED_UNIT + 255 * LARGEST * d < 1 << 52
