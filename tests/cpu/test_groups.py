"""Bounds for groups of centers: every label is the true nearest center, whatever the centers do between two looks."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

import gpukmeans.backends.cpu.screens.grouping as numpy_grouping
import gpukmeans.backends.cpu.screens.groups as numpy_groups
from gpukmeans import KMeans
from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.backends.cpu.screens.grouping import GROUP_SIZE, group_centers
from gpukmeans.backends.cpu.screens.groups import GroupBounds
from gpukmeans.certificates.drift import group_base, group_lower_bound, group_threshold, upper_distance
from gpukmeans.certificates.rounding import ScoreRadius
from gpukmeans.datasets import near_ties
from tests.support.assertions import assert_labels
from tests.support.oracles import long_double_nearest, nearest

PLAIN = NumpyBackend(skip=False, screen=False)
K = 5 * GROUP_SIZE


@pytest.fixture
def used(monkeypatch):
    """How often bounds of groups settled an assignment, rows without a look, and with a projection.

    They are kept even where they do not pay.
    """
    monkeypatch.setattr(numpy_groups, "WORTHWHILE", 2.0)
    counts = {"settled": 0, "skipped": 0, "projected": 0}
    original = GroupBounds.assign

    def assign(self, centers, alive, labels, pool):
        settled = original(self, centers, alive, labels, pool)
        if settled is not None:
            counts["settled"] += 1
            counts["skipped"] += len(labels) - len(settled.rows)
            counts["projected"] += bool(self._projections)
        return settled

    monkeypatch.setattr(GroupBounds, "assign", assign)
    return counts


def clouds(n, d, k, seed=0, spread=4.0):
    """Rows about k middles that lie about K / 16 others, so that groups mean something."""
    local = np.random.default_rng(seed)
    coarse = 3.0 * spread * local.standard_normal((max(1, k // 16), d))
    middles = coarse[local.integers(len(coarse), size=k)] + spread * local.standard_normal((k, d))
    return middles[local.integers(k, size=n)] + local.standard_normal((n, d))


def history(X, start, n_iter, backend, change=None):
    """Labels and centers of the iterations; `change` may replace the centers between them."""
    run = backend.load(X).start(start)
    states = []
    for i in range(n_iter):
        counts = run.assign()
        assert sum(counts[1:6]) == len(X)
        states.append((run.labels().copy(), run.assigned_centers().copy()))
        run.update()
        if np.isnan(run.centers()).any():
            run.set_centers(np.where(np.isnan(run.centers()), X[-K:], run.centers()))  # distinct ones
        centers = change(i, run.centers().copy()) if change else None
        if centers is not None:
            run.set_centers(centers)
    return states


def assert_same_history(X, start, n_iter=8, change=None, backend=None):
    got = history(X, start, n_iter, backend or NumpyBackend(), change)
    want = history(X, start, n_iter, PLAIN, change)
    for (labels, centers), (true_labels, true_centers) in zip(got, want, strict=True):
        assert_labels(labels, X, true_centers, want=true_labels)
        assert np.array_equal(centers, true_centers, equal_nan=True)
    return got


# ---- labels ------------------------------------------------------------------------------------------------------


DATA = {
    "float32": lambda X: X.astype(np.float32),
    "float64": lambda X: X,
    "uint8": lambda X: np.clip(np.rint(4 * X + 128), 0, 255).astype(np.uint8),
    "far from the origin": lambda X: (X + 4096).astype(np.float32),
    "very far from the origin": lambda X: X + 1e9,
    "tiny": lambda X: (X * 2.0**-45).astype(np.float32),
    "too tiny for float32": lambda X: X * 2.0**-200,
    "huge": lambda X: (X * 2.0**50).astype(np.float32),
    "too huge for float32": lambda X: X * 2.0**200,
    "one feature far larger": lambda X: X * np.r_[1e6, np.ones(X.shape[1] - 1)],
}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("d", [3, 60])
def test_every_iteration_ends_in_the_bits_of_plain_distances(used, name, d):
    X = DATA[name](clouds(1500, d, K))
    assert_same_history(X, X[:: len(X) // K][:K])
    assert bool(used["settled"]) == ("too" not in name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_labels_are_the_true_nearest_in_rational_arithmetic(used, dtype):
    X = clouds(4 * K, 4, K, seed=1).astype(dtype)
    states = assert_same_history(X, X[:K], n_iter=5)
    for labels, centers in states[2:]:
        assert_labels(labels, X, centers)
    assert used["settled"] == 3  # without a projection the first two passes are plain ones


def twins(dtype, seed=3):
    """Rows half way between pairs of centers, to within a few ulps, and the centers."""
    X, C = near_ties(1200, K, 12, seed=seed, dtype=dtype)
    return X, C


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_near_ties_stay_right_while_centers_jitter(used, dtype):
    """Centers that move by a few ulps: almost nothing drifts, almost every row is a tie."""
    X, C = twins(dtype)
    local = np.random.default_rng(4)

    def jitter(i, centers):
        return (C * (1 + local.integers(-3, 4, C.shape) * np.finfo(dtype).eps)).astype(dtype)

    changes = {i: jitter(i, C) for i in range(6)}
    states = assert_same_history(X, C, 6, lambda i, centers: changes[i])
    for labels, centers in states:
        some = slice(None) if dtype == np.float32 else slice(None, None, 20)
        oracle = long_double_nearest if dtype == np.float32 else nearest
        assert np.array_equal(labels[some], oracle(X[some], centers))
    assert used["settled"] == 4


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_centers_may_jump_swap_and_coincide(used, dtype):
    X = DATA[np.dtype(dtype).name](clouds(1500, 10, K, seed=5))
    local = np.random.default_rng(6)
    path = [X[:K].astype(np.float64)]
    for i in range(12):
        centers = path[-1] + 0.1 * local.standard_normal((K, 10))
        if i == 3:  # half of them jump
            centers[: K // 2] = X[K : K + K // 2]
        elif i == 5:  # labels change their names
            centers = centers[::-1].copy()
        elif i == 7:  # one far away, and one onto a row
            centers[3] = 1e6
            centers[4] = X[5]
        path.append(centers)
    path[9] = path[9].copy()
    path[9][7] = path[9][90]  # equal centers: no bounds this time
    assert_same_history(X, path[0], 12, lambda i, centers: path[i + 1])
    assert used["settled"] == 9


def test_equal_centers_at_the_start_are_left_to_others(used):
    X = clouds(1500, 8, K, seed=7).astype(np.float32)
    start = X[:K].copy()
    start[5] = start[80]
    assert_same_history(X, start, 6)


def test_empty_clusters_that_get_a_row_keep_the_bits():
    """scikit-learn's relocation sets the centers from outside."""
    X = clouds(1500, 6, K, seed=8).astype(np.float32)
    start = np.concatenate([X[: K - 3], X[:3] + np.float32(500)])
    got, want = (
        KMeans(K, init=start, n_init=1, tol=0, max_iter=12, backend=backend).fit(X)
        for backend in (NumpyBackend(), PLAIN)
    )
    assert np.array_equal(got.labels_, want.labels_)
    assert np.array_equal(got.cluster_centers_, want.cluster_centers_)
    assert got.inertia_ == want.inertia_


@pytest.mark.one_in(2)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_a_projection_changes_no_label(used, monkeypatch, dtype):
    """9,000 rows are enough for one, and 90 % of what they differ in lies in few directions."""
    monkeypatch.setattr(numpy_grouping, "OPEN_SHARE", 9.0)  # as if whole rows cost more
    local = np.random.default_rng(9)
    X = clouds(9000, 16, K, seed=9) @ local.standard_normal((16, 96)) / 4 + 0.3 * local.standard_normal((9000, 96))
    X = DATA[np.dtype(dtype).name](X)
    assert_same_history(X, X[:K], 7)
    assert used["projected"] == used["settled"] == 7
    assert used["skipped"] > 0 or dtype == np.uint8


def test_rows_are_skipped_once_centers_stay(used):
    """Not vacuous: at convergence nearly every row is settled by its bounds alone."""
    X = clouds(3000, 8, K, seed=10, spread=30.0).astype(np.float32)
    assert_same_history(X, X[:K], 12)
    assert used["skipped"] > 5 * len(X)


def test_bounds_that_spare_too_little_are_dropped(used, monkeypatch):
    """Noise in 100 dimensions, nothing near: a sample says in time that the bounds need not be made."""
    monkeypatch.setattr(numpy_groups, "WORTHWHILE", 0.5)
    X = np.random.default_rng(11).standard_normal((16000, 100)).astype(np.float32)
    assert_same_history(X, X[:K], 5)
    assert used["settled"] == 0


def test_fast_labels_need_no_more_than_the_screen(used):
    X, C = twins(np.float32)
    run = NumpyBackend().load(X).start(C, precision="fast")
    for _ in range(4):
        counts = run.assign(move=False)
        assert sum(counts[1:6]) == len(X)
    assert counts.n_uncertain > 0
    assert used["settled"] == 2


# ---- bounds ------------------------------------------------------------------------------------------------------


def test_a_bound_written_once_holds_in_rational_arithmetic():
    """For random magnitudes: stored > threshold proves distance - (travelled now - then) > upper, exactly."""
    local = np.random.default_rng(12)
    n = 3000
    squares = np.ldexp(1 + local.random(n), local.integers(-60, 60, n))
    scores = (squares * (3 * local.random(n) - 1)).astype(np.float32)
    radii = squares * np.ldexp(local.random(n), local.integers(-30, -5, n))
    then = np.sqrt(squares) * np.ldexp(local.random(n), local.integers(-20, 8, n))
    now = then + np.sqrt(squares) * np.ldexp(local.random(n), local.integers(-20, 1, n))
    stored = group_lower_bound(scores, group_base(squares, radii), then.astype(np.float32))
    lower = np.sqrt(np.maximum(scores - radii + squares, 0.0))
    # Upper distances as close to the edge as float32 can put them.
    upper = np.maximum((lower - (now - then)) * (1 + local.integers(-40, 40, n) * 2.0**-24), 0.0).astype(np.float32)
    proved = stored > group_threshold(upper, now.astype(np.float32))
    for i in np.flatnonzero(proved):
        square = Fraction(float(scores[i])) - Fraction(radii[i]) + Fraction(squares[i])
        needed = Fraction(float(upper[i])) + Fraction(now[i]) - Fraction(then[i])
        assert square > needed * needed
    loose = np.maximum((lower - (now - then)) * 0.999 - 0.001 * now, 0.0).astype(np.float32)
    far = (lower > 0.2 * np.sqrt(squares)) & (loose > 0)
    assert (stored > group_threshold(loose, now.astype(np.float32)))[far].all()
    assert proved.sum() > 100


def test_the_upper_distance_is_one():
    local = np.random.default_rng(13)
    squares = np.ldexp(1 + local.random(2000), local.integers(-118, 118, 2000))
    scores = squares * (4 * local.random(2000) - 1)
    for square, score, upper in zip(squares, scores, upper_distance(squares, scores).tolist(), strict=True):
        true = Fraction(square) + Fraction(score)
        assert true <= Fraction(upper) ** 2 <= true * (1 + Fraction(1, 2**20)) + Fraction(1, 2**200)


def test_a_larger_norm_keeps_bounds_true():
    """One dimension up: with N > |x|^2 the bound may exceed the distance, but never the comparison with the own one."""
    local = np.random.default_rng(14)
    x, own, other = local.standard_normal((3, 500, 6))
    excess = 5 * local.random(500)
    moved_own, moved = own + 0.1 * local.standard_normal((500, 6)), other + 0.1 * local.standard_normal((500, 6))

    def distance(c, more=0.0):
        return np.sqrt(((x - c) ** 2).sum(axis=1) + more)

    drift = np.sqrt(((moved - other) ** 2).sum(axis=1))
    proved = distance(other, excess) - drift > distance(moved_own, excess)
    assert (distance(moved) > distance(moved_own))[proved].all()
    wrong = distance(other, excess) - drift > distance(moved_own)  # the own distance without the excess
    assert not (distance(moved) > distance(moved_own))[wrong].all()


@pytest.mark.parametrize("k", [1, 3, 33, 400])
def test_groups_are_a_partition_of_near_centers(k):
    centers = clouds(400, 5, 20, seed=15)[:k]
    group = group_centers(centers, max(1, k // GROUP_SIZE))
    assert np.array_equal(np.unique(group), np.arange(group.max() + 1))
    assert len(group) == k
    if k == 400:
        inside = sum(
            ((centers[group == g] - centers[group == g].mean(axis=0)) ** 2).sum() for g in range(group.max() + 1)
        )
        assert inside < 0.7 * ((centers - centers.mean(axis=0)) ** 2).sum()


def test_equal_centers_make_one_group():
    assert group_centers(np.ones((40, 3)), 4).tolist() == [0] * 40


# ---- planted faults ----------------------------------------------------------------------------------------------


def labels_differ(X, start, n_iter=8, change=None):
    got = history(X, start, n_iter, NumpyBackend(), change)
    return any((labels != long_double_nearest(X, centers)).any() for labels, centers in got)


def drifting():
    """Centers that wander: bounds are asked in every iteration."""
    X = clouds(1500, 6, K, seed=16).astype(np.float32)
    local = np.random.default_rng(17)
    path = X[:K] + np.cumsum(0.3 * local.standard_normal((8, K, 6)), axis=0).astype(np.float32)
    return X, X[:K], 8, lambda i, centers: path[i]


def test_wandering_centers_are_followed(used):
    assert not labels_differ(*drifting())
    assert used["settled"] == 6


@pytest.mark.parametrize(
    ("name", "fake"),
    [
        ("group_threshold", lambda upper, travelled: 0.8 * upper + travelled),
        ("group_threshold", lambda upper, travelled: upper + 0 * travelled),
        ("group_lower_bound", lambda scores, base, travelled: 1.2 * np.sqrt(np.maximum(scores + base, 0)) + travelled),
        ("upper_distance", lambda squares, scores: 0.8 * np.sqrt(np.maximum(squares + scores, 0)).astype(np.float32)),
        ("length_of_drift", lambda new, old: np.zeros(len(new))),
    ],
)
def test_bounds_made_too_tight_give_wrong_labels(used, monkeypatch, name, fake):
    monkeypatch.setattr(numpy_groups, name, fake)
    assert labels_differ(*drifting())


def test_scores_without_radius_give_wrong_labels(used, monkeypatch):
    X, C = twins(np.float32)
    monkeypatch.setattr(ScoreRadius, "of", lambda self, norms: 0.0 * norms)
    assert labels_differ(X, C, 3, lambda i, centers: C)


def test_rows_left_undecided_have_to_be_asked_again(used, monkeypatch):
    """Their labels come from elsewhere: bounds kept for the label that was handed in would be another center's."""
    X, C = twins(np.float32)
    voided = []
    original = GroupBounds._decide

    def decide(self, *args):
        undecided = original(self, *args)
        voided.append(bool(np.isneginf(self._lower[:, undecided]).all()))
        return undecided

    monkeypatch.setattr(GroupBounds, "_decide", decide)
    assert not labels_differ(X, C, 4, lambda i, centers: C)
    assert voided == [True] * 2
