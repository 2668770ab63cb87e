"""The radius of scores of sparse rows against rational arithmetic, and planted faults that it catches."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy import sparse

from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.backends.csr import scores as numpy_sparse_screen
from gpukmeans.backends.csr import table as numpy_sparse_table
from gpukmeans.backends.csr.scores import SparseFullScreen, SparseRowScreen
from gpukmeans.backends.csr.table import SparseTable, own_square_distances
from gpukmeans.certificates.rounding import UNIT32, UNIT64
from gpukmeans.exact import warp_order
from gpukmeans.exact.warp_order import row_square_distances
from gpukmeans.threads import Workers
from tests.support.assertions import assert_labels
from tests.support.oracles import nearest
from tests.support.score_cases import CASES32, CASES64, exact_scores
from tests.support.sparse_cases import table

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RESULTS = ["labels_", "cluster_centers_", "inertia_", "n_iter_"]


def assert_same_bits(got, want):
    for name in RESULTS:
        a, b = getattr(got, name), getattr(want, name)
        assert np.asarray(a).dtype == np.asarray(b).dtype, name
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), name


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
    """Without the radius labels go wrong where rows nearly tie."""
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

    assert_labels(labels(), dense, centers, want=want)
    monkeypatch.setattr(numpy_sparse_screen, "sparse_score_radius", lambda n_terms, *_: np.zeros(len(n_terms)))
    assert (labels() != want).sum() > 20


def test_another_order_of_the_distances_is_caught(monkeypatch):
    """Lanes of another width give other bits, which the comparison with dense rows finds."""
    X = table(300, 200, 0.2)
    labels, centers = np.zeros(300, np.int32), X[[1]].toarray()
    want = row_square_distances(X.toarray(), slice(None), centers[0]).tobytes()
    assert own_square_distances(SparseTable(X), labels, centers, Workers(1)).tobytes() == want
    for module in (numpy_sparse_table, warp_order):
        monkeypatch.setattr(module, "WARP", 8)
    assert own_square_distances(SparseTable(X), labels, centers, Workers(1)).tobytes() != want
