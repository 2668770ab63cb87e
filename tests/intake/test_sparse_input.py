"""Rows in CSR and other sparse formats as they are given: converted, checked, refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.cluster import kmeans_plusplus as sklearn_plusplus

from gpukmeans import kmeans_plusplus
from gpukmeans.arrays.sparse import canonical, is_sparse
from gpukmeans.backends import get_backend
from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.backends.defaults import BackendDefaults
from tests.support.assertions import assert_same
from tests.support.sparse_cases import fitted, table

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def shuffled(X, index_dtype=np.int32):
    """The same matrix, indices in any order, zeros stored and entries split in three."""
    local = np.random.default_rng(0)
    data, indices, starts = [], [], [0]
    for i in range(X.shape[0]):
        entries = slice(X.indptr[i], X.indptr[i + 1])
        columns, values = X.indices[entries], X.data[entries]
        rest = np.setdiff1d(np.arange(X.shape[1]), columns)[:2]
        columns = np.concatenate([columns, columns, columns, rest])
        values = np.concatenate([values * 0.3, values * 0.6, values * 0.1, np.zeros(len(rest))])
        order = local.permutation(len(columns))
        data.append(values[order].astype(X.dtype))
        indices.append(columns[order])
        starts.append(starts[-1] + len(columns))
    arrays = np.concatenate(data), np.concatenate(indices).astype(index_dtype), np.array(starts, index_dtype)
    return sparse.csr_array(arrays, shape=X.shape)


@pytest.mark.parametrize("index_dtype", [np.int32, np.int64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_unsorted_and_repeated_entries_are_summed_on_a_copy(dtype, index_dtype):
    X = shuffled(table(120, 40, 0.2, dtype), index_dtype)
    X.has_sorted_indices = X.has_canonical_format = True  # a flag may lie
    before = [array.copy() for array in (X.data, X.indices, X.indptr)]
    for array in (X.data, X.indices, X.indptr):
        array.flags.writeable = False
    assert_same(fitted(X, 5), fitted(X.toarray(), 5))
    for array, was in zip((X.data, X.indices, X.indptr), before, strict=True):
        assert np.array_equal(array, was)
        assert array.dtype == was.dtype


def test_entries_are_summed_as_toarray_sums_them():
    X = shuffled(table(60, 20, 0.4, np.float32))
    assert canonical(X).toarray().tobytes() == X.toarray().tobytes()
    small = sparse.csr_array((np.full(3, 100, np.int8), np.zeros(3, int), np.array([0, 3])), shape=(1, 1))
    assert canonical(small).toarray().tolist() == small.toarray().tolist() == [[44]]


@pytest.mark.parametrize("kind", ["csr_matrix", "csc_array", "coo_array", "lil_array", "dok_array", "bsr_array"])
def test_other_formats_are_converted(kind):
    X = table(80, 30, 0.2)
    assert_same(fitted(getattr(sparse, kind)(X), 4), fitted(X.toarray(), 4))


def test_longer_buffers_and_strided_data():
    X = table(80, 30, 0.2)
    longer = sparse.csr_array((np.append(X.data, [9.0, 9.0]), np.append(X.indices, [1, 2]), X.indptr), shape=X.shape)
    strided = sparse.csr_array(X.shape)
    strided.data, strided.indices, strided.indptr = np.repeat(X.data, 2)[::2], X.indices, X.indptr
    for rows in (longer, strided):
        assert_same(fitted(rows, 4), fitted(X, 4))


# ---- refused -----------------------------------------------------------------------------------------------------


def test_a_backend_that_says_nothing_of_sparse_rows_gets_none():
    X = table(50, 20, 0.2)
    assert get_backend("auto", sparse=True).name == get_backend("auto").name

    class Elsewhere(BackendDefaults):
        name = "elsewhere"
        load = checks_values = describe = len

    with pytest.raises(ValueError, match="the backend 'elsewhere' reads dense rows only"):
        fitted(X, 3, backend=Elsewhere())


@pytest.mark.parametrize("method", ["fit", "predict", "transform", "score"])
def test_sparse_rows_on_a_device_are_refused_in_words(method):
    class csr_matrix:
        pass

    csr_matrix.__module__ = "cupyx.scipy.sparse._csr"
    model = fitted(table(50, 20, 0.2), 3)
    with pytest.raises(TypeError, match=r"pass X.get\(\), which .* or X.toarray\(\)"):
        getattr(model, method)(csr_matrix())
    assert not is_sparse(np.zeros((2, 2)))


@pytest.mark.parametrize("method", ["fit", "predict", "transform", "score"])
def test_bad_entries_get_a_clear_error(method):
    good = table(50, 20, 0.2)
    model = fitted(good, 3)
    for value, message in [
        (np.nan, "Input X contains NaN"),
        (np.inf, "Input X contains infinity"),
        (2.0**481, r"up to 6.24e\+144 in magnitude"),
    ]:
        bad = good.copy()
        bad.data[3] = value
        with pytest.raises(ValueError, match=message):
            getattr(model, method)(bad)
    outside = good.copy()
    outside.indices = outside.indices.copy()
    outside.indices[0] = 20
    with pytest.raises(ValueError, match=r"indices must be < 20|index"):
        getattr(model, method)(outside)
    assert np.array_equal(model.predict(good), model.labels_)


def test_shapes_are_checked():
    X = table(50, 20, 0.2)
    with pytest.raises(ValueError, match="n_samples=3 should be >= n_clusters=8"):
        fitted(X[:3], 8)
    with pytest.raises(ValueError, match="X has 19 features, but KMeans is expecting 20 features"):
        fitted(X, 3).predict(X[:, :19])
    with pytest.raises(ValueError, match="Complex data not supported"):
        fitted(X.astype(complex), 3)
    with pytest.raises(ValueError, match=r"Found array with 0 sample\(s\)"):
        fitted(X[:0], 3)


@pytest.mark.parametrize("weighted", [False, True])
def test_functions_take_sparse_rows(weighted):
    X = table(120, 40, 0.2)
    weight = np.random.default_rng(0).random(120) if weighted else None
    got, want = (
        kmeans_plusplus(rows, 6, sample_weight=weight, random_state=2, backend="numpy") for rows in (X, X.toarray())
    )
    assert np.array_equal(got[1], want[1])
    assert got[0].tobytes() == X[want[1]].toarray().tobytes()
    assert np.array_equal(got[1], sklearn_plusplus(X, 6, sample_weight=weight, random_state=2)[1])


def test_a_subset_is_loaded_as_by_itself():
    X = table(120, 40, 0.2)
    indices = np.array([5, 90, 5, 3, 17])
    got, want = NumpyBackend().load(X).subset(indices), NumpyBackend().load(X[indices])
    assert got.take(np.arange(5)).tobytes() == X[indices].toarray().tobytes()
    assert got.grid.scale.tobytes() == want.grid.scale.tobytes()
