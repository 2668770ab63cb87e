"""Float64 sums and squared distances follow one fixed order of addition."""

from __future__ import annotations

import numpy as np
import pytest

from gpukmeans.exact.warp_order import center_shift_square, farthest_rows, row_square_distances, warp_order_sum

rng = np.random.default_rng(20)


def scalar_warp_order(row):
    """32 lanes, each adding its columns from the left; then halves onto halves: written out one float at a time."""
    lanes = [0.0] * 32
    for column, term in enumerate(row):
        lanes[column % 32] += term
    for half in (16, 8, 4, 2, 1):
        for lane in range(half):
            lanes[lane] += lanes[lane + half]
    return lanes[0]


@pytest.mark.parametrize("d", [1, 2, 31, 32, 33, 63, 64, 65, 100, 784])
def test_warp_order(d):
    terms = np.ldexp(rng.random((25, d)), rng.integers(-30, 1, (25, d)))
    assert warp_order_sum(terms).tolist() == [scalar_warp_order(row) for row in terms.tolist()]


def test_warp_order_is_not_another_order():
    terms = rng.random((200, 100))
    assert (warp_order_sum(terms) != terms.cumsum(axis=1)[:, -1]).any()
    assert (warp_order_sum(terms) != warp_order_sum(np.ascontiguousarray(terms[:, ::-1]))).any()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_row_square_distances_are_float64_in_warp_order(dtype):
    X = (100 * rng.random((30, 70))).astype(dtype)
    C = 100 * rng.random((30, 70))
    want = [scalar_warp_order([(x - c) * (x - c) for x, c in zip(*pair, strict=True)])
            for pair in zip(X.astype(np.float64).tolist(), C.tolist(), strict=True)]  # fmt: skip
    assert row_square_distances(X, slice(None), C).tolist() == want
    index = np.array([7, 3])
    assert row_square_distances(X, index, C[index]).tolist() == [want[7], want[3]]
    one = row_square_distances(X, slice(0, 4), C[2])
    assert one[2] == want[2]
    assert X.dtype == dtype


def test_center_shift_square_differences_are_taken_in_float64():
    old = np.full((2, 40), 1.0, np.float32)
    new = np.nextafter(old, np.float32(2))
    assert center_shift_square(new, old).tolist() == [40 * 2.0**-46] * 2


def test_farthest_rows_are_sorted_and_ties_go_to_the_lowest_index():
    distances = rng.integers(0, 6, 300).astype(float)
    for count in (1, 5, 299, 300):
        want = sorted(range(300), key=lambda i: (-distances[i], i))[:count]
        assert farthest_rows(distances, count).tolist() == want
