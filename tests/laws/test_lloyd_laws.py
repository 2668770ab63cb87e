"""Laws of k-means that hold to the bit, on every backend."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans as SklearnKMeans

from gpukmeans.certificates.rounding import UNIT64, gamma
from tests.support.assertions import assert_same
from tests.support.law_cases import DTYPES, assert_belong_together, cloud, fit


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("max_iter", [1, 2, 300])
def test_labels_centers_and_inertia_belong_together(backend, dtype, max_iter):
    X = cloud(dtype)
    model = fit(X, 6, backend, init=X[:6], max_iter=max_iter)
    assert_belong_together(model, X)
    assert model.n_iter_ <= max_iter
    assert np.array_equal(model.labels_, model.predict(X))


@pytest.mark.parametrize("tol", [1e-2, 1e-4, 0.0])
def test_stopping_by_tolerance_leaves_labels_centers_and_inertia_together(backend, tol):
    X = cloud(np.float32)
    model = fit(X, 6, backend, init=X[:6], tol=tol)
    assert_belong_together(model, X)


@pytest.mark.parametrize("dtype", DTYPES)
def test_inertia_never_rises(backend, dtype):
    """Neither step can raise it; rounding of centers and distances allows 2 gamma(d + 3) relatively."""
    X = cloud(dtype)
    last = np.inf
    full = fit(X, 7, backend, init=X[:7])
    for max_iter in range(1, full.n_iter_ + 1):
        now = fit(X, 7, backend, init=X[:7], max_iter=max_iter).inertia_
        assert now <= last * (1 + 2 * gamma(X.shape[1] + 3, UNIT64))
        last = now
    assert last == full.inertia_
    assert full.n_iter_ > 3


@pytest.mark.parametrize("choices", [[1, 2, 4], [0, 1, 2, 4], [1, 2, 3, 5]])
@pytest.mark.parametrize("dtype", DTYPES)
def test_whole_weights_equal_repetition(backend, dtype, choices):
    """Products with the rows are exact for uint8, float32, and float64 values of few bits.

    The inertia multiplies each distance once: exact for powers of two, else within u of each term.
    """
    X = cloud(np.float32).astype(dtype)
    times = np.random.default_rng(61).choice(choices, len(X))
    times[:6] = [1, 2, 1, 1, 2, 1]
    weighted = fit(X, 6, backend, sample_weight=times.astype(float), init=X[:6])
    repeated = fit(np.repeat(X, times, axis=0), 6, backend, init=X[:6])
    assert np.array_equal(np.repeat(weighted.labels_, times), repeated.labels_)
    assert np.array_equal(weighted.cluster_centers_, repeated.cluster_centers_)
    slack = 4 * UNIT64 * repeated.inertia_ if 3 in choices else 0.0
    assert abs(weighted.inertia_ - repeated.inertia_) <= slack
    assert weighted.n_iter_ == repeated.n_iter_ or 0 in choices  # rows of weight 0 move on their own


def test_weights_of_one_are_no_weights(backend):
    X = cloud(np.float64)
    assert_same(fit(X, 5, backend, sample_weight=np.ones(len(X)), init=X[:5]), fit(X, 5, backend, init=X[:5]))


@pytest.mark.parametrize("exponent", [-7, 1, 12])
def test_scaling_weights_by_a_power_of_two_scales_only_the_inertia(backend, exponent):
    X = cloud(np.float64)
    weight = np.random.default_rng(62).random(len(X))
    one = fit(X, 5, backend, sample_weight=weight, init=X[:5])
    other = fit(X, 5, backend, sample_weight=weight * 2.0**exponent, init=X[:5])
    assert np.array_equal(one.labels_, other.labels_)
    assert np.array_equal(one.cluster_centers_, other.cluster_centers_)
    assert one.n_iter_ == other.n_iter_
    assert one.inertia_ * 2.0**exponent == other.inertia_


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_shuffling_rows_permutes_labels_and_changes_no_other_bit(backend, dtype, weighted):
    X = cloud(dtype)
    local = np.random.default_rng(63)
    weight = local.random(len(X)) if weighted else None
    want = fit(X, 6, backend, sample_weight=weight, init=X[:6])
    for _ in range(3):
        order = local.permutation(len(X))
        got = fit(X[order], 6, backend, sample_weight=None if weight is None else weight[order], init=X[:6])
        assert np.array_equal(got.labels_, want.labels_[order])
        got.labels_ = want.labels_
        assert_same(got, want)


def test_shuffling_many_rows(mnist):
    """Blocks, threads and screens get other rows each time."""
    local = np.random.default_rng(64)
    X = mnist[local.choice(70_000, 6000, replace=False)].astype(np.float32) / np.float32(255)
    want = fit(X, 12, "numpy", init=X[:12])
    order = local.permutation(len(X))
    got = fit(X[order], 12, "numpy", init=X[:12])
    assert np.array_equal(got.labels_, want.labels_[order])
    got.labels_ = want.labels_
    assert_same(got, want)


@pytest.mark.parametrize("dtype", DTYPES)
def test_shuffling_centers_permutes_clusters(backend, dtype):
    """Without exact ties between different centers (there the lowest index wins)."""
    X = cloud(dtype, d=40)
    want = fit(X, 6, backend, init=X[:6])
    order = np.random.default_rng(65).permutation(6)
    got = fit(X, 6, backend, init=X[:6][order])
    assert np.array_equal(got.cluster_centers_, want.cluster_centers_[order])
    assert np.array_equal(order[got.labels_], want.labels_)
    assert got.inertia_ == want.inertia_


@pytest.mark.parametrize(("dtype", "exponents"), [(np.float32, [-70, -1, 9, 30]), (np.float64, [-300, -1, 30, 400])])
def test_scaling_by_a_power_of_two_scales_everything(backend, dtype, exponents):
    X = (cloud(np.float64, seed=66) / 7).astype(dtype)
    want = fit(X, 6, backend, init=X[:6], tol=1e-3)
    for exponent in exponents:
        factor = dtype(2.0**exponent)
        got = fit(X * factor, 6, backend, init=X[:6] * factor, tol=1e-3)
        assert np.array_equal(got.labels_, want.labels_)
        assert np.array_equal(got.cluster_centers_, want.cluster_centers_ * factor)
        assert got.inertia_ == want.inertia_ * 2.0 ** (2 * exponent)
        assert got.n_iter_ == want.n_iter_


def test_features_may_come_in_any_order(backend):
    """Labels, n_iter and centers; the inertia adds its features in warp order."""
    X = cloud(np.float32, d=40)
    order = np.random.default_rng(67).permutation(40)
    one, other = fit(X, 5, backend, init=X[:5]), fit(X[:, order], 5, backend, init=X[:5][:, order])
    assert np.array_equal(one.labels_, other.labels_)
    assert np.array_equal(one.cluster_centers_[:, order], other.cluster_centers_)
    assert one.n_iter_ == other.n_iter_


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_fixed_point_stays(backend, dtype):
    """Started from its own result, one iteration finds the labels, and the centers stay."""
    X = cloud(dtype)
    first = fit(X, 6, backend, init=X[:6])
    again = fit(X, 6, backend, init=first.cluster_centers_)
    assert again.n_iter_ == 1
    again.n_iter_ = first.n_iter_
    assert_same(again, first)


# ---- stopping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tol", [1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 0.0])
def test_the_tolerance_stops_at_scikit_learns_iteration(tol):
    for seed in range(4):
        X = np.random.default_rng(seed).standard_normal((800, 3)) * [1, 5, 0.1]
        got = fit(X, 8, "numpy", init=X[:8], tol=tol)
        want = SklearnKMeans(8, init=X[:8], tol=tol, n_init=1).fit(X)
        assert got.n_iter_ == want.n_iter_
        assert np.array_equal(got.labels_, want.labels_)


@pytest.mark.parametrize("max_iter", [1, 2, 5])
def test_max_iter_stops_at_scikit_learns_state(max_iter):
    X = np.random.default_rng(69).standard_normal((2000, 3))
    got = fit(X, 8, "numpy", init=X[:8], max_iter=max_iter)
    want = SklearnKMeans(8, init=X[:8], tol=0, n_init=1, max_iter=max_iter).fit(X)
    assert got.n_iter_ == want.n_iter_ == max_iter
    assert np.array_equal(got.labels_, want.labels_)


def test_weights_do_not_enter_the_tolerance():
    """As in scikit-learn, whose tol is relative to the unweighted variance."""
    local = np.random.default_rng(70)
    X = local.standard_normal((1500, 2)) * np.where(np.arange(1500) < 30, 100.0, 1.0)[:, None]
    weight = np.where(np.arange(1500) < 30, 1e-3, 1.0)
    for tol in (1e-2, 1e-3, 1e-4):
        got = fit(X, 6, "numpy", sample_weight=weight, init=X[-6:], tol=tol)
        want = SklearnKMeans(6, init=X[-6:], tol=tol, n_init=1).fit(X, sample_weight=weight)
        assert got.n_iter_ == want.n_iter_
        assert np.array_equal(got.labels_, want.labels_)


def test_the_counts_of_an_iteration_cover_every_row(backend):
    X = cloud(np.float32)
    seen = []
    model = fit(X, 6, backend, init=X[:6], progress=seen.append)
    assert [record.iteration for record in seen] == list(range(1, model.n_iter_ + 1))
    for record in seen:
        settled = record.n_skipped + record.n_certified + record.n_resolved + record.n_exact + record.n_uncertain
        assert settled == len(X)
        assert record.n_uncertain == 0
    assert seen[0].n_moved == len(X)
    assert seen[-1].n_moved == 0


@pytest.mark.parametrize("exponent", [-80, -60, 0, 60, 80])
def test_fast_precision_does_not_leave_rows_to_scores_beyond_float32(backend, exponent):
    """Scaled by a power of two, well separated clusters stay what they are: only near ties may be left to rounding."""
    X = np.repeat([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]], 30, axis=0)
    X += np.random.default_rng(61).uniform(-1, 1, X.shape)
    labels = fit(X, 3, backend, init=X[[0, 30, 60]]).labels_
    scaled = np.ldexp(X, exponent)
    assert np.array_equal(fit(scaled, 3, backend, init=scaled[[0, 30, 60]], precision="fast").labels_, labels)
