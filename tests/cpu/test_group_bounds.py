"""What bounds of groups hold after each assignment: never beyond the distances, and as near to them as they may be."""

from __future__ import annotations

import numpy as np
import pytest

import gpukmeans.backends.cpu.screens.groups as numpy_groups
from gpukmeans.backends.cpu.screens.components import Components, fill_together, lower_scores
from gpukmeans.backends.cpu.screens.full import RowScreen
from gpukmeans.backends.cpu.screens.groups import GroupBounds, may_pay
from gpukmeans.threads import Workers, workers

N, K, D = 1300, 160, 48


def table(noise=0.01, rank=10, seed=0):
    """Rows about K middles, which lie about ten others, in few directions; and the middles."""
    rng = np.random.default_rng(seed)
    middles = 40.0 * rng.standard_normal((10, rank))[rng.integers(10, size=K)] + 8.0 * rng.standard_normal((K, rank))
    rows = middles[rng.integers(K, size=N)] + 1.5 * rng.standard_normal((N, rank))
    directions, _ = np.linalg.qr(rng.standard_normal((D, rank)))
    X = (rows @ directions.T + noise * rng.standard_normal((N, D))).astype(np.float32)
    return X, (middles @ directions.T).astype(np.float32), directions


class Followed:
    """Bounds beside true distances, one dimension up as the norms of the screen have it."""

    def __init__(self, X, directions=None):
        self.X, self.screen, self.way = X, RowScreen(X), 0.0
        self.screen.held = self.held

        def components(centers, pool):
            full = np.linalg.qr(np.concatenate([directions, np.eye(D)[:, :6]], axis=1))[0].astype(np.float32)
            made = [Components(len(X), np.ascontiguousarray(full[:, :m])) for m in (6, 16)]
            fill_together(made, self.screen, pool)
            return made

        self.bounds = GroupBounds(lambda: self.screen, components if directions is not None else None)
        self.projected = directions is not None
        self.centers = None

    def held(self, part, rows):
        """As of rows that stream, which hold those of the block only."""
        assert ((rows >= part.start) & (rows < part.stop)).all()
        return self.screen

    def assign(self, centers, labels):
        """As `GroupBounds.assign` returns; what it leaves is checked."""
        named, bounds = labels.copy(), self.bounds
        if self.centers is not None:
            kept, reach, travelled = bounds._lower.copy(), bounds._upper.copy(), bounds._travelled.copy()
        with workers(0):
            pool = Workers(2)  # one after the other, the centers in two halves
            found = bounds.assign(centers, np.arange(len(centers)), labels, pool)
        if found is None:
            return None
        steps = np.zeros(K) if self.centers is None else np.sqrt(((centers - self.centers) ** 2.0).sum(axis=1))
        step = steps.max()
        self.centers = centers.astype(np.float64)
        tables = bounds._tables
        distances = self.distances(centers)
        slack = 4.0 * tables.full.radius.of(self.screen.norms)  # of squared distances
        own, each = tables.place[labels], np.arange(len(labels))
        ordered = distances[:, np.argsort(tables.place)].copy()
        order = np.argsort(distances, axis=1, kind="stable")
        settled = np.setdiff1d(each, found.undecided)
        assert np.array_equal(labels[settled], order[settled, 0])
        squares = distances**2
        margins = squares[each, order[:, 1]] - squares[each, order[:, 0]]
        assert (margins[found.undecided] < slack[found.undecided]).all()
        some = np.intersect1d(settled, found.rows)
        assert (margins[some] > 0.45 * slack[some]).all()

        looked = np.zeros(len(labels), bool)
        looked[found.rows] = True
        assert len(np.unique(found.rows)) == len(found.rows)
        assert looked[found.undecided].all()
        mine = ordered[each, own]
        assert (bounds._upper >= mine).all()
        drifted = np.where(looked, 0.0, 2.0 * self.way + 2.0 * step)
        assert (bounds._upper <= np.sqrt(mine**2 * (1 + 1e-5) + slack) + drifted).all()
        in_order = np.argsort(tables.place)
        assert (tables.drift >= steps[in_order]).all()
        assert 4 <= len(tables.starts) - 1 <= K // 16
        assert len(tables.levels) == 1 + self.projected
        for level in tables.levels if self.projected else ():
            _, radius = lower_scores(level.projection, self.screen.shifted(centers[in_order]))
            assert level.radius.constant >= radius.constant
            assert level.radius.per_norm >= radius.per_norm
        ordered[each, own] = np.inf
        others = np.minimum.reduceat(ordered, tables.starts[:-1], axis=1).T
        lower = bounds._lower.astype(np.float64) - bounds._travelled[:, None]
        assert np.isneginf(lower[:, found.undecided]).all()
        finite = np.isfinite(others)
        assert (lower[finite] <= others[finite] * (1.0 + 1e-6)).all()
        self.way = 0.0 if bounds._travelled.max() == 0.0 else self.way + step
        fresh = np.isin(each, settled) & finite
        loss = 3.0 * self.way
        least = np.sqrt(np.maximum(others**2 * (1 - 1e-5) - slack, 0.0))
        if self.projected:  # as much as settles the pair
            least = np.minimum(least, mine)
        least -= loss
        assert (lower >= least)[fresh].all()
        if self.way:
            farthest = np.maximum.reduceat(steps[in_order], tables.starts[:-1])
            np.testing.assert_allclose(bounds._travelled - travelled, farthest, rtol=1e-5, atol=1e-6)
            assert (bounds._upper >= reach + steps[named])[~looked].all()
            gap = (kept - bounds._travelled[:, None]).min(axis=0) - reach - steps[named]
            assert not looked[gap > 1e-4 * mine].any()
            assert looked[gap < 0.0].all()
        some = found.rows[:50]
        candidates = bounds.candidates(some)
        assert candidates[np.arange(len(some)), order[some, 0]].all()
        assert not candidates[squares[some] > squares[some, order[some, 0]][:, None] + slack[some, None]].any()
        return found

    def distances(self, centers):
        """In float64, whose rounding is nothing beside the radius of float32 scores."""
        c = self.screen.shifted(centers)
        x = self.screen.block(slice(None), np.float64)
        return np.sqrt((self.screen.norms**2)[:, None] - 2.0 * x @ c.T + (c * c).sum(axis=1))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """So that there are several of each kind."""
    monkeypatch.setattr(numpy_groups, "BLOCK", 600)
    monkeypatch.setattr(numpy_groups, "FEW_SCORES", 300 * K)
    monkeypatch.setattr(numpy_groups, "FEW_VALUES", 70 * D)


@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize("labelled", [False, True])
def test_bounds_hold_and_are_tight(projected, labelled):
    X, centers, directions = table()
    centers[0] = 900.0 * directions[:, 0]  # a group of its own
    squares = ((centers[:, None] - centers) ** 2).sum(axis=2) + 1e9 * np.eye(K, dtype=np.float32)
    some = np.arange(1, 101)
    nearest = squares[some].argmin(axis=1)
    # Ties, rows whose scores differ by about the radius, and rows whose bounds fail but whose scores do not.
    share = np.concatenate([np.zeros(5), np.linspace(1e-6, 4e-4, 45), np.linspace(1e-3, 0.02, 50)])[:, None]
    X[:100] = (0.5 + share) * centers[some] + (0.5 - share) * centers[nearest]
    X, centers = X / np.float32(16), centers / np.float32(16)  # radii far from one
    rng = np.random.default_rng(1)
    followed = Followed(X, directions if projected else None)
    labels = rng.integers(K, size=N).astype(np.int32)
    if not projected:
        for _ in range(2):  # whether bounds pay is tried by the sample in the third
            was = labels.copy()
            assert followed.assign(centers + np.float32(0.01), labels) is None
            assert np.array_equal(labels, was)
    if projected:
        labels[::2] = -1
    if not labelled:
        labels[:] = -1
        if not projected:
            assert followed.assign(centers + np.float32(0.01), labels) is None
            assert (labels == -1).all()
            labels[:] = 0
    for step in range(5):
        found = followed.assign(centers, labels)
        assert step or set(found.undecided) >= set(range(5))
        assert step or np.array_equal(np.sort(found.rows), np.arange(N))
        if step in (2, 3):
            centers = centers.copy()
            centers[rng.integers(K, size=20)] += 0.02 * rng.standard_normal((20, D)).astype(np.float32)
        if step == 3:
            labels[found.undecided] = 7  # from elsewhere
    assert len(followed.assign(centers, labels).rows) < 0.1 * N
    followed.bounds.forget()
    followed.way = 0.0
    assert len(followed.assign(centers, labels).rows) == N


def test_centers_that_bounds_cannot_serve_are_left_to_others():
    X, centers, directions = table()
    labels = np.zeros(N, np.int32)
    followed = Followed(X, directions)
    for _ in range(3):
        found = followed.assign(centers, labels)
    assert len(found.rows) < 0.1 * N
    with workers(0) as pool:
        assert followed.bounds.assign(centers, np.arange(1, K), labels, pool) is None  # the first equals another
        followed.way = 0.0
        assert len(followed.assign(centers, labels).rows) == N
        assert len(followed.assign(centers, labels).rows) < 0.1 * N
        huge = Followed(X * np.float32(2.0**70), directions)
        assert huge.bounds.assign(centers * np.float32(2.0**70), np.arange(K), labels, pool) is None


@pytest.mark.parametrize(
    ("calm", "served"), [(7, [0, 0, 1, 1, 1, 1, 1]), (4, [0, 0, 1, 1, 1, 0, 0]), (1, [0, 0, 0, 0, 0, 0, 0])]
)
def test_bounds_that_settle_little_are_given_up(calm, served):
    """Noise, whose centers hardly move for so many steps and then leap: asked of a sample first, then of the bounds."""
    rng = np.random.default_rng(3)
    X, centers = rng.standard_normal((N, D)).astype(np.float32), rng.standard_normal((K, D)).astype(np.float32)
    labels, bounds = np.zeros(N, np.int32), GroupBounds(lambda: RowScreen(X), None)
    found = []
    with workers(0) as pool:
        for step in range(7):
            if step >= calm:
                centers = rng.standard_normal((K, D)).astype(np.float32)
            found.append(bounds.assign(centers, np.arange(K), labels, pool) is not None)
    assert found == served


def test_where_groups_may_pay():
    assert [may_pay(10_000, 10, k) for k in (128, 129, 320, 321)] == [False, True, True, False]
    assert [may_pay(n, 10, 200) for n in (799, 800)] == [False, True]
    assert [may_pay(10_000, 2, k) for k in (256, 257)] == [True, False]
