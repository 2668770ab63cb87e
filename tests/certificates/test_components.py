"""Projected scores and their radius against rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gpukmeans.certificates.components import projected_rows_error, projection_radius
from tests.support.oracles import whole
from tests.support.score_cases import norm_above


def some_basis(d, m, seed, defect=0.0):
    """Nearly orthonormal float32 columns, and an upper bound of the spectral norm of Q'Q - I."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, m)))
    basis = (q * (1.0 + defect)).astype(np.float32)
    wide, unit = whole(basis)
    excess = wide.T.dot(wide) - np.diag([int(1 / (unit * unit))] * m)
    return basis, float(Fraction(int((excess * excess).sum())) ** Fraction(1, 2)) * float(unit * unit) * (1 + 2.0**-40)


def fraction_table(values):
    numerators, unit = whole(values)
    return numerators * unit


def rational_norm_above(vector):
    """A float at least |vector| of Fractions."""
    square = sum((v * v for v in vector), Fraction(0))
    return float(square) ** 0.5 * (1 + 2.0**-40) + 2.0**-160


PROJECTED = [
    ("ordinary", 1.0, 0.0, 0.0, 0.0),
    ("far from the origin", 1.0, 1e4, 0.0, 0.0),
    ("tiny", 2.0**-60, 0.0, 0.0, 0.0),
    ("huge", 2.0**50, 0.0, 0.0, 0.0),
    ("a skewed basis", 1.0, 0.0, 1e-3, 0.0),
    ("a badly skewed basis", 1.0, 3.0, 0.2, 0.0),
    ("centers projected badly", 1.0, 0.0, 0.0, 0.1),
]


@pytest.mark.parametrize(("name", "scale", "offset", "skew", "leaking"), PROJECTED, ids=[case[0] for case in PROJECTED])
def test_projected_scores_bound_the_true_ones_from_below(name, scale, offset, skew, leaking):
    """eta, and the radius: true - projected lies in [-radius, 4 r q + radius], for rows in and out of the span."""
    d, m = 24, 5
    basis, defect = some_basis(d, m, 1, skew)
    eta = projected_rows_error(d, m, defect)
    local = np.random.default_rng(2)
    X = (scale * (offset + local.standard_normal((12, d)))).astype(np.float32)
    C = scale * (offset + local.standard_normal((6, d)))
    X[0] = (scale * basis @ local.standard_normal(m)).astype(np.float32)
    C[0], C[1] = X[0], X[1]
    q = fraction_table(basis)
    p32 = X @ basis
    inside = (C @ basis.astype(np.float64) + leaking * local.standard_normal((6, m))).astype(np.float32)
    centers = fraction_table(C)
    g = fraction_table(inside)
    outside = centers - g.dot(q.T)
    leak = max(rational_norm_above(row) for row in outside.dot(q))
    largest = max(norm_above(c) for c in C)
    radius = projection_radius(m, largest, eta, defect, leak)
    for x, p in zip(X, p32, strict=True):
        row, projected = fraction_table(x), fraction_table(p)
        rest = row - q.dot(projected)
        norm = norm_above(x)
        assert rational_norm_above(projected - q.T.dot(row)) <= eta * norm
        assert rational_norm_above(q.T.dot(rest)) <= eta * norm
        r = np.float32(rational_norm_above(rest) * (1 + 2.0**-22))
        allowed = Fraction(radius.per_norm) * Fraction(norm) + Fraction(radius.constant)
        for c, inner, outer in zip(centers, inside, outside, strict=True):
            beyond = np.float32(rational_norm_above(outer) * (1 + 2.0**-22))
            square = np.float32(float(sum(c * c)))
            table = np.concatenate([-2 * inner, [-2 * beyond, square]]).astype(np.float32)
            score = Fraction(float(np.concatenate([p, [r, np.float32(1)]]).astype(np.float32) @ table))
            true = sum(c * c) - 2 * sum(row * c)
            assert -allowed <= true - score <= 4 * Fraction(float(r)) * Fraction(float(beyond)) + allowed


def test_the_bounds_of_a_projection_are_not_vacuous():
    """An orthonormal basis costs a few roundings, not digits: below 1e-4 of |x| |c| for MNIST's shape."""
    _, defect = some_basis(100, 16, 3)
    eta = projected_rows_error(784, 64, defect)
    assert eta < 1e-3
    radius = projection_radius(64, 1.0, eta, defect, 1e-7)
    assert radius.per_norm + radius.constant < 3e-3
