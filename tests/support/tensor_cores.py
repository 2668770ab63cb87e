"""How tensor cores add, by the model of tests/emulator/cuda/tensor.h: sums in fractions, tables of scores in NumPy."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

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


def exponents(values):
    return np.where(values == 0.0, -10_000, np.frexp(values)[1] - 1)


def cut_to_float32(values):
    near = values.astype(np.float32)
    return np.where(abs(near.astype(np.float64)) > abs(values), np.nextafter(near, np.float32(0)), near)


def tensor_sums(cores, starts, a, b):
    """starts + a b.T, one product of matrices: (n, k) float32 from (n, k) float32, (n, depth) and (k, depth) halves."""
    with np.errstate(invalid="ignore", over="ignore"):
        products = a[:, None, :] * b
        plain = starts + products.sum(axis=2)
    finite = np.isfinite(plain)
    sums, products = np.where(finite, starts, 0.0), np.where(finite[..., None], products, 0.0)
    factors = exponents(a)[:, None, :] + exponents(b)
    for first in range(0, a.shape[1], cores.products):
        block = slice(first, first + cores.products)
        largest = np.maximum(factors[..., block].max(axis=2), np.maximum(exponents(sums), -133))
        unit = np.exp2(largest - 23.0 - cores.guard_bits)
        units = np.trunc(sums / unit) + np.trunc(products[..., block] / unit[..., None]).sum(axis=2)
        sums = cut_to_float32(units * unit).astype(np.float64)
    return np.where(finite, sums, plain).astype(np.float32)
