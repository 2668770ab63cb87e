"""Error radii of scores from a few components of the rows: projected rows, and anchored scores.

Notation as in rounding.py.
"""

from __future__ import annotations

import math

from gpukmeans.certificates.rounding import SLACK, TINY32, UNIT32, ScoreRadius, gamma, screened_norm


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
    the norms of `gpukmeans.backends.cpu.screens.full.RowScreen` are never smaller.
    """
    rounding = math.sqrt(n_components * (1.0 + basis_defect)) * gamma(n_features + 4.0, UNIT32)
    return SLACK * (rounding + basis_defect * (1.0 + basis_defect + rounding))


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
    C = screened_norm(largest_center_norm)
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
    C = screened_norm(largest_center_norm)
    return ScoreRadius(
        whole.per_norm + 2.0 * projected.per_norm + SLACK * (18.0 * UNIT32 * C + 4.0 * TINY32),
        whole.constant + 2.0 * projected.constant + SLACK * (9.0 * UNIT32 * C * C + 4.0 * TINY32),
    )
