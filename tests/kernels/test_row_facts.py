"""What the device finds out about rows: their grid, bit for bit that of the host, and values that are not allowed."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from sklearn.utils import assert_all_finite

from gpukmeans.arrays.on_device import BFLOAT16, bfloat16_values
from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda.backend import CupyBackend
from gpukmeans.exact.sums import Grid, weight_grid
from tests.emulator import EmulatorDevice
from tests.emulator.testing import skip_without_compiler
from tests.support.launches.common import column_facts, limbs, move, moves, row_distance, row_facts, watched
from tests.support.launches.faults import some_weekly


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


HALF_TYPES = pytest.mark.parametrize("dtype", [np.dtype(np.float16), BFLOAT16], ids=["float16", "bfloat16"])


def narrow(values, dtype):
    """Rows of a 16-bit type near some values; bfloat16 as its bits."""
    if dtype == BFLOAT16:
        return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).view(BFLOAT16)
    return values.astype(dtype)


def wide(X):
    """Their values in float64."""
    with np.errstate(invalid="ignore"):  # NaN of some kinds
        return (bfloat16_values(X.view(np.uint16)) if X.dtype == BFLOAT16 else X).astype(np.float64)


# ---- 16-bit rows: NumPy's float16, and float32 cut in half, are the oracle -------------------------------------------


@pytest.mark.one_in(2)
@HALF_TYPES
@pytest.mark.parametrize("flush", [False, True])
def test_every_finite_16_bit_number_is_read_as_it_is(dtype, flush):
    """Subnormal ones too, under flush to zero (which the emulator does to float64 as well: hence no tiny squares)."""
    bits = np.arange(2**16, dtype=np.uint16)
    X = bits.view(dtype)
    X = X[np.isfinite(wide(X))][:, None]
    device = EmulatorDevice(flush_subnormals=flush)
    labels = np.zeros(len(X), np.int32)
    C = np.zeros((1, 1))
    assert np.array_equal(row_distance(device, X, C, labels)[0], wide(X)[:, 0] ** 2)
    C[0, 0] = -1.0  # the sign is read, too
    assert np.array_equal(row_distance(device, X, C, labels)[0], (wide(X)[:, 0] + 1.0) ** 2)
    assert row_facts(device, X)[2] == np.abs(wide(X)).max()


@pytest.mark.one_in(2)
@HALF_TYPES
@pytest.mark.parametrize(("n", "k", "d"), [(1, 1, 1), (40, 5, 33), (70, 17, 7)])
def test_kernels_give_the_bits_of_float64_rows(dtype, n, k, d):
    """All of them compute in float64: the same values, the same bits."""
    local = np.random.default_rng(0)
    X, C = narrow(local.standard_normal((n, d)), dtype), local.standard_normal((k, d))
    weight = local.uniform(0.1, 3, n)
    Y = wide(X)
    device = watched("random", 3)

    norms, *facts = row_facts(device, X, weight, np.full(d, 2.0**20))
    norms64, *facts64 = row_facts(device, Y, weight, np.full(d, 2.0**20))
    assert np.array_equal(norms, norms64)
    assert facts == facts64
    assert np.array_equal(column_facts(device, X, weight)[0], np.abs(Y * weight[:, None]).max(axis=0))

    labels = local.integers(0, k, n).astype(np.int32)
    (distances, largest), want = (row_distance(device, rows, C, labels, weight) for rows in (X, Y))
    assert np.array_equal(distances, want[0])
    assert largest == want[1]

    old, new = moves(n, k)
    for w in (None, weight):
        grids = Grid.for_rows(Y, w), weight_grid(n, w)
        for got, want in zip(*(move(device, rows, w, old, new, k, *grids) for rows in (X, Y)), strict=True):
            assert np.array_equal(got, want)


# ---- the grid --------------------------------------------------------------------------------------------------------


def tables():
    """Name, rows, weights: what makes a grid coarse, fine or hard to tell."""
    local = np.random.default_rng(1)
    X = local.standard_normal((300, 5))
    whole = local.integers(-9, 10, (300, 5)).astype(np.float64)
    uneven = local.uniform(0.1, 3, 300) * (np.arange(300) % 4 != 1)
    spread = X * np.array([1e-300, 1e-30, 1.0, 1e30, 2.0**470])
    one_off = whole.copy()
    one_off[299, 4] += 2.0**-40  # the very last value alone needs a second limb
    edge = np.full((64, 3), 2.0**20)  # the first limb's unit is 2**(21 - 36)
    edge[13] = 2.0**-15
    beyond = edge.copy()
    beyond[13, 1] = 2.0**-16
    return {
        "zeros": (np.zeros((7, 3)), None),
        "one value": (np.full((1, 1), 0.1), None),
        "noise": (X, None),
        "noise, few bits": (X.astype(np.float16).astype(np.float64), None),
        "whole numbers": (whole, None),
        "whole numbers, uneven weights": (whole, uneven),
        "whole numbers, whole weights": (whole, np.arange(300.0)),
        "a second limb for one value": (one_off, None),
        "on the edge of a limb": (edge, None),
        "beyond the edge of a limb": (beyond, None),
        "subnormal": (X * 2.0**-1040, None),
        "subnormal and huge": (np.where(X > 0, X * 2.0**-1060, X * 2.0**470), None),
        "products that underflow": (np.where(X > 0, 2.0**-1074, 2.0**470), np.full(300, 2.0**-300)),
        "mixed scales": (spread, None),
        "mixed scales, weights": (spread, uneven),
        "one row": (X[:1], None),
        "one column": (X[:, :1], uneven),
        "many columns": (local.standard_normal((9, 300)), None),
        "rows in many blocks": (local.standard_normal((3000, 1)).astype(np.float32).astype(np.float64), None),
        "negative extremes": (-np.abs(X), None),
    }


TABLES = tables()


def assert_same_grid(got, want):
    assert got.n_limbs == want.n_limbs
    assert got.bits == want.bits
    assert np.array_equal(got.scale, want.scale)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.uint8])
def test_the_device_makes_the_grid_of_the_host(name, dtype, monkeypatch):
    if name == "rows in many blocks":
        monkeypatch.setattr(tuning, "STRIDE_BLOCKS", 20)  # so that each takes rows in several turns
    X, weight = TABLES[name]
    with np.errstate(over="ignore", invalid="ignore"):
        X = X.astype(dtype)
    if not np.isfinite(X).all():
        X = X.clip(np.finfo(dtype).min, np.finfo(dtype).max)
    rows = CupyBackend(EmulatorDevice()).load(X, weight)
    want = X if X.dtype != np.float16 else X.astype(np.float64)
    assert_same_grid(rows.grid, Grid.for_rows(want, weight))
    assert np.array_equal(rows.table.device.download(rows.table.facts.scale), rows.grid.scale[None])
    assert_same_grid(rows.unweighted().grid, Grid.for_rows(want))
    assert_same_grid(NumpyBackend().load(want, weight).grid, rows.grid)


def test_the_tables_need_one_limb_or_two():
    """So that both answers are asked for, at the very edge too."""
    found = {name: CupyBackend(EmulatorDevice()).load(*TABLES[name]).grid.n_limbs for name in TABLES}
    assert found["on the edge of a limb"] == found["whole numbers"] == found["zeros"] == found["noise, few bits"] == 1
    assert found["beyond the edge of a limb"] == found["a second limb for one value"] == found["noise"] == 2


@pytest.mark.parametrize("name", TABLES)
def test_one_limb_holds_what_the_grid_says(name):
    """In rational arithmetic: with one limb nothing is lost, unless a product underflows; with two, something was."""
    X, weight = TABLES[name]
    X, weight = X[:400], None if weight is None else weight[:400]
    grid = CupyBackend(EmulatorDevice()).load(X, weight).grid
    table = X if weight is None else X * weight[:, None]
    lost = [
        limbs(y, grid.scale[f], 0, 1)[0] != Fraction(float(y)) * Fraction(float(grid.scale[f]))
        for row in table
        for f, y in enumerate(row)
    ]
    assert max(np.abs(table).max(axis=0) * grid.scale) <= 2.0**grid.bits
    assert any(lost) == (grid.n_limbs == 2) or "underflow" in name or "subnormal and huge" in name


@pytest.mark.parametrize("weighted", [False, True])
def test_no_order_of_threads_changes_a_fact(weighted):
    X, weight = TABLES["mixed scales, weights"]
    weight = weight if weighted else None
    scale = Grid.for_rows(X, weight).scale
    want = np.abs(X if weight is None else X * weight[:, None]).max(axis=0)
    for order, seed in (("forward", 0), ("reverse", 0), ("random", 1), ("random", 2)):
        device = watched(order, seed)
        assert np.array_equal(column_facts(device, X, weight)[0], want)
        assert row_facts(device, X, weight, scale)[1:] == (np.inf, np.abs(X).max(), 1.0)


# ---- values that are not allowed -------------------------------------------------------------------------------------


def words_of_scikit_learn(X):
    with pytest.raises(ValueError, match="Input X contains") as caught:
        assert_all_finite(X, input_name="X")
    return str(caught.value)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("n", "d"), [(1, 1), (300, 3), (5, 200)])
def test_what_is_not_finite_is_caught_wherever_it_sits(dtype, bad, n, d):
    local = np.random.default_rng(2)
    for i, f in {(0, 0), (n - 1, d - 1), (n // 2, d // 2), (0, d - 1), (n - 1, 0)}:
        X = local.standard_normal((n, d)).astype(dtype)
        X[i, f] = bad
        words = words_of_scikit_learn(X)
        for weight in (None, np.zeros(n) + (np.arange(n) != i)):  # infinity times zero is no infinity any more
            for sums in (True, False):
                with pytest.raises(ValueError, match="Input X contains") as caught:
                    CupyBackend(EmulatorDevice()).load(X, weight, sums=sums)
                assert str(caught.value).splitlines()[0] == words  # advice follows


def test_where_both_are_nan_comes_first():
    X = np.array([[np.inf, 0.0], [0.0, np.nan]])
    for rows in (X, X[::-1].copy()):
        with pytest.raises(ValueError, match=r"^Input X contains NaN\.\n"):
            CupyBackend(EmulatorDevice()).load(rows)


@pytest.mark.parametrize("sums", [True, False])
def test_values_may_be_as_large_as_the_host_allows(sums):
    X = np.array([[2.0**480], [-1.0]])
    assert CupyBackend(EmulatorDevice()).load(X, sums=sums).n_samples == 2
    with pytest.raises(ValueError, match=r"X has values up to 1e\+200 in magnitude; squared distances need at most"):
        CupyBackend(EmulatorDevice()).load(np.array([[-1e200], [0.0]]), sums=sums)


def test_both_backends_say_the_same():
    for X in (np.array([[np.nan, 1.0]], np.float32), np.array([[1.0, -np.inf]], np.float32)):
        words = []
        for backend in (NumpyBackend(), CupyBackend(EmulatorDevice())):
            assert backend.checks_values(X.dtype)
            with pytest.raises(ValueError, match="Input X contains") as caught:
                backend.load(X)
            words.append(str(caught.value))
        assert words[0] == words[1]


# ---- the checks can fail ---------------------------------------------------------------------------------------------

FAULTS = {
    "NaN is lost among numbers": ("largest = larger_magnitude(largest, value)", "largest = fmax(largest, fabs(value))"),
    "only the first group of columns is seen": ("g = 1; g < groups", "g = 1; g < 1"),
    "the product is forgotten": ("weights ? __dmul_rn(value, weights[i]) : value);", "value);"),
    "a second limb is overlooked": ("finer = units != rint(units);", "finer = false;"),
    "one lane decides for all": ("finer = __any_sync(EVERY_LANE, finer);", ""),
    "groups are read too early": ("__syncthreads();  // every group has its own", ""),
}


@pytest.mark.parametrize("name", some_weekly(FAULTS))
def test_planted_faults_are_caught(name):
    def check(*faults):
        device = watched("random", 1, faults)
        for table in ("mixed scales, weights", "a second limb for one value", "one column"):
            X, weight = TABLES[table]
            assert_same_grid(CupyBackend(device).load(X, weight).grid, Grid.for_rows(X, weight))
        bad = np.ones((40, 40))
        bad[17, 20] = np.nan
        with pytest.raises(ValueError, match="NaN"):
            CupyBackend(device).load(bad, sums=False)

    check()
    with pytest.raises((AssertionError, RuntimeError, pytest.fail.Exception)):
        check(FAULTS[name])
