"""Error radii: the mathematics of "this label cannot be otherwise".

A cheap score is as good as an exact one when the best center wins by more than the scores can be wrong.
Every function states what it bounds and why; tests compare each with rational arithmetic on adversarial data.

Notation: u is the unit roundoff (2**-24 in float32, 2**-53 in float64) and gamma(m) = m*u / (1 - m*u), which bounds the
relative error of m roundings (N. J. Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., lemma 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass

UNIT32 = 2.0**-24
UNIT64 = 2.0**-53
#: Smallest normal float32: flush-to-zero arithmetic loses at most this much per operation.
TINY32 = 2.0**-126
#: Room for the rounding of the bound itself and of the comparison made with it.
SLACK = 1.0 + 2.0**-10


def gamma(m: float, unit: float) -> float:
    """Bound of the relative error of m roundings; infinite where m*u reaches 1/2, so that nothing is certified."""
    mu = m * unit
    return mu / (1.0 - mu) if mu < 0.5 else float("inf")


@dataclass(frozen=True)
class ScoreRadius:
    """``radius_i = per_norm * |x_i| + constant`` bounds the error of each score of row i."""

    per_norm: float
    constant: float


def score_radius(n_features: int, largest_center_norm: float, unit: float = UNIT32) -> ScoreRadius:
    """Radius of the scores ``s_j = fl(|c_j|^2) - 2 fl(x.c_j)`` of one row, all centers alike.

    Row i is certified when its second best computed score exceeds the best by more than ``2 * radius_i``.

    Parameters
    ----------
    n_features : int
    largest_center_norm : float
        An upper bound of |c_j| over the centers.
    unit : float
        Unit roundoff of the arithmetic that forms the scores.

    Notes
    -----
    Let x' and c' be x and c rounded to that arithmetic.  A dot product of d terms in any order, with or without
    fused multiply-add, is within gamma(d) * |x'|.|c'| of x'.c' (Higham, eq. 3.5), and |x'|.|c'| <= |x'| |c'|
    by Cauchy and Schwarz.  Rounding x and c first adds (2u + u^2) |x| |c|.  |c|^2 is taken in float64 (or the wider
    of the two) and rounded once: u |c|^2, with as much again for the float64 sum.  The final subtraction
    rounds once more: u (|c|^2 + 2 |x| |c|) (1 + ...).  Together, with C the largest |c|,

        |error| <= 2 (gamma(d + 4) + u) |x| C + 4 u C^2.

    Flush-to-zero of inputs, products and sums adds at most 2**-126 for each of d products, times |x_f| + |c_f| + 2;
    it is bounded with |x_f| <= |x| and is nothing for ordinary data.
    """
    d, C = float(n_features), float(largest_center_norm)
    g = gamma(d + 4.0, unit)
    tiny = 4.0 * (d + 4.0) * TINY32 if unit > UNIT64 else 4.0 * (d + 4.0) * 2.0**-1022
    if unit == UNIT64:
        # |c|^2 itself is a float64 dot product here: gamma(d), not one rounding.
        return ScoreRadius(
            SLACK * (2.0 * (g + unit) * C + tiny), SLACK * ((2.0 * g + 4.0 * unit) * C * C + tiny * (2.0 + C))
        )
    return ScoreRadius(SLACK * (2.0 * (g + unit) * C + tiny), SLACK * (4.0 * unit * C * C + tiny * (2.0 + C)))


def square_distance_radius(n_features: int) -> float:
    """Relative radius of a squared distance ``sum((x_f - c_f)**2)`` taken in float64, in any order.

    Each term carries the rounding of the difference twice and that of the square once, and the sum rounds at most
    d - 1 times more: gamma(d + 2).  Returned with room for comparing two of them, so that

        d2 - d1 > radius * (d1 + d2)   implies that the true distances are ordered alike,

    but for `SQUARE_UNDERFLOW`, which must be added on the right-hand side.
    """
    return SLACK * gamma(n_features + 4.0, UNIT64)


#: Absolute error that underflow of the squares can add to a float64 squared distance, for up to 2**40 features.
SQUARE_UNDERFLOW = 2.0**-1000


def exact_in_float64(n_features: int, largest_value: float) -> bool:
    """Whether whole numbers up to `largest_value` in magnitude have exact float64 squared distances (radius zero).

    Differences reach 2 * largest, squares 4 * largest^2, and sums of d of them must stay within 2**53.
    """
    return 4.0 * largest_value * largest_value * n_features <= 2.0**53
