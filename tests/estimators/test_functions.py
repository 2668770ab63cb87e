"""kmeans_plusplus and k_means as functions: scikit-learn's rows, clusterings and errors."""

from __future__ import annotations

import doctest
import inspect

import numpy as np
import pytest
from sklearn import cluster
from sklearn.datasets import load_digits, make_blobs
from sklearn.utils._param_validation import InvalidParameterError

import gpukmeans
from gpukmeans import KMeans, k_means, kmeans_plusplus
from gpukmeans.arrays.on_device import host_copy
from gpukmeans.backends.cuda.backend import CupyBackend
from gpukmeans.estimators import functions
from tests.emulator import EmulatorDevice
from tests.emulator.testing import skip_without_compiler
from tests.support.small_fits import rows


def blobs(seed=1):
    return make_blobs(400, 5, centers=6, random_state=seed)[0]


# ---- kmeans_plusplus -------------------------------------------------------------------------------------------------


@pytest.mark.one_in(4)
@pytest.mark.parametrize("n_clusters", [1, 2, 9, 30])
@pytest.mark.parametrize("n_local_trials", [None, 1, 4])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_rows_drawn_are_scikit_learns(n_clusters, n_local_trials, weighted):
    X = load_digits().data
    for seed in range(6):
        weight = np.random.default_rng(seed).random(len(X)) if weighted else None
        params = {"sample_weight": weight, "random_state": seed, "n_local_trials": n_local_trials}
        centers, indices = kmeans_plusplus(X, n_clusters, backend="numpy", **params)
        want, drawn = cluster.kmeans_plusplus(X, n_clusters, **params)
        assert indices.tolist() == drawn.tolist()
        assert np.array_equal(centers, want)
        assert centers.dtype == want.dtype
        assert indices.dtype == drawn.dtype


def test_a_random_state_goes_on_as_scikit_learns():
    ours, theirs = np.random.RandomState(3), np.random.RandomState(3)
    for k in (4, 5):
        got, want = (
            kmeans_plusplus(blobs(), k, random_state=ours),
            cluster.kmeans_plusplus(blobs(), k, random_state=theirs),
        )
        assert got[1].tolist() == want[1].tolist()
    assert ours.randint(1 << 30) == theirs.randint(1 << 30)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, np.float32, np.float64])
def test_centers_keep_the_dtype_of_the_rows(dtype):
    X = rows(dtype)
    centers, indices = kmeans_plusplus(X, 5, random_state=0, backend="numpy")
    assert centers.dtype == dtype
    assert np.array_equal(centers, X[indices])
    centers, again = kmeans_plusplus(X.tolist(), 5, random_state=0, backend="numpy")
    assert centers.dtype == np.float64
    assert np.array_equal(centers, X[again])


def test_every_backend_draws_the_same(backend):
    X, weight = rows(n=90), np.random.default_rng(0).random(90)
    for params in ({}, {"sample_weight": weight}, {"n_local_trials": 1}):
        got = kmeans_plusplus(X, 7, random_state=2, backend=backend, **params)
        want = kmeans_plusplus(X, 7, random_state=2, backend="numpy", **params)
        assert [part.tolist() for part in got] == [part.tolist() for part in want]


def test_rows_on_a_device_are_drawn_there():
    skip_without_compiler()
    device, X = EmulatorDevice(), rows(np.float32)
    there = device.upload(X)
    found = kmeans_plusplus(there, 5, random_state=0, backend=CupyBackend(device))
    assert {type(part) for part in found} == {type(there)}
    centers, indices = map(host_copy, found)
    assert indices.tolist() == kmeans_plusplus(X, 5, random_state=0, backend="numpy")[1].tolist()
    assert np.array_equal(centers, X[indices])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_clusters": 500}, "n_samples=400 should be >= n_clusters=500."),
        ({"x_squared_norms": np.ones(3)}, "The length of x_squared_norms 3 should be equal to the length of n_samples"),
        ({"sample_weight": np.ones(3)}, r"sample_weight.shape == \(3,\), expected \(400,\)!"),
    ],
)
def test_wrong_values_get_scikit_learns_errors(params, message):
    params = {"n_clusters": 3, **params}
    for function in (cluster.kmeans_plusplus, kmeans_plusplus):
        with pytest.raises(ValueError, match=message):
            function(blobs(), **params)


@pytest.mark.parametrize(
    ("name", "value"), [("n_clusters", 0), ("n_local_trials", 0), ("random_state", "one"), ("backend", "cuda")]
)
def test_wrong_parameters_are_named(name, value):
    with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter of kmeans_plusplus must be"):
        kmeans_plusplus(blobs(), **{"n_clusters": 3, name: value})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_that_are_not_finite_are_refused(backend, dtype, bad):
    X = rows(dtype)
    X[7, 2] = bad
    with pytest.raises(ValueError, match="Input X contains"):
        kmeans_plusplus(X, 2, random_state=0, backend=backend)


def test_norms_change_nothing():
    X = blobs()
    with_norms = kmeans_plusplus(X, 4, x_squared_norms=np.zeros(len(X)), random_state=0)
    assert with_norms[1].tolist() == kmeans_plusplus(X, 4, random_state=0)[1].tolist()


# ---- k_means ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("init", ["k-means++", "random"])
@pytest.mark.parametrize("algorithm", ["lloyd", "elkan"])
def test_k_means_is_scikit_learns(init, algorithm):
    X = blobs()
    params = {"init": init, "algorithm": algorithm, "random_state": 4, "return_n_iter": True, "n_init": 3}
    centers, labels, inertia, n_iter = k_means(X, 6, backend="numpy", **params)
    theirs = cluster.k_means(X, 6, **params)
    assert np.array_equal(labels, theirs[1])
    assert n_iter == theirs[3]
    assert np.abs(centers - theirs[0]).max() <= 1e-12 * np.abs(theirs[0]).max()
    assert abs(inertia / theirs[2] - 1) < 1e-12


def test_k_means_is_the_estimator(backend):
    X, weight = rows(), np.arange(60.0)
    got = k_means(X, 4, sample_weight=weight, init=X[:4], tol=0, max_iter=3, return_n_iter=True, backend=backend)
    model = KMeans(4, init=X[:4], tol=0, max_iter=3, backend="numpy").fit(X, sample_weight=weight)
    assert np.array_equal(got[0], model.cluster_centers_)
    assert np.array_equal(got[1], model.labels_)
    assert got[2:] == (model.inertia_, model.n_iter_)
    assert len(k_means(X, 4, backend=backend)) == 3


def test_the_parameters_are_scikit_learns_and_a_few_more():
    for ours, theirs, more in [
        (kmeans_plusplus, cluster.kmeans_plusplus, {"backend"}),
        (k_means, cluster.k_means, {"backend", "precision"}),
    ]:
        mine, yours = (inspect.signature(function).parameters for function in (ours, theirs))
        assert set(mine) - set(yours) == more
        for name, parameter in yours.items():
            assert (mine[name].default, mine[name].kind) == (parameter.default, parameter.kind)


def test_wrong_parameters_of_k_means_are_named():
    with pytest.raises(InvalidParameterError, match="The 'return_n_iter' parameter of k_means must be"):
        k_means(blobs(), 3, return_n_iter="yes")
    with pytest.raises(InvalidParameterError, match="The 'tol' parameter of k_means must be"):
        k_means(blobs(), 3, tol=-1)


def test_the_examples_run():
    assert gpukmeans.k_means is k_means
    result = doctest.testmod(functions)
    assert result.attempted > 5
    assert result.failed == 0
