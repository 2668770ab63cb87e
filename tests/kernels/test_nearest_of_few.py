"""kernels/nearest_of_few.cu against whole numbers; every memory access is watched."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from gpukmeans.backends.cuda.control import Control, Fact
from gpukmeans.datasets import exact_ties, near_ties
from tests.emulator import KINDS_OF_TENSOR_CORES, EmulatorDevice, EmulatorError
from tests.emulator.testing import skip_without_compiler
from tests.support.assertions import assert_labels
from tests.support.launches.common import IN_ORDER, watched
from tests.support.launches.faults import fault_tests, own_test
from tests.support.launches.few import BYTE, DOUBLE, FLOAT, KINDS, Scaling, data, nearest_of_few, screen_of
from tests.support.oracles import nearest

HALF, BFLOAT = KINDS["Half"], KINDS["BFloat16"]
EVERY_KIND = pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name.replace(" ", "_"))
#: Row kind, n, k, d, tiles, vector: every tile with every kind of reading, ragged everywhere.
SHAPES = [
    *[(BYTE, 130, 10, 784, 2, True), (BYTE, 31, 3, 5, 1, False), (BYTE, 127, 17, 100, 4, False)],
    *[(BYTE, 33, 60, 16, 8, True), (FLOAT, 1, 1, 1, 1, False), (FLOAT, 130, 8, 33, 1, False)],
    *[(FLOAT, 127, 20, 16, 4, True), (FLOAT, 33, 64, 100, 8, True), (FLOAT, 31, 9, 5, 2, False)],
    *[(FLOAT, 20, 10, 784, 2, True), (DOUBLE, 33, 12, 16, 2, True), (DOUBLE, 127, 5, 33, 1, False)],
    *[(DOUBLE, 31, 25, 100, 4, True), (DOUBLE, 1, 40, 5, 8, False), (HALF, 33, 9, 16, 2, True)],
    *[(HALF, 130, 3, 33, 1, False), (BFLOAT, 33, 17, 104, 4, True), (BFLOAT, 31, 2, 100, 1, False)],
]


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


def certified(got):
    return np.flatnonzero(~np.isnan(got.limits))


def assert_margins(X, C, got, screen):
    """Certified rows win by two radii, but for what the scores' own rounding adds (less than 5 % of a radius here)."""
    for i in certified(got):
        scores, radius = screen(i)
        others = scores[(C[got.labels[i]] != C).any(axis=1)]  # equal ones of a higher index are dead
        if len(others) and np.isfinite(radius):
            margin = float(np.min(others) - scores[got.labels[i]])
            assert margin > 1.9 * radius, f"row {i}: margin {margin:.6g}, radius {radius:.6g}"


def check(kind, X, C, got, old=None):
    """What holds of every assignment: labels are true but of open rows; lists and counts say what was done."""
    old = np.full(len(X), -1, np.int32) if old is None else old
    want = nearest(kind.widen(X), C)
    decided = np.setdiff1d(np.arange(len(X)), got.open_rows)
    assert_labels(got.labels, kind.widen(X), C, rows=decided, want=want, screen=screen_of(kind, X, C, got))
    assert np.array_equal(got.labels[got.open_rows], old[got.open_rows])
    assert np.isnan(got.limits[got.open_rows]).all()
    assert got.moved == {int(i): int(old[i]) for i in np.flatnonzero(got.labels != old)}
    assert got.control[Control.N_MOVED] == len(got.moved)
    assert got.control[Control.N_OPEN] == len(got.open_rows)
    if not got.control[Control.N_SKIPPED]:
        assert_margins(X, C, got, screen_of(kind, X, C, got))
    undecided = int(got.control[Control.N_UNDECIDED]) + int(got.control[Control.N_UNCERTAIN])
    assert undecided + len(certified(got)) == len(X)
    return want


@pytest.mark.one_in(2)
@pytest.mark.parametrize(("kind", "n", "k", "d", "tiles", "vector"), SHAPES)
def test_labels_are_the_true_nearest(kind, n, k, d, tiles, vector):
    X, C = data(kind, n, k, d)
    cores = KINDS_OF_TENSOR_CORES[(n + d + tiles) % 3]
    got = nearest_of_few(watched("random", 7, tensor_cores=cores), kind, X, C, tiles=tiles, vector=vector)
    check(kind, X, C, got)
    assert not got.open_rows
    assert got.control[Control.N_UNDECIDED] <= max(2, n // 4)  # noise is easy
    assert got.control[Control.N_SKIPPED] == got.control[Control.N_UNCERTAIN] == 0


@pytest.mark.one_in(2)
@EVERY_KIND
@pytest.mark.parametrize("tiles", [1, 4])
def test_neither_tiles_nor_readings_change_anything(kind, tiles):
    X, C = data(kind, 40, 7, 16)
    plain = nearest_of_few(watched(), kind, X, C, tiles=2)
    check(kind, X, C, plain)
    for vector in (False, True):
        got = nearest_of_few(watched(), kind, X, C, tiles=tiles, vector=vector)
        assert np.array_equal(got.labels, plain.labels)
        assert np.array_equal(got.limits, plain.limits, equal_nan=True)
        assert np.array_equal(got.control, plain.control)


@IN_ORDER
def test_no_order_of_threads_changes_more_than_the_order_of_lists(order, seed):
    """Near ties among noise: every step of the ladder is taken."""
    X, C = near_ties(150, 4, 5, seed=3, dtype=np.float64)
    C = np.concatenate([C, np.random.default_rng(4).standard_normal((5, 5)) * 20])
    X[::3] = np.repeat(C[4:], 10, axis=0) + 1  # certified
    X[1::3] += np.random.default_rng(5).standard_normal((50, 5)) * 1e-3  # decided by float64
    got, forward = (nearest_of_few(device, DOUBLE, X, C) for device in (watched(order, seed), watched()))
    check(DOUBLE, X, C, got)
    assert 0 < len(got.open_rows) < got.control[Control.N_UNDECIDED]
    assert len(certified(got)) > 10
    assert np.array_equal(got.labels, forward.labels)
    assert np.array_equal(got.limits, forward.limits, equal_nan=True)
    assert np.array_equal(got.control, forward.control)
    assert (got.moved, got.open_rows) == (forward.moved, forward.open_rows)


@pytest.mark.parametrize(("kind", "dtype"), [(FLOAT, np.float32), (DOUBLE, np.float64)], ids=["float", "double"])
@pytest.mark.parametrize(("n", "k", "d"), [(150, 10, 33), (100, 40, 8)])
def test_near_ties_are_left_open_not_guessed(kind, dtype, n, k, d):
    X, C = near_ties(n, k, d, seed=1, dtype=dtype)
    got = nearest_of_few(watched(), kind, X, C)
    check(kind, X, C, got)
    assert got.control[Control.N_UNDECIDED] > n // 2
    assert got.open_rows or dtype == np.float32


def test_radii_too_small_are_caught():
    """The oracle can fail: without the radius of halves, or of float64, the same rows get wrong labels."""
    X, C = near_ties(150, 10, 33, seed=1)
    want = nearest(X, C)
    got = nearest_of_few(watched(), FLOAT, X, C, facts=np.zeros(len(Fact), np.float32))
    assert not np.array_equal(got.labels[certified(got)], want[certified(got)])
    X, C = near_ties(200, 8, 17, seed=3, dtype=np.float64)
    got = nearest_of_few(watched(), DOUBLE, X, C, radius64=(0.0, 0.0))
    closed = np.setdiff1d(np.arange(200), got.open_rows)
    assert not np.array_equal(got.labels[closed], nearest(X, C)[closed])


@pytest.mark.parametrize("kind", [BYTE, FLOAT, DOUBLE], ids=lambda kind: kind.name.replace(" ", "_"))
def test_true_ties_of_whole_numbers_go_to_the_lowest_index(kind):
    X, C = exact_ties(60, 6, 9, seed=0)
    X, C = kind.store(X), C.astype(kind.center)
    got = nearest_of_few(watched(), kind, X, C, whole=True)
    assert not got.open_rows
    check(kind, X, C, got)
    assert got.control[Control.N_UNDECIDED] > 0
    if kind is not BYTE:  # the same ties, for all that is known
        assert nearest_of_few(watched(), kind, X, C).open_rows


def test_the_screens_word_is_taken_where_exactness_is_not_asked_for():
    X, C = near_ties(130, 7, 11, seed=1)
    got = nearest_of_few(watched(), FLOAT, X, C, exact=False)
    sure = certified(got)
    assert got.control[Control.N_UNCERTAIN] == 130 - len(sure) > 60
    assert got.control[Control.N_UNDECIDED] == got.control[Control.N_OPEN] == 0
    assert_labels(got.labels, X, C, rows=sure, screen=screen_of(FLOAT, X, C, got))
    assert (got.labels >= 0).all()
    wide = ((X[:, None].astype(np.float64) - C[None]) ** 2).sum(axis=2)
    assert (wide[np.arange(130), got.labels] <= wide.min(axis=1) * (1 + 1e-2)).all()
    far = Scaling(2.0**200, np.zeros(16, np.float32))  # scores that are no numbers have no word
    got = nearest_of_few(watched(), DOUBLE, X.astype(np.float64), C.astype(np.float64), exact=False, scaled=far)
    assert got.control[Control.N_UNDECIDED] == 130
    check(DOUBLE, X.astype(np.float64), C, got)


# ---- skip -----------------------------------------------------------------------------------------------------


def test_rows_whose_limit_is_not_reached_are_not_touched():
    """Not even where their label is wrong: the bound is trusted.  The others are, at the limit itself, too."""
    X, C = data(FLOAT, 130, 5, 9)
    want = nearest(X, C)
    old = ((want + np.arange(130) % 2) % 5).astype(np.int32)  # every other one is wrong
    drift = np.linspace(1, 2, 5).astype(np.float32)
    limits = drift[old]
    above = np.arange(130) % 3 == 0
    limits[above] = np.nextafter(limits[above], np.float32(9))
    limits[1::3] -= np.float32(0.5)
    got = nearest_of_few(watched("random", 2), FLOAT, X, C, labels=old, limits=limits, drift=drift)
    assert got.control[Control.N_SKIPPED] == above.sum()
    assert np.array_equal(got.labels[above], old[above])
    assert_labels(got.labels, X, C, rows=~above, want=want, screen=screen_of(FLOAT, X, C, got))
    assert np.array_equal(got.limits[above], limits[above])
    assert (got.limits[~above] != limits[~above]).all()
    assert got.moved == {int(i): int(old[i]) for i in np.flatnonzero(~above & (old != want))}


@pytest.mark.parametrize("n_active", [0, 1, 15, 17, 63])
def test_any_number_of_rows_may_be_left_of_a_block(n_active):
    X, C = data(FLOAT, 70, 4, 5)
    want = nearest(X, C)
    active = np.zeros(70, bool)
    active[np.random.default_rng(n_active).permutation(64)[:n_active]] = True
    limits = np.where(active, np.float32(np.nan), np.float32(1))
    got = nearest_of_few(watched(), FLOAT, X, C, labels=np.full(70, 3, np.int32), limits=limits)
    assert (got.labels[~active] == 3).all()
    assert_labels(got.labels, X, C, rows=active, want=want, screen=screen_of(FLOAT, X, C, got))
    assert got.control[Control.N_SKIPPED] == 70 - n_active


def test_rows_without_a_label_are_never_skipped():
    X, C = data(FLOAT, 40, 3, 5)
    got = nearest_of_few(watched(), FLOAT, X, C, limits=np.full(40, np.inf, np.float32))
    assert got.control[Control.N_SKIPPED] == 0
    check(FLOAT, X, C, got)


@pytest.mark.parametrize("reason", [1, 5])
def test_nothing_is_touched_when_stopped(reason):
    X, C = data(FLOAT, 40, 3, 5)
    old, limits = np.full(40, 2, np.int32), np.full(40, np.nan, np.float32)
    got = nearest_of_few(watched(), FLOAT, X, C, labels=old, limits=limits, STOP=reason)
    assert np.array_equal(got.labels, old)
    assert np.isnan(got.limits).all()
    assert not got.moved
    assert got.control.sum() == reason + 1  # and the epoch


def test_rows_that_keep_their_label_are_not_listed():
    X, C = data(DOUBLE, 60, 5, 7)
    want = nearest(X, C)
    got = nearest_of_few(watched(), DOUBLE, X, C, labels=want)
    assert not got.moved
    check(DOUBLE, X, C, got, old=want)


# ---- centers that do not compete, and numbers that are none -----------------------------------------------------


@pytest.mark.parametrize("k", [2, 9, 30])
def test_dead_centers_never_win(k):
    X, C = data(FLOAT, 40, k, 6)
    C[1:] = np.concatenate([C[:1], C[1:-1]])  # every center twice over
    dead = [j for j in range(k) if (C[:j] == C[j]).all(axis=1).any()]
    got = nearest_of_few(watched(), FLOAT, X, C, dead=dead)
    check(FLOAT, X, C, got)
    assert not got.open_rows
    assert len(certified(got)) > 20
    facts = np.full(len(Fact), np.inf, np.float32)
    facts[Fact.WHOLE] = 0
    got = nearest_of_few(watched(), FLOAT, X, C, dead=dead, facts=facts)  # float64 decides every row
    check(FLOAT, X, C, got)
    assert got.control[Control.N_UNDECIDED] == 40
    assert not got.open_rows


def test_equal_centers_that_live_are_never_certified():
    X, C = data(FLOAT, 40, 5, 6)
    C[4] = C[1]
    got = nearest_of_few(watched(), FLOAT, X, C)
    want = check(FLOAT, X, C, got)
    assert got.open_rows == np.flatnonzero(want == 1).tolist()
    assert len(got.open_rows) > 0


@pytest.mark.parametrize("value", [1e6, 1e30, -1e38])
def test_rows_and_centers_beyond_halves_are_decided_in_float64(value):
    X, C = data(FLOAT, 40, 5, 6)
    X[[3, 39], 2] = value
    got = nearest_of_few(watched(), FLOAT, X, C, scaled=Scaling(256.0, np.zeros(16, np.float32)))
    want = check(FLOAT, X, C, got)
    assert {3, 39} & set(certified(got).tolist()) == set()
    assert len(certified(got)) > 20
    C[2, 2] = value
    got = nearest_of_few(watched(), FLOAT, X, C, scaled=Scaling(256.0, np.zeros(16, np.float32)))
    assert not np.array_equal(check(FLOAT, X, C, got), want)
    assert got.control[Control.N_UNDECIDED] == 40
    assert not got.open_rows


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("exact", [True, False])
def test_what_is_not_a_number_certifies_nothing(bad, exact):
    X, C = data(FLOAT, 40, 5, 6)
    X[7, 3] = bad
    got = nearest_of_few(watched(), FLOAT, X, C, exact=exact, scaled=Scaling(256.0, np.zeros(16, np.float32)))
    assert 7 not in certified(got)
    rest = np.arange(40) != 7
    assert_labels(got.labels, X, C, rows=rest)
    facts = np.array([np.nan, 0, 0, 0], np.float32)
    X[7, 3] = 0
    got = nearest_of_few(watched(), FLOAT, X, C, facts=facts, exact=exact)
    assert len(certified(got)) == 0
    assert got.control[Control.N_UNDECIDED] == 40
    check(FLOAT, X, C, got)


def test_certificates_hold_when_subnormals_are_flushed():
    """CuPy compiles with -ftz=true.  Small numbers, scaled up and not."""
    X, C = data(FLOAT, 80, 7, 9)
    device = EmulatorDevice(mode="check", flush_subnormals=True)
    for size, scale, n_certified in (
        (1e-20, 2.0**70, 60),
        (1e-20, 1.0, 0),
        (1e-37, 2.0**120, 60),
        (1e-44, 2.0**120, 0),
    ):
        small = (X * np.float32(size), C * np.float32(size))
        got = nearest_of_few(device, FLOAT, *small, scaled=Scaling(scale, np.zeros(16, np.float32)))
        want, sure = nearest(*small), certified(got)
        assert_labels(got.labels, small[0], small[1], rows=sure, want=want, screen=screen_of(FLOAT, *small, got))
        assert len(sure) >= n_certified


def test_too_many_tiles_fail_with_a_sentence():
    X, C = data(FLOAT, 3, 2, 4)
    with pytest.raises(EmulatorError, match="more than 64 centers need more registers"):
        nearest_of_few(watched(), FLOAT, X, C, tiles=16)


# ---- the tests can fail ----------------------------------------------------------------------------------------------


def run_screen(device):
    X, C = data(FLOAT, 70, 20, 37)
    got = nearest_of_few(device, FLOAT, X, C)
    check(FLOAT, X, C, got)
    assert len(got.open_rows) == 0
    assert len(certified(got)) > 60


def run_screen_bytes(device, *, vector=False):
    X, C = data(BYTE, 40, 5, 96 if vector else 100)
    got = nearest_of_few(device, BYTE, X, C, vector=vector)
    check(BYTE, X, C, got)
    assert len(certified(got)) > 30


run_bytes_in_vectors = functools.partial(run_screen_bytes, vector=True)


def twins_at_all_distances():
    """Five pairs of centers, from almost equal to far apart, and rows around them: margins of every size."""
    local = np.random.default_rng(12)
    middles, away = 3.0 * local.standard_normal((5, 33)), local.standard_normal((5, 33))
    C = np.concatenate([middles, middles + np.geomspace(1e-4, 1e-1, 5)[:, None] * away])
    X = middles[local.integers(5, size=400)] + local.standard_normal((400, 33))
    return X.astype(np.float32), C.astype(np.float32)


def run_twins(device):
    X, C = twins_at_all_distances()
    got = nearest_of_few(device, FLOAT, X, C)
    check(FLOAT, X, C, got)
    assert 20 < len(certified(got)) < 380


def run_screen_near_ties(device):
    for dtype, kind in ((np.float32, FLOAT), (np.float64, DOUBLE)):
        X, C = near_ties(150, 10, 33, seed=1, dtype=dtype)
        check(kind, X, C, nearest_of_few(device, kind, X, C))


run_skips = own_test(globals(), "test_rows_whose_limit_is_not_reached_are_not_touched")
run_unlabelled = own_test(globals(), "test_rows_without_a_label_are_never_skipped")
run_dead = own_test(globals(), "test_dead_centers_never_win", 9)
run_fast = own_test(globals(), "test_the_screens_word_is_taken_where_exactness_is_not_asked_for")
run_not_numbers = own_test(globals(), "test_what_is_not_a_number_certifies_nothing", np.nan, True)

#: A fault: the runner that fails on it, the good text, the bad text.
FAULTS = {
    "a run reads beyond its row": (run_screen, "f + e < d ? row[f + e] : Row{}", "row[f + e]"),
    "the rows below take those above": (run_screen, "to_halves(strips8[a], s,", "to_halves(strips[a], s,"),
    "a list is read too early": (run_screen, "  __syncthreads();  // the list is complete\n", ""),
    "places in lists are given twice": (run_screen, "place + __popc(lanes & ((1u << lane) - 1));", "place;"),
    "offsets of another column": (run_screen_bytes, "offset + (a * GROUP + s * QUAD)", "offset + a * GROUP"),
    "bytes take the place of others": (run_bytes_in_vectors, "0x64646464u, 0x4342", "0x64646464u, 0x4140"),
    "centers of another tile": (run_screen, "unsigned(j) * n_steps", "unsigned(TILES - 1 - j) * n_steps"),
    "the second best is lost": (run_screen_near_ties, "    best.second = best.first;\n", ""),
    "lanes do not compare their best": (
        run_screen_near_ties,
        "larger(smaller(a.first, b.first), larger(a.second, b.second))",
        "larger(a.second, b.second)",
    ),
    "one radius of two is forgotten": (run_twins, "best.second > T(2) * radius", "best.second > radius"),
    "the radius of halves is forgotten": (run_screen_near_ties, "best.second > T(2) * radius", "best.second > T(0)"),
    "undecided rows keep a limit": (run_screen_near_ties, ": NOT_A_NUMBER;", ": INFINITE;"),
    "the radius of float64 is forgotten": (
        run_screen_near_ties,
        "second - best > fma(centers.radius, second + best, centers.underflow)",
        "second > best",
    ),
    "where rows come from is lost": (run_skips, "moves.old[place] = old;", "moves.old[place] = label;"),
    "limits are reached before they are": (run_skips, "drift_so_far[label] < limits", "drift_so_far[label] <= limits"),
    "rows without a label are skipped": (run_unlabelled, "label >= 0 && ", ""),
    "dead centers are candidates": (run_dead, "if (half_squares[center] == ", "if (1.0f == "),
    "scores that are no numbers are trusted": (run_fast, "!exact && radius < T(INFINITE)", "!exact"),
    "what is not a number is certain": (
        run_not_numbers,
        "return best.first - best.second > T(2) * radius",
        "return !(best.first - best.second <= T(2) * radius)",
    ),
}

test_planted_faults_are_caught, test_planted_faults_are_really_planted = fault_tests(FAULTS)
