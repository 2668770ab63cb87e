"""kernels/update_centers.cu: NumPy's bits, the facts of centers in halves, and when a run stops; memory is watched."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gpukmeans.backends.cuda.control import History, Measure, Reason
from gpukmeans.exact.sums import Grid, cluster_means, exact_total
from tests.emulator.testing import skip_without_compiler
from tests.support.launches.centers import PLAIN, fractions, sums_of, towards
from tests.support.launches.common import IN_ORDER, plain_square_distance, watched
from tests.support.launches.faults import fault_tests, own_test
from tests.support.launches.few import BYTE, DOUBLE, FLOAT, KINDS, Centers, Scaling, data, scaling

NUMPY_KINDS = pytest.mark.parametrize("kind", [BYTE, FLOAT, DOUBLE], ids=lambda kind: kind.name.replace(" ", "_"))

EVERY_KIND = pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name.replace(" ", "_"))


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


# ---- centers, weights, shifts -----------------------------------------------------------------------------------


@pytest.mark.one_in(2)
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


# ---- when a run stops -------------------------------------------------------------------------------------------

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


def test_equal_centers_are_seen_where_they_come_from_sums():
    state = judged(EQUAL)
    assert state.reason == Reason.EQUAL_CENTERS
    state.set_words(STOP=0, HAS_EQUAL=0, N_MOVED=1)
    state.launch(*towards(NEW))
    assert state.reason == Reason.GO_ON
    assert not state.word("HAS_EQUAL")


# ---- the tests can fail ----------------------------------------------------------------------------------------------


def run_shifts(device):
    for spread in (0, 10):
        own_test(globals(), "test_shifts_are_added_exactly_in_numpys_bits", 33, spread)(device)


def run_twice(device):
    """Two updates, the second of which would not be judged if a ticket of the first were left."""
    targets = towards(NEW)
    state = Centers(device, DOUBLE, OLD, Scaling(1.0, np.zeros(16, np.float32)), N_MOVED=1)
    state.launch(*targets)
    assert state.reason == Reason.GO_ON
    state.set_words(N_MOVED=1)
    state.launch(*targets)
    assert state.word("N_DONE") == 2


run_centers = own_test(globals(), "test_centers_are_the_means_in_numpys_bits", DOUBLE, False, 12, 3, 1100)
run_meeting = own_test(globals(), "test_every_reason_to_stop", {"targets": EQUAL}, 4)
run_left_open = own_test(
    globals(), "test_nothing_is_updated_when_stopped_or_when_rows_are_left_open", {"N_OPEN": 3}, "forward", 0
)

#: A fault: the runner that fails on it, the good text, the bad text.
FAULTS = {
    "total shifts lose the second limb": (run_shifts, "sum1 += second_limb(units, limb_size);", ""),
    "a ticket is left": (run_twice, "    control[TICKETS] = 0;\n    control[EPOCH]", "    control[EPOCH]"),
    "the shift is added too early": (run_centers, "__syncthreads();  // the chunk is complete", ""),
    "the next chunk comes too early": (run_centers, "__syncthreads();  // the chunk has been read", ""),
    "centers lose the second limb": (run_centers, "if (two) low", "if (false) low"),
    "quotients are not corrected": (run_centers, "quotient = __dadd_rn(quotient, ", "quotient = (quotient + 0 * "),
    "lanes are added in another order": (
        run_centers,
        "half = WARP / 2; half > 0; half /= 2)\n    lane_sum",
        "half = 1; half < WARP; half *= 2)\n    lane_sum",
    ),
    "the mark of equal centers is cleared before the host has looked": (
        run_meeting,
        "if (__ldcg(control + HAS_EQUAL))",
        "if (atomicExch(control + HAS_EQUAL, 0))",
    ),
    "stopped before all have looked": (run_left_open, "    __syncthreads();      // every thread has read it\n", ""),
}

test_planted_faults_are_caught, test_planted_faults_are_really_planted = fault_tests(FAULTS)
