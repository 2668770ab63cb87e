"""Limits of groups of centers: no row is left out whose label changes, and few are looked at whose label cannot."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.backends.cuda.backend import CupyBackend
from gpukmeans.backends.cuda.control import Control
from gpukmeans.backends.cuda.dense_workspace import DenseWorkspace
from gpukmeans.backends.cuda.screen_tiles import ScoreTile
from tests.emulator import EmulatorDevice, EmulatorError
from tests.emulator.testing import skip_without_compiler
from tests.support.launches.common import ORDERS, watched
from tests.support.launches.faults import some_weekly
from tests.support.launches.many import SMALL, Screen, group_members, problem
from tests.support.oracles import nearest, square_distances
from tests.support.rational_points import fractions, length

BYTE, FLOAT, DOUBLE = (np.dtype(t) for t in (np.uint8, np.float32, np.float64))

TILES = [ScoreTile(**{**SMALL, "LANE_GROUPS": groups}, CHUNK=2) for groups in (1, 2)]

EACH_TILE = pytest.mark.parametrize("tile", TILES, ids=lambda tile: f"{tile.n_groups} groups")


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


# ---- the kernels that write and read them, while centers drift ------------------------------------------------------


class Travels:
    """The centers of a `Screen` on their way; rows are looked at once, before it."""

    def __init__(self, screen, tile):
        self.screen, self.C = screen, screen.C.astype(np.float64)
        counts = np.random.default_rng(1).uniform(0, 40, screen.k + tile.n_groups).astype(np.float32)
        screen.upload(labels=np.full(screen.n, -1, np.int32), drift=counts, n_groups=tile.n_groups)
        screen.list_rows(np.arange(screen.n))
        screen.screen(tile)
        self.counts, self.members = counts, group_members(screen.k, tile.n_groups)
        self.certified = np.setdiff1d(np.arange(screen.n), screen.undecided())

    def go(self, steps):
        """Centers move; counts grow as kernels/update_centers.cu says."""
        C = (self.C + steps).astype(self.screen.C.dtype).astype(np.float64)
        drifts = [self.screen.scale * length(a, b) for a, b in zip(self.C, C, strict=True)]
        drifts += [max((drifts[j] for j in group), default=0.0) for group in self.members]
        step = (np.array(drifts) * (1 + 2.0**-10)).astype(np.float32)
        self.counts = (self.counts + step) * np.float32(1 + 2.0**-22)
        self.C = C

    def skipped(self):
        screen = self.screen
        screen.device.write(screen.on["drift"], self.counts)
        screen.set_count(Control.N_ACTIVE, 0)
        screen.skip()
        return np.setdiff1d(np.arange(screen.n), screen.get("active")[: screen.count(Control.N_ACTIVE)])


def follow(device, tile, dtype, d, seed=0):
    """Rows left out and labels changed, over some drifts at random; the former have their labels for certain."""
    travels = Travels(problem(device, 60, 67, d, dtype, seed=seed), tile)
    screen, rng = travels.screen, np.random.default_rng(seed)
    labels = screen.get("labels")
    spread = np.abs(screen.C).max()
    left_out, changed = [], 0
    for _ in range(7):
        some = rng.random((screen.k, 1)) < 0.1
        travels.go(np.where(some, 0.04, 0.001) * spread * rng.standard_normal((screen.k, d)))
        skipped = travels.skipped()
        true = nearest(screen.X, travels.C)
        assert np.array_equal(labels[skipped], true[skipped])
        assert set(skipped) <= set(travels.certified)
        left_out.append(len(skipped))
        changed += (labels[travels.certified] != true[travels.certified]).sum()
    return left_out, changed


@pytest.mark.one_in(2)
@EACH_TILE
@pytest.mark.parametrize("dtype", [BYTE, FLOAT, DOUBLE], ids=str)
@pytest.mark.parametrize("d", [3, 9])
def test_rows_that_are_left_out_keep_their_labels(tile, dtype, d):
    left_out, changed = zip(*(follow(watched("random", seed), tile, dtype, d, seed) for seed in range(2)), strict=True)
    assert sum(changed) > 3
    for counts in left_out:
        assert counts[0] > 4
        assert counts[-1] < counts[0]


def limits_of_exact_scores(device, tile=TILES[1]):
    """Whole numbers and a radius of zero: what is left to err is the arithmetic of the limits."""
    rng = np.random.default_rng(0)
    C = rng.integers(0, 250, (35, 3)).astype(np.float64)
    C = np.concatenate([C, C + np.array([2, 0, 0])])  # the next center is so near that norms and scores almost cancel
    X = (C[rng.integers(0, 70, 90)] + [0, 1, 1] * rng.integers(0, 3, (90, 3))).astype(np.uint8)
    for size in (0.0, 1.0, 300.0, 1e6):
        screen = Screen(device, BYTE, X, C, largest_radius=0.0)
        counts = rng.uniform(0, size, 70 + tile.n_groups).astype(np.float32)
        screen.upload(drift=counts, n_groups=tile.n_groups).list_rows(np.arange(90))
        screen.screen(tile)
        certified = np.setdiff1d(np.arange(90), screen.undecided())
        assert len(certified) > 80
        z, centers = screen.z.astype(np.int64), screen.center_z.astype(np.int64)
        labels, uppers, lowers, so_far = (
            screen.get("labels"),
            screen.get("uppers"),
            screen.get("lowers"),
            fractions(counts),
        )
        for row in certified:
            square_norm = Fraction(float(np.float32(screen.norms[row]))) ** 2
            squares = [square_norm - int(z[row] @ z[row]) + int(((z[row] - c) ** 2).sum()) for c in centers]
            upper = Fraction(float(uppers[row])) + so_far[labels[row]]
            assert upper >= 0
            assert upper**2 >= squares[labels[row]]
            for g, group in enumerate(group_members(70, tile.n_groups)):
                lower = Fraction(float(lowers[row, g])) - so_far[70 + g]
                assert lower < 0 or lower**2 <= min(squares[j] for j in group if j != labels[row])


def test_limits_are_rounded_to_the_safe_side():
    limits_of_exact_scores(watched())


def approach(device, tile, share):
    """Corners of a cube at -8 and 8; rows go `a` from their corner along the first axis, where the next one is 16 away.

    Of each of 30 steps of a quarter by which the corners get closer to the row, `share` is the own one's flight.  (That
    counts against the others of its group as well: a group has the drift of its fastest center.)
    """
    corners = np.array(np.meshgrid(*[[-8, 8]] * 7, indexing="ij")).reshape(7, -1).T
    own = np.flatnonzero(corners[:, 0] < 0)[np.arange(96) * 2 % 64]
    a = np.random.default_rng(0).integers(0, 8, 96)
    X = corners[own].copy()
    X[:, 0] += a
    X = np.concatenate([X, -corners[:64] + [[0] * 6 + [0]]])  # a mean of 100
    X = np.clip(X + 100, 0, 255).astype(np.uint8)
    screen = Screen(device, BYTE, X, corners + 100.0)
    travels = Travels(screen, tile)
    left = corners[:, 0] < 0
    steps = np.zeros(corners.shape)
    steps[:, 0] = np.where(left, -0.25 * share, -0.25 * (1 - share))
    gaps, found = 16 - 2.0 * a, []
    for t in range(31):
        if t:
            travels.go(steps)
        consumed = 0.25 * t
        skipped = np.isin(np.arange(96), travels.skipped())
        assert not skipped[consumed >= gaps].any()
        assert skipped[1.002 * consumed * (share + max(share, 1 - share)) + 0.02 < gaps].all()
        found.append(skipped.sum())
    return found


@EACH_TILE
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_rows_are_left_out_until_the_centers_have_met(tile, share):
    found = approach(watched(), tile, share)
    assert found[0] == 96
    assert 0 < found[-1] < 96


# ---- how far groups have gone ---------------------------------------------------------------------------------------


def true_counts(before, after, scale, n_groups):
    shifts = [scale * length(a, b) for a, b in zip(before, after, strict=True)]
    return np.array(shifts + [max(shifts[j] for j in group) for group in group_members(len(after), n_groups)])


def check_counts(device, k=300, d=3):
    """Two runs side by side, two updates each."""
    rng = np.random.default_rng(4)
    means = rng.uniform(-50, 50, (k, d))
    X = np.concatenate([means - 0.125, means + 0.125])
    rows = CupyBackend(device).load(X)
    run = rows.start(means)
    run.assign()
    sums, weights = run.sums()
    work = DenseWorkspace(rows.table, k, 2, True)
    starts = means + rng.standard_normal((2, k, d)) * np.exp(rng.uniform(-9, 2, (1, k, 1)))
    work.begin(starts)
    n_groups = device.download(work.drift).shape[1] - k
    assert n_groups == 8
    want, before = np.zeros((2, k + n_groups)), starts
    for change in (0, 1 << 20):
        sums = sums + change * (np.arange(k)[:, None] % 7 == 0)
        for name, value in (("sums", sums), ("weights", weights)):
            array = np.zeros(device.download(getattr(work, name)).shape, np.int64)
            array[:, : len(value)] = value
            device.write(getattr(work, name), array)
        work.reset(9)
        work.launch_update()
        after = device.download(work.centers)
        want += [true_counts(*pair, rows.table.half_scale, n_groups) for pair in zip(before, after, strict=True)]
        before = after
        counts = device.download(work.drift).astype(np.float64)
        assert (counts >= want).all()
        assert (counts <= want * (1 + 2.0**-9) + 1e-30).all()
    return want


@pytest.mark.weekly
def test_counts_of_centers_and_groups_are_just_above_the_truth():
    want = check_counts(EmulatorDevice())
    assert len(set(want[0, 300:])) > 4
    check_counts(watched("random", 1))


# ---- fits -----------------------------------------------------------------------------------------------------------


def crowd(dtype):
    """Tight clouds whose centers stay, and a long one that its five centers, all of one group, cross bit by bit."""
    rng = np.random.default_rng(11)
    grid = 9 * np.stack(np.divmod(np.arange(67), 9), axis=1) + 20.0
    clouds = np.repeat(grid, 8, axis=0) + rng.integers(-1, 2, (536, 2))
    line = np.stack([rng.integers(0, 256, 300), rng.integers(200, 204, 300)], axis=1)
    movers = np.sort(line[:, 0])[:40:8, None] * [1, 0] + [0, 202]
    C = grid
    for place, center in zip((0, 1, 16, 17, 32), movers, strict=True):
        C = np.insert(C, place, center, axis=0)
    return np.concatenate([clouds, line]).astype(dtype), C.astype(np.float32 if dtype == np.float32 else np.float64)


def one_bound_skips(X, centers, labels):
    """Rows that one bound each would leave out of every iteration, in exact arithmetic (Hamerly, SDM 2010)."""
    gaps, drift = np.full(len(X), -math.inf), np.zeros(len(centers[0]))
    own, counts = labels[0], []
    for before, now, new in zip([None, *centers], centers, labels, strict=False):
        if before is not None:
            shifts = np.array([length(a, b) for a, b in zip(before, now, strict=True)])
            drift += shifts + [np.delete(shifts, j).max() for j in range(len(now))]
        skipped = drift[own] < gaps
        counts.append(int(skipped.sum()))
        own = new
        distances, unit = square_distances(X[~skipped], now)
        two = np.sqrt(np.sort(distances.astype(np.float64) * float(unit), axis=1)[:, :2])
        gaps[~skipped] = two[:, 1] - two[:, 0] + drift[own[~skipped]]
    return counts


def iterations(backend, X, C, count, *, forget=False):
    """Per iteration (centers, labels, skipped, sums); with `forget` nothing is known of any row."""
    run = backend.load(X).start(C)
    found = []
    for _ in range(count):
        centers = run.centers()
        if forget:
            run.set_centers(centers)
        assigned = run.assign()
        found.append((centers, run.labels(), assigned.n_skipped, run.sums()[0]))
        assert run.update().weights.all()
    return found


@pytest.mark.one_in(3)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_groups_leave_out_more_rows_than_one_bound_and_change_no_bit(dtype):
    X, C = crowd(dtype)
    ours, forgetful, numpys = (
        iterations(backend, X, C, 9, forget=forget)
        for backend, forget in (
            (CupyBackend(EmulatorDevice()), False),
            (CupyBackend(EmulatorDevice()), True),
            (NumpyBackend(), False),
        )
    )
    for others in (forgetful, numpys):
        for (*got, _, sums), (*want, _, want_sums) in zip(ours, others, strict=True):
            for a, b in zip((*got, sums), (*want, want_sums), strict=True):
                assert np.array_equal(a, b)
    assert not any(skipped for *_, skipped, _ in forgetful)
    centers, labels, skipped, _ = zip(*ours, strict=True)
    one = one_bound_skips(X, centers, labels)
    assert sum(skipped) > 1.3 * sum(one)


# ---- the checks can fail --------------------------------------------------------------------------------------------


def near(device):
    approach(device, TILES[1], 0.5)


def wandering(device):
    follow(device, TILES[1], FLOAT, 3)
    follow(device, TILES[0], BYTE, 3)


FAULTS = {
    "a group is not asked": (near, "own < lower.y - far[1]", "true"),
    "limits forget the groups' drift": (near, "lower.x - far[0]", "lower.x"),
    "limits forget the own drift": (near, "uppers[row] + drift_so_far[label]", "uppers[row]"),
    "half of the groups are enough": (near, "(nearer & EVERY_GROUP) == EVERY_GROUP", "(nearer & 1) == 1"),
    "rows beside the own one decide": (near, ">> lane % ROWS_AT_ONCE * LANES", ">> lane / ROWS_AT_ONCE * LANES"),
    "upper limits are rounded to nearest": (
        limits_of_exact_scores,
        "0x1p-20f, own + own_so_far",
        "0.0f, own + own_so_far",
    ),
    "lower limits are rounded to nearest": (
        limits_of_exact_scores,
        "__fmul_rn(other + group_so_far, 1.0f - 0x1p-20f)",
        "other + group_so_far",
    ),
    "upper limits forget what cancels": (limits_of_exact_scores, "square + fabsf(best)", "square - square"),
    "lower limits forget what cancels": (limits_of_exact_scores, "square + fabsf(most)", "square - square"),
    "lower limits are upper ones": (wandering, "square) - slack, 0.0f", "square) + 64.0f * slack, 0.0f"),
    "limits keep the drift of another group": (near, "norm, drift_so_far[k + group])", "norm, drift_so_far[k])"),
    "the group's drift is its first center's": (check_counts, "fmaxf(steps[other], steps[other + 1])", "steps[other]"),
    "a group's drift is that of the next": (
        check_counts,
        "int other = 2 * tid; other",
        "int other = 2 * tid + 1; other",
    ),
    "groups go no further": (check_counts, "drift_so_far[k + tid] + most", "most"),
    "groups are not waited for": (check_counts, "__syncthreads();  // every thread's is there", ""),
    "only the last centers of a thread count": (check_counts, "farthest = fmaxf(farthest, step);", "farthest = step;"),
    "runs share their drift": (check_counts, "run * (k + next.n_groups)", "run * k"),
    "others' drift is counted twice": (check_counts, "n_groups ? 0.0 : sqrt(", "false ? 0.0 : sqrt("),
}


@pytest.mark.parametrize("name", some_weekly(FAULTS))
def test_planted_faults_are_caught(name):
    run, good, bad = FAULTS[name]
    for order, seed in ORDERS:
        try:
            run(watched(order, seed, [(good, bad)]))
        except (EmulatorError, AssertionError):
            return
    pytest.fail("The fault was not seen.")


def test_planted_faults_are_really_planted():
    from gpukmeans.backends.cuda.device import nvrtc

    texts = [nvrtc.source(file, {}) for file in ("nearest_of_many", "skip_rows", "update_centers")]
    for _, good, _ in FAULTS.values():
        assert any(good in text for text in texts), good
