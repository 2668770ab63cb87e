"""BisectingKMeans: scikit-learn's clustering for the same random_state, exact splits, the same bits everywhere."""

from __future__ import annotations

import doctest
import pickle
import re
import warnings
from fractions import Fraction

import numpy as np
import pytest
from sklearn import cluster
from sklearn.base import clone
from sklearn.datasets import load_digits, make_blobs
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.estimator_checks import check_estimator

import gpukmeans
from gpukmeans import BisectingKMeans
from gpukmeans.arrays.on_device import host_copy
from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.backends.cuda.backend import CupyBackend
from gpukmeans.estimators import bisecting
from tests.emulator import EmulatorDevice
from tests.emulator.testing import skip_without_compiler
from tests.support.oracles import inertia, nearest
from tests.support.small_fits import rows


def data(name):
    """Without exact ties."""
    local = np.random.default_rng(7)
    if name == "digits":
        X = load_digits().data[:500]
        return X + local.uniform(-1e-3, 1e-3, X.shape)
    if name == "blobs":
        return make_blobs(600, 6, centers=9, random_state=3)[0]
    if name == "one feature":
        return local.standard_normal((300, 1))
    return 1000.0 + local.standard_normal((500, 4))


def fitted(X, k=5, weight=None, **params):
    return BisectingKMeans(k, **{"backend": "numpy", "random_state": 0, **params}).fit(X, sample_weight=weight)


def same(one, other):
    return (
        np.array_equal(host_copy(one.labels_), host_copy(other.labels_))
        and np.array_equal(host_copy(one.cluster_centers_), host_copy(other.cluster_centers_))
        and one.inertia_ == other.inertia_
    )


# ---- scikit-learn's clustering ---------------------------------------------------------------------------------------


@pytest.mark.one_in(6)
@pytest.mark.parametrize("name", ["digits", "blobs", "one feature", "far from the origin"])
@pytest.mark.parametrize("init", ["random", "k-means++"])
@pytest.mark.parametrize("strategy", ["biggest_inertia", "largest_cluster"])
@pytest.mark.parametrize(("k", "n_init"), [(1, 1), (4, 3), (11, 1)])
def test_a_random_state_gives_scikit_learns_clusters(name, init, strategy, k, n_init):
    X = data(name)
    local = np.random.default_rng(k)
    for seed, weight in [
        (0, None),
        (1, local.random(len(X))),
        (2, local.random(len(X)) * (local.random(len(X)) > 0.3)),
    ]:
        params = {"init": init, "n_init": n_init, "bisecting_strategy": strategy, "random_state": seed}
        ours = fitted(X, k, weight, **params)
        theirs = cluster.BisectingKMeans(k, **params).fit(X, sample_weight=weight)
        assert np.array_equal(ours.labels_, theirs.labels_)
        assert np.abs(ours.cluster_centers_ - theirs.cluster_centers_).max() <= 1e-10 * np.abs(X).max()
        assert abs(ours.inertia_ / theirs.inertia_ - 1) < 1e-10
        other = X[::3] + local.uniform(-0.1, 0.1, X[::3].shape)
        assert np.array_equal(ours.predict(other), theirs.predict(other))
        assert abs(ours.score(other) / theirs.score(other) - 1) < 1e-10


@pytest.mark.parametrize("params", [{"tol": 0.0}, {"tol": 0.1}, {"max_iter": 1}, {"algorithm": "elkan"}])
def test_stopping_rules_are_scikit_learns(params):
    """`tol` is absolute here, in scikit-learn as well: 0.1 ends these runs early."""
    X = data("far from the origin")
    plain = fitted(X, 7, random_state=3)
    ours, theirs = fitted(X, 7, random_state=3, **params), cluster.BisectingKMeans(7, random_state=3, **params).fit(X)
    assert np.array_equal(ours.labels_, theirs.labels_)
    if "max_iter" in params or params.get("tol"):
        assert not same(ours, plain)


def test_a_callable_gets_the_centered_rows_of_the_cluster(backend):
    X = rows(n=80)
    seen = []

    def init(part, n_clusters, random_state):
        seen.append((part, n_clusters, random_state.randint(1 << 30)))
        return part[:n_clusters].copy()  # scikit-learn would write into a view

    ours = fitted(X, 4, init=init, backend=backend)
    mine, seen[:] = list(seen), []
    theirs = cluster.BisectingKMeans(4, init=init, random_state=0).fit(X)
    assert np.array_equal(ours.labels_, theirs.labels_)
    for (got, k, drawn), (want, _, as_drawn) in zip(mine, seen, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-12)
        assert (k, drawn) == (2, as_drawn)
    with pytest.raises(ValueError, match="does not match the number of clusters 2"):
        fitted(X, 4, init=lambda part, k, random_state: part[:3])


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float16])
def test_other_dtypes_are_clustered_as_their_float64_copies(dtype):
    X = rows(dtype)
    assert same(fitted(X), fitted(X.astype(np.float64)))


def test_float32_keeps_its_dtype():
    X = rows(np.float32)
    assert fitted(X).cluster_centers_.dtype == np.float32
    assert np.array_equal(fitted(X).labels_, fitted(X.astype(np.float64)).labels_)
    assert np.array_equal(fitted(X).predict(X.astype(np.float64)), fitted(X).labels_)


# ---- laws ------------------------------------------------------------------------------------------------------------


@pytest.mark.one_in(2)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_every_backend_ends_in_the_same_bits(cuda_backend, dtype, weighted):
    X = rows(dtype, n=150, d=6)
    weight = np.random.default_rng(2).uniform(0.5, 2, 150) if weighted else None
    for params in ({}, {"init": "k-means++", "n_init": 2}, {"bisecting_strategy": "largest_cluster", "tol": 0.0}):
        host, there = fitted(X, 6, weight, **params), fitted(X, 6, weight, **params, backend=cuda_backend)
        assert same(host, there)
        assert np.array_equal(there.predict(X), host.labels_)
    assert there.backend_ == "cupy"
    assert same(fitted(X, 6, weight, backend=NumpyBackend(lockstep=False)), fitted(X, 6, weight))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_on_a_device_are_clustered_there(dtype):
    skip_without_compiler()
    device, X = EmulatorDevice(), rows(dtype, n=90)
    there = device.upload(X)
    got = fitted(there, backend=CupyBackend(device))
    assert same(got, fitted(X))
    for labels in (got.labels_, got.predict(there)):
        assert type(labels) is type(there)
        assert np.array_equal(host_copy(labels), fitted(X).labels_)
    assert isinstance(got.predict(X), np.ndarray)
    assert same(fitted(there, backend=CupyBackend(device), init=lambda part, k, random_state: part[:k]),
                fitted(X, init=lambda part, k, random_state: part[:k]))  # fmt: skip


def test_every_row_is_at_the_nearer_center_of_every_split(backend):
    """By whole numbers; and the clusters' own centers are not always the nearest of all, so the splits count."""
    X = rows(n=120, d=2)
    model = fitted(X, 12, backend=backend)
    tree, waiting = model._tree, [(0, X)]
    labels = {}
    while waiting:
        node, some = waiting.pop()
        label, child = int(tree["label"][node]), int(tree["first_child"][node])
        assert (label < 0) != (child < 0)
        if label >= 0:
            labels[label] = {tuple(row) for row in some}
            assert np.array_equal(tree["centers"][node], model.cluster_centers_[label])
            continue
        side = nearest(some, tree["centers"][child : child + 2])
        waiting += [(child + i, some[side == i]) for i in (0, 1)]
    for label in range(12):
        assert labels[label] == {tuple(row) for row in X[model.labels_ == label]}
    assert np.array_equal(model.predict(X), model.labels_)
    assert (nearest(X, model.cluster_centers_) != model.labels_).any()


@pytest.mark.parametrize("weighted", [False, True])
def test_the_inertia_is_that_of_the_labels(backend, weighted):
    """Each distance is rounded (4 operations a feature and a sum), the sum is not: 2**-48 covers 8 features."""
    X = rows(n=70, d=3)
    weight = np.random.default_rng(4).uniform(0, 3, 70) if weighted else None
    model = fitted(X, 6, weight, backend=backend)
    want = inertia(X, model.cluster_centers_, model.labels_, weight)
    assert abs(Fraction(model.inertia_) / want - 1) < Fraction(1, 2**48)


def test_the_inertias_of_clusters_are_those_of_their_rows(backend):
    X, weight = rows(n=50), np.random.default_rng(5).uniform(0.5, 2, 50)
    run = backend.load(X, weight).start(np.concatenate([X[:4], [[1e6] * 4]]))
    run.assign()
    got, labels = run.inertias(), run.labels()
    for j in range(5):
        mine = labels == j
        want = inertia(X[mine], run.centers()[[j]], np.zeros(mine.sum(), int), weight[mine])
        assert abs(Fraction(got[j]) - want) <= want / 2**48
    assert got[4] == 0.0


def test_more_clusters_never_raise_the_inertia(backend):
    X = rows(n=100)
    inertias = [fitted(X, k, backend=backend, tol=0.0).inertia_ for k in range(1, 9)]
    assert inertias == sorted(inertias, reverse=True)


def test_one_cluster_is_the_mean():
    X, weight = rows(), np.random.default_rng(6).random(60)
    model = fitted(X, 1, weight)
    assert not model.labels_.any()
    assert not model.predict(X[:5]).any()
    np.testing.assert_allclose(model.cluster_centers_[0], X.mean(axis=0), rtol=1e-14)  # unweighted, as scikit-learn's
    theirs = cluster.BisectingKMeans(1, random_state=0).fit(X, sample_weight=weight)
    assert abs(model.inertia_ / theirs.inertia_ - 1) < 1e-12


# ---- too few different rows ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("init", ["random", "k-means++"])
@pytest.mark.parametrize("strategy", ["biggest_inertia", "largest_cluster"])
def test_clusters_that_cannot_be_split_get_an_empty_twin(backend, init, strategy):
    X = np.repeat(rows(n=2), 3, axis=0)
    with pytest.warns(ConvergenceWarning, match="of n_clusters=5 clusters have rows"):
        model = fitted(X, 5, init=init, bisecting_strategy=strategy, backend=backend)
    assert len(set(model.labels_)) == 2
    assert model.inertia_ == 0.0
    assert np.array_equal(X, model.cluster_centers_[model.labels_])
    assert np.array_equal(model.predict(X), model.labels_)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        assert same(model, fitted(X, 5, init=init, bisecting_strategy=strategy))


@pytest.mark.parametrize("init", ["random", "k-means++"])
def test_one_heavy_row_alone(backend, init):
    X = rows(n=6)
    with pytest.warns(ConvergenceWarning, match="Only . of n_clusters=3"):
        model = fitted(X, 3, np.array([0, 0, 1.0, 0, 0, 0]), init=init, backend=backend)
    assert np.isfinite(model.cluster_centers_).all()
    assert np.array_equal(model.predict(X), model.labels_)


def test_empty_bisections_of_far_rows_are_predicted():
    model = fitted(data("far from the origin"), 9)
    assert set(model.predict(np.full((20, 4), 5e5)).tolist()) <= set(range(9))
    assert len(set(model.predict(np.full((20, 4), 5e5)))) == 1


# ---- the estimator ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [("n_clusters", 0), ("init", "k-means||"), ("init", rows()[:2]), ("n_init", "auto"), ("n_init", 0), ("max_iter", 0),
     ("tol", -1.0), ("bisecting_strategy", "best"), ("algorithm", "full"), ("copy_x", "yes"), ("verbose", -1)],
)  # fmt: skip
def test_a_wrong_parameter_gets_scikit_learns_error(name, value):
    messages = []
    for kind in (BisectingKMeans, cluster.BisectingKMeans):
        with pytest.raises(InvalidParameterError) as error:
            kind(**{"n_clusters": 3, name: value}).fit(rows())
        messages.append(sorted(re.findall(r"[^\s{},]+", str(error.value))))
    assert messages[0] == messages[1]


def test_the_constructor_is_scikit_learns_and_a_little_more():
    theirs, ours = cluster.BisectingKMeans().get_params(), BisectingKMeans().get_params()
    assert {name: ours[name] for name in theirs} == theirs
    assert set(ours) - set(theirs) == {"backend", "precision"}


def test_scikit_learns_own_checks_pass():
    """But for one that scikit-learn's class fails as well: draws among repeated rows are not those among weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(BisectingKMeans(backend="numpy"), on_fail=None)
    failed = {result["check_name"] for result in results if result["status"] == "failed"}
    assert failed <= {"check_sample_weight_equivalence_on_dense_data", "check_sample_weight_equivalence_on_sparse_data"}
    assert len(results) > 40


def test_clone_and_pickle_however_deep_the_splits():
    X = 2.0 ** np.arange(0, 400, 1)[:, None]  # each split takes one row off
    model = fitted(X, 380, init=lambda part, k, random_state: part[[0, -1]])
    again = pickle.loads(pickle.dumps(model.set_params(init="random")))
    assert np.array_equal(again.predict(X), model.labels_)
    assert not hasattr(clone(model), "labels_")


def test_a_failed_fit_leaves_the_old_one():
    model = fitted(rows())
    kept = dict(vars(model))
    with pytest.raises(ValueError, match="n_samples=3 should be >= n_clusters=5"):
        model.fit(rows(n=3))
    calls = []

    def init(part, k, random_state):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("third split")
        return part[:k]

    model.set_params(init=init)
    with pytest.raises(RuntimeError, match="third split"):
        model.fit(rows(seed=1))
    assert {**vars(model), "init": "random"} == kept
    with pytest.raises(NotFittedError):
        BisectingKMeans().predict(rows())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", [1, 3])
def test_rows_that_are_not_finite_are_refused(backend, dtype, k):
    X, model = rows(dtype), fitted(rows(dtype), k, backend=backend)
    X[5, 1] = np.nan
    for method in (model.fit, model.predict, model.score, model.transform):
        with pytest.raises(ValueError, match="Input X contains NaN"):
            method(X)


def test_verbose_tells_of_every_split(capsys):
    fitted(rows(), 3, verbose=1)
    out = capsys.readouterr().out
    assert out.count("New centroids from bisection: [[") == 2
    assert out.count("Converged at iteration") == 2
    assert same(fitted(rows(), 3, verbose=1), fitted(rows(), 3))


def test_a_copy_of_the_rows_is_all_that_a_device_needs():
    """No array of the rows' size comes down to the host."""
    skip_without_compiler()
    device, X = EmulatorDevice(), rows(n=400, d=100)
    there, downloads, copy = device.upload(X), [], device.download
    device.download = lambda array: downloads.append(array.nbytes) or copy(array)
    before = device.bytes_in_use
    fitted(there, backend=CupyBackend(device))
    assert max(downloads) < X.nbytes // 2
    assert device.bytes_in_use == before


def test_the_examples_run():
    assert gpukmeans.BisectingKMeans is BisectingKMeans
    result = doctest.testmod(bisecting)
    assert result.attempted > 4
    assert result.failed == 0


# ---- the checks can fail ---------------------------------------------------------------------------------------------


def flat_predict(monkeypatch):
    from gpukmeans.estimators.base import BaseKMeans

    monkeypatch.setattr(BisectingKMeans, "predict", BaseKMeans.predict)


def last_of_equal_scores(monkeypatch):
    monkeypatch.setattr(bisecting.np, "argmax", lambda scores: len(scores) - 1)


def means_of_the_wrong_side(monkeypatch):
    split = bisecting.Splitter.split

    def swapped(self, indices):
        labels, centers, inertias = split(self, indices)
        return labels, centers[::-1], inertias

    monkeypatch.setattr(bisecting.Splitter, "split", swapped)


@pytest.mark.parametrize("plant", [flat_predict, last_of_equal_scores, means_of_the_wrong_side])
def test_planted_faults_are_caught(monkeypatch, plant):
    checks = [
        lambda: test_every_row_is_at_the_nearer_center_of_every_split(NumpyBackend()),
        lambda: test_a_random_state_gives_scikit_learns_clusters("blobs", "random", "biggest_inertia", 4, 3),
    ]
    for check in checks:
        check()
    plant(monkeypatch)
    caught = 0
    for check in checks:
        try:
            check()
        except AssertionError:
            caught += 1
    assert caught
