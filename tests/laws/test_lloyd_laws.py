"""Laws of k-means that hold to the bit, on every backend."""

from __future__ import annotations

import warnings
from fractions import Fraction

import numpy as np
import pytest
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.exceptions import ConvergenceWarning

from gpukmeans import KMeans
from gpukmeans.certificates.rounding import UNIT64, gamma
from tests.support.oracles import inertia, nearest, rational_lloyd

DTYPES = [np.uint8, np.float32, np.float64]


def fit(X, k, backend, sample_weight=None, **params):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return KMeans(k, backend=backend, **{"tol": 0, "n_init": 1, **params}).fit(X, sample_weight=sample_weight)


def cloud(dtype, n=120, d=5, seed=60):
    local = np.random.default_rng(seed)
    X = 100 + 12 * local.standard_normal((n, d)) + 40 * local.integers(-1, 2, (n, 1))
    return X.clip(0, 255).astype(dtype)


def assert_same(got, want):
    """The same bits."""
    assert np.array_equal(got.labels_, want.labels_)
    assert got.cluster_centers_.dtype == want.cluster_centers_.dtype
    assert np.array_equal(got.cluster_centers_, want.cluster_centers_)
    assert got.inertia_ == want.inertia_
    assert got.n_iter_ == want.n_iter_


def assert_belong_together(model, X, sample_weight=None):
    """Labels are the nearest centers as stored, and the inertia is theirs, within gamma(d + 3) of its real value."""
    assert np.array_equal(model.labels_, nearest(X, model.cluster_centers_))
    true = inertia(X, model.cluster_centers_, model.labels_, sample_weight)
    assert abs(Fraction(model.inertia_) - true) <= Fraction(gamma(X.shape[1] + 3, UNIT64)) * true


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
    """Blocks, threads and screens meet other rows each time."""
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
    """Started from its own result, one iteration finds the labels and sees the centers stay."""
    X = cloud(dtype)
    first = fit(X, 6, backend, init=X[:6])
    again = fit(X, 6, backend, init=first.cluster_centers_)
    assert again.n_iter_ == 1
    again.n_iter_ = first.n_iter_
    assert_same(again, first)


# ---- small and degenerate --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_row_is_its_own_center(backend, dtype):
    X = np.array([[3, 0, 250]]).astype(dtype)
    model = fit(X, 1, backend)
    assert model.labels_.tolist() == [0]
    assert np.array_equal(model.cluster_centers_, X)
    assert model.inertia_ == 0.0


@pytest.mark.parametrize("dtype", DTYPES)
def test_as_many_clusters_as_rows(backend, dtype):
    X = cloud(dtype, n=20)
    model = fit(X, 20, backend, init=X)
    assert model.labels_.tolist() == list(range(20))
    assert np.array_equal(model.cluster_centers_, X)
    assert model.inertia_ == 0.0
    assert fit(X, 20, backend, random_state=0).inertia_ == 0.0


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_cluster_is_the_mean(backend, dtype):
    X = cloud(dtype)
    model = fit(X, 1, backend)
    exact = [sum(map(Fraction, column)) / len(X) for column in X.T.astype(float).tolist()]
    want = np.array([float(v) for v in exact]).astype(model.cluster_centers_.dtype)
    assert np.abs(model.cluster_centers_[0] - want).max() <= np.spacing(want.max())
    assert (model.labels_ == 0).all()
    assert_belong_together(model, X)


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_column(backend, dtype):
    """On a line clusters are intervals."""
    X = cloud(dtype, d=1)
    model = fit(X, 5, backend, init=np.unique(X)[:5, None])
    assert_belong_together(model, X)
    order = np.argsort(X[:, 0], kind="stable")
    changes = np.flatnonzero(np.diff(model.labels_[order]))
    assert len(changes) == len(np.unique(model.labels_)) - 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [0.0, 7.0, 0.9])
def test_constant_data_end_at_once(backend, dtype, value):
    """Every row is its cluster's center: nothing moves, nothing is far, whatever the start."""
    X = np.full((37, 2), value).astype(dtype)
    model = fit(X, 3, backend, random_state=0)
    assert np.array_equal(model.cluster_centers_, X[:3])
    assert model.inertia_ == 0.0
    assert (model.labels_ == 0).all()
    assert model.n_iter_ <= 2


@pytest.mark.parametrize("n", [37, 42])
def test_duplicates_converge_from_a_start_one_ulp_away(backend, n):
    """tol=0 promises an end: a mean that misses equal rows by an ulp would trade them between two centers for ever."""
    X = np.full((n, 1), 0.9)
    model = fit(X, 2, backend, init=[[np.nextafter(0.9, 1)], [0.9]], max_iter=40)
    assert model.n_iter_ < 10
    assert model.inertia_ == 0.0


@pytest.mark.parametrize("dtype", DTYPES)
def test_duplicates_of_few_points(backend, dtype):
    """More clusters than distinct points: as many labels as points, no inertia, and a warning."""
    points = np.array([[1, 2], [9, 4], [30, 200]])
    X = np.repeat(points, 15, axis=0).astype(dtype)
    with pytest.warns(ConvergenceWarning, match=r"distinct clusters \(3\) found smaller than n_clusters \(5\)"):
        model = KMeans(5, backend=backend, random_state=0).fit(X)
    assert model.inertia_ == 0.0
    assert len(set(model.labels_.tolist())) == 3
    assert np.array_equal(model.cluster_centers_[model.labels_], X)


def test_equal_rows_share_a_label(backend):
    X = np.random.default_rng(68).integers(0, 4, (150, 2)).astype(np.float64)
    labels = fit(X, 6, backend, init=X[:6]).labels_
    for row in np.unique(X, axis=0):
        assert len(set(labels[(row == X).all(axis=1)].tolist())) == 1


# ---- empty clusters --------------------------------------------------------------------------------------------------


def with_an_empty_cluster(dtype, seed):
    """Data of two groups, and three starts of which the last is nearest to nothing."""
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
    assert np.array_equal(got.labels_, want.labels)
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
    assert np.array_equal(model.labels_, nearest(X, model.cluster_centers_))
    assert np.array_equal(model.labels_, model.predict(X))


def test_rows_of_weight_zero_are_labelled_and_move_nothing(backend):
    X = cloud(np.float64, n=60)
    weight = np.where(np.arange(60) % 3 == 0, 0.0, 1.0)
    got = fit(X, 3, backend, sample_weight=weight, init=X[1:4])
    keep = weight > 0
    want = fit(X[keep], 3, backend, init=X[1:4])
    assert np.array_equal(got.cluster_centers_, want.cluster_centers_)
    assert np.array_equal(got.labels_[keep], want.labels_)
    assert np.array_equal(got.labels_, nearest(X, got.cluster_centers_))
    assert got.inertia_ == want.inertia_


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
