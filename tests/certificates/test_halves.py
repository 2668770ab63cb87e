"""Radii of half-precision scores and limits of drift against rational arithmetic, on adversarial rows and centers."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import partial

import numpy as np
import pytest

from gpukmeans.certificates import halves
from gpukmeans.certificates.drift import drift_limit
from gpukmeans.certificates.halves import (
    LARGEST_HALF_NORM,
    TENSOR_CORES,
    WORST_TENSOR_CORES,
    TensorCores,
    half_score_radius,
    tensor_accumulation,
    tensor_cores_of,
)
from tests.emulator import EmulatorDevice
from tests.emulator.testing import skip_without_compiler
from tests.support.launches.common import watched
from tests.support.launches.faults import fault_tests, own_test
from tests.support.launches.few import (
    DOUBLE,
    FLOAT,
    KINDS,
    Scaling,
    data,
    facts_of,
    nearest_of_few,
)
from tests.support.oracles import nearest
from tests.support.rational_floats import norm, to_float32, to_half
from tests.support.tensor_cores import tensor_chain


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


# ---- tensor cores in plain Python ------------------------------------------------------------------------------------


chain = partial(tensor_chain, least=-14)  # the worse of both ways to align subnormal halves


def fractions(vector):
    return [Fraction(float(v)) for v in vector]


def dot(a, b):
    return sum((x * y for x, y in zip(a, b, strict=True)), Fraction(0))


CORES = sorted({*TENSOR_CORES.values(), WORST_TENSOR_CORES})
CASES = ["noise", "one sign", "just below a power of two", "cancelling", "rising", "falling", "tiny", "zeros", "ragged"]


def vectors(case, d, seed=0):
    """Scaled rows and centers as float64: 3 and 2 of them."""
    local = np.random.default_rng(seed)
    z = local.standard_normal((5, d)) * 300
    if case == "one sign":
        z = abs(z)
    if case == "just below a power of two":
        z = np.full((5, d), 256 * (1 - 2.0**-11)) * (1 + 2.0**-13 * local.random((5, d)))
    if case == "cancelling":
        z[3:] = z[:2] * np.where(np.arange(d) % 2, 1, -1)
    if case == "rising":
        z *= 2.0 ** np.linspace(-30, 6, d)
    if case == "falling":
        z *= 2.0 ** np.linspace(6, -30, d)
    if case == "tiny":
        z *= 2.0**-28  # subnormal halves
    if case == "zeros":
        z[:2] = z[3] = 0
    if case == "ragged":
        z *= local.random((5, d)) < 0.2
    return z[:3], z[3:]


def errors(rows, centers, cores):
    """|computed score - true score| of each pair, and what the radius is made of: (norm, rest) of rows and centers."""
    parts = []
    for vector in (*rows, *centers):
        z = fractions(vector)
        h = [to_half(to_float32(v)) for v in z]
        rest = norm([a - b for a, b in zip(z, h, strict=True)])[1]
        parts.append((z, h, norm(z)[1] + rest, rest))
    n = len(rows)
    found = {}
    for j, (z_j, h_j, _, _) in enumerate(parts[n:]):
        half_square = -dot(z_j, z_j) / 2
        for i, (z_i, h_i, _, _) in enumerate(parts[:n]):
            computed = chain(to_float32(half_square), list(zip(h_i, h_j, strict=True)), cores)
            found[i, j] = abs(computed - (dot(z_i, z_j) + half_square))
    return found, [part[2:] for part in parts[:n]], [part[2:] for part in parts[n:]]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("cores", CORES, ids=str)
@pytest.mark.parametrize("d", [16, 96])
def test_no_score_is_farther_off_than_its_radius(case, d, cores):
    rows, centers = vectors(case, d)
    found, of_rows, of_centers = errors(rows, centers, cores)
    largest = [float(max(part[i] for part in of_centers)) * (1 + 2.0**-50) for i in range(2)]
    radius = half_score_radius(tensor_accumulation(d, cores), *largest)
    for (i, _), error in found.items():
        size, rest = of_rows[i]
        bound = Fraction(radius.per_rest) * rest + Fraction(radius.per_norm) * size + Fraction(radius.constant)
        assert error <= bound


def widest_share(rows, centers, cores, *, accumulation, with_rests):
    """The largest error as a share of its radius, or of that without some part."""
    found, of_rows, of_centers = errors(rows, centers, cores)
    norms, rests = ([float(part[i]) for part in of_centers] for i in range(2))
    radius = half_score_radius(accumulation, max(norms), max(rests) * with_rests)
    bounds = [
        radius.per_rest * float(r) * with_rests + radius.per_norm * float(n) + radius.constant for n, r in of_rows
    ]
    return max(float(error / Fraction(bounds[i])) for (i, _), error in found.items())


@pytest.mark.parametrize("cores", CORES, ids=str)
def test_both_parts_of_the_radius_are_needed_and_neither_is_much_too_wide(cores):
    noise = vectors("noise", 96)
    assert widest_share(*noise, cores, accumulation=tensor_accumulation(96, cores), with_rests=False) > 1
    whole = [np.float64(np.float16(part)) for part in vectors("one sign", 96)]  # halves lose nothing
    assert widest_share(*whole, cores, accumulation=0.0, with_rests=True) > 1
    assert 0.01 < widest_share(*whole, cores, accumulation=tensor_accumulation(96, cores), with_rests=True) <= 1
    few = vectors("noise", 2)  # where there is little to cancel
    assert 0.05 < widest_share(*few, cores, accumulation=tensor_accumulation(16, cores), with_rests=True) <= 1


#: Every product of 16 columns ends as far off as `tensor_accumulation` lets it, neighbouring centers to other sides.
OFF_BY_THE_BOUND = (
    "cuemu::mma<cuemu::F16, 16>(sum, a, column, sum);",
    """float out[4];
  cuemu::mma<cuemu::F16, 16>(out, a, column, sum);
  for (int i = 0; i < 4; ++i)
    sum[i] = out[i] + (i & 1 ? 24.0f : -24.0f) * 0x1p-23f * fmaxf(fabsf(sum[i]), fabsf(out[i]));""",
)


def test_no_label_is_wrongly_certified_on_the_worst_tensor_cores():
    """Whole halves: nothing but the accumulation is in the radius.  Rows lie about halfway between two centers."""
    local = np.random.default_rng(5)
    C = local.integers(-200, 200, (8, 64)).astype(np.float32)
    C[1::2] = C[::2] + local.integers(-8, 9, (4, 64))
    share = local.uniform(0.3, 0.7, (60, 1))
    X = np.round(2 * (C[::2].repeat(15, axis=0) * share + C[1::2].repeat(15, axis=0) * (1 - share))) / 2
    X, scaled = X.astype(np.float32), Scaling(1.0, np.zeros(64, np.float32))
    want, device = nearest(X, C), watched(faults=[OFF_BY_THE_BOUND])
    certified = {}
    for name, facts in (("enough", facts_of(FLOAT, C, scaled)), ("nothing", np.zeros(4, np.float32))):
        got = nearest_of_few(device, FLOAT, X, C, scaled=scaled, facts=facts)
        sure = ~np.isnan(got.limits)
        certified[name] = sure.sum(), (got.labels[sure] == want[sure]).all()
    assert certified["enough"][1]
    assert not certified["nothing"][1]
    assert certified["enough"][0] > 0


def share_of_the_bound(pairs, starts, cores):
    """The largest error of a chain from one of the starts, as a share of what is allowed."""
    shares = []
    for start in starts:
        sums = [start]
        for a, b in pairs:
            sums.append(sums[-1] + a * b)
        most = max(*(abs(v) for v in sums), *(abs(a * b) for a, b in pairs))
        error = abs(chain(start, pairs, cores) - sums[-1])
        shares.append(error / (Fraction(tensor_accumulation(len(pairs), cores)) * most))
    return max(shares)


@pytest.mark.parametrize("cores", CORES, ids=str)
def test_chains_come_within_a_factor_of_two_of_their_bound(cores):
    """Beside a sum of one, products just below a unit of the last bit kept are cut off whole."""
    half = Fraction(2047, 2048)
    small = half * Fraction(2) ** -11, half * Fraction(2) ** -(12 + cores.guard_bits)
    share = share_of_the_bound([small] * 800, [Fraction(1), Fraction(-1)], cores)
    units = Fraction(cores.products + 1, 2**cores.guard_bits) + 1  # of which the sum's own two are not lost here
    assert Fraction(95, 100) * Fraction(cores.products, 2**cores.guard_bits) / units < share <= 1
    assert share > Fraction(1, 2)


@pytest.mark.parametrize("cores", CORES, ids=str)
def test_long_chains_stay_within_their_bound(cores):
    """The running sum loses low bits, too; and its growth raises the unit of every product."""
    pairs = [(Fraction(2047, 1024), Fraction(2047, 1024))] * 800
    start = Fraction(-(2**12))
    assert 0 < share_of_the_bound(pairs, [start, -start, Fraction(0)], cores) <= 1


def test_subnormal_halves_may_be_aligned_as_if_they_were_normal(monkeypatch):
    """Of small centers, nearly halves: the low bits of the first summand are cut off beside a product that is tiny."""
    local, row = np.random.default_rng(0), np.zeros((1, 16))
    row[0, 0] = 2.0**-24
    centers = 2.0**-19 + 2.0**-32 * local.uniform(-1, 1, (8, 16))
    alpha = tensor_accumulation(16, WORST_TENSOR_CORES)
    assert widest_share(row, centers, WORST_TENSOR_CORES, accumulation=alpha, with_rests=True) <= 1
    monkeypatch.setattr(halves, "SMALLEST_NORMAL_HALF", 0.0)
    assert widest_share(row, centers, WORST_TENSOR_CORES, accumulation=alpha, with_rests=True) > 1


def test_capabilities_that_were_not_measured_get_the_worst():
    assert tensor_cores_of((9, 0)) == TensorCores(16, 2)
    assert tensor_cores_of((8, 6)) == TensorCores(8, 1)
    for capability in ((7, 5), (10, 3), (11, 0), (12, 0)):
        assert tensor_cores_of(capability) == WORST_TENSOR_CORES
    bounds = [tensor_accumulation(784, cores) for cores in (TensorCores(16, 2), TensorCores(8, 1), WORST_TENSOR_CORES)]
    assert 4 * bounds[0] < 2 * bounds[1] < bounds[2]


def test_endless_chains_are_certain_of_nothing():
    assert tensor_accumulation(2**21, WORST_TENSOR_CORES) < 1
    assert tensor_accumulation(2**22, WORST_TENSOR_CORES) == math.inf
    assert half_score_radius(math.inf, 1.0, 0.0).per_norm == math.inf
    for norm_ in (LARGEST_HALF_NORM, math.inf, math.nan):
        assert set(vars(half_score_radius(1e-6, norm_, 1.0)).values()) == {math.inf}


# ---- how long labels hold --------------------------------------------------------------------------------------------


def true_gap(x, centers, own):
    """A lower bound of the distance to the nearest other center less the own one, and an upper one."""
    bounds = [norm([a - b for a, b in zip(x, c, strict=True)]) for c in centers]
    others = [bound for j, bound in enumerate(bounds) if j != own]
    return min(low for low, _ in others) - bounds[own][1], min(high for _, high in others) - bounds[own][0]


@pytest.mark.parametrize("radius", [0.0, 1e-3, 0.3])
def test_a_drift_limit_is_below_the_gap_whatever_the_scores_hide(radius):
    """Scores anywhere within their radius, norms anywhere above the true one."""
    local = np.random.default_rng(1)
    n_positive = 0
    for _ in range(60):
        z = local.standard_normal((4, 6)) * 4
        x, centers = fractions(z[0]), [fractions(c) for c in z[1:]]
        scores = [float(dot(x, c) - dot(c, c) / 2) for c in centers]
        order = sorted(range(3), key=lambda j: -scores[j])
        size = float(norm(x)[1]) * (1 + local.choice([1e-15, 0.01, 1.0]))
        best, second = (scores[j] + radius * local.uniform(-1, 1) for j in order[:2])
        limit = drift_limit(best, second, radius, size, 0.0)
        assert drift_limit(best, second, radius, size, 8.0) == pytest.approx(limit + 8.0, rel=1e-12, abs=1e-12)
        n_positive += limit > 0
        assert Fraction(limit) <= true_gap(x, centers, order[0])[1] + Fraction(1, 10**12)
    assert n_positive > 20


@pytest.mark.one_in(2)
@pytest.mark.parametrize("flush", [False, True])
@pytest.mark.parametrize(
    "kind", [KINDS[name] for name in ("float", "double", "unsigned char")], ids=lambda k: k.name[:5]
)
@pytest.mark.parametrize(("d", "drift"), [(5, 0.0), (33, 1e6)])
def test_limits_in_the_kernel_are_below_the_true_gap(kind, d, drift, flush):
    device = EmulatorDevice(mode="check", flush_subnormals=True) if flush else watched()
    X, C = data(kind, 60, 5, d)
    so_far = (drift * (1 + np.arange(5) / 7)).astype(np.float32)
    got = nearest_of_few(device, kind, X, C, drift=so_far)
    z, centers = got.scaled.z(kind.widen(X)), [fractions(c) for c in got.scaled.z(C)]
    certified = np.flatnonzero(~np.isnan(got.limits))
    assert len(certified) > 40
    shares = []
    for i in certified:
        own = got.labels[i]
        low, high = true_gap(fractions(z[i]), centers, own)
        gap = Fraction(float(got.limits[i])) - Fraction(float(so_far[own]))
        assert gap <= low
        shares.append(float(gap / high))
        # The bound of one dimension up: what is lost against it is little.
        lifted = [
            math.sqrt(max(0.0, float(got.norms[i]) ** 2 - 2 * float(dot(fractions(z[i]), c) - dot(c, c) / 2)))
            for c in centers
        ]
        want = min(v for j, v in enumerate(lifted) if j != own) - lifted[own]
        assert float(gap) >= want - 0.02 * max(lifted) - 2e-6 * drift
    assert np.median(shares) > 0.5


@pytest.mark.parametrize("kind", [FLOAT, DOUBLE], ids=lambda kind: kind.name)
def test_a_label_stays_while_the_drift_is_below_its_limit(kind):
    """Every other center moves straight towards the row and its own one away from it, each by half the limit."""
    X, C = data(kind, 40, 4, 3)
    got = nearest_of_few(watched(), kind, X, C)
    z, centers = got.scaled.z(X), got.scaled.z(C)
    for i in np.flatnonzero(got.limits > 0):
        away = centers - z[i]
        away /= np.sqrt((away**2).sum(axis=1, keepdims=True))
        step = np.full(4, -float(got.limits[i]) / 2)
        step[got.labels[i]] *= -1
        moved = centers + step[:, None] * away * (1 - 1e-12)
        assert ((moved - z[i]) ** 2).sum(axis=1).argmin() == got.labels[i]


def test_a_single_center_has_no_limit():
    X, C = data(FLOAT, 20, 1, 5)
    got = nearest_of_few(watched(), FLOAT, X, C)
    assert (got.limits == np.inf).all()
    assert (got.labels == 0).all()


# ---- the tests can fail ----------------------------------------------------------------------------------------------


run_limits = own_test(globals(), "test_limits_in_the_kernel_are_below_the_true_gap", FLOAT, 33, 1e6, False)

#: A fault: the runner that fails on it, the good text, the bad text.
FAULTS = {
    "limits forget the radius": (run_limits, "__fmaf_rn(2.0f, radius, ", "__fmaf_rn(-2.0f, radius, "),
    "limits forget the drift so far": (run_limits, "(other - own) + drift_so_far)", "(other - own))"),
}

test_planted_faults_are_caught, test_planted_faults_are_really_planted = fault_tests(FAULTS)
