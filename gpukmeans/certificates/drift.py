"""How long a certificate holds: bounds of distances while centers drift.

The triangle inequality bounds how a distance changes when a center moves.  `gap_after_move` bounds the one gap of a
row, the functions ``group_*`` the distances to groups of centers by float32 scores, and `drift_limit`, `upper_limit`
and `lower_limit` both in the scaled coordinates of half-precision scores.  Notation as in rounding.py.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

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


def drift_limit(best: float, second: float, radius: float, norm: float, drift_so_far: float) -> float:
    """The drift of the centers at which the label of a certified row may change (real arithmetic).

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
    center and every drift are the same (see the bounds of groups above).  So the gap between the distances to the
    nearest center and to any other is at least sqrt(N^2 - 2 second - 2 radius) - sqrt(N^2 - 2 best + 2 radius), and an
    iteration takes `gap_after_move` off it.
    """
    own = math.sqrt(max(0.0, norm * norm - 2.0 * best + 2.0 * radius))
    other = math.sqrt(max(0.0, norm * norm - 2.0 * second - 2.0 * radius))
    return other - own + drift_so_far


# ---- a limit for every group of centers ------------------------------------------------------------------------------
#
# `drift_limit` adds the largest drift of any other center to that of the own one, so that one moving center shortens
# the certificates of all rows.  Kept apart, the upper bound and each lower bound change only by their own drift: with
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
