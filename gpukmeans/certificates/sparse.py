"""Error radii of scores of sparse rows, which grow with the number of stored entries.  Notation as in rounding.py."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpukmeans.certificates.rounding import (
    LARGEST_NORM32,
    SLACK,
    SQUARE_UNDERFLOW,
    TINY32,
    UNIT32,
    UNIT64,
    gamma,
)

#: Smallest normal float64.
TINY64 = 2.0**-1022


def sparse_score_radius(
    n_terms: NDArray[np.integer],
    norms: NDArray[np.float64],
    largest_center_norm: float,
    square_roundings: int,
    unit: float,
) -> NDArray[np.float64]:
    """Radii of the scores ``s_j = fl(fl(-2 x.c_j) + fl(|c_j|^2))`` of rows of which only some entries are stored.

    Parameters
    ----------
    n_terms : ndarray of shape (n_rows,), int
        How many entries of each row are stored; all others are zero.
    norms : ndarray of shape (n_rows,), float64
        Upper bounds of |x_i|.
    largest_center_norm : float
        An upper bound of |c_j| over the centers.
    square_roundings : int
        Roundings of a term of |c_j|^2 at most, the square's own among them, in float64.
    unit : float
        Unit roundoff of the scores, `UNIT32` or `UNIT64`: x and c are rounded to that arithmetic first.

    Returns
    -------
    ndarray of shape (n_rows,), float64
        Infinite for rows that cannot be certified.

    Notes
    -----
    Row i has m products.  Each takes part in m roundings at most, in any order and with or without fused multiply-add,
    and carries the roundings of x and of c: q = fl(-2 x.c) is within 2 gamma(m + 2) |x||c| of -2 x.c, by Cauchy and
    Schwarz (Higham, eq. 3.5).  |c|^2 is within g |c|^2 before it is rounded to the scores' arithmetic and within
    (g + u + gu) |c|^2 after, for g = gamma(square_roundings) in float64.  The sum of both rounds by

        u (|q| + |c|^2 (1 + g)(1 + u)) <= u (2 |x||c| (1 + gamma(m + 2)) + |c|^2 (1 + g)(1 + u)).

    Together, with C the largest |c|,

        |error| <= 2 gamma(m + 4) |x| C + (2 g + 3 u) C^2        for g <= 1/8, which 2**49 features do not exceed.

    Underflow as in `gpukmeans.certificates.scores.score_radius`; that of squares in float64 is `SQUARE_UNDERFLOW`.
    """
    narrow = unit == UNIT32
    C = float(largest_center_norm)
    if narrow and not C < LARGEST_NORM32:
        C = float("inf")
    mu = (n_terms + 4.0) * unit
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        relative = np.where(mu < 0.5, mu / (1.0 - mu), np.inf)
        tiny = 4.0 * (n_terms + 4.0) * (TINY32 if narrow else TINY64)
        radii = norms * (2.0 * relative * C + tiny)
        radii += (2.0 * gamma(square_roundings, UNIT64) + 3.0 * unit) * C * C + SQUARE_UNDERFLOW
        radii += tiny * (2.0 + C)
        radii *= SLACK
    # An infinite norm or radius certifies nothing; infinity times zero is NaN, and becomes infinity.
    bounded = norms < LARGEST_NORM32 if narrow else np.isfinite(norms)
    return np.where(bounded & np.isfinite(radii), radii, np.inf)
