"""Scores by components: their bounds hold in rational arithmetic, are tight and needed."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from gpukmeans.backends.cpu.screens import components
from gpukmeans.backends.cpu.screens.components import (
    Anchors,
    Components,
    leading_directions,
)
from gpukmeans.backends.cpu.screens.full import FullScreen, RowScreen
from gpukmeans.certificates.components import anchored_radius
from gpukmeans.certificates.rounding import UNIT32, ScoreRadius
from gpukmeans.datasets import near_ties
from tests.support.component_cases import decaying, skewed_basis
from tests.support.oracles import whole


def rational(table):
    numerators, unit = whole(table)
    return numerators * unit


def length(vectors):
    """Of each vector of Fractions, in float64."""
    return np.sqrt((vectors * vectors).sum(axis=-1).astype(np.float64))


NAMES = [
    "ordinary",
    "ordinary float64",
    "ordinary, axes",
    "ordinary, skewed",
    "ordinary, tiny, skewed",
    "ordinary, in the span, axes",
    "ordinary, offset unshifted, in the span, skewed",
    "near ties",
    "near ties float64",
    "near ties uint8, skewed",
    "near ties, tiny",
    "near ties, offset",
    "near ties, offset unshifted",
    "near ties float64, offset unshifted",
    "near ties, constant columns",
    "near ties, duplicated centers",
]


def case(name):
    """Rows and centers where float32 is at its weakest, in few features, a basis, and whether the rows are shifted."""
    local = np.random.default_rng(40)
    dtype = np.float64 if "float64" in name else np.float32
    X, C = near_ties(10, 5, 8, seed=6, dtype=dtype)
    if "ordinary" in name:
        X, C = local.standard_normal((10, 8)), local.standard_normal((5, 8))
    basis = skewed_basis(8, 3, 1e-4) if "skewed" in name else leading_directions(X.astype(np.float32), 3)
    if "axes" in name:
        basis = np.eye(8, 4, dtype=np.float32)
    if "in the span" in name:
        X = X @ basis @ basis.T
    if "offset" in name:
        X, C = X + 2.0**20, C + 2.0**20
    if "tiny" in name:
        X, C = X * 2.0**-40, C * 2.0**-40
    if "constant columns" in name:
        X[:, 2:6] = C[:, 2:6] = 0.1
    if "duplicated" in name:
        C = C[[0, 1, 0, 3, 1]]
    if "uint8" in name:
        X, C, dtype = np.rint(20 * X).clip(0, 255), 20 * C, np.uint8
    return X.astype(dtype), C.astype(np.float32 if dtype == np.float32 else np.float64), basis, "unshifted" not in name


class Scene:
    """Anchored rows and moving centers, what is said of them, and in Fractions what is true."""

    def __init__(self, monkeypatch, X, C, basis, shifted):
        self.X, self.C, self.screen = X, C, RowScreen(X)
        self.screen.shift = self.screen.shift if shifted else None
        self.shift = np.zeros(1) if self.screen.shift is None else self.screen.shift
        self.projection = Components(len(X), basis)
        self.anchors = Anchors(self.projection, len(X), len(C))
        self.x, self.q = rational(X) - rational(self.shift), rational(basis)
        self.centers, self.rests, self.said = [], [], {}
        self.since = np.zeros(len(X), int)
        for name in ("lowest_scores", "verdict", "projection_radius"):
            monkeypatch.setattr(components, name, self._listen(name, getattr(components, name)))
        self.move(C)
        self.anchors.make(slice(0, len(X)), self.full)
        self.projection.filled = True

    def _listen(self, name, function):
        def listening(*args):
            self.said[name] = [np.copy(a) if isinstance(a, np.ndarray) else a for a in args]
            return function(*args)

        return listening

    def move(self, centers):
        centers = centers.astype(self.C.dtype)
        self.full, wide = FullScreen(self.screen, centers), self.screen.shifted(centers)
        self.anchors.advance(self.full, centers)
        self.centers.append(rational(centers) - rational(self.shift))
        self.rests.append(self.centers[-1] - rational(self.projection.split(wide)[0]).dot(self.q.T))

    def travel(self):
        """Move by ulps, in the basis, along rests of rows and back, not at all, partly onto rows, almost to zero."""
        local = np.random.default_rng(41)
        X, C, basis = self.X, self.C, self.projection.basis
        step = 0.1 * float(np.abs(C - C.mean(axis=0)).max())
        x = self.x[: len(C)].astype(np.float64)
        aside = x - x @ basis @ basis.T
        aside *= step / (np.abs(aside).max() + 1e-30) * (-1.0) ** np.arange(len(C))[:, None]
        yield self.move(C * (1 + local.integers(-2, 3, C.shape) * UNIT32))
        yield self.move(C + step * local.standard_normal((len(C), basis.shape[1])) @ basis.T)
        some = np.where(np.arange(len(C))[:, None] % 2, C - aside, X[: len(C)])
        for centers in (C + aside, C, C, C - aside, some):
            yield self.move(centers)
        yield self.move(self.shift + 2.0**-20 * C)

    def anchor(self, rows):
        self.anchors.anchor(rows, self.full.scores(rows))
        self.since[rows] = len(self.centers) - 1

    def slack(self, at):
        """Four times the norm of a row's rest times the way of each center's rest since the row was anchored."""
        steps = [length(new - old) for old, new in pairwise(self.rests)]
        ways = np.array([sum(steps[since:], np.zeros(len(self.C))) for since in self.since[at]])
        ways += 2.0**-22 * max(length(c).max() for c in self.centers)  # whichever way the components are rounded
        return rational(4 * (1 + 2.0**-10) * ways * self.projection.table[at, -2][:, None])

    def check(self, rows):
        """Look at rows, and hold what is said of them against the truth: right, and no less precise than derived."""
        at, c = np.arange(len(self.X))[rows], self.centers[-1]
        found = self.anchors(rows, self.screen.norms[rows])
        norms, _, upper, radius = self.said["verdict"]
        lower, upper = rational(self.said["lowest_scores"][0]), rational(upper)
        allowed = rational(norms) * Fraction(radius.per_norm) + Fraction(radius.constant)
        true, slack = (c * c).sum(axis=1) - 2 * self.x[at].dot(c.T), self.slack(at)
        assert (lower - allowed[:, None] <= true).all()
        assert (true <= lower + slack + allowed[:, None]).all()
        best, second = ((np.arange(len(at)), index) for index in (found.best, found.second))
        assert (true[best] <= upper + allowed).all()
        assert (upper <= true[best] + slack[best] + allowed).all()
        assert (np.sort(lower)[:, 1] > upper + 2 * allowed)[found.certain].all()
        distance = length(self.x[at][:, None] - c)
        own = distance[best]
        assert (found.near <= distance[second] - own + 2.0**-40 * own).all()
        distance[best] = distance[second] = np.inf
        assert (found.rest <= distance.min(axis=1) - own + 2.0**-40 * own).all()
        for best_j, scores in zip(found.best[found.certain], true[found.certain], strict=True):
            assert all(scores[best_j] < score for j, score in enumerate(scores) if j != best_j)


@pytest.mark.parametrize("name", NAMES)
def test_scores_of_anchored_rows_bound_the_true_ones(monkeypatch, name):
    scene = Scene(monkeypatch, *case(name))
    for epoch, _ in enumerate(scene.travel()):
        scene.check(slice(0, 10))
        if epoch in (2, 5):  # some rows are anchored anew
            scene.anchor(np.arange(epoch, 10, 3))
            scene.check(np.arange(epoch, 10, 2))


@pytest.mark.parametrize("name", NAMES)
def test_what_the_radius_is_made_of_is_true(monkeypatch, name):
    """The premises of `projection_radius`, for all centers since the first; norms of rests are no vague ones either."""
    scene = Scene(monkeypatch, *case(name))
    norms, table, q = scene.screen.norms, rational(scene.projection.table), scene.q
    for _ in scene.travel():
        _, largest, eta, defect, leak = scene.said["projection_radius"]
        assert largest >= max(length(c).max() for c in scene.centers)
        assert leak >= max(length(rests.dot(q)).max() for rests in scene.rests)
    assert defect >= np.linalg.norm((q.T.dot(q) - np.eye(q.shape[1], dtype=int)).astype(np.float64), 2)
    p, rests = table[:, :-2], scene.x - table[:, :-2].dot(q.T)
    assert (length(scene.x) <= norms).all()
    assert (length(p - scene.x.dot(q)) <= eta * norms).all()
    assert (length(rests.dot(q)) <= eta * norms).all()
    squares = (rests * rests).sum(axis=1)
    assert (squares <= table[:, -2] ** 2).all()
    if name.startswith("ordinary") and "span" not in name:
        assert (table[:, -2] ** 2 <= squares * Fraction(102, 100)).all()


@pytest.mark.parametrize("defect", [0.0, 1e-6, 1e-5, 1e-4])
def test_the_leak_of_a_basis_is_bounded(defect):
    """|Q'f|, of centers in and out of the span; for a basis that is merely scaled the bound is near."""
    local = np.random.default_rng(42)
    for seed in range(5):
        basis = skewed_basis(12, 4, defect, seed)
        centers = np.concatenate([local.standard_normal((3, 12)), local.standard_normal((3, 4)) @ basis.T])
        projection, q = Components(1, basis), rational(basis)
        leaked = (rational(centers) - rational(projection.split(centers)[0]).dot(q.T)).dot(q)
        assert (length(leaked) <= [projection.leak(norm) for norm in length(rational(centers))]).all()
    scaled = Components(1, skewed_basis(12, 4, 0.0) * np.float32(1 + defect))
    assert scaled.leak(1.0) <= 1.01 * 4.0 * defect + 2.0**-21


def largest_error(scale, whole_radius, projected_radius):
    """Of scores with |x| = |c| = scale, anchored and projected ones as wrong as they may be, in units of the radius."""
    local = np.random.default_rng(43)
    then, t_then, t_now = (scale * scale * local.uniform(-1, 3, (3, 2000))).astype(np.float32)
    slack = (scale * scale / 16 * local.random(2000)).astype(np.float32)
    wrong, off = ((r.per_norm * scale + r.constant) * (1 - 2.0**-6) for r in (whole_radius, projected_radius))
    W, P_then, P_now = ((v + e).astype(np.float32) for v, e in ((then, wrong), (t_then, -off), (t_now, off)))
    computed = P_now + (W - P_then) - slack
    errors = rational(computed) - (rational(t_now) + rational(then) - rational(t_then) - rational(slack))
    radius = anchored_radius(whole_radius, projected_radius, scale)
    return float(max(abs(errors)) / (Fraction(radius.per_norm) * Fraction(scale) + Fraction(radius.constant)))


@pytest.mark.parametrize("scale", [2.0**-40, 1.0, 2.0**20])
def test_the_anchored_radius_is_reached_from_the_edges_of_the_others(scale):
    """It holds, and three quarters of it would not (an eighth, where only its own roundings count)."""
    none, some, other = ScoreRadius(0.0, 0.0), ScoreRadius(scale / 2**11, 0.0), ScoreRadius(0.0, scale**2 / 2**12)
    for whole_radius, projected_radius in ((some, other), (other, some), (none, some), (none, other), (other, none)):
        assert 0.75 < largest_error(scale, whole_radius, projected_radius) <= 1.0
    assert 0.125 < largest_error(scale, none, none) <= 1.0


def test_most_ordinary_rows_are_certified_while_centers_barely_move():
    """Not vacuous: four components of 48, rows of a cloud without clusters."""
    X = decaying(2000, 48).astype(np.float32)
    screen, projection = RowScreen(X), Components(len(X), leading_directions(X, 4))
    anchors = Anchors(projection, len(X), 6)
    certain = []
    for step in (0.0, 1e-3, 0.1):
        centers = X[:6] + np.float32(step)
        full = FullScreen(screen, centers)
        anchors.advance(full, centers)
        if not step:
            anchors.make(slice(0, 2000), full)
        certain.append(anchors(slice(0, 2000), screen.norms).certain.mean())
    assert certain[0] > 0.995
    assert certain[1] > 0.98
    assert 0.5 < certain[2] < certain[1]
