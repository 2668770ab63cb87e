"""Clusters that lose all rows, and rows of weight zero, on every backend."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.exceptions import ConvergenceWarning

from gpukmeans import KMeans, SphericalKMeans
from gpukmeans.exact.unit_rows import unit_rows
from tests.support.assertions import assert_labels
from tests.support.law_cases import DTYPES, cloud, fit
from tests.support.oracles import rational_lloyd


def with_an_empty_cluster(dtype, seed):
    """Data of two groups, and three starts of which the last is nearest to no row."""
    X = cloud(dtype, n=60, d=3, seed=seed)
    init = np.stack([X[0], X[30], np.full(3, 5000.0)]).astype(np.float64)
    return X, init


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_an_empty_cluster_gets_the_farthest_row_as_in_scikit_learn(backend, seed, weighted):
    X, init = with_an_empty_cluster(np.float64, seed)
    weight = np.random.default_rng(seed).integers(1, 5, len(X)).astype(float) if weighted else None
    for max_iter in (1, 2, 100):
        got = fit(X, 3, backend, sample_weight=weight, init=init, max_iter=max_iter)
        want = SklearnKMeans(3, init=init, max_iter=max_iter, tol=0, n_init=1).fit(X, sample_weight=weight)
        assert np.array_equal(got.labels_, want.labels_)
        assert got.n_iter_ == want.n_iter_
        # Each side rounds, and scikit-learn also subtracts the mean: a few hundred ulps of the data's size.
        np.testing.assert_allclose(got.cluster_centers_, want.cluster_centers_, rtol=0, atol=255 * 2.0**-44)
        assert got.fit_report_.iterations[0].n_relocated == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_relocation_follows_rational_arithmetic_to_the_bit(backend, dtype):
    X, init = with_an_empty_cluster(dtype, 9)
    got = fit(X, 3, backend, init=init, max_iter=30)
    want = rational_lloyd(X, init.astype(got.cluster_centers_.dtype), max_iter=30)
    assert want.n_relocated == 1
    assert_labels(got.labels_, X, want.centers, want=want.labels)
    assert np.array_equal(got.cluster_centers_, want.centers)
    assert got.n_iter_ == want.n_iter


def test_several_empty_clusters_take_the_farthest_rows_in_order(backend):
    X = np.array([[0.0], [1.0], [2.0], [50.0], [-40.0], [3.0]])
    model = fit(X, 4, backend, init=[[1.0], [900.0], [901.0], [902.0]], max_iter=1)
    assert model.fit_report_.iterations[0].n_relocated == 3
    assert model.cluster_centers_[1:].tolist() == [[50.0], [-40.0], [3.0]]
    assert model.cluster_centers_[0].tolist() == [1.0]


def test_equally_far_rows_are_taken_lowest_index_first(backend):
    X = np.array([[5.0], [0.0], [10.0], [5.0]])
    model = fit(X, 2, backend, init=[[5.0], [900.0]], max_iter=1)
    assert model.cluster_centers_[1].tolist() == [0.0]


def test_an_emptied_donor_moves_to_the_heaviest_cluster(backend):
    """The only row of a cluster is the farthest: taken away, it leaves a cluster without weight."""
    X = np.array([[0.0], [1.0], [2.0], [100.0]])
    init = [[1.0], [140.0], [900.0]]
    got = fit(X, 3, backend, init=init, max_iter=1)
    with pytest.warns(ConvergenceWarning):
        want = SklearnKMeans(3, init=init, max_iter=1, tol=0, n_init=1).fit(X)
    assert got.cluster_centers_.tolist() == [[1.0], [1.0], [100.0]]
    np.testing.assert_allclose(want.cluster_centers_, got.cluster_centers_, atol=1e-12)
    assert np.array_equal(got.labels_, want.labels_)


def test_a_relocation_in_the_last_iteration_is_followed_by_a_look_at_the_rows(backend):
    """The first empty cluster gets one of three equal rows, and loses it again; the second look moves no label, and
    the cluster gets a row of the other group: the labels must be those of that last move."""
    X = np.array([[5.0], [5.0], [5.0], [100.0], [102.0]])
    seen = []
    model = fit(X, 3, backend, init=[[0.0], [101.0], [900.0]], progress=seen.append)
    assert [(record.n_moved, record.n_relocated) for record in seen] == [(5, 1), (0, 1)]
    assert model.cluster_centers_.tolist() == [[5.0], [102.0], [100.0]]
    assert model.labels_.tolist() == [0, 0, 0, 2, 1]
    assert model.inertia_ == 0.0


def test_an_empty_cluster_put_on_another_takes_its_rows_if_it_comes_first(backend):
    """Weighted, 100 * w / w misses 100 by an ulp for one of two equal rows.  The second look moves nothing and finds
    nothing far, but puts the empty first cluster on the second one's center: equal centers, the lowest index."""
    X = np.full((2, 1), 100.0)
    weight = np.array([2 / 3, 2.0])
    assert 100.0 * weight[0] / weight[0] != 100.0
    model = fit(X, 2, backend, sample_weight=weight, init=[[20.92945145], [76.64226779]])
    assert_labels(model.labels_, X, model.cluster_centers_)
    assert np.array_equal(model.labels_, model.predict(X))


def test_rows_of_weight_zero_are_labelled_and_move_nothing(backend):
    X = cloud(np.float64, n=60)
    weight = np.where(np.arange(60) % 3 == 0, 0.0, 1.0)
    got = fit(X, 3, backend, sample_weight=weight, init=X[1:4])
    keep = weight > 0
    want = fit(X[keep], 3, backend, init=X[1:4])
    assert np.array_equal(got.cluster_centers_, want.cluster_centers_)
    assert np.array_equal(got.labels_[keep], want.labels_)
    assert_labels(got.labels_, X, got.cluster_centers_)
    assert got.inertia_ == want.inertia_


def more_clusters_than_rows(seed):
    """Few distinct rows, some without weight: thirds, whole numbers, or values from 1e-300 to 1e144 side by side."""
    local = np.random.default_rng(seed)
    n_distinct, d = int(local.integers(1, 6)), int(local.integers(1, 4))
    if seed % 3 == 0:
        base = local.choice([-1, 1], (n_distinct, d)) * 10.0 ** local.uniform(-300, 144, (n_distinct, d))
    else:
        base = local.integers(0, 4, (n_distinct, d)) / (3.0 if seed % 3 == 1 else 1.0)
    X = base[local.integers(0, n_distinct, int(local.integers(8, 30)))]
    weight = None
    if seed % 2:
        weight = local.random(len(X)) * (local.random(len(X)) > 0.4)
        weight[0] = 0.5
    return X, weight


@pytest.mark.parametrize("init", ["k-means++", "random"])
@pytest.mark.parametrize("cls", [KMeans, SphericalKMeans])
def test_a_fit_ends_soon_if_there_are_more_clusters_than_rows_that_weigh(cls, init):
    counted = 0
    for seed in range(60):
        X, weight = more_clusters_than_rows(seed)
        heavy = X if weight is None else X[weight > 0]
        if cls is SphericalKMeans:
            X, heavy = X + (X == 0).all(axis=1)[:, None], heavy + (heavy == 0).all(axis=1)[:, None]
        points = heavy if cls is KMeans else unit_rows(heavy)[0]
        n_distinct = len(np.unique(points, axis=0))
        k = n_distinct + 1 + seed % 3
        if init == "random" and k > len(heavy):
            continue
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = cls(k, init=init, n_init=1, random_state=seed, tol=0, backend="numpy").fit(X, sample_weight=weight)
        assert model.n_iter_ <= n_distinct + 2, seed
        told = [str(w.message) for w in caught if issubclass(w.category, ConvergenceWarning)]
        assert len(told) == 1
        assert f" {n_distinct} distinct " in told[0]
        if cls is KMeans and seed % 3:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs = SklearnKMeans(k, init=init, n_init=1, random_state=seed, tol=0).fit(X, sample_weight=weight)
            assert model.inertia_ <= theirs.inertia_ + 1e-25
        counted += 1
    assert counted > 40


def test_rows_without_weight_fill_no_cluster():
    """They are the farthest, but their cluster would be empty again."""
    X = np.array([[0.0], [0.0], [3.0], [50.0], [-70.0]])
    weight = np.array([1.0, 1.0, 1.0, 0.0, 0.0])
    model = KMeans(2, init=np.array([[1.0], [1.0]]), n_init=1, backend="numpy").fit(X, sample_weight=weight)
    assert sorted(model.cluster_centers_.ravel()) == [0.0, 3.0]
    assert model.n_iter_ <= 4


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_rows_of_small_whole_numbers_fill_clusters(dtype):
    """Bits are one apart, which is a unit of the grid of bytes, but no rounding."""
    X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]] * 5, dtype)
    init = np.array([[0.5, 0.5], [9.0, 9.0], [9.0, 9.0]])
    ours = KMeans(3, init=init, n_init=1, tol=0, backend="numpy").fit(X)
    theirs = SklearnKMeans(3, init=init, n_init=1, tol=0).fit(X.astype(np.float64))
    assert np.bincount(ours.labels_, minlength=3).all()
    assert ours.inertia_ <= theirs.inertia_ + 1e-12
