"""How tensor cores add, by the model of tests/emulator/cuda/tensor.h: sums in fractions, tables of scores in NumPy."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from gpukmeans.backends.cuda.device.tensor_rounding import model_sums
from tests.support.rational_floats import exponent, rounded


def tensor_chain(start, pairs, cores, *, least=-10_000):
    """start plus products of pairs, so many at a time, as a Fraction: every addend and the result are cut.

    The unit is set by the largest addend, a product standing for the product of its factors' powers of two.  With
    ``least=-14`` subnormal halves count as the smallest that is normal, which some tensor cores may do.
    """
    total = start
    for first in range(0, len(pairs), cores.products):
        some = [(a, b) for a, b in pairs[first : first + cores.products] if a and b]
        exponents = [max(exponent(a), least) + max(exponent(b), least) for a, b in some]
        largest = max([-133, *exponents, *([exponent(total)] if total else [])])
        unit = Fraction(2) ** (largest - 23 - cores.guard_bits)
        total = unit * (math.trunc(total / unit) + sum(math.trunc(a * b / unit) for a, b in some))
        total = rounded(total, 24, -126, down=True)
    return total


def tensor_sums(cores, starts, a, b):
    """starts + a b.T, one product of matrices: (n, k) float32 from (n, k) float32, (n, depth) and (k, depth) halves."""
    return model_sums(cores, starts.astype(np.float64), a[:, None, :], b[None])
