"""The kernel tests can fail: faults planted in the sources are caught, by the detector or by an oracle."""

from __future__ import annotations

import numpy as np
import pytest

from gpukmeans.backends.cuda.control import Reason
from gpukmeans.backends.cuda.device import nvrtc
from gpukmeans.datasets import near_ties
from tests.certificates import test_halves as test_half_certificates
from tests.emulator.testing import skip_without_compiler
from tests.kernels import test_move_sums, test_nearest_of_few, test_row_halves, test_update_centers
from tests.support.launches.common import assert_fault_is_seen, moves, rows_and_centers
from tests.support.launches.few import BYTE, DOUBLE, FLOAT, Centers, Scaling, data, nearest_of_few, scaling


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


def on(device, monkeypatch, *modules):
    """The tests of these modules run on this device."""
    for module in modules:
        monkeypatch.setattr(module, "watched", lambda *_: device)


def screen(device, monkeypatch):
    X, C = data(FLOAT, 70, 20, 37)
    got = nearest_of_few(device, FLOAT, X, C)
    test_nearest_of_few.check(FLOAT, X, C, got)
    assert len(got.open_rows) == 0
    assert len(test_nearest_of_few.certified(got)) > 60


def screen_bytes(device, monkeypatch):
    X, C = data(BYTE, 40, 5, 100)
    got = nearest_of_few(device, BYTE, X, C)
    test_nearest_of_few.check(BYTE, X, C, got)
    assert len(test_nearest_of_few.certified(got)) > 30


def screen_near_ties(device, monkeypatch):
    for dtype, kind in ((np.float32, FLOAT), (np.float64, DOUBLE)):
        X, C = near_ties(150, 10, 33, seed=1, dtype=dtype)
        test_nearest_of_few.check(kind, X, C, nearest_of_few(device, kind, X, C))


def test_of(module, name, *args):
    """A runner: that module's own test, on the device with the fault."""

    def run(device, monkeypatch):
        on(device, monkeypatch, module)
        getattr(module, name)(*args)

    return run


test_of.__test__ = False


def move(device, monkeypatch):
    X, _ = rows_and_centers(700, 1, 5, np.float64)
    old, new = moves(700, 3)
    test_move_sums.check(device, X, None, old, new, 3, blocks=1)


def few_columns(device, monkeypatch):
    X, _ = rows_and_centers(60, 1, 2, np.float32)
    old, new = moves(60, 3)
    test_move_sums.check(device, X, None, old, new, 3, blocks=1)


def given(device, monkeypatch):
    X, C = data(BYTE, 30, 9, 33)
    test_update_centers.check_facts(BYTE, C, Centers(device, BYTE, C, scaling(BYTE, X), rows_largest=255.0).launch())


def shifts(device, monkeypatch):
    on(device, monkeypatch, test_update_centers)
    for spread in (0, 10):
        test_update_centers.test_shifts_are_added_exactly_in_numpys_bits(33, spread)


def facts(device, monkeypatch):
    X, _ = data(FLOAT, 40, 1, 33)
    test_row_halves.check_facts(FLOAT, X, scaling(FLOAT, X), device)


def twice(device, monkeypatch):
    """Two updates, the second of which would not be judged if a ticket of the first were left."""
    targets = test_update_centers.towards(test_update_centers.NEW)
    state = Centers(device, DOUBLE, test_update_centers.OLD, Scaling(1.0, np.zeros(16, np.float32)), N_MOVED=1)
    state.launch(*targets)
    assert state.reason == Reason.GO_ON
    state.set_words(N_MOVED=1)
    state.launch(*targets)
    assert state.word("N_DONE") == 2


limits = test_of(test_half_certificates, "test_limits_in_the_kernel_are_below_the_true_gap", FLOAT, 33, 1e6, False)
skips = test_of(test_nearest_of_few, "test_rows_whose_limit_is_not_reached_are_not_touched")
unlabelled = test_of(test_nearest_of_few, "test_rows_without_a_label_are_never_skipped")
dead = test_of(test_nearest_of_few, "test_dead_centers_never_win", 9)
fast = test_of(test_nearest_of_few, "test_the_screens_word_is_taken_where_exactness_is_not_asked_for")
not_numbers = test_of(test_nearest_of_few, "test_what_is_not_a_number_certifies_nothing", np.nan, True)
idle = test_of(test_move_sums, "test_nothing_is_touched_without_moved_rows_or_when_stopped", {"N_OPEN": 1})
centers = test_of(test_update_centers, "test_centers_are_the_means_in_numpys_bits", DOUBLE, False, 12, 3, 1100)
drift = test_of(test_update_centers, "test_drift_so_far_is_just_above_the_true_one", FLOAT, "a tie for the largest")
equals = test_of(test_update_centers, "test_equal_centers_are_never_missed", 1)
zeros = test_of(test_update_centers, "test_positive_and_negative_zero_are_one")
meeting = test_of(test_update_centers, "test_every_reason_to_stop", {"targets": test_update_centers.EQUAL}, 4)
far = test_of(test_update_centers, "test_centers_beyond_halves_certify_nothing_but_live", 1e30, 1.0)
beyond = test_of(test_update_centers, "test_centers_beyond_halves_certify_nothing_but_live", 2.0**480, 2.0**900)
left_open = test_of(
    test_update_centers, "test_nothing_is_updated_when_stopped_or_when_rows_are_left_open", {"N_OPEN": 3}, "forward", 0
)
means = test_of(test_row_halves, "test_means_of_a_sample", 70, 64, 64, np.float32)
settle = test_of(test_row_halves, "test_settled_rows_are_labelled_and_listed", "forward", 0, 300)

#: What is broken: who notices, the good text, the bad text.
FAULTS = {
    "a run reads beyond its row": (screen, "f + e < d ? row[f + e] : Row{}", "row[f + e]"),
    "offsets of another column": (screen_bytes, "+ t * RUN + step % RUN_STEPS * QUAD + e", "+ t * RUN + e"),
    "the rows below take those above": (screen, "to_halves(strips8[a], s,", "to_halves(strips[a], s,"),
    "the list of a warp is read too early": (screen, "  __syncwarp();\n", ""),
    "places in lists are given twice": (screen, "return place + __popc(lanes & ((1u << lane) - 1));", "return place;"),
    "where rows come from is lost": (skips, "moves.from[place] = from;", "moves.from[place] = label;"),
    "the second best is lost": (screen_near_ties, "    best.second = best.first;\n", ""),
    "lanes do not compare their best": (
        screen_near_ties,
        "larger(smaller(a.first, b.first), larger(a.second, b.second))",
        "larger(a.second, b.second)",
    ),
    "the radius of halves is forgotten": (screen_near_ties, "best.second > T(2) * radius", "best.second > T(0)"),
    "what is not a number is certain": (
        not_numbers,
        "return best.first - best.second > T(2) * radius",
        "return !(best.first - best.second <= T(2) * radius)",
    ),
    "limits forget the radius": (limits, "__fmaf_rn(2.0f, radius, ", "__fmaf_rn(-2.0f, radius, "),
    "limits forget the drift so far": (limits, "(other - own) + drift_so_far)", "(other - own))"),
    "limits are reached before they are": (skips, "drift_so_far[label] < limits", "drift_so_far[label] <= limits"),
    "rows without a label are skipped": (unlabelled, "label >= 0 && ", ""),
    "undecided rows keep a limit": (screen_near_ties, ": NOT_A_NUMBER;", ": INFINITE;"),
    "dead centers are candidates": (dead, "if (half_squares[center] == ", "if (1.0f == "),
    "the radius of float64 is forgotten": (
        screen_near_ties,
        "second - best > fma(radius, second + best, underflow)",
        "second > best",
    ),
    "scores that are no numbers are trusted": (fast, "!exact && radius < T(INFINITE)", "!exact"),
    "limbs are truncated": (move, "return (long long)rint(scaled);", "return (long long)scaled;"),
    "entries are sorted too early": (move, "__syncthreads();  // the entries are complete", ""),
    "entries are exchanged too early": (move, "__syncthreads();  // this exchange is complete", ""),
    "entries in use are replaced": (move, "__syncthreads();  // the entries have been read", ""),
    "the second limb is lost": (move, "if (LIMBS == 2 && sum1[c])", "if (false)"),
    "rows do not leave": (move, "if (from >= 0) out =", "if (from > 99) out ="),
    "the last cluster is not flushed": (
        move,
        "      flush();\n    }\n    __syncthreads()",
        "    }\n    __syncthreads()",
    ),
    "groups share a row": (few_columns, "n_entries * (group + 1) / groups)", "n_entries * (group + 1) / groups) + 1"),
    "rows move while some are open": (
        idle,
        "if (control[STOP] || control[N_OPEN]) return;",
        "if (control[STOP]) return;",
    ),
    "the shift is added too early": (centers, "__syncthreads();  // the chunk is complete", ""),
    "the next chunk comes too early": (centers, "__syncthreads();  // the chunk has been read", ""),
    "centers lose the second limb": (centers, "if (two) low", "if (false) low"),
    "quotients are not corrected": (centers, "quotient = __dadd_rn(quotient, ", "quotient = (quotient + 0 * "),
    "lanes are added in another order": (
        centers,
        "half = WARP / 2; half > 0; half /= 2)\n    lane_sum",
        "half = 1; half < WARP; half *= 2)\n    lane_sum",
    ),
    "halves lie elsewhere": (given, "within % RUN / QUAD, within / RUN", "within / RUN, within % RUN / QUAD"),
    "norms forget the rests": (given, "norm + above_rest;", "norm;"),
    "total shifts lose the second limb": (shifts, "sum1 += second_limb(units, limb_size);", ""),
    "a tie for the largest drift is overlooked": (drift, "if (n_first > 1.0) second = first;", ""),
    "drifts are rounded down": (drift, "__dmul_rn(value, 1.0 + 0x1p-10)", "__dmul_rn(value, 1.0 - 0x1p-10)"),
    "a ticket is left": (twice, "    control[TICKETS] = 0;\n    control[EPOCH]", "    control[EPOCH]"),
    "the epoch stays": (equals, "control[EPOCH] += 1;", ""),
    "zeros are two": (zeros, "__double_as_longlong(value + 0.0)", "__double_as_longlong(value)"),
    "the mark of equal centers is cleared before the host has looked": (
        meeting,
        "if (__ldcg(control + HAS_EQUAL))",
        "if (atomicExch(control + HAS_EQUAL, 0))",
    ),
    "far centers die": (far, "fmax(__dmul_rn(-0.5, square), -0x1.fffffep127)", "__dmul_rn(-0.5, square)"),
    "infinity less infinity is no number": (
        beyond,
        "rest < INFINITE_64 ? fma(norm, 0x1p-50, sqrt(rest)) : INFINITE_64",
        "fma(norm, 0x1p-50, sqrt(rest))",
    ),
    "stopped before all have looked": (left_open, "    __syncthreads();      // every thread has read it\n", ""),
    "row norms forget the rests": (facts, "norm + above, 1.0", "norm, 1.0"),
    "row norms are rounded down": (facts, "__dmul_rn(sqrt(square), 1.0 + 0x1p-20)", "__dmul_rn(sqrt(square), 0.99999)"),
    "means are taken too early": (means, "__syncthreads();  // all parts are there", ""),
    "means of other rows": (
        means,
        "widen(X[s * n / n_sample * d + own]);",
        "widen(X[(s / 2) * n / n_sample * d + own]);",
    ),
    "rows that stay are listed": (settle, "const bool is_new = from != label;", "const bool is_new = true;"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults_are_caught(name, monkeypatch):
    run, good, bad = FAULTS[name]
    assert_fault_is_seen(name, lambda device: run(device, monkeypatch), good, bad)


def test_planted_faults_are_really_planted():
    texts = [nvrtc.source(file, {}) for file in {file for file, _ in nvrtc.variants()}]
    for _, good, _ in FAULTS.values():
        assert any(good in text for text in texts), good


def test_a_fault_that_nobody_notices_is_told():
    with pytest.raises(AssertionError, match="nobody noticed that all is well"):
        assert_fault_is_seen("all is well", lambda device: None, "const bool moves = from != label;", "")
