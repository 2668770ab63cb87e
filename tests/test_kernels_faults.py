"""The kernel tests can fail: faults planted in the sources are caught, by the detector or by an oracle."""

from __future__ import annotations

import numpy as np
import pytest

from gpukmeans.backends import nvrtc
from gpukmeans.datasets import near_ties
from gpukmeans.exact_sums import Grid, cluster_means
from tests.emulator import EmulatorError
from tests.emulator.testing import skip_without_compiler
from tests.kernel_launches import (
    ORDERS,
    certified,
    finish,
    move,
    moves,
    plain_square_distance,
    rational_sums,
    relabel,
    rows_and_centers,
    screen,
    watched,
)
from tests.oracles import nearest


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


def run_screen(device):
    X, C = rows_and_centers(70, 20, 37, np.float32)
    labels, open_rows = screen(device, X, C)
    sure = certified(70, open_rows)
    assert np.array_equal(labels[sure], nearest(X[sure], C))
    assert len(open_rows) < 10


def run_screen_on_near_ties(device):
    X, C = near_ties(120, 16, 5, seed=1)
    labels, open_rows = screen(device, X, C)
    sure = certified(120, open_rows)
    assert np.array_equal(labels[sure], nearest(X[sure], C))


def run_move(device):
    X, _ = rows_and_centers(300, 3, 5, np.float64)
    old, new = moves(300, 3)
    grid = Grid.for_rows(X)
    got = move(device, X, None, old, new, 3, grid)
    assert np.array_equal(got, rational_sums(X, None, old, new, 3, grid))


def run_relabel(device):
    old, new = moves(600, 5)
    _, sums, n_moved = relabel(device, None, old, new, 5, Grid(np.ones(1), 36, 1))
    assert sums.sum() == (old < 0).sum()
    assert n_moved == (old != new).sum()


def run_finish(device):
    X, C = rows_and_centers(60, 30, 100, np.float64)
    sums, grid, centers, weights, shifts = finish(device, X, None, np.arange(60) % 30, 30, C)
    assert np.array_equal(centers, cluster_means(sums, weights, grid, C.dtype))
    assert shifts.tolist() == [plain_square_distance(a, b) for a, b in zip(centers, C, strict=True)]


#: What is broken: who notices, the good text, the bad text.
FAULTS = {
    "screen reads tiles before they are complete": (run_screen, "__syncthreads();  // the tiles are complete", ""),
    "screen overwrites tiles in use": (run_screen, "__syncthreads();  // everyone is done with the tiles", ""),
    "screen forgets the ends of rows": (run_screen, "left > 1 ? p[1] : T(0)", "p[1]"),
    "screen labels a row too many": (run_screen, "tx == 0 && row < n", "tx == 0 && row <= n"),
    "screen loses the second best": (run_screen_on_near_ties, "second[i] = best[i];\n", ""),
    "lanes do not compare their second best": (
        run_screen_on_near_ties,
        "fminf(fmaxf(best[i], their_best), ",
        "fminf(second[i], ",
    ),
    "move reads its list too early": (run_move, "__syncthreads();  // the list is complete", ""),
    "move clears a list in use": (run_move, "__syncthreads();  // the list has been read", ""),
    "move drops the second limb": (run_move, "LIMBS == 2 ? second_limb(scaled, limb_size) : 0", "0"),
    "move forgets where rows come from": (run_move, "if (moved_from[e] >= 0) add(", "if (false) add("),
    "limbs are truncated": (run_move, "return (long long)rint(scaled);", "return (long long)scaled;"),
    "relabel adds to sums that are not cleared yet": (run_relabel, "__syncthreads();  // all are cleared", ""),
    "relabel flushes too early": (run_relabel, "__syncthreads();  // all have added", ""),
    "finish ignores the second limb": (run_finish, "if (two) low", "if (false) low"),
    "finish does not correct its quotient": (
        run_finish,
        "quotient = __dadd_rn(quotient, ",
        "quotient = (quotient + 0 * ",
    ),
    "finish adds lanes in another order": (
        run_finish,
        "half = WARP / 2; half > 0; half /= 2)\n    lane_sum",
        "half = 1; half < WARP; half *= 2)\n    lane_sum",
    ),
    "squares are fused with their sum": (
        run_finish,
        "__dadd_rn(shift, square_difference(widen(center), widen(previous[at])))",
        "fma(widen(center) - widen(previous[at]), widen(center) - widen(C[at]), shift)",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults_are_caught(name):
    run, good, bad = FAULTS[name]
    run(watched())
    caught = 0
    for order, seed in ORDERS:
        try:
            run(watched(order, seed, [(good, bad)]))
        except (EmulatorError, AssertionError):
            caught += 1
    assert caught


def test_planted_faults_are_really_planted():
    texts = [nvrtc.source(file, {}) for file in {file for file, _ in nvrtc.variants()}]
    for _, good, _ in FAULTS.values():
        assert any(good in text for text in texts), good
