"""The grids on which values are summed: limbs hold every promised bit."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gpukmeans.exact.sums import (
    EXACT_FLOAT64_ROWS,
    LIMB_BITS,
    MIN_EXPONENT,
    Extremes,
    Grid,
    largest_magnitudes,
    magnitudes,
    power_of_two_above,
    weighted_rows,
)
from gpukmeans.threads import blocks, workers
from tests.support.oracles import on_grid, summands
from tests.support.sum_cases import COLUMNS, as_fractions, sum_limbs

rng = np.random.default_rng(20)


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
    assert power_of_two_above(value) == -900


@pytest.mark.parametrize("n", [1, 2, 127, 2**17, 2**26 - 1, 2**26, 2**26 + 1, 2**31, 2**40])
def test_limbs_of_all_rows_add_up_below_2_to_the_62(n):
    bits = Grid.limb_bits(n)
    assert n * 2**bits < 2**62
    assert bits == LIMB_BITS or n * 2 ** (bits + 1) >= 2**61  # no more is given away than one bit
    assert bits >= 20
    assert EXACT_FLOAT64_ROWS * 2**LIMB_BITS == 2**53  # the largest sums of limbs in float64 that no unit is lost of


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
    room = np.empty_like(values), np.empty_like(values)
    for limb, want in zip(grid.limbs(values, room), grid.limbs(values), strict=True):
        assert np.array_equal(limb, want)


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
        (np.array([[1.0], [2.0**-40]], np.float32), np.ones(2), 2),
        (np.array([[2.0**36, 1.0], [2.0**-149, 1.0]], np.float32), None, 2),  # half of the smallest float32 is none
    ],
)
def test_one_limb_where_it_holds_every_value(X, weight, n_limbs):
    grid = Grid.for_rows(X, weight)
    assert grid.n_limbs == n_limbs
    values = weighted_rows(X, weight, slice(None))
    row, column = np.nonzero(values)
    of_entries = Grid.for_entries(values[row, column], column, *X.shape)
    assert np.array_equal(of_entries.scale, Grid.for_rows(values).scale)
    assert (of_entries.bits, of_entries.n_limbs) == (grid.bits, n_limbs)
    if n_limbs == 1:
        assert (as_fractions(grid, sum_limbs(grid, values)) == summands(X, weight)[0]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_have_no_grid(value):
    with pytest.raises(FloatingPointError, match="not finite"):
        Grid.for_rows(np.array([[1.0, 2.0], [3.0, value]]))


def test_the_grid_sees_every_block():
    """The largest value and the one that needs the second limb may lie in the last rows."""
    X = np.ones((70_000, 20), np.float32)
    X[-1, 3] = 1e6
    X[-2, 3] = 1e-6
    grid = Grid.for_rows(X)
    assert grid.n_limbs == 2
    assert grid.scale[3] == 2.0 ** (grid.bits - 20)
    assert grid.scale[2] == 2.0 ** (grid.bits - 1)


def assert_largest(table):
    want = np.abs(table).max(axis=0)
    assert np.array_equal(largest_magnitudes(table), want, equal_nan=True)
    if table.dtype == np.float32:
        assert np.array_equal(magnitudes(table)[0], want, equal_nan=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "d"), [(1, 1), (7, 1), (256, 1), (257, 1), (1000, 3), (100, 255), (9, 256), (9, 300)])
def test_largest_magnitudes_are_those_of_each_column(n, d, dtype):
    """However rows are laid side by side; wherever the largest lies."""
    local = np.random.default_rng(n)
    block = local.standard_normal((n, d)).astype(dtype)
    for table in (block, -np.abs(block), np.zeros((n, d), dtype)):
        for row in (0, n // 2, n - 1):
            table[row, d // 2] = local.choice([-9, 9])
            assert_largest(table)
    for value in (np.nan, np.inf, -np.inf):
        for row in (0, n // 2, n - 1):
            bad = block.copy()
            bad[row, d - 1] = value
            assert_largest(bad)


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
    assert magnitudes(block)[1] == magnitudes(block.T.copy())[1] == smallest
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
        return magnitudes(block)

    monkeypatch.setattr("gpukmeans.exact.sums.magnitudes", noted)
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
    monkeypatch.setattr("gpukmeans.threads.BLOCK_BYTES", 128)
    X = np.repeat([[0.0], [1.0]], [24, 46], axis=0)  # the second of three blocks has the value that does not fit
    X[40] = 2.0**-40
    assert Grid.for_rows(X).n_limbs == 2


@pytest.mark.parametrize("scale", [2.0**-100, 1.0, 2.0**60])
@pytest.mark.parametrize("odd", [2**23 + 1, 2**24 - 1])
def test_24_bits_just_fit_the_first_limb_or_just_do_not(odd, scale):
    """Values below 1 are held to 2**-36: 24 bits from 2**-13 on, and of smaller ones those whose last bit is 0."""
    for unit, value, n_limbs in [(-36, odd, 1), (-37, odd, 2), (-37, odd - 1, 1), (-38, odd - 1, 2 - (odd % 4 == 1))]:
        for others in ([0.75, -0.5], [1 - 2.0**-24, 0.0]):
            X = scale * np.array([*others, value * 2.0**unit], np.float32)[:, None]
            assert Grid.for_rows(X.astype(np.float32)).n_limbs == n_limbs
            assert Grid.for_rows(np.hstack([X, X[::-1] * 2.0**9]).astype(np.float32)).n_limbs == n_limbs


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_the_grid_of_long_rows_is_that_of_their_columns(monkeypatch, dtype, weighted, whole):
    """Columns are looked at some at a time; their grids do not depend on the others, but for the number of limbs."""
    rng = np.random.default_rng(6)
    X = (rng.standard_normal((7, 11)) * 2.0 ** rng.integers(-9, 9, 11)).astype(dtype)
    X = np.rint(X) if whole else X
    weight = rng.integers(1, 4, 7).astype(np.float64) if weighted else None
    monkeypatch.setattr("gpukmeans.exact.sums.COLUMNS", 4)
    found = Grid.for_rows(X, weight)
    apart = [Grid.for_rows(X[:, [column]], weight) for column in range(11)]
    assert found.scale.tolist() == [grid.scale[0] for grid in apart]
    assert found.n_limbs == max(grid.n_limbs for grid in apart)
    X[6, 9] = np.nan
    with pytest.raises(FloatingPointError):
        Grid.for_rows(X, weight)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_extremes_of_known_rows_are_not_looked_for_again(weighted, monkeypatch):
    """With the first rows' extremes, those of all rows are found without the first rows, in blocks of others alone."""
    monkeypatch.setattr("gpukmeans.threads.BLOCK_BYTES", 1)
    whole = np.random.default_rng(7).uniform(1.0, 2.0, (3000, 3)).astype(np.float32)
    weight = np.random.default_rng(8).uniform(1.0, 2.0, len(whole)) if weighted else None
    for row, value in [(0, 2.0**-10), (0, 2.0**-20), (1999, 9.0), (2000, 9.0), (2999, 2.0**-10), (2999, 9.0)]:
        X = whole.copy()
        X[row, 1] = value
        with workers(X.size) as pool:
            known = Extremes.of(X[:2000], None if weight is None else weight[:2000], pool)
            expected = Extremes.of(X, weight, pool)
            X[:2000] = np.nan
            found = Extremes.of(X, weight, pool, known)
        assert found.n_rows == len(X)
        assert found.largest.tolist() == expected.largest.tolist()
        assert np.array_equal(found.smallest, expected.smallest, equal_nan=True)
        assert np.isnan(found.smallest) == (weighted or value == 2.0**-20)
