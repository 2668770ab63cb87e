"""pandas frames whose columns are all sparse are rows in CSR, with feature names."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.cluster import KMeans as SklearnKMeans

import gpukmeans
from gpukmeans import BisectingKMeans, KMeans, MiniBatchKMeans, SphericalKMeans
from tests.support.assertions import assert_same
from tests.support.sparse_cases import table

pandas = pytest.importorskip("pandas")
pytestmark = pytest.mark.filterwarnings("error")

ESTIMATORS = [KMeans, MiniBatchKMeans, BisectingKMeans, SphericalKMeans]
NAMES = list("abcde")


@pytest.fixture(params=[np.float64, np.float32])
def csr(request):
    X = table(60, 5, 0.4, request.param)
    X.data[:3] = 0.5  # no row is zero: `SphericalKMeans` draws among all
    return X[np.diff(X.indptr) > 0]


@pytest.fixture
def frame(csr):
    return pandas.DataFrame.sparse.from_spmatrix(csr, columns=NAMES)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("cls", ESTIMATORS)
def test_estimators_take_them_as_csr(backend, cls, csr, frame):
    model = cls(3, random_state=0, backend=backend).fit(frame)
    want = cls(3, random_state=0, backend=backend).fit(csr)
    assert np.array_equal(model.labels_, want.labels_)
    assert model.cluster_centers_.dtype == csr.dtype
    assert model.cluster_centers_.tobytes() == want.cluster_centers_.tobytes()
    assert model.feature_names_in_.tolist() == NAMES
    assert np.array_equal(model.predict(frame), model.labels_)
    assert model.score(frame) == want.score(csr)
    assert model.transform(frame).tobytes() == want.transform(csr).tobytes()
    dense = pandas.DataFrame(csr.toarray(), columns=NAMES)
    assert np.array_equal(model.predict(dense), model.labels_)
    with pytest.raises(ValueError, match="Feature names must be in the same order"):
        model.predict(frame[NAMES[::-1]])


def test_batches_may_be_such_frames(backend, csr, frame):
    parts = MiniBatchKMeans(3, random_state=0, backend=backend), MiniBatchKMeans(3, random_state=0, backend=backend)
    for part in (slice(0, 30), slice(30, None)):
        parts[0].partial_fit(frame[part])
        parts[1].partial_fit(csr[part])
    assert parts[0].cluster_centers_.tobytes() == parts[1].cluster_centers_.tobytes()


def test_functions_take_them_as_csr(backend, csr, frame):
    for got, want in zip(
        gpukmeans.kmeans_plusplus(frame, 4, random_state=1, backend=backend),
        gpukmeans.kmeans_plusplus(csr, 4, random_state=1, backend=backend),
        strict=True,
    ):
        assert got.tobytes() == want.tobytes()
    assert (
        gpukmeans.k_means(frame, 4, random_state=1, backend=backend)[2]
        == gpukmeans.fit(csr, 4, random_state=1, backend=backend).inertia_
    )
    many = gpukmeans.fit_many([frame, csr.toarray()], 4, random_state=1, backend=backend)
    assert_same(many[0], many[1])
    assert many[0].feature_names_in_.tolist() == NAMES


def test_dummies_of_categories_end_as_in_scikit_learn():
    letters = pandas.Series(list("abcabdd" * 6))
    dummies = pandas.get_dummies(letters, sparse=True)
    assert isinstance(dummies.dtypes.iloc[0], pandas.SparseDtype)
    got = KMeans(4, random_state=0, backend="numpy").fit(dummies)
    want = SklearnKMeans(4, random_state=0).fit(dummies.sparse.to_coo().astype(np.float64))  # it fails on a bool frame
    assert np.array_equal(got.labels_, want.labels_)
    assert np.array_equal(got.cluster_centers_, want.cluster_centers_)
    assert gpukmeans.kmeans_plusplus(dummies, 4, random_state=0)[0].dtype == bool


def test_columns_that_leave_out_another_value_than_zero_are_refused():
    frame = pandas.DataFrame({"a": pandas.arrays.SparseArray([1.0, np.nan, 2.0])})
    with pytest.raises(ValueError, match=r"Column 'a' of X .* leaves out the value nan; .* X\.sparse\.to_dense\(\)"):
        KMeans(2).fit(frame)


def test_frames_with_some_dense_columns_become_dense():
    frame = pandas.DataFrame.sparse.from_spmatrix(sparse.eye_array(6).tocsr(), columns=[*"abcdef"])
    frame["a"] = frame["a"].sparse.to_dense()
    with pytest.warns(UserWarning, match="converted to a dense numpy array"):
        model = KMeans(3, random_state=0, backend="numpy").fit(frame)
    assert_same(model, KMeans(3, random_state=0, backend="numpy").fit(np.eye(6)))
