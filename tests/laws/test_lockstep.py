"""Restarts that advance together end in the bits in which each ends alone."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

from gpukmeans import KMeans
from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.backends.cpu.lockstep import draws as numpy_draws
from gpukmeans.backends.cpu.lockstep import runs as numpy_runs
from gpukmeans.certificates.rounding import ScoreRadius
from gpukmeans.datasets import exact_ties, near_ties
from gpukmeans.engine.lloyd import lloyd
from gpukmeans.engine.lockstep import lockstep
from gpukmeans.engine.records import FitReport
from gpukmeans.engine.restarts import Restarts
from gpukmeans.engine.seeding.draws import probabilities
from gpukmeans.engine.seeding.plusplus import kmeans_plusplus
from gpukmeans.engine.tolerance import mean_variance
from gpukmeans.exact.sums import exact_total, exact_totals
from tests.support.assertions import assert_labels, assert_same
from tests.support.law_cases import blobs, uneven
from tests.support.oracles import inertia as rational_inertia
from tests.support.oracles import nearest

DTYPES = [np.uint8, np.float32, np.float64]
ALONE = NumpyBackend(lockstep=False)


def fit(X, k, backend, sample_weight=None, **params):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = KMeans(k, backend=backend, **{"tol": 0, "n_init": 4, "random_state": 3, **params})
        return model.fit(X, sample_weight=sample_weight)


def story(model):
    return [(i.init, i.iteration, i.n_moved, i.shift, i.n_relocated) for i in model.fit_report_.iterations]


def assert_same_story(X, k, **params):
    together, alone = fit(X, k, NumpyBackend(), **params), fit(X, k, ALONE, **params)
    assert_same(together, alone, history=True)
    for record in together.fit_report_.iterations:
        settled = record.n_skipped + record.n_certified + record.n_resolved + record.n_exact + record.n_uncertain
        assert settled == len(X)
    return together


def data(kind, dtype):
    """(rows, number of clusters, weights)"""
    local = np.random.default_rng(80)
    if kind == "blobs":
        return blobs(dtype, 300, 7), 6, None
    if kind == "weights":
        return blobs(dtype, 200, 5), 5, uneven(200)
    if kind == "weights of many bits":
        return blobs(dtype, 150, 3), 4, local.random(150) ** 8
    if kind == "duplicates":
        return blobs(dtype, 6, 4)[local.integers(6, size=80)], 5, None
    if kind == "fewer rows than clusters, in truth":
        return blobs(dtype, 3, 4)[local.integers(3, size=40)], 5, None
    if kind == "one column":
        return blobs(dtype, 150, 1), 4, None
    if kind == "one cluster":
        return blobs(dtype, 30, 3), 1, None
    if kind == "k = n":
        return blobs(dtype, 25, 4), 25, None
    if kind == "300 clusters":
        return blobs(dtype, 900, 3), 300, None
    if kind == "wide range":
        return (blobs(np.float64, 120, 4) * np.array([1e-3, 1.0, 1e3, 0.0])).astype(dtype), 5, None
    if kind == "far from the origin":
        return (blobs(dtype, 120, 4).astype(np.float64) + 2.0**18).astype(dtype), 5, None
    if kind == "huge":
        return (blobs(np.float64, 60, 3) * 2.0**70).astype(dtype), 4, None
    if kind == "tiny":
        return (blobs(np.float64, 60, 3) * 2.0**-80).astype(dtype), 4, None
    if kind == "ties":
        return exact_ties(120, 6, 8, seed=2, dtype=dtype)[0], 6, None
    if kind == "near ties":
        return near_ties(120, 6, 8, seed=2, dtype=dtype)[0], 6, None
    raise ValueError(kind)


ANY = [
    "blobs",
    "weights",
    "weights of many bits",
    "duplicates",
    "fewer rows than clusters, in truth",
    "one column",
    "one cluster",
    "k = n",
    "300 clusters",
    "ties",
]
FLOATS = ["wide range", "far from the origin", "huge", "tiny", "near ties"]
DATA = [(kind, t) for kind in ANY for t in DTYPES] + [(kind, t) for kind in FLOATS for t in (np.float32, np.float64)]


@pytest.mark.one_in(4)
@pytest.mark.parametrize("init", ["k-means++", "random"])
@pytest.mark.parametrize(("kind", "dtype"), DATA)
def test_restarts_end_in_the_bits_of_single_runs(kind, dtype, init):
    X, k, weight = data(kind, dtype)
    assert_same_story(X, k, init=init, sample_weight=weight)


@pytest.mark.parametrize("n_init", [1, 3])
@pytest.mark.parametrize(("tol", "max_iter"), [(0, 1), (0, 2), (0, 5), (1e-2, 300), (1e-1, 300), (1e-4, 4)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_runs_stop_where_they_stop_alone(dtype, tol, max_iter, n_init):
    got = assert_same_story(blobs(dtype, 250, 4), 7, tol=tol, max_iter=max_iter, n_init=n_init)
    assert got.n_iter_ <= max_iter


def test_digits_end_in_the_bits_of_single_runs():
    got = assert_same_story(load_digits().data, 10, n_init=10, max_iter=1000)
    assert len({record.init for record in got.fit_report_.iterations}) == 10


def test_more_restarts_than_advance_together(monkeypatch):
    X = blobs(np.float32, 120, 3)
    monkeypatch.setattr(numpy_runs, "SCORES", 3 * 120 * 5)
    assert NumpyBackend().load(X).runs_at_a_time(5, 2) == 3
    assert_same_story(X, 5, n_init=8)


def test_large_problems_run_alone():
    rows = NumpyBackend().load(np.zeros((4096, 64), np.uint8))
    assert rows.runs_at_a_time(1, 2) > 1
    assert rows.runs_at_a_time(2000, 2) == 0
    assert NumpyBackend().load(np.zeros((4097, 64), np.uint8)).runs_at_a_time(1, 2) == 0
    assert NumpyBackend().load(np.zeros((2**16 + 1, 1), np.uint8)).runs_at_a_time(2, 2) == 0
    assert (
        ALONE.load(np.zeros((10, 2))).runs_at_a_time(2, 2)
        == NumpyBackend(skip=False).load(X=np.zeros((9, 2))).runs_at_a_time(2, 2)
        == 0
    )


# ---- runs, one by one --------------------------------------------------------------------------------------------


def run_both(X, starts, sample_weight=None, max_iter=300, tol=0.0):
    rows = NumpyBackend().load(X, sample_weight)
    params = {"sample_weight": sample_weight, "max_iter": max_iter, "tol": tol}
    alone = [lloyd(rows, start, init=i, **params) for i, start in enumerate(starts)]
    return lockstep(rows, starts, **params), alone


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_features", [1, 9, 60])
def test_near_ties_are_settled_as_in_real_arithmetic(n_features, dtype):
    X, C = near_ties(300, 6, n_features, seed=5, dtype=dtype)
    runs = NumpyBackend().load(X).start_many(np.stack([C, C[::-1], C]))
    assigned = runs.assign()
    assert assigned.n_certified.max() < 150
    assert (assigned.n_exact.min() > 0) == (dtype == np.float64 and n_features > 1) or n_features == 60
    for run, centers in enumerate((C, C[::-1], C)):
        assert_labels(runs.outcome(run)[0], X, centers)


def test_equal_centers_are_one_candidate():
    X = blobs(np.float32, 90, 3)
    apart = X[[0, 30, 60, 80]]
    starts = [apart, apart[[0, 0, 1, 1]], apart[[2, 2, 2, 2]], apart[[3, 1, 1, 0]]]
    runs = NumpyBackend().load(X).start_many(np.stack(starts))
    runs.assign()
    for run, centers in enumerate(starts):
        assert_labels(runs.outcome(run)[0], X, centers)


def test_runs_that_empty_a_cluster_start_over_alone():
    X = blobs(np.float64, 80, 3)
    far = np.stack([X[0], X[30], np.full(3, 5000.0), np.full(3, 6000.0)])
    starts = [X[:4], far, X[10:14], X[[5, 5, 6, 7]]]
    best, alone = run_both(X, starts)
    assert sum(record.n_relocated for record in best.iterations) > 0
    assert [(i.init, i.n_moved, i.shift, i.n_relocated) for i in best.iterations] == [
        (i.init, i.n_moved, i.shift, i.n_relocated) for result in alone for i in result.iterations
    ]
    want = min(alone, key=lambda result: result.inertia)
    assert best.inertia == want.inertia
    assert np.array_equal(best.labels, want.labels)
    assert np.array_equal(best.centers, want.centers)


def test_of_equal_inertias_the_first_run_is_kept():
    X = blobs(np.float32, 200, 2)
    start = X[:3]
    best, alone = run_both(X, [start[::-1], start, start[[1, 0, 2]]])
    assert len({result.inertia for result in alone}) == 1
    assert np.array_equal(best.labels, alone[0].labels)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_inertia_lies_within_its_bounds(dtype, weighted):
    X = blobs(dtype, 70, 5)
    weight = uneven(70) if weighted else None
    starts = np.stack([X[:4], X[20:24]]).astype(np.float32 if dtype == np.float32 else np.float64)
    runs = NumpyBackend().load(X, weight).start_many(starts)
    for _ in range(3):
        runs.assign()
        lowest, highest = runs.inertia_bounds()
        for run in range(2):
            labels, centers = runs.outcome(run)
            assert lowest[run] <= rational_inertia(X, centers, labels, weight) <= highest[run]
            assert lowest[run] <= runs.inertia(labels, centers) <= highest[run]
            assert highest[run] - lowest[run] < 1e-3 * highest[run]
        runs.update()


@pytest.mark.parametrize("offset", [0.0, 3e6])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_scatter_lies_within_its_bounds(dtype, offset):
    """The center that the scatter is about is rounded: in float32 and far from the origin by more than rows differ."""
    X = blobs(dtype, 70, 5) + np.dtype(dtype).type(0 if dtype == np.uint8 else offset)
    rows = NumpyBackend().load(X)
    lowest, highest = rows.scatter_bounds()
    assert lowest <= mean_variance(rows) * X.size <= highest
    assert dtype == np.float32 or highest - lowest < 1e-6 * highest


def test_totals_of_columns_are_those_of_each():
    terms = np.random.default_rng(81).random((9, 5)) ** 20
    terms[:, 2] = 0.0
    assert exact_totals(terms).tolist() == [exact_total(column) for column in terms.T]


# ---- draws ----------------------------------------------------------------------------------------------------------


def restarts(X, k, weight, n_init, seed):
    dtype = np.dtype(np.float32 if X.dtype == np.float32 else np.float64)
    backend = NumpyBackend()
    rows = backend.load(X, weight)
    state = np.random.RandomState(seed)
    return Restarts(lambda: X, backend, rows, weight, "k-means++", k, n_init, state, dtype, FitReport())


@pytest.mark.one_in(2)
@pytest.mark.parametrize(("kind", "dtype"), DATA)
def test_the_draws_are_those_of_single_runs(kind, dtype):
    X, k, weight = data(kind, dtype)
    many, single = restarts(X, k, weight, 5, 7), restarts(X, k, weight, 5, 7)
    for got in many._starts(many.n_init):
        assert np.array_equal(got, single._start())
    assert many.random_state.random_sample() == single.random_state.random_sample()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_most_draws_need_no_second_look_and_ties_do(dtype):
    local = np.random.default_rng(82)
    n_trials = 3
    draws = local.random((6, 4, n_trials))
    X = local.standard_normal((400, 6)).astype(dtype)
    drawn = NumpyBackend().load(X).plusplus(local.integers(400, size=(6, 1)), draws)
    assert drawn.n_certain.tolist() == 6 * [5]
    assert drawn.rows.shape == (6, 5)
    twins = (np.repeat(local.standard_normal((2, 6)), 200, axis=0)).astype(dtype)
    drawn = NumpyBackend().load(twins).plusplus(local.integers(400, size=(6, 1)), draws)
    assert (drawn.n_certain < 5).all()


def test_draws_whose_sums_overflow_are_not_certain():
    X = np.ldexp(np.random.default_rng(84).standard_normal((2**16, 2)), 478)
    rows = NumpyBackend().load(X, np.full(2**16, 2.0**50))
    with np.errstate(over="ignore", invalid="ignore"):
        drawn = rows.plusplus(np.array([[0]]), np.full((1, 3, 3), 0.5))
    assert drawn.n_certain.tolist() == [1]


# ---- faults ---------------------------------------------------------------------------------------------------------


def test_a_radius_too_tight_is_seen(monkeypatch):
    X, C = near_ties(300, 6, 9, seed=5)
    monkeypatch.setattr(numpy_runs, "stacked_score_radius", lambda d, largest: ScoreRadius(1e-9, 1e-9))
    runs = NumpyBackend().load(X).start_many(C[None])
    runs.assign()
    assert not np.array_equal(runs.outcome(0)[0], nearest(X, C))


def test_draws_that_take_no_errors_into_account_are_seen(monkeypatch):
    """Rows far from each other, two of them twins but for the last bits: which trial is best drowns in rounding."""
    local = np.random.default_rng(83)
    X = np.repeat(local.standard_normal((12, 5)) * 1e6, 2, axis=0)
    X[1::2] *= 1.0 + 2.0**-50
    p = probabilities(len(X), None, np.dtype(np.float64))

    def wrong():
        found = 0
        for seed in range(20):
            rows = NumpyBackend().load(X)
            state = np.random.RandomState(seed)
            first = state.choice(len(X), p=p)
            drawn = rows.plusplus(np.array([[first]]), state.uniform(size=(1, 9, 4)))
            certain = slice(0, drawn.n_certain[0])
            alone = NumpyBackend(lockstep=False).load(X)
            want = kmeans_plusplus(alone, 10, np.random.RandomState(seed), p)
            found += not np.array_equal(drawn.rows[0, certain], want[certain])
        return found

    assert wrong() == 0
    monkeypatch.setattr(numpy_draws, "gamma", lambda m, unit: 0.0)
    monkeypatch.setattr(numpy_draws, "UNIT64", 0.0)
    assert wrong() > 0
