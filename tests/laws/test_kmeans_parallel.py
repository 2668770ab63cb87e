"""k-means|| draws the rows of real arithmetic, the same on every backend, and starts well."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from sklearn.datasets import make_blobs

from gpukmeans import KMeans
from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.engine.seeding import exact, parallel
from gpukmeans.engine.seeding.draws import probabilities, random_rows
from gpukmeans.engine.seeding.parallel import kmeans_parallel
from gpukmeans.engine.seeding.plusplus import kmeans_plusplus
from tests.support.oracles import inertia, nearest, square_distances

F64 = np.dtype(np.float64)


def draw(backend, X, k, seed, weight=None, state=None):
    state = state or np.random.RandomState(seed)
    return kmeans_parallel(backend.load(X, weight), k, state, F64, weight, backend.load).tolist()


def rational_parallel(X, k, seed, weight=None):
    """The same rows by whole numbers and plain loops; the last step is greedy k-means++ on few weighted rows."""
    n = len(X)
    w = np.ones(n) if weight is None else weight
    state = np.random.RandomState(seed)
    chosen = [int(state.choice(n, p=w / w.sum()))]
    distances, _ = square_distances(X, X)
    fractions = [Fraction(v) for v in w.tolist()]
    for _ in range(5):
        terms = [v * min(int(row[j]) for j in chosen) for v, row in zip(fractions, distances, strict=True)]
        draws = [Fraction(u) for u in state.uniform(size=n).tolist()]
        total = sum(terms)
        chosen += [i for i in range(n) if draws[i] * total < 2 * k * terms[i]]
    owners = nearest(X, X[chosen].astype(np.float64))
    weights = np.bincount(owners, w, len(chosen))
    heavy = np.flatnonzero(weights)
    assert len(heavy) > k
    rows = NumpyBackend().load(X[chosen][heavy], weights[heavy])
    p = probabilities(len(heavy), weights[heavy], F64)
    return np.array(chosen)[heavy][kmeans_plusplus(rows, k, state, p, weights[heavy])].tolist()


def data(name):
    local = np.random.default_rng(90)
    if name == "uint8":
        return local.integers(0, 256, (150, 5)).astype(np.uint8)
    if name == "duplicates":
        return np.repeat(local.standard_normal((50, 4)), 3, axis=0)
    if name == "lattice":
        axis = np.arange(12.0)
        return np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    X = local.standard_normal((150, 4))
    return X.astype(np.float32) if name == "float32" else X


@pytest.mark.one_in(4)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ["float64", "float32", "uint8", "duplicates", "lattice"])
def test_every_backend_draws_the_rows_of_real_arithmetic(backend, name, weighted):
    X = data(name)
    weight = np.random.default_rng(91).random(len(X)) if weighted else None
    for seed in range(3):
        assert draw(backend, X, 6, seed, weight) == rational_parallel(X, 6, seed, weight)


def test_rows_are_drawn_with_their_share_of_the_potential():
    """Expected numbers of candidates: 2 k in a round, less where a share is above 1 / 2 k."""
    X = np.random.default_rng(92).standard_normal((2000, 3))
    engine = NumpyBackend().load(X).seeding()
    sums, errors = engine.add(np.array([0]))
    terms, _ = engine.terms()
    expected = np.minimum(1.0, 20 * terms / terms.sum()).sum()
    local = np.random.default_rng(93)
    counts = [len(parallel.rows_to_keep(local.random(2000), 20, sums, errors, engine, None, [0])) for _ in range(200)]
    assert abs(np.mean(counts) - expected) < 4 * np.sqrt(expected / 200)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_exact_arithmetic_keeps_the_same_rows(monkeypatch, dtype, weighted):
    """Errors as large as the terms leave every row open."""
    X = (100 * np.random.default_rng(94).random((60, 3))).astype(dtype)
    weight = np.random.default_rng(95).random(60) if weighted else None
    plain = [draw(NumpyBackend(), X, 4, seed, weight) for seed in range(3)]
    exact_decisions = []
    kept = exact.ExactPotentials.kept
    monkeypatch.setattr(
        exact.ExactPotentials, "kept", lambda self, *args: exact_decisions.append(1) or kept(self, *args)
    )
    monkeypatch.setattr(parallel, "SLACK", 1e18)
    assert [draw(NumpyBackend(), X, 4, seed, weight) for seed in range(3)] == plain
    assert len(exact_decisions) == 3 * 5


def test_a_row_on_the_edge_is_settled_exactly():
    """Ten rows at distance 1 from the first: kept where u * 10 < 4, and the float 0.4 lies above 4 / 10."""
    X = np.concatenate([np.zeros((1, 10)), np.eye(10)])
    rows = NumpyBackend().load(X)
    engine = rows.seeding()
    sums, errors = engine.add(np.array([0]))
    below = np.nextafter(0.4, 0)
    draws = np.array([0.0, 0.4, below, 0.0, 0.9, 0.4, below, 1.0, 0.5, 0.3, 0.4])
    potentials = exact.ExactPotentials(rows, None)
    assert parallel.rows_to_keep(draws, 4, sums, errors, engine, potentials, [0]).tolist() == [2, 3, 6, 9]


@pytest.mark.parametrize("n_clusters", [1, 2, 10])
def test_few_rows(backend, n_clusters):
    """As many rows as clusters: every row is drawn, some as candidates and some to fill up."""
    X = np.random.default_rng(96).standard_normal((10, 3))
    for seed in range(5):
        drawn = draw(backend, X, n_clusters, seed)
        assert len(set(drawn)) == len(drawn) == n_clusters


def test_more_clusters_than_distinct_rows(backend):
    X = np.repeat([[1.0, 2.0], [4.0, 8.0], [-3.0, 5.0]], 5, axis=0)
    for seed in range(4):
        drawn = draw(backend, X, 7, seed)
        assert len(drawn) == 7
        assert len(np.unique(X[drawn], axis=0)) == 3


def test_a_row_of_weight_zero_is_never_drawn():
    X = np.random.default_rng(97).standard_normal((60, 2))
    weight = np.where(np.arange(60) < 20, 1.0, 0.0)
    assert {i for seed in range(20) for i in draw(NumpyBackend(), X, 4, seed, weight)} <= set(range(20))


def test_one_cluster_is_the_first_draw():
    X = np.random.default_rng(98).standard_normal((30, 2))
    first = np.random.RandomState(5).choice(30, p=np.full(30, 1 / 30))
    assert draw(NumpyBackend(), X, 1, 5) == [first]


def test_a_start_is_far_better_than_random_rows_and_as_good_as_kmeans_plusplus():
    X = make_blobs(1500, 2, centers=30, cluster_std=0.3, random_state=0)[0]
    rows = NumpyBackend().load(X)
    p = probabilities(1500, None, F64)
    parallel, plusplus, random = [], [], []
    for seed in range(8):
        for found, drawn in (
            (parallel, draw(NumpyBackend(), X, 30, seed)),
            (plusplus, kmeans_plusplus(rows, 30, np.random.RandomState(seed), p)),
            (random, random_rows(rows, 30, np.random.RandomState(seed), p)),
        ):
            distances = np.square(X[:, None] - X[drawn]).sum(axis=2)
            found.append(distances.min(axis=1).sum())
    assert np.mean(parallel) < 1.15 * np.mean(plusplus)
    assert np.mean(parallel) < 0.5 * np.mean(random)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_a_fit_starts_from_it(backend, dtype):
    X = (20 * make_blobs(200, 3, centers=4, random_state=3)[0] + 128).clip(0, 255).astype(dtype)
    model = KMeans(4, init="k-means||", random_state=0, backend=backend).fit(X)
    other = KMeans(4, init="k-means||", random_state=0, backend="numpy").fit(X)
    assert np.array_equal(model.cluster_centers_, other.cluster_centers_)
    assert np.array_equal(model.labels_, other.labels_)
    want = inertia(X, model.cluster_centers_, model.labels_)
    assert abs(Fraction(model.inertia_) - want) <= want / 2**40


def test_one_run_by_default():
    X = data("float64")
    seen = []
    KMeans(3, init="k-means||", random_state=0, backend="numpy", progress=lambda i: seen.append(i.init)).fit(X)
    assert set(seen) == {0}
