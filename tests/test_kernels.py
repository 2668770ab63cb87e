"""The kernels of one assignment, each alone, against whole numbers; every memory access is watched."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gpukmeans.backends import tuning
from gpukmeans.datasets import exact_ties, near_ties
from tests.emulator import EmulatorDevice, EmulatorError
from tests.emulator.testing import skip_without_compiler
from tests.kernel_launches import (
    IN_ORDER,
    ROW_DTYPES,
    SHAPES,
    certified,
    resolved,
    row_facts,
    rows_and_centers,
    screen,
    watched,
)
from tests.oracles import nearest, square_distances


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


@ROW_DTYPES
def test_norms_are_tight_upper_bounds(dtype):
    X, _ = rows_and_centers(70, 1, 33, dtype)
    X[0] = 0
    X[1, 1:] = 0
    norms, *_ = row_facts(watched(), X)
    squares, unit = square_distances(X, np.zeros((1, 33)))
    for norm, square in zip(norms, squares[:, 0], strict=True):
        exact = int(square) * unit
        assert exact <= Fraction(float(norm)) ** 2 <= max(exact * (1 + Fraction(1, 2**18)), Fraction(1, 2**200))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_norms_hold_at_the_ends_of_the_range(dtype):
    largest = np.finfo(dtype).max if dtype == np.float32 else 2.0**480
    X = np.array([[largest, 0], [np.finfo(dtype).smallest_subnormal, 0], [-largest, largest]], dtype)
    norms, *_ = row_facts(watched(), X)
    assert norms[0] == np.inf or float(norms[0]) >= float(largest)
    assert float(norms[1]) >= float(X[1, 0])
    assert norms[2] == np.inf


@ROW_DTYPES
def test_whole_numbers_are_recognised(dtype):
    X = np.random.default_rng(0).integers(0, 200, (50, 7)).astype(dtype)
    X[17, 3] = 231
    assert row_facts(watched("random", 3), X)[1] == 231
    if dtype != np.uint8:
        X[17, 3] = -231
        assert row_facts(watched(), X)[1:] == (231, 231, 0)
        X[49, 6] = 0.5
        assert row_facts(watched(), X)[1:] == (np.inf, 231, 0)


# ---- nearest_center -------------------------------------------------------------------------------------------


@ROW_DTYPES
@pytest.mark.parametrize(("n", "k", "d"), SHAPES)
def test_certified_labels_are_the_true_ones(n, k, d, dtype):
    X, C = rows_and_centers(n, k, d, dtype)
    labels, open_rows = screen(watched(), X, C)
    sure = certified(n, open_rows)
    assert np.array_equal(labels[sure], nearest(X[sure], C))
    assert len(open_rows) <= max(1, n // 8)  # noise is easy


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("n", "k", "d"), [(130, 17, 33), (5, 65, 4)])
def test_no_order_of_threads_changes_a_label(n, k, d, seed):
    X, C = rows_and_centers(n, k, d, np.float32)
    forward, random = screen(watched(), X, C), screen(watched("random", seed), X, C)
    assert np.array_equal(forward[0], random[0])
    assert np.array_equal(forward[1], random[1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "k", "d"), [(200, 10, 33), (140, 40, 8)])
def test_near_ties_are_left_open_not_guessed(n, k, d, dtype):
    X, C = near_ties(n, k, d, seed=1, dtype=dtype)
    labels, open_rows = screen(watched(), X, C)
    sure = certified(n, open_rows)
    assert np.array_equal(labels[sure], nearest(X[sure], C))
    assert len(open_rows) > n // 2


def test_a_radius_too_small_is_caught():
    """The oracle can fail: without the radius the same rows get wrong labels."""
    X, C = near_ties(200, 10, 33, seed=1)
    labels, open_rows = screen(watched(), X, C, radius=(0.0, 0.0))
    sure = certified(200, open_rows)
    assert not np.array_equal(labels[sure], nearest(X[sure], C))


def test_exact_ties_are_left_open():
    X, C = exact_ties(60, 6, 9, seed=0)
    distances, _ = square_distances(X, C)
    tied = [i for i, row in enumerate(distances) if sorted(row)[0] == sorted(row)[1]]
    assert tied
    _, open_rows = screen(watched(), X, C)
    assert set(tied) <= set(open_rows.tolist())


@pytest.mark.parametrize("k", [2, 9, 70])
def test_dead_centers_never_compete(k):
    X, C = rows_and_centers(40, k, 6, np.float32)
    C[1:] = np.concatenate([C[:1], C[1:-1]])  # every center twice over
    dead = [j for j in range(k) if (C[:j] == C[j]).all(axis=1).any()]
    labels, open_rows = screen(watched(), X, C, dead=dead)
    want = nearest(X, C)
    sure = certified(40, open_rows)
    assert len(sure) > 20
    assert np.array_equal(labels[sure], want[sure])


def test_rows_beyond_the_norm_limit_are_left_open():
    X, C = rows_and_centers(130, 5, 4, np.float64)
    X[[3, 129]] *= 1e35  # |x|^2 has no place in float32
    labels, open_rows = screen(watched(), X, C)
    assert {3, 129} <= set(open_rows.tolist())
    assert ((labels >= 0) & (labels < 5)).all()


def test_certificates_hold_when_subnormals_are_flushed():
    """CuPy compiles with -ftz=true."""
    X, C = rows_and_centers(100, 7, 9, np.float32)
    X, C = X * np.float32(1e-20), C * np.float32(1e-20)  # products near 1e-40
    device = EmulatorDevice(mode="check", flush_subnormals=True)
    labels, open_rows = screen(device, X, C)
    sure = certified(100, open_rows)
    assert np.array_equal(labels[sure], nearest(X[sure], C))


def test_an_impossible_tile_fails_with_a_sentence():
    tile = tuning.ScreenTile(BM=130, BN=16, BK=16, TM=4, TN=4)
    X, C = rows_and_centers(3, 2, 4, np.float32)
    with pytest.raises(EmulatorError, match="a tile must divide into the threads' parts"):
        screen(watched(), X, C, tile=tile)


# ---- resolve --------------------------------------------------------------------------------------------------


@ROW_DTYPES
@pytest.mark.parametrize(("n", "k", "d"), SHAPES)
def test_float64_distances_decide(n, k, d, dtype):
    X, C = rows_and_centers(min(n, 40), k, d, dtype)
    labels, left = resolved(watched("random", 4), X, C)
    assert len(left) == 0
    assert np.array_equal(labels, nearest(X, C))


@IN_ORDER
def test_what_float64_cannot_separate_goes_to_the_host(order, seed):
    X, C = near_ties(60, 8, 17, seed=3, dtype=np.float64)
    labels, left = resolved(watched(order, seed), X, C)
    sure = certified(60, left)
    assert 0 < len(left) < 60
    assert (labels[left] == 77).all()
    assert np.array_equal(labels[sure], nearest(X[sure], C))


def test_a_float64_radius_too_small_is_caught():
    X, C = near_ties(200, 8, 17, seed=3, dtype=np.float64)
    labels, left = resolved(watched(), X, C, radius=(0.0, 0.0))
    sure = certified(200, left)
    assert not np.array_equal(labels[sure], nearest(X[sure], C))


def test_true_ties_of_whole_numbers_go_to_the_lowest_index():
    X, C = exact_ties(60, 6, 9, seed=0)
    labels, left = resolved(watched(), X, C.astype(tuning.center_dtype(X.dtype)), whole=True)
    assert len(left) == 0
    assert np.array_equal(labels, nearest(X, C))


def test_only_living_centers_are_candidates():
    X, C = rows_and_centers(20, 6, 5, np.float32)
    C[4] = C[1]
    labels, left = resolved(watched(), X, C, alive=np.array([0, 1, 2, 3, 5], np.int32))
    assert len(left) == 0
    assert np.array_equal(labels, nearest(X, C))
    labels, left = resolved(watched(), X, C, alive=np.array([2], np.int32))
    assert len(left) == 0
    assert (labels == 2).all()
