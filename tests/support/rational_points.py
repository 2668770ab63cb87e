"""Distances and scores of points in rational arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

# ---- the mathematics ----------------------------------------------------------------------------------------------


def fractions(vector):
    return [Fraction(float(v)) for v in vector]


def square(x, c):
    return sum(((a - b) ** 2 for a, b in zip(fractions(x), fractions(c), strict=True)), Fraction(0))


def length(x, c):
    return math.sqrt(square(x, c))


def dot_score(z, c):
    """v = z.c - |c|^2 / 2, rounded once."""
    return float(sum((a * b - b * b / 2 for a, b in zip(fractions(z), fractions(c), strict=True)), Fraction(0)))
