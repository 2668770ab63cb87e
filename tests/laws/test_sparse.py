"""Sparse rows end in the very bits of the same rows made dense, which nothing makes of them whole."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from scipy import sparse
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.cluster import kmeans_plusplus as sklearn_plusplus
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics.pairwise import euclidean_distances

from gpukmeans import KMeans, kmeans_plusplus
from gpukmeans.arrays.sparse import canonical, is_sparse
from gpukmeans.backends import get_backend
from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.backends.csr import scores as numpy_sparse_screen
from gpukmeans.backends.csr import table as numpy_sparse_table
from gpukmeans.backends.csr.exact import ExactCenters, exact_parts
from gpukmeans.backends.csr.scores import SparseFullScreen, SparseRowScreen
from gpukmeans.backends.csr.table import SparseTable, own_square_distances
from gpukmeans.backends.defaults import BackendDefaults
from gpukmeans.certificates.rounding import UNIT32, UNIT64
from gpukmeans.engine.seeding.exact import ExactPotentials
from gpukmeans.engine.tolerance import Tolerance, mean_variance
from gpukmeans.exact.sums import Grid
from gpukmeans.exact.tie_break import first_of_equal_rows
from gpukmeans.exact.warp_order import row_square_distances
from gpukmeans.threads import Workers
from tests.certificates.test_certificates import CASES32, CASES64, exact_scores
from tests.support.oracles import nearest, square_distances

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
RESULTS = ["labels_", "cluster_centers_", "inertia_", "n_iter_"]


def table(n, d, density, dtype=np.float64, seed=0, kind="normal"):
    """Random rows in CSR, some empty and some twice."""
    local = np.random.default_rng(seed)
    X = sparse.random_array((n, d), density=density, rng=local, format="csr")
    X.data = local.standard_normal(X.nnz) * 3 if kind == "normal" else local.integers(1, 5, X.nnz).astype(np.float64)
    X = sparse.csr_array(X[np.where(np.arange(n) % 7, np.arange(n), 0)])
    return normalised(X).astype(dtype) if kind == "normalised" else X.astype(dtype)


def normalised(X):
    owner = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
    X.data = X.data / np.sqrt(np.bincount(owner, X.data**2, X.shape[0]))[owner]
    return X


def fitted(X, k, **params):
    weight = params.pop("sample_weight", None)
    return KMeans(k, **{"random_state": 3, "backend": "numpy", "n_init": 1, **params}).fit(X, sample_weight=weight)


def assert_same_bits(got, want):
    for name in RESULTS:
        a, b = getattr(got, name), getattr(want, name)
        assert np.asarray(a).dtype == np.asarray(b).dtype, name
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), name


# ---- the law -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("init", ["k-means++", "k-means||", "random", "array"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["normal", "normalised", "whole numbers"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sparse_rows_end_in_the_bits_of_dense_rows(dtype, kind, weighted, init):
    shapes = [(300, 40, 0.1, 10), (60, 1, 0.5, 2), (90, 33, 0.2, 1)]
    if kind != "normalised":  # its ties take long over dense rows
        shapes.append((400, 500, 0.01, 25))
    for n, d, density, k in shapes:
        X = table(n, d, density, dtype, seed=k, kind=kind)
        weight = np.random.default_rng(k).integers(0, 9, n) / 8 if weighted else None
        start = X[np.arange(2, 2 + k)].toarray() if init == "array" else init
        params = {"init": start, "sample_weight": weight, "max_iter": 25}
        assert_same_bits(fitted(X, k, **params), fitted(X.toarray(), k, **params))


@pytest.mark.parametrize("kind", ["normal", "whole numbers"])
def test_many_clusters_and_restarts(kind):
    X = table(1500, 300, 0.03, kind=kind)
    for k, n_init in [(200, 1), (7, 4)]:
        got, want = (fitted(rows, k, n_init=n_init) for rows in (X, X.toarray()))
        assert_same_bits(got, want)
        assert [step.n_moved for step in got.fit_report_.iterations][-1] == 0 or got.n_iter_ < 300


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.int8, bool])
def test_integers_are_float64(dtype):
    X = table(200, 30, 0.2, kind="whole numbers").astype(dtype)
    got = fitted(X, 6)
    assert got.cluster_centers_.dtype == np.float64
    assert_same_bits(got, fitted(X.toarray(), 6))


def test_empty_clusters_are_filled_alike():
    X = table(200, 60, 0.1)
    start = np.vstack([X[:4].toarray(), np.full((3, 60), 1e6)])
    got, want = (fitted(rows, 7, init=start) for rows in (X, X.toarray()))
    assert got.fit_report_.iterations[0].n_relocated == 3
    assert_same_bits(got, want)


def test_rows_that_are_all_zero():
    X = sparse.csr_array((50, 20))
    with pytest.warns(ConvergenceWarning, match=r"Number of distinct clusters \(1\)"):
        got = fitted(X, 3)
    assert_same_bits(got, fitted(np.zeros((50, 20)), 3))
    assert got.inertia_ == 0.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_and_small_values(dtype):
    """Beyond float32's range every row goes to float64, and where float64 products vanish to exact arithmetic."""
    for exponent in (-140, -60, 62, 100):
        X = table(80, 25, 0.2)
        X.data = np.ldexp(X.data, exponent)
        X = X.astype(dtype)
        assert_same_bits(fitted(X, 5), fitted(X.toarray(), 5))
    X = table(80, 25, 0.2)
    for exponent in (-510, 470):
        wide = X.copy()
        wide.data = np.ldexp(X.data, exponent)
        assert_same_bits(fitted(wide, 5, init="random"), fitted(wide.toarray(), 5, init="random"))


def test_switches_and_iterations_agree():
    X = table(2000, 200, 0.05)
    plain = fitted(X, 12)
    assert any(step.n_skipped for step in plain.fit_report_.iterations)
    for switches in ({"skip": False}, {"screen": False}, {"skip": False, "screen": False}):
        other = fitted(X, 12, backend=NumpyBackend(**switches))
        assert_same_bits(plain, other)
        assert [s.n_moved for s in other.fit_report_.iterations] == [s.n_moved for s in plain.fit_report_.iterations]


# ---- beside scikit-learn -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("init", ["k-means++", "random"])
@pytest.mark.parametrize("k", [2, 9])
def test_scikit_learn_finds_the_same_clusters(k, init):
    X = table(500, 120, 0.1)
    for kind in (sparse.csr_array, sparse.csr_matrix):
        params = {"n_clusters": k, "init": init, "n_init": 2, "random_state": 5, "tol": 0.0}
        got, want = KMeans(**params, backend="numpy").fit(kind(X)), SklearnKMeans(**params).fit(kind(X))
        assert np.array_equal(got.labels_, want.labels_)
        assert got.n_iter_ == want.n_iter_
        assert np.abs(got.cluster_centers_ - want.cluster_centers_).max() <= 1e-10
        assert got.inertia_ == pytest.approx(want.inertia_, rel=1e-12)


def test_a_callable_gets_what_scikit_learn_gives_it():
    X = sparse.csr_matrix(table(100, 30, 0.2))
    seen = []

    def start(rows, n_clusters, random_state):
        seen.append((rows, random_state.randint(1000)))
        return rows[:n_clusters].toarray()

    for estimator in (KMeans, SklearnKMeans):
        estimator(4, init=start, n_init=1, random_state=0).fit(X)
    (ours, draw), (theirs, same) = seen
    assert draw == same
    assert type(ours) is type(theirs)
    assert ours.data.tobytes() == theirs.data.tobytes() == X.data.tobytes()
    assert_same_bits(fitted(X, 4, init=start), fitted(X.toarray(), 4, init=X[:4].toarray()))


# ---- after the fit -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_follows_a_fit(dtype):
    X, other = table(200, 50, 0.1, dtype), table(90, 50, 0.2, np.float32, seed=1)
    model = fitted(X, 6)
    assert np.array_equal(model.predict(X), model.labels_)
    assert np.array_equal(model.predict(other), model.predict(other.toarray()))
    weight = np.arange(90.0)
    assert model.score(other, sample_weight=weight) == model.score(other.toarray(), sample_weight=weight)
    assert model.score(X) == -model.inertia_
    assert np.array_equal(model.transform(other), euclidean_distances(other, model.cluster_centers_))
    assert np.array_equal(model.fit_predict(X), model.labels_)
    assert model.backend_ == "numpy"


# ---- as rows come ------------------------------------------------------------------------------------------------


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
    assert_same_bits(fitted(X, 5), fitted(X.toarray(), 5))
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
    assert_same_bits(fitted(getattr(sparse, kind)(X), 4), fitted(X.toarray(), 4))


def test_longer_buffers_and_strided_data():
    X = table(80, 30, 0.2)
    longer = sparse.csr_array((np.append(X.data, [9.0, 9.0]), np.append(X.indices, [1, 2]), X.indptr), shape=X.shape)
    strided = sparse.csr_array(X.shape)
    strided.data, strided.indices, strided.indptr = np.repeat(X.data, 2)[::2], X.indices, X.indptr
    for rows in (longer, strided):
        assert_same_bits(fitted(rows, 4), fitted(X, 4))


# ---- the pieces --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "d", "density"), [(40, 1, 0.5), (300, 31, 0.3), (90, 64, 0.02), (150, 3000, 0.001)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_own_distances_have_the_bits_of_the_warp_order(n, d, density, dtype):
    local = np.random.default_rng(n)
    X = table(n, d, density, dtype)
    labels = local.integers(0, 4, n).astype(np.int32)
    centers = np.where(local.random((4, d)) < 0.3, 0.0, local.standard_normal((4, d))).astype(dtype)
    centers[3] = 0.0
    want = row_square_distances(X.toarray(), slice(None), centers.astype(np.float64)[labels])
    for threads in (1, 2):
        got = own_square_distances(SparseTable(X), labels, centers, Workers(threads))
        assert got.tobytes() == want.tobytes()


@pytest.mark.parametrize("kind", ["normal", "whole numbers"])
@pytest.mark.parametrize("weighted", [False, True])
def test_grid_and_sums_are_those_of_dense_rows(kind, weighted):
    X = table(500, 40, 0.1, kind=kind)
    weight = np.random.default_rng(0).random(500) if weighted else None
    grid, dense = SparseTable(X).grid(weight), Grid.for_rows(X.toarray(), weight)
    assert grid.scale.tobytes() == dense.scale.tobytes()
    assert (grid.bits, grid.n_limbs) == (dense.bits, dense.n_limbs)
    backend = NumpyBackend()
    runs = [backend.load(rows, weight).start(X[:5].toarray()) for rows in (X, X.toarray())]
    for _ in range(4):
        for run in runs:
            run.assign()
        got, want = (run.sums() for run in runs)
        assert np.array_equal(got[0], want[0])
        assert np.array_equal(got[1], want[1])
        shifts = [run.update().shift_square for run in runs]
        assert shifts[0].tobytes() == shifts[1].tobytes()
    assert runs[0].farthest(9).tolist() == runs[1].farthest(9).tolist()


def test_rows_that_share_nothing_with_the_centers_get_the_true_nearest():
    """Words in short normalised texts: most rows are at nearly, or exactly, the same distance from most centers."""
    for seed in range(4):
        X = table(250, 400, 0.006, kind="normalised", seed=seed)
        filled = np.flatnonzero(np.diff(X.indptr))  # none is nearer than an empty one
        centers = X[np.random.default_rng(seed).choice(filled, 12, replace=False)].toarray()
        run = NumpyBackend().load(X).start(centers)
        assigned = run.assign(move=False)
        assert assigned.n_exact > 20
        assert np.array_equal(run.labels(), nearest(X.toarray(), centers))


@pytest.mark.parametrize("exponent", [0, -480])
def test_exact_labels_are_those_of_rational_arithmetic(exponent):
    local = np.random.default_rng(2)
    X = table(60, 30, 0.3, kind="normalised")
    X.data = np.ldexp(X.data, exponent)
    centers = np.unique(np.vstack([X[:8].toarray(), -X[8:12].toarray(), X[12:16].toarray() * (1 + 2**-52)]), axis=0)
    candidates = local.random((60, len(centers))) < 0.6
    candidates[:, 0] = True
    got = ExactCenters(SparseTable(X), centers).nearest(np.arange(60), candidates)
    distances, _ = square_distances(X.toarray(), centers)
    want = [min(np.flatnonzero(of_row), key=row.__getitem__) for of_row, row in zip(candidates, distances, strict=True)]
    assert got.tolist() == want


def test_centers_are_ranked_by_what_rounding_hides_of_their_norms():
    """|c|^2 is 1 in float64 for all of them, and a little less, a little more or nothing else in truth."""
    local = np.random.default_rng(4)
    centers = np.zeros((60, 180))
    for j in range(60):
        c = local.integers(1, 5, 3).astype(float)
        centers[j, 3 * j : 3 * j + 3] = c / np.sqrt((c * c).sum())
    centers[:5] = 0.0
    centers[np.arange(5), np.arange(5)] = 1.0
    centers = centers[first_of_equal_rows(centers) == np.arange(60)]
    x = sparse.csr_array((1, 180))
    for _ in range(200):
        candidates = local.random((1, len(centers))) < 0.1
        candidates[0, local.integers(len(centers))] = True
        got = ExactCenters(SparseTable(x), centers).nearest(np.zeros(1, np.int64), candidates)
        choices = np.flatnonzero(candidates[0])
        assert got[0] == choices[nearest(np.zeros((1, 180)), centers[choices])[0]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exact_potentials_of_entries_are_those_of_dense_rows(dtype):
    X = table(150, 60, 0.1, dtype, kind="normalised")
    X.data[slice(*X.indptr[5:7])] = 0.0  # an empty seed
    X.eliminate_zeros()
    weight = np.random.default_rng(0).random(150)
    asked = [ExactPotentials(NumpyBackend().load(rows, weight), weight) for rows in (X, X.toarray())]
    got, want = (potentials._closest(np.arange(150), X[[3, 90, 5]].toarray()) for potentials in asked)
    assert [potentials._rows.entries(np.arange(2)) is None for potentials in asked] == [False, True]
    assert got.tolist() == want.tolist()
    assert len({potentials.locate(0.37, [3, 90]) for potentials in asked}) == 1
    assert len({potentials.smallest(np.array([8, 9, 10]), [3, 90]) for potentials in asked}) == 1


def test_exact_parts_sum_up_to_the_values():
    local = np.random.default_rng(0)
    for _ in range(20):
        values = np.ldexp(local.standard_normal(50), local.integers(-300, 300, 50))
        parts = exact_parts(values)
        assert sum(map(Fraction, parts)) == sum(map(Fraction, values.tolist()))
        assert parts == sorted(parts, key=abs, reverse=True)
    assert exact_parts(np.array([1.0, -1.0])) == []


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_inertia_lies_within_its_bounds(dtype, weighted):
    X = table(300, 70, 0.1, dtype)
    weight = np.random.default_rng(0).random(300) if weighted else None
    for k in (1, 6):
        run = NumpyBackend().load(X, weight).start(X[:k].toarray())
        for _ in range(3):
            run.assign()
            lowest, highest = run.inertia_bounds()
            assert lowest <= run.inertia() <= highest <= lowest * (1 + 1e-10)
            run.update()


def test_a_tolerance_is_computed_where_its_bounds_cannot_tell():
    asked = []

    def compute():
        asked.append(1)
        return 3.0

    tolerance = Tolerance(0.5, 2.5, 3.5, compute)
    assert tolerance >= 1.2
    assert not tolerance >= 1.8
    assert not float("nan") <= tolerance
    assert not asked
    assert tolerance >= 1.5
    assert not np.nextafter(1.5, 2) <= tolerance
    assert asked == [1]
    assert f"{tolerance}" == "1.5"


def test_the_mean_variance_is_that_of_dense_rows():
    X = table(300, 70, 0.1)
    rows = [NumpyBackend().load(x) for x in (X, X.toarray())]
    assert mean_variance(rows[0]) == mean_variance(rows[1])


def test_memory_stays_near_that_of_the_entries_and_the_centers():
    """20,000 x 50,000 would take 8 GB dense.  The centers take 4 MB; k-means|| holds up to ten times as many rows."""
    X = sparse.random_array((20_000, 50_000), density=1e-4, rng=np.random.default_rng(0), format="csr")
    fitted(X[:100], 2)  # what is imported and kept
    for init, share in [("k-means++", 80), ("random", 80), ("k-means||", 20)]:
        tracemalloc.start()
        try:
            model = fitted(X, 10, init=init, max_iter=3)
            model.predict(X)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 20_000 * 50_000 * 8 / share, (init, peak)


# ---- the radius --------------------------------------------------------------------------------------------------


def sparse_scores(x, C, dtype):
    """What the screen computes, of one row that is stored where it is not zero."""
    rows = SparseRowScreen(SparseTable(sparse.csr_array(x[None])))
    screen = SparseFullScreen(rows, C, np.dtype(dtype))
    with np.errstate(over="ignore", invalid="ignore"):
        return screen.scores(slice(0, 1))[0], screen.radii(slice(0, 1))[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("name", "x", "C"), [*CASES32, *CASES64], ids=[c[0] for c in CASES32] + [c[0] for c in CASES64]
)
def test_scores_of_sparse_rows_lie_within_their_radius(name, x, C, dtype):
    """Among many features that the row does not store, and with those orders in which SciPy does not add."""
    local = np.random.default_rng(1)
    places = np.sort(local.choice(900, len(x), replace=False))
    row, centers = np.zeros(900, x.dtype), np.array(local.standard_normal((len(C), 900)) * abs(C).max(), C.dtype)
    row[places], centers[:, places] = x, C
    want = exact_scores(row, centers)
    scores, radius = sparse_scores(row, centers, dtype)
    if np.isfinite(radius):
        for got, exact in zip(scores.tolist(), want, strict=True):
            assert abs(Fraction(got) - exact) <= Fraction(float(radius))


@pytest.mark.parametrize(("dtype", "unit"), [(np.float32, UNIT32), (np.float64, UNIT64)])
def test_the_radius_of_sparse_rows_is_not_much_too_wide(dtype, unit):
    """Products whose sums round up every time reach half of it; the squares take no part."""
    m = 400
    t = np.sqrt(unit) * (1 + 2.0**-11)
    x = np.concatenate([[1.0], np.full(m - 1, t), np.zeros(500)]).astype(dtype)
    got, radius = sparse_scores(x, np.stack([x, -x]), dtype)
    error = max(abs(Fraction(s) - e) for s, e in zip(got.tolist(), exact_scores(x, np.stack([x, -x])), strict=True))
    assert Fraction(float(radius)) / 2 < error <= Fraction(float(radius))


def test_a_radius_of_zero_is_caught(monkeypatch):
    """The fault that the tests above are there for: without the radius labels go wrong where rows nearly tie."""
    local = np.random.default_rng(0)
    centers = local.standard_normal((2, 60))
    X = sparse.csr_array(np.where(local.random((400, 60)) < 0.5, 0.0, local.standard_normal((400, 60))))
    middle = (centers[0] + centers[1]) / 2
    near = centers[1] - centers[0]
    dense = X.toarray()
    dense -= np.outer((dense - middle) @ near / (near @ near), near)  # halfway between the centers, up to rounding
    X = sparse.csr_array(dense)
    want = nearest(dense, centers)

    def labels():
        run = NumpyBackend().load(X).start(centers)
        run.assign(move=False)
        return run.labels()

    assert np.array_equal(labels(), want)
    monkeypatch.setattr(numpy_sparse_screen, "sparse_score_radius", lambda n_terms, *_: np.zeros(len(n_terms)))
    assert (labels() != want).sum() > 20


def test_another_order_of_the_distances_is_caught(monkeypatch):
    """Lanes of another width give other bits, which the law sees."""
    X = table(300, 200, 0.2)
    labels, centers = np.zeros(300, np.int32), X[[1]].toarray()
    want = row_square_distances(X.toarray(), slice(None), centers[0]).tobytes()
    assert own_square_distances(SparseTable(X), labels, centers, Workers(1)).tobytes() == want
    monkeypatch.setattr(numpy_sparse_table, "WARP", 8)
    assert own_square_distances(SparseTable(X), labels, centers, Workers(1)).tobytes() != want


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
