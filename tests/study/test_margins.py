"""Distances and margins against arithmetic in fractions and decimals of 100 digits."""

from __future__ import annotations

from decimal import Context, Decimal
from fractions import Fraction

import numpy as np
import pytest

from gpukmeans.datasets import exact_ties, near_ties
from gpukmeans.evaluation import margins

DIGITS = Context(prec=100, Emin=-2000, Emax=2000)
rng = np.random.default_rng(0)


def ordinary(scale, dtype=np.float64):
    X = (rng.standard_normal((40, 5)) * scale).astype(dtype)
    return X, X[:6].astype(np.float64) * 1.25


CASES = {
    "float64": ordinary(1.0),
    "float32": ordinary(1.0, np.float32),
    "tiny": ordinary(1e-200),
    "huge": ordinary(1e130),
    "ties": exact_ties(40, 6, 8),
    "near ties": near_ties(40, 6, 8),
    "far from the origin": tuple(values + 1e8 for values in ordinary(1e-3)),
}


@pytest.mark.parametrize("case", CASES)
def test_every_number_is_rounded_once(case):
    X, C = CASES[case]
    squares = [
        [sum((Fraction(float(a)) - Fraction(float(b))) ** 2 for a, b in zip(x, c, strict=True)) for c in C] for x in X
    ]
    labels = np.array([row.index(min(row)) for row in squares])
    found = margins(X, labels, C)
    for i, row in enumerate(squares):
        others = [j for j in range(len(C)) if j != labels[i]]
        second = min(others, key=row.__getitem__)
        own, far = (
            DIGITS.sqrt(DIGITS.divide(Decimal(s.numerator), Decimal(s.denominator)))
            for s in (row[labels[i]], row[second])
        )
        assert found.second[i] == second
        assert found.distance[i] == float(own)
        assert found.margin[i] == float(DIGITS.subtract(far, own))
    if case == "ties":
        assert not found.margin.any()


def test_one_center_has_no_second_and_shapes_are_checked():
    found = margins([[3.0, 4.0]], [0], [[0.0, 0.0]])
    assert (found.distance.tolist(), found.second.tolist()) == ([5.0], [-1])
    assert np.isnan(found.margin).all()
    with pytest.raises(ValueError, match=r"X has shape \(1, 2\), labels \(1,\) and centers \(1, 1\)"):
        margins([[3.0, 4.0]], [0], [[0.0]])
    with pytest.raises(ValueError, match="labels range from 3 to 3"):
        margins([[3.0]], [3], [[0.0]])
