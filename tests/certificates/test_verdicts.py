"""Verdicts by scores as wrong as their radius allows: what is certain is true, and no gap is wider than is said."""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np
import pytest

from gpukmeans.certificates.drift import GAP_SLACK
from gpukmeans.certificates.lowest import Lowest
from gpukmeans.certificates.rounding import ScoreRadius
from gpukmeans.certificates.verdicts import verdict, verdict_within

#: The error of the scores below relative to their radius.
NEARLY = 1 - 2.0**-20


def lowest_of(first, second, third):
    n = len(first)
    return Lowest(np.zeros(n, int), np.asarray(first), np.asarray(second), np.ones(n, int), np.asarray(third))


def test_only_what_the_radius_cannot_turn_is_certain():
    """Both scores off by the whole radius, each in the other's favour: certain from there on, and no earlier."""
    norms, radius = np.array([0.5, 1.0, 8.0, 8.0]), ScoreRadius(0.25, 0.125)
    error = radius.of(norms)
    assert error.tolist() == [0.25, 0.375, 2.125, 2.125]
    first = np.array([-3.0, 0.0, 5.0, -60.0])
    for margin, certain in ((-0.01, False), (0.0, False), (0.01, True)):
        second = first + 2 * error + margin
        found = verdict(norms, lowest_of(first, second, second + 1), first, radius)
        assert found.certain.tolist() == [certain] * 4
    assert found.best.tolist() == [0] * 4
    assert found.second.tolist() == [1] * 4


@pytest.mark.parametrize("scale", [2.0**-40, 1.0, 2.0**40])
def test_gaps_are_lower_bounds_and_not_much_lower(scale):
    """Against 60 digits.  What is taken off pays for `GAP_SLACK` of both distances, and for twice the radius."""
    local = np.random.default_rng(0)
    n = 400
    x = local.uniform(-1, 1, (n, 2)) * scale
    centers = local.uniform(-2, 2, (3, n, 2)) * scale
    norms = np.sqrt((x * x).sum(axis=1)) * (1 + 2.0**-50)
    error = (norms * norms + scale * scale) * 2.0 ** local.integers(-60, -4, n)
    gaps, distances, scores = exact_gaps(x, centers)
    off = scores + NEARLY * error * np.array([[-1.0], [1.0], [1.0]])  # the own center seems nearer, the others farther
    found = verdict_within(norms, lowest_of(*off), off[0], error.copy())
    for told, others in ((found.near, 1), (found.rest, 2)):
        slack = GAP_SLACK * (distances[0] + distances[others])
        true = gaps[others - 1]
        assert (told <= true - 0.99 * slack).all()
        lost = 2 * error * (1 / np.sqrt(distances[0] ** 2) + 1 / distances[others])
        near = lost < 0.01 * np.minimum(distances[0], distances[others])
        assert near.sum() > n / 4
        assert (told >= true - 1.01 * slack - 2 * lost)[near].all()


def exact_gaps(x, centers):
    """|x - c_j| - |x - c_0| for j = 1, 2; all distances; and scores |c|^2 - 2 x.c rounded once."""
    with localcontext() as context:
        context.prec = 60
        distances, scores = np.empty((2, 3, len(x))), np.empty((2, 3, len(x)))
        gaps = np.empty((2, len(x)))
        for i, row in enumerate(x.tolist()):
            own = []
            for j in range(3):
                pairs = list(zip(map(Decimal, row), map(Decimal, centers[j, i].tolist()), strict=True))
                own.append(sum((a - b) ** 2 for a, b in pairs).sqrt())
                scores[0, j, i] = float(sum(b * b - 2 * a * b for a, b in pairs))
            distances[0, :, i] = [float(v) for v in own]
            gaps[:, i] = [float(v - own[0]) for v in own[1:]]
    return gaps, distances[0], scores[0]


def test_distances_that_the_radius_swallows_are_zero():
    """Neither root is taken of a negative number."""
    found = verdict_within(np.array([1.0]), lowest_of([-3.0], [-2.5], [-2.0]), np.array([-3.0]), np.array([0.0625]))
    assert found.near.tolist() == found.rest.tolist() == [0.0]
