"""For a random_state, the clustering that scikit-learn finds in float64: labels in the same order, iterations, centers.

Exact ties are the one difference (ours go to the lowest index, scikit-learn's to where rounding sends them), so these
rows have none.
"""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.cluster import KMeans as SklearnKMeans

from gpukmeans import KMeans
from gpukmeans.backends.cpu.backend import NumpyBackend

SEEDS = range(2)
N_SAMPLES = 150


def data(kind):
    """Rows of a kind; no two alike."""
    local = np.random.default_rng(31)
    if kind == "blobs":
        return 4 * local.integers(-2, 3, (N_SAMPLES, 4)) + local.standard_normal((N_SAMPLES, 4))
    if kind == "noise":
        return local.random((N_SAMPLES, 6))
    if kind == "far from zero":
        return 1000 + local.standard_normal((N_SAMPLES, 3))
    if kind == "one feature":
        return local.standard_normal((N_SAMPLES, 1)) ** 3
    if kind == "whole numbers":  # irregular enough to have no ties
        return local.integers(0, 1 << 30, (N_SAMPLES, 3))
    if kind == "wide":
        return local.standard_normal((40, 90)) + 3 * local.integers(0, 2, (40, 1))
    raise AssertionError(kind)


KINDS = ["blobs", "noise", "far from zero", "one feature", "whole numbers", "wide"]
WEIGHTS = ["none", "random", "some zero"]


def weights(kind, n):
    local = np.random.default_rng(32)
    return {"none": None, "random": local.random(n), "some zero": local.random(n) * (np.arange(n) % 3 > 0)}[kind]


def first_rows(X, n_clusters, random_state):
    """A callable init that draws random numbers and whose result depends on every value of X."""
    order = random_state.permutation(len(X))[:n_clusters]
    return X[order] + 1e-3 * X.mean(axis=0)


INITS = {
    "k-means++": lambda X, k: "k-means++",
    "random": lambda X, k: "random",
    "array": lambda X, k: X[:: len(X) // k][:k],
    "callable": lambda X, k: first_rows,
}


def assert_same_results(ours, theirs, X, sample_weight=None):
    """Fit both and compare everything that a fit leaves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours.fit(X, sample_weight=sample_weight)
        theirs.fit(X, sample_weight=sample_weight)
    assert ours.n_iter_ == theirs.n_iter_
    assert np.array_equal(ours.labels_, theirs.labels_)
    assert ours.labels_.dtype == theirs.labels_.dtype
    assert ours.cluster_centers_.dtype == theirs.cluster_centers_.dtype
    scale = np.abs(theirs.cluster_centers_).max()
    assert np.abs(ours.cluster_centers_ - theirs.cluster_centers_).max() <= 1e-10 * scale
    size = np.abs(X).max()  # scikit-learn's inertia, of rows near each other, has lost some digits
    assert abs(ours.inertia_ - theirs.inertia_) <= 1e-10 * theirs.inertia_ + 1e-15 * size**2
    assert np.array_equal(ours.predict(X), theirs.predict(X))
    # scikit-learn's distances come from squared norms: the root of some 2**-52 size**2 is lost of short ones.
    np.testing.assert_allclose(ours.transform(X), theirs.transform(X), rtol=1e-9, atol=3e-7 * size)
    want = theirs.score(X, sample_weight=sample_weight)
    assert abs(ours.score(X, sample_weight=sample_weight) - want) <= -1e-10 * want + 1e-15 * size**2


@pytest.mark.one_in(3)
@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("kind", KINDS)
def test_kmeans_is_scikit_learns(kind, weight, init):
    X = data(kind)
    sample_weight = weights(weight, len(X))
    for n_clusters, seed in itertools.product([1, 2, 7], SEEDS):
        params = {"n_clusters": n_clusters, "init": INITS[init](X, n_clusters), "random_state": seed}
        assert_same_results(KMeans(**params, backend="numpy"), SklearnKMeans(**params), X, sample_weight)


@pytest.mark.parametrize("kind", KINDS)
def test_so_it_is_on_a_device(cuda_backend, kind):
    """Every start and every kind of weights; other tests compare all bits with NumPy's."""
    X = data(kind)
    for number, init in enumerate(INITS):
        sample_weight = weights(WEIGHTS[(number + KINDS.index(kind)) % len(WEIGHTS)], len(X))
        params = {"n_clusters": 7, "init": INITS[init](X, 7), "random_state": 0, "n_init": 1}
        assert_same_results(KMeans(**params, backend=cuda_backend), SklearnKMeans(**params), X, sample_weight)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "params",
    [
        {"n_init": 4},
        {"init": "random", "n_init": 3},
        {"tol": 0},
        {"tol": 0.3},
        {"max_iter": 1},
        {"max_iter": 2, "init": "random"},
        {"algorithm": "elkan"},
        {"copy_x": False},
    ],
    ids=lambda params: ", ".join(f"{name}={value}" for name, value in params.items()),
)
def test_every_parameter_means_the_same(backend, kind, params):
    for seed in SEEDS if isinstance(backend, NumpyBackend) else SEEDS[:1]:
        ours, theirs = (cls(n_clusters=5, random_state=seed, **params) for cls in (KMeans, SklearnKMeans))
        assert_same_results(ours.set_params(backend=backend), theirs, np.array(data(kind)))


@pytest.mark.one_in(2)
@pytest.mark.parametrize("n_clusters", [40, 149, 150])
def test_nearly_as_many_clusters_as_rows(backend, n_clusters):
    X = data("noise")
    for seed in SEEDS if isinstance(backend, NumpyBackend) else SEEDS[:1]:
        params = {"n_clusters": n_clusters, "random_state": seed}
        assert_same_results(KMeans(**params, backend=backend), SklearnKMeans(**params), X)


@pytest.mark.parametrize("far", [1, 2])
def test_emptied_clusters_are_given_the_same_rows(backend, far):
    """Starting centers far from all rows are empty at once."""
    X = data("blobs")
    start = np.concatenate([X[:4], 1000.0 + 10 * np.arange(4.0 * far).reshape(far, 4)])
    params = {"n_clusters": 4 + far, "init": start, "n_init": 1}
    assert_same_results(KMeans(**params, backend=backend), SklearnKMeans(**params), X)
    sample_weight = weights("random", len(X))
    assert_same_results(KMeans(**params, backend=backend), SklearnKMeans(**params), X, sample_weight)


def test_one_random_state_goes_on_through_many_fits():
    """As many numbers are drawn by either."""
    ours, theirs = np.random.RandomState(5), np.random.RandomState(5)
    for init in ("k-means++", "random", first_rows):
        X = data("noise")
        one = KMeans(4, init=init, n_init=2, random_state=ours, backend="numpy").fit(X)
        other = SklearnKMeans(4, init=init, n_init=2, random_state=theirs).fit(X)
        assert np.array_equal(one.labels_, other.labels_)
        assert ours.randint(1 << 30) == theirs.randint(1 << 30)


def test_the_global_random_state_serves_where_none_is_given():
    X = data("noise")
    np.random.seed(3)
    ours = KMeans(4, backend="numpy").fit(X)
    np.random.seed(3)
    assert np.array_equal(SklearnKMeans(4).fit(X).labels_, ours.labels_)


def test_another_order_of_draws_would_be_seen():
    """The grid can fail: a fit from the next seed is another one."""
    X = data("noise")
    theirs = SklearnKMeans(7, random_state=0)
    with pytest.raises(AssertionError):
        assert_same_results(KMeans(7, random_state=1, backend="numpy"), clone(theirs), X)
    assert_same_results(KMeans(7, random_state=0, backend="numpy"), theirs, X)
