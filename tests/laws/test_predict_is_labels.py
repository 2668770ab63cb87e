"""Predicting the fitted rows gives `labels_`, however a fit ends: labels and centers belong to one assignment."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from scipy import sparse

from gpukmeans import BisectingKMeans, KMeans, MiniBatchKMeans, SphericalKMeans

ESTIMATORS = [KMeans, MiniBatchKMeans, BisectingKMeans, SphericalKMeans]


def rows(kind, dtype):
    local = np.random.default_rng(7)
    if kind == "blobs":
        X = 100 + 20 * local.standard_normal((80, 5)) + 60 * local.integers(-1, 2, (80, 1))
    elif kind == "duplicates":
        X = local.integers(1, 250, (6, 5))[local.integers(6, size=80)]
    elif kind == "many zeros":
        X = local.integers(0, 200, (80, 5)) * (local.random((80, 5)) < 0.3)
    else:
        X = np.stack(np.meshgrid(np.arange(1, 10), np.arange(1, 10)), axis=-1).reshape(-1, 2)  # ties in every fit
    return np.asarray(X).clip(0, 255).astype(dtype)


#: Ways for a fit to end: by labels, by `tol`, by `max_iter`.
ENDS = [{"tol": 0.0}, {"tol": 0.5}, {"max_iter": 1}]


@pytest.mark.one_in(6)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("kind", ["blobs", "duplicates", "many zeros", "lattice"])
@pytest.mark.parametrize("cls", ESTIMATORS)
def test_predicting_the_fitted_rows_gives_their_labels(every_backend, cls, kind, dtype):
    X = rows(kind, dtype)
    weights = [None, np.random.default_rng(8).random(len(X)) * (np.arange(len(X)) % 5 > 0)]
    cases = list(itertools.product(ENDS, weights))
    if every_backend.name == "cupy":  # one case for each kind and class; over the dtypes, each end
        cases = [cases[{"uint8": 0, "float32": 3, "float64": 4}[np.dtype(dtype).name]]]
    for end, weight in cases:
        model = cls(7, random_state=3, backend=every_backend, **end)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            labels = model.fit_predict(X, sample_weight=weight)
        assert np.array_equal(model.labels_, labels)
        assert np.array_equal(model.predict(X), labels), (end, weight is None)
        if cls is not BisectingKMeans:  # which follows its splits
            assert np.array_equal(model.transform(X).argmin(axis=1), labels)
        if every_backend.reads_sparse and dtype != np.uint8:
            assert np.array_equal(model.predict(sparse.csr_array(X)), labels)
            if cls is not BisectingKMeans:
                assert np.array_equal(model.transform(sparse.csr_array(X)).argmin(axis=1), labels)


@pytest.mark.parametrize("cls", [KMeans, SphericalKMeans])
def test_a_fit_that_a_callback_ends_leaves_labels_that_predict_gives(every_backend, cls):
    X = rows("blobs", np.float32)
    for last in (1, 2):
        model = cls(7, random_state=3, backend=every_backend, tol=0, callback=lambda i, *_, last=last: i == last)
        assert np.array_equal(model.fit(X).labels_, model.predict(X))


def test_sparse_rows_predict_their_labels(backend):
    for dtype, cls in itertools.product((np.float32, np.float64), ESTIMATORS):
        X = sparse.csr_array(rows("many zeros", dtype))
        model = cls(5, random_state=3, backend=backend, max_iter=3).fit(X)
        assert np.array_equal(model.labels_, model.predict(X))
        assert np.array_equal(model.labels_, model.predict(X.toarray()))
