"""Screens by components: their bounds hold in rational arithmetic, are tight and needed, and change no bit of a fit."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from threading import Lock

import numpy as np
import pytest

from gpukmeans.backends.cpu import table
from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.backends.cpu.screens import components
from gpukmeans.backends.cpu.screens.components import (
    Anchors,
    Components,
    choose_basis,
    fill_together,
    leading_directions,
)
from gpukmeans.backends.cpu.screens.full import SAMPLE, FullScreen, RowScreen
from gpukmeans.certificates.components import anchored_radius
from gpukmeans.certificates.rounding import UNIT32, ScoreRadius
from gpukmeans.datasets import near_ties
from gpukmeans.threads import workers
from tests.support.oracles import nearest, whole

PLAIN = NumpyBackend(skip=False, screen=False)
K = 8


@pytest.fixture
def used(monkeypatch):
    """Which anchors screened rows, and how many rows they were asked for and certified."""
    counts = {"anchors": set(), "asked": 0, "certified": 0}
    original, lock = Anchors.__call__, Lock()

    def call(self, *args):
        found = original(self, *args)
        with lock:
            counts["anchors"].add(self)
            counts["asked"] += len(found.certain)
            counts["certified"] += int(found.certain.sum())
        return found

    monkeypatch.setattr(Anchors, "__call__", call)
    return counts


def decaying(n=9000, d=64):
    """A cloud without clusters, each direction of which is a fifth narrower than the one before."""
    local = np.random.default_rng(49)
    rotation, _ = np.linalg.qr(local.standard_normal((d, d)))
    return local.standard_normal((n, d)) * (6 * 0.8 ** np.arange(d) + 0.2) @ rotation


def skewed_basis(d, m, defect, seed=0):
    """Columns whose products are off those of orthonormal ones by about `defect`."""
    local = np.random.default_rng(seed)
    q, _ = np.linalg.qr(local.standard_normal((d, m)))
    return (q @ (np.eye(m) + defect / 2 * local.uniform(-1, 1, (m, m)))).astype(np.float32)


def rational(table):
    numerators, unit = whole(table)
    return numerators * unit


def length(vectors):
    """Of each vector of Fractions, in float64."""
    return np.sqrt((vectors * vectors).sum(axis=-1).astype(np.float64))


# ---- bounds of scores ------------------------------------------------------------------------------------------------


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


def n_wrong(monkeypatch, X, path, basis):
    """Labels that are not those of rational arithmetic, over all centers of the path."""
    monkeypatch.setattr(table, "choose_basis", lambda *args: basis)
    run = NumpyBackend().load(X).start(path[0])
    wrong = 0
    for centers in path:
        run.set_centers(centers)
        run.assign()
        wrong += (run.labels() != nearest(X, run.centers())).sum()
    return wrong


@pytest.mark.parametrize("twins", [jittering_twins, sliding_twins])
def test_labels_of_twins_are_the_true_nearest(monkeypatch, used, twins):
    assert n_wrong(monkeypatch, *twins()) == 0
    assert used["asked"] > 100


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


# ---- whole fits ------------------------------------------------------------------------------------------------------


DATA = {
    "float32": lambda X: X.astype(np.float32),
    "float64": lambda X: X,
    "uint8": lambda X: (4 * X).clip(0, 255).astype(np.uint8),
    "float32 far from the origin": lambda X: (X + 4096).astype(np.float32),
    "float64 far from the origin": lambda X: X + 1e9,
    "uint8 far from the origin": lambda X: (3 * X + 128).clip(0, 255).astype(np.uint8),
}


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
    """Anchors know all centers, the full screen distinct ones only; and equal ones may part.

    The first two centers and the last are nobody's: then nothing but the labels shows that the others are misnamed.
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


# ---- bases -----------------------------------------------------------------------------------------------------------


def chosen(X, k=K, step=0.3):
    return choose_basis(RowScreen(X), X[:k] + step * np.random.default_rng(47).standard_normal((k, X.shape[1])), X[:k])


def test_a_basis_is_chosen_where_it_pays():
    X = DATA["float32"](decaying())
    basis = chosen(X)
    assert np.abs(basis.T @ basis - np.eye(basis.shape[1])).max() < 1e-5
    assert ((X @ basis) ** 2).sum() > 0.95 * (X * X).sum()
    assert chosen(np.random.default_rng(48).standard_normal(X.shape)) is None  # white noise
    assert chosen(X, step=3.0) is None  # centers that still move far
    assert chosen(X * np.float32(2.0**40)) is None


def test_no_basis_is_tried_without_rows_and_features_enough():
    X = DATA["float32"](decaying())
    assert chosen(X[: 8 * SAMPLE]) is not None
    assert chosen(X[: 8 * SAMPLE - 1]) is None
    assert chosen(X, k=16, step=0.01) is not None
    assert chosen(X, k=17, step=0.01) is None
    assert chosen(X[:, :48]) is not None
    assert chosen(X[:, :47]) is None


@pytest.mark.parametrize("name", DATA)
def test_projections_filled_together_are_those_filled_alone(name):
    screen = RowScreen(DATA[name](decaying(20000, 32)))
    x = screen.block(slice(0, 20000))
    bases = [np.ascontiguousarray(leading_directions(x, 16)[:, :m]) for m in (4, 16)]
    together = [Components(20000, basis) for basis in bases]
    with workers(screen.X.size) as pool:
        fill_together(together, screen, pool)
    room = 2.0**-17 * screen.norms[:, None]
    for projection in together:
        alone = Components(20000, projection.basis)
        alone.fill(slice(None), x @ projection.basis, screen.norms)
        assert projection.filled
        assert (np.abs(projection.table - alone.table) <= room).all()
        assert (np.abs(projection.table[:, :-2] - x.astype(np.float64) @ projection.basis) <= room).all()
