"""The parts of a mini-batch step: draws, means of all rows so far, and clusters of little weight."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gpukmeans.backends import BatchSums
from gpukmeans.engine.batch_steps import Draws, MovingCenters


def weights(n):
    return np.random.default_rng(1).uniform(0, 3, n) * (np.arange(n) % 7 != 3)


@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize("n", [1, 500, 100_003])
def test_every_value_draws_the_row_that_choice_draws(n, even):
    """Also values that are, and lie beside, what the chances of the first rows add up to."""

    class Values:
        def __init__(self, values):
            self.values = values

        def random_sample(self, size):
            return self.values

    p = np.ones(n) if even else weights(n) + 1e-3
    p /= p.sum()
    reach = p.cumsum()
    reach /= reach[-1]
    some = reach[:-1][:: max(1, n // 1000)]
    values = np.concatenate([[0.0, 0.5, np.nextafter(1, 0)], some, np.nextafter(some, 0), np.nextafter(some, 1)])
    assert np.array_equal(Draws(Values(values), p, len(values))(), reach.searchsorted(values, side="right"))


def test_draws_are_those_of_choice():
    p = weights(500)
    p /= p.sum()
    draws = Draws(np.random.RandomState(9), p, 70)
    choices = np.random.RandomState(9)
    for _ in range(20):
        assert np.array_equal(draws(), choices.choice(500, 70, p=p))
    ahead = draws.ahead()
    assert draws.take_back()
    assert not draws.take_back()
    assert np.array_equal(draws(), ahead)
    draws.ahead()
    assert draws.settle()
    assert not draws.settle()
    assert not np.array_equal(draws(), ahead)


def test_centers_are_the_means_of_all_that_they_were_given():
    """Whole numbers, so that each rounding can be told; equal rows never move a center that lies on them."""
    rng = np.random.default_rng(0)
    moving = MovingCenters(np.full((3, 2), 1e6), np.zeros(3))
    sums, counts = [[Fraction(0)] * 2 for _ in range(3)], [Fraction(0)] * 3
    for _ in range(30):
        weight = rng.integers(0, 4, 3).astype(float)
        total = rng.integers(-50, 50, (3, 2)) * weight[:, None]
        before = moving.centers
        moving.move(BatchSums(total, weight, 0.0))
        for j in range(3):
            counts[j] += Fraction(weight[j])
            sums[j] = [s + Fraction(t) for s, t in zip(sums[j], total[j], strict=True)]
            if counts[j]:
                want = [float(s / counts[j]) for s in sums[j]]
                np.testing.assert_allclose(moving.centers[j], want, rtol=1e-13, atol=1e-13)
            else:
                assert np.array_equal(moving.centers[j], before[j])
    assert moving.counts.tolist() == [float(c) for c in counts]
    x = np.array([0.1, 1 / 3])
    still = MovingCenters(np.tile(x, (3, 1)), np.array([1.0, 3.0, 7.0]))
    for w in (1.0, 2.0, 5.0):
        still.move(BatchSums(np.tile(w * x, (3, 1)), np.full(3, w), 0.0))
    assert np.array_equal(still.centers, np.tile(x, (3, 1)))


@pytest.mark.parametrize(
    ("counts", "ratio", "n_rows", "want"),
    [
        ([10.0, 0.0, 0.2, 1.0], 0.05, 100, [1, 2]),
        ([10.0, 0.0, 0.2, 1.0], 0.5, 2, [1]),  # half as many as there are rows
        ([5.0, 0.0, 0.0, 0.0], 0.5, 4, [1, 2]),
        ([1.0, 2.0, 3.0], 2.0, 100, [0, 1]),  # one stays
        ([1.0, 2.0, 3.0], 0.0, 100, []),
        ([0.0, 0.0], 0.5, 100, []),
    ],
)
def test_which_centers_are_light(counts, ratio, n_rows, want):
    assert MovingCenters(np.zeros((len(counts), 1)), np.array(counts)).few(ratio, n_rows).tolist() == want
