"""`to_sklearn`: fitted scikit-learn models that label rows alike, and converted to ONNX still do."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn import cluster
from sklearn.base import clone
from sklearn.pipeline import Pipeline

import gpukmeans
from gpukmeans import BisectingKMeans, KMeans, MiniBatchKMeans, SphericalKMeans
from tests.support.small_fits import rows

TWINS = [
    (KMeans, cluster.KMeans),
    (MiniBatchKMeans, cluster.MiniBatchKMeans),
    (BisectingKMeans, cluster.BisectingKMeans),
    (SphericalKMeans, Pipeline),
]


@pytest.mark.parametrize(("ours", "theirs"), TWINS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_twin_is_fitted_and_labels_alike(ours, theirs, dtype):
    X = np.random.default_rng(0).normal(size=(400, 5)).astype(dtype)
    model = ours(6, random_state=0, backend="numpy").fit(X)
    twin = model.to_sklearn()
    assert type(twin) is theirs
    assert np.array_equal(twin.predict(X), model.predict(X))
    last = twin[-1] if theirs is Pipeline else twin
    assert last.cluster_centers_.tobytes() == model.cluster_centers_.tobytes()
    assert last.cluster_centers_ is not model.cluster_centers_
    distances = model.transform(X) if theirs is not Pipeline else np.sqrt(2 * model.transform(X))
    assert np.allclose(twin.transform(X), distances, rtol=0, atol=1e-5)  # scikit-learn cancels: |x|^2 - 2 x.c + |c|^2
    assert clone(twin).fit(X).predict(X).shape == (400,)
    again = pickle.loads(pickle.dumps(twin))
    assert np.array_equal(again.predict(X), twin.predict(X))


def test_frames_keep_their_names():
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame(rows(), columns=[f"c{i}" for i in range(rows().shape[1])])
    for ours, _ in TWINS:
        twin = ours(3, random_state=0, backend="numpy").fit(X).to_sklearn()
        assert list(twin.feature_names_in_) == list(X)
        twin.predict(X)  # a warning about names would be an error
        with pytest.raises(ValueError, match="feature names"):
            twin.predict(X.rename(columns={"c0": "other"}))


def test_partial_fit_goes_on_in_scikit_learn():
    model = MiniBatchKMeans(4, random_state=0, backend="numpy").partial_fit(rows())
    twin = model.to_sklearn()
    twin.partial_fit(rows()[:20])
    model.partial_fit(rows()[:20])
    assert np.allclose(twin.cluster_centers_, model.cluster_centers_, rtol=1e-12)
    assert twin.n_steps_ == model.n_steps_ == 2
    assert np.array_equal(twin._counts, model._counts)


def test_a_subclass_is_what_it_is_derived_from_and_a_start_it_lacks_is_told():
    mine = type("Mine", (KMeans,), {})(3, init="k-means||", random_state=0, backend="numpy").fit(rows())
    with pytest.warns(UserWarning, match=r'no init="k-means\|\|"'):
        twin = mine.to_sklearn()
    assert type(twin) is cluster.KMeans
    assert np.array_equal(twin.predict(rows()), mine.labels_)


@pytest.mark.weekly
@pytest.mark.parametrize("ours", [KMeans, MiniBatchKMeans, SphericalKMeans])
def test_onnxruntime_labels_alike(ours):
    """In float32, where |x - c|^2 is a difference of larger numbers: at most some rows in a thousand are open."""
    skl2onnx, runtime = pytest.importorskip("skl2onnx"), pytest.importorskip("onnxruntime")
    X = gpukmeans.load_digits(return_X_y=True)[0].astype(np.float32)
    model = ours(10, random_state=0, backend="numpy").fit(X)
    converted = skl2onnx.to_onnx(model.to_sklearn(), X[:1])
    session = runtime.InferenceSession(converted.SerializeToString(), providers=["CPUExecutionProvider"])
    labels = session.run(None, {session.get_inputs()[0].name: X})[0]
    assert (labels != model.predict(X)).sum() <= 2
