"""Error radii of scores of bytes on integer tensor cores, by centers in fixed point (kernels/limbs.cuh).

How long their verdicts hold is in drift.py.  Notation as in rounding.py.
"""

from __future__ import annotations

import math

from gpukmeans.certificates.rounding import SLACK, UNIT32, ScoreRadius

#: What centers are whole multiples of.  Three signed bytes of it reach beyond 255.  Two would with 2**-7, and leave
#: some 5 of 14,000 rows of MNIST (k=10) to float64 in an iteration, where three leave none, and halves 40.
FIXED_UNIT = 2.0**-14

#: Of centers with larger norms nothing is certified: their scores could leave the numbers that hold them.
LARGEST_FIXED_NORM = 2.0**19


def fixed_score_radius(largest_norm: float, largest_rest: float) -> ScoreRadius:
    """Radius of the scores ``v_ij = z_i.q_j - |z_j|^2 / 2``, where q_j is z_j in fixed point and z_i is whole.

    Row i, with ``|z_i| <= norm_i``, is certified when its best computed score exceeds the second best by more than
    twice the radius.  kernels/update_centers.cu computes the same two numbers on the device.

    Parameters
    ----------
    largest_norm, largest_rest : float
        Upper bounds of |z_j| + |z_j - q_j| and of |z_j - q_j| over the centers.

    Notes
    -----
    Let N >= |z_i|, and C, R the two largest of the centers.  By Cauchy and Schwarz |z_i.(z_j - q_j)| <= N R.  With
    units of e = `FIXED_UNIT`, x_i.q_j + start_j is a sum of whole numbers, without error, where start_j is

        (o.q_j - |z_j|^2 / 2) / e,     z = x + o,

    rounded to a whole number: 1/2 unit.  o.q_j is a sum of whole numbers in float64, below 2**47, and |z_j|^2 is within
    gamma(d + 4) <= 2**-36 relative (up to 2**16 columns); their difference, below 2**52, is rounded once: 1/4 unit.
    The score is then rounded to float32, u (N C + C^2 / 2 + e).  Together

        |error| <= (R + u C) N + (u + 2**-36) C^2 / 2 + e.

    No product is rounded, and no number is small enough to be flushed to zero.
    """
    C, R = float(largest_norm), float(largest_rest)
    if not C < LARGEST_FIXED_NORM:
        return ScoreRadius(math.inf, math.inf)
    return ScoreRadius(SLACK * (R + UNIT32 * C), SLACK * ((UNIT32 + 2.0**-36) * C * C / 2.0 + FIXED_UNIT))
