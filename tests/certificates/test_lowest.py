"""The lowest scores of rows: of few centers and of many."""

import numpy as np
import pytest

from gpukmeans.certificates import lowest as module
from gpukmeans.certificates.lowest import FEW, ROWS, TURNED, lowest_scores


@pytest.mark.parametrize(("n", "k"), [(7, 4), (ROWS * 2, 2), (TURNED // 8 + 9, 8), (ROWS * FEW, FEW)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_of_few_centers_the_lowest_scores_are_those_that_sorting_finds(n, k, dtype):
    """Of equal scores the first is the best, and another one the second."""
    scores = np.random.default_rng(n).integers(0, 9, (n, k)).astype(dtype)
    scores[0], scores[1, 1] = 3.0, np.inf
    ranked, before = np.sort(scores, axis=1), scores.copy()
    for count in (3, 2):
        found = lowest_scores(scores.copy(), count)
        assert np.array_equal(found.best, before.argmin(axis=1))
        assert np.array_equal(found.best_score, ranked[:, 0])
        assert np.array_equal(found.second_score, ranked[:, 1])
        assert found.best_score.dtype == dtype
    found = lowest_scores(scores)
    assert np.array_equal(found.third_score, ranked[:, 2] if k > 2 else np.full(n, np.inf))
    assert np.array_equal(before[np.arange(n), found.second], ranked[:, 1])
    assert not (found.second == found.best).any()


def test_scores_that_are_no_numbers_certify_nothing_and_name_a_center(monkeypatch):
    monkeypatch.setattr(module, "ROWS", 0)
    found = lowest_scores(np.array([[1.0, np.nan, 2.0], [np.inf, np.inf, np.inf]]))
    assert not (found.second_score > found.best_score).any()
    assert {*found.best.tolist(), *found.second.tolist()} <= {0, 1, 2}


@pytest.mark.parametrize(("n", "k"), [(1, 3), (7, 4), (300, 40)])
def test_of_many_centers_equal_scores_come_in_their_order(n, k):
    scores = np.random.default_rng(n).integers(0, 9, (n, k)).astype(np.float32)
    order = np.argsort(scores, axis=1, kind="stable")
    ranked = np.take_along_axis(scores, order, axis=1)
    for given in (scores.copy(), np.array(scores, order="F")):
        found = lowest_scores(given)
        assert np.array_equal(found.best, order[:, 0])
        assert np.array_equal(found.second, order[:, 1])
        for score, want in zip((found.best_score, found.second_score, found.third_score), ranked.T, strict=False):
            assert np.array_equal(score, want)
    two = lowest_scores(scores.copy(), count=2)
    assert np.array_equal(two.best, order[:, 0])
    assert np.array_equal(two.best_score, ranked[:, 0])
    assert np.array_equal(two.second_score, ranked[:, 1])
    assert two.second is two.best
    assert two.third_score is two.second_score
