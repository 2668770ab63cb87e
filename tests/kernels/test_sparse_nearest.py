"""kernels/sparse_nearest.cu against rational arithmetic; every memory access is watched."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy import sparse

from gpukmeans.backends.cuda.control import Control, Fact
from gpukmeans.certificates.rounding import UNIT64
from tests.emulator.testing import skip_without_compiler
from tests.support.assertions import assert_labels
from tests.support.launches.common import (
    IN_ORDER,
    watched,
)
from tests.support.launches.faults import fault_tests
from tests.support.launches.sparse import (
    halfway,
    load,
    plain_scores,
    rows_of,
    true_scores,
)
from tests.support.oracles import square_distances

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda t: t.__name__)


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


# ---- nearest centers ------------------------------------------------------------------------------------------


def assigned(X, C, device=None, *, precision="exact"):
    run = load(X, device=device or watched()).start(C, precision=precision)
    return run, run.assign(move=False)


@pytest.mark.one_in(4)
@DTYPES
@IN_ORDER
@pytest.mark.parametrize(
    ("n", "k", "d", "density"),
    [(1, 1, 1, 1.0), (130, 3, 40, 0.2), (70, 12, 90, 0.6), (50, 40, 7, 0.5), (33, 300, 20, 0.4)],
)
def test_labels_are_the_true_nearest(n, k, d, density, order, seed, dtype):
    """Every number of lanes and of centers each; rows without an entry; centers that no row is near to."""
    X = rows_of(n, d, density, dtype)
    C = (np.random.default_rng(5).standard_normal((k, d)) * 2).astype(dtype)
    run, did = assigned(X, C, watched(order, seed))
    assert_labels(run.labels(), X.toarray(), C)
    assert did.n_certified > 0.9 * n
    assert did.n_certified + did.n_resolved + did.n_exact == n


def test_rows_that_float64_cannot_tell_are_left_to_the_host():
    X, C = halfway(200, 60)
    run, did = assigned(X, C)
    assert_labels(run.labels(), X.toarray(), C)
    assert did.n_exact > 20


@DTYPES
def test_true_ties_are_left_to_the_host_where_float64_rounds(dtype):
    X, c = rows_of(60, 30, 0.3, dtype), np.random.default_rng(3).standard_normal(30).astype(dtype)
    C = np.stack([-c, c, np.roll(c, 1)])  # rows without an entry are as far from each
    run, did = assigned(X, C)
    assert_labels(run.labels(), X.toarray(), C)
    assert did.n_exact > 0


@pytest.mark.parametrize("k", [3, 20])
def test_ties_of_whole_numbers_are_told_on_the_device(k):
    local = np.random.default_rng(2)
    X, C = rows_of(80, 12, 0.4, whole=True), local.integers(-2, 3, (k, 12)) * 1.0
    run, did = assigned(X, C)
    assert_labels(run.labels(), X.toarray(), C)
    assert did.n_exact == 0
    assert did.n_resolved > 0


@pytest.mark.parametrize("k", [2, 9, 35])
def test_of_equal_centers_the_first_wins(k):
    X, C = rows_of(60, 30, 0.3), np.random.default_rng(3).standard_normal((k, 30))
    C[-1] = C[0]
    run, did = assigned(X, C)
    assert_labels(run.labels(), X.toarray(), C)
    assert did.n_certified == 60


def test_the_screens_word_is_taken_where_exactness_is_not_asked_for():
    X, C = halfway(200, 60)
    _, did = assigned(X, C, precision="fast")
    assert did.n_uncertain > 20
    assert did.n_exact == did.n_resolved == 0
    assert did.n_certified + did.n_uncertain == 200


def rounding_up(m, n_more):
    """A row whose products round the sum up nearly every time, and centers of its size."""
    t = np.sqrt(UNIT64) * (1 + 2.0**-11)
    x = np.concatenate([[1.0], np.full(m - 1, t), np.zeros(n_more)])
    return sparse.csr_array(x[None]), np.stack([x, -x, np.roll(x, 1)])


CASES = {
    "normal": lambda: (rows_of(6, 90, 0.5), np.random.default_rng(5).standard_normal((5, 90))),
    "float32": lambda: (rows_of(6, 90, 0.5, np.float32), np.random.default_rng(5).standard_normal((5, 90)).astype("f")),
    "many centers": lambda: (rows_of(4, 50, 0.5), np.random.default_rng(5).standard_normal((20, 50))),
    "rounded up": lambda: rounding_up(200, 40),
    "large": lambda: (rows_of(4, 50, 0.5) * 2.0**470, np.random.default_rng(5).standard_normal((3, 50)) * 2.0**470),
    "small": lambda: (rows_of(4, 50, 0.5) * 2.0**-520, np.random.default_rng(5).standard_normal((3, 50)) * 2.0**-520),
    "far centers": lambda: (rows_of(4, 50, 0.5), np.random.default_rng(5).standard_normal((3, 50)) * 1e6),
    "far rows": lambda: (rows_of(4, 50, 0.5) * 1e6, np.random.default_rng(5).standard_normal((3, 50))),
}


@pytest.mark.parametrize("case", CASES)
def test_the_radius_bounds_the_errors_of_the_scores(case):
    X, C = CASES[case]()
    rows = load(X, device=watched())
    table, run = rows.table, rows.start(C)
    norms, facts = table.device.download(table.norms), table.device.download(run._work.facts)[0].astype(float)
    starts = table.device.download(run._work.half_squares)[0]
    lanes = 8 if len(C) <= 8 else 32
    for i in range(X.shape[0]):
        x = X.indices[X.indptr[i] : X.indptr[i + 1]], X.data[X.indptr[i] : X.indptr[i + 1]]
        reach = (len(x[0]) + 4.0) * 2.0**-53 * (1 + 2.0**-7) * norms[i]
        radius = Fraction(reach * facts[Fact.PER_REST] + facts[Fact.CONSTANT])
        true = true_scores(x, C, table.half_scale)
        for score, want in zip(plain_scores(x, C, table.half_scale, lanes), true, strict=True):
            assert abs(Fraction(score) - want) <= radius
        # Squares were rounded once above; those of the kernel are within what is left of the radius.
        for start, c in zip(starts.tolist(), C.astype(float), strict=False):
            square = sum(Fraction(v) ** 2 for v in c.tolist()) * Fraction(table.half_scale) ** 2 / 2
            assert abs(Fraction(start) + square) <= Fraction(facts[Fact.CONSTANT])
        assert norms[i] ** 2 >= sum((Fraction(v) * Fraction(table.half_scale)) ** 2 for v in x[1].tolist())


def check_limits(device):
    X, C = rows_of(60, 40, 0.3), np.random.default_rng(4).standard_normal((6, 40))
    rows = load(X, device=device)
    table, run = rows.table, rows.start(C)
    run.assign(move=False)
    limits = table.device.download(run._work.limits)[0].astype(float)
    distances, unit = square_distances(X.toarray(), C)
    for limit, row in zip(limits, distances, strict=True):
        own, other = sorted(row)[:2]
        want = (float(Fraction(int(other)) * unit) ** 0.5 - float(Fraction(int(own)) * unit) ** 0.5) * table.half_scale
        assert limit < want
        assert limit > want - 1e-5


def test_limits_are_below_the_true_gap():
    """And not far below it: rows are skipped."""
    check_limits(watched())


def test_rows_are_skipped_and_found_again():
    """Labels stay the nearest however far the centers go; rows are skipped while they hardly move."""
    X, local = rows_of(200, 40, 0.3), np.random.default_rng(4)
    run = load(X, device=watched()).start(X[[1, 2, 4, 5, 6]].toarray())
    skipped = []
    for _ in range(6):
        skipped.append(run.assign().n_skipped)
        assert_labels(run.labels(), X.toarray(), run.assigned_centers())
        run.update()
    assert skipped[0] == 0
    assert max(skipped) > 20
    run.set_centers(local.standard_normal((5, 40)))
    assert run.assign().n_skipped == 0


def test_nothing_is_assigned_when_stopped():
    run = load(rows_of(30, 20, 0.3), device=watched()).start(np.ones((2, 20)) * [[1.0], [2.0]])
    work = run._work
    work.set_control(Control.STOP, 5)
    work.launch_assign()
    assert (run.labels() == -1).all()


def near_ties(device):
    X, C = halfway(200, 60)
    assert_labels(assigned(X, C, device)[0].labels(), X.toarray(), C)


def plain_rows(device):
    for k in (3, 40, 150):
        X, C = rows_of(50, 40, 0.6), np.random.default_rng(5).standard_normal((k, 40)) * 2
        run, did = assigned(X, C, device)
        assert_labels(run.labels(), X.toarray(), C)
        assert did.n_certified > 45


def ties(device):
    X, C = rows_of(80, 12, 0.4, whole=True), np.random.default_rng(2).integers(-2, 3, (20, 12)) * 1.0
    assert_labels(assigned(X, C, device)[0].labels(), X.toarray(), C)


#: A fault: the runner that fails on it, the good text, the bad text.
FAULTS = {
    "no radius": (
        near_ties,
        "const double radius = whole ? 0.0 : fma(reach, ",
        "const double radius = 0.0 * fma(reach, ",
    ),
    "the start is forgotten": (plain_rows, "fma(dot[t], square_of_scale, start)", "dot[t]"),
    "groups are not added up": (
        plain_rows,
        "for (int step = LANES; step < WARP; step *= 2)",
        "for (int step = WARP; step < WARP; step *= 2)",
    ),
    "later centers are not looked at": (plain_rows, "j0 < k + member; j0 +=", "j0 < LANES * EACH; j0 +="),
    "the list of a warp is read too early": (
        plain_rows,
        "] = row;\n  __syncwarp();",
        "] = row;",
    ),
    "columns of another padding": (
        plain_rows,
        "half_centers[(long long)f * n_padded + j]",
        "half_centers[(long long)f * k + j]",
    ),
    "ties go to the last": (
        ties,
        "a.first == b.first && a.index < b.index",
        "a.first == b.first && a.index > b.index",
    ),
    "limits are too far": (
        check_limits,
        "return double_to_float(limit - 0x1p-60);",
        "return double_to_float(limit + 1e-5);",
    ),
}

test_planted_faults_are_caught, test_planted_faults_are_really_planted = fault_tests(FAULTS)
