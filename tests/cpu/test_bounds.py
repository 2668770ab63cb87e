"""Drift bounds: a row that they leave out has the label of its true nearest center, whatever the centers did."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest

import gpukmeans.backends.cpu.screens.bounds as numpy_bounds
from gpukmeans.backends.cpu.screens.bounds import DriftBounds
from gpukmeans.backends.cpu.screens.full import FullScreen, RowScreen
from gpukmeans.certificates.drift import gap_after_move
from gpukmeans.certificates.scores import square_distance_radius
from gpukmeans.threads import Workers
from tests.support.assertions import assert_labels
from tests.support.oracles import nearest

POOL = Workers(1)


def true_nearest(X, centers):
    """By float64 distances, and in whole numbers where these nearly tie."""
    difference = X.astype(np.float64)[:, None] - centers
    squares = np.einsum("ijk,ijk->ij", difference, difference)
    lowest = np.partition(squares, 1, axis=1)
    labels = squares.argmin(axis=1)
    close = ~(lowest[:, 1] - lowest[:, 0] > 1e-12 * lowest[:, 1])
    if close.any():
        labels[close] = nearest(X[close], centers)
    return labels


def look(bounds, X, centers, index, **changes):
    """Screen rows, and settle the bounds by the result."""
    found = replace(FullScreen(RowScreen(X), centers)(index), **changes)
    bounds.settle(index, found.best.astype(np.int32), found.second.astype(np.int32), found)
    return found


class Step(NamedTuple):
    opened: np.ndarray  # rows that the bounds leave open
    watched: np.ndarray | None
    n_wrong: int


def follow(X, path, *, faulty=False):
    """Label rows along a path of centers as a run does: bounds, a screen, and the truth where that is not certain.

    Labels must be the true nearest, unless a fault is planted: then the steps count the wrong ones.
    """
    bounds, labels, steps = DriftBounds(len(X), len(path[0])), np.full(len(X), -1), []
    for centers in path:
        bounds.advance(centers)
        rows, true = bounds.open_rows(POOL), true_nearest(X, centers)
        if len(rows):
            index = slice(0, len(X)) if len(rows) == len(X) else rows
            found = look(bounds, X, centers, index)
            labels[index] = found.best
            left = rows[~found.certain]
            labels[left] = true[left]
            bounds.void(left)
        if not faulty:
            assert_labels(labels, X, centers, want=true)
        steps.append(Step(rows, bounds._watched, int((labels != true).sum())))
    return steps


def n_wrong(steps):
    return sum(step.n_wrong for step in steps)


def n_returned(steps):
    """How often a row was open that some watch list before had left off, where most rows were not open."""
    off, found = np.zeros(len(steps[0].opened), bool), 0
    for step in steps:
        if len(step.opened) < len(off) / 2:
            found += int(off[step.opened].sum())
        if step.watched is not None:
            off |= ~np.isin(np.arange(len(off)), step.watched)
    return found


def rows(dtype=np.float32, d=2):
    """Rows without clusters, so that some always lie between centers."""
    return np.random.default_rng(1).uniform(-1, 1, (1500, d)).astype(dtype)


def creeping(X, k):
    """Each center keeps a direction of its own, by a step of about 0.001."""
    direction = np.random.default_rng(2).standard_normal((k, X.shape[1]))
    return [X[:k].astype(np.float64) + 1e-3 * i * direction for i in range(60)]


def restless(X, k):
    """Tiny, moderate and huge steps of some centers; rests, jumps that are taken back, and swaps."""
    local = np.random.default_rng(4)
    path = [X[:k].astype(np.float64)]
    for i in range(90):
        moving = local.random((k, 1)) < 0.6
        centers = path[-1] + 10.0 ** -local.integers(2, 9) * moving * local.standard_normal((k, X.shape[1]))
        if i % 15 == 7:
            centers = path[-1]
        elif i % 15 == 10:
            centers = path[-1] + 2 * (local.random((k, 1)) < 0.3) * local.standard_normal((k, X.shape[1]))
        elif i % 15 == 11:
            centers = path[-2].copy()
        elif i % 30 == 29:
            centers = path[-1][::-1].copy()
        path.append(centers)
    return path


@pytest.mark.parametrize(("dtype", "d", "k"), [(np.float32, 2, 7), (np.float64, 2, 2), (np.float64, 3, 5)])
@pytest.mark.parametrize("path_of", [creeping, restless])
def test_rows_left_out_keep_the_label_of_the_true_nearest_center(path_of, dtype, d, k):
    X = rows(dtype, d)
    path = path_of(X, k)
    steps = follow(X, path)
    assert n_wrong(steps) == 0
    assert len(steps[0].opened) == len(X)
    assert sum(len(step.opened) for step in steps) < 0.5 * len(X) * len(path)  # not vacuous
    assert sum(step.watched is not None for step in steps) > len(path) / 4
    assert n_returned(steps) > 100


def test_all_rows_are_looked_at_anew_after_so_many_steps(monkeypatch):
    """And must be: drift is counted from zero again."""
    monkeypatch.setattr(numpy_bounds, "MOST_STEPS", 5)
    steps = follow(rows(), creeping(rows(), 7))
    assert n_wrong(steps) == 0
    assert [len(step.opened) == 1500 for step in steps] == 10 * [True, False, False, False, False, False]
    monkeypatch.setattr(DriftBounds, "forget", lambda self: None)
    assert n_wrong(follow(rows(), creeping(rows(), 7), faulty=True)) > 0


@pytest.mark.parametrize("k", [2, 7])  # two centers: only the second best tells
def test_drift_far_larger_than_the_gaps_swallows_no_small_step(monkeypatch, k):
    """Centers go 2**45 away and come back: sums of drift no longer tell steps of 0.001, which ROUNDING is for."""
    X = rows(np.float64)
    path = creeping(X, k)
    path[1:1] = [path[0] + 2.0**45, path[0]]
    assert n_wrong(follow(X, path)) == 0
    monkeypatch.setattr(numpy_bounds, "ROUNDING", 0.0)
    assert n_wrong(follow(X, path, faulty=True)) > 0


@pytest.mark.parametrize("path_of", [creeping, restless])
def test_rows_in_many_parts_are_looked_at_as_in_one(monkeypatch, path_of):
    whole = follow(rows(), path_of(rows(), 7))
    monkeypatch.setattr(numpy_bounds, "SCAN_ROWS", 100)
    for step, want in zip(follow(rows(), path_of(rows(), 7)), whole, strict=True):
        assert np.array_equal(step.opened, want.opened)
        assert (step.watched is None) == (want.watched is None)
        assert step.watched is None or np.array_equal(step.watched, want.watched)


# ---- single rows, single centers -----------------------------------------------------------------------------------


def settled(X, centers, **changes):
    """Bounds that know all rows, and what a screen found of them."""
    bounds = DriftBounds(len(X), len(centers))
    bounds.advance(centers)
    return bounds, look(bounds, X, centers, slice(0, len(X)), **changes)


def opened(bounds, centers):
    bounds.advance(centers)
    return bounds.open_rows(POOL).tolist()


def moved(centers, which, by):
    centers = centers.copy()
    centers[which] += by
    return centers


def watching(X):
    """Bounds that have a watch list, the rows that are open, and where the centers are."""
    bounds, _ = settled(X, X[:7])
    now = X[:7] + np.float32(1e-3)
    open_ = opened(bounds, now)
    assert 0 < len(open_) < len(bounds._watched) < len(X) / 2
    return bounds, np.array(open_), now


def test_void_opens_rows_although_no_center_moves():
    X = rows()
    bounds, found = settled(X, X[:7])
    bounds.void(np.array([4, 900]))
    assert opened(bounds, X[:7]) == sorted({4, 900, *np.flatnonzero(found.near <= 0)})
    bounds, still_open, now = watching(X)
    calm = np.setdiff1d(bounds._watched, still_open)[1:3]
    bounds.void(calm)
    assert opened(bounds, now) == sorted([*still_open, *calm])
    assert bounds._watched is not None


def test_forget_opens_all_rows():
    bounds, _ = settled(rows(), rows()[:7])
    bounds.forget()
    assert opened(bounds, rows()[:7]) == list(range(1500))
    bounds, _, now = watching(rows())
    bounds.forget()
    assert opened(bounds, now) == list(range(1500))


def test_rows_settled_on_a_watch_list_stay_settled_beyond_it():
    X = rows()
    bounds, open_, now = watching(X)
    assert (look(bounds, X, now, open_).near > 0).all()
    assert opened(bounds, now) == []
    bounds._watched_for = 0.0  # as if the list had served its time
    assert opened(bounds, moved(now, 0, 1e-9)) == []


def test_a_watch_list_serves_until_the_thresholds_have_grown_by_its_share():
    """As computed, so with room for rounding; other centers that move in turns add to the growth."""
    X = rows()
    bounds, _, now = watching(X)
    before, last = bounds._watched, bounds._watched_from
    bounds.advance(moved(moved(now, 0, 1e-5), 1, 2e-5))
    bounds.advance(moved(bounds._centers, 2, 1e-5))
    near, rest = (bounds._drift - bounds._drift.min(), bounds._drift_rest - last)
    assert bounds._grown() == rest.max() >= np.sort(near)[-2:].sum()
    for room, served in ((1.01, True), (0.75, False)):
        bounds._watched_for = bounds._grown() * (1 + room * 2.0**-20)
        bounds.open_rows(POOL)
        assert (bounds._watched is before) == served


LINE = np.array([[0.0], [10.0], [100.0], [1000.0]])


def test_no_center_drifts_farther_than_is_said():
    """Not if its square was rounded down as far as it may be; of so many features, by more than any other slack."""
    before, after = np.random.default_rng(6).random((2, 3, 30_000))
    squares = [sum(Fraction(v) ** 2 for v in center) for center in (after - before).tolist()]
    error = Fraction(square_distance_radius(30_000))
    bounds, _ = settled(before, before)
    bounds.shifted(before, after, np.array([float(square * (1 - error)) for square in squares]))
    bounds.advance(after)
    for square, told in zip(squares, bounds._drift.tolist(), strict=True):
        assert square < Fraction(told) ** 2 < square * (1 + 4 * error)


def test_a_center_that_stays_does_not_drift():
    """But for the little that underflow could hide."""
    bounds, _ = settled(LINE, LINE)
    bounds.advance(moved(LINE, 2, 3.0))
    assert bounds._drift == pytest.approx([0.0, 0.0, 3.0, 0.0], rel=1e-9, abs=2.0**-490)
    assert bounds._drift_rest == pytest.approx([3.0, 3.0, 3.0, 3.0])


@pytest.mark.parametrize(("same_before", "same_after"), [(True, True), (True, False), (False, True), (False, False)])
def test_a_known_shift_is_the_drift_if_it_was_told_of_these_very_arrays(same_before, same_after):
    after = moved(LINE, 0, 2.0)
    told = LINE if same_before else LINE.copy(), after if same_after else after.copy()
    bounds, _ = settled(LINE, LINE)
    bounds.shifted(*told, np.array([9.0, 16.0, 0.0, 1.0]))
    bounds.advance(after)
    known = same_before and same_after
    assert bounds._drift == pytest.approx([3.0, 4.0, 0.0, 1.0] if known else [2.0, 0.0, 0.0, 0.0])
    assert bounds._drift_rest == pytest.approx([7.0, 7.0, 4.0, 5.0] if known else [2.0, 2.0, 2.0, 2.0])
    before = bounds._drift
    bounds.advance(moved(after, 1, 5.0))  # nothing was told of this step
    assert bounds._drift - before == pytest.approx([0.0, 5.0, 0.0, 0.0])


def pairs():
    """Rows between the two centers of two pairs, the pairs far from one another, and a last center farther still."""
    centers = np.array([[0.0, 0.0], [1.0, 0.0], [50.0, 0.0], [51.0, 0.0], [0.0, 100.0]])
    X = np.random.default_rng(5).uniform([0, -1], [1, 1], (1000, 2))
    X[::2, 0] += 50
    return X, centers


def test_a_far_center_may_move_farther_than_the_second_best_is_away():
    """The second best has a key of its own; what other centers do is held against the gap to the third."""
    X, centers = pairs()
    bounds, found = settled(X, centers)
    assert found.near.max() < 2
    assert found.rest.min() > 40
    assert opened(bounds, moved(centers, 4, [0, 30.0])) == np.flatnonzero(found.near <= 0).tolist()
    assert len(opened(bounds, moved(centers, 4, [0, -30.0]))) == 1000  # 60 in all: more than any gap to a third center


@pytest.mark.parametrize("by", [0.01, 0.1, 0.5, 2.0])
def test_rows_are_opened_by_the_drift_of_their_own_and_second_best_and_by_no_more(by):
    X, centers = pairs()
    for which in (0, 1):
        bounds, found = settled(X, centers)
        needed = np.where(X[:, 0] < 2, by, 0.0)
        assert opened(bounds, moved(centers, which, [0, by])) == np.flatnonzero(found.near <= needed).tolist()
    bounds, _ = settled(X, centers, near=found.rest)
    assert opened(bounds, moved(centers, 1, [0, by])) == []  # it was the key of the second best that told


# ---- planted faults ------------------------------------------------------------------------------------------------


def settle_with(**changes):
    original = DriftBounds.settle

    def settle(self, index, best, second, found):
        original(self, index, best, second, replace(found, **{name: 0 * found.near + x for name, x in changes.items()}))

    return settle


FAULTS = {
    "thresholds too low": (numpy_bounds, "ROUNDING", -0.3),
    "half of the drift": (numpy_bounds, "gap_after_move", lambda own, others: 0.5 * gap_after_move(own, others)),
    "no drift of others": (numpy_bounds, "gap_after_move", lambda own, others: gap_after_move(own, 0.0 * others)),
    "no drift": (numpy_bounds, "center_shift_square", lambda new, old: np.zeros(len(new))),
    "a watch list for ever": (DriftBounds, "_grown", lambda self: 0.0),
    "no key for the second best": (DriftBounds, "settle", settle_with(near=np.inf)),
    "no key for the rest": (DriftBounds, "settle", settle_with(rest=np.inf)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_bounds_made_too_tight_give_wrong_labels(monkeypatch, name):
    monkeypatch.setattr(*FAULTS[name])
    assert all(n_wrong(follow(rows(), path_of(rows(), 7), faulty=True)) for path_of in (creeping, restless))
