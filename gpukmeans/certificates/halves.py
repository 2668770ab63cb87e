"""Error radii of scores in half precision on tensor cores.

How long their verdicts hold is in drift.py.  Notation as in rounding.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from gpukmeans.certificates.rounding import SLACK, UNIT32, gamma

#: A unit in the last place of float32, relative to the largest of the numbers that tensor cores add at once.
TENSOR_UNIT = 2.0**-23

#: A smaller half is subnormal.  It may be aligned as if it were as large.
SMALLEST_NORMAL_HALF = 2.0**-14


class TensorCores(NamedTuple):
    """How tensor cores add products of halves to a running sum in float32.

    `products` are added to it at once.  All addends are cut to `guard_bits` bits behind the last one that float32 has
    of the largest, and their exact sum is cut to float32.
    """

    products: int
    guard_bits: int


#: The worst that is known, which others are taken for (M. Fasi, N. J. Higham, M. Mikaitis and S. Pranesh, "Numerical
#: behavior of NVIDIA tensor cores", PeerJ Computer Science 7, 2021: V100).
WORST_TENSOR_CORES = TensorCores(4, 0)

#: Those of a compute capability, where measured: A100, A2, Ada, L40S; H100, H200, B200 (F. A. Khattak and M. Mikaitis,
#: "Accurate Models of NVIDIA Tensor Cores", arXiv 2512.07004).  A device's own are measured before they are relied on:
#: backends/cuda/device/tensor_rounding.py.
TENSOR_CORES = {
    (8, 0): TensorCores(8, 1),
    (8, 6): TensorCores(8, 1),
    (8, 9): TensorCores(8, 1),
    (9, 0): TensorCores(16, 2),
    (10, 0): TensorCores(16, 2),
}


def tensor_cores_of(capability: tuple[int, int]) -> TensorCores:
    """The tensor cores of a compute capability (major, minor)."""
    return TENSOR_CORES.get(capability, WORST_TENSOR_CORES)


def tensor_units(cores: TensorCores) -> float:
    """Units of `TENSOR_UNIT` by which a product may be off: see `tensor_accumulation`."""
    return ((cores.products + 1.0) / 2.0**cores.guard_bits + 1.0) / cores.products


#: Scaled rows and centers with larger norms are not screened.
LARGEST_HALF_NORM = 2.0**60


def tensor_accumulation(n_columns: int, cores: TensorCores) -> float:
    """alpha: a tensor-core chain of `n_columns` products of halves is within alpha * M of the exact sum.

    M bounds every product, every partial sum and the start in magnitude; and every product in which a subnormal half is
    taken for `SMALLEST_NORMAL_HALF`.

    Notes
    -----
    The products are exact.  An addition of p of them to the running sum cuts p + 1 addends, by less than a unit of
    2**-(23 + g) of the largest each, and the result by less than a unit of 2**-23: together (p + 1) / 2**g + 1 units.
    That is 1.5 a product for (p, g) = (4, 0), 0.69 for (8, 1) and 0.33 for (16, 2).  Eight units are added to be safe.
    Computed running sums exceed M by the errors so far, which `gamma` covers; it is infinite, and nothing certified,
    beyond 2.7 million columns of the first kind.
    """
    return SLACK * gamma(tensor_units(cores) * n_columns + 8.0, TENSOR_UNIT)


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
    partial sums stay below |h_i| |h_j| + |z_j|^2 / 2 <= N C + C^2 / 2, and products in which a subnormal half is taken
    for s = `SMALLEST_NORMAL_HALF` below s C or s N, hence accumulation times the sum of all.  Together

        |error| <= C r + (R + alpha (C + s)) N + (alpha + u) C^2 / 2 + alpha s C.

    Halves and their products are never flushed to zero; starts are, at a loss of 2**-126.
    """
    C, R, alpha = float(largest_norm), float(largest_rest), accumulation
    if not C < LARGEST_HALF_NORM:
        return HalfScoreRadius(math.inf, math.inf, math.inf)
    subnormal = alpha * SMALLEST_NORMAL_HALF
    constant = (alpha + UNIT32) * C * C / 2.0 + subnormal * C + 2.0**-100
    return HalfScoreRadius(SLACK * C, SLACK * (R + alpha * C + subnormal), SLACK * constant)
