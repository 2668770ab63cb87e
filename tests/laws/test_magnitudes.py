"""The unit of the values changes nothing: rows times a power of two end in the same labels and centers times it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import sparse

import gpukmeans
from gpukmeans import BisectingKMeans, KMeans, MiniBatchKMeans
from gpukmeans.arrays.magnitude import times_power, unit_exponent
from tests.support.assertions import assert_labels

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

#: Of values: subnormal nearly, where squares vanish, where float32 ends, and as large as is allowed.
EXPONENTS = [-1000, -540, -300, -100, 100, 300, 477]


def rows(seed=0, n=120, d=3):
    local = np.random.default_rng(seed)
    return local.integers(-2000, 2000, (n, d)) / 2048.0 + 4.0 * local.integers(0, 2, (n, 1))


def model(cls, **params):
    return cls(5, **{"random_state": 0, "n_init": 2, "tol": 0.0, "backend": "numpy", **params})


CLASSES = [KMeans, MiniBatchKMeans, BisectingKMeans]


def assert_scaled(got, want, exponent):
    """The fit of the scaled rows, and that of the rows."""
    assert np.array_equal(got.labels_, want.labels_)
    assert np.array_equal(got.cluster_centers_, times_power(want.cluster_centers_, exponent))
    assert got.inertia_ == times_power(want.inertia_, 2 * exponent)
    if hasattr(want, "n_iter_"):
        assert got.n_iter_ == want.n_iter_
        pairs = zip(got.fit_report_.iterations, want.fit_report_.iterations, strict=True)
        assert all(a.shift == times_power(b.shift, 2 * exponent) or math.isnan(b.shift) for a, b in pairs)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("exponent", EXPONENTS)
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("cls", CLASSES)
def test_fits(cls, weighted, form, exponent):
    X = rows()
    weight = np.random.default_rng(1).random(len(X)) if weighted else None
    far = form(times_power(X, exponent))
    want = model(cls).fit(form(X), sample_weight=weight)
    got = model(cls).fit(far, sample_weight=weight)
    assert_scaled(got, want, exponent)
    assert got.n_features_in_ == 3
    assert np.array_equal(got.predict(far), got.labels_)
    assert np.array_equal(got.transform(far), times_power(want.transform(form(X)), exponent))
    assert got.score(far, sample_weight=weight) == times_power(want.score(form(X), sample_weight=weight), 2 * exponent)


@pytest.mark.parametrize("exponent", [-100, 60, 100])
def test_float32(exponent):
    X = rows().astype(np.float32)
    want, got = model(KMeans).fit(X), model(KMeans).fit(times_power(X, exponent))
    assert_scaled(got, want, exponent)
    assert got.cluster_centers_.dtype == np.float32


@pytest.mark.parametrize("init", ["random", "k-means||", "array", "callable"])
@pytest.mark.parametrize("cls", CLASSES)
def test_starts(cls, init):
    X, exponent = rows(), -700
    if cls is BisectingKMeans and init in ("array", "k-means||"):
        pytest.skip("not a way to start a bisection")

    def first_rows(values, n_clusters, random_state):
        return values[:n_clusters]

    found = []
    for scale in (0, exponent):
        given = {"array": times_power(X[:5], scale), "callable": first_rows}.get(init, init)
        found.append(model(cls, init=given, n_init=1).fit(times_power(X, scale)))
        assert found[-1].init is given
    assert_scaled(found[1], found[0], exponent)


def test_what_is_watched_is_in_the_caller_s_unit(capsys):
    X, exponent = rows(), -400
    seen = {}
    for scale in (0, exponent):
        seen[scale] = ([], [])
        records, told = seen[scale]
        model(
            KMeans,
            progress=records.append,
            callback=lambda number, inertia, shift, n_moved, told=told: told.append((number, inertia, shift, n_moved)),
        ).fit(times_power(X, scale))
        told[:] = [(i, times_power(a, -2 * scale), times_power(b, -2 * scale), n) for i, a, b, n in told]
        records[:] = [(r.iteration, times_power(r.inertia, -2 * scale), r.n_moved) for r in records]
    assert seen[0] == seen[exponent]
    assert seen[0][1]
    model(KMeans, verbose=1).fit(times_power(X, exponent))
    assert f"multiplied by 2**{unit_exponent(times_power(X, exponent))} for" in capsys.readouterr().out


@pytest.mark.parametrize("init", ["k-means++", "array"])
def test_batches_one_after_the_other(init):
    X, exponent = rows(n=300), -600
    found = {}
    for scale in (0, exponent):
        given = times_power(X[:5], scale) if init == "array" else init
        found[scale] = model(MiniBatchKMeans, init=given, n_init=1)
        for start in range(0, 300, 60):
            found[scale].partial_fit(times_power(X[start : start + 60], scale))
    assert vars(found[0]).keys() == vars(found[exponent]).keys()
    assert np.array_equal(found[exponent].cluster_centers_, times_power(found[0].cluster_centers_, exponent))
    assert np.array_equal(found[exponent]._counts, found[0]._counts)


def test_functions():
    X, exponent = rows(), -900
    far = times_power(X, exponent)
    for kind in (np.asarray, sparse.csr_array, np.ndarray.tolist):
        centers, indices = gpukmeans.kmeans_plusplus(kind(far), 6, random_state=3, backend="numpy")
        want = gpukmeans.kmeans_plusplus(X, 6, random_state=3, backend="numpy")
        assert np.array_equal(indices, want[1])
        assert np.array_equal(centers, far[indices])
    tables = [X, far, times_power(X, 200)]
    alone = [gpukmeans.fit(table, 4, random_state=0, backend="numpy") for table in tables]
    for problems in (tables, np.stack(tables)):
        for got, want, scale in zip(
            gpukmeans.fit_many(problems, 4, random_state=0, backend="numpy"), alone, (0, exponent, 200), strict=True
        ):
            assert_scaled(got, want, 0)
            assert_scaled(got, alone[0], scale)


def test_every_backend_ends_in_the_same_bits(backend):
    X = rows(n=80)
    for exponent in (-1000, 300):
        want, got = (model(KMeans, n_init=1, backend=b).fit(times_power(X, exponent)) for b in ("numpy", backend))
        assert_scaled(got, want, 0)


def test_an_absolute_tolerance_is_in_the_unit_of_the_rows():
    """That of bisecting k-means, as in scikit-learn."""
    X, exponent = rows(), -100
    want = model(BisectingKMeans, tol=0.01).fit(X)
    assert_scaled(
        model(BisectingKMeans, tol=times_power(0.01, 2 * exponent)).fit(times_power(X, exponent)), want, exponent
    )


def test_rows_far_from_the_centers_are_labelled_in_a_unit_that_suits_both():
    fitted = model(KMeans).fit(rows())
    for scale in (-900, 400):
        X = times_power(rows(seed=2, n=40), scale)
        assert_labels(fitted.predict(X), X, fitted.cluster_centers_)


def test_the_power_is_left_out_where_it_would_round():
    tiny = np.array([[2.0**-1074], [1.0]])
    assert unit_exponent(tiny) == 0
    assert unit_exponent(np.array([[2.0**-1000], [2.0**-1074]])) == 999
    assert unit_exponent(np.array([[2.0**400], [2.0**-900]])) == 0  # 2**-1301 is no float
    assert unit_exponent(np.array([[2.0**400], [2.0**-600]])) == 0  # whose squares would lose digits
    assert unit_exponent(np.array([[2.0**400], [2.0**11], [0.0]])) == -401
    assert unit_exponent(np.array([[0.0]]), np.array([[2.0**-450]])) == 449
    assert unit_exponent(np.zeros((0, 2)), np.array([[2.0**-450]])) == 449
    assert unit_exponent(np.array([[2.0**-500]]), np.array([[1.0]])) == 0
    assert unit_exponent(np.array([[2.0**-500]]), np.array([[2.0**-450]])) == 449
    for values in (np.zeros((3, 2)), np.zeros((0, 2)), np.array([[np.nan, 1e-300]]), np.array([[np.inf]])):
        assert unit_exponent(values) == 0
    assert unit_exponent(np.array([[2.0**481]])) == 0  # not allowed
    assert unit_exponent(np.array([[3]], np.uint8)) == 0
    assert times_power(1.0, -1074) == 5e-324
    assert times_power(5e-324, 1074) == 1.0
    assert times_power(np.float32([1.0]), 120).dtype == np.float32


@pytest.mark.parametrize("small", [1e-20, 1.88349057])
def test_small_rows_beside_large_ones_keep_their_digits(small):
    X = np.array([[small], [-1e143]])
    fitted = KMeans(2, init=np.array([[0.0], [-1e143]]), n_init=1, max_iter=1, backend="numpy").fit(X)
    fitted.cluster_centers_ = np.array([[0.0], [-1e143]])
    assert fitted.score(X) == -(small * small)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
def test_rows_of_zeros_in_the_unit_of_the_centers(form):
    fitted = model(KMeans).fit(rows())
    fitted.cluster_centers_ = np.array([[3e-280, 0.0, 4e-280], [0.0, 1e-280, 0.0]])
    found = fitted.transform(form(np.zeros((2, 3))))
    assert np.allclose(found, [[5e-280, 1e-280]] * 2, rtol=1e-15, atol=0.0)


def fitted_with(centers):
    fitted = KMeans(len(centers), init=centers, n_init=1, backend="numpy").fit(centers)
    fitted.cluster_centers_ = centers
    return fitted


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("others", [[], [[1e-45]]], ids=["another unit", "the unit as it is"])
def test_distances_beyond_float32_are_infinite_and_leave_the_nearest_first(form, others):
    fitted = fitted_with(np.array([[3e38], [2e38]], np.float32))
    X = np.array([[-3e38], [2e38], *others], np.float32)
    found = fitted.transform(form(X))
    assert found[0].tolist() == [np.inf, np.finfo(np.float32).max]
    assert np.array_equal(found.argmin(axis=1), fitted.predict(X))


def test_distances_that_round_to_one_leave_the_nearest_first():
    fitted = fitted_with(np.array([[1e-45, 1e-45], [0.0, 1e-45]], np.float32))
    X = np.array([[0.0, 0.0], [3e-45, 0.0]], np.float32)
    assert fitted.transform(X).argmin(axis=1).tolist() == fitted.predict(X).tolist() == [1, 0]


@pytest.mark.one_in(2)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("cls", CLASSES)
def test_subnormal_centers_are_labelled_as_stored(cls, weighted, dtype):
    """They are rounded on the way back from the unit of the fit."""
    local = np.random.default_rng(0)
    for seed in range(10):
        X = (local.integers(-3, 4, (20, 2)) * np.finfo(dtype).smallest_subnormal).astype(dtype)
        weight = local.integers(1, 4, 20) if weighted else None
        fitted = model(cls, random_state=seed).fit(X, sample_weight=weight)
        assert np.array_equal(fitted.predict(X), fitted.labels_)
        if cls is not BisectingKMeans:
            assert_labels(fitted.labels_, X, fitted.cluster_centers_)
            assert fitted.inertia_ == -fitted.score(X, sample_weight=weight)
        difference = X.astype(np.float64) - fitted.cluster_centers_[fitted.labels_]
        square = float(((difference * 2.0**500) ** 2).sum(axis=1) @ (np.ones(20) if weight is None else weight))
        assert fitted.inertia_ * 2.0**500 == pytest.approx(square * 2.0**-500, rel=1e-14)
