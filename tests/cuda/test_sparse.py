"""Rows in CSR on the CUDA backend over the emulated device: fits end in the bits of NumPy, sparse and dense."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.utils import check_random_state

from gpukmeans import BisectingKMeans, KMeans, MiniBatchKMeans, SphericalKMeans
from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.backends.cuda import backend as cupy_backend
from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda.backend import CupyBackend
from gpukmeans.backends.cuda.device.seam import DeviceMemoryError
from gpukmeans.engine.seeding import exact
from gpukmeans.engine.seeding.starts import draw_rows
from gpukmeans.engine.tolerance import mean_variance
from gpukmeans.exact import batch_inertia
from gpukmeans.exact.sums import Grid, cluster_means
from tests.emulator import EmulatorDevice
from tests.emulator.testing import skip_without_compiler
from tests.support.assertions import assert_labels, assert_same
from tests.support.launches.sparse import load, rows_of, weights_of
from tests.support.oracles import rational_lloyd, rational_plusplus

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda t: t.__name__)


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


def test_a_batchs_inertia_is_settled_from_the_stored_entries(monkeypatch):
    """Where distances leave it open: whole numbers of dense rows would take long."""
    X = sparse.random_array((40, 300), density=0.05, format="csr", rng=np.random.default_rng(2))
    centers = X[:4].toarray()
    want = NumpyBackend().load(X.toarray()).batch_sums(centers).inertia
    rows = CupyBackend(EmulatorDevice()).load(X)
    with monkeypatch.context() as patch:
        patch.setattr(batch_inertia, "from_distances", lambda *given: None)
        patch.setattr(rows, "take", None)
        assert rows.batch_sums(centers).inertia == want
    assert rows.batch_sums(centers).inertia == want


def fitted(X, k, backend, weight=None, **params):
    return KMeans(k, backend=backend, **{"random_state": 3, "n_init": 1, **params}).fit(X, sample_weight=weight)


def on_the_device(**options):
    return CupyBackend(EmulatorDevice(**options))


def check_fits(X, k, weight=None, device=None, **params):
    got = fitted(X, k, device or on_the_device(), weight, **params)
    assert got.backend_ == "cupy"
    assert_same(got, fitted(X, k, NumpyBackend(), weight, **params))
    assert_same(got, fitted(X.toarray(), k, NumpyBackend(), weight, **params))
    return got


# ---- fits -------------------------------------------------------------------------------------------------------


@pytest.mark.one_in(6)
@DTYPES
@pytest.mark.parametrize("init", ["k-means++", "random", "k-means||"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("n", "k", "d", "density"),
    [(40, 1, 30, 0.2), (60, 3, 1, 0.6), (200, 3, 40, 0.2), (90, 20, 700, 0.03), (150, 40, 33, 0.3)],
)
def test_fits_end_in_the_bits_of_numpy(n, k, d, density, weighted, init, dtype):
    check_fits(rows_of(n, d, density, dtype), k, weights_of(n) if weighted else None, init=init)


@pytest.mark.one_in(2)
@pytest.mark.parametrize(("n", "k", "init"), [(170, 70, "k-means++"), (260, 200, "random"), (260, 200, "k-means||")])
def test_fits_with_many_clusters(n, k, init):
    check_fits(rows_of(n, 40, 0.2), k, init=init)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("order", ["forward", "random"])
def test_fits_touch_no_memory_but_their_own(order):
    X = rows_of(120, 40, 0.2)
    for init, k, weight in (("k-means++", 5, None), ("k-means||", 12, weights_of(120))):
        check_fits(X, k, weight, on_the_device(mode="check", order=order, seed=1), init=init)


def test_restarts_share_the_device():
    check_fits(rows_of(100, 40, 0.2), 6, n_init=4)


@DTYPES
def test_fits_from_given_centers(dtype):
    X = rows_of(100, 30, 0.3, dtype)
    check_fits(X, 4, init=X[[1, 2, 4, 5]].toarray())
    given = {"init": lambda X, k, random_state: X[random_state.permutation(X.shape[0])[:k]].toarray()}
    assert_same(fitted(X, 4, on_the_device(), **given), fitted(X, 4, NumpyBackend(), **given))


def test_empty_clusters_are_filled():
    X = rows_of(80, 12, 0.4)
    init = np.concatenate([X[[1, 2]].toarray(), np.full((3, 12), 100.0) + np.arange(3)[:, None]])
    report = check_fits(X, 5, init=init).fit_report_
    assert any(step.n_relocated for step in report.iterations)
    check_fits(X, 5, weights_of(80), init=init)


@pytest.mark.parametrize("init", ["k-means++", "random", "k-means||"])
def test_more_clusters_than_different_rows(init):
    X = sparse.csr_array(np.repeat([[1.0, 0, 0, 2], [0, 0, 0, 0], [0, 3, 0, 1]], 7, axis=0))
    check_fits(X, 5, init=init)


def test_rows_without_any_entry():
    X = sparse.csr_array((9, 5))
    got = check_fits(X, 2)
    assert got.inertia_ == 0.0
    assert not got.cluster_centers_.any()


def test_whole_numbers_end_where_rational_arithmetic_does():
    X = rows_of(70, 15, 0.4, whole=True)
    start, _ = rational_plusplus(X.toarray(), 6, 3)
    drawn = draw_rows("k-means++", load(X), 6, check_random_state(3), None, np.dtype(np.float64), load)
    assert drawn.tolist() == start
    got = check_fits(X, 6, tol=0.0)
    want = rational_lloyd(X.toarray(), X.toarray()[start])
    assert_labels(got.labels_, X.toarray(), want.centers, want=want.labels)
    assert np.array_equal(got.cluster_centers_, want.centers)


@pytest.mark.parametrize("size", [1e60, 1e-60, 2.0**470, 2.0**-500])
def test_values_of_any_size(size):
    check_fits(rows_of(60, 20, 0.3) * size, 4, init="random")


def test_subnormals_keep_their_bits_under_flush_to_zero():
    X = rows_of(60, 20, 0.3, np.float32)
    X.data = X.data * np.float32(1e-39)
    assert (np.abs(X.data[X.data != 0]) < 2.0**-126).any()
    check_fits(X, 4, device=on_the_device(flush_subnormals=True))


def test_near_ties_are_decided_exactly_while_the_device_goes_on():
    """Rows halfway between centers: the host is asked, and the recorded iterations go on."""
    dense = np.repeat([[1.0, 0, 0], [3.0, 0, 0], [0, 5.1, 0], [0, 7.3, 0]], 20, axis=0)
    dense[::7] = [2.0, 0, 0.1]
    dense[::11, 2] = 1e-9
    X = sparse.csr_array(dense)
    init = np.array([[1.0, 0, 0.1], [3.0, 0, 0.1], [0, 6.0, 0]])
    report = check_fits(X, 3, init=init, tol=0.0).fit_report_
    assert sum(step.n_exact for step in report.iterations) > 0


def test_predict_and_score_are_numpys():
    X, other = rows_of(100, 40, 0.2), rows_of(33, 40, 0.3, seed=5)
    got, want = (fitted(X, 5, backend) for backend in (on_the_device(), NumpyBackend()))
    for rows in (other, other.toarray(), other.astype(np.float32)):
        assert np.array_equal(got.predict(rows), want.predict(rows))
        assert got.score(rows) == want.score(rows)
    assert np.array_equal(got.transform(other), want.transform(other))


# ---- rows -------------------------------------------------------------------------------------------------------


@DTYPES
def test_every_verb_of_a_run(dtype):
    X, weight = rows_of(130, 50, 0.2, dtype), weights_of(130)
    sides = [backend.load(X, weight) for backend in (on_the_device(), NumpyBackend())]
    rows = sides[0]
    assert (rows.n_samples, rows.n_features, rows.center_dtype) == (130, 50, dtype)
    want = Grid.for_rows(X.toarray(), weight)
    assert np.array_equal(rows.grid.scale, want.scale)
    assert (rows.grid.bits, rows.grid.n_limbs) == (want.bits, want.n_limbs)
    runs = [side.start(X[[1, 2, 4, 5]].toarray()) for side in sides]
    for _ in range(3):
        moved = [run.assign().n_moved for run in runs]
        assert moved[0] == moved[1]
        assert np.array_equal(*(run.labels() for run in runs))
        for a, b in zip(*(run.sums() for run in runs), strict=True):
            assert np.array_equal(a, b)
        updated = [run.update() for run in runs]
        assert np.array_equal(updated[0].weights, updated[1].weights)
        assert np.array_equal(updated[0].shift_square, updated[1].shift_square)
        assert np.array_equal(*(run.farthest(9) for run in runs))
        assert np.array_equal(*(run.assigned_centers() for run in runs))
    for run in runs:
        run.assign(move=False)
    assert runs[0].inertia() == runs[1].inertia()
    sums, _ = runs[0].sums()
    assert np.array_equal(runs[0].centers(), cluster_means(sums, runs[0].weights(), rows.grid, np.dtype(dtype)))


def test_rows_without_weights_and_some_rows():
    X, weight = rows_of(60, 20, 0.3), weights_of(60)
    rows = load(X, weight)
    assert mean_variance(rows.unweighted()) == mean_variance(NumpyBackend().load(X))
    index = np.array([5, 1, 5, 30, 8])
    some, own = rows.subset(index, weight[:5]), NumpyBackend().load(X[index], weight[:5])
    assert np.array_equal(some.take(np.arange(5)), X[index].toarray())
    assert np.array_equal(some.grid.scale, own.grid.scale)
    runs = [side.start(X[[1, 2]].toarray()) for side in (some, own)]
    for run in runs:
        run.assign()
    assert np.array_equal(*(run.sums()[0] for run in runs))
    assert rows.subset(index, sums=False).grid is None


def test_seeds_are_those_of_numpy():
    X = rows_of(300, 30, 0.3)
    drawn = []
    for backend in (on_the_device(), NumpyBackend()):
        state, rows = check_random_state(0), backend.load(X)
        drawn.append(draw_rows("k-means++", rows, 25, state, None, np.dtype(np.float64), backend.load))
    assert np.array_equal(*drawn)


@pytest.mark.parametrize("init", ["k-means++", "k-means||"])
def test_no_seed_of_ordinary_rows_needs_exact_arithmetic(monkeypatch, init):
    """Neither where rows appear twice or are empty: seeds, and rows equal to them, are at distance zero."""

    def refuse(*_):
        raise AssertionError("the host was asked")

    for verb in ("locate", "kept", "smallest"):
        monkeypatch.setattr(exact.ExactPotentials, verb, refuse)
    for X in (rows_of(200, 30, 0.3), rows_of(100, 8, 0.1, np.float32)):
        rows = load(X, weights_of(X.shape[0]))
        draw_rows(init, rows, 20, check_random_state(0), rows.table.host_weight, X.dtype, NumpyBackend().load)


def test_rows_without_a_grid_can_be_labelled_but_not_summed():
    X = rows_of(30, 20, 0.3)
    run = load(X, sums=False).start(X[[1, 2]].toarray())
    run.assign(move=False)
    assert_labels(run.labels(), X.toarray(), X[[1, 2]].toarray())
    for forbidden in (run.assign, run.update):
        with pytest.raises(ValueError, match="loaded without a grid"):
            forbidden()


def test_a_run_takes_a_precision_that_exists():
    with pytest.raises(ValueError, match="precision='half' should be 'exact' or 'fast'"):
        load(rows_of(9, 5, 0.5)).start(np.zeros((1, 5)), precision="half")


def test_more_features_than_dense_rows_may_have():
    d = cupy_backend.MOST_FEATURES + 1
    X = sparse.csr_array((np.ones(2), ([0, 1], [5, d - 1])), shape=(2, d))
    rows = load(X, sums=False)
    assert rows.take(np.array([1]))[0, d - 1] == 1.0
    assert rows.table.host.size == 2


def test_what_cannot_be_loaded_is_named(monkeypatch):
    X = rows_of(30, 20, 0.3)
    with pytest.raises(TypeError, match="Sparse rows of dtype int64 cannot be loaded; float32 and float64 can"):
        load(X.astype(np.int64))
    monkeypatch.setattr(cupy_backend, "MOST_SAMPLES", 29)
    with pytest.raises(ValueError, match="n_samples=30 should be at most 29"):
        load(X)
    monkeypatch.undo()
    monkeypatch.setattr("gpukmeans.backends.cuda.sparse.table.MOST_FEATURES", 19)
    with pytest.raises(ValueError, match="n_features=20 should be at most 19 on a GPU"):
        load(X)


def test_a_device_that_is_too_small_says_so():
    X = rows_of(3000, 40, 0.5)
    with pytest.raises(DeviceMemoryError, match=r"no room for 3000 sparse rows with \d+ entries"):
        load(X, device=EmulatorDevice(memory_limit=100_000))


def test_rows_are_not_made_dense_on_the_device():
    X = sparse.random_array((400, 5000), density=0.002, rng=np.random.default_rng(0), format="csr")
    device = EmulatorDevice()
    fitted(X, 3, CupyBackend(device), max_iter=2)
    assert device.peak_bytes < 400 * 5000 * 8 / 8


def test_memory_comes_back_when_the_rows_go():
    device = EmulatorDevice()
    fitted(rows_of(60, 20, 0.3), 3, CupyBackend(device))
    assert device.bytes_in_use == 0


def test_the_shapes_of_the_screen():
    shapes = [tuning.sparse_lanes(k) for k in (1, 8, 9, 16, 17, 32, 33, 64, 65, 128, 1000)]
    assert shapes == [(8, 1)] * 2 + [(16, 1)] * 2 + [(32, 1)] * 2 + [(32, 2)] * 2 + [(32, 4)] * 3


@DTYPES
@pytest.mark.parametrize("model", [MiniBatchKMeans, SphericalKMeans, BisectingKMeans], ids=lambda m: m.__name__)
def test_relatives_end_in_the_bits_of_numpy(model, dtype):
    X = rows_of(150, 30, 0.3, dtype)
    batches = {"batch_size": 40, "max_iter": 4} if model is MiniBatchKMeans else {}
    got, want = (model(4, random_state=0, backend=b, **batches).fit(X) for b in (on_the_device(), NumpyBackend()))
    assert np.array_equal(got.labels_, want.labels_)
    assert np.array_equal(got.cluster_centers_, want.cluster_centers_)
    assert got.inertia_ == want.inertia_
