"""Weights that are zero for most rows: fits end, or an error names `sample_weight`; NumPy warns of nothing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import sparse

import gpukmeans
from gpukmeans import BisectingKMeans, KMeans, MiniBatchKMeans, SphericalKMeans

pytestmark = [
    pytest.mark.filterwarnings("error::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:MiniBatchKMeans.*init_size"),
]

ESTIMATORS = [KMeans, MiniBatchKMeans, BisectingKMeans, SphericalKMeans]


def weights(n, n_heavy, seed, value=1.0):
    weight = np.zeros(n)
    weight[np.random.default_rng(seed).permutation(n)[:n_heavy]] = value
    return weight


@pytest.mark.one_in(6)
@pytest.mark.parametrize("form", ["float64", "float32", "uint8", "csr"])
@pytest.mark.parametrize("init", ["random", "k-means++", "k-means||"])
@pytest.mark.parametrize("cls", ESTIMATORS)
def test_a_fit_ends_or_names_the_weights(backend, cls, init, form):
    if cls is BisectingKMeans and init == "k-means||":
        pytest.skip("BisectingKMeans has no such start")
    X = np.random.default_rng(0).integers(1, 200, (120, 3))
    X = sparse.csr_array(X.astype(float)) if form == "csr" else X.astype(form)
    options = {"batch_size": 8, "max_iter": 3} if cls is MiniBatchKMeans else {}
    ended = 0
    cases = itertools.product((1, 5), (1, 2, 4), (0, 1)) if backend.name == "numpy" else [(1, 4, 0), (5, 2, 0)]
    for n_heavy, k, seed in cases:
        model = cls(k, init=init, n_init=1, random_state=seed, backend=backend, **options)
        try:
            model.fit(X, sample_weight=weights(120, n_heavy, seed))
        except ValueError as error:
            assert str(error).startswith("sample_weight is ")  # noqa: PT017
            assert cls is MiniBatchKMeans or (init == "random" and n_heavy < k)
        else:
            ended += 1
            assert np.isfinite(model.cluster_centers_).all()
            assert np.array_equal(model.labels_, model.predict(X))
    assert ended or cls is MiniBatchKMeans


def test_a_start_sample_without_weight_is_named(backend):
    X = np.random.default_rng(0).standard_normal((2000, 3))
    weight = np.where(np.arange(2000) < 5, 1.0, 0.0)
    for init in ("random", "k-means++", "k-means||"):
        model = MiniBatchKMeans(2, init=init, batch_size=10, random_state=0, backend=backend)
        with pytest.raises(
            ValueError, match=r"^sample_weight is (zero for all 30|positive for 0 of the 30) rows .*init_s"
        ):
            model.fit(X, sample_weight=weight)
        assert not hasattr(model, "cluster_centers_")
    fitted = MiniBatchKMeans(2, batch_size=10, init_size=2000, random_state=0, backend=backend)
    assert fitted.fit(X, sample_weight=weight).n_steps_ > 0


@pytest.mark.parametrize("cls", [KMeans, MiniBatchKMeans, SphericalKMeans])
def test_random_starts_need_as_many_weighted_rows_as_clusters(cls):
    X = np.random.default_rng(0).uniform(1, 2, (60, 3))
    with pytest.raises(ValueError, match=r"sample_weight is positive for 3 of the 60 rows .* n_clusters=4 at least"):
        cls(4, init="random", random_state=0, backend="numpy").fit(X, sample_weight=weights(60, 3, 0))
    with pytest.raises(ValueError, match="problem 1: sample_weight is positive for 3"):
        gpukmeans.fit_many([X, X], 4, init="random", sample_weight=[None, weights(60, 3, 0)], backend="numpy")


def test_batches_with_few_weights(backend):
    X = np.random.default_rng(0).uniform(1, 2, (60, 3))
    model = MiniBatchKMeans(3, random_state=0, backend=backend)
    for seed in range(6):
        model.partial_fit(X, sample_weight=weights(60, 1 + seed % 3, seed, 0.3))
    assert np.isfinite(model.cluster_centers_).all()
    with pytest.raises(ValueError, match="sample_weight is positive for 1 of the 60 rows"):
        MiniBatchKMeans(3, init="random", backend=backend).partial_fit(X, sample_weight=weights(60, 1, 0))


@pytest.mark.parametrize("form", ["float64", "csr"])
def test_one_weighted_row_is_its_own_center(backend, form):
    """Its product with the weight, divided by the weight, is another number for every fourth of these."""
    local = np.random.default_rng(0)
    for seed in range(12):
        X, weight = local.normal(size=(20, 3)), weights(20, 1, seed, local.uniform(0.1, 3))
        rows = sparse.csr_array(X) if form == "csr" else X
        for init in ("k-means++", "random"):
            model = KMeans(1, init=init, n_init=1, random_state=seed, backend=backend).fit(rows, sample_weight=weight)
            assert model.inertia_ == 0.0
            assert model.n_iter_ == 1
            assert np.array_equal(model.cluster_centers_[0], X[weight > 0][0])
            assert model.score(rows, sample_weight=weight) == 0.0
    both = gpukmeans.fit_many([X, X], 1, random_state=0, sample_weight=[weight, weight], backend=backend)
    assert all(model.inertia_ == 0.0 and model.n_iter_ == 1 for model in both)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_weighted_direction_is_its_own_center(backend, dtype, zeros):
    """Neither the weight nor scaling to unit length what has it already moves a center; rows of zeros have no say."""
    local = np.random.default_rng(1)
    for seed in range(12):
        X, weight = local.normal(size=(20, 3)).astype(dtype), weights(20, 1, seed, local.uniform(0.1, 3))
        if zeros:
            X[weight == 0] *= local.integers(2, size=(19, 1)).astype(dtype)
        model = SphericalKMeans(1, n_init=1, random_state=seed, backend=backend).fit(X, sample_weight=weight)
        assert model.inertia_ == 0.0
        assert model.n_iter_ == 1
        copies = SphericalKMeans(1, n_init=1, random_state=seed, backend=backend).fit(X[weight > 0].repeat(7, axis=0))
        assert copies.inertia_ == 0.0
        assert copies.n_iter_ == 1
        assert np.array_equal(copies.cluster_centers_, model.cluster_centers_)


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_float32_rows_with_infinity_and_without_weight_are_refused_at_once(backend, cls):
    for value in (np.inf, -np.inf, np.nan):
        X = np.random.default_rng(0).uniform(1, 2, (300, 3)).astype(np.float32)
        X[3, 1] = value
        with pytest.raises(ValueError, match="Input X contains"):
            cls(3, backend=backend).fit(X, sample_weight=np.where(np.arange(300) == 3, 0.0, 1.5))
