"""Bare Arrow arrays of vectors, without a table around them, are rows."""

from __future__ import annotations

import numpy as np
import pytest

import gpukmeans
from gpukmeans import BisectingKMeans, KMeans, MiniBatchKMeans, SphericalKMeans
from gpukmeans.evaluation import evaluate
from tests.support.small_fits import rows

pyarrow = pytest.importorskip("pyarrow")

ESTIMATORS = [KMeans, MiniBatchKMeans, BisectingKMeans, SphericalKMeans]


def vectors(X):
    return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(X.ravel()), X.shape[1])


def tensors(X):
    return pyarrow.FixedShapeTensorArray.from_numpy_ndarray(X)


FORMS = {
    "vectors": vectors,
    "part of vectors": lambda X: vectors(np.r_[X[:5], X, X[:3]])[5 : 5 + len(X)],
    "tensors": tensors,
    "part of tensors": lambda X: tensors(np.r_[X[:5], X, X[:3]])[5 : 5 + len(X)],
    "chunks of vectors": lambda X: pyarrow.chunked_array([vectors(X[:20]), vectors(X[20:])]),
    "chunks of tensors": lambda X: pyarrow.chunked_array([tensors(X[:20]), tensors(X[20:])]),
}


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("form", FORMS)
def test_they_end_in_the_bits_of_numpy_rows(form, dtype):
    X = rows(dtype)
    given = FORMS[form](X)
    for cls in ESTIMATORS:
        got, want = (cls(3, random_state=0, backend="numpy").fit(each) for each in (given, X))
        assert np.array_equal(got.labels_, want.labels_)
        assert got.cluster_centers_.tobytes() == want.cluster_centers_.tobytes()
        assert np.array_equal(want.predict(given), want.labels_)
        assert np.array_equal(want.transform(given), want.transform(X))
        assert want.score(given) == want.score(X)


@pytest.mark.parametrize("form", ["vectors", "chunks of tensors"])
def test_functions_take_them(form):
    X = rows()
    given = FORMS[form](X)
    assert (
        gpukmeans.kmeans_plusplus(given, 3, random_state=0)[0].tobytes()
        == X[gpukmeans.kmeans_plusplus(X, 3, random_state=0)[1]].tobytes()
    )
    assert gpukmeans.k_means(given, 3, random_state=0)[2] == gpukmeans.k_means(X, 3, random_state=0)[2]
    models = gpukmeans.fit_many([given, X], 3, random_state=0, backend="numpy")
    assert models[0].inertia_ == models[1].inertia_
    labels = models[0].labels_
    assert evaluate(labels, given).as_dict() == evaluate(labels, X).as_dict()
    assert np.array_equal(KMeans(3, init=tensors(X[:3])).fit(X).labels_, KMeans(3, init=X[:3]).fit(X).labels_)


def test_images_are_told_how_to_become_rows():
    images = tensors(np.zeros((5, 4, 3)))
    nested = pyarrow.array(np.zeros((5, 4, 3)).tolist(), pyarrow.list_(pyarrow.list_(pyarrow.float64(), 3), 4))
    for given in (images, nested):
        with pytest.raises(ValueError, match=r"Found array with dim 3.* X has shape \(5, 4, 3\)"):
            KMeans(2).fit(given)


@pytest.mark.parametrize("missing", ["row", "value", "inner row"])
def test_nulls_are_nan(missing):
    pairs = pyarrow.list_(pyarrow.float64(), 2)
    given = {
        "row": pyarrow.array([[1.0, 2.0], None, [3.0, 4.0]], pairs),
        "value": pyarrow.array([[1.0, 2.0], [None, 1.0], [3.0, 4.0]], pairs),
        "inner row": pyarrow.array([[[1.0, 2.0]], [None], [[3.0, 4.0]]], pyarrow.list_(pairs, 1)),
    }[missing]
    with pytest.raises(ValueError, match=r"Input X contains NaN|Found array with dim 3"):
        KMeans(2).fit(given)


def test_vectors_of_float16_and_integers_are_float64():
    X = rows().round() // 2
    for dtype in (np.float16, np.int32):
        model = KMeans(3, random_state=0, backend="numpy").fit(vectors(X.astype(dtype)))
        want = KMeans(3, random_state=0, backend="numpy").fit(X)
        assert model.cluster_centers_.tobytes() == want.cluster_centers_.tobytes()
