"""Roots and roundings of rational numbers: floating point in whole numbers of unlimited size."""

from __future__ import annotations

import math
from fractions import Fraction

INFINITY = math.inf


def exponent(x: Fraction) -> int:
    """e with 2**e <= |x| < 2**(e + 1)."""
    e = abs(x.numerator).bit_length() - x.denominator.bit_length()
    return e if abs(x) >= Fraction(2) ** e else e - 1


def roots(square: Fraction, bits: int = 120) -> tuple[Fraction, Fraction]:
    """A lower and an upper bound of the square root, `bits` bits or more of it right."""
    if square == 0:
        return Fraction(0), Fraction(0)
    shift = max(0, bits - exponent(square) // 2)
    root = math.isqrt(math.floor(square * 4**shift))
    return Fraction(root, 2**shift), Fraction(root + 1, 2**shift)


def rounded(x: Fraction, precision: int, least: int, *, down: bool = False) -> Fraction:
    """To `precision` bits, 2**least the smallest normal number: to nearest, ties to even, or towards zero."""
    if x == 0:
        return x
    unit = Fraction(2) ** (max(exponent(x), least) - precision + 1)
    return unit * (math.trunc(x / unit) if down else round(x / unit))


def to_float64(x: Fraction) -> Fraction:
    return rounded(x, 53, -1022)


def to_float32(x: Fraction) -> Fraction:
    return rounded(x, 24, -126)


def to_half(x: Fraction) -> Fraction | float:
    """Infinity where halves end."""
    half = rounded(x, 11, -14)
    return half if abs(half) < 2**16 else math.copysign(INFINITY, x)


def norm(vector: list[Fraction]) -> tuple[Fraction, Fraction]:
    """Bounds of the Euclidean norm."""
    return roots(sum((v * v for v in vector), Fraction(0)))
