"""The screens of many centers: what they certify is true, what they leave open holds the true nearest center."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import gpukmeans
from gpukmeans.arrays.on_device import ROW_DTYPES, dtype_name
from gpukmeans.backends.cuda import screen_tiles
from gpukmeans.backends.cuda.backend import CupyBackend
from gpukmeans.backends.cuda.control import Control
from gpukmeans.backends.cuda.device import nvrtc
from tests.emulator import KINDS_OF_TENSOR_CORES, EmulatorDevice, EmulatorError
from tests.emulator.testing import skip_without_compiler
from tests.support.assertions import assert_labels, assert_same
from tests.support.launches.common import IN_ORDER, ORDERS, watched
from tests.support.launches.faults import some_weekly
from tests.support.launches.many import Screen, problem, values_of
from tests.support.launches.many_checks import RESIDENT, STREAMED, check_candidates, check_screen

SHAPES = [(70, 65, 1), (40, 100, 33), (67, 129, 64), (33, 257, 200), (20, 100, 784)]

EVERY_DTYPE = pytest.mark.parametrize("dtype", ROW_DTYPES, ids=dtype_name)

SMALL_TILES = pytest.mark.parametrize("tile", [RESIDENT, STREAMED], ids=["resident", "streamed"])


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


@pytest.mark.one_in(8)
@EVERY_DTYPE
@SMALL_TILES
@pytest.mark.parametrize(("n", "k", "d"), SHAPES)
def test_what_is_certified_is_nearest_and_the_rest_has_candidates(dtype, tile, n, k, d):
    cores = KINDS_OF_TENSOR_CORES[(n + d + (tile is RESIDENT)) % 3]
    screen = problem(watched("random", n, tensor_cores=cores), n, k, d, dtype).upload()
    rows = np.random.default_rng(1).permutation(n)[: n - 3]
    screen.list_rows(rows)
    screen.screen(tile)
    certain, undecided = check_screen(screen, rows)
    assert len(certain) > n // 4 or d == 1  # on a line the centers of these clouds are too close
    screen.collect(STREAMED if tile is RESIDENT else None)
    check_candidates(screen)
    screen.resolve()
    open_rows = screen.get("open")[: screen.count(Control.N_OPEN)]
    known = np.setdiff1d(rows, open_rows)
    assert_labels(screen.get("labels"), values_of(screen.X, dtype), screen.C, rows=known, screen=screen.scores)
    assert set(open_rows) <= set(undecided)
    screen.check_moves(known)


def tiles_in_use():
    """All of bytes and float32 read in vectors, and of each other way to read rows another one; the rest weekly."""
    for i, (dtype, vector) in enumerate(itertools.product(ROW_DTYPES, (True, False))):
        found = {screen_tiles.streamed_tile(dtype, vector), *screen_tiles._resident_tiles(vector)}
        for j, tile in enumerate(sorted(found, key=str)):
            often = (vector and dtype_name(dtype) in ("uint8", "float32")) or j == i % len(found)
            yield pytest.param(
                dtype,
                vector,
                tile,
                id=f"{dtype_name(dtype)}-{vector}-{tile.BM}x{tile.BN}-{tile.PANEL_STEPS}",
                marks=() if often else pytest.mark.weekly,
            )


@pytest.mark.one_in(3)
@pytest.mark.parametrize(("dtype", "vector", "tile"), list(tiles_in_use()))
def test_every_tile_of_the_backend_finds_the_two_best(dtype, vector, tile):
    n, k, d = tile.BM + 9, 2 * tile.BN + 21, 48 if vector else 35
    screen = problem(watched(), n, k, d, dtype, seed=3).upload(n_groups=tile.n_groups)
    assert screen.vector == vector
    screen.list_rows(np.arange(n)[::-1])
    screen.screen(tile)
    _, undecided = check_screen(screen, np.arange(n))
    assert len(undecided) > 2
    screen.collect()
    assert check_candidates(screen) > 1


@IN_ORDER
@SMALL_TILES
def test_any_order_of_threads_finds_the_same(order, seed, tile):
    screen = problem(watched(order, seed), 90, 129, 20, np.dtype(np.float32)).upload()
    screen.list_rows(np.arange(90))
    screen.screen(tile)
    check_screen(screen, np.arange(90))
    screen.collect()
    assert check_candidates(screen) > 3


@pytest.mark.parametrize("grid", [1, 2, 5, 7, 11, 40])
@SMALL_TILES
def test_any_number_of_blocks_does(grid, tile):
    screen = problem(watched(), 150, 80, 9, np.dtype(np.float64)).upload()
    screen.list_rows(np.arange(150))
    screen.screen(tile, grid=grid)
    check_screen(screen, np.arange(150))
    screen.collect(grid=grid)
    assert check_candidates(screen) > 3


@SMALL_TILES
def test_dead_centers_never_win_and_equal_ones_never_certify(tile):
    C = np.random.default_rng(0).integers(-9, 10, (70, 12)).astype(np.float32)
    C[69], C[3] = C[5], C[66]
    X = np.concatenate([C, C + np.float32(0.25)])
    half = Screen(watched(), X.dtype, X, C, dead=(69,)).upload()
    half.list_rows(np.arange(140))
    half.screen(tile)
    _, undecided = check_screen(half, np.arange(140))
    assert 69 not in half.get("labels")[np.setdiff1d(np.arange(140), undecided)]
    equal_pair = {row for row in range(140) if row % 70 in (3, 66)}
    assert equal_pair <= set(undecided)  # no radius is zero
    assert 5 not in undecided


@SMALL_TILES
def test_equal_scores_go_to_the_lowest_center(tile):
    """With precision="fast" the screen's word counts, and it is the same in any order of threads."""
    C = np.repeat(np.arange(40.0), 3)[:, None].astype(np.float32)[np.random.default_rng(1).permutation(120)]
    X = np.arange(40, dtype=np.float32)[:, None]
    for order, seed in ORDERS:
        screen = Screen(watched(order, seed), X.dtype, X, C).upload()
        screen.list_rows(np.arange(40))
        screen.screen(tile, exact=False)
        assert_labels(screen.get("labels"), X, C, screen=screen.scores)
        assert screen.count(Control.N_UNCERTAIN) == 40
        assert screen.count(Control.N_UNDECIDED) == 0
        assert np.isnan(screen.get("uppers")).all()
        screen.check_moves(np.arange(40))


@pytest.mark.parametrize("radius", [np.inf, np.nan])
@SMALL_TILES
def test_a_radius_that_is_no_number_certifies_nothing(tile, radius):
    screen = problem(watched(), 40, 70, 5, np.dtype(np.float32))
    screen.facts[:] = radius
    screen.upload()
    screen.list_rows(np.arange(40))
    screen.screen(tile, exact=False)
    assert sorted(screen.undecided()) == list(range(40))
    screen.collect()
    assert [screen.candidates_of(place) for place in range(40)] == [None] * 40
    screen.resolve()
    assert screen.count(Control.N_OPEN) == 0
    assert_labels(screen.get("labels"), screen.X, screen.C, screen=screen.scores)


def test_rows_with_many_candidates_are_compared_with_all():
    screen = problem(watched(), 60, 90, 4, np.dtype(np.float32), largest_radius=250.0).upload(slots=60)
    screen.list_rows(np.arange(60))
    screen.screen(RESIDENT)
    screen.collect()
    few = check_candidates(screen)
    assert 0 < few < screen.count(Control.N_UNDECIDED)
    screen.resolve()
    assert screen.count(Control.N_OPEN) == 0
    assert_labels(screen.get("labels"), screen.X, screen.C, screen=screen.scores)


def test_rows_that_float64_does_not_decide_are_the_hosts():
    C = np.repeat(np.arange(35.0), 2)[:, None].astype(np.float32)
    X = np.arange(35, dtype=np.float32)[:, None]
    screen = Screen(watched(), X.dtype, X, C).upload()
    screen.list_rows(np.arange(35))
    screen.screen(RESIDENT)
    screen.collect()
    screen.resolve()
    assert sorted(screen.get("open")[: screen.count(Control.N_OPEN)]) == list(range(35))
    assert np.array_equal(screen.get("labels"), screen.old)
    screen.device.write(screen.on["facts"], np.array([*screen.facts[:3], 1], np.float32))  # distances carry no error
    screen.set_count(Control.N_OPEN, 0)
    screen.resolve()
    assert screen.count(Control.N_OPEN) == 0
    assert np.array_equal(screen.get("labels"), 2 * np.arange(35))


def test_nothing_is_done_after_a_stop_or_without_rows():
    screen = problem(watched(), 40, 70, 5, np.dtype(np.float32)).upload()
    for stop in (0, 1):
        screen.set_count(Control.STOP, stop)
        if stop:
            screen.list_rows(np.arange(40))
            screen.skip()
        screen.screen(RESIDENT)
        screen.collect()
        screen.resolve()
        assert np.array_equal(screen.get("labels"), screen.old)
        assert [screen.count(word) for word in (Control.N_SKIPPED, Control.N_UNDECIDED, Control.N_MOVED)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("dtype", "n", "k", "d"), [(np.uint8, 900, 70, 48), (np.float32, 700, 150, 9), (np.float64, 500, 65, 33)]
)
def test_whole_fits_end_in_the_bits_of_the_numpy_backend(dtype, n, k, d):
    rng = np.random.default_rng(d)
    X = rng.integers(0, 256, (n, d)).astype(dtype) if dtype == np.uint8 else rng.standard_normal((n, d)).astype(dtype)
    init = X[rng.choice(n, k, replace=False)]
    init[1] = init[0]  # equal centers, and an empty cluster after the first iteration
    want = gpukmeans.fit(X, k, init=init, n_init=1, max_iter=8, backend="numpy")
    got = gpukmeans.fit(X, k, init=init, n_init=1, max_iter=8, backend=CupyBackend(EmulatorDevice()))
    assert_same(got, want)


# ---- the checks can fail ------------------------------------------------------------------------------------------


FLOAT32 = np.dtype(np.float32)


def run_all(device, tile=RESIDENT, dtype=FLOAT32):
    n = 150
    screen = problem(device, n, 130, 70, dtype, seed=2).upload()
    screen.list_rows(np.arange(n))
    screen.screen(tile, grid=2)
    check_screen(screen, np.arange(n))
    screen.collect(STREAMED, grid=1)
    assert check_candidates(screen) > 3
    screen.resolve()
    known = np.setdiff1d(np.arange(n), screen.get("open")[: screen.count(Control.N_OPEN)])
    assert len(known) > 90
    assert_labels(screen.get("labels"), values_of(screen.X, dtype), screen.C, rows=known, screen=screen.scores)


def run_streamed(device):
    run_all(device, STREAMED)


def run_parts(device):
    screen = problem(device, 60, 130, 70, FLOAT32, seed=2).upload()
    screen.list_rows(np.arange(60))
    screen.screen(RESIDENT, grid=7)
    check_screen(screen, np.arange(60))
    screen.collect(STREAMED, grid=9)
    assert check_candidates(screen) > 3


def run_uint8(device):
    run_all(device, RESIDENT, np.dtype(np.uint8))


def run_equal(device):
    C = np.repeat(np.arange(40.0), 3)[:, None].astype(np.float32)[::-1].copy()
    screen = Screen(device, C.dtype, C[::3].copy(), C).upload()
    screen.list_rows(np.arange(40))
    screen.screen(RESIDENT)
    assert screen.count(Control.N_UNDECIDED) == 40


FAULTS = {
    "a part's second best is lost": (
        run_parts,
        "max(own_second, unsigned(min(before, own_first) >> 32))",
        "own_second",
    ),
    "a block finishes before others have put theirs": (run_parts, "< n_parts - 1)) break;", "< 0)) break;"),
    "parts are not cleared": (run_parts, "atomicExch(parts.seconds + row0 + i, 0u)", "parts.seconds[row0 + i]"),
    "a chunk is read before it has landed": (run_all, "await_copies<STAGES - 2>();", ""),
    "a chunk is read before others have copied": (run_all, "__syncthreads();  // the chunk is complete", "//"),
    "a stage is overwritten in use": (run_all, "(ring.stage + STAGES - 1) % STAGES", "ring.stage"),
    "rows are read before they are listed": (run_all, "__syncthreads();  // the rows are listed", ""),
    "rows finish early": (run_all, "__syncthreads();  // every warp has put in its best", ""),
    "thresholds change in use": (run_all, "__syncthreads();  // every warp is done with the rows", ""),
    "a panel lands in the one in use": (run_streamed, "buffer ^= 1;", ""),
    "a panel is left out": (run_streamed, "panel + 1 < n_panels ? panel + 1 : 0", "0"),
    "the ring does not wrap": (run_all, "if (++ring.tile == of.end) ring.tile = of.first;", "++ring.tile;"),
    "a warp takes its neighbour's centers": (run_all, "+ warp_n * (CHUNK * WARP);", ";"),
    "rows 8 to 15 are those before": (
        run_all,
        "(halves[0], halves8[0], halves[1], halves8[1])",
        "(halves[0], halves[0], halves[1], halves[1])",
    ),
    "a row's halves change places with another's": (
        run_all,
        "(halves[0], halves8[0], halves[1], halves8[1])",
        "(halves[0], halves[1], halves8[0], halves8[1])",
    ),
    "a run's second step is its first": (run_uint8, "to_halves(pair.row_g, s,", "to_halves(pair.row_g, 0,"),
    "displaced values are lost": (run_all, "unsigned(min(before, key) >> 32)", "unsigned(key >> 32)"),
    "a second best is not put in": (run_all, "lane % 4 < 2 && value >= bar", "lane % 4 < 1 && value >= bar"),
    "a group's bound is that of its last centers": (run_all, "fmaxf(largest[m][h][g], of_group)", "of_group"),
    "a group's bound is that of its own winner": (
        run_all,
        "== best.first ? best.second :",
        "== best.first ? best.first :",
    ),
    "the winner leaves its group without a bound": (
        run_all,
        "== best.first ? best.second :",
        "== best.first ? -INFINITE :",
    ),
    "a lane bounds the group beside its own": (run_all, ") * 4 + lane % 4;", ") * 4 + (lane + 1) % 4;"),
    "a lane's two groups are one": (run_all, "(g * WARPS_N + int(threadIdx.x)", "(0 * WARPS_N + int(threadIdx.x)"),
    "bounds are added to the drift of another group": (run_all, "drift_so_far[k + group]", "drift_so_far[k]"),
    "bounds lie on the wrong side of the radius": (run_all, "square) - slack, 0.0f", "square) + slack, 0.0f"),
    "upper bounds do not know the drift": (run_all, "norm, drift_so_far[label]) : NOT", "norm, 0.0f) : NOT"),
    "bests are cleared in use": (run_all, "__syncthreads();  // the bests have been read", ""),
    "equal scores are no second": (
        run_equal,
        "min(before, key) >> 32",
        "(before >> 32 == key >> 32 ? 0 : before) >> 32",
    ),
    "an old bar is taken for a best": (
        run_all,
        "__any_sync(EVERY_LANE, most >= bar)",
        "__any_sync(EVERY_LANE, most > bar + 1e30f)",
    ),
    "candidates lie above the best": (run_all, "__fmaf_rd(-2.0f, radius,", "__fmaf_rd(-0.5f, radius,"),
    "parts of the centers overlap": (run_parts, "n_tiles * part / n_parts", "n_tiles * 0 / n_parts"),
    "candidates are not put in order": (run_all, "own[rank] = candidate;", "own[0] = candidate;"),
    "every row may be certain": (
        run_all,
        "certain = is_certain(best, radius);",
        "certain = is_certain(best, 0.25f * radius);",
    ),
}


@pytest.mark.parametrize("name", some_weekly(FAULTS))
def test_planted_faults_are_caught(name):
    run, good, bad = FAULTS[name]
    caught = 0
    for order, seed in ORDERS:
        try:
            run(watched(order, seed, [(good, bad)]))
        except (EmulatorError, AssertionError, IndexError):
            caught += 1
    assert caught


@pytest.mark.parametrize("run", [run_all, run_streamed, run_parts, run_uint8, run_equal])
def test_nothing_is_caught_without_a_fault(run):
    for order, seed in ORDERS:
        run(watched(order, seed))


def test_planted_faults_are_really_planted():
    texts = [nvrtc.source(file, {}) for file in ("nearest_of_many", "candidates", "resolve")]
    for _, good, _ in FAULTS.values():
        assert any(good in text for text in texts), good
