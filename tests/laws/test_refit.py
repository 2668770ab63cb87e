"""`refit` ends in the bits of the plain fit from the model's centers, and looks at the new rows first."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
from scipy import sparse

import gpukmeans
from gpukmeans import KMeans, MiniBatchKMeans
from gpukmeans.backends import NumpyBackend
from gpukmeans.engine.tolerance import mean_variance
from gpukmeans.estimators.refits import State
from tests.support.assertions import assert_same
from tests.support.toy_backend import ToyBackend

RNG = np.random.default_rng(4)
N, OLD = 3000, 2600
X = RNG.integers(0, 6, (N, 1)) * 2.0 + RNG.standard_normal((N, 7))
WEIGHT = RNG.integers(1, 4, N) / 3


def refitted(X, k, *, weight=None, n_old=OLD, backend=None, **parameters):
    """The model that `refit` returns, and the plain fit."""
    old = None if weight is None else weight[:n_old]
    model = KMeans(k, random_state=0, backend="numpy", **parameters).fit(X[:n_old], sample_weight=old)
    state = gpukmeans.keep_state(model, X[:n_old], sample_weight=old)
    model.set_params(backend=backend or NumpyBackend())
    plain = KMeans(k, init=model.cluster_centers_, n_init=1, backend=NumpyBackend(), **parameters)
    want = plain.fit(X, sample_weight=weight)
    return gpukmeans.refit(model, X, n_old=n_old, state=state, sample_weight=weight), want


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["", "weights"])
def test_a_refit_has_the_bits_of_the_plain_fit(dtype, weight):
    rows = np.clip(X * 12 + 60, 0, 255).astype(dtype)
    for k, parameters in ((6, {"tol": 0}), (6, {"tol": 0.05}), (1, {}), (150, {"max_iter": 5})):
        got, want = refitted(rows, k, weight=weight, **parameters)
        assert_same(got, want)
        records = got.fit_report_.iterations
        assert [r.n_moved for r in records] == [r.n_moved for r in want.fit_report_.iterations]
        if k > 1 and dtype == "float64":
            assert records[0].n_skipped > 0.9 * OLD, "the old rows were looked at"


def test_a_wider_grid_finds_the_sums_anew():
    wide = X.copy()
    for column in (2, 5, 6):  # that column alone, then all
        wide[OLD + 3, column] = 1e5
        for weight in (None, WEIGHT):
            assert_same(*refitted(wide, 6, tol=0, weight=weight))
    far = X.copy()
    far[OLD:] *= 1e130  # fitted in another unit: no short cut
    assert_same(*refitted(far, 6))
    assert_same(*refitted(np.array([[1.0], [-1.0], [2.0**60]]), 1, n_old=2))  # its center is 0 in any unit
    with pytest.raises(ValueError, match="values far from one"):
        refitted(X * 1e-170, 6)


def test_nothing_new_equal_centers_and_other_backends():
    assert_same(*refitted(X, 6, n_old=N))
    twins = np.repeat(X[:5], 600, axis=0)
    with pytest.warns(match="Number of distinct clusters"):
        assert_same(*refitted(twins, 7))
    assert_same(*refitted(X[:, :1].copy(), 6, tol=0))  # rows of one feature, which are sorted
    assert_same(*refitted(X, 6, backend=ToyBackend()))
    assert_same(*refitted(X, 6, backend=NumpyBackend(skip=False)))


def test_bounds_of_the_variance_hold():
    for scale, shift in ((1.0, 0.0), (1e-3, 50.0), (1.0, 1e7)):
        rows = (X * scale + shift).astype(np.float32)
        model = KMeans(3, random_state=0, backend="numpy").fit(rows[:OLD])
        state = gpukmeans.keep_state(model, rows[:OLD])
        given = model._receive_again(rows)
        tolerance = state.tolerance(given, 1.0)
        value = mean_variance(given.load())
        assert tolerance._lowest <= value <= tolerance._highest
        assert float(tolerance) == value


def test_a_state_is_saved_apart_and_recognises_its_rows(tmp_path):
    model = KMeans(6, random_state=0, backend="numpy").fit(X[:OLD])
    size = len(pickle.dumps(model))
    state = gpukmeans.keep_state(model, X[:OLD])
    assert len(pickle.dumps(model)) == size
    state = State.load(state.save(tmp_path / "state.npz"))
    again = gpukmeans.refit(model, X, n_old=OLD, state=state)
    assert len(pickle.dumps(again)) < size + 4 * (N - OLD) + 2000
    assert_same(again, gpukmeans.refit(model, X, n_old=OLD))
    assert "2,600 rows, 6 clusters" in repr(state)
    for call, why in (
        (lambda: gpukmeans.refit(model, X[1:], n_old=OLD, state=state), "not those of the state"),
        (lambda: gpukmeans.refit(model, X[:9], n_old=OLD, state=state), "not those of the state"),
        (lambda: gpukmeans.refit(model, X, n_old=OLD, state=state, sample_weight=WEIGHT), "not those of the state"),
        (lambda: gpukmeans.refit(model, X, n_old=9, state=state), "n_old=9, and the state is of 2,600 rows"),
        (lambda: gpukmeans.refit(again, X, n_old=OLD, state=state), "of other centers"),
        (
            lambda: gpukmeans.keep_state(model, X[:OLD].astype(np.float32)),
            "Centers of X are float32",
        ),
        (lambda: State.load(model.save(tmp_path / "model.npz")), "no array gpukmeans_state"),
    ):
        with pytest.raises(ValueError, match=why):
            call()
    for call in (
        lambda: gpukmeans.keep_state(model, sparse.csr_array(X)),
        lambda: gpukmeans.refit(MiniBatchKMeans(2, random_state=0).fit(X), X, n_old=OLD),
    ):
        with pytest.raises(TypeError, match=r"dense rows on the host|take a gpukmeans.KMeans"):
            call()
    assert sorted(os.listdir(tmp_path)) == ["model.npz", "state.npz"]
