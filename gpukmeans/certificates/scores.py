"""Error radii of float32 scores of whole rows, and of float64 squared distances.

Scores from some components of the rows are in components.py, those of sparse rows in sparse.py, those in half precision
in halves.py.  Notation as in rounding.py.
"""

from __future__ import annotations

from gpukmeans.certificates.rounding import SLACK, TINY32, UNIT32, UNIT64, ScoreRadius, gamma, screened_norm


def score_radius(n_features: int, largest_center_norm: float, unit: float = UNIT32) -> ScoreRadius:
    """Radius of the float32 scores ``s_j = fl(|c_j|^2) - 2 fl(x.c_j)`` of one row, all centers alike.

    Row i is certified when its second best computed score exceeds the best by more than ``2 * radius_i``, and
    ``|x_i| < LARGEST_NORM32`` (the radius of larger centers is infinite).

    Parameters
    ----------
    n_features : int
    largest_center_norm : float
        An upper bound of |c_j| over the centers.
    unit : float
        The unit roundoff: `UNIT64` for scores in float64, of which all below holds likewise.

    Notes
    -----
    Let x' and c' be x and c rounded to float32.  A dot product of d terms in any order, with or without fused
    multiply-add, is within gamma(d) * |x'|.|c'| of x'.c' (Higham, eq. 3.5), and |x'|.|c'| <= |x'| |c'| by Cauchy and
    Schwarz.  Rounding x and c first adds (2u + u^2) |x| |c|; room is left for one more rounding of each, such as a
    float32 subtraction of a common shift.  |c|^2 is taken in float64 and rounded once: u |c|^2, with less for the
    float64 sum.  The final subtraction rounds once more: u (|c|^2 + 2 |x| |c|) (1 + ...).  Together, with C the
    largest |c|,

        |error| <= 2 (gamma(d + 6) + u) |x| C + 4 u C^2.

    Flush-to-zero of inputs, products and sums adds at most 2**-126 for each of d products, times |x_f| + |c_f| + 2;
    it is bounded with |x_f| <= |x| and is negligible for ordinary data.
    """
    d, C = float(n_features), screened_norm(largest_center_norm)
    tiny = 4.0 * (d + 4.0) * TINY32
    return ScoreRadius(
        SLACK * (2.0 * (gamma(d + 6.0, unit) + unit) * C + tiny),
        SLACK * (4.0 * unit * C * C + tiny * (2.0 + C)),
    )


def stacked_score_radius(n_features: int, largest_center_norm: float) -> ScoreRadius:
    """Radius of float32 scores ``(-2 c_j, fl(|c_j|^2)) . (x, 1)``, one product of n_features + 1 terms each.

    A center may be nearest to row i only if its score is at most ``fl(lowest + fl(2 * radius_i))`` in float32.
    Rows and centers as for `score_radius`: up to two roundings of each, |c|^2 in float64, then rounded.

    Notes
    -----
    As there, |x'.c' - x.c| <= (4u + 7u^2) |x| |c| for the rounded x' and c'.  The product of d + 1 terms, in any order,
    is within gamma(d + 1) (2 |x'| |c'| + |c'|^2 (1 + 2u)) of exact, and its last term carries the rounding of |c|^2.
    Together, with C the largest |c|,

        |error| <= 2 gamma(d + 6) |x| C + gamma(d + 4) C^2.

    The threshold: where the lowest score is s and r the bound above, fl(s + t) >= s + t - u (|s| + t) with
    |s| <= 2 |x| C + C^2 + r.  That is at least s + 2 r for t = 2 r + 2 u (2 |x| C + C^2), the small rest being left to
    the slack; so u |x| C more is taken twice, and u C^2 once, into the radius.
    """
    d, C = float(n_features), screened_norm(largest_center_norm)
    tiny = 4.0 * (d + 4.0) * TINY32
    return ScoreRadius(
        SLACK * (2.0 * (gamma(d + 6.0, UNIT32) + UNIT32) * C + tiny),
        SLACK * ((gamma(d + 4.0, UNIT32) + UNIT32) * C * C + tiny * (2.0 + C)),
    )


def square_distance_radius(n_features: int) -> float:
    """Relative radius of a squared distance ``sum((x_f - c_f)**2)`` taken in float64, in any order.

    Each term carries the rounding of the difference twice and that of the square once, and the sum rounds at most
    d - 1 times more: gamma(d + 2).  Returned with room for comparing two of them, so that

        d2 - d1 > radius * (d1 + d2)   implies that the true distances are ordered alike,

    once `SQUARE_UNDERFLOW` is added on the right-hand side.
    """
    return SLACK * gamma(n_features + 4.0, UNIT64)


def exact_in_float64(n_features: int, largest_value: float) -> bool:
    """Whether whole numbers up to `largest_value` in magnitude have exact float64 squared distances (radius zero).

    Differences reach 2 * largest, squares 4 * largest^2, and sums of d of them must stay within 2**53.
    """
    return 4.0 * largest_value * largest_value * n_features <= 2.0**53
