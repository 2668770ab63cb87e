"""Sums on a power-of-two grid keep every promised bit, in any order; float64 sums follow one fixed order."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gpukmeans.exact.sums import (
    LIMB_BITS,
    MIN_EXPONENT,
    Grid,
    cluster_means,
    exact_total,
    largest_magnitudes,
    power_of_two_above,
    smallest_magnitude,
    weight_grid,
    weighted_rows,
)
from gpukmeans.exact.warp_order import center_shift_square, farthest_rows, row_square_distances, warp_order_sum
from gpukmeans.threads import blocks
from tests.support.oracles import on_grid, summands

rng = np.random.default_rng(20)
U = Fraction(1, 2**53)

COLUMNS = {
    "ordinary": rng.standard_normal(40),
    "zero": np.zeros(40),
    "constant": np.full(40, 0.1),
    "whole numbers": rng.integers(-1000, 1000, 40).astype(float),
    "far from zero": 1e6 + rng.random(40),
    "float32 subnormal": (rng.integers(-9, 9, 40) * 2.0**-149),
    "float32 largest": np.full(40, float(np.finfo(np.float32).max)) * rng.choice([-1.0, 1.0], 40),
    "a tiny value beside a huge one": np.where(np.arange(40) == 7, 3e30, 1.2345e-9),
    "a single value": np.where(np.arange(40) == 3, 5e-324 * 2**60, 0.0),
    "largest allowed": 2.0**480 * rng.choice([-1.0, 1.0, 2.0**-70 / 3], 40),
    "power of two": np.full(40, 2.0**-30),
    "just below a power of two": np.full(40, np.nextafter(2.0**-30, 0)),
}


def sum_limbs(grid, values):
    return np.stack([limb.astype(np.int64) for limb in grid.limbs(values)])


def as_fractions(grid, limbs):
    """The rows that limbs stand for."""
    rows = np.empty(limbs.shape[1:], object)
    for index in np.ndindex(rows.shape):
        scale = Fraction(grid.scale[index[-1]])
        rows[index] = sum(Fraction(int(limbs[i][index])) / 2 ** (grid.bits * i) for i in range(grid.n_limbs)) / scale
    return rows


def test_blocks_cover_every_row_once():
    for n, columns in [(1, 1), (31, 10**7), (1000, 784), (70001, 3)]:
        covered = np.concatenate([np.arange(n)[part] for part in blocks(n, columns)])
        assert np.array_equal(covered, np.arange(n))


@pytest.mark.parametrize("value", [1.0, 0.75, 255.0, 256.0, 1e-30, 3e38, 2.0**480, np.nextafter(1.0, 0)])
def test_power_of_two_above_is_the_smallest(value):
    exponent = int(power_of_two_above(value))
    assert Fraction(2) ** (exponent - 1) <= Fraction(value) < Fraction(2) ** exponent


@pytest.mark.parametrize("value", [5e-324, 1e-300, 2.0**-902])
def test_power_of_two_above_has_a_floor(value):
    assert power_of_two_above(value) == MIN_EXPONENT


@pytest.mark.parametrize("n", [1, 2, 127, 2**17, 2**26 - 1, 2**26, 2**26 + 1, 2**31, 2**40])
def test_limbs_of_all_rows_add_up_below_2_to_the_62(n):
    bits = Grid.limb_bits(n)
    assert n * 2**bits < 2**62
    assert bits == LIMB_BITS or n * 2 ** (bits + 1) >= 2**61  # no more is given away than one bit
    assert bits >= 20


@pytest.mark.parametrize("n", [1, 2**26, 2**40])
@pytest.mark.parametrize("largest", [1.0, np.nextafter(1.0, 0), 3.0, 2.0**480, 1e-300])
def test_no_limb_exceeds_its_bits(n, largest):
    grid = Grid.for_largest(largest, n)
    values = np.array([[largest], [-largest], [largest / 3], [np.nextafter(largest, 0)], [0.0]])
    assert (np.abs(sum_limbs(grid, values)) <= 2**grid.bits).all()


@pytest.mark.parametrize("name", COLUMNS)
def test_limbs_are_the_value_rounded_to_the_grid(name):
    """To nearest, ties to even, at 2**-72 of the power of two above the column's largest magnitude; no further."""
    values = COLUMNS[name][:, None]
    grid = Grid.for_rows(values)
    assert (as_fractions(grid, sum_limbs(grid, values)) == on_grid(values)).all()


def test_a_tie_below_the_grid_goes_to_even():
    grid = Grid.for_largest(1.0, 4)
    unit = 2.0 ** (1 - 72)
    values = np.array([[0.5 * unit], [1.5 * unit], [2.5 * unit], [-0.5 * unit]])
    assert (as_fractions(grid, sum_limbs(grid, values)) / Fraction(unit)).ravel().tolist() == [0, 2, 2, 0]


def test_float32_and_uint8_lose_nothing_down_to_2_to_the_minus_48():
    """24 significant bits, 72 bits of grid: any float32 within 2**-48 of the column's largest is kept whole."""
    exponents = rng.integers(-47, 1, (200, 3))
    values = np.ldexp(rng.uniform(0.5, 1, (200, 3)), exponents).astype(np.float32)
    values[0] = 0.99
    grid = Grid.for_rows(values)
    kept = as_fractions(grid, sum_limbs(grid, values.astype(np.float64)))
    assert all(kept[i] == Fraction(float(values[i])) for i in np.ndindex(values.shape))


@pytest.mark.parametrize(
    ("X", "weight", "n_limbs"),
    [
        (np.arange(12, dtype=np.uint8).reshape(6, 2), None, 1),
        (np.arange(12, dtype=np.uint8).reshape(6, 2), np.arange(6.0), 1),
        (np.arange(12, dtype=np.uint8).reshape(6, 2), np.full(6, 1 / 3), 2),
        (np.arange(12.0).reshape(6, 2) - 5, None, 1),
        (np.array([[1.0], [2.0**-35]]), None, 1),
        (np.array([[1.0], [2.0**-36]]), None, 2),
        (np.array([[1.0], [2.0**-12]], np.float32) + np.float32(2.0**-23), None, 1),
        (np.array([[0.1, 1.0], [0.2, 2.0]]), None, 2),
        (np.zeros((3, 2), np.float32), None, 1),
    ],
)
def test_one_limb_where_it_holds_every_value(X, weight, n_limbs):
    grid = Grid.for_rows(X, weight)
    assert grid.n_limbs == n_limbs
    values = weighted_rows(X, weight, slice(None))
    if n_limbs == 1:
        assert (as_fractions(grid, sum_limbs(grid, values)) == summands(X, weight)[0]).all()


def test_the_grid_sees_every_block():
    """The largest value and the one that needs the second limb may lie in the last rows."""
    X = np.ones((70_000, 20), np.float32)
    X[-1, 3] = 1e6
    X[-2, 3] = 1e-6
    grid = Grid.for_rows(X)
    assert grid.n_limbs == 2
    assert grid.scale[3] == 2.0 ** (grid.bits - 20)
    assert grid.scale[2] == 2.0 ** (grid.bits - 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "d"), [(1, 1), (7, 1), (256, 1), (257, 1), (1000, 3), (100, 255), (9, 256), (9, 300)])
def test_largest_magnitudes_are_those_of_each_column(n, d, dtype):
    """However rows are laid side by side; wherever the largest lies."""
    local = np.random.default_rng(n)
    block = local.standard_normal((n, d)).astype(dtype)
    for table in (block, -np.abs(block), np.zeros((n, d), dtype)):
        for row in (0, n // 2, n - 1):
            table[row, d // 2] = local.choice([-9, 9])
            assert np.array_equal(largest_magnitudes(table), np.abs(table).max(axis=0))
    for value in (np.nan, np.inf, -np.inf):
        for row in (0, n // 2, n - 1):
            bad = block.copy()
            bad[row, d - 1] = value
            assert np.array_equal(largest_magnitudes(bad), np.abs(bad).max(axis=0), equal_nan=True)


@pytest.mark.parametrize(
    ("values", "smallest"),
    [
        ([3.0, -2.0, 5.0], 2.0),
        ([0.0, -0.0, -7.0], 7.0),
        ([1.0, 2.0**-149, -0.0], 2.0**-149),
        ([-(2.0**-140), 1.0], 2.0**-140),
        ([3e38, np.inf], float(np.float32(3e38))),
        ([0.0, -0.0], 0.0),
        ([-0.0], 0.0),
    ],
)
def test_smallest_magnitude_is_that_of_all_values_but_zeros(values, smallest):
    block = np.array([values], np.float32)
    before = block.tobytes()
    assert smallest_magnitude(block) == smallest_magnitude(block.T.copy()) == smallest
    assert block.tobytes() == before


def mixed_scales(seed):
    """float32 columns of whole 24 bits, or fewer, or zeros, about where the first limb's grid ends."""
    local = np.random.default_rng(seed)
    shape = local.integers(1, 150), local.integers(1, 4)
    mantissa = local.integers(2**23, 2**24, shape) >> local.integers(0, 2) * local.integers(0, 20, shape)
    if local.random() < 0.5:
        mantissa[local.random(shape) < 0.2] = 0
    below = local.choice([0, 12, 13, 14]) * (local.random(shape) < local.choice([0.02, 0.5]))
    scale = local.integers(-120, 80, shape[1]) if seed % 2 else local.integers(-3, 3, shape[1])
    return np.ldexp(local.choice([-1.0, 1.0], shape) * mantissa, scale - below).astype(np.float32)


def test_the_grid_of_float32_columns_is_as_defined(monkeypatch):
    """One limb exactly if all values lie on the first one's grid, in whatever block the one that does not may be."""
    monkeypatch.setattr("gpukmeans.threads.BLOCK_BYTES", 1)  # 32 rows
    lengths = []

    def noted(block):
        lengths.append(len(block))
        return largest_magnitudes(block)

    monkeypatch.setattr("gpukmeans.exact.sums.largest_magnitudes", noted)
    seen = {1: 0, 2: 0}
    for seed in range(400):
        X = mixed_scales(seed)
        grid = Grid.for_rows(X)
        for f, column in enumerate(X.T.tolist()):
            exponent = max(MIN_EXPONENT, int(np.frexp(max(map(abs, column)))[1]))
            assert grid.scale[f] == 2.0 ** (LIMB_BITS - exponent)
        fits = all((Fraction(x) * Fraction(s)).denominator == 1 for s, column in zip(grid.scale, X.T, strict=True)
                   for x in column.tolist())  # fmt: skip
        assert (grid.n_limbs, grid.bits) == (1 if fits else 2, LIMB_BITS)
        seen[grid.n_limbs] += 1
    assert min(seen.values()) > 100
    assert max(lengths) <= 32  # so the rows were cut into blocks


@pytest.mark.parametrize("scale", [2.0**-100, 1.0, 2.0**60])
@pytest.mark.parametrize("odd", [2**23 + 1, 2**24 - 1])
def test_24_bits_just_fit_the_first_limb_or_just_do_not(odd, scale):
    """Values below 1 are held to 2**-36: 24 bits from 2**-13 on, and of smaller ones those whose last bit is 0."""
    for unit, value, n_limbs in [(-36, odd, 1), (-37, odd, 2), (-37, odd - 1, 1), (-38, odd - 1, 2 - (odd % 4 == 1))]:
        for others in ([0.75, -0.5], [1 - 2.0**-24, 0.0]):
            X = scale * np.array([*others, value * 2.0**unit], np.float32)[:, None]
            assert Grid.for_rows(X.astype(np.float32)).n_limbs == n_limbs
            assert Grid.for_rows(np.hstack([X, X[::-1] * 2.0**9]).astype(np.float32)).n_limbs == n_limbs


def test_weighted_rows_are_exact_for_float32_and_weights_of_29_bits():
    X = rng.standard_normal((50, 4)).astype(np.float32)
    weight = rng.integers(0, 2**29, 50) * 2.0**-20
    got = weighted_rows(X, weight, slice(None))
    want = [Fraction(float(x)) * Fraction(w) for row, w in zip(X, weight, strict=True) for x in row]
    assert [Fraction(v) for v in got.ravel().tolist()] == want


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_weighted_rows_keep_the_dtype_only_where_asked(dtype):
    X = np.arange(6).reshape(3, 2).astype(dtype)
    assert weighted_rows(X, None, slice(0, 2), convert=False).dtype == dtype
    assert weighted_rows(X, None, np.array([2])).dtype == np.float64
    assert weighted_rows(X, np.full(3, 2.0), slice(1, 3)).tolist() == (2.0 * X[1:3]).tolist()


def test_weight_grid_counts_whole_rows_without_weights():
    grid = weight_grid(2**20, None)
    assert grid.n_limbs == 1
    assert grid.value(np.array([[[2**20]], [[0]]])[:1])[0, 0] == 2**20
    assert weight_grid(2, np.array([1.0, 1 / 3])).n_limbs == 2


@pytest.mark.parametrize("name", COLUMNS)
def test_a_sum_is_the_float64_nearest_to_the_exact_sum(name):
    """Up to 2**17 rows both sums of limbs are exact float64 numbers, so only their sum is rounded."""
    values = COLUMNS[name][:, None]
    grid = Grid.for_rows(values)
    total = sum_limbs(grid, values).sum(axis=1)
    assert grid.value(total)[0] == float(sum(on_grid(values)[:, 0]))


def test_value_of_any_sums():
    """|error| <= 2u (|second limb's share| + |first's rounding|) and half an ulp of the result."""
    grid = Grid(np.ones(1), 36, 2)  # in units of the first limb
    first = rng.integers(-(2**62), 2**62, 4000) >> rng.integers(0, 62, 4000)
    second = rng.integers(-(2**61), 2**61, 4000) >> rng.integers(0, 61, 4000)
    first[:500] >>= 45
    second[:500] = -(first[:500] << 36) + rng.integers(-3, 4, 500)  # all but a few units cancel
    got = grid.value(np.stack([first, second])[:, :, None])[:, 0]
    for s0, s1, value in zip(first.tolist(), second.tolist(), got.tolist(), strict=True):
        share = Fraction(s1, 2**36)
        exact = s0 + share
        slack = 2 * U * (abs(share) + abs(s0) * U * 2) + Fraction(float(np.spacing(abs(float(exact))))) / 2
        assert abs(Fraction(value) - exact) <= slack


def terms_for_totals(seed, n):
    local = np.random.default_rng(seed)
    return np.ldexp(local.random(n), local.integers(-20, 1, n))


@pytest.mark.parametrize("n", [1, 2, 1000, (1 << 16) + 1])
def test_exact_total_is_rounded_once(n):
    terms = terms_for_totals(n, n)
    assert exact_total(terms) == float(sum(on_grid(terms[:, None])[:, 0]))


def test_exact_total_does_not_know_the_order():
    terms = terms_for_totals(1, 5000)
    orders = [np.random.default_rng(seed).permutation(5000) for seed in range(20)]
    assert len({exact_total(terms[order]) for order in orders}) == 1
    assert len({float(terms[order].cumsum()[-1]) for order in orders}) > 1  # plain sums do


@pytest.mark.parametrize(
    ("terms", "total"),
    [([], 0.0), ([0.0, 0.0], 0.0), ([5e-200], 5e-200), ([2.0**960] * 4, 2.0**962), ([1e16, *[1.0] * 4], 1e16 + 4)],
)
def test_exact_total_at_the_edges(terms, total):
    assert exact_total(np.array(terms)) == total


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_workers_chunks_and_order_cannot_change_the_sums(dtype, weighted):
    """Any split of the rows, each part summed by itself in any order, then the parts added: the same integers."""
    X = (200 * rng.random((999, 5))).astype(dtype)
    weight = rng.random(999) if weighted else None
    grid = Grid.for_rows(X, weight)
    limbs = sum_limbs(grid, weighted_rows(X, weight, slice(None)))
    want = limbs.sum(axis=1)
    for seed in range(5):
        local = np.random.default_rng(seed)
        order = local.permutation(999)
        cuts = np.sort(local.choice(999, 6, replace=False))
        parts = [
            sum_limbs(grid, weighted_rows(X, weight, part)).sum(axis=1) for part in np.split(order, cuts) if len(part)
        ]
        local.shuffle(parts)
        assert np.array_equal(np.sum(parts, axis=0), want)


def test_sums_kept_by_differences_never_drift():
    X = rng.standard_normal((300, 4)) * np.array([1e-12, 1, 1e9, 1e30])
    limbs = sum_limbs(Grid.for_rows(X), X)
    total = limbs.sum(axis=1)
    kept = total.copy()
    for i in rng.integers(300, size=5000):
        kept -= limbs[:, i]
        kept += limbs[:, i]
    assert np.array_equal(kept, total)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, np.float64) for name in COLUMNS] + [(name, np.float32) for name in COLUMNS if name != "largest allowed"],
)
def test_cluster_means_are_within_half_an_ulp_and_a_trace(name, dtype):
    """A quotient corrected by its remainder errs by u of the correction, and rounds; float32 rounds once more."""
    values = COLUMNS[name][:, None]
    grid = Grid.for_rows(values)
    sums = sum_limbs(grid, values).sum(axis=1)[:, None, :]
    for weight in (1.0, 3.0, 40.0, 41.7):
        if dtype == np.float32 and weight < 40 and name == "float32 largest":
            continue  # not a mean: too few rows for the sum
        got = cluster_means(sums, np.array([weight]), grid, np.dtype(dtype))
        exact = sum(on_grid(values)[:, 0]) / Fraction(weight)
        spacing = np.spacing(dtype(abs(float(exact))))
        share = Fraction(1, 2) + Fraction(1, 2**20)
        assert got.dtype == dtype
        assert abs(Fraction(float(got[0, 0])) - exact) <= share * Fraction(float(spacing))


def test_cluster_means_are_the_nearest_floats():
    """The quotient corrected by its remainder is the exact quotient rounded once; float32 rounds that once more."""
    X = rng.standard_normal((500, 60))
    grid = Grid.for_rows(X)
    sums = sum_limbs(grid, X).sum(axis=1)[:, None, :]
    exact = on_grid(X).sum(axis=0)
    for dtype in (np.float32, np.float64):
        got = cluster_means(sums, np.array([487.0]), grid, np.dtype(dtype))[0]
        assert got.tolist() == [dtype(float(Fraction(total) / 487)) for total in exact]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_the_mean_of_equal_rows_is_that_row(dtype):
    """Otherwise duplicates move their own center by an ulp each iteration, and a fit of them need not end."""
    for n in range(1, 60):
        for value in (0.1, 0.9, 1.7, 2.3e-7, 123.456):
            X = np.full((n, 1), value).astype(dtype)
            grid = Grid.for_rows(X)
            sums = sum_limbs(grid, X.astype(np.float64)).sum(axis=1)[:, None, :]
            center_dtype = np.dtype(np.float32 if dtype == np.float32 else np.float64)
            assert cluster_means(sums, np.array([float(n)]), grid, center_dtype)[0, 0] == X[0, 0], (n, value)


def test_a_cluster_without_weight_has_no_mean():
    grid = Grid(np.ones(2), 36, 1)
    means = cluster_means(np.array([[[0, 0], [4, 6]]]), np.array([0.0, 2.0]), grid, np.dtype(np.float64))
    assert np.isnan(means[0]).all()
    assert means[1].tolist() == [2.0, 3.0]


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
