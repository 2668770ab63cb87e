"""Screens by components change no label and no bit of a fit; planted faults in their bounds do."""

from __future__ import annotations

from threading import Lock

import numpy as np
import pytest

from gpukmeans.backends.cpu import table
from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.backends.cpu.screens import components
from gpukmeans.backends.cpu.screens.components import (
    Anchors,
    leading_directions,
)
from gpukmeans.backends.cpu.screens.full import RowScreen
from gpukmeans.certificates.rounding import UNIT32, ScoreRadius
from gpukmeans.datasets import near_ties
from tests.support.assertions import assert_labels
from tests.support.component_cases import DATA, PLAIN, K, decaying
from tests.support.oracles import nearest


@pytest.fixture
def used(monkeypatch):
    """Which anchors screened rows, and how many rows they screened and certified."""
    counts = {"anchors": set(), "screened": 0, "certified": 0}
    original, lock = Anchors.__call__, Lock()

    def call(self, *args):
        found = original(self, *args)
        with lock:
            counts["anchors"].add(self)
            counts["screened"] += len(found.certain)
            counts["certified"] += int(found.certain.sum())
        return found

    monkeypatch.setattr(Anchors, "__call__", call)
    return counts


# ---- labels ----------------------------------------------------------------------------------------------------------


def jittering_twins():
    """Rows half way between centers that move by ulps: rows, a path of the centers, a basis."""
    X, C = near_ties(150, 6, 17, seed=8)
    ulps = np.random.default_rng(44).integers(-1, 2, (4, *C.shape)) * np.float32(UNIT32)
    return X, [C, C + 5, C, *(C * (1 + ulps)).astype(np.float32)], leading_directions(X, 5)


def sliding_twins():
    """Twins that slide apart outside the basis, and rows between them whose rests lie along that way."""
    local = np.random.default_rng(45)
    X, C = 0.01 * local.standard_normal((200, 12)), np.zeros((4, 12))
    X[:, 0], X[:, 5], X[::2, 1] = local.uniform(-1, 1, 200), 3, 40
    C[:, 0], C[:2, 1] = [-1, 1, -1, 1], 40
    apart = np.outer([-1, 1, -1, 1], np.arange(12) == 5)
    return X.astype(np.float32), [C, C + 5, C, *(C + 0.04 * i * apart for i in range(1, 6))], np.eye(12, 4, dtype="f4")


def labelled(monkeypatch, X, path, basis):
    """Labels and centers after an assignment to each centers of the path, with this basis."""
    monkeypatch.setattr(table, "choose_basis", lambda *args: basis)
    run = NumpyBackend().load(X).start(path[0])
    for centers in path:
        run.set_centers(centers)
        run.assign()
        yield run.labels(), run.centers()


def n_wrong(monkeypatch, X, path, basis):
    """How many labels are not those of rational arithmetic, over all centers of the path."""
    return sum((labels != nearest(X, C)).sum() for labels, C in labelled(monkeypatch, X, path, basis))


@pytest.mark.parametrize("twins", [jittering_twins, sliding_twins])
def test_labels_of_twins_are_the_true_nearest(monkeypatch, used, twins):
    X, path, basis = twins()
    for labels, centers in labelled(monkeypatch, X, path, basis):
        assert_labels(labels, X, centers)
    assert used["screened"] > 100


def test_anchored_scores_without_radius_give_wrong_labels(monkeypatch):
    monkeypatch.setattr(components, "anchored_radius", lambda *args: ScoreRadius(0.0, 0.0))
    assert n_wrong(monkeypatch, *jittering_twins()) > 0


def test_half_the_way_of_the_centers_gives_wrong_labels(monkeypatch):
    original = Anchors.advance

    def advance(self, *args):
        original(self, *args)
        self._ways *= np.float32(0.5)

    monkeypatch.setattr(Anchors, "advance", advance)
    assert n_wrong(monkeypatch, *sliding_twins()) > 0


def history(X, backend, n_iter, path):
    """Labels and centers of each iteration, and the inertia; `path` sets the centers."""
    run = backend.load(X).start(X[:K])
    states = []
    for i in range(n_iter):
        if path is not None:
            run.set_centers(path[i])
        counts = run.assign()
        assert sum(counts[1:6]) == len(X)
        states += [run.labels(), run.assigned_centers(), run.inertia()]
        run.update()
    return [*states, run.centers(), run.inertia()]


def assert_same_history(X, n_iter, path=None):
    for got, want in zip(history(X, NumpyBackend(), n_iter, path), history(X, PLAIN, n_iter, path), strict=True):
        assert np.array_equal(got, want, equal_nan=True)


@pytest.mark.parametrize("name", DATA)
def test_screening_by_components_changes_no_bit(used, name):
    X = DATA[name](decaying())
    assert (RowScreen(X).shift is not None) == ("far" in name)
    assert_same_history(X, 10)
    assert len(used["anchors"]) == 1
    assert used["certified"] > len(X)


def test_anchors_are_renewed_after_some_epochs(used, monkeypatch):
    """In the end while only some rows are watched: bounds are made anew for all."""
    monkeypatch.setattr(components, "MOST_EPOCHS", 3)
    assert_same_history(DATA["float32"](decaying()), 60)
    assert len(used["anchors"]) > 5
    assert used["certified"] > 9000


@pytest.mark.parametrize("name", ["uint8", "float32", "float64"])
def test_centers_may_jump_and_swap(used, name):
    X = DATA[name](decaying())
    path = X[:K] + np.cumsum(0.05 * np.random.default_rng(46).standard_normal((14, K, 64)), axis=0)
    path[6:, ::2] += (X[K : 2 * K] - X[:K].astype(np.float64))[::2]
    path[8:] = path[8:, ::-1].copy()
    path[10] = path[4]
    path[12, 0] = 1e4
    assert_same_history(X, 14, path)
    assert len(used["anchors"]) == 1
    assert used["certified"] > len(X)


@pytest.mark.parametrize("pair", [(0, 1), (3, 4)])
def test_anchors_are_dropped_where_centers_coincide(used, pair):
    """Anchors hold all centers, the full screen distinct ones only; and equal ones may part.

    The first two centers and the last have no rows, so that only wrong labels show that the others are misnamed.
    """
    local = np.random.default_rng(47)
    C, spread = np.zeros((K, 64)), 3 * 0.7 ** np.arange(64) + 0.05
    C[:, 0] = [-300, -600, 0, 30, 60, 90, 120, 600]
    X = (C[local.integers(2, K - 1, size=9000)] + spread * local.standard_normal((9000, 64))).astype(np.float32)
    path = C + 0.5 * local.standard_normal((10, *C.shape))
    path[:, :, 0] += 3 * local.standard_normal((10, K))
    path[5] = path[4] + 0.01 * local.standard_normal(C.shape)
    path[5, pair[1]] = path[5, pair[0]]
    assert_same_history(X, 10, path)
    assert len(used["anchors"]) == 2
    assert used["certified"] > len(X)
