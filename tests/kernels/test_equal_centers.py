"""Equal centers, as kernels/update_centers.cu finds them; every memory access is watched."""

from __future__ import annotations

import numpy as np
import pytest

from tests.emulator.testing import skip_without_compiler
from tests.support.launches.centers import PLAIN
from tests.support.launches.common import IN_ORDER, watched
from tests.support.launches.faults import fault_tests, own_test
from tests.support.launches.few import BYTE, DOUBLE, FLOAT, KINDS, Centers

NUMPY_KINDS = pytest.mark.parametrize("kind", [BYTE, FLOAT, DOUBLE], ids=lambda kind: kind.name.replace(" ", "_"))

EVERY_KIND = pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name.replace(" ", "_"))


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


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


# ---- the tests can fail ----------------------------------------------------------------------------------------------


run_equals = own_test(globals(), "test_equal_centers_are_never_missed", 1)
run_zeros = own_test(globals(), "test_positive_and_negative_zero_are_one")

#: A fault: the runner that fails on it, the good text, the bad text.
FAULTS = {
    "the epoch stays": (run_equals, "control[EPOCH] += 1;", ""),
    "zeros are two": (run_zeros, "__double_as_longlong(value + 0.0)", "__double_as_longlong(value)"),
}

test_planted_faults_are_caught, test_planted_faults_are_really_planted = fault_tests(FAULTS)
