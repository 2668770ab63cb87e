"""Errors for what users often pass: they name what is wrong, and say what to do."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

import gpukmeans
from gpukmeans import BisectingKMeans, KMeans, MiniBatchKMeans, SphericalKMeans
from gpukmeans.backends import get_backend
from tests.support.small_fits import rows

ESTIMATORS = [KMeans, MiniBatchKMeans, BisectingKMeans, SphericalKMeans]
METHODS = ["fit", "predict", "transform", "score"]


def calls(backend, given):
    """Everything that reads rows, called with `given`."""
    for cls in ESTIMATORS:
        model = cls(3, random_state=0, backend=backend).fit(rows())
        yield from (partial(getattr(model, name), given) for name in METHODS)
        if cls is MiniBatchKMeans:
            yield partial(cls(3, backend=backend).partial_fit, given)
    yield lambda: gpukmeans.fit(given, 3, backend=backend)
    yield lambda: gpukmeans.k_means(given, 3, backend=backend)
    yield lambda: gpukmeans.kmeans_plusplus(given, 3, backend=backend)
    yield lambda: gpukmeans.fit_many([rows(), given], 3, backend=backend)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("form", ["float64", "float32", "csr"])
def test_rows_with_nan_get_scikit_learns_advice(backend, form):
    bad = rows(np.float32 if form == "float32" else np.float64)
    bad[41, 2] = np.nan
    for call in calls(backend, sparse.csr_array(bad) if form == "csr" else bad):
        with pytest.raises(ValueError, match=r"Input X contains NaN\.\n\S+ does not accept missing values") as raised:
            call()
        assert "using an imputer transformer in a pipeline" in str(raised.value)


@pytest.mark.parametrize("given", ["digits.npy", b"digits.npy", Path("digits.npy"), "x" * 10_000])
def test_a_path_gets_told_what_reads_files(given):
    for call in calls("numpy", given):
        with pytest.raises(TypeError, match=r"is a path or text, .*rows are needed.*read_table") as raised:
            call()
        assert not isinstance(raised.value, ValueError)
        assert len(str(raised.value)) < 500
    with pytest.raises(TypeError, match="problems is a path or text"):
        gpukmeans.fit_many(given, 3)


@pytest.mark.parametrize("as_list", [False, True])
def test_images_get_told_how_to_become_rows(as_list):
    images = np.zeros((5, 4, 4))
    for call in calls("numpy", images.tolist() if as_list else images):
        with pytest.raises(ValueError, match=r"Found array with dim 3, .* pass X\.reshape\(len\(X\), -1\)"):
            call()
    with pytest.raises(ValueError, match="Found array with dim 4"):
        KMeans(2).fit(np.zeros((5, 4, 4, 3), np.uint8))


@pytest.mark.parametrize("name", ["gpu", "cuda"])
def test_other_names_of_the_gpu_are_answered_with_cupy(name):
    for call in (
        lambda: gpukmeans.fit(rows(), 3, backend=name),
        *(lambda cls=cls: cls(3, backend=name).fit(rows()) for cls in ESTIMATORS),
        lambda: gpukmeans.k_means(rows(), 3, backend=name),
        lambda: gpukmeans.kmeans_plusplus(rows(), 3, backend=name),
        lambda: gpukmeans.fit_many([rows()], 3, backend=name),
        lambda: KMeans(3).fit(rows()).set_params(backend=name).predict(rows()),
        lambda: get_backend(name),
    ):
        with pytest.raises(ValueError, match="'cupy' computes on an NVIDIA GPU"):
            call()


# ---- cluster_centers_ set by hand ------------------------------------------------------------------------------------

BAD_CENTERS = [
    (np.array([[0.0, np.nan, 0.0, 0.0], [5.0, 5.0, 5.0, 5.0]]), "cluster_centers_ contains NaN"),
    (np.array([[0.0, -np.inf, 0.0, 0.0], [5.0, 5.0, 5.0, 5.0]], np.float32), "cluster_centers_ contains infinity"),
    (np.full((2, 4), 1e300), r"cluster_centers_ has values up to 1e\+300"),
    (np.zeros((2, 3)), r"cluster_centers_ has shape \(2, 3\); it should be \(n_clusters, 4\)"),
    (np.zeros(4), r"cluster_centers_ has shape \(4,\)"),
    (np.full((2, 4), 1j), "cluster_centers_ has dtype complex128"),
    (np.full((2, 4), "a"), "cluster_centers_ has dtype <U1"),
]


@pytest.mark.parametrize(("centers", "message"), BAD_CENTERS)
@pytest.mark.parametrize("method", ["predict", "transform", "score"])
@pytest.mark.parametrize("cls", [KMeans, MiniBatchKMeans, SphericalKMeans])
def test_bad_centers_set_by_hand_are_named(backend, cls, method, centers, message):
    model = cls(2, backend=backend)
    model.cluster_centers_ = centers
    for X in (rows(), rows(np.float32), sparse.csr_array(rows())):
        with pytest.raises(ValueError, match=message):
            getattr(model, method)(X)


@pytest.mark.parametrize(("centers", "message"), BAD_CENTERS)
def test_bad_centers_do_not_move_with_a_batch(centers, message):
    model = MiniBatchKMeans(2, backend="numpy", random_state=0).partial_fit(rows())
    model.cluster_centers_ = centers
    with pytest.raises(ValueError, match=message):
        model.partial_fit(rows())


@pytest.mark.parametrize("as_given", [list, np.int64, np.uint8, np.float16, np.float32])
def test_centers_set_by_hand_may_have_any_real_dtype(backend, as_given):
    want = KMeans(2, backend=backend)
    want.cluster_centers_ = np.array([[0.0, 1.0, 2.0, 3.0], [200.0, 100.0, 90.0, 80.0]])
    got = KMeans(2, backend=backend)
    centers = want.cluster_centers_
    got.cluster_centers_ = centers.tolist() if as_given is list else centers.astype(as_given)
    assert np.array_equal(got.predict(rows()), want.predict(rows()))
    assert got.score(rows()) == want.score(rows())
