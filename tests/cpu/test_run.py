"""One run on the CPU: bounds that pause, stages that add up, rows that are not finite, the same bits by every way."""

from __future__ import annotations

import itertools
import re
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.utils import assert_all_finite
from threadpoolctl import threadpool_limits

import gpukmeans.engine.lloyd as lloyd
from gpukmeans import KMeans, threads
from gpukmeans.backends.cpu import run as numpy_run
from gpukmeans.backends.cpu import table
from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.backends.cpu.screens import components as numpy_projection
from gpukmeans.backends.cpu.screens import full
from gpukmeans.backends.cpu.screens import grouping as numpy_grouping
from gpukmeans.backends.cpu.screens import groups as numpy_groups
from gpukmeans.backends.cpu.screens.full import RowScreen, product
from gpukmeans.certificates.rounding import UNIT32, UNIT64, gamma
from gpukmeans.datasets import near_ties
from gpukmeans.threads import Workers
from tests.support.assertions import assert_same

SWITCHES = ["skip", "screen", "project", "lockstep"]
PLAIN = NumpyBackend(**dict.fromkeys(SWITCHES, False))

# ---- bounds that are of no use pause -------------------------------------------------------------------------------


def both_ways(X, centers):
    """Runs with and without short cuts."""
    return (backend.load(X).start(centers) for backend in (NumpyBackend(), PLAIN))


def there_and_back(d, k=12, n=2000):
    """Noise under centers that wander until bounds pause, and are back where the pause began just after it ended.

    From the third pause on they stay.  Returns how long the pauses were and, by iteration, how many labels were wrong
    and how many rows skipped.
    """
    local = np.random.default_rng(d)
    X = local.standard_normal((n, d)).astype(np.float32)
    run, plain = both_ways(X, X[:k])
    lengths, wrong, skipped = [], [], []
    centers = began = X[:k]
    for _ in range(35):
        run.set_centers(centers)
        plain.set_centers(centers)
        left = run._pause
        skipped.append(run.assign().n_skipped)
        plain.assign()
        wrong.append(int((run.labels() != plain.labels()).sum()))
        if run._pause > left:
            began = centers
            lengths.append(run._pause)
        if left == 1:
            centers = began.copy()
        elif len(lengths) < 3:
            centers = local.standard_normal((k, d)).astype(np.float32)
    return lengths, wrong, skipped


@pytest.mark.parametrize("d", [8, 40])
def test_bounds_that_pause_follow_the_centers_all_the_same(d):
    lengths, wrong, skipped = there_and_back(d)
    assert sum(wrong) == 0
    assert lengths == [numpy_run.PAUSE, 2 * numpy_run.PAUSE, 3 * numpy_run.PAUSE]
    assert sum(skipped[: 3 + sum(lengths)]) == 0
    assert min(skipped[-5:]) > 0.9 * 2000  # bounds do come back


@pytest.mark.parametrize(
    ("k", "path", "by_rows"),
    [
        (12, "here here met here met met there here all here", "yyyyyyyyny"),
        (150, "here here there met met here here there all there", "yynyynnnnn"),
    ],
)
def test_bounds_of_rows_those_of_groups_and_neither_may_take_turns(monkeypatch, k, path, by_rows):
    """Where centers are equal bounds of groups cannot serve, and where all are, no row is looked at."""
    monkeypatch.setattr(numpy_groups, "WORTHWHILE", 2.0)
    X, other = np.random.default_rng(5).standard_normal((2, 1500, 8))
    here = X[:k].copy()
    here[7] = here[9] + 1e-3
    met = here.copy()
    met[7] = met[9]
    places = {"here": here, "met": met, "there": other[:k], "all": np.repeat(here[:1], k, axis=0)}
    run, plain = both_ways(X, here)
    for place, row_by_row in zip(path.split(), by_rows, strict=True):
        run.set_centers(places[place])
        plain.set_centers(places[place])
        assert ("screen" in run.assign().seconds) == (row_by_row == "y")
        plain.assign()
        assert np.array_equal(run.labels(), plain.labels())


# ---- rows, in several guises ---------------------------------------------------------------------------------------

#: Enough for projections and threads, once `small` says so.
N = 1200


@pytest.fixture
def small(monkeypatch):
    """A few rows are worth projections and threads.  Counts the uses of pools of threads, by size."""
    monkeypatch.setattr(numpy_projection, "SAMPLE", N // 10)
    monkeypatch.setattr(numpy_grouping, "SAMPLE", N // 10)
    monkeypatch.setattr(numpy_grouping, "OPEN_SHARE", 9.0)  # as if whole rows cost more
    monkeypatch.setattr(threads, "SMALL", 1)
    monkeypatch.setattr(numpy_run, "LEAST", 64)
    monkeypatch.setattr(table, "LEAST", 64)
    sizes = {}
    original = threads._pool

    def pool(size):
        sizes[size] = sizes.get(size, 0) + 1
        return original(size)

    monkeypatch.setattr(threads, "_pool", pool)
    return sizes


def blobs(local):
    middles = 10 * local.standard_normal((12, 8))
    return (middles[local.integers(12, size=N)] + local.standard_normal((N, 8))).astype(np.float32)


def images(local):
    """Dark but for strokes here and there, with all that is in them in a few directions."""
    strokes = local.standard_normal((N, 9)) @ local.standard_normal((9, 144))
    return np.clip(40 * strokes + 5 * local.standard_normal((N, 144)), 0, 255).astype(np.uint8)


def ties(local):
    """The first twelve rows are the centers between which the others lie."""
    X, C = near_ties(N - 12, 12, 17, seed=2, dtype=np.float64)
    return np.concatenate([C, X])


DATA = {
    "blobs": blobs,
    "noise": lambda local: local.standard_normal((N, 10)),
    "decaying spectrum": lambda local: (local.standard_normal((N, 96)) * 0.9 ** np.arange(96)).astype(np.float32),
    "images": images,
    "near ties": ties,
}


def fit(X, k, backend, max_iter=8):
    return KMeans(k, init=X[:k], n_init=1, tol=0, max_iter=max_iter, backend=backend).fit(X)


# ---- the same bits by every way ------------------------------------------------------------------------------------


#: Restarts advance together only with all other switches on.
WAYS = [way for way in itertools.product([True, False], repeat=4) if not way[3] or all(way)]


@pytest.mark.one_in(2)
@pytest.mark.parametrize("k", [2, 12, 150])
@pytest.mark.parametrize("name", ["blobs", "noise", "decaying spectrum", "images"])
def test_every_way_ends_in_the_same_bits(small, name, k):
    X = DATA[name](np.random.default_rng(2))
    max_iter = 4 if k == 150 else 8
    want = fit(X, k, PLAIN, max_iter)
    for n_threads in (1, 2):
        with threadpool_limits(n_threads, user_api="blas"):
            for way in WAYS:
                got = fit(X, k, NumpyBackend(**dict(zip(SWITCHES, way, strict=True))), max_iter)
                assert_same(got, want), (n_threads, way)
            assert n_threads in small or threads.n_threads() == 1


# ---- stages and counts ---------------------------------------------------------------------------------------------

BY_ROWS = {"skip", "screen", "resolve", "move", "update"}
BY_COMPONENTS = BY_ROWS | {"project", "screen and anchor", "screen components"}
BY_GROUPS = {"screen groups", "resolve", "move", "update"}
TAKEN = {
    ("blobs", 12): BY_ROWS,
    ("decaying spectrum", 12): BY_COMPONENTS,
    ("decaying spectrum", 150): BY_GROUPS,
    ("images", 12): BY_COMPONENTS,
    ("noise", 150): BY_GROUPS | BY_ROWS,
}


@pytest.mark.parametrize(("name", "k"), TAKEN)
def test_stages_are_shares_of_the_time(small, monkeypatch, name, k):
    """By a clock that advances by one at every reading."""
    ticks = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: float(next(ticks)))
    monkeypatch.setattr(numpy_run, "time", clock)
    monkeypatch.setattr(lloyd, "time", clock)
    iterations = fit(DATA[name](np.random.default_rng(2)), k, NumpyBackend(lockstep=False)).fit_report_.iterations
    assert TAKEN[name, k] <= set().union(*(record.stages for record in iterations)) <= BY_COMPONENTS | BY_GROUPS
    for record in iterations:
        assert min(record.stages.values()) >= 1
        assert sum(record.stages.values()) <= record.seconds


@pytest.mark.parametrize("lockstep", [False, True])
@pytest.mark.parametrize("k", [1, 2, 12, 150])
@pytest.mark.parametrize("name", DATA)
def test_every_row_is_settled_once_and_no_stage_goes_back_in_time(small, name, k, lockstep):
    X = DATA[name](np.random.default_rng(2))
    for precision in ("exact", "fast"):
        backend = NumpyBackend(lockstep=lockstep)
        model = KMeans(k, init=X[:k], n_init=1, max_iter=6, backend=backend, precision=precision).fit(X)
        for record in model.fit_report_.iterations:
            settled = record.n_skipped + record.n_certified + record.n_resolved + record.n_exact + record.n_uncertain
            assert settled == N
            assert record.stages.keys() <= BY_COMPONENTS | BY_GROUPS
            assert all(seconds >= 0 for seconds in record.stages.values())
            assert sum(record.stages.values()) <= record.seconds + 0.05


# ---- rows that are not finite --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("n", "k"), [(60, 1), (60, 5), (700, 150), (200_000, 1), (200_000, 5)])
def test_rows_that_are_not_finite_are_refused_in_scikit_learns_words(n, k, value):
    """float32 rows are read once, where they are labelled or put on a grid: no way may miss one."""
    X = np.random.default_rng(3).standard_normal((n, 3)).astype(np.float32)
    model = KMeans(k, init=X[:k], n_init=1, max_iter=2, backend="numpy").fit(X)
    kept, methods = vars(model).copy(), ["fit", "predict", "score", "transform", "fit_predict"]
    for row in (0, n // 2, n - 1):
        bad = X.copy()
        bad[row, 1] = value
        with pytest.raises(ValueError, match="Input X contains") as theirs:
            assert_all_finite(bad, input_name="X", estimator_name="k-means")
        for method, precision in itertools.product(methods, ["exact", "fast"]):
            model.precision = precision
            with pytest.raises(ValueError, match=f"^{re.escape(str(theirs.value))}$"):
                getattr(model, method)(bad)
        model.precision = "exact"
        assert vars(model).keys() == kept.keys()
        assert all(vars(model)[name] is thing for name, thing in kept.items())


# ---- products ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 15, 16, 39, 40, 41, 79, 80, 81, 119, 121])
def test_products_in_batches_are_products(monkeypatch, n, dtype):
    d, m = 7, 3
    monkeypatch.setattr(full, "UNPACKED", 40 * d * m)
    local = np.random.default_rng(n)
    wide, columns = local.standard_normal((2 * n, 2 * d)).astype(dtype), local.standard_normal((d, m)).astype(dtype)
    unit = UNIT32 if dtype == np.float32 else UNIT64
    for x in (np.ascontiguousarray(wide[:n, :d]), wide[::2, ::2], np.asfortranarray(wide[:n, :d])):
        for out in (None, np.full((n, m), np.nan, dtype), np.full((n, 2 * m), np.nan, dtype)[:, ::2]):
            got = product(x, columns, out)
            assert got.dtype == dtype
            assert out is None or got is out
            exact = x.astype(np.longdouble) @ columns
            assert (abs(got - exact) <= gamma(d + 1, unit) * (abs(x).astype(np.longdouble) @ abs(columns))).all()


def some_rows(dtype, shifted, n=200, d=9):
    X = 8 * np.random.default_rng(4).standard_normal((n, d)) + (100 if shifted else 0)
    if dtype == np.uint8 and not shifted:
        X[np.random.default_rng(5).random((n, d)) < 0.8] = 0  # else their mean is far from zero
        X = abs(X)
    X[7] = 0
    return X.astype(dtype)


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("m", [1, 3, 500])
def test_a_screens_products_are_those_of_shifted_rows(monkeypatch, dtype, shifted, m):
    """And the norms of these rows are known then, and of no others: upper bounds, and not by far."""
    X = some_rows(dtype, shifted)
    monkeypatch.setattr(full, "UNPACKED", 20 * 9 * 3)
    monkeypatch.setattr(threads, "FETCHED", 70 * 9)  # rows that are fetched at a time
    columns = np.random.default_rng(6).standard_normal((9, m)).astype(np.float32)
    index = np.random.default_rng(7).permutation(200)
    for rows in (slice(0, 200), slice(3, 74), slice(150, 200), index, index[:71], index[:1]):
        screen = RowScreen(X)
        assert (screen.shift is not None) == shifted
        wide = X.astype(np.float64) if screen.shift is None else X.astype(np.float64) - screen.shift
        screen.norms[:] = np.nan
        got = screen.products(rows, columns)
        assert got.dtype == np.float32
        allowed = gamma(9 + 3, UNIT32) * (abs(wide[rows]) @ abs(columns).astype(np.float64))
        assert (abs(got - wide[rows] @ columns.astype(np.float64)) <= allowed).all()
        norms = np.sqrt((wide[rows] ** 2).sum(axis=1))
        assert (screen.norms[rows] >= norms).all()
        assert (screen.norms[rows] <= norms * (1 + 1e-5) + 2.0**-50).all()
        assert np.isnan(np.delete(screen.norms, np.arange(200)[rows])).all()


def test_products_stay_until_the_same_thread_asks_for_others():
    X = some_rows(np.float32, False)
    screen, columns = RowScreen(X), np.eye(9, dtype=np.float32)
    both_have_some = threading.Barrier(2)

    def own(rows):
        for part in (rows, slice(rows.start, rows.start + 10)):
            got = screen.products(part, columns)
            both_have_some.wait(timeout=10)
            assert np.array_equal(got, X[part])
            both_have_some.wait(timeout=10)

    Workers(2).map(own, [slice(0, 100), slice(100, 200)])


# ---- what once went wrong ------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(("dtype", "far"), [(np.float32, 1e18), (np.float64, 1e16), (np.float64, 1e18)])
def test_a_center_too_far_off_for_float32_stops_no_fit(dtype, far):
    """The sample of rows need not hold the one row that a center starts from."""
    X = (np.random.default_rng(0).standard_normal((9000, 64)) * 0.85 ** np.arange(64)).astype(dtype)
    X[5] *= far
    init = np.vstack([X[5], X[100:109]])
    got, want = (KMeans(10, init=init, n_init=1, tol=0, max_iter=8, backend=b).fit(X) for b in (NumpyBackend(), PLAIN))
    assert_same(got, want)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_cluster_that_runs_empty_may_land_on_another_center():
    """Relocated to the farthest row, which weighs nothing, it is put on the heaviest cluster's center."""
    left = np.array([7.1, 7.5, 10.9, 16.1, 21.4, 29.4, 35.6])
    places = np.concatenate([-left, [-4.6, 4.6], left])
    heaps = np.repeat(places, 200 * np.array([4, 5, 4, 1, 2, 5, 4, 1, 1, 4, 5, 4, 1, 2, 5, 4]))
    X = np.random.default_rng(0).standard_normal((len(heaps) + 801, 256)) * 1e-3
    X[: len(heaps), 0] += heaps
    X[len(heaps) :, 1] += 300
    X[-1, 1] += 60
    weight = np.ones(len(X))
    weight[-1] = 0
    init = np.zeros((6, 256))
    init[:5, 0] = [-22.0, -36.5, 0, 22.0, 36.5]
    init[5, 1] = 300
    got, want = (
        KMeans(6, init=init.astype(np.float32), n_init=1, tol=0, max_iter=15, backend=b).fit(
            X.astype(np.float32), sample_weight=weight
        )
        for b in (NumpyBackend(), PLAIN)
    )
    assert_same(got, want)
    assert sum(iteration.n_relocated for iteration in want.fit_report_.iterations)


def test_blocks_of_a_fit_are_small_beside_its_rows():
    """Two threads gather, widen, screen and sum rows in blocks."""
    X = np.random.default_rng(3).random((16_384, 512), np.float32) * np.float32(0.9) ** np.arange(512, dtype=np.float32)
    model = KMeans(10, init=X[:10], n_init=1, max_iter=8, backend="numpy")
    model.fit(X[:100])  # what is imported and kept
    with threadpool_limits(2):
        tracemalloc.start()
        try:
            stages = set().union(*(iteration.stages for iteration in model.fit(X).fit_report_.iterations))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert "screen components" in stages
    assert peak < 0.55 * X.nbytes


def test_blas_has_one_thread_within_a_fit_whichever_threads_fit():
    """threadpoolctl lets one thread limit OpenBLAS: others must neither go without the limit nor leave it behind."""

    def blas_threads():
        return {library["num_threads"] for library in threads._controller().info() if library["user_api"] == "blas"}

    with threadpool_limits(2, user_api="blas"), ThreadPoolExecutor(1) as other:
        inner, outer = threads.workers(1), threads.workers(1)
        other.submit(inner.__enter__).result()
        assert blas_threads() == {1}
        outer.__enter__()
        other.submit(inner.__exit__, None, None, None).result()
        assert blas_threads() == {1}
        outer.__exit__(None, None, None)
        assert blas_threads() == {2}
