"""SphericalKMeans: true nearest directions, an objective that never rises, the same bits everywhere."""

from __future__ import annotations

import doctest
import itertools
import math
import pickle
import re
import warnings
from fractions import Fraction

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.metrics.pairwise import cosine_distances
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.estimator_checks import check_estimator

import gpukmeans
from gpukmeans import SphericalKMeans
from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.backends.cuda.backend import CupyBackend
from gpukmeans.engine import lloyd
from gpukmeans.estimators import spherical
from gpukmeans.exact.unit_rows import unit_rows
from tests.emulator import EmulatorDevice
from tests.emulator.testing import skip_without_compiler
from tests.support.directions import directions, fitted
from tests.support.oracles import inertia, nearest
from tests.support.small_fits import equal, same

# ---- the algorithm ---------------------------------------------------------------------------------------------------


def plain_spherical(X, start, weight, max_iter):
    """Rational arithmetic, but for the documented roundings: rows, means and centers of unit length."""
    unit = unit_rows(X)[0]
    weights = [Fraction(1)] * len(X) if weight is None else [Fraction(w) for w in weight.tolist()]
    centers, labels = unit_rows(start.astype(unit.dtype))[0], None
    for n_iter in range(1, max_iter + 1):
        before, labels = labels, nearest(unit, centers)
        new = centers.astype(np.float64)
        for j in range(len(start)):
            mine = np.flatnonzero(labels == j)
            total = sum(weights[i] for i in mine)
            assert total > 0
            for f in range(X.shape[1]):
                new[j, f] = float(sum((weights[i] * Fraction(float(unit[i, f])) for i in mine), Fraction(0)) / total)
        mean = new.astype(unit.dtype)
        centers = np.array([direction(row) for row in mean.astype(np.float64).tolist()]).astype(unit.dtype)
        if before is not None and np.array_equal(before, labels):
            return labels, centers, n_iter
    return nearest(unit, centers), centers, max_iter


def direction(row):
    length = Fraction(math.isqrt(int(sum(Fraction(v) ** 2 for v in row) * 2**400)), 2**200)  # to 2**-200
    return [float(Fraction(v) / length) for v in row]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_fit_is_the_plain_algorithm(backend, dtype, weighted):
    """Centers may differ in the last places: a length has gamma(5) here, then a quotient, then a mean's rounding."""
    X = directions(40, 5, dtype)
    weight = np.random.default_rng(1).integers(1, 4, 40).astype(float) if weighted else None
    model = fitted(X, 4, weight, init=X[:4], tol=0.0, max_iter=20, backend=backend)
    labels, centers, n_iter = plain_spherical(X, X[:4], weight, 20)
    assert np.array_equal(model.labels_, labels)
    assert model.n_iter_ == n_iter
    assert np.abs(model.cluster_centers_ - centers).max() <= 8 * np.finfo(centers.dtype).eps


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_every_label_is_the_true_nearest_of_the_centers_as_stored(backend, dtype):
    X = directions(120, 7, dtype)
    model = fitted(X, 6, backend=backend)
    assert np.array_equal(model.labels_, nearest(unit_rows(X)[0], model.cluster_centers_))
    assert np.array_equal(model.predict(X), model.labels_)
    similarities = 1 - cosine_distances(X.astype(np.float64), model.cluster_centers_.astype(np.float64))
    best = similarities.max(axis=1) - similarities[np.arange(120), model.labels_]
    assert best.max() <= 8 * np.finfo(model.cluster_centers_.dtype).eps
    lengths = np.linalg.norm(model.cluster_centers_.astype(np.float64), axis=1)
    assert np.abs(lengths - 1).max() <= 4 * np.finfo(model.cluster_centers_.dtype).eps


@pytest.mark.parametrize("weighted", [False, True])
def test_the_inertia_is_the_weighted_sum_of_one_minus_cosine(backend, weighted):
    X = directions(80, 5)
    weight = np.random.default_rng(2).uniform(0, 2, 80) if weighted else None
    model = fitted(X, 5, weight, backend=backend)
    want = inertia(unit_rows(X)[0], model.cluster_centers_, model.labels_, weight) / 2
    assert abs(Fraction(model.inertia_) / want - 1) < Fraction(1, 2**48)
    cosines = cosine_distances(X, model.cluster_centers_)[np.arange(80), model.labels_]
    assert abs(model.inertia_ - (cosines if weight is None else cosines * weight).sum()) < 1e-12
    assert model.score(X, sample_weight=weight) == -model.inertia_


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_the_objective_never_rises(backend, dtype):
    """But for roundings of lengths: a center's |c|^2 is one to 4 units in the last place, and each row counts twice."""
    X = directions(150, 6, dtype, spread=1.5)
    told = []
    model = fitted(X, 8, init="random", n_init=1, tol=0.0, backend=backend, callback=lambda *words: told.append(words))
    inertias = [inertia for _, inertia, _, _ in told]
    slack = 8 * 150 * np.finfo(model.cluster_centers_.dtype).eps
    assert len(inertias) == model.n_iter_ > 3
    assert all(after <= before + slack for before, after in itertools.pairwise(inertias))
    assert abs(inertias[-1] - model.inertia_) <= slack
    assert inertias[-1] < inertias[0]
    assert told[-1][3] == 0


def test_bounds_hold_though_centers_are_moved_to_the_sphere():
    """Short cuts off and on, few centers and many: the same bits."""
    for k, n, spread in [(5, 4000, 0.8), (150, 3000, 1.0)]:
        X = directions(n, 24, spread=spread)
        plain = fitted(X, k, tol=0.0, max_iter=25, backend=NumpyBackend(skip=False, screen=False, project=False))
        quick = fitted(X, k, tol=0.0, max_iter=25)
        assert same(plain, quick)
        assert sum(record.n_skipped for record in quick.fit_report_.iterations) > n
        assert not sum(record.n_skipped for record in plain.fit_report_.iterations)


# ---- laws ------------------------------------------------------------------------------------------------------------


@pytest.mark.one_in(3)
@pytest.mark.parametrize("init", ["k-means++", "random", "k-means||"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lengths_do_not_count(backend, dtype, init):
    """Powers of two round nothing: the very bits."""
    X = directions(dtype=dtype)
    scales = (2.0 ** np.random.default_rng(3).integers(-30, 30, (90, 1))).astype(dtype)
    assert same(fitted(X * scales, init=init, backend=backend), fitted(X, init=init, backend=backend))
    model = fitted(X, backend=backend)
    assert equal(model.predict(X * scales), model.labels_)
    assert model.score(X * scales) == -model.inertia_


@pytest.mark.one_in(2)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_every_backend_ends_in_the_same_bits(cuda_backend, dtype, weighted):
    X = directions(140, 9, dtype)
    X[[4, 50]] = 0
    weight = np.random.default_rng(2).uniform(0.5, 2, 140).astype(np.float32) if weighted else None
    for params in ({}, {"init": "random", "n_init": 2, "tol": 0.0}, {"init": "k-means||"}, {"init": X[:6] + 1.0}):
        host, there = fitted(X, 6, weight, **params), fitted(X, 6, weight, **params, backend=cuda_backend)
        assert same(host, there)
        assert np.array_equal(there.predict(X), host.labels_)
        assert there.score(X, sample_weight=weight) == host.score(X, sample_weight=weight) == -host.inertia_
    assert there.backend_ == "cupy"


@pytest.mark.one_in(2)
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("zeros", [False, True])
def test_rows_on_a_device_are_clustered_there(dtype, zeros):
    skip_without_compiler()
    X = directions(90, 6, np.uint8).astype(dtype) if dtype == np.float16 else directions(90, 6, dtype)
    if zeros:
        X[[0, 33]] = 0
    device = EmulatorDevice()
    there, host, backend = device.upload(X), X.astype(np.float64) if dtype == np.float16 else X, CupyBackend(device)
    for params in ({}, {"init": lambda rows, k, random_state: rows[1 : k + 1]}):
        model, want = fitted(there, backend=backend, **params), fitted(host, **params)
        assert same(model, want)
        for found in (model.labels_, model.cluster_centers_, model.predict(there), model.transform(there)):
            assert type(found) is type(there)
        assert equal(model.predict(there), want.labels_)
        assert equal(model.transform(there), want.transform(host))
        assert model.score(there) == want.score(host) == -want.inertia_
        assert isinstance(model.predict(host), np.ndarray)


def test_weights_are_repetition():
    X = directions(60)
    times = 2 ** np.random.default_rng(5).integers(0, 3, 60)  # no product is rounded
    start = X[:4]
    weighted, repeated = fitted(X, 4, times, init=start), fitted(np.repeat(X, times, axis=0), 4, init=start)
    assert np.array_equal(weighted.cluster_centers_, repeated.cluster_centers_)
    assert np.array_equal(np.repeat(weighted.labels_, times), repeated.labels_)


def test_digits_come_out_better_than_by_chance():
    X, y = load_digits(return_X_y=True)
    from sklearn.metrics import adjusted_rand_score

    assert adjusted_rand_score(fitted(X, 10, n_init=3).labels_, y) > 0.5


# ---- the estimator ---------------------------------------------------------------------------------------------------


def test_scikit_learns_own_checks_pass():
    """But for one that its KMeans fails as well: draws among repeated rows are others than among weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(SphericalKMeans(backend="numpy"), on_fail=None)
    failed = {result["check_name"] for result in results if result["status"] == "failed"}
    assert failed <= {"check_sample_weight_equivalence_on_dense_data", "check_sample_weight_equivalence_on_sparse_data"}
    assert len(results) > 40


@pytest.mark.parametrize(
    ("name", "value"),
    [("n_clusters", 0), ("init", "kmeans"), ("n_init", 0), ("max_iter", 0), ("tol", -1.0), ("backend", "cuda"),
     ("precision", "float16"), ("callback", 3), ("progress", "yes")],
)  # fmt: skip
def test_a_wrong_parameter_is_named(name, value):
    with pytest.raises(InvalidParameterError, match=re.escape(f"The '{name}' parameter of SphericalKMeans must be")):
        SphericalKMeans(**{name: value}).fit(directions())


def test_fitted_attributes_transform_clone_and_pickle():
    X = directions(dtype=np.float32)
    model = fitted(X)
    assert model.cluster_centers_.dtype == model.transform(X).dtype == np.float32
    assert model.labels_.dtype == np.int32
    assert model.n_features_in_ == 6
    assert model.get_feature_names_out()[0] == "sphericalkmeans0"
    assert model.fit_report_.iterations[-1].n_moved == 0
    # Rows of unit length are rounded to float32, by 2**-24 at most: so many units in 1 - cosine.
    want = cosine_distances(X.astype(np.float64), model.cluster_centers_.astype(np.float64))
    np.testing.assert_allclose(model.transform(X), want, rtol=0, atol=8 * 2.0**-24)
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.predict(X), model.labels_)
    assert not hasattr(clone(model), "labels_")
    with pytest.raises(NotFittedError):
        SphericalKMeans().predict(X)


def test_rows_of_another_dtype_meet_the_centers_as_stored(backend):
    model = fitted(directions(), backend=backend)
    narrow = directions(40, dtype=np.float32, seed=3)
    assert np.array_equal(model.predict(narrow), nearest(unit_rows(narrow.astype(float))[0], model.cluster_centers_))


def test_a_callback_ends_the_fit_and_a_failure_leaves_the_old_one():
    X = directions(150, spread=1.5)
    full = fitted(X, 8, tol=0.0)
    stopped = fitted(X, 8, tol=0.0, callback=lambda iteration, *others: iteration == 2)
    assert stopped.n_iter_ == 2 < full.n_iter_
    kept = dict(vars(full))

    def fail(*words):
        raise RuntimeError("in the callback")

    full.set_params(callback=fail)
    with pytest.raises(RuntimeError, match="in the callback"):
        full.fit(X)
    assert {**vars(full), "callback": None} == kept


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_that_are_not_finite_are_refused(backend, dtype, bad):
    X = directions(dtype=dtype)
    model = fitted(X, backend=backend)
    X[5, 1] = bad
    for method in (model.fit, model.predict, model.score, model.transform):
        with pytest.raises(ValueError, match=r"Input X contains (NaN|infinity)"):
            method(X)
    skip_without_compiler()
    device = EmulatorDevice()
    with pytest.raises(ValueError, match=r"Input X contains (NaN|infinity)"):
        fitted(device.upload(X), backend=CupyBackend(device))


def test_verbose_prints_every_iteration(capsys):
    model = fitted(directions(), verbose=1)
    out = capsys.readouterr().out
    assert out.count("Iteration ") == model.n_iter_
    assert same(model, fitted(directions()))


def test_a_constraint_that_is_left_out_is_noticed(monkeypatch):
    """The checks above can fail."""
    monkeypatch.setattr(lloyd, "_constrain", lambda run, constrain: 1.0)
    with pytest.raises(AssertionError):
        test_every_label_is_the_true_nearest_of_the_centers_as_stored(NumpyBackend(), np.float64)


def test_a_constraint_that_bounds_ignore_is_noticed(monkeypatch):
    from gpukmeans.backends.cpu.screens.bounds import DriftBounds

    advance = DriftBounds.advance

    def ignore(self, centers):
        before, _, square = self._known
        if before is not None and self._centers is not None:
            self._known = (self._centers, centers, 0.0 * square)
        advance(self, centers)

    monkeypatch.setattr(DriftBounds, "advance", ignore)
    with pytest.raises(AssertionError):
        test_bounds_hold_though_centers_are_moved_to_the_sphere()


def test_the_examples_run():
    assert gpukmeans.SphericalKMeans is SphericalKMeans
    result = doctest.testmod(spherical)
    assert result.attempted > 4
    assert result.failed == 0
