"""Error radii of scores in half precision, and how long they hold: see certificates.py for the notation.

Every function states what it bounds and why; tests compare each with rational arithmetic on adversarial data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gpukmeans.certificates import SLACK, UNIT32, gamma

#: What tensor cores lose of an addend, relative to the largest of those that are added at once: they keep 24 bits and
#: truncate (M. Fasi, N. J. Higham, M. Mikaitis and S. Pranesh, "Numerical behavior of NVIDIA tensor cores", PeerJ
#: Computer Science 7, 2021: 23 bits behind the point on Volta and Turing, one or two more since).
TENSOR_UNIT = 2.0**-23
#: Scaled rows and centers with larger norms are not screened.
LARGEST_HALF_NORM = 2.0**60


def tensor_accumulation(n_columns: int) -> float:
    """alpha: a tensor-core chain of `n_columns` products of halves is within alpha * M of the exact sum.

    M bounds every product, every partial sum and the start in magnitude.

    Notes
    -----
    The products are exact.  Each addition of four, eight or sixteen of them to the running sum truncates every addend
    and the result to 24 bits of the largest: with four at a time, the most roundings, d products, d / 4 running sums
    going in and d / 4 coming out.  Two products, for the start and the end, are added to be safe.  Computed running
    sums exceed M by the errors so far, which `gamma` covers; it is infinite, and nothing certified, beyond 2.7 million
    columns.
    """
    return SLACK * gamma(1.5 * n_columns + 8.0, TENSOR_UNIT)


@dataclass(frozen=True)
class HalfScoreRadius:
    """``per_rest * rest_i + per_norm * norm_i + constant`` bounds the error of each score of row i."""

    per_rest: float
    per_norm: float
    constant: float


def half_score_radius(accumulation: float, largest_norm: float, largest_rest: float) -> HalfScoreRadius:
    """Radius of the scores ``v_ij = h_i.h_j - |z_j|^2 / 2`` of halves on tensor cores (kernels/screen.cuh).

    Row i is certified when its best computed score exceeds the second best by more than twice the radius.
    kernels/update_centers.cu computes the same three numbers on the device.

    Parameters
    ----------
    accumulation : float
        See `tensor_accumulation`.
    largest_norm, largest_rest : float
        Upper bounds of |z_j| + |z_j - h_j| and of |z_j - h_j| over the centers.

    Notes
    -----
    Let N >= |z_i| + |z_i - h_i| >= |h_i|, r >= |z_i - h_i|, and C, R the two largest of the centers.  Then

        z_i.z_j - h_i.h_j = (z_i - h_i).z_j + h_i.(z_j - h_j),      at most  r C + N R in magnitude,

    by Cauchy and Schwarz.  The chain starts at fl(-|z_j|^2 / 2), one rounding of float32 away, u C^2 / 2; all its
    partial sums stay below |h_i| |h_j| + |z_j|^2 / 2 <= N C + C^2 / 2, hence accumulation times that.  Together

        |error| <= C r + (R + alpha C) N + (alpha + u) C^2 / 2.

    Halves and their products are never flushed to zero; starts are, at a loss of 2**-126.
    """
    C, R, alpha = float(largest_norm), float(largest_rest), accumulation
    if not C < LARGEST_HALF_NORM:
        return HalfScoreRadius(math.inf, math.inf, math.inf)
    return HalfScoreRadius(SLACK * C, SLACK * (R + alpha * C), SLACK * ((alpha + UNIT32) * C * C / 2.0 + 2.0**-100))


def drift_limit(best: float, second: float, radius: float, norm: float, drift_so_far: float) -> float:
    """How far the drift of the centers may come before the label of a certified row can change (real arithmetic).

    kernels/screen.cuh computes a float32 just below this.

    Parameters
    ----------
    best, second : float
        The two largest scores v of the row.
    radius : float
        Of each of them.
    norm : float
        N >= |z_i|.
    drift_so_far : float
        Of the cluster of the best: the sum over the iterations so far of its own drift and the largest other one.

    Notes
    -----
    N^2 - 2 v_j is the squared distance of (z_i, sqrt(N^2 - |z_i|^2)) to (z_j, 0), one dimension up, where the nearest
    center and every drift are the same (see the bounds of groups below).  So the gap between the distances to the
    nearest center and to any other is at least sqrt(N^2 - 2 second - 2 radius) - sqrt(N^2 - 2 best + 2 radius), and an
    iteration takes `gap_after_move` off it.
    """
    own = math.sqrt(max(0.0, norm * norm - 2.0 * best + 2.0 * radius))
    other = math.sqrt(max(0.0, norm * norm - 2.0 * second - 2.0 * radius))
    return other - own + drift_so_far


# ---- a limit for every group of centers ------------------------------------------------------------------------------
#
# `drift_limit` adds the largest drift of any other center to that of the own one, so that one center on its way makes
# every row be looked at.  Kept apart, upper bound and lower bounds may each wait for the drift that concerns it: with
#
#     upper   >= |y - z_own| - own_so_far,       own_so_far   >= what the own center has drifted so far,
#     lower_g <= |y - z_j| + group_so_far_g,     group_so_far_g  likewise the sum of its group's largest drifts,
#
# for y = (z_i, sqrt(N^2 - |z_i|^2)), every center z_j of group g but the own one, and counts of the time of writing,
# the triangle inequality has at any later time
#
#     |y - z_own| <= upper + own_so_far,         |y - z_j| >= lower_g - group_so_far_g,
#
# so that the label stays while
#
#     upper + own_so_far < lower_g - group_so_far_g      for every group g.
#
# In float32.  All slack is taken when a limit is written: with rounding to nearest, subnormals flushed or not, from
# fl(a) < fl(b) follows a < b, and each side of the comparison is rounded once.  (u = 2**-24.)
#
# - Roots.  N^2 is rounded by u N^2, and A = N^2 - 2 v then by 2 u (N^2 + |v|); 16 u (N^2 + |v|) is given for these and
#   for what is lost of that gift itself.  The radius loses some u of its own, of which its factors have 2**13 to spare
#   (kernels/update_centers.cu).  The sum of both rounds by u, and so do its root and the product with the factor
#   1 -+ 16 u that pays for these three.
# - Origins.  With S for a count, root -+ S rounds by u (root + S) at most, what follows by as much, and 16 u (root + S)
#   is given.
# - Counts.  One becomes fl(fl(S + step) (1 + 4 u)) >= S + step, where step is above the drift, so that between any two
#   times a count grows by all that was drifted.  Where subnormals are flushed, 2**-125 may be lost each time: root is
#   2**-50 at least, by the constant of the radius, and 13 u 2**-50 pays for 2**50 such losses of own center and group.


def upper_limit(best: float, radius: float, norm: float, own_so_far: float) -> float:
    """Least upper bound of a row's distance to its own center, less the drift of that so far (real arithmetic).

    kernels/screen.cuh computes a float32 just above this.

    Parameters
    ----------
    best : float
        The score v of the own center.
    radius : float
        Of the score.
    norm : float
        N >= |z_i|, the same whenever limits of the row are compared.
    own_so_far : float
        The sum over the iterations so far of the own center's drift.
    """
    return math.sqrt(max(0.0, norm * norm - 2.0 * best + 2.0 * radius)) - own_so_far


def lower_limit(most: float, radius: float, norm: float, group_so_far: float) -> float:
    """Greatest lower bound of a row's distances to a group's centers, plus that group's drift so far (real arithmetic).

    kernels/screen.cuh computes a float32 just below this.

    Parameters
    ----------
    most : float
        The largest score of the group's centers, the row's own center left out; -infinity if there is no other.  More
        will do, as the second best score of all where the own center is in the group.
    radius, norm : float
        As for `upper_limit`.
    group_so_far : float
        The sum over the iterations so far of the largest drift of a center of the group.
    """
    return math.sqrt(max(0.0, norm * norm - 2.0 * most - 2.0 * radius)) + group_so_far
