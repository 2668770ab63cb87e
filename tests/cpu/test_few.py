"""A few rows get their labels by all differences at once, without screens, threads or limits on them."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from gpukmeans import KMeans
from gpukmeans.backends import NumpyBackend
from gpukmeans.backends.cpu import table
from gpukmeans.backends.cpu.few import FEW, FEW_ROWS, nearest_of_few, nearest_of_wide
from gpukmeans.backends.cpu.sums import COLUMNS, DenseSums
from gpukmeans.engine.tolerance import mean_variance, scaled_tolerance
from gpukmeans.exact.sums import Grid, weighted_rows
from gpukmeans.exact.tie_break import WIDE, resolve
from gpukmeans.intake import checks
from gpukmeans.threads import _SingleThreadedBlas, workers
from tests.support.oracles import nearest
from tests.support.sum_cases import sum_limbs

DTYPES = [np.uint8, np.float32, np.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["whole", "tenths", "far", "twins"])
def test_labels_are_the_true_nearest(kind, dtype):
    local = np.random.default_rng(0)
    for n, d, k in ((1, 1, 1), (1, 10, 10), (7, 3, 9), (40, 2, 6)):
        X, C = local.integers(0, 6, (n, d)).astype(np.float64), local.integers(0, 6, (k, d)).astype(np.float64)
        if kind == "tenths":
            X, C = X / 10, C / 10
        elif kind == "far":
            X, C = X + 2.0**30, C + 2.0**30
        elif kind == "twins":
            C[-1] = C[0]
        X = (X % 256).astype(dtype)
        C = (C % 256 if dtype == np.uint8 else C).astype(np.float32 if dtype == np.float32 else np.float64)
        labels, n_exact = nearest_of_few(X, C)
        assert labels.dtype == np.int32
        assert np.array_equal(labels, nearest(X, C))
        assert 0 <= n_exact <= n


def test_ties_that_float64_leaves_open_are_decided_exactly():
    """1/10 is no float64: halfway between 0.1 and 0.3 lies 0.2 or a neighbour of it."""
    C = np.array([[0.1], [0.3]])
    X = np.array([[0.2], [np.nextafter(0.2, 0)], [np.nextafter(0.2, 1)]])
    labels, n_exact = nearest_of_few(X, C)
    assert n_exact >= 1
    assert np.array_equal(labels, nearest(X, C))
    assert len(np.unique(labels)) == 2


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_left_to_the_errors(value):
    X = np.ones((3, 2), np.float32)
    X[1, 0] = value
    with np.errstate(invalid="ignore"):
        assert nearest_of_few(X, np.eye(2, dtype=np.float32)) is None
    model = KMeans(2, backend="numpy", random_state=0).fit(np.random.default_rng(0).normal(size=(20, 2)).astype("f4"))
    with pytest.raises(ValueError, match="Input X contains"):
        model.predict(X)


@pytest.mark.parametrize("dtype", DTYPES)
def test_predict_of_a_row_takes_the_short_way(dtype, monkeypatch):
    """A plain row is neither converted nor screened, and BLAS keeps its threads: each takes longer than the rest."""
    X = np.random.default_rng(0).integers(0, 200, (90, 10)).astype(dtype)
    model = KMeans(4, backend="numpy", random_state=0).fit(X)

    def refuse(*_, **__):
        raise AssertionError("the long way")

    monkeypatch.setattr(checks, "check_array", refuse)
    monkeypatch.setattr(checks, "validate_data", refuse)
    monkeypatch.setattr(_SingleThreadedBlas, "__enter__", refuse)
    for row, label in zip(X, model.labels_.tolist(), strict=True):
        assert model.predict(row[None]).tolist() == [label]
    with pytest.raises(AssertionError, match="the long way"):
        model.predict(X[:1].tolist())


def test_many_rows_are_screened():
    for n, d, k in ((FEW_ROWS, 4, 2), (FEW_ROWS, FEW // (2 * FEW_ROWS), 2), (1, FEW // 8, 8)):
        X = np.random.default_rng(0).normal(size=(max(n, k), d))
        run = NumpyBackend().load(X[:n], sums=False).start(X[:k])
        assert run.assign(move=False).n_resolved == n
    for n, d, k in ((FEW_ROWS + 1, 4, 2), (FEW_ROWS, FEW // (2 * FEW_ROWS) + 1, 2), (1, FEW // 8, 9)):
        X = np.random.default_rng(0).normal(size=(max(n, k), d))
        run = NumpyBackend().load(X[:n], sums=False).start(X[:k])
        assert run.assign(move=False).n_certified > 0


def test_names_and_numbers_of_features_are_checked_on_the_short_way():
    pandas = pytest.importorskip("pandas")
    X = np.random.default_rng(0).normal(size=(20, 3))
    model = KMeans(2, backend="numpy", random_state=0).fit(pandas.DataFrame(X, columns=list("abc")))
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        assert model.predict(X[:1]) == model.labels_[0]
    with pytest.raises(ValueError, match="X has 2 features, but KMeans is expecting 3 features"):
        model.fit(X).predict(np.zeros((1, 2)))
    assert not hasattr(model, "feature_names_in_")


# ---- rows with many features -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["whole", "tenths", "far", "noise"])
def test_wide_rows_get_the_true_nearest(kind, dtype):
    local = np.random.default_rng(0)
    X, C = local.integers(0, 3, (30, 5)).astype(np.float64), local.integers(0, 3, (8, 5)).astype(np.float64)
    if kind == "tenths":
        X, C = X / 10, C / 10
    elif kind == "far":
        X, C = X + 2.0**30, C + 2.0**30
    elif kind == "noise":
        X, C = local.normal(size=(30, 5)), local.normal(size=(8, 5))
    X = (np.abs(X) % 256).astype(dtype)
    C = (np.abs(C) % 256 if dtype == np.uint8 else C).astype(np.float32 if dtype == np.float32 else np.float64)
    candidates = local.random((30, 8)) < 0.7
    candidates[:, 2] = True
    alive = np.arange(8)
    for some in (None, candidates):
        got, n_exact = nearest_of_wide(X, C, alive, False, some)
        want, n_needed = resolve(X, C, alive, False, some)
        assert np.array_equal(got, want)
        assert n_exact <= n_needed
    assert np.array_equal(nearest_of_wide(X, C, alive, False, None)[0], nearest(X, C))
    if kind == "noise" and dtype != np.uint8:
        assert nearest_of_wide(X, C, alive, False, None)[1] == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fits_of_wide_rows_end_in_the_same_bits(dtype, monkeypatch):
    local = np.random.default_rng(1)
    X = local.normal(size=(40, 9000)).astype(dtype)
    X[::4] = X[0]
    got = KMeans(4, random_state=0, backend="numpy").fit(X)
    monkeypatch.setattr(table, "WIDE", 10**9)
    want = KMeans(4, random_state=0, backend="numpy").fit(X)
    plain = KMeans(4, random_state=0, backend=NumpyBackend(screen=False, skip=False)).fit(X)
    for other in (want, plain):
        assert np.array_equal(got.labels_, other.labels_)
        assert got.cluster_centers_.tobytes() == other.cluster_centers_.tobytes()
        assert got.inertia_ == other.inertia_
    assert np.array_equal(got.labels_, nearest(X[:, :], got.cluster_centers_))


def test_a_fit_of_wide_rows_takes_little_memory_beside_them():
    """Blocks are few rows where rows are long: copies of all rows would show."""
    X = np.random.default_rng(2).normal(size=(60, 60_000))
    KMeans(5, random_state=0, backend="numpy").fit(X[:, :50])
    tracemalloc.start()
    try:
        KMeans(5, random_state=0, backend="numpy", max_iter=3).fit(X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2.5 * X.nbytes


@pytest.mark.parametrize("far", [0.0, 1e3])
def test_long_float64_rows_are_screened_without_a_conversion(far):
    """Centers so near to one another that float32 would leave every row open."""
    local = np.random.default_rng(0)
    X = local.standard_normal((9, WIDE)) + far
    C = X[0] + 1e-4 * local.standard_normal((4, WIDE))
    run = NumpyBackend().load(X).start(C)
    assert run.assign().n_certified == len(X)
    assert np.array_equal(run.labels(), nearest(X, C))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_of_many_columns_are_those_of_each(dtype, weighted):
    local = np.random.default_rng(1)
    X = (9 * local.random((50, 2 * COLUMNS + 3))).astype(dtype)
    weight = local.random(50) if weighted else None
    grid = Grid.for_rows(X, weight)
    limbs = sum_limbs(grid, weighted_rows(X, weight, slice(None)))
    sums = DenseSums(X, weight, grid, 3)
    new, old = local.integers(0, 3, (2, 50)).astype(np.int32)
    with workers(X.size) as pool:
        sums.add(np.arange(50), np.full(50, -1, np.int32), old, pool)
        moved = np.flatnonzero(new != old)
        sums.add(moved, old[moved], new[moved], pool)
    for j in range(3):
        assert np.array_equal(sums.sums[:, j], limbs[:, new == j].sum(axis=1))


@pytest.mark.parametrize("largest", [1.0 - 2.0**-53, 2.0**480, 2.0**-400, 3.0])
def test_a_bound_of_the_scatter_spares_the_variance_itself(largest):
    X = np.array([[largest, 0.5 * largest], [-largest, -0.5 * largest]] * 40)
    rows = NumpyBackend(lockstep=False).load(X)
    variance = mean_variance(rows)
    lowest, highest = rows.scatter_bounds()
    assert lowest == 0.0
    assert 2.0 * variance <= highest / X.size <= 32.0 * variance
    tol = scaled_tolerance(rows, 0.5)
    assert not 20.0 * variance <= tol
    assert tol._value is None
    assert 0.5 * variance <= tol
    assert float(tol) == 0.5 * variance
    assert NumpyBackend(lockstep=False).load(X, np.full(80, 0.1)).scatter_bounds() is None
