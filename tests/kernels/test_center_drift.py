"""How far centers have drifted, as kernels/update_centers.cu counts it; every memory access is watched."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from tests.emulator.testing import skip_without_compiler
from tests.support.launches.centers import fractions, towards
from tests.support.launches.common import watched
from tests.support.launches.faults import fault_tests, own_test
from tests.support.launches.few import BYTE, DOUBLE, FLOAT, KINDS, Centers, Scaling
from tests.support.rational_floats import norm

NUMPY_KINDS = pytest.mark.parametrize("kind", [BYTE, FLOAT, DOUBLE], ids=lambda kind: kind.name.replace(" ", "_"))

EVERY_KIND = pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name.replace(" ", "_"))


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


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


# ---- the tests can fail ----------------------------------------------------------------------------------------------


run_drift = own_test(globals(), "test_drift_so_far_is_just_above_the_true_one", FLOAT, "a tie for the largest")

#: A fault: the runner that fails on it, the good text, the bad text.
FAULTS = {
    "a tie for the largest drift is overlooked": (run_drift, "if (n_first > 1.0) second = first;", ""),
    "drifts are rounded down": (run_drift, "__dmul_rn(value, 1.0 + 0x1p-10)", "__dmul_rn(value, 1.0 - 0x1p-10)"),
}

test_planted_faults_are_caught, test_planted_faults_are_really_planted = fault_tests(FAULTS)
