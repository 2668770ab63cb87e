"""Error radii: the mathematics of "this label cannot be otherwise".

A cheap score is as good as an exact one when the best center wins by more than the scores can be wrong.
Every function states what it bounds and why; tests compare each with rational arithmetic on adversarial data.

Notation: u is the unit roundoff (2**-24 in float32, 2**-53 in float64) and gamma(m) = m*u / (1 - m*u), which bounds the
relative error of m roundings (N. J. Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., lemma 3.1).
|v| is the Euclidean norm of a vector.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

UNIT32 = 2.0**-24
UNIT64 = 2.0**-53
#: Smallest normal float32: flush-to-zero arithmetic loses at most this much per operation.
TINY32 = 2.0**-126
#: Rows and centers with larger norms are not screened in float32: their products could overflow on the way.
LARGEST_NORM32 = 2.0**60
#: Scores about centers with smaller norms could underflow in float32: no word to leave a row to.
SMALLEST_NORM32 = 2.0**-50
#: Room for the rounding of the bound itself and of the comparison made with it.
SLACK = 1.0 + 2.0**-10
#: Absolute error that underflow of the squares can add to a float64 squared distance, for up to 2**40 features.
SQUARE_UNDERFLOW = 2.0**-1000


def gamma(m: float, unit: float) -> float:
    """Bound of the relative error of m roundings; infinite where m*u reaches 1/2, so that nothing is certified."""
    mu = m * unit
    return mu / (1.0 - mu) if mu < 0.5 else float("inf")


def _screened(norm: float) -> float:
    return float(norm) if norm < LARGEST_NORM32 else float("inf")


@dataclass(frozen=True)
class ScoreRadius:
    """``radius_i = per_norm * |x_i| + constant`` bounds the error of each score of row i."""

    per_norm: float
    constant: float

    def of(self, norms: NDArray[np.float64]) -> NDArray[np.float64]:
        """The radii of rows with these norms."""
        return norms * self.per_norm + self.constant


def score_radius(n_features: int, largest_center_norm: float) -> ScoreRadius:
    """Radius of the float32 scores ``s_j = fl(|c_j|^2) - 2 fl(x.c_j)`` of one row, all centers alike.

    Row i is certified when its second best computed score exceeds the best by more than ``2 * radius_i``, and
    ``|x_i| < LARGEST_NORM32`` (the radius of larger centers is infinite).

    Parameters
    ----------
    n_features : int
    largest_center_norm : float
        An upper bound of |c_j| over the centers.

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
    it is bounded with |x_f| <= |x| and is nothing for ordinary data.
    """
    d, C = float(n_features), _screened(largest_center_norm)
    tiny = 4.0 * (d + 4.0) * TINY32
    return ScoreRadius(
        SLACK * (2.0 * (gamma(d + 6.0, UNIT32) + UNIT32) * C + tiny),
        SLACK * (4.0 * UNIT32 * C * C + tiny * (2.0 + C)),
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
    d, C = float(n_features), _screened(largest_center_norm)
    tiny = 4.0 * (d + 4.0) * TINY32
    return ScoreRadius(
        SLACK * (2.0 * (gamma(d + 6.0, UNIT32) + UNIT32) * C + tiny),
        SLACK * ((gamma(d + 4.0, UNIT32) + UNIT32) * C * C + tiny * (2.0 + C)),
    )


def projected_rows_error(n_features: int, n_components: int, basis_defect: float) -> float:
    """eta: with p = fl(x Q) in float32 and e = x - Q p, both |p - Q'x| and |Q'e| are at most eta |x|.

    Parameters
    ----------
    n_features, n_components : int
        The shape of the basis Q, whose entries are float32 numbers.
    basis_defect : float
        An upper bound of the spectral norm of Q'Q - I.

    Notes
    -----
    Each component of p is a float32 dot product: within gamma(d + 2) |q| |x| of exact, where the 2 covers rounding
    x to float32 and subtracting the shift; over m components, sqrt(m) times that, with |q|^2 <= 1 + defect.
    Q'e = (Q'x - p) - (Q'Q - I) p.  What flush-to-zero adds is far below this for norms of 2**-60 and more, and
    RowScreen takes no norm to be smaller.
    """
    rounding = math.sqrt(n_components * (1.0 + basis_defect)) * gamma(n_features + 4.0, UNIT32)
    return SLACK * (rounding + basis_defect * (1.0 + basis_defect + rounding)) + n_features * TINY32


def projection_radius(
    n_components: int,
    largest_center_norm: float,
    eta: float,
    basis_defect: float,
    center_leak: float,
) -> ScoreRadius:
    """Radius of the projected scores ``fl(|c_j|^2 - 2 (p_i.g_j + r_i q_j))`` as lower bounds of |c_j|^2 - 2 x_i.c_j.

    With x = Q p + e and c = Q g + f, where r >= |e| and q >= |f|,

        x.c = p.g + p'(Q'Q - I)g + e.Qg + Qp.f + e.f,       |e.f| <= r q,

    so the score without rounding lies within [0, 4 r q] below the true one, but for the three middle terms, which
    vanish for an exactly orthonormal basis: at most (defect + eta) |p| |g| + |p| |Q'f| in all.  The float32 dot
    product of m + 2 terms rounds by gamma(m + 4) times their summed magnitudes, at most (2 |x| C + C^2) (1 + small), as
    |p| |g| + r q <= sqrt(|p|^2 + r^2) sqrt(|g|^2 + q^2).

    Parameters
    ----------
    n_components : int
    largest_center_norm : float
        C, an upper bound of |c_j|.
    eta, basis_defect : float
        See `projected_rows_error`.
    center_leak : float
        An upper bound of |Q'f_j| over the centers.
    """
    C = _screened(largest_center_norm)
    near_one = 1.0 + 4.0 * (eta + basis_defect)
    g = gamma(n_components + 8.0, UNIT32)
    tiny = 8.0 * (n_components + 4.0) * TINY32
    per_norm = 2.0 * near_one * ((g + eta + basis_defect) * C * near_one + center_leak) + tiny
    return ScoreRadius(SLACK * per_norm, SLACK * (2.0 * g * near_one * C * C + tiny * (2.0 + C)))


def anchored_radius(whole: ScoreRadius, projected: ScoreRadius, largest_center_norm: float) -> ScoreRadius:
    """Radius of scores ``fl(P_now + A)``, ``A = fl(W_then - P_then)``, but for 2 r |f_now - f_then| (see below).

    W is a float32 score of the whole row (`score_radius`), P the projected score ``fl(|c|^2 - 2 p.g)`` without the
    norms of the rests (`projection_radius`), each of the centers of its time.

    Parameters
    ----------
    whole, projected : ScoreRadius
        Of scores W and P, for the largest centers of both times.
    largest_center_norm : float
        C, an upper bound of |c_j| at both times.

    Notes
    -----
    In the notation of `projection_radius` let s = |c|^2 - 2 x.c be a true score and t = s + 2 e.f: what P approximates,
    within its radius.  Then s_now = t_now + (s_then - t_then) - 2 e.(f_now - f_then), and the computed score is within
    2 projected + whole of t_now + s_then - t_then.  Three roundings come on top, of A, of the sum, and of the
    subtraction of a bound of 2 r |f_now - f_then|: with |W|, |P| <= C^2 + 2 |x| C (1 + small) they are at most u times
    2, 3 and 3 such.  (The last one's share of r |f_now - f_then| is the caller's: 2**-20 of it is ample.)
    """
    C = _screened(largest_center_norm)
    return ScoreRadius(
        whole.per_norm + 2.0 * projected.per_norm + SLACK * (18.0 * UNIT32 * C + 4.0 * TINY32),
        whole.constant + 2.0 * projected.constant + SLACK * (9.0 * UNIT32 * C * C + 4.0 * TINY32),
    )


def square_distance_radius(n_features: int) -> float:
    """Relative radius of a squared distance ``sum((x_f - c_f)**2)`` taken in float64, in any order.

    Each term carries the rounding of the difference twice and that of the square once, and the sum rounds at most
    d - 1 times more: gamma(d + 2).  Returned with room for comparing two of them, so that

        d2 - d1 > radius * (d1 + d2)   implies that the true distances are ordered alike,

    but for `SQUARE_UNDERFLOW`, which must be added on the right-hand side.
    """
    return SLACK * gamma(n_features + 4.0, UNIT64)


def exact_in_float64(n_features: int, largest_value: float) -> bool:
    """Whether whole numbers up to `largest_value` in magnitude have exact float64 squared distances (radius zero).

    Differences reach 2 * largest, squares 4 * largest^2, and sums of d of them must stay within 2**53.
    """
    return 4.0 * largest_value * largest_value * n_features <= 2.0**53


#: One distance, or an array of them.
Drift = TypeVar("Drift", float, NDArray[np.float64])

#: Share of a fresh gap that is given up at once for all later roundings of it (see `gap_after_move`).
GAP_SLACK = 2.0**-24


def gap_after_move(drift_own: Drift, drift_others: Drift) -> Drift:
    """How much the gap of a row shrinks at most when its own center and the others move (G. Hamerly, SDM 2010).

    The gap is a lower bound of min_j |x - c_j| (j not the own center) minus an upper bound of |x - c_own|.  By the
    triangle inequality a center that moves by delta changes any distance to it by at most delta.  While the gap is
    positive no other center can be as near, so the label stays.

    The gap is kept in float64 and only ever shrinks, so each subtraction rounds by at most u times the fresh gap;
    `GAP_SLACK` taken off the fresh gap pays for 2**28 of them.

    Parameters
    ----------
    drift_own, drift_others : float, or arrays of them
        Upper bounds of the drift of the own center and of the largest drift among the others.
    """
    return (drift_own + drift_others) * (1.0 + 2.0**-40)


# ---- bounds of groups of centers ---------------------------------------------------------------------------------
#
# A row's scores s_j = |c_j|^2 - 2 x.c_j order the centers; N + s_j are squared distances for N = |x|^2.  For any larger
# N they are squared distances still: from the point (x, sqrt(N - |x|^2)) to the points (c_j, 0), one dimension up.  The
# nearest center and how far each center drifts are the same there, and so is the triangle inequality.  An upper bound N
# of |x|^2 that stays the same from one iteration to the next therefore serves as if it were |x|^2 itself.

#: What each of the float32 operations below may add, four of them at most, and as much again to spare.
BOUND_SLACK = 2.0**-21


def group_base(square_norms: NDArray[np.float64], radii: NDArray[np.float64]) -> NDArray[np.float32]:
    """A float32 just below N - radius, to be added to computed scores: see `group_lower_bound`.

    Rounding to float32 changes the difference by u (N + radius) at most; 16 times that is taken off before.
    """
    return (square_norms - radii - 2.0**-20 * (square_norms + radii)).astype(np.float32)


def group_lower_bound(
    scores: NDArray[np.float32], base: NDArray[np.float32], travelled: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Lower bounds of ``distance + travelled`` for centers whose computed scores are not below `scores`.

    A center of the group is at least as far as this bound less what its group has travelled since *any* origin of that
    count: moving by delta takes delta at most off the distance and adds as much to the count (Y. Ding et al., "Yinyang
    K-means", ICML 2015).  So a bound is written once and holds until a better one is known.

    Parameters
    ----------
    scores : ndarray of float32
        Computed |c|^2 - 2 x.c of the lowest center, whose error radius is taken off in `base`.
    base : ndarray of float32
        `group_base` of the rows.
    travelled : ndarray of float32
        What the groups have travelled so far, rounded to nearest.

    Notes
    -----
    The first sum and the root round up by (1 + u) at most each, and so do the conversion of `travelled` and the second
    sum; the product that follows each time rounds once and takes off more than all three: (1 + u)^3 (1 - 2**-21) < 1.
    """
    bound = scores + base
    np.maximum(bound, np.float32(0.0), out=bound)
    np.sqrt(bound, out=bound)
    bound *= np.float32(1.0 - BOUND_SLACK)
    bound += travelled
    bound *= np.float32(1.0 - BOUND_SLACK)
    return bound


def group_threshold(upper: NDArray[np.float32], travelled: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a `group_lower_bound` must exceed for no center of the group to be as near as `upper`.

    The sum, the conversion of `travelled` and the product round down by (1 - u) at most each.  What is left of the
    slack, 2**-22 of all that was travelled, pays for 2**30 rounded additions to the float64 count.
    """
    threshold = upper + travelled
    threshold *= np.float32(1.0 + BOUND_SLACK)
    return threshold


def upper_distance(square_norms: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.float32]:
    """sqrt(N + score) in float32, rounded up: float64 rounds by 2**-52, the conversion by u, and 2**-22 is added."""
    distance = np.sqrt(np.maximum(square_norms + scores, 0.0)) * (1.0 + 2.0**-22)
    return (distance + 2.0**-140).astype(np.float32)


@dataclass(frozen=True)
class CandidateRadius:
    """``per_product * |x||c| + per_square * (|x|^2 + |c|^2 + v) + constant``: see `candidate_radius`."""

    per_product: float
    per_square: float
    constant: float


def candidate_radius(n_features: int, unit: float) -> CandidateRadius:
    """Radius of ``v + g`` as |x - c|^2, where ``g = fl(q + fl(fl(|x|^2) - v) + fl(|c|^2))`` and ``q = fl(-2 x.c)``.

    k-means++ compares a candidate c with the distance v of a row to its seed: g < 0 says that the candidate is nearer,
    and by how much.  The product q is taken in an arithmetic of unit roundoff `unit` in which x and c are stored, and
    everything else in float64 (u below); v >= 0 is a float64 number that is given.

    Notes
    -----
    q is within 2 gamma(d) |x||c| of -2 x.c in any order of summation (Higham, eq. 3.5; the factor 2 is exact), and the
    squares are within gamma(d) in float64.  The three float64 operations round by at most

        u (|x|^2 + v) + u (|q| + |x|^2 + v) + u (|q| + |x|^2 + |c|^2 + v),    |q| <= (|x|^2 + |c|^2)(1 + gamma(d)),

    with less for roundings of roundings: 5 |x|^2 + 3 |c|^2 + 3 v, so gamma(d + 8) (|x|^2 + |c|^2 + v) bounds all
    float64 errors.  |x|^2 and |c|^2 may be the computed ones.  Products and sums that are flushed to zero add
    2 * 2**-126 for each of d terms in float32, and underflow in float64 less than `SQUARE_UNDERFLOW`.  Norms must stay
    below `LARGEST_NORM32` in float32.
    """
    d = float(n_features)
    tiny = 4.0 * (d + 4.0) * TINY32 if unit == UNIT32 else 0.0
    return CandidateRadius(
        SLACK * 2.0 * gamma(d + 2.0, unit),
        SLACK * gamma(d + 10.0, UNIT64),
        SLACK * (tiny + SQUARE_UNDERFLOW),
    )
