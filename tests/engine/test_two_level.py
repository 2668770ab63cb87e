"""The start from clusters of clusters: the same bits everywhere, shares that add up, and a good start in few rows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_digits

from gpukmeans import KMeans, MiniBatchKMeans, SphericalKMeans, fit_many
from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.engine.seeding import two_level as module
from gpukmeans.engine.seeding.two_level import shares, two_level

DIGITS = load_digits().data


def start(X, k, seed=0, weight=None, backend=None):
    backend = backend or NumpyBackend()
    return two_level(backend.load(X, weight), k, np.random.RandomState(seed), weight)


def test_shares_add_up_and_keep_within_their_limits():
    local = np.random.default_rng(0)
    for _ in range(200):
        m = int(local.integers(1, 9))
        inertias = local.random(m) ** 8 * (local.random(m) < 0.8)
        most = local.integers(0, 30, m)
        total = int(local.integers(np.count_nonzero(most), most.sum() + 1))
        found = np.array(shares(total, inertias, most.tolist()))
        assert found.sum() == total
        assert (found <= most).all()
        assert (found[most > 0] > 0).all()
    assert shares(9, np.zeros(4), [5, 0, 5, 5]) == [3, 0, 3, 3]
    free = np.array(shares(1000, np.array([1.0, 16.0, 81.0, 256.0]), [1000] * 4))
    assert np.abs(free - 10 * np.array([1, 8, 27, 64])).max() <= 1  # in proportion to inertia**(3/4)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["uint8", "float32", "float64", "csr"])
def test_every_backend_starts_from_the_same_bits(backend, kind, weighted, monkeypatch):
    """From all rows and from a sample."""
    if kind == "csr" and not backend.reads_sparse:
        pytest.skip("reads dense rows only")
    X = sparse.csr_array(DIGITS[:300]) if kind == "csr" else DIGITS[:300].astype(kind)
    weight = np.random.default_rng(1).integers(0, 3, 300) / 3.0 if weighted else None
    for sampled in (35, 4):
        monkeypatch.setattr(module, "SAMPLED", sampled)
        found = start(X, 20, 3, weight, backend)
        assert found.tobytes() == start(X, 20, 3, weight).tobytes()
        assert len(np.unique(found, axis=0)) == 20


def test_few_iterations_from_it_end_where_many_from_rows_do():
    """Within a hundredth, in the mean of three seeds; a quarter of the rows are looked at."""
    X = np.concatenate([DIGITS + shift for shift in np.random.default_rng(0).normal(0, 0.3, (12, 64))])
    quick, slow = [], []
    for seed in range(3):
        params = {"random_state": seed, "n_init": 1, "tol": 0, "backend": "numpy"}
        quick.append(KMeans(120, init="two-level", max_iter=4, **params).fit(X).inertia_)
        slow.append(KMeans(120, init="random", max_iter=20, **params).fit(X).inertia_)
    assert np.mean(quick) < 1.01 * np.mean(slow)


def test_rows_without_weight_are_left_out_and_heavy_ones_are_drawn(monkeypatch):
    X = np.arange(400.0)[:, None] ** 2
    weight = np.zeros(400)
    weight[:12] = 1.0
    assert np.array_equal(np.sort(start(X, 12, weight=weight), axis=0), X[:12])
    with pytest.raises(ValueError, match="positive for 12 of the 400 rows that init='two-level' draws from"):
        start(X, 13, weight=weight)
    monkeypatch.setattr(module, "SAMPLED", 2)
    weight = np.where(np.arange(400) < 20, 1.0, 1e-9)  # in 24 draws
    assert (start(X, 12, weight=weight) < 400.0).all()
    weight = np.where(np.arange(400) < 1, 1.0, 1e-9)  # all draws are one row
    assert len(np.unique(start(X, 12, weight=weight))) == 12


@pytest.mark.parametrize("n_clusters", [1, 2, 3, 299, 300])
def test_any_number_of_clusters(n_clusters):
    X = DIGITS[:300]
    model = KMeans(n_clusters, init="two-level", random_state=0, backend="numpy").fit(X)
    assert model._n_init == 1
    assert len(np.unique(model.labels_)) == n_clusters


def test_the_other_estimators_start_from_it():
    X = DIGITS[:400]
    params = {"init": "two-level", "random_state": 2, "backend": "numpy"}
    directed = SphericalKMeans(30, max_iter=1, **params).fit(X)
    assert np.allclose(np.linalg.norm(directed.cluster_centers_, axis=1), 1.0)
    assert (
        directed.inertia_ < SphericalKMeans(30, max_iter=1, **{**params, "init": "random", "n_init": 1}).fit(X).inertia_
    )
    batches = MiniBatchKMeans(30, max_iter=1, n_init=1, **params).fit(X)
    assert len(np.unique(batches.labels_)) == 30
    together = fit_many(np.stack([X[:200], X[200:]]), 9, n_init=2, **params)
    for model, rows in zip(together, (X[:200], X[200:]), strict=True):
        alone = KMeans(9, n_init=2, **params).fit(rows)
        assert np.array_equal(model.cluster_centers_, alone.cluster_centers_)
        assert np.array_equal(model.labels_, alone.labels_)
