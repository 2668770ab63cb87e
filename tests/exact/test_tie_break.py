"""What floating point cannot separate is decided as in real arithmetic, the lowest index first."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gpukmeans import threads
from gpukmeans.datasets import exact_ties, near_ties
from gpukmeans.exact import sums, tie_break
from gpukmeans.exact.tie_break import (
    all_integers,
    distinct_rows,
    exact_squares,
    first_of_equal_rows,
    largest_integer,
    nearest_exactly,
    resolve,
)
from tests.support.assertions import assert_labels
from tests.support.oracles import nearest, square_distances

rng = np.random.default_rng(40)


def everyone(X, C):
    return np.ones((len(X), len(C)), bool)


def mirrored(scale, n=40, d=6):
    """Rows exactly half way between c - e and c + e, and copies of them one ulp to either side in one feature."""
    middle = rng.integers(-999, 999, d).astype(float)
    step = rng.integers(1, 99, d).astype(float)
    step[d // 2 :] = 0
    X = np.repeat(middle[None], n, axis=0)
    X[:, d // 2 :] += rng.integers(-9, 9, (n, d - d // 2))
    X, C = X * scale, np.stack([middle + step, middle - step]) * scale
    X[1::3, 0] = np.nextafter(X[1::3, 0], np.inf)
    X[2::3, 0] = np.nextafter(X[2::3, 0], -np.inf)
    return X, C


@pytest.mark.parametrize("exponent", [0, -40, None, 300, 469, -440, -520, -900, -1074])
def test_exact_ties_and_one_ulp_beside_them(exponent):
    """From subnormals to the largest values: products that over- or underflow go by fractions."""
    X, C = mirrored(1 / 3 if exponent is None else 2.0**exponent)
    want = nearest(X, C)
    assert_labels(nearest_exactly(X, C, everyone(X, C)), X, C, want=want)
    assert_labels(nearest_exactly(X, C[::-1], everyone(X, C)), X, C[::-1])
    if exponent is not None:  # 1 / 3 rounds: there the true labels are those of the oracle
        assert set(want[::3]) == {0}  # a true tie
        assert set(want[1::3]) == {0}  # towards c + e
        assert set(want[2::3]) == {1}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(60, 2, 1), (60, 5, 7), (40, 9, 40)])
def test_near_ties(dtype, shape):
    X, C = near_ties(*shape, seed=3, dtype=dtype)
    assert_labels(nearest_exactly(X, C, everyone(X, C)), X, C)


def test_products_of_53_bits():
    """Centers that differ in their last bit, rows with full mantissas: 106-bit products decide."""
    C = np.repeat(rng.random((1, 5)), 3, axis=0)
    C[1, 2] = np.nextafter(C[1, 2], 2)
    C[2, 4] = np.nextafter(C[2, 4], -2)
    X = C[0] + rng.standard_normal((300, 5)) * 2.0 ** rng.integers(-52, 3, (300, 1))
    X[:, 2] = (C[0, 2] + C[1, 2]) / 2 + rng.integers(-2, 3, 300) * 2.0**-54
    got = nearest_exactly(X, C, everyone(X, C))
    assert_labels(got, X, C)
    assert len(set(got.tolist())) > 1


def test_only_candidates_are_compared():
    X, C = np.array([[0.0, 0.0], [0.0, 1e-9]]), np.array([[0.0, 0.0], [3.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    assert nearest_exactly(X, C, np.array([[0, 1, 1, 1], [0, 1, 0, 0]], bool)).tolist() == [2, 1]


def test_negative_zero_is_zero():
    C = np.array([[0.0, 1.0], [-0.0, 1.0]])
    for x in ([0.0, 5.0], [-0.0, -5.0]):
        assert nearest_exactly(np.array([x]), C, np.ones((1, 2), bool)).tolist() == [0]
        assert nearest_exactly(np.array([x]), C[::-1], np.ones((1, 2), bool)).tolist() == [0]


@pytest.mark.parametrize("seed", range(10))
def test_two_products_have_no_error(seed):
    local = np.random.default_rng(seed)
    a, b = np.ldexp(local.uniform(-1, 1, (2, 600)), local.integers(-400, 400, (2, 600)) // 2)
    product, error = sums.two_product(a, b)
    for exact, p, e in zip(zip(a.tolist(), b.tolist(), strict=True), product.tolist(), error.tolist(), strict=True):
        assert Fraction(exact[0]) * Fraction(exact[1]) == Fraction(p) + Fraction(e)


# ---- resolve ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_resolve_takes_exact_arithmetic_only_where_float64_ends(dtype):
    X, C = near_ties(120, 6, 9, seed=2, dtype=dtype)
    labels, n_exact = resolve(X, C, np.arange(6), exact=False)
    assert_labels(labels, X, C)
    assert (n_exact > 20) if dtype == np.float64 else (n_exact < 60)


@pytest.mark.parametrize("exponent", [-40, 40])
def test_resolve_of_near_ties_does_not_depend_on_their_size(exponent):
    X, C = (np.ldexp(values, exponent) for values in near_ties(400, 6, 17, seed=8, dtype=np.float64))
    assert_labels(resolve(X, C, np.arange(6), exact=False)[0], X, C)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_resolve_of_whole_numbers_needs_no_exact_arithmetic(dtype):
    X, C = exact_ties(200, 7, 11, seed=1, dtype=dtype)
    C = C.astype(np.float64)
    alive = np.unique(first_of_equal_rows(C))
    labels, n_exact = resolve(X, C, alive, exact=True)
    assert_labels(labels, X, C)
    assert n_exact == 0
    assert np.array_equal(resolve(X, C, alive, exact=False)[0], labels)


def test_resolve_leaves_dead_centers_alone_and_spans_blocks():
    C = rng.integers(0, 9, (12, 3)).astype(float)
    C[1], C[6] = C[0], C[2]
    X = rng.integers(0, 9, (40_000, 3)) / 2.0
    alive = np.flatnonzero(first_of_equal_rows(C) == np.arange(12))
    labels, _ = resolve(X, C, alive, exact=False)
    unique, inverse = np.unique(X, axis=0, return_inverse=True)
    assert_labels(labels, X, C, want=nearest(unique, C)[inverse.ravel()])
    assert set(labels.tolist()) <= set(alive.tolist()) < set(range(12))
    far = np.random.default_rng(41).uniform(0, 9, (500, 3))  # none of them near a tie
    assert_labels(resolve(far, C, alive, exact=False)[0], far, C)


@pytest.mark.parametrize("wide", [1 << 13, 1])
@pytest.mark.parametrize("share", [0.1, 0.7])
def test_resolve_compares_the_candidates_of_each_row_in_every_block(monkeypatch, share, wide):
    """Few or many candidates a row, by pairs or center by center, in blocks of a few rows."""
    monkeypatch.setattr(threads, "BLOCK_BYTES", 2000)
    monkeypatch.setattr(tie_break, "WIDE", wide)
    monkeypatch.setattr(tie_break, "PAIRED", 50)
    local = np.random.default_rng(43)
    X, C = near_ties(90, 20, 5, seed=4, dtype=np.float64)
    candidates = local.random((90, 20)) < share
    candidates[np.arange(90), local.integers(0, 20, 90)] = True
    distances, _ = square_distances(X, C)
    want = [min(np.flatnonzero(of), key=row.__getitem__) for of, row in zip(candidates, distances, strict=True)]
    labels, n_exact = resolve(X, C, np.arange(20), False, candidates)
    assert labels.tolist() == want
    assert n_exact < 90
    assert resolve(X, C, np.arange(20), False)[0].tolist() == nearest(X, C).tolist()


@pytest.mark.parametrize("scale", [2.0**-480, 2.0**-505, 2.0**-530, 2.0**-600, 2.0**470])
def test_resolve_where_squares_underflow_or_nearly_overflow(scale):
    X, C = mirrored(scale)
    labels, n_exact = resolve(X, C, np.arange(2), exact=False)
    assert_labels(labels, X, C)
    assert n_exact >= 14  # the ties at least


# ---- equal rows, whole numbers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("k", "d", "values"), [(1, 1, 2), (2, 1, 2), (50, 1, 5), (300, 4, 3), (40, 784, 2), (500, 2, 400)]
)
def test_first_of_equal_rows(dtype, k, d, values):
    table = rng.integers(-values, values, (k, d)) * dtype(0.1)
    table[::2] *= -1  # zeros become -0.0
    if k > 3:
        table[k // 2] = table[1]
    rows = [tuple(row) for row in table.tolist()]  # -0.0 == 0.0 for tuples as well
    assert first_of_equal_rows(table).tolist() == [rows.index(row) for row in rows]
    first, inverse = distinct_rows(table)
    assert np.array_equal(table[first][inverse], table)
    assert len({rows[i] for i in first}) == len(first) == len(set(rows))
    assert len(first) < k or (np.array_equal(first, np.arange(k)) and np.array_equal(inverse, np.arange(k)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_that_are_rearranged_or_swap_bits_are_not_equal(dtype):
    """A sum over the columns must not take permutations, or changes that cancel, for equality."""
    base = np.array([[1.0, 2.0, 3.0]], dtype)
    rearranged = np.concatenate([base, base[:, [1, 0, 2]], base[:, ::-1], -base, base])
    assert first_of_equal_rows(rearranged).tolist() == [0, 1, 2, 3, 0]
    bits = np.zeros((400, 3), np.dtype(f"u{np.dtype(dtype).itemsize}"))
    bits[:, 0] = np.arange(400) + 1000
    bits[:, 1] = 1000 - np.arange(400)
    bits[:, 2] = np.arange(400) % 2 + 5
    assert first_of_equal_rows(bits.view(dtype)).tolist() == list(range(400))
    assert [of.tolist() for of in distinct_rows(bits.view(dtype))] == [list(range(400))] * 2


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_ordinary_rows_are_told_apart_by_a_sum_each(monkeypatch, dtype):
    """Whole numbers have zeros in their low bits, columns may be rearranged: the slower keys are not needed."""
    kinds, inner = [], np.unique
    monkeypatch.setattr(np, "unique", lambda a, **options: kinds.append(a.dtype.kind) or inner(a, **options))
    local = np.random.default_rng(44)
    tables = [
        np.stack(np.meshgrid(*[np.arange(8)] * 4), axis=-1).reshape(-1, 4),
        np.arange(60_000).reshape(-1, 6) % 251,
        local.integers(0, 256, (5000, 2)),
        np.eye(200),
        np.repeat(local.integers(0, 256, (500, 9)), 3, axis=0),
    ]
    if dtype != np.uint8:
        tables += [local.standard_normal((5000, 3)), 1e6 * np.eye(500), np.ldexp(1.0, np.arange(-100, 100))[:, None]]
    for table in tables:
        distinct_rows(table.astype(dtype))
    assert "V" not in kinds
    assert len(kinds) == len(tables)


def test_rows_of_many_features_differ_wherever_they_do():
    """Equal in the columns that are looked at first, they may differ in any other, or be equal."""
    for column in (0, 1, 299):
        rows = np.zeros((4, 300))
        rows[1, column], rows[2, column] = 1.0, 2.0
        assert first_of_equal_rows(rows).tolist() == [0, 1, 2, 0]
    rows[3, 0] = 3.0
    assert first_of_equal_rows(rows).tolist() == [0, 1, 2, 3]


def test_different_rows_with_equal_sums_stay_different():
    """Second values whose difference makes up for that of the first ones, modulo 2**64."""
    factor, size = 0x9E3779B97F4A7C15, 2**64

    def mixed(value):
        bits = int(np.float64(value).view(np.uint64))
        return bits ^ bits >> 29

    def unmixed(target):
        bits = target
        for _ in range(3):
            bits = target ^ bits >> 29
        return float(np.uint64(bits).view(np.float64))

    rows = []
    for first in np.random.default_rng(45).random(40):
        second = unmixed((mixed(3.0) - (mixed(first) - mixed(7.0)) * pow(factor, -1, size)) % size)
        if np.isfinite(second):
            rows.append([first, second])
    table = np.array([[7.0, 3.0], *rows, [7.0, 3.0]])
    assert len(rows) > 20
    assert len({(mixed(a) * factor + mixed(b) * factor**2) % size for a, b in table.tolist()}) == 1
    first, inverse = distinct_rows(table)
    assert np.array_equal(table[first][inverse], table)
    assert len(first) == len(rows) + 1
    more = np.concatenate([np.random.default_rng(46).random((20_000, 2)), table])  # they lie in the second part
    first, inverse = distinct_rows(more)
    assert np.array_equal(more[first][inverse], more)


@pytest.mark.parametrize("exact", [False, True])
def test_equal_rows_are_settled_once_whatever_their_candidates(monkeypatch, exact):
    """Each row has candidates of its own, the nearest center among them, and gets the label of its equals."""
    local = np.random.default_rng(42)
    X = local.integers(0, 3, (2000, 4)) * (1.0 if exact else 1 / 3)
    C = X[:7] * 1.0
    alive = np.flatnonzero(first_of_equal_rows(C) == np.arange(7))
    want = alive[nearest(X, C[alive])]
    settled = []
    inner = tie_break._resolve
    monkeypatch.setattr(tie_break, "_resolve", lambda rows, *args: settled.append(len(rows)) or inner(rows, *args))
    candidates = local.random((2000, len(alive))) < 0.3
    distances, _ = square_distances(X, C[alive])
    candidates |= [[of_center == min(row) for of_center in row] for row in distances]
    plain = inner(X, C, alive, exact, None)
    for given in (None, candidates):
        labels, n_exact = resolve(X, C, alive, exact, given)
        assert labels.tolist() == want.tolist()
        assert settled.pop() <= 81
        assert n_exact == (np.count_nonzero(plain[1]) if given is None else n_exact)
    assert n_exact <= np.count_nonzero(plain[1])
    far = local.standard_normal((2000, 4))
    assert_labels(resolve(far, C, alive, False)[0], far, C[alive], want=alive[nearest(far, C[alive])])
    assert settled == [2000]


def test_the_largest_whole_number():
    assert largest_integer(np.array([[3, 7]], np.uint8)) == 255.0
    assert largest_integer(np.array([[3.0, 7.0]])) == 7.0
    assert largest_integer(np.array([[-9.0, 7.0]], np.float32)) == 9.0
    assert largest_integer(np.array([[0.5, 7.0]])) == float("inf")


def test_all_integers():
    assert all_integers(np.zeros((3, 2), np.uint8))
    assert all_integers(np.array([[-3.0, 0.0], [2.0**60, -0.0]]))
    late = np.ones((100_000, 4), np.float32)
    assert all_integers(late)
    late[-1, -1] = 1.5
    assert not all_integers(late)
    early = np.ones((3_000_000, 1))
    early[0] = 1.5
    assert not all_integers(early)
    assert not all_integers(np.array([[5e-324]]))


def test_squares_are_exact_only_of_whole_numbers_small_enough_on_both_sides():
    centers = np.array([[1.0, -3.0], [2.0, 4.0]])
    assert exact_squares(255.0, centers)
    assert not exact_squares(255.0, centers + 0.5)
    assert not exact_squares(float("inf"), centers)
    assert not exact_squares(2.0**26, centers)
    assert not exact_squares(255.0, centers * 2.0**26)
    assert not exact_squares(255.0, np.array([[1.0, 2.0**30]]))
