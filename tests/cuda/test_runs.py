"""Restarts that advance together on the device: the bits of restarts that run alone, in far fewer launches."""

from __future__ import annotations

import numpy as np
import pytest

from gpukmeans import KMeans
from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda.backend import CupyBackend
from gpukmeans.backends.cuda.control import HISTORY
from gpukmeans.datasets import near_ties
from gpukmeans.engine.lloyd import lloyd
from tests.emulator import EmulatorDevice
from tests.emulator.testing import skip_without_compiler
from tests.support.assertions import assert_same
from tests.support.launches.common import ROW_DTYPES, rows_and_centers


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


def case(n, d, dtype, seed=0):
    return rows_and_centers(n, 1, d, dtype, seed)[0]


def fitted(X, backend, k=5, **params):
    weight = params.pop("sample_weight", None)
    params = {"n_init": 6, "random_state": 3, "init": "random", **params}
    return KMeans(k, backend=backend, **params).fit(X, sample_weight=weight)


@pytest.mark.one_in(2)
@ROW_DTYPES
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("tol", [0.0, 1e-2])
def test_together_and_alone_end_in_the_same_bits(dtype, weighted, tol, monkeypatch):
    X = case(150, 7, dtype)
    weight = np.random.default_rng(1).uniform(0.1, 2, 150) if weighted else None
    device, lonely = EmulatorDevice(), EmulatorDevice()
    together = fitted(X, CupyBackend(device), tol=tol, sample_weight=weight)
    monkeypatch.setattr(tuning, "RUNS_TOGETHER", 1)
    alone = fitted(X, CupyBackend(lonely), tol=tol, sample_weight=weight)
    assert_same(together, alone, history=True)
    assert_same(together, fitted(X, "numpy", tol=tol, sample_weight=weight), history=True)
    assert device.n_launches < lonely.n_launches


def test_a_few_at_a_time(monkeypatch):
    X = case(90, 3, np.float32)
    want = fitted(X, "numpy")
    monkeypatch.setattr(tuning, "RUNS_TOGETHER", 4)  # 6 runs: 4, then 2
    assert_same(fitted(X, CupyBackend(EmulatorDevice(mode="check", order="random", seed=2))), want, history=True)


def test_k_means_plusplus_and_given_weights_of_zero():
    X = case(120, 4, np.float64)
    weight = (np.arange(120) % 3 > 0).astype(np.float64)
    want = fitted(X, "numpy", init="k-means++", sample_weight=weight)
    assert_same(fitted(X, CupyBackend(EmulatorDevice()), init="k-means++", sample_weight=weight), want, history=True)


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
@pytest.mark.parametrize("case_", ["rows left open", "equal centers", "empty clusters"])
def test_runs_that_the_device_gives_up_start_over_alone(case_):
    rng = np.random.default_rng(0)
    if case_ == "rows left open":
        X = near_ties(60, 4, 5, seed=1, dtype=np.float64)[0]
    elif case_ == "equal centers":
        X = np.repeat(rng.standard_normal((8, 2)), 5, axis=0)  # the start draws the same point twice
    else:
        X = np.round(rng.standard_normal((30, 1)))
    assert_same(fitted(X, CupyBackend(EmulatorDevice()), k=6), fitted(X, "numpy", k=6), history=True)


def test_a_run_that_is_given_up_takes_no_other_along():
    k = 4
    X, C = near_ties(60, k, 5, seed=1, dtype=np.float64)
    rows = CupyBackend(EmulatorDevice(mode="check", order="random", seed=1)).load(X)
    equal, far = X[:k].copy(), X[:k].copy()
    equal[1] = equal[0]
    far[-1] = 1e6
    starts = np.stack([X[10 : 10 + k], C, equal, X[30 : 30 + k], far])
    ended = rows.start_many(starts).finish(100, np.zeros(5))
    assert [end is None for end in ended] == [False, True, True, False, True]
    plain = NumpyBackend().load(X)
    for end, start in zip(ended, starts, strict=True):
        if end is not None:
            alone = lloyd(plain, start, sample_weight=None, max_iter=100, tol=0.0)
            assert np.array_equal(end.labels, alone.labels)
            assert np.array_equal(end.centers, alone.centers)
            assert end.lowest == end.highest == alone.inertia


@pytest.mark.one_in(2)
@pytest.mark.parametrize("max_iter", [1, 2, 5, HISTORY - 1, HISTORY, HISTORY + 1, 1000])
def test_every_run_ends_where_it_ends_alone(max_iter):
    """A run that takes longer than the record is, beside others that end early."""
    X = np.sort(np.random.default_rng(0).uniform(0, 1, (500, 1)), axis=0).astype(np.float32)
    starts = np.stack([X[:12], X[::42][:12], X[5:500:41][:12]])
    tols = np.array([0.0, 1e-3, 1e-9])
    rows, plain = (backend.load(X) for backend in (CupyBackend(EmulatorDevice()), NumpyBackend()))
    longest = 0
    for end, start, tol in zip(rows.start_many(starts).finish(max_iter, tols), starts, tols.tolist(), strict=True):
        alone = lloyd(plain, start, sample_weight=None, max_iter=max_iter, tol=tol)
        assert len(end.steps) == alone.n_iter
        assert [(s.assigned.n_moved, s.shift) for s in end.steps] == [(i.n_moved, i.shift) for i in alone.iterations]
        assert end.steps[-1] == end.steps[:][-1]
        assert np.array_equal(end.labels, alone.labels)
        assert np.array_equal(end.centers, alone.centers)
        assert end.lowest == end.highest == alone.inertia
        longest = max(longest, alone.n_iter)
    assert longest == max_iter or longest > HISTORY


def test_the_host_looks_after_some_iterations_only(monkeypatch):
    X = case(400, 3, np.float32)
    device = EmulatorDevice()
    rows = CupyBackend(device).load(X)
    runs = rows.start_many(np.stack([X[:8], X[50:58]]))
    looks = []
    download = device.download
    monkeypatch.setattr(device, "download", lambda array: looks.append(array.shape) or download(array))
    ended = runs.finish(1000, np.zeros(2))
    assert max(len(end.steps) for end in ended) > 16
    assert len(looks) < 12


def test_which_problems_run_together():
    def together(n, k, n_runs=10):
        return CupyBackend(EmulatorDevice()).load(np.zeros((n, 1), np.uint8)).runs_at_a_time(k, n_runs)

    assert together(1797, 10) == tuning.RUNS_TOGETHER
    assert together(1797, 10, 1) == 0  # alone the device needs no look in between
    assert together(70_000, 10) == 3
    assert together(200_000, 10) == 0  # one fills the device
    assert together(1797, tuning.FEW_CENTERS + 1) == 0
