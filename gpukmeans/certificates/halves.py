"""Error radii of scores in half precision on tensor cores.

How long their verdicts hold is in drift.py.  Notation as in rounding.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gpukmeans.certificates.rounding import SLACK, UNIT32, gamma

#: The error of an addend on tensor cores, relative to the largest of those that are added at once: 24 bits are kept,
#: others truncated (M. Fasi, N. J. Higham, M. Mikaitis and S. Pranesh, "Numerical behavior of NVIDIA tensor cores",
#: PeerJ Computer Science 7, 2021: 23 bits behind the point on Volta and Turing, one or two more since).
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
