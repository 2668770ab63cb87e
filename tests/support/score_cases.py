"""Rows and centers that are hard on scores in floating point, arithmetics to form scores in, and exact scores."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from gpukmeans.datasets import near_ties
from tests.support.oracles import whole

rng = np.random.default_rng(30)


def norm_above(vector):
    """An upper bound of |vector|, within a part in 2**40 of it (or 2**-160 of nothing)."""
    x, unit = whole(vector)
    square = Fraction(int((x * x).sum())) * unit * unit
    root = Fraction(float(square) ** 0.5) if square > Fraction(2) ** -1000 else Fraction(2) ** -160
    root *= 1 + Fraction(1, 2**40)
    assert root * root >= square
    return float(root) * (1 + 2.0**-50)


# ---- arithmetics in which scores may be formed ------------------------------------------------------------------


def flush(values):
    """Subnormal float32 to zero, as CUDA does with -ftz=true."""
    return np.where(np.abs(values) < np.float32(2.0**-126), values.dtype.type(0), values)


def dot_in_order(x, C, dtype, order, clean=lambda v: v):
    """x.c of every row of C, one rounded product and one rounded sum at a time."""
    x, C = clean(x.astype(dtype)[order]), clean(C.astype(dtype)[:, order])
    total = np.zeros(len(C), dtype)
    for f in range(len(order)):
        total = clean(total + clean(x[f] * C[:, f]))
    return total


def dot_fused(x, C, dtype, order):
    """As with fused multiply-add: float32 products and sums in float64, rounded once (to within double rounding)."""
    x, C = x.astype(dtype)[order].astype(np.float64), C.astype(dtype)[:, order].astype(np.float64)
    total = np.zeros(len(C), dtype)
    for f in range(len(order)):
        total = (total + x[f] * C[:, f]).astype(dtype)
    return total


def exact_scores(x, C):
    xs, cs, unit = whole(x, C)
    return [Fraction(int((c * c).sum() - 2 * (xs * c).sum())) * unit * unit for c in cs]


def alternating(d):
    """Products that cancel to almost nothing."""
    x = rng.uniform(1, 2, d)
    return x, np.where(np.arange(d) % 2, 1.0, -1.0) / np.roll(x, 1) * x.mean()


def families(dtype):
    """(name, row, centers), the rows and centers as stored."""
    for seed in range(4):
        X, C = near_ties(1, 6, 40, seed=seed, dtype=dtype)
        yield f"near ties {seed}", X[0], C
    for scale in (1e-30, 1.0, 1e6, 1e15):
        for d in (1, 7, 64):
            yield f"normal x {scale}", scale * rng.standard_normal(d), scale * rng.standard_normal((5, d))
    yield "far from the origin", 1e6 + rng.random(50), 1e6 + rng.random((5, 50))
    yield "row far, centers near", 1e12 * rng.standard_normal(20), rng.standard_normal((5, 20))
    yield "row near, centers far", rng.standard_normal(20), 1e12 * rng.standard_normal((5, 20))
    yield "subnormal float32", rng.integers(-99, 99, 30) * 2.0**-149, rng.integers(-99, 99, (5, 30)) * 2.0**-149
    yield "just above subnormal", rng.random(30) * 2.0**-126, rng.random((5, 30)) * 2.0**-125
    yield "products underflow", rng.random(30) * 2.0**-70, rng.random((5, 30)) * 2.0**-70
    yield "one underflows", rng.random(30) * 2.0**-140, rng.random((5, 30)) * 2.0**14
    yield "constant", np.full(33, 0.1), np.full((5, 33), 0.1)
    yield "zero row", np.zeros(9), rng.random((5, 9))
    yield "zero centers", rng.random(9), np.zeros((5, 9))
    yield "largest float32 squares", np.full(4, 2.0**61), np.full((5, 4), 2.0**57)
    x, c = alternating(200)
    yield "cancelling", x, np.stack([c, -c, 2 * c])
    yield "spread", np.ldexp(rng.random(60), rng.integers(-30, 30, 60)), np.ldexp(rng.random((5, 60)), -20)


CASES32 = [(name, np.asarray(x, np.float32), np.asarray(C, np.float32)) for name, x, C in families(np.float32)]

CASES64 = [(name, np.asarray(x), np.asarray(C)) for name, x, C in families(np.float64)]


def every_rounding_the_same_way(d, unit):
    """x = c = (1, t, t, ...), t*t a little above half an ulp of 1: each of d - 1 additions rounds up by nearly u."""
    t = np.sqrt(unit) * (1 + 2.0**-11)
    return np.concatenate([[1.0], np.full(d - 1, t)])
