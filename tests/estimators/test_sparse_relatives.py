"""Sparse rows in the functions and in KMeans's relatives: the bits of the same rows made dense, never made whole."""

from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn import cluster
from sklearn.metrics.pairwise import cosine_distances
from sklearn.utils.estimator_checks import check_estimator

import gpukmeans
from gpukmeans import BisectingKMeans, KMeans, MiniBatchKMeans, SphericalKMeans, k_means, kmeans_plusplus
from gpukmeans.backends.cpu.sparse import rows as numpy_sparse
from gpukmeans.exact import unit_rows as unit_rows_module
from gpukmeans.exact.unit_rows import unit_rows

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
RELATIVES = [BisectingKMeans, MiniBatchKMeans, SphericalKMeans]


def text(n=300, d=120, density=0.08, dtype=np.float64, seed=0):
    """Rows of few entries around a few topics; some are empty, some store zeros."""
    local = np.random.default_rng(seed)
    X = sparse.random_array((n, d), density=density, format="csr", rng=local, dtype=np.float64)
    topics = local.integers(0, 4, n)
    X = (X + sparse.csr_array((local.uniform(1, 9, n), (np.arange(n), topics * 7)), shape=(n, d))).tocsr()
    X.data[::17] = 0.0
    keep = np.ones(n)
    keep[[5, 200]] = 0.0
    X = sparse.csr_array(sparse.diags_array(keep) @ X).astype(dtype)
    indices, indptr = X.indices.astype(np.int32), X.indptr.astype(np.int32)  # scikit-learn takes no others
    return sparse.csr_array((X.data, indices, indptr), shape=X.shape)


def same(one, other):
    names = ["labels_", "cluster_centers_", "inertia_", "n_iter_", "n_steps_"]
    pairs = [(getattr(one, name, None), getattr(other, name, None)) for name in names]
    return all(np.asarray(a).dtype == np.asarray(b).dtype and np.array_equal(a, b) for a, b in pairs)


def first(rows, n_clusters, random_state):
    rows = rows[random_state.permutation(rows.shape[0])[:n_clusters]]
    return rows.toarray() if sparse.issparse(rows) else rows


@pytest.mark.one_in(2)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("estimator", RELATIVES)
@pytest.mark.parametrize("weighted", [False, True])
def test_sparse_rows_end_in_the_bits_of_dense_ones(dtype, estimator, weighted):
    X, k = text(dtype=dtype), 6
    weight = np.random.default_rng(1).uniform(0.5, 2, 300).astype(np.float32) if weighted else None
    # The callable of a bisection gets dense rows centered, sparse ones not.
    inits = ["k-means++", "random", *([] if estimator is BisectingKMeans else [first, "k-means||", X[:k].toarray()])]
    if estimator is not BisectingKMeans:
        inits[-1][inits[-1] == 0.0] = 0.25
    for init in inits:
        params = {"init": init, "n_init": 2 if isinstance(init, str) else 1, "random_state": 0, "backend": "numpy"}
        params.update({"batch_size": 70} if estimator is MiniBatchKMeans else {})
        got = estimator(k, **params).fit(X, sample_weight=weight)
        want = estimator(k, **params)
        want.fit(X.toarray(), sample_weight=weight)
        assert same(got, want)
        assert got.backend_ == "numpy"
        assert np.array_equal(got.predict(X), want.labels_)
        assert np.array_equal(want.predict(X), want.labels_)
        assert np.array_equal(got.predict(X.tocsc()), want.predict(X.toarray()))
        assert got.score(X, sample_weight=weight) == want.score(X.toarray(), sample_weight=weight)
        np.testing.assert_allclose(
            got.transform(X), want.transform(X.toarray()), atol=1e-5 if dtype == np.float32 else 0
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sparse_unit_rows_are_the_dense_ones(dtype):
    X = text(dtype=dtype)
    scale = np.where(np.arange(300) % 7 == 0, 2.0**60, 2.0**-60).astype(dtype)
    X = sparse.csr_array(sparse.diags_array(scale) @ X)
    for table in (X, sparse.csr_matrix(X)):
        kept = table.data.copy()
        unit, largest = unit_rows(table)
        want, magnitudes = unit_rows(table.toarray())
        assert unit.dtype == want.dtype
        assert np.array_equal(unit.toarray(), want)
        assert np.array_equal(largest, magnitudes)
        assert np.array_equal(table.data, kept)


def test_seeds_are_scikit_learns():
    X = text()
    for seed in range(6):
        weight = np.random.default_rng(seed).random(300) if seed % 2 else None
        for rows in (X, sparse.csr_matrix(X)):
            centers, indices = kmeans_plusplus(rows, 7, sample_weight=weight, random_state=seed)
            want, drawn = cluster.kmeans_plusplus(rows, 7, sample_weight=weight, random_state=seed)
            assert indices.tolist() == drawn.tolist()
            assert type(centers) is type(want) is np.ndarray
            assert np.array_equal(centers, want)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32, np.float64])
def test_seeds_keep_the_dtype_of_sparse_rows(dtype):
    X = text(dtype=dtype)
    X.eliminate_zeros()
    for rows in (X, X.tocoo(), X.tocsc()):
        centers, indices = kmeans_plusplus(rows, 7, random_state=0, backend="numpy")
        assert centers.dtype == dtype
        assert np.array_equal(centers, X.toarray()[indices])
        assert indices.tolist() == kmeans_plusplus(X.toarray(), 7, random_state=0, backend="numpy")[1].tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_k_means_of_sparse_rows(dtype):
    X = text(dtype=dtype)
    got, want = (k_means(rows, 5, random_state=0, return_n_iter=True, backend="numpy") for rows in (X, X.toarray()))
    assert all(np.array_equal(one, other) for one, other in zip(got, want, strict=True))
    if dtype == np.float64:
        theirs = cluster.k_means(X, 5, random_state=0, return_n_iter=True)
        assert np.array_equal(got[1], theirs[1])
        assert got[3] == theirs[3]


def test_many_sparse_problems():
    problems = [text(seed=1), text(seed=2).toarray(), sparse.csr_matrix(text(seed=3))]
    for got, X in zip(gpukmeans.fit_many(problems, 4, random_state=0, backend="numpy"), problems, strict=True):
        assert same(got, KMeans(4, random_state=0, backend="numpy").fit(X))


@pytest.mark.parametrize("init", ["random", "k-means++", lambda rows, k, random_state: rows[:k].toarray()])
def test_sparse_bisections_are_scikit_learns(init):
    """A callable gets the rows as they are, not centered."""
    X = text()
    model = BisectingKMeans(5, init=init, random_state=3).fit(X)
    theirs = cluster.BisectingKMeans(5, init=init, random_state=3).fit(X)
    assert np.array_equal(model.labels_, theirs.labels_)
    assert np.abs(model.cluster_centers_ - theirs.cluster_centers_).max() < 1e-10
    assert np.array_equal(model.predict(X), theirs.labels_)


@pytest.mark.parametrize("strategy", ["biggest_inertia", "largest_cluster"])
@pytest.mark.parametrize("weighted", [False, True])
def test_sparse_bisections_of_weighted_rows_are_scikit_learns(strategy, weighted):
    X, weight = text(seed=4), np.random.default_rng(0).uniform(0.5, 2, 300) if weighted else None
    params = {"bisecting_strategy": strategy, "n_init": 3, "random_state": 1}
    for k in (1, 7):
        model, theirs = (cls(k, **params) for cls in (BisectingKMeans, cluster.BisectingKMeans))
        model.fit(X, sample_weight=weight)
        theirs.fit(X, sample_weight=weight)
        assert np.array_equal(model.labels_, theirs.labels_)
        assert np.abs(model.cluster_centers_ - theirs.cluster_centers_).max() < 1e-10
        assert model.inertia_ == pytest.approx(theirs.inertia_, rel=1e-10)


# ---- mini-batches ----------------------------------------------------------------------------------------------------


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"init": "random"},
        {"init": first, "n_init": 2},
        {"tol": 1e-3, "max_no_improvement": None},
        {"batch_size": 20, "reassignment_ratio": 0.5},
        {"batch_size": 5000, "max_iter": 5},
        {"compute_labels": False, "n_clusters": 12},
        {"n_clusters": 1},
    ],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_sparse_mini_batches_are_scikit_learns(params, weighted):
    X = text(600, 60, seed=2)
    weight = np.random.default_rng(1).uniform(0, 3, 600) * (np.arange(600) % 7 != 3) if weighted else None
    params = {"n_clusters": 6, "batch_size": 64, "random_state": 3, **params}
    got, want, dense = (
        cls(**params).fit(rows, sample_weight=weight)
        for cls, rows in [(MiniBatchKMeans, X), (cluster.MiniBatchKMeans, X), (MiniBatchKMeans, X.toarray())]
    )
    assert same(got, dense)
    assert (got.n_steps_, got.n_iter_) == (want.n_steps_, want.n_iter_)
    np.testing.assert_allclose(got.cluster_centers_, want.cluster_centers_, rtol=1e-10, atol=1e-12)
    assert got.inertia_ == pytest.approx(want.inertia_, rel=1e-9)
    if got.compute_labels:
        assert np.array_equal(got.labels_, want.labels_)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dense_and_sparse_batches_may_alternate(dtype, weighted):
    X = text(600, 60, dtype=dtype, seed=3)
    weight = np.random.default_rng(1).uniform(0, 3, 600) if weighted else None
    params = {"n_clusters": 6, "random_state": 0, "reassignment_ratio": 0.3}
    for kinds in [
        (sparse.csr_array, np.asarray),
        (np.asarray, sparse.csr_matrix),
        (sparse.csc_array, sparse.csr_array),
    ]:
        mixed, dense, theirs = (cls(**params) for cls in (MiniBatchKMeans, MiniBatchKMeans, cluster.MiniBatchKMeans))
        for step, (start, stop) in enumerate([(0, 100), (100, 130), (130, 131), (131, 400), (400, 600)]):
            part, its_weight = X[start:stop].toarray(), None if weight is None else weight[start:stop]
            mixed.partial_fit(kinds[step % 2](part), sample_weight=its_weight)
            dense.partial_fit(part, sample_weight=its_weight)
            theirs.partial_fit(kinds[step % 2](part), sample_weight=its_weight)
            assert same(mixed, dense)
            if dtype == np.float64:
                np.testing.assert_allclose(mixed.cluster_centers_, theirs.cluster_centers_, rtol=1e-10, atol=1e-12)
        assert np.array_equal(mixed.predict(X), dense.predict(X.toarray()))


def test_float32_and_float64_batches_may_alternate():
    X = text(400, 60, seed=3)
    for kinds in [(np.float32, np.float64), (np.float64, np.float32)]:
        models = [MiniBatchKMeans(6, random_state=0, backend="numpy") for _ in range(2)]
        for step, start in enumerate(range(0, 400, 100)):
            part = X[start : start + 100].astype(kinds[step % 2])
            assert same(models[0].partial_fit(part), models[1].partial_fit(part.toarray()))


@pytest.mark.parametrize("init_size", [None, 40])
@pytest.mark.parametrize("kind", [sparse.csr_array, sparse.csr_matrix])
def test_a_callable_gets_the_sparse_rows_that_scikit_learn_gives_it(kind, init_size):
    X, seen = kind(text(250)), []

    def start(rows, n_clusters, random_state):
        seen.append(rows)
        return first(rows, n_clusters, random_state)

    for method in ("fit", "partial_fit"):
        for cls in (MiniBatchKMeans, cluster.MiniBatchKMeans):
            model = cls(5, init=start, n_init=1, init_size=init_size, batch_size=100, random_state=0)
            getattr(model, method)(X)
        ours, theirs = seen[-2:]
        assert type(ours) is type(theirs)
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert np.array_equal(ours.toarray(), theirs.toarray())


def test_every_evaluation_of_a_batchs_inertia_ends_in_the_same_bits(monkeypatch):
    X, centers = text(seed=5), text(seed=6)[:8].toarray()
    rows = gpukmeans.backends.get_backend("numpy").load(X)
    dense = gpukmeans.backends.get_backend("numpy").load(X.toarray())
    want = dense.batch_sums(centers)
    assert want.inertia > 0.0
    for name in [None, "from_sums", "from_distances", "from_entries"]:
        if name is not None:
            monkeypatch.setattr(numpy_sparse.batch_inertia, name, lambda *given: None)
        got = rows.batch_sums(centers)
        assert got.inertia == want.inertia
        assert np.array_equal(got.sums, want.sums)
        assert np.array_equal(got.weights, want.weights)
    assert np.isnan(rows.batch_sums(centers, inertia=False).inertia)


# ---- unit length -----------------------------------------------------------------------------------------------------


def test_unit_rows_cut_in_blocks_and_of_every_length(monkeypatch):
    local = np.random.default_rng(0)
    dense = np.where(local.random((200, 150)) < 0.5, 0.0, local.standard_normal((200, 150)))
    dense *= 2.0 ** local.integers(-1060, 480, 200)[:, None]  # some of the values, and some of the rows, are subnormal
    dense[::31] = 0.0
    want, magnitudes = unit_rows(dense)
    for n_rows in (1, 7, 1000):
        monkeypatch.setattr(unit_rows_module, "CSR_ROWS", n_rows)
        unit, largest = unit_rows(sparse.csr_array(dense))
        assert unit.toarray().tobytes() == (want + 0.0).tobytes()
        assert np.array_equal(largest, magnitudes)


def test_lengths_summed_in_another_order_are_caught(monkeypatch):
    dense = np.random.default_rng(0).standard_normal((300, 200))
    want, _ = unit_rows(dense)
    assert np.array_equal(unit_rows(sparse.csr_array(dense))[0].toarray(), want)
    monkeypatch.setattr(unit_rows_module, "WARP", 8)
    assert not np.array_equal(unit_rows(sparse.csr_array(dense))[0].toarray(), want)


def test_a_callable_gets_sparse_rows_of_unit_length():
    X, seen = sparse.csr_matrix(text()), []
    model = SphericalKMeans(4, init=lambda *given, **others: seen.append(given[0]) or first(*given, **others), n_init=1)
    model.set_params(random_state=0, backend="numpy").fit(X)
    heading = np.flatnonzero(abs(X).max(axis=1).toarray().ravel())
    assert len(heading) < X.shape[0]
    assert type(seen[0]) is sparse.csr_matrix
    assert np.array_equal(seen[0].toarray(), unit_rows(X.toarray())[0][heading])
    np.testing.assert_allclose(model.transform(X), cosine_distances(X, model.cluster_centers_), atol=1e-14)


# ---- all of them -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", [KMeans, *RELATIVES])
def test_nothing_is_made_dense_as_a_whole(estimator):
    """6,000 x 20,000 would take 960 MB dense; the centers take 0.8 MB."""
    X = sparse.random_array((6_000, 20_000), density=5e-4, rng=np.random.default_rng(0), format="csr")
    model = estimator(5, random_state=0, max_iter=3, backend="numpy")
    model.fit(X[:100])  # what is imported and kept
    tracemalloc.start()
    try:
        model.fit(X)
        model.predict(X)
        model.score(X)
        model.transform(X)
        if estimator is MiniBatchKMeans:
            model.partial_fit(X[:2000])
        if estimator is KMeans:
            kmeans_plusplus(X, 5, random_state=0, backend="numpy")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6_000 * 20_000 * 8 / 20, peak


@pytest.mark.parametrize("estimator", RELATIVES)
def test_bad_sparse_rows_leave_the_fit_as_it_was(estimator):
    X = text()
    model = estimator(4, random_state=0, backend="numpy").fit(X)
    before = dict(vars(model))
    bad = X.copy()
    bad.data[3] = np.nan
    for method in ["fit", "predict", "score", "transform", *(["partial_fit"] if estimator is MiniBatchKMeans else [])]:
        with pytest.raises(ValueError, match="Input X contains NaN"):
            getattr(model, method)(bad)
    assert vars(model) == before


@pytest.mark.parametrize("estimator", [BisectingKMeans, SphericalKMeans])
def test_scikit_learns_own_checks_pass(estimator):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(estimator(backend="numpy"), on_fail=None)
    failed = {result["check_name"] for result in results if result["status"] == "failed"}
    assert failed <= {"check_sample_weight_equivalence_on_dense_data", "check_sample_weight_equivalence_on_sparse_data"}
