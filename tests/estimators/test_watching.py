"""Callbacks and progress: what they are told, that they change nothing, and how a fit is stopped and interrupted."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from sklearn.cluster import KMeans as SklearnKMeans

from gpukmeans import KMeans
from gpukmeans.engine.records import Iteration
from gpukmeans.estimators.watching import Bar
from tests.support.oracles import nearest
from tests.support.small_fits import model, rows, same


def record(iteration, n_moved, init=0):
    return Iteration(init, iteration, n_moved, 0.5, 0, 0, 0, 0, 0, 0, 0.001)


# ---- callback --------------------------------------------------------------------------------------------------------


def test_a_callback_is_told_of_every_iteration(backend):
    X, seen = rows(), []
    plain = model(backend=backend, init=X[:3], tol=0).fit(X)
    watched = model(backend=backend, init=X[:3], tol=0, callback=lambda *told: seen.append(told)).fit(X)
    assert same(watched, plain)
    assert [told[0] for told in seen] == list(range(1, plain.n_iter_ + 1))
    records = plain.fit_report_.iterations
    assert [told[2:] for told in seen] == [(record.shift, record.n_moved) for record in records]
    assert seen[-1][1] == plain.inertia_  # the last labels are the result's


def test_a_callbacks_inertia_is_that_of_the_new_labels_and_the_old_centers(backend):
    X, seen = rows(), []
    model(backend=backend, init=X[:3], callback=lambda *told: seen.append(told[1])).fit(X)
    labels = nearest(X, X[:3])
    assert abs(seen[0] / ((X - X[:3][labels]) ** 2).sum() - 1) < 1e-12
    assert sorted(seen, reverse=True) == seen


def test_a_callback_that_returns_true_ends_the_fit_there(backend):
    X = rows()
    stopped = model(backend=backend, init=X[:3], tol=0, callback=lambda iteration, *_: iteration == 2).fit(X)
    capped = model(backend=backend, init=X[:3], tol=0, max_iter=2).fit(X)
    assert model(init=X[:3], tol=0).fit(X).n_iter_ > 2
    assert same(stopped, capped)
    assert np.array_equal(stopped.labels_, nearest(X, stopped.cluster_centers_))


def test_a_stop_ends_the_restarts_too_and_keeps_the_best_so_far():
    X, runs = rows(), []

    def third_run(iteration, *_):
        runs.extend([iteration] * (iteration == 1))
        return len(runs) == 3

    stopped = KMeans(4, init="random", n_init=10, random_state=1, backend="numpy", callback=third_run).fit(X)
    assert len(runs) == 3
    seen = stopped.fit_report_.iterations
    assert {each.init for each in seen} == {0, 1, 2}
    assert sum(each.init == 2 for each in seen) == 1
    two = KMeans(4, init="random", n_init=2, random_state=1, backend="numpy").fit(X)
    assert stopped.inertia_ <= two.inertia_


@pytest.mark.parametrize("answer", [None, False, 0, ""])
def test_other_answers_do_not_end_a_fit(answer):
    X = rows()
    assert same(model(callback=lambda *_: answer).fit(X), model().fit(X))


def test_an_interrupted_fit_says_so_and_leaves_nothing_behind():
    def interrupt(iteration, *_):
        if iteration == 2:
            raise KeyboardInterrupt

    estimator = model(tol=0)
    with pytest.raises(KeyboardInterrupt) as error:
        estimator.set_params(callback=interrupt).fit(rows())
    assert error.value.__notes__ == [
        "The fit of KMeans was interrupted; the estimator is not fitted. Stop a fit early by `callback`."
    ]
    assert not [name for name in vars(estimator) if name.endswith("_")]

    fitted = model(tol=0).fit(rows(seed=3))
    before = {name: getattr(fitted, name) for name in ("labels_", "cluster_centers_", "inertia_", "n_iter_")}
    with pytest.raises(KeyboardInterrupt) as error:
        fitted.set_params(callback=interrupt).fit(rows()[:, :2])
    assert "as fitted before" in error.value.__notes__[0]
    assert all(getattr(fitted, name) is value for name, value in before.items())
    assert fitted.n_features_in_ == 4


def test_an_error_in_the_callback_comes_through():
    def fail(*_):
        raise LookupError("mine")

    estimator = model(callback=fail)
    with pytest.raises(LookupError, match="mine") as error:
        estimator.fit(rows())
    assert not hasattr(error.value, "__notes__")
    assert not hasattr(estimator, "labels_")


def test_a_callback_sees_scikit_learns_inertia(capsys):
    """The numbers of scikit-learn's verbose lines."""
    X, seen = rows(), []
    SklearnKMeans(3, init=X[:3], n_init=1, verbose=1, tol=0).fit(X)
    lines = [line for line in capsys.readouterr().out.splitlines() if "inertia" in line]
    model(init=X[:3], tol=0, callback=lambda *told: seen.append(told[1])).fit(X)
    theirs = [float(line.split("inertia ")[1].rstrip(".")) for line in lines]
    np.testing.assert_allclose(seen, theirs, rtol=1e-12)


# ---- progress --------------------------------------------------------------------------------------------------------


def test_a_progress_bar_changes_nothing_and_writes_to_standard_error(backend, capsys):
    pytest.importorskip("tqdm")
    X = rows()
    shown = model(backend=backend, n_init=2, init="random", progress=True).fit(X)
    assert same(shown, model(backend=backend, n_init=2, init="random").fit(X))
    told = capsys.readouterr()
    assert told.out == ""
    assert "KMeans: 100% settled" in told.err
    assert "run 2, iteration" in told.err


def test_callback_and_progress_go_together():
    X, seen, shown = rows(), [], []
    model(callback=lambda *told: seen.append(told), progress=shown.append).fit(X)
    assert [(s.iteration, s.inertia, s.shift, s.n_moved) for s in shown] == seen
    assert len(seen) > 1


def test_progress_alone_costs_no_inertia():
    shown = []
    model(progress=shown.append).fit(rows())
    assert {each.inertia for each in shown} == {None}


def test_a_bar_never_goes_back_within_a_restart_and_begins_anew_with_the_next():
    pytest.importorskip("tqdm")
    bar = Bar("fit", 1000, file=io.StringIO())
    places = []
    for each in [record(1, 1000), record(2, 10), record(3, 40), record(4, 0), record(1, 900, init=1)]:
        bar(each)
        places.append(bar._bar.n)
    bar.close()
    assert places[0] == 0.0
    assert places[1] == places[2] > 0.5
    assert places[3] == 1.0
    assert places[4] < 0.1


def test_a_bar_is_closed_when_a_fit_fails(monkeypatch):
    pytest.importorskip("tqdm")
    closed = []
    monkeypatch.setattr(Bar, "close", lambda bar: closed.append(bar))
    with pytest.raises(LookupError):
        model(progress=True, callback=lambda *_: _fail()).fit(rows())
    assert len(closed) == 1


def _fail():
    raise LookupError


def test_without_tqdm_progress_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match=r"pip install 'gpukmeans\[progress\]'"):
        model(progress=True).fit(rows())
