"""Flows between two clusterings: the counts are those of the rows, pairs are the best, and few bands cross."""

from __future__ import annotations

import json
from itertools import permutations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from gpukmeans.evaluation import flow


def crossings(counts, order, order_after):
    """Pairs of rows whose flows cross, pair by pair."""
    place, place_after = np.argsort(order), np.argsort(order_after)
    cells = [(place[i], place_after[j], int(counts[i, j])) for i, j in np.argwhere(counts).tolist()]
    return sum(m * n for a, b, m in cells for c, d, n in cells if a < c and b > d)


@pytest.mark.parametrize("seed", range(4))
def test_counts_pairs_and_share_are_those_of_the_rows(seed):
    random = np.random.default_rng(seed)
    before, after = random.integers(0, 5, 60), random.integers(0, 4, 60) * 2  # clusters 1, 3, 5 after are empty
    found = flow(before, after)
    want = np.array([[((before == i) & (after == j)).sum() for j in range(7)] for i in range(5)])
    assert np.array_equal(found.counts, want)
    best = max(sum(want[i, j] for i, j in enumerate(p)) for p in permutations(range(7), 5))
    assert found.stayed == best / 60 == sum(want[i, j] for i, j in found.matches.tolist()) / 60
    assert all(want[i, j] for i, j in found.matches.tolist())
    assert found.adjusted_rand == adjusted_rand_score(before, after)
    assert sorted(found.order_before.tolist()) == list(range(5))
    assert sorted(found.order_after.tolist()) == list(range(7))
    assert json.loads(json.dumps(found.as_dict()))["counts"] == want.tolist()


def test_a_renumbering_is_found_and_its_bands_do_not_cross():
    random = np.random.default_rng(0)
    numbers = random.permutation(12)
    before = random.integers(0, 12, 500)
    found = flow(before, numbers[before])
    assert found.stayed == found.adjusted_rand == 1.0
    assert {tuple(pair) for pair in found.matches.tolist()} == set(enumerate(numbers.tolist()))
    assert crossings(found.counts, found.order_before, found.order_after) == 0
    noisy = np.where(random.random(500) < 0.2, random.integers(0, 12, 500), numbers[before])
    found = flow(before, noisy)
    own = np.arange(12)
    assert crossings(found.counts, found.order_before, found.order_after) < crossings(found.counts, own, own) / 2


def test_the_table_says_where_rows_go():
    found = flow([0] * 10 + [2] * 5, [3] * 6 + [0] * 3 + [1] + [0, 1, 2, 2, 4])
    assert found.rows() == [
        ("0", "10", "3", "60.0%", "3 (60%), 0 (30%), 1 (10%)"),
        ("2", "5", "2", "40.0%", "2 (40%), 0 (20%), 1 (20%), 1 more"),
    ]
    with pytest.raises(ValueError, match="the clusterings have 2 and 1 rows; they should be of the same rows"):
        flow([0, 1], [0])
