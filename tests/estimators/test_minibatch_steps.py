"""The parts of a mini-batch step: draws, means of all rows so far, and clusters of little weight."""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from gpukmeans.backends import BatchSums, NumpyBackend
from gpukmeans.engine import batch_steps
from gpukmeans.engine.batch_steps import (
    Draws,
    EarlyStopping,
    MovingCenters,
    batch_state,
    go_on_from,
    summed,
    take_steps,
)
from gpukmeans.engine.records import Watch
from gpukmeans.engine.standing import kept_state, records_of


def weights(n):
    return np.random.default_rng(1).uniform(0, 3, n) * (np.arange(n) % 7 != 3)


@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize("n", [1, 10, 500, 100_003])
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
    before = kept_state(draws.next_state())
    ahead = draws.ahead()
    for state in (before, kept_state(draws.next_state())):
        assert np.array_equal(Draws(state, p, 70)(), ahead)
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
    moving = MovingCenters(np.full((2, 1), 7e20), np.zeros(2))
    moving.move(BatchSums(np.array([[0.0], [3.0]]), np.array([0.0, 1.0]), 0.0))
    assert moving.centers.tolist() == [[7e20], [3.0]]
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


def test_centers_are_replaced_when_one_has_no_weight_or_after_many_rows():
    moving = MovingCenters(np.zeros((3, 1)), np.ones(3))
    assert not moving.due(29)
    assert moving.due(1)
    assert [moving.due(10) for _ in range(6)] == [False, False, True] * 2
    moving = MovingCenters(np.zeros((3, 1)), np.array([1.0, 0.0, 1.0]), n_since=7)
    assert moving.due(1)
    assert moving.n_since == 0


def test_a_replaced_cluster_takes_a_row_and_the_smallest_weight_of_the_others(capsys):
    X = np.arange(40.0).reshape(20, 2)
    rows = NumpyBackend().load(X)
    old = MovingCenters(np.full((4, 2), -1.0), np.array([9.0, 0.5, 3.0, 0.1]))
    for verbose, clusters in ((False, [1, 3]), (True, [3]), (True, [])):
        state, same = np.random.RandomState(2), np.random.RandomState(2)
        moving = MovingCenters(old.centers, old.counts)
        moving.replace(np.array(clusters, int), rows, state, verbose=verbose)
        line = f"[MiniBatchKMeans] Reassigning {len(clusters)} cluster centers.\n"
        assert capsys.readouterr().out == line * (verbose and bool(clusters))
        want, counts = old.centers.copy(), old.counts.copy()
        if clusters:
            want[clusters] = X[same.choice(20, replace=False, size=len(clusters))]
            counts[clusters] = 3.0 if len(clusters) == 2 else 0.5
        assert moving.centers.tolist() == want.tolist()
        assert moving.counts.tolist() == counts.tolist()
        assert state.random_sample() == same.random_sample()
    assert (old.centers == -1.0).all()


def stopping(**options):
    options = {"n_samples": 100, "batch_size": 10, "n_steps": 9, "tol": 0.0, "max_no_improvement": None} | options
    return EarlyStopping(**{"verbose": False} | options)


def test_an_inertia_that_does_not_fall_ends_a_fit(capsys):
    rule = stopping(max_no_improvement=2, verbose=True)
    share, want, ended = 20 / 101, [], []
    for step, inertia in enumerate([50.0, 40.0, 40.0, 30.0, 50.0, 60.0], 1):
        if step > 1:
            want.append(inertia / 10 if step == 2 else want[-1] * (1 - share) + inertia / 10 * share)
        ended.append(rule(step, inertia, 0.0))
        assert rule.mean_inertia() == (want[-1] if want else 5.0)
    assert ended == [False] * 5 + [True]  # the third is as low as the second, the fourth lower
    assert (rule.first, rule.lowest, rule.n_without) == (5.0, want[2], 2)
    means = [5.0, 4.0, 4.0, 3.0, 5.0, 6.0]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Minibatch step 1/9: mean batch inertia: 5.0"
    assert lines[1:-1] == [
        f"Minibatch step {i}/9: mean batch inertia: {mean}, ewa inertia: {smoothed}"
        for i, (mean, smoothed) in enumerate(zip(means[1:], want, strict=True), 2)
    ]
    assert lines[-1] == "Converged (lack of improvement in inertia) at step 6/9"
    equal = stopping(n_samples=10, max_no_improvement=1)  # batches as large as all rows: nothing is smoothed
    assert [equal(step, inertia, 0.0) for step, inertia in ((1, 9.0), (2, 30.0), (3, 30.0))] == [False, False, True]
    never = stopping()
    assert not any(never(step, 50.0, 0.0) for step in range(1, 9))


def test_centers_that_hardly_move_end_a_fit(capsys):
    rule = stopping(tol=0.5, verbose=True)
    assert [rule(step, 1.0, shift) for step, shift in ((1, 0.0), (2, 0.6), (3, 0.5))] == [False, False, True]
    assert capsys.readouterr().out.splitlines()[-1] == "Converged (small centers change) at step 3/9"
    assert not any(stopping()(step, 1.0, 0.0) for step in (1, 2))
    whole = stopping(n_samples=10)  # batches as large as all rows: nothing is smoothed
    assert [(whole(step, inertia, 1.0), whole.mean_inertia())[1] for step, inertia in ((2, 30.0), (3, 10.0))] == [
        3.0,
        1.0,
    ]


class Noted:
    """A feed that notes what is asked of it."""

    def __init__(self, feed, ahead):
        self.feed, self.ahead, self.calls = feed, ahead, []

    def send(self, indices):
        self.calls.append("send")
        self.feed.send(indices)

    def receive(self):
        self.calls.append("receive")
        return self.feed.receive()

    def drop(self):
        self.calls.append("drop")
        self.feed.drop()


@pytest.mark.parametrize("ahead", [False, True])
def test_steps_are_recorded_and_batches_drawn_ahead_are_taken_back(ahead, monkeypatch):
    ticks = itertools.count(10**6)
    monkeypatch.setattr(batch_steps.time, "perf_counter", lambda: float(next(ticks)))
    X = np.random.default_rng(3).standard_normal((200, 2))
    X[:3] += 40.0
    start = np.concatenate([X[3:7], [[-90.0, 0.0]]])

    def run(**changed):
        feed = Noted(NumpyBackend().feed(X, 20), ahead)
        draws = Draws(np.random.RandomState(4), np.full(200, 1 / 200), 20)
        moving = MovingCenters(start, np.zeros(5))
        rule = stopping(n_steps=6, batch_size=20, n_samples=200, **changed.pop("rule", {}))
        options = {"reassignment_ratio": 0.05, "precision": "exact", "inertia": False, "watch": None} | changed
        return feed, draws, moving, take_steps(feed, draws, moving, rule, **options)

    feed, draws, moving, records = run(inertia=True, watch=Watch(lambda record: False))
    relocated = [record.n_relocated for record in records]
    assert relocated[0] == 1
    assert [record.iteration for record in records] == [1, 2, 3, 4, 5, 6]
    want, wanted = MovingCenters(start, np.zeros(5)), np.random.RandomState(4)
    for record in records:
        assert (record.init, record.n_moved, record.n_skipped, record.n_uncertain) == (0, 20, 0, 0)
        assert record.n_certified == record.n_resolved == record.n_exact == 0
        assert 0 < record.seconds < 100
        rows = NumpyBackend().load(X[wanted.choice(200, 20, p=np.full(200, 1 / 200))])
        due, before = want.due(20), want.centers
        found = rows.batch_sums(want.centers, inertia=True)
        want.move(found)
        few = want.few(0.05, 20) if due else np.zeros(0, int)
        want.replace(few, rows, wanted, verbose=False)
        assert (record.n_relocated, record.inertia) == (len(few), found.inertia)
        assert record.shift == pytest.approx(((want.centers - before) ** 2).sum(), rel=1e-12)
    assert np.array_equal(moving.centers, want.centers)
    assert draws.random_state.random_sample() == wanted.random_sample()
    assert feed.calls.count("receive") == 6
    assert feed.calls.count("send") - feed.calls.count("drop") == 6
    assert feed.calls.count("drop") == ahead * sum(n > 0 for n in relocated[:5])
    assert (feed.calls[:3] == ["send", "receive", "send"]) or not ahead

    for changed, length in (
        ({}, 6),
        ({"watch": Watch(lambda record: record.iteration == 3)}, 3),
        ({"rule": {"tol": 1e9}}, 2),
        ({"rule": {"max_no_improvement": 1}}, None),
        ({"watch": Watch(lambda record: False, inertia=True)}, 6),
        ({"rule": {"verbose": True}}, 6),
    ):
        feed, draws, moving, found = run(**changed)
        assert len(found) == (length or len(found))
        same = records[: len(found)]
        measured = bool({"max_no_improvement", "verbose"} & set(changed.get("rule", {})))
        measured |= "watch" in changed and changed["watch"].inertia
        assert [r.inertia for r in found] == [r.inertia if measured else None for r in same]
        shifts = [r.shift for r in same] if "watch" in changed or "tol" in changed.get("rule", {}) else [np.nan] * 9
        assert np.array_equal([r.shift for r in found], shifts[: len(found)], equal_nan=True)
        assert feed.calls.count("receive") == len(found)
        assert feed.calls.count("send") - feed.calls.count("drop") == len(found)  # what was drawn ahead is taken back

    _, _, _, more = run(past=records[:4])
    assert more[:4] == records[:4]
    assert [record.iteration for record in more] == [1, 2, 3, 4, 5, 6]
    total = summed(summed(None, records[0]), records[1])
    assert (total.iteration, total.n_moved, total.n_relocated) == (2, 40, sum(relocated[:2]))
    assert total.seconds == records[0].seconds + records[1].seconds


class Kept:
    """A checkpoint that keeps, in place of a file, what it is told, and in which way."""

    def __init__(self, resumed=None, ended=False):
        self.path, self.resumed, self.ended, self.told = Path("steps.ckpt"), resumed, ended, []

    def first(self, state):
        self.told.append(("first", 0, state()))

    def after(self, n, state):
        self.told.append(("after", n, state()))

    def end(self, state):
        self.told.append(("end", 0, state()))


@pytest.mark.parametrize("ahead", [False, True])
def test_a_fit_goes_on_from_any_of_its_steps(ahead, monkeypatch):
    X = np.random.default_rng(5).standard_normal((200, 2))
    X[:3] += 40.0
    start = np.concatenate([X[3:7], [[-90.0, 0.0]]])

    def run(keep, draws, moving, rule, past=()):
        monkeypatch.setattr(batch_steps, "active", lambda: keep)
        feed = Noted(NumpyBackend().feed(X, 20), ahead)
        options = {"reassignment_ratio": 0.05, "precision": "exact", "inertia": True, "watch": None}
        records = take_steps(feed, draws, moving, rule, past=past, **options)
        return records, moving, draws.random_state.random_sample(), rule, feed.calls

    def rule():
        return stopping(n_steps=5, batch_size=20, n_samples=200, tol=1e-9, max_no_improvement=4)

    def draws(state):
        return Draws(state, np.full(200, 1 / 200), 20)

    keep = Kept()
    whole = run(keep, draws(np.random.RandomState(4)), MovingCenters(start, np.zeros(5)), rule())
    assert [(how, n) for how, n, _ in keep.told] == [("first", 0), *[("after", 1)] * 4, ("end", 0)]
    for step, (how, _, state) in enumerate(keep.told):
        again, stops = Kept(state, how == "end"), rule()
        state, moving, past = go_on_from(again, start.shape, start.dtype, stops)
        assert [record.iteration for record in past] == [step] * (step > 0)
        total = None
        for record in whole[0][:step]:
            total = summed(total, record)
        assert not step or past[0] == replace(total, seconds=past[0].seconds)
        records, moving, drawn, stops, calls = run(again, draws(state), moving, stops, past)
        assert (calls == []) == (how == "end")
        assert [replace(r, seconds=0.0) for r in records[len(past) :]] == [
            replace(r, seconds=0.0) for r in whole[0][step:]
        ]
        assert np.array_equal(moving.centers, whole[1].centers)
        assert np.array_equal(moving.counts, whole[1].counts)
        assert (moving.n_since, drawn, stops) == (whole[1].n_since, whole[2], whole[3])
        assert len(again.told) == len(keep.told) - 1 - step + (step == 0)
        if again.told:
            last = records_of(again.told[-1][2]["iterations"])[0]
            assert replace(last, seconds=0.0) == replace(records_of(keep.told[-1][2]["iterations"])[0], seconds=0.0)


def test_no_fit_goes_on_without_a_state_and_from_no_other():
    shape, dtype = (2, 1), np.dtype(np.float64)
    assert go_on_from(None, shape, dtype, stopping()) is None
    assert go_on_from(Kept(), shape, dtype, stopping()) is None
    state = batch_state(
        Draws(np.random.RandomState(0), np.ones(3), 1), MovingCenters(np.zeros(shape), np.ones(2)), stopping(), None
    )
    assert go_on_from(Kept(state), shape, dtype, stopping()) is not None
    for name, value in (("centers", np.zeros((1, 2))), ("counts", np.ones(1)), ("counts", np.ones(2, np.float32))):
        with pytest.raises(ValueError, match=r"steps\.ckpt"):
            go_on_from(Kept(state | {"moving": state["moving"] | {name: value}}), shape, dtype, stopping())
