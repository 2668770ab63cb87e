"""kernels/update_centers.cu: NumPy's bits, the facts of centers in halves, and the judgement; memory is watched."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gpukmeans.backends.cuda.control import HISTORY, Control, Fact, History, Measure, Reason
from gpukmeans.certificates.halves import half_score_radius, tensor_accumulation
from gpukmeans.exact.sums import Grid, cluster_means, exact_total, weight_grid
from tests.emulator.testing import skip_without_compiler
from tests.support.launches.common import IN_ORDER, plain_square_distance, rational_sums, watched
from tests.support.launches.few import BYTE, DOUBLE, FLOAT, KINDS, Centers, Scaling, data, halves_of, laid_out, scaling
from tests.support.rational_floats import norm

NUMPY_KINDS = pytest.mark.parametrize("kind", [BYTE, FLOAT, DOUBLE], ids=lambda kind: kind.name.replace(" ", "_"))
EVERY_KIND = pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name.replace(" ", "_"))
PLAIN = Scaling(1.0, np.zeros(16, np.float32))


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


def fractions(vector):
    return [Fraction(float(v)) for v in vector]


def sums_of(X, weight, labels, k):
    """Sums, weights' sums and their grids."""
    grid, on_weights = Grid.for_rows(X, weight), weight_grid(len(X), weight)
    ones, start = np.ones((len(X), 1)) if weight is None else weight[:, None], np.full(len(X), -1)
    weight_sums = rational_sums(ones, None, start, labels, k, on_weights)[:, :, 0]
    return rational_sums(X, weight, start, labels, k, grid), weight_sums, grid, on_weights


def towards(targets, *, empty=()):
    """Sums whose means are the targets (a row each); NaN for the empty clusters."""
    labels = np.arange(len(targets))
    sums, weight_sums, *grids = sums_of(targets, None, labels, len(targets))
    sums[:, list(empty)] = 0
    weight_sums[:, list(empty)] = 0
    return sums, weight_sums, *grids


# ---- centers, weights, shifts -----------------------------------------------------------------------------------


@NUMPY_KINDS
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("n", "k", "d"), [(50, 6, 37), (12, 3, 1100)])
def test_centers_are_the_means_in_numpys_bits(kind, weighted, n, k, d):
    X, C = data(kind, n, k, d)
    labels = np.random.default_rng(2).integers(0, k - 1, n)  # the last cluster is empty
    weight = np.random.default_rng(3).uniform(0.1, 1, n) if weighted else None
    sums, weight_sums, grid, on_weights = sums_of(X, weight, labels, k)
    state = Centers(watched("random", 1), kind, C, scaling(kind, X), N_MOVED=3)
    state.launch(sums, weight_sums, grid, on_weights)
    weights, shifts = state.get("measures")[: Measure.NORM]
    assert np.array_equal(weights, on_weights.value(weight_sums[:, :, None])[:, 0])
    centers = state.get("C")
    assert np.array_equal(centers, cluster_means(sums, weights, grid, C.dtype), equal_nan=True)
    assert np.isnan(centers[-1]).all()
    assert weights[-1] == 0
    assert np.isnan(shifts[-1])
    assert (
        shifts[:-1].tolist() == [plain_square_distance(*np.float64(pair)) for pair in zip(centers, C, strict=True)][:-1]
    )
    assert np.array_equal(state.get("previous"), C)
    parts = [Fraction(1)] * n if weight is None else fractions(weight)
    for j in range(k - 1):
        own = np.flatnonzero(labels == j)
        total = sum((parts[i] for i in own), Fraction(0))
        assert abs(Fraction(weights[j]) - total) <= total / 2**51
        for f in range(0, d, 1 + d // 40):
            y = [Fraction(float(X[i, f]) * float(parts[i])) for i in own]
            ulp = Fraction(float(np.spacing(np.abs(centers[j, f]))))
            largest = max(map(abs, y)) / total * len(y)
            assert abs(Fraction(float(centers[j, f])) - sum(y, Fraction(0)) / total) <= ulp + largest / 2**48


@IN_ORDER
def test_no_order_of_threads_changes_a_bit(order, seed):
    X, C = data(DOUBLE, 30, 5, 70)
    results = []
    for device in (watched(order, seed), watched()):
        state = Centers(device, DOUBLE, C, scaling(DOUBLE, X), N_MOVED=3).launch(
            *sums_of(X, None, np.arange(30) % 5, 5)
        )
        names = ("C", "previous", "half_centers", "half_squares", "measures", "facts", "drift", "control")
        results.append([state.get(name) for name in names] + [state.get("history")[0]])
    for one, other in zip(*results, strict=True):
        assert np.array_equal(one, other)


# ---- facts ------------------------------------------------------------------------------------------------------


def check_facts(kind, C, state):
    """Halves where the screen looks for them, and what is said of them is true."""
    scaled, d, k = state.scaled, C.shape[1], len(C)
    z = scaled.z(C)
    half = halves_of(z)
    assert np.array_equal(state.get("half_centers"), laid_out(kind, half, state.n_padded).reshape(-1))
    squares, measures = state.get("half_squares"), state.get("measures")
    assert (squares[k:] == -np.inf).all()
    for j in range(k):
        exact = [
            Fraction(float(c)) * Fraction(scaled.scale) + Fraction(float(o))
            for c, o in zip(C[j], scaled.offsets, strict=False)
        ]
        size = norm(exact)
        rest = norm([a - b for a, b in zip(exact, fractions(half[j]), strict=True)])
        assert abs(Fraction(float(squares[j])) + sum(v * v for v in exact) / 2) <= size[1] ** 2 / 2**25 + Fraction(
            1, 2**140
        )
        assert rest[0] <= Fraction(measures[Measure.REST, j]) <= rest[1] * (1 + Fraction(1, 2**40)) + size[1] / 2**49
        low, high = (Fraction(measures[Measure.NORM, j]) / (size[i] + rest[i]) if size[1] else 1 for i in (1, 0))
        assert low >= 1 - Fraction(1, 2**48)  # SLACK covers the rounding
        assert high <= 1 + Fraction(1, 2**40)
    whole = [abs(c).max() if (c == np.rint(c)).all() else np.inf for c in np.float64(C)]
    assert measures[Measure.LARGEST].tolist() == whole
    facts = state.get("facts")
    bound = half_score_radius(
        tensor_accumulation(len(scaled.offsets)), measures[Measure.NORM].max(), measures[Measure.REST].max()
    )
    for word, value in zip((Fact.PER_REST, Fact.PER_NORM, Fact.CONSTANT), vars(bound).values(), strict=True):
        assert facts[word] == pytest.approx(value, rel=2.0**-23)
        assert float(facts[word]) >= value / (1 + 2.0**-11) or value == np.inf
    largest = max(state.rows_largest, *whole)
    assert facts[Fact.WHOLE] == (largest < np.inf and d * (2 * int(largest)) ** 2 <= 2**53)


@EVERY_KIND
@pytest.mark.parametrize(("k", "d"), [(1, 1), (9, 33), (5, 100)])
def test_facts_of_centers_that_are_given(kind, k, d):
    X, C = data(kind, 30, k, d)
    C[0] = np.arange(d) - 20
    state = Centers(watched("random", 2), kind, C, scaling(kind, X), rows_largest=255.0).launch()
    check_facts(kind, C, state)
    assert np.array_equal(state.get("C"), C)
    assert state.get("drift").tolist() == [0] * k
    control = state.get("control")
    assert control[Control.EPOCH] == 2
    assert control[Control.N_LIMIT] == HISTORY
    assert control.sum() == HISTORY + 2  # nothing else is set: no ticket is left


@NUMPY_KINDS
def test_facts_of_new_centers(kind):
    X, C = data(kind, 40, 4, 33)
    state = Centers(watched("random", 3), kind, C, scaling(kind, X), N_MOVED=1)
    state.launch(*sums_of(X, None, np.arange(40) % 4, 4))
    check_facts(kind, state.get("C"), state)


def test_whole_numbers_are_exact_as_long_as_float64_holds_their_squares():
    for largest, d in ((2.0**25, 2), (2.0**25, 3), (2.0**25 + 1, 2)):
        C = np.full((2, d), largest)
        C[0] = 1
        state = Centers(watched(), DOUBLE, C, Scaling(1.0, np.zeros(16, np.float32)), rows_largest=3.0).launch()
        assert state.get("facts")[Fact.WHOLE] == (d * (2 * int(largest)) ** 2 <= 2**53)
    assert Centers(watched(), DOUBLE, C, state.scaled, rows_largest=np.inf).launch().get("facts")[Fact.WHOLE] == 0


@pytest.mark.parametrize("value", [65520.0, 1e30, 2.0**480, np.inf, np.nan])
@pytest.mark.parametrize("scale", [1.0, 2.0**900])
def test_centers_beyond_halves_certify_nothing_but_live(value, scale):
    """Also where z itself leaves float64, and no comparison with it is true."""
    C = np.array([[1.0, 2.0], [value, 0.0], [3.0, value]]) / np.array([[scale], [1], [1]])
    state = Centers(watched(), DOUBLE, C, Scaling(scale, np.zeros(16, np.float32))).launch()
    assert (state.get("facts")[: Fact.WHOLE] == np.inf).all()
    squares = state.get("half_squares")
    assert np.isfinite(squares[:3]).all()  # -infinity would mark them as dead
    assert squares[0] == -2.5


def test_padding_stays_zero_and_minus_infinity():
    X, C = data(FLOAT, 20, 3, 5)
    state = Centers(watched(), FLOAT, C, scaling(FLOAT, X)).launch().launch()
    places = state.get("half_centers").reshape(-1, 1, 32, 4)
    used = laid_out(FLOAT, np.ones((3, 5), np.float16), state.n_padded) != 0
    assert not places[~used].any()
    assert places[used].all()
    assert (state.get("half_squares")[3:] == -np.inf).all()


def test_given_centers_are_judged_even_when_stopped_and_nothing_of_an_iteration_is_touched():
    X, C = data(FLOAT, 20, 3, 5)
    state = Centers(watched(), FLOAT, C, scaling(FLOAT, X), STOP=int(Reason.EMPTY_CLUSTER), N_MOVED=7, N_DONE=2)
    state.launch()
    assert np.isfinite(state.get("facts")).all()
    assert state.reason == Reason.EMPTY_CLUSTER
    assert (state.word("N_MOVED"), state.word("N_DONE"), state.word("TICKETS")) == (7, 2, 0)
    assert np.isnan(state.get("history")).all()  # as it was
    assert np.isnan(state.get("previous")).all()
    assert np.isnan(state.get("measures")[: Measure.NORM]).all()


# ---- the judgement ----------------------------------------------------------------------------------------------

OLD = np.array([[0.0, 0.0], [8.0, 1.0], [3.0, 9.0]])
NEW = np.array([[1.0, 0.0], [8.0, 3.0], [3.0, 9.5]])  # a shift of 5.25
EQUAL = NEW[[0, 1, 0]]


def judged(targets=NEW, *, empty=(), tolerance=-1.0, **words):
    words = {"N_MOVED": 4, "N_SKIPPED": 3, "N_UNDECIDED": 2, "N_UNCERTAIN": 1, "N_ACTIVE": 9, **words}
    state = Centers(watched(), DOUBLE, OLD, PLAIN, tolerance=tolerance, **words)
    return state.launch(*towards(targets, empty=empty))


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({}, Reason.GO_ON),
        ({"N_MOVED": 0}, Reason.LABELS_STAYED),
        ({"tolerance": 5.25}, Reason.CENTERS_STAYED),
        ({"tolerance": np.nextafter(5.25, 0)}, Reason.GO_ON),
        ({"empty": [1]}, Reason.EMPTY_CLUSTER),
        ({"targets": EQUAL}, Reason.EQUAL_CENTERS),
        ({"N_LIMIT": 1}, Reason.ITERATIONS_DONE),
        ({"N_LIMIT": 2}, Reason.GO_ON),
        ({"N_LIMIT": 8, "N_DONE": 7}, Reason.ITERATIONS_DONE),
        # One reason stands before another.
        ({"targets": EQUAL, "N_LIMIT": 1}, Reason.EQUAL_CENTERS),
        ({"targets": EQUAL, "tolerance": 1e9}, Reason.CENTERS_STAYED),
        ({"N_MOVED": 0, "tolerance": 9.0, "N_LIMIT": 1}, Reason.LABELS_STAYED),
        ({"N_MOVED": 0, "empty": [1], "tolerance": 9.0, "targets": EQUAL}, Reason.EMPTY_CLUSTER),
    ],
)
def test_every_reason_to_stop(how, reason):
    state = judged(**how)
    assert state.reason == reason
    assert state.word("HAS_EQUAL") == (how.get("targets") is EQUAL)  # till the host has looked
    done = how.get("N_DONE", 0)
    counts = ("N_DONE", "N_MOVED", "N_SKIPPED", "N_UNDECIDED", "N_UNCERTAIN", "N_ACTIVE", "N_OPEN", "TICKETS")
    assert [state.word(word) for word in counts] == [done + 1, 0, 0, 0, 0, 0, 0, 0]
    history = state.get("history")
    record = dict(zip(History, history[done].tolist(), strict=True))
    assert record[History.MOVED] == how.get("N_MOVED", 4)
    assert (record[History.SKIPPED], record[History.UNDECIDED], record[History.UNCERTAIN]) == (3, 2, 1)
    assert record[History.EMPTY] == len(how.get("empty", ()))
    shifts = state.get("measures")[Measure.SHIFT_SQUARE]
    if how.get("empty"):
        assert np.isnan(record[History.SHIFT])
    else:
        assert record[History.SHIFT] == exact_total(shifts)
    assert np.isnan(np.delete(history, done, axis=0)).all()


@pytest.mark.parametrize("words", [{"STOP": 2}, {"STOP": 5, "N_OPEN": 3}, {"N_OPEN": 3}])
@IN_ORDER
def test_nothing_is_updated_when_stopped_or_when_rows_are_left_open(words, order, seed):
    state = Centers(watched(order, seed), DOUBLE, OLD, PLAIN, N_MOVED=4, **words)
    before = {name: state.get(name) for name in ("C", "previous", "half_centers", "half_squares", "facts", "drift")}
    state.launch(*towards(NEW))
    for name, value in before.items():
        assert np.array_equal(state.get(name), value, equal_nan=value.dtype.kind == "f")
    assert state.reason == words.get("STOP", Reason.ROWS_LEFT_OPEN)
    assert [state.word(word) for word in ("N_MOVED", "N_DONE", "TICKETS", "EPOCH")] == [4, 0, 0, 1]
    assert state.word("N_OPEN") == words.get("N_OPEN", 0)
    state.set_words(STOP=0, N_OPEN=0)  # the host has decided the rows, and goes on
    state.launch(*towards(NEW))
    assert np.array_equal(state.get("C"), NEW)
    assert state.word("N_DONE") == 1


@pytest.mark.parametrize("k", [1, 2, 33, 300])
@pytest.mark.parametrize("spread", [0, 10, 300])
def test_shifts_are_added_exactly_in_numpys_bits(k, spread):
    """Over a huge range of magnitudes, with zeros, and more centers than the last block has threads."""
    local = np.random.default_rng(k + spread)
    C = local.standard_normal((k, 2)) * 2.0 ** local.uniform(-spread, spread, (k, 1))
    C[k // 2 :: 3] = 0
    state = Centers(watched(), DOUBLE, C, PLAIN, N_MOVED=1)
    state.launch(
        np.zeros((1, k, 2), np.int64), np.ones((1, k), np.int64), Grid(np.ones(2), 36, 1), Grid(np.ones(1), 36, 1)
    )
    assert not state.get("C").any()
    shifts = state.get("measures")[Measure.SHIFT_SQUARE]
    total = state.get("history")[0, History.SHIFT]
    assert total == exact_total(shifts)
    exact = sum(fractions(shifts), Fraction(0))
    assert abs(Fraction(total) - exact) <= exact / 2**52


# ---- drift ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [FLOAT, DOUBLE], ids=lambda kind: kind.name)
@pytest.mark.parametrize("how", ["noise", "a tie for the largest", "one center", "tiny", "one moves"])
def test_drift_so_far_is_just_above_the_true_one(kind, how):
    """Own drift and the largest of another center, over several iterations, in scaled units."""
    k, d = (1 if how == "one center" else 5), 3
    local = np.random.default_rng(8)
    C = local.standard_normal((k, d)).astype(kind.center)
    state = Centers(watched(), kind, C, Scaling(256.0, np.zeros(16, np.float32)), N_MOVED=1)
    want = [Fraction(0)] * k
    for _ in range(4):
        step = local.standard_normal((k, d)) * (1e-30 if how == "tiny" else 0.1)
        if how == "a tie for the largest":
            step[[1, 3]] = [0.5, 0, 0], [0, 0, -0.5]
            C = np.round(C * 64) / 64
            state.device.write(state.C, C.astype(kind.center))
        if how == "one moves":
            step[np.arange(k) != 2] = 0
        if how == "tiny":
            C = C * 0
            state.device.write(state.C, C.astype(kind.center))
        before = state.get("C")
        state.launch(*towards((C + step).astype(kind.center)))
        C = state.get("C")
        drifts = [
            norm([256 * (a - b) for a, b in zip(fractions(x), fractions(y), strict=True)])[1]
            for x, y in zip(C, before, strict=True)
        ]
        for j in range(k):
            want[j] += drifts[j] + max((drifts[i] for i in range(k) if i != j), default=Fraction(0))
        state.set_words(STOP=0, N_MOVED=1)
    got = fractions(state.get("drift"))
    for own, least in zip(got, want, strict=True):
        assert least <= own <= least * (1 + Fraction(1, 2**9)) + Fraction(1, 2**400)
    if how == "a tie for the largest":
        assert len(set(got)) > 1


# ---- equal centers ----------------------------------------------------------------------------------------------


def sees_equals(state, C):
    """Whether centers that are given are said to be equal perhaps."""
    state.device.write(state.C, C)
    state.launch()
    seen = bool(state.word("HAS_EQUAL"))
    state.set_words(HAS_EQUAL=0)
    return seen


@pytest.mark.parametrize("first_epoch", [1, 65530, 2**17 - 3])
def test_equal_centers_are_never_missed(first_epoch):
    """Nor are others taken for equal; over many epochs, of which the table keeps 16 bits."""
    C = np.random.default_rng(5).standard_normal((6, 3))
    state = Centers(watched("random", 1), DOUBLE, C, PLAIN, EPOCH=first_epoch)
    for turn in range(12):
        C = np.random.default_rng(turn).standard_normal((6, 3))
        assert not sees_equals(state, C)
        C[turn % 5 + 1] = C[turn % (turn % 5 + 1)]
        assert sees_equals(state, C)
        C[:, turn % 3] += np.arange(6)  # apart again
        assert not sees_equals(state, C)
    assert state.word("EPOCH") == first_epoch + 36


def test_positive_and_negative_zero_are_one():
    C = np.array([[0.0, 1.0], [-0.0, 1.0], [5.0, 1.0]])
    assert sees_equals(Centers(watched(), DOUBLE, C, PLAIN), C)
    C = np.array([[0.0, 1.0], [1.0, 0.0], [5.0, 1.0]])  # columns are told apart
    assert not sees_equals(Centers(watched(), DOUBLE, C, PLAIN), C)


@IN_ORDER
def test_no_pair_is_missed_in_a_crowded_table(order, seed):
    """60 centers in 64 slots that are full of words of other epochs."""
    k = 60
    C = np.random.default_rng(6).standard_normal((k, 2))
    state = Centers(watched(order, seed), DOUBLE, C, PLAIN, slots=64, EPOCH=77)
    stale = np.random.default_rng(7).integers(0, 2**47, 64).astype(np.uint64) << np.uint64(16)
    state.device.write(state.table, stale | np.uint64(76))
    assert not sees_equals(state, C)
    for pair in ((0, 1), (0, k - 1), (k - 2, k - 1)):
        same = C.copy()
        same[pair[1]] = same[pair[0]]
        assert sees_equals(state, same)


def test_equal_centers_are_seen_where_they_come_from_sums():
    state = judged(EQUAL)
    assert state.reason == Reason.EQUAL_CENTERS
    state.set_words(STOP=0, HAS_EQUAL=0, N_MOVED=1)
    state.launch(*towards(NEW))
    assert state.reason == Reason.GO_ON
    assert not state.word("HAS_EQUAL")
