"""kernels/move_sums.cu against sums of rational limbs; every memory access is watched."""

from __future__ import annotations

import numpy as np
import pytest

from gpukmeans.exact.sums import Grid, weight_grid
from tests.emulator.testing import skip_without_compiler
from tests.support.launches.common import IN_ORDER, ROW_DTYPES, move, moves, rational_sums, rows_and_centers, watched
from tests.support.launches.faults import fault_tests, own_test


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


def weights_of(n, *, limbs=2):
    """Weights whose grid has two limbs, or one; some are zero."""
    local = np.random.default_rng(11)
    return local.uniform(0.1, 3, n) * (np.arange(n) % 5 != 4) if limbs == 2 else local.integers(0, 9, n) / 4.0


def check(device, X, weight, old, new, k, **how):
    grid, on_weights = Grid.for_rows(X, weight), weight_grid(len(X), weight)
    sums, weight_sums = move(device, X, weight, old, new, k, grid, on_weights, **how)
    ones = np.ones((len(X), 1)) if weight is None else weight[:, None]
    assert np.array_equal(sums, rational_sums(X, weight, old, new, k, grid))
    assert np.array_equal(weight_sums, rational_sums(ones, None, old, new, k, on_weights)[:, :, 0])
    return sums, weight_sums


@pytest.mark.one_in(3)
@ROW_DTYPES
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("n", "k", "d"), [(1, 1, 1), (130, 3, 5), (33, 7, 150), (40, 40, 16), (9, 2, 1100)])
def test_sums_follow_the_rows_exactly(n, k, d, weighted, dtype):
    """One row to a cluster and many; groups of threads that share the rows; two blocks of columns."""
    X, _ = rows_and_centers(n, k, d, dtype)
    old, new = moves(n, k)
    check(watched("random", 5), X, weights_of(n) if weighted else None, old, new, k)


@ROW_DTYPES
def test_several_chunks_of_several_blocks(dtype):
    """1400 rows in two blocks: three chunks each, the last ragged."""
    X, _ = rows_and_centers(1400, 1, 2, dtype)
    old, new = moves(1400, 3)
    assert (old != new).sum() > 4 * 256
    check(watched("random", 1), X, None, old, new, 3, blocks=2)
    check(watched(), X, weights_of(1400), old, new, 3, blocks=1)


@ROW_DTYPES
@pytest.mark.parametrize("vector", [False, True])
@pytest.mark.parametrize("width", [1, 4, 32, 256])
def test_no_shape_changes_a_sum(width, vector, dtype):
    X, _ = rows_and_centers(60, 1, 12, dtype)
    old, new = moves(60, 4)
    check(watched("random", 2), X, None, old, new, 4, vector=vector, width=width)


@IN_ORDER
@pytest.mark.parametrize("blocks", [1, 7])
def test_no_order_changes_a_sum(order, seed, blocks):
    """Every row enters one cluster: all atomics meet."""
    X, _ = rows_and_centers(300, 1, 6, np.float64)
    assert Grid.for_rows(X).n_limbs == 2
    old, new = np.full(300, -1, np.int32), np.zeros(300, np.int32)
    check(watched(order, seed), X, None, old, new, 1, blocks=blocks)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("limbs", [1, 2])
def test_weights_of_one_limb_and_of_two(limbs, dtype):
    """Rows and weights share the kernel's number of limbs, not their grids'."""
    X, _ = rows_and_centers(70, 1, 5, dtype)
    weight = weights_of(70, limbs=limbs)
    assert weight_grid(70, weight).n_limbs == limbs
    old, new = moves(70, 3)
    check(watched(), X, weight, old, new, 3)


def test_bytes_are_their_own_limbs():
    """Taken as they are or put on the grid, the sums are the same; the largest bytes do not overflow."""
    X = np.full((600, 6), 255, np.uint8)
    old, new = np.full(600, -1, np.int32), np.zeros(600, np.int32)
    old[:300] = 1
    results = [check(watched(), X, None, old, new, 2, own=own, blocks=1) for own in (True, False)]
    for own, on_grid in zip(*results, strict=True):
        assert np.array_equal(own, on_grid)


def test_what_cancels_leaves_zero_and_what_returns_leaves_nothing_behind():
    X, _ = rows_and_centers(200, 1, 7, np.float64)
    X[100:] = -X[:100]
    sums, _ = check(watched(), X, None, np.full(200, -1, np.int32), np.zeros(200, np.int32), 2)
    assert not sums.any()
    X, _ = rows_and_centers(100, 1, 3, np.float32)
    first, second = moves(100, 4)
    first = np.maximum(first, 0)
    there, _ = check(watched(), X, None, first, second, 4)
    back, _ = check(watched(), X, None, second, first, 4)
    assert np.array_equal(there, -back)


@pytest.mark.parametrize("words", [{"N_MOVED": 0}, {"STOP": 3}, {"N_OPEN": 1}])
def test_nothing_is_touched_without_moved_rows_or_when_stopped(words):
    X, _ = rows_and_centers(40, 1, 5, np.float32)
    old, new = moves(40, 3)
    grid = Grid.for_rows(X)
    assert rational_sums(X, None, old, new, 3, grid).any()
    sums, weight_sums = move(watched(), X, None, old, new, 3, grid, weight_grid(40, None), **words)
    assert not sums.any()
    assert not weight_sums.any()


def test_only_listed_rows_are_looked_at():
    """Rows beyond N_MOVED are left alone, whatever stands in the lists."""
    X, _ = rows_and_centers(40, 1, 5, np.float32)
    old, new = np.full(40, -1, np.int32), np.zeros(40, np.int32)
    grid = Grid.for_rows(X)
    sums, weight_sums = move(watched(), X, None, old, new, 1, grid, weight_grid(40, None), N_MOVED=17)
    some = np.random.default_rng(9).permutation(40)[:17]  # as `move` lists them
    want = rational_sums(X[some], None, old[some], new[some], 1, grid)
    assert np.array_equal(sums, want)
    assert weight_sums.tolist() == [[17]]


# ---- the tests can fail ----------------------------------------------------------------------------------------------


def run_move(device):
    X, _ = rows_and_centers(700, 1, 5, np.float64)
    old, new = moves(700, 3)
    check(device, X, None, old, new, 3, blocks=1)


def run_few_columns(device):
    X, _ = rows_and_centers(60, 1, 2, np.float32)
    old, new = moves(60, 3)
    check(device, X, None, old, new, 3, blocks=1)


run_idle = own_test(globals(), "test_nothing_is_touched_without_moved_rows_or_when_stopped", {"N_OPEN": 1})

#: A fault: the runner that fails on it, the good text, the bad text.
FAULTS = {
    "limbs are truncated": (run_move, "return (long long)rint(scaled);", "return (long long)scaled;"),
    "entries are sorted too early": (run_move, "__syncthreads();  // the entries are complete", ""),
    "entries are exchanged too early": (run_move, "__syncthreads();  // this exchange is complete", ""),
    "entries in use are replaced": (run_move, "__syncthreads();  // the entries have been read", ""),
    "the second limb is lost": (run_move, "if (LIMBS == 2 && sum1[c])", "if (false)"),
    "rows do not leave": (run_move, "if (from >= 0) out =", "if (from > 99) out ="),
    "the last cluster is not flushed": (
        run_move,
        "      flush();\n    }\n    __syncthreads()",
        "    }\n    __syncthreads()",
    ),
    "groups share a row": (
        run_few_columns,
        "n_entries * (group + 1) / groups)",
        "n_entries * (group + 1) / groups) + 1",
    ),
    "rows move while some are open": (
        run_idle,
        "if (control[STOP] || control[N_OPEN]) return;",
        "if (control[STOP]) return;",
    ),
}

test_planted_faults_are_caught, test_planted_faults_are_really_planted = fault_tests(FAULTS)
