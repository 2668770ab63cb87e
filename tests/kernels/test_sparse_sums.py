"""kernels/sparse_move_sums.cu and sparse_row_distance.cu against rational arithmetic; all memory is watched."""

from __future__ import annotations

import numpy as np
import pytest

from gpukmeans.exact.sums import Grid, weight_grid
from tests.emulator.testing import skip_without_compiler
from tests.support.launches.common import (
    IN_ORDER,
    ORDERS,
    moves,
    plain_square_distance,
    rational_sums,
    watched,
)
from tests.support.launches.faults import fault_tests
from tests.support.launches.sparse import (
    lookup,
    move,
    row_distance,
    rows_of,
    weights_of,
)

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda t: t.__name__)


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


# ---- sums ---------------------------------------------------------------------------------------------------------


def check_sums(device, X, weight, old, new, k, **words):
    grid = Grid.for_rows(X.toarray(), weight)
    ones = np.ones((len(new), 1)) if weight is None else weight[:, None]
    on_weights = weight_grid(len(new), weight)
    sums, weight_sums = move(device, X, weight, old, new, k, grid, on_weights, **words)
    assert np.array_equal(sums, rational_sums(X.toarray(), weight, old, new, k, grid))
    assert np.array_equal(weight_sums, rational_sums(ones, None, old, new, k, on_weights)[:, :, 0])


@pytest.mark.one_in(2)
@DTYPES
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("n", "k", "d", "density"), [(1, 1, 1, 1.0), (70, 3, 90, 0.3), (40, 9, 5, 0.5)])
def test_sums_follow_the_rows(n, k, d, density, weighted, dtype):
    X, weight = rows_of(n, d, density, dtype), weights_of(n) if weighted else None
    for (order, seed), (old, new) in zip(ORDERS, (moves(n, k, s) for s in range(3)), strict=True):
        check_sums(watched(order, seed), X, weight, old, new, k)


def test_whole_numbers_have_one_limb():
    X, (old, new) = rows_of(50, 20, 0.3, whole=True), moves(50, 4)
    assert Grid.for_rows(X.toarray()).n_limbs == 1
    check_sums(watched(), X, None, old, new, 4)


@pytest.mark.parametrize("words", [{"STOP": 1}, {"N_OPEN": 3}, {"N_MOVED": 0}])
def test_no_sum_is_touched_when_stopped_or_when_rows_are_left_open(words):
    X, (old, new) = rows_of(30, 20, 0.3), moves(30, 3)
    sums, weights = move(watched(), X, None, old, new, 3, Grid.for_rows(X.toarray()), weight_grid(30, None), **words)
    assert not sums.any()
    assert not weights.any()


# ---- distances -----------------------------------------------------------------------------------------------------


@DTYPES
@IN_ORDER
@pytest.mark.parametrize(("n", "d", "density"), [(1, 1, 1.0), (30, 511, 0.2), (20, 1100, 0.01), (9, 513, 0.9)])
def test_distances_have_the_bits_of_the_warp_order(n, d, density, order, seed, dtype):
    """More columns than a tile, tiles without an entry and full ones, rows without an entry."""
    X = rows_of(n, d, density, dtype)
    C = np.random.default_rng(1).standard_normal((3, d)).astype(dtype)
    labels, weight = (np.arange(n) % 3).astype(np.int32), weights_of(n) + 0.5
    for given in (None, weight):
        distances, largest = row_distance(watched(order, seed), X, C, labels, given)
        pairs = zip(np.float64(X.toarray()), np.float64(C)[labels], strict=True)
        want = np.array([plain_square_distance(x, c) for x, c in pairs]) * (1.0 if given is None else given)
        assert np.array_equal(distances, want)
        assert largest == want.max()


@DTYPES
def test_rows_are_laid_side_by_side(dtype):
    X = rows_of(40, 70, 0.6, dtype)
    table = lookup(watched(), X, [5, 0, 39, 5, 3], 8)
    assert np.array_equal(table[:, :5], X.toarray()[[5, 0, 39, 5, 3]].T)
    assert not table[:, 5:].any()


# ---- the checks can fail ---------------------------------------------------------------------------------------------


def many_moves(device):
    check_sums(device, rows_of(70, 9, 0.5), weights_of(70), *moves(70, 3), 3)


def long_distances(device):
    X = rows_of(9, 1100, 0.3)
    C, labels = np.random.default_rng(1).standard_normal((3, 1100)), (np.arange(9) % 3).astype(np.int32)
    want = [plain_square_distance(x, c) for x, c in zip(X.toarray(), C[labels], strict=True)]
    assert row_distance(device, X, C, labels)[0].tolist() == want


#: A fault: the runner that fails on it, the good text, the bad text.
FAULTS = {
    "rows leave no cluster": (many_moves, "if (from >= 0) atomic_add(sums + from, -limb);", ""),
    "the second limb goes with the first": (
        many_moves,
        "move_limb(sums.sums + (long long)sums.k * d, in, out, second",
        "move_limb(sums.sums, in, out, second",
    ),
    "weights are forgotten": (many_moves, "weight = weights[i];", ""),
    "a tile is not emptied": (
        long_distances,
        "e < last; e += WARP) tile[indices[e] - f0] = ROW{};",
        "e < last; e += WARP) {}",
    ),
    "a tile is read too early": (long_distances, "__syncwarp();  // the tile is filled", ""),
    "a tile is emptied too early": (long_distances, "__syncwarp();  // the tile has been read", ""),
    "entries of a full warp are lost": (long_distances, "more = lanes == EVERY_LANE;", "more = false;"),
    "columns in another order": (
        long_distances,
        "#define COLUMNS 512",
        "#define COLUMNS 256\n#define warp_order_sum(x) (x)",
    ),
}

test_planted_faults_are_caught, test_planted_faults_are_really_planted = fault_tests(FAULTS)
