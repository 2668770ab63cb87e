"""Facts of centers in halves that kernels/update_centers.cu computes; every memory access is watched."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gpukmeans.backends.cuda.control import HISTORY, Control, Fact, Measure, Reason
from gpukmeans.certificates.halves import WORST_TENSOR_CORES, half_score_radius, tensor_accumulation
from tests.emulator.testing import skip_without_compiler
from tests.support.launches.centers import fractions, sums_of
from tests.support.launches.common import watched
from tests.support.launches.faults import fault_tests, own_test
from tests.support.launches.few import (
    BYTE,
    DOUBLE,
    FLOAT,
    KINDS,
    Centers,
    Scaling,
    data,
    halves_of,
    laid_out,
    scaling,
)
from tests.support.rational_floats import norm

NUMPY_KINDS = pytest.mark.parametrize("kind", [BYTE, FLOAT, DOUBLE], ids=lambda kind: kind.name.replace(" ", "_"))

EVERY_KIND = pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name.replace(" ", "_"))


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


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
        tensor_accumulation(len(scaled.offsets), WORST_TENSOR_CORES),
        measures[Measure.NORM].max(),
        measures[Measure.REST].max(),
    )
    for word, value in zip((Fact.PER_REST, Fact.PER_NORM, Fact.CONSTANT), vars(bound).values(), strict=True):
        assert facts[word] == pytest.approx(value, rel=2.0**-23)
        assert float(facts[word]) >= value / (1 + 2.0**-11) or value == np.inf
    largest = max(state.rows_largest, *whole)
    assert facts[Fact.WHOLE] == (largest < np.inf and d * (2 * int(largest)) ** 2 <= 2**53)


@pytest.mark.one_in(2)
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


# ---- the tests can fail ----------------------------------------------------------------------------------------------


def run_given(device):
    X, C = data(BYTE, 30, 9, 33)
    check_facts(BYTE, C, Centers(device, BYTE, C, scaling(BYTE, X), rows_largest=255.0).launch())


run_far = own_test(globals(), "test_centers_beyond_halves_certify_nothing_but_live", 1e30, 1.0)
run_beyond = own_test(globals(), "test_centers_beyond_halves_certify_nothing_but_live", 2.0**480, 2.0**900)

#: A fault: the runner that fails on it, the good text, the bad text.
FAULTS = {
    "halves lie elsewhere": (run_given, "within % RUN / QUAD, within / RUN", "within / RUN, within % RUN / QUAD"),
    "norms forget the rests": (run_given, "norm + above_rest;", "norm;"),
    "far centers die": (run_far, "fmax(__dmul_rn(-0.5, square), -0x1.fffffep127)", "__dmul_rn(-0.5, square)"),
    "infinity less infinity is no number": (
        run_beyond,
        "rest < INFINITE_64 ? fma(norm, 0x1p-50, sqrt(rest)) : INFINITE_64",
        "fma(norm, 0x1p-50, sqrt(rest))",
    ),
}

test_planted_faults_are_caught, test_planted_faults_are_really_planted = fault_tests(FAULTS)
