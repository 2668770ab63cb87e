"""The kernels for rows in CSR: exact where they say so, within their radii elsewhere; memory is watched."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy import sparse

from gpukmeans.backends.cuda.control import Control, Fact
from gpukmeans.backends.cuda.device import nvrtc
from gpukmeans.certificates.rounding import UNIT64
from gpukmeans.exact.sums import Grid, weight_grid
from tests.emulator.testing import skip_without_compiler
from tests.support.launches.common import (
    IN_ORDER,
    ORDERS,
    assert_fault_is_seen,
    moves,
    plain_square_distance,
    rational_sums,
    watched,
)
from tests.support.launches.sparse import (
    halfway,
    load,
    lookup,
    move,
    plain_scores,
    row_distance,
    rows_of,
    true_scores,
    weights_of,
)
from tests.support.oracles import nearest, square_distances

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda t: t.__name__)


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


# ---- sums ---------------------------------------------------------------------------------------------------------


def check_sums(device, X, weight, old, new, k, **words):
    grid = Grid.for_rows(X.toarray(), weight)
    ones = np.ones((len(new), 1)) if weight is None else weight[:, None]
    on_weights = weight_grid(len(new), weight)
    sums, weight_sums = move(device, X, weight, old, new, k, grid, on_weights, **words)
    assert np.array_equal(sums, rational_sums(X.toarray(), weight, old, new, k, grid))
    assert np.array_equal(weight_sums, rational_sums(ones, None, old, new, k, on_weights)[:, :, 0])


@DTYPES
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("n", "k", "d", "density"), [(1, 1, 1, 1.0), (70, 3, 90, 0.3), (40, 9, 5, 0.5)])
def test_sums_follow_the_rows(n, k, d, density, weighted, dtype):
    X, weight = rows_of(n, d, density, dtype), weights_of(n) if weighted else None
    for (order, seed), (old, new) in zip(ORDERS, (moves(n, k, s) for s in range(3)), strict=True):
        check_sums(watched(order, seed), X, weight, old, new, k)


def test_whole_numbers_have_one_limb():
    X, (old, new) = rows_of(50, 20, 0.3, whole=True), moves(50, 4)
    assert Grid.for_rows(X.toarray()).n_limbs == 1
    check_sums(watched(), X, None, old, new, 4)


@pytest.mark.parametrize("words", [{"STOP": 1}, {"N_OPEN": 3}, {"N_MOVED": 0}])
def test_no_sum_is_touched_when_stopped_or_when_rows_are_left_open(words):
    X, (old, new) = rows_of(30, 20, 0.3), moves(30, 3)
    sums, weights = move(watched(), X, None, old, new, 3, Grid.for_rows(X.toarray()), weight_grid(30, None), **words)
    assert not sums.any()
    assert not weights.any()


# ---- distances -----------------------------------------------------------------------------------------------------


@DTYPES
@IN_ORDER
@pytest.mark.parametrize(("n", "d", "density"), [(1, 1, 1.0), (30, 511, 0.2), (20, 1100, 0.01), (9, 513, 0.9)])
def test_distances_have_the_bits_of_the_warp_order(n, d, density, order, seed, dtype):
    """More columns than a tile, tiles without an entry and full ones, rows without an entry."""
    X = rows_of(n, d, density, dtype)
    C = np.random.default_rng(1).standard_normal((3, d)).astype(dtype)
    labels, weight = (np.arange(n) % 3).astype(np.int32), weights_of(n) + 0.5
    for given in (None, weight):
        distances, largest = row_distance(watched(order, seed), X, C, labels, given)
        pairs = zip(np.float64(X.toarray()), np.float64(C)[labels], strict=True)
        want = np.array([plain_square_distance(x, c) for x, c in pairs]) * (1.0 if given is None else given)
        assert np.array_equal(distances, want)
        assert largest == want.max()


@DTYPES
def test_rows_are_laid_side_by_side(dtype):
    X = rows_of(40, 70, 0.6, dtype)
    table = lookup(watched(), X, [5, 0, 39, 5, 3], 8)
    assert np.array_equal(table[:, :5], X.toarray()[[5, 0, 39, 5, 3]].T)
    assert not table[:, 5:].any()


# ---- nearest centers ------------------------------------------------------------------------------------------


def assigned(X, C, device=None, *, precision="exact"):
    run = load(X, device=device or watched()).start(C, precision=precision)
    return run, run.assign(move=False)


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
    assert np.array_equal(run.labels(), nearest(X.toarray(), C))
    assert did.n_certified > 0.9 * n
    assert did.n_certified + did.n_resolved + did.n_exact == n


def test_rows_that_float64_cannot_tell_are_left_to_the_host():
    X, C = halfway(200, 60)
    run, did = assigned(X, C)
    assert np.array_equal(run.labels(), nearest(X.toarray(), C))
    assert did.n_exact > 20


@DTYPES
def test_true_ties_are_left_to_the_host_where_float64_rounds(dtype):
    X, c = rows_of(60, 30, 0.3, dtype), np.random.default_rng(3).standard_normal(30).astype(dtype)
    C = np.stack([-c, c, np.roll(c, 1)])  # rows without an entry are as far from each
    run, did = assigned(X, C)
    assert np.array_equal(run.labels(), nearest(X.toarray(), C))
    assert did.n_exact > 0


@pytest.mark.parametrize("k", [3, 20])
def test_ties_of_whole_numbers_are_told_on_the_device(k):
    local = np.random.default_rng(2)
    X, C = rows_of(80, 12, 0.4, whole=True), local.integers(-2, 3, (k, 12)) * 1.0
    run, did = assigned(X, C)
    assert np.array_equal(run.labels(), nearest(X.toarray(), C))
    assert did.n_exact == 0
    assert did.n_resolved > 0


@pytest.mark.parametrize("k", [2, 9, 35])
def test_of_equal_centers_the_first_wins(k):
    X, C = rows_of(60, 30, 0.3), np.random.default_rng(3).standard_normal((k, 30))
    C[-1] = C[0]
    run, did = assigned(X, C)
    assert np.array_equal(run.labels(), nearest(X.toarray(), C))
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
        assert np.array_equal(run.labels(), nearest(X.toarray(), run.assigned_centers()))
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


# ---- seeds ----------------------------------------------------------------------------------------------------


def potentials(X, weight, seeds):
    """weight * squared distance to the closest seed of every row, as Fractions."""
    distances, unit = square_distances(X.toarray(), X[seeds].toarray())
    weights = [Fraction(1)] * X.shape[0] if weight is None else [Fraction(w) for w in weight.tolist()]
    return [w * min(int(v) for v in row) * unit for w, row in zip(weights, distances, strict=True)]


def within(got, errors, want, tightness=1e-9):
    for value, error, exact in zip(got.tolist(), errors.tolist(), want, strict=True):
        assert abs(Fraction(value) - exact) <= Fraction(error)
        assert error <= tightness * max(value, 1.0) + 1e-290


def check_seeding(device, X, weight, first, candidates):
    n = X.shape[0]
    seeding = load(X, weight, device).seeding()
    seeding_terms = [potentials(X, weight, first)]
    sums, errors = seeding.add(np.array(first))

    def check_kept(terms, sums, errors):
        blocks = [sum(terms[b : b + 256]) for b in range(0, n, 256)]
        within(sums, errors, blocks)
        within(*seeding.terms(), terms)
        for b in range(len(blocks)):
            within(*seeding.block(b), terms[256 * b : 256 * (b + 1)])
        assert (seeding.terms()[0] == 0).tolist() == [term == 0 for term in terms]

    check_kept(seeding_terms[0], sums, errors)
    got, slack = seeding.propose(np.array(candidates))
    within(got, slack, [sum(potentials(X, weight, [*first, c])) for c in candidates])
    some = np.array([0, len(candidates) - 1])
    refined, bounds = seeding.refine(some)
    assert np.array_equal(refined, got[some])
    assert np.array_equal(bounds, slack[some])
    check_kept(potentials(X, weight, [*first, candidates[-1]]), *seeding.accept(len(candidates) - 1))


@DTYPES
@IN_ORDER
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("n", "d", "density"), [(20, 1, 0.7), (280, 30, 0.2), (60, 70, 0.7)])
def test_potentials_are_within_their_bounds(n, d, density, weighted, order, seed, dtype):
    """Rows that are twice there, and more candidates than a launch takes."""
    X = rows_of(n, d, density, dtype)
    check_seeding(
        watched(order, seed), X, weights_of(n) if weighted else None, [4], [1, 9, 0, 3, 5, 7, 4, 6, 8, 19, 11]
    )


def test_many_seeds_at_once():
    check_seeding(watched(), rows_of(60, 20, 0.3), None, list(range(20)), [30, 31])


def test_seeds_of_whole_numbers_have_no_error():
    X = rows_of(90, 20, 0.3, whole=True)
    seeding = load(X).seeding()
    for values, errors in (seeding.add(np.array([5])), seeding.propose(np.array([1, 2])), seeding.terms()):
        assert values.any()
        assert not errors.any()
    assert seeding.propose(np.array([1, 2]))[0].tolist() == [float(sum(potentials(X, None, [5, c]))) for c in (1, 2)]


@pytest.mark.parametrize("size", [2.0**-560, 2.0**470])
def test_rows_near_to_each_other_are_told_apart(size):
    """Cancellation would leave nothing of such distances, and squares may underflow."""
    x = np.where(np.random.default_rng(0).random(40) < 0.5, 1.0, 0.0)
    dense = np.stack([x, x, x * (1 + 2.0**-50), x + 2.0**-40 * (np.arange(40) == 5), 0.5 * x, np.zeros(40)]) * size
    X = sparse.csr_array(dense)
    seeding = load(X, device=watched()).seeding()
    seeding.add(np.array([0]))
    terms, errors = seeding.terms()
    want = potentials(X, None, [0])
    assert (terms > 0).tolist() == [False, False, True, True, True, True]
    assert all(abs(Fraction(t) - w) <= Fraction(e) for t, e, w in zip(terms, errors.tolist(), want, strict=True))
    if size > 1:
        assert all(abs(float(Fraction(t) / w) - 1) < 1e-12 for t, w in list(zip(terms, want, strict=True))[2:])


# ---- the checks can fail ---------------------------------------------------------------------------------------------


def many_moves(device):
    check_sums(device, rows_of(70, 9, 0.5), weights_of(70), *moves(70, 3), 3)


def long_distances(device):
    X = rows_of(9, 1100, 0.3)
    C, labels = np.random.default_rng(1).standard_normal((3, 1100)), (np.arange(9) % 3).astype(np.int32)
    want = [plain_square_distance(x, c) for x, c in zip(X.toarray(), C[labels], strict=True)]
    assert row_distance(device, X, C, labels)[0].tolist() == want


def near_ties(device):
    X, C = halfway(200, 60)
    assert np.array_equal(assigned(X, C, device)[0].labels(), nearest(X.toarray(), C))


def plain_rows(device):
    for k in (3, 40, 150):
        X, C = rows_of(50, 40, 0.6), np.random.default_rng(5).standard_normal((k, 40)) * 2
        run, did = assigned(X, C, device)
        assert np.array_equal(run.labels(), nearest(X.toarray(), C))
        assert did.n_certified > 45


def ties(device):
    X, C = rows_of(80, 12, 0.4, whole=True), np.random.default_rng(2).integers(-2, 3, (20, 12)) * 1.0
    assert np.array_equal(assigned(X, C, device)[0].labels(), nearest(X.toarray(), C))


def seeds(device):
    check_seeding(device, rows_of(280, 30, 0.2), weights_of(280), [4, 0], [1, 9, 0, 3])


def near_seeds(device):
    x = np.where(np.arange(40) % 3, 0.0, 1.0)
    seed = x + 2.0**-40 * (np.arange(40) == 1)
    X = sparse.csr_array(np.stack([seed, seed, x, np.roll(x, 1)]))
    seeding = load(X, device=device).seeding()
    seeding.add(np.array([0]))
    terms, errors = seeding.terms()
    want = potentials(X, None, [0])
    assert (terms > 0).tolist() == [False, False, True, True]
    assert all(abs(Fraction(t) - w) <= Fraction(e) for t, e, w in zip(terms, errors.tolist(), want, strict=True))
    assert terms[2] == 2.0**-80


#: What is broken: who notices, the good text, the bad text.
FAULTS = {
    "rows leave no cluster": (many_moves, "if (from >= 0) atomic_add(sums + from, -limb);", ""),
    "the second limb goes with the first": (
        many_moves,
        "move_limb(sums + plane, in, out, second",
        "move_limb(sums, in, out, second",
    ),
    "weights are forgotten": (many_moves, "weight = weights[i];", ""),
    "a tile is not emptied": (
        long_distances,
        "e < last; e += WARP) tile[indices[e] - f0] = ROW{};",
        "e < last; e += WARP) {}",
    ),
    "a tile is read too early": (long_distances, "__syncwarp();  // the tile is filled", ""),
    "a tile is emptied too early": (long_distances, "__syncwarp();  // the tile has been read", ""),
    "entries of a full warp are lost": (long_distances, "more = lanes == EVERY_LANE;", "more = false;"),
    "columns in another order": (
        long_distances,
        "#define COLUMNS 512",
        "#define COLUMNS 256\n#define warp_order_sum(x) (x)",
    ),
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
    "lanes without a row win": (seeds, "if (member >= count) distance = ", "if (false) distance = "),
    "the weight is left out": (seeds, "block_sum(__dmul_rn(weight, value), part)", "block_sum(value, part)"),
    "near rows are left to cancellation": (near_seeds, "!(distance > __dmul_rn(0x1p-20, both))", "false"),
    "a row that lacks an entry is a seed's equal": (near_seeds, "apart |= value != 0.0;", ""),
    "what only the seed has is left out": (near_seeds, "sum = fma(value, value, sum);", ""),
    "parts are read too early": (seeds, "    __syncthreads();  // the parts have been read\n", ""),
}


@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults_are_caught(name):
    run, good, bad = FAULTS[name]
    assert_fault_is_seen(name, run, good, bad)


def test_planted_faults_are_really_planted():
    texts = [nvrtc.source(file, {}) for file in {file for file, _ in nvrtc.variants()}]
    for _, good, _ in FAULTS.values():
        assert any(good in text for text in texts), good
