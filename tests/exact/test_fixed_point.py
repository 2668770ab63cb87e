"""Sums of products of floats, many at a time, are those of rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gpukmeans.exact.fixed_point import (
    FixedPoint,
    carried,
    first_smallest,
    number_of,
    products_by_owner,
    range_of,
    square_distances,
    union,
)

#: (lowest, highest) exponents of random values: ordinary, subnormal, huge, and both ends at once.
SPANS = [(-3, 4), (-1074, -1000), (480, 500), (-60, 60), (-1074, 500)]


def values(shape, span, seed, dtype=np.float64):
    local = np.random.default_rng(seed)
    found = np.ldexp(local.uniform(-1, 1, shape), local.integers(*span, shape)).astype(dtype)
    found[local.random(shape) < 0.1] = 0.0
    return found


def number(limbs, bits):
    return sum(int(limb) << bits * i for i, limb in enumerate(limbs))


@pytest.mark.parametrize("span", SPANS)
def test_range(span):
    for found in (values((40,), span, 1), -values((3, 5), span, 2)):
        low, high = range_of(found)
        exact = [Fraction(v) / Fraction(2) ** low for v in found.ravel().tolist()]
        assert all(v.denominator == 1 for v in exact)
        assert any(v.numerator % 2 for v in exact)
        assert Fraction(2) ** (high - 1) <= max(abs(Fraction(v)) for v in found.ravel().tolist()) < Fraction(2) ** high
    assert range_of(np.zeros(4), np.zeros((0, 3))) is None
    assert union([None, (1, 4), (-2, 2)]) == (-2, 4)
    assert range_of(np.array([6], np.uint8)) == (1, 3)


@pytest.mark.parametrize(("value", "exponents"), [(1.0, (0, 1)), (2.0, (1, 2)), (1.0 + 2.0**-52, (-52, 1))])
def test_range_of_a_lone_bit_and_of_the_last_one(value, exponents):
    assert range_of(np.array([value])) == exponents


@pytest.mark.parametrize("span", SPANS)
def test_limbs_add_up_to_the_value_and_have_its_sign(span):
    found = values((7, 6), span, 3)
    form = FixedPoint.for_products(6, range_of(found))
    limbs = form.limbs(found)
    assert np.array_equal(limbs, np.trunc(limbs))
    assert np.abs(limbs).max() < 2**form.bits
    assert ((limbs == 0) | (np.sign(limbs) == np.sign(found))).all()
    for place in np.ndindex(found.shape):
        got = number(limbs[(slice(None), *place)], form.bits)
        assert Fraction(got) * Fraction(2) ** form.unit == Fraction(found[place])
    assert FixedPoint.for_products(6, None).limbs(np.zeros((2, 3))).tolist() == [[[0.0] * 3] * 2]


@pytest.mark.parametrize("n_terms", [1, 3, 784, 10**5, 2**31])
@pytest.mark.parametrize("width", [1, 24, 25, 53, 110, 2100])
def test_no_sum_of_products_of_limbs_is_rounded(n_terms, width):
    form = FixedPoint.for_products(n_terms, (0, width))
    assert form.bits * form.n_limbs >= width
    assert n_terms * form.n_limbs * 4 ** (form.bits + 1) <= 2**53
    assert (
        form.bits == 24 or n_terms * -(-width // (form.bits + 1)) * 4 ** (form.bits + 2) > 2**53
    )  # not less than needed


def test_the_largest_sums_are_exact():
    """Every limb of every factor as large as it can be, and all products of one sign."""
    for n_features, width in ((784, 60), (3, 110), (4096, 53)):
        form = FixedPoint.for_products(n_features, (0, width))
        largest = float(2**53 - 1) * 2.0 ** (width - 53)
        x, c = np.full((1, n_features), largest), np.full((1, n_features), -largest)
        c[0, 0] = -1.0  # the unit
        limbs = square_distances(x, c, np.zeros(1, int), np.zeros(1, int), form)
        assert number(limbs[:, 0], form.bits) == (int(largest) + 1) ** 2 + (n_features - 1) * (2 * int(largest)) ** 2


@pytest.mark.parametrize("more", [(), (3,)])
@pytest.mark.parametrize("span", SPANS)
@pytest.mark.parametrize("shape", [(9, 5, 1), (4, 3, 40), (300, 2, 9)])
def test_square_distances(span, shape, more):
    n, k, d = shape
    x, c = values((n, d), span, 4), values((k, d), span, 5)
    row, center = np.nonzero(np.random.default_rng(6).random((n, k)) < 0.7)
    form = FixedPoint.for_products(d, range_of(x), range_of(c))
    limbs = square_distances(x, c, row, center, form, *more)
    assert len(limbs) == 2 * form.n_limbs - 1 + sum(more)
    assert limbs[:-1].min() >= 0
    assert limbs[:-1].max() < 2**form.bits
    for pair in range(len(row)):
        want = sum((Fraction(a) - Fraction(b)) ** 2 for a, b in zip(x[row[pair]], c[center[pair]], strict=True))
        assert Fraction(number(limbs[:, pair], form.bits)) * Fraction(4) ** form.unit == want


def test_carried_numbers_compare_as_their_limbs_do():
    local = np.random.default_rng(7)
    sums = [np.trunc(local.uniform(-1, 1, 500) * 2.0 ** local.integers(0, 53, 500)) for _ in range(3)]
    sums[1][::7] = 0.0
    for n_limbs, more in ((3, ()), (3, (2,)), (1, (1,))):
        want = [number(limbs, 20) for limbs in np.array(sums[:n_limbs]).T]
        limbs = carried(sums[:n_limbs], 20, *more)
        got = [number_of(of_one, 20) for of_one in limbs.T.tolist()]
        assert got == want
        assert len(limbs) == n_limbs + sum(more)
        order = np.lexsort(limbs)
        assert [want[i] for i in order] == sorted(want)


def test_first_smallest_of_each_group():
    local = np.random.default_rng(8)
    numbers = local.integers(0, 9, (3, 200))
    numbers[-1] -= 1  # negative ones, too
    starts = np.array([0, 1, 2, 50, 51, 199])
    got = first_smallest(numbers, starts)
    whole = [number(of_one, 20) for of_one in numbers.T]
    for start, stop, found in zip(starts, [*starts[1:], 200], got, strict=True):
        assert found == min(range(start, stop), key=lambda i: (whole[i], i))


@pytest.mark.parametrize("span", SPANS)
def test_products_by_owner(span):
    a, b = values((400,), span, 9), values((400,), span, 10)
    owner = np.sort(np.random.default_rng(11).integers(0, 9, 400))
    owner[owner == 4] = 5
    form = FixedPoint.for_products(400, range_of(a, b))
    limbs = carried(products_by_owner(a, b, owner, 9, form), form.bits)
    assert len(limbs) == 2 * form.n_limbs - 1
    for i in range(9):
        want = sum((Fraction(p) * Fraction(q) for p, q in zip(a[owner == i], b[owner == i], strict=True)), Fraction(0))
        assert Fraction(number(limbs[:, i], form.bits)) * Fraction(4) ** form.unit == want
