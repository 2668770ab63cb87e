"""What the NumPy backend computes of rows in CSR, each against dense rows or rational arithmetic."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy import sparse

from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.backends.csr.exact import ExactCenters
from gpukmeans.backends.csr.table import SparseTable, own_square_distances
from gpukmeans.engine.seeding.exact import ExactPotentials
from gpukmeans.engine.tolerance import Tolerance, mean_variance
from gpukmeans.exact.sums import Grid
from gpukmeans.exact.tie_break import first_of_equal_rows
from gpukmeans.exact.warp_order import row_square_distances
from gpukmeans.threads import Workers
from tests.support.assertions import assert_labels
from tests.support.oracles import nearest, square_distances
from tests.support.sparse_cases import fitted, table

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RESULTS = ["labels_", "cluster_centers_", "inertia_", "n_iter_"]


def assert_same_bits(got, want):
    for name in RESULTS:
        a, b = getattr(got, name), getattr(want, name)
        assert np.asarray(a).dtype == np.asarray(b).dtype, name
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), name


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
        assert_labels(run.labels(), X.toarray(), centers)


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
    seeds, nearest = X[[3, 90, 5]].toarray(), np.random.default_rng(1).integers(0, 3, 150)
    got, want = (potentials._terms(np.arange(150), seeds, nearest) for potentials in asked)
    assert [potentials._rows.entries(np.arange(2)) is None for potentials in asked] == [False, True]
    assert got == want
    assert asked[0]._sum(np.arange(150), seeds, nearest) == asked[1]._sum(np.arange(150), seeds, nearest) == sum(want)
    assert len({potentials.locate(0.37, [3, 90]) for potentials in asked}) == 1
    assert len({potentials.smallest(np.array([8, 9, 10]), [3, 90]) for potentials in asked}) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_inertia_lies_within_its_bounds(dtype, weighted):
    X = table(300, 70, 0.1, dtype)
    weight = np.random.default_rng(0).random(300) if weighted else None
    for k in (1, 6):
        rows = NumpyBackend().load(X, weight)
        run = rows.start(X[:k].toarray())
        for _ in range(3):
            run.assign()
            lowest, highest = rows.table.inertia_bounds(run.labels(), run.centers(), weight)
            assert lowest <= run.inertia() <= highest <= lowest * (1 + 1e-10)
            run.update()


def test_squares_that_totals_lose_are_within_the_bounds():
    rows = NumpyBackend().load(sparse.csr_array([[0.0], [1e-149], [3e-149]]))
    lowest, highest = rows.scatter_bounds()
    assert lowest <= mean_variance(rows) * 3 <= highest


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
