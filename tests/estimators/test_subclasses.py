"""Subclasses that override `_init_centroids` are asked for every start as scikit-learn asks them; others: refused."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.cluster
from scipy import sparse

import gpukmeans
from tests.support.law_cases import uneven

CLASSES = ["KMeans", "MiniBatchKMeans", "BisectingKMeans"]


def first_rows(base):
    """A subclass of which every start is the first rows, and that keeps what it was called with."""

    class FirstRows(base):
        def _init_centroids(self, X, x_squared_norms, init, random_state, sample_weight, init_size=None, **more):
            rows = X.toarray() if sparse.issparse(X) else np.array(X)
            calls.append(
                {
                    "X": rows,
                    "x_squared_norms": x_squared_norms,
                    "init": init,
                    "draw": random_state.uniform(),
                    "sample_weight": sample_weight,
                    "init_size": init_size,
                    **more,
                }
            )
            return rows[: more.get("n_centroids", self.n_clusters)].copy()  # scikit-learn writes into it

    calls = []
    return FirstRows, calls


def rows(form):
    X = np.random.default_rng(3).normal(size=(90, 4)).round(3) + 5.0
    return sparse.csr_array(X * (X > 5.0)) if form == "csr" else X.astype(form)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("form", ["float64", "float32", "csr"])
@pytest.mark.parametrize("name", CLASSES)
def test_they_are_called_as_scikit_learn_calls_them(backend, name, form, weighted):
    X, weight = rows(form), uneven(90) if weighted else None
    kept, fitted = [], []
    options = {"max_iter": 2} if name == "MiniBatchKMeans" else {}
    for module, more in ((gpukmeans, {"backend": backend}), (sklearn.cluster, {})):
        subclass, calls = first_rows(getattr(module, name))
        fitted.append(subclass(4, n_init=2, random_state=0, **options, **more).fit(X, sample_weight=weight))
        kept.append(calls)
    ours, theirs = kept
    assert len(ours) == len(theirs) >= 2
    for mine, yours in zip(ours, theirs, strict=True):
        assert mine.keys() == yours.keys()
        for key in ("X", "x_squared_norms", "sample_weight"):
            assert mine[key].dtype == yours[key].dtype
            np.testing.assert_allclose(mine[key], yours[key], rtol=1e-5, atol=1e-5)
        for key in mine.keys() - {"X", "x_squared_norms", "sample_weight"}:
            assert mine[key] == yours[key]
    if form != "float32":
        assert np.array_equal(fitted[0].labels_, fitted[1].labels_)


def test_a_batch_asks_them_too(backend):
    X = rows("float64")
    subclass, calls = first_rows(gpukmeans.MiniBatchKMeans)
    model = subclass(4, random_state=0, backend=backend).partial_fit(X)
    model.partial_fit(X)
    theirs, their_calls = first_rows(sklearn.cluster.MiniBatchKMeans)
    want = theirs(4, random_state=0).partial_fit(X).partial_fit(X)
    assert len(calls) == len(their_calls) == 1
    assert np.array_equal(model.labels_, want.labels_)


def test_given_centers_are_moved_with_the_rows(backend):
    X = rows("float64")
    subclass, calls = first_rows(gpukmeans.KMeans)
    subclass(3, init=X[5:8], n_init=1, backend=backend).fit(X)
    assert np.allclose(calls[0]["init"], X[5:8] - X.mean(axis=0))


def test_directions_are_asked_for_with_rows_that_have_one(backend):
    X = rows("float64")
    X[7] = 0.0
    subclass, calls = first_rows(gpukmeans.SphericalKMeans)
    model = subclass(3, n_init=1, backend=backend).fit(X, sample_weight=np.arange(1.0, 91.0))
    assert len(calls) == 1
    assert len(calls[0]["X"]) == len(calls[0]["sample_weight"]) == 89
    assert 8.0 not in calls[0]["sample_weight"]
    assert len(model.cluster_centers_) == 3


@pytest.mark.one_in(3)
@pytest.mark.parametrize("init", ["k-means++", "random"])
@pytest.mark.parametrize("name", [*CLASSES, "SphericalKMeans"])
def test_they_may_hand_on_to_the_method_that_they_override(backend, name, init):
    """On whole numbers whose mean is whole the draws see the same distances, and all ends in the same bits."""
    base = getattr(gpukmeans, name)

    class HandsOn(base):
        def _init_centroids(self, *arguments, **more):
            return super()._init_centroids(*arguments, **more)

    X = np.random.default_rng(4).integers(-9, 9, (60, 3)).astype(float)
    X = np.r_[X, -X]
    X = X[np.abs(X).sum(axis=1) > 0]
    got, want = (cls(4, init=init, n_init=2, random_state=1, backend=backend).fit(X) for cls in (HandsOn, base))
    if name != "SphericalKMeans" or init == "random":
        assert np.array_equal(got.labels_, want.labels_)
        assert got.inertia_ == want.inertia_
    assert len(np.unique(got.labels_)) == 4


def test_a_start_of_the_wrong_shape_is_refused():
    class TwoRows(gpukmeans.KMeans):
        def _init_centroids(self, X, **more):
            return X[:2]

    with pytest.raises(ValueError, match="does not match the number of clusters 3"):
        TwoRows(3, backend="numpy").fit(rows("float64"))


@pytest.mark.parametrize("method", ["_transform", "_check_test_data", "_mini_batch_convergence", "_bisect"])
@pytest.mark.parametrize("name", [*CLASSES, "SphericalKMeans"])
def test_other_private_methods_of_scikit_learn_are_refused(name, method):
    subclass = type("Changed", (getattr(gpukmeans, name),), {method: lambda self, *more: None})
    with pytest.raises(TypeError, match=f"Changed has a method {method}, .* override a public method"):
        subclass(3, backend="numpy").fit(rows("float64"))


def test_every_refused_name_is_scikit_learns_and_none_is_ours():
    from gpukmeans.estimators.base import NEVER_CALLED

    theirs = {name for cls in CLASSES for name in dir(getattr(sklearn.cluster, cls))}
    assert not set(NEVER_CALLED) - theirs - {"_kmeans_single"}  # the last is set by a fit
    assert not any(hasattr(getattr(gpukmeans, cls), name) for cls in CLASSES for name in NEVER_CALLED)
