"""The loop over any backend: what it asks of a run, prints, records and hands on, and when it ends."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gpukmeans.backends import NumpyBackend
from gpukmeans.engine import lloyd as loop
from gpukmeans.engine.lloyd import Keep, lloyd
from gpukmeans.engine.records import Watch

X = np.random.default_rng(15).standard_normal((300, 2))
START = X[:7]


class ManySteps:
    """Rows whose runs take many iterations in one call, and note how many they were asked for."""

    def __init__(self, rows):
        self.rows, self.n_samples, self.grid, self.take = rows, rows.n_samples, rows.grid, rows.take
        self.limits, self.assigned, self.seconds = [], [], []

    def start(self, centers, *, precision):
        run = self.rows.start(centers, precision=precision)
        one, assign = loop._one_step, run.assign

        def advance(limit, tol):
            self.limits.append(limit)
            steps = []
            while len(steps) < limit:
                step, _, _ = one(run, False)
                steps.append(step)
                self.seconds.append(step.seconds)
                if step.n_empty or not step.assigned.n_moved or step.shift <= tol:
                    break
            return steps

        def noted(*, move=True):
            self.assigned.append(move)
            return assign(move=move)

        run.advance, run.assign = advance, noted
        return run


@pytest.fixture
def clock(monkeypatch):
    """A clock that is far from zero and goes on by a second whenever it is read."""
    ticks = itertools.count(10**6)
    monkeypatch.setattr(loop.time, "perf_counter", lambda: float(next(ticks)))


def run_of(rows=None, start=START, **options):
    rows = NumpyBackend().load(X) if rows is None else rows
    return lloyd(rows, start, **{"sample_weight": None, "max_iter": 300, "tol": 0.0} | options)


def assert_same_end(got, want):
    assert np.array_equal(got.labels, want.labels)
    assert np.array_equal(got.centers, want.centers)
    assert (got.inertia, got.n_iter) == (want.inertia, want.n_iter)


WHOLE = run_of()


def test_every_iteration_is_recorded_with_its_own_time(clock):
    result = run_of(watch=Watch(lambda record: False, inertia=True))
    assert result.n_iter == len(result.iterations) > 8
    assert [(record.init, record.iteration, record.n_relocated) for record in result.iterations] == [
        (0, number, 0) for number in range(1, result.n_iter + 1)
    ]
    for record in result.iterations:
        assert 0 < record.seconds < 100
        assert 0 < record.stages["update"] < 100
    assert 0 < result.inertia_seconds < 100
    rows = ManySteps(NumpyBackend().load(X))
    for record, seconds in zip(run_of(rows).iterations, rows.seconds, strict=True):
        assert record.seconds == seconds + 1
        assert record.inertia is None


@pytest.mark.parametrize("empty", [False, True])
def test_clusters_that_are_empty_are_counted_and_filled(clock, empty):
    start = np.concatenate([START, [[50.0, 50.0], [60.0, 50.0]]]) if empty else START
    result = run_of(start=start)
    assert result.iterations[0].n_relocated == 2 * empty
    assert np.isfinite([record.shift for record in result.iterations]).all()
    assert 0 < result.iterations[0].seconds < 100
    assert_same_end(run_of(ManySteps(NumpyBackend().load(X)), start), result)


@pytest.mark.parametrize("tol", [0.0, 1e-2])
def test_what_is_printed(capsys, tol):
    """As scikit-learn prints it."""
    result = run_of(tol=tol, verbose=True)
    lines = capsys.readouterr().out.splitlines()
    inertias = [run_of(max_iter=n).inertia for n in range(result.n_iter)]
    assert lines[:-1] == [f"Iteration {i}, inertia {inertia}." for i, inertia in enumerate(inertias)]
    last = result.n_iter - 1
    shift = result.iterations[-1].shift
    reason = f"center shift {shift} within tolerance {tol}" if tol else "strict convergence"
    assert lines[-1] == f"Converged at iteration {last}: {reason}."
    assert shift <= tol < result.iterations[-2].shift
    run_of()
    assert not capsys.readouterr().out


def test_a_shift_of_just_the_tolerance_ends_a_run():
    shifts = [record.shift for record in WHOLE.iterations]
    last = max(i for i in range(1, len(shifts) - 1) if shifts[i] < min(shifts[:i]))
    assert run_of(tol=shifts[last]).n_iter == last + 1


def test_a_run_is_asked_for_as_many_iterations_as_may_pass_unseen():
    rows = ManySteps(NumpyBackend().load(X))
    assert_same_end(run_of(rows), WHOLE)
    assert rows.limits == [300]
    assert rows.assigned == [True] * WHOLE.n_iter  # the last labels are those of the centers
    rows = ManySteps(NumpyBackend().load(X))
    seen = []
    run_of(rows, max_iter=8, watch=Watch(seen.append, at_a_time=3))
    assert rows.limits == [3, 3, 2]
    assert rows.assigned == [True] * 8 + [False]
    assert [record.iteration for record in seen] == list(range(1, 9))
    kept = []
    keep = Keep(lambda: 5, lambda n, begun: kept.append((n, begun)))
    rows = ManySteps(NumpyBackend().load(X))
    run_of(rows, max_iter=12, keep=keep)
    assert rows.limits == [5, 5, 2]
    assert [n for n, _ in kept] == [5, 5]
    for constrained in (None, lambda centers, before: centers):
        rows = ManySteps(NumpyBackend().load(X))
        inertia = constrained is None
        got = run_of(rows, constrain=constrained, watch=Watch(lambda record: False, inertia=inertia))
        assert rows.limits == []
        assert_same_end(got, WHOLE)


@pytest.mark.parametrize("many", [False, True])
def test_a_watch_stops_a_run_after_the_steps_at_hand(many):
    rows = NumpyBackend().load(X)
    watch = Watch(lambda record: record.iteration == 4, at_a_time=3)
    result = run_of(ManySteps(rows) if many else rows, watch=watch)
    assert result.stopped
    assert result.n_iter == (6 if many else 4)
    assert_same_end(result, run_of(max_iter=result.n_iter))
    assert not WHOLE.stopped


def test_a_run_goes_on_from_where_it_was_kept():
    kept = []
    run_of(keep=Keep(lambda: 1, lambda n, begun: kept.append(begun)))
    assert len(kept) == WHOLE.n_iter - 1
    for begun in kept[::3]:
        got = run_of(start=None, begun=begun)
        assert_same_end(got, WHOLE)
        for record, want in zip(got.iterations, WHOLE.iterations, strict=True):
            assert (record.shift, record.n_moved) == (want.shift, want.n_moved)


def test_a_constraint_moves_the_centers_and_the_shift():
    def halved(centers, before):
        return (centers + before) / 2

    result = run_of(constrain=halved, max_iter=3)
    centers = START
    for record in result.iterations:
        before = centers
        centers = (run_of(start=before, max_iter=1).centers + before) / 2
        assert record.shift == pytest.approx(((centers - before) ** 2).sum(), rel=1e-12)
    assert np.array_equal(result.centers, centers)
