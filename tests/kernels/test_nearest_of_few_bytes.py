"""kernels/nearest_of_few_bytes.cu and what update_centers.cu makes for it, by whole numbers; all memory is watched."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gpukmeans import KMeans
from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda.backend import CupyBackend
from gpukmeans.backends.cuda.control import Fact, Measure
from gpukmeans.certificates.fixed_point import fixed_score_radius
from tests.emulator.testing import skip_without_compiler
from tests.support.assertions import assert_labels, assert_same
from tests.support.launches.common import IN_ORDER, watched
from tests.support.launches.faults import fault_tests, own_test
from tests.support.limbs import fixed, laid_out, start_of
from tests.support.oracles import nearest
from tests.support.rational_floats import norm

#: n, k, d: ragged everywhere, one group of columns or several, fewer columns than a group.
SHAPES = [(130, 10, 784), (31, 16, 16), (1, 1, 64), (257, 9, 80), (97, 3, 48)]


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


def data(n, k, d, seed=0):
    local = np.random.default_rng(seed)
    return local.integers(0, 256, (n, d)).astype(np.uint8), local.uniform(0, 255, (k, d))


class Assigned:
    """Rows assigned to given centers, and what the device keeps of either."""

    def __init__(self, device, X, C, *, exact=True):
        self.device, self.rows = device, CupyBackend(device).load(X)
        self.run = self.rows.start(C, precision="exact" if exact else "fast")
        self.done = self.run.assign()
        self.labels = np.asarray(self.run.labels())
        assert device.launches["nearest_of_few_bytes"] > 0
        assert device.launches["nearest_of_few"] == 0

    def get(self, name):
        return self.device.download(getattr(self.run._work, name))[0]

    @property
    def offsets(self):
        return self.device.download(self.rows.table.facts.offsets)[0, : self.rows.n_features]


def check_copies(got, C):
    """Limbs lie where the kernel looks for them, and starts, norms, rests and the radius are true of them."""
    z = [[Fraction(float(v)) + int(o) for v, o in zip(c, got.offsets, strict=True)] for c in C]
    q = [[fixed(v) for v in row] for row in z]
    assert np.array_equal(got.get("half_centers"), laid_out(q).reshape(-1))
    starts, measures, facts = got.get("starts"), got.get("measures"), got.get("facts")
    for j, (row, units) in enumerate(zip(z, q, strict=True)):
        assert abs(int(starts[j]) - start_of(row, units, got.offsets)) <= 1
        rest = norm([v - Fraction(u, 2**14) for v, u in zip(row, units, strict=True)])
        assert rest[0] <= Fraction(measures[Measure.REST, j]) <= rest[1] + norm(row)[1] / 2**49
        assert Fraction(measures[Measure.NORM, j]) >= (norm(row)[0] + rest[0]) * (1 - Fraction(1, 2**48))
    radius = fixed_score_radius(measures[Measure.NORM].max(), measures[Measure.REST].max())
    assert facts[[Fact.PER_NORM, Fact.CONSTANT]] == pytest.approx([radius.per_norm, radius.constant], rel=2.0**-23)


@pytest.mark.parametrize(("n", "k", "d"), SHAPES)
def test_labels_are_the_true_nearest(n, k, d):
    X, C = data(n, k, d)
    got = Assigned(watched("random", 7), X, C)
    assert_labels(got.labels, X.astype(np.float64), C)
    assert got.done.n_certified == n  # by limbs noise is certain
    check_copies(got, C)


def twins(reach):
    """Pairs of centers from almost equal to far apart, and rows around both."""
    local = np.random.default_rng(12)
    middles = local.uniform(60, 190, (5, 64))
    C = np.concatenate([middles, middles + np.geomspace(1e-7, reach, 5)[:, None] * local.standard_normal((5, 64))])
    X = np.rint(middles[local.integers(5, size=300)] + 20 * local.standard_normal((300, 64)))
    return X.clip(0, 255).astype(np.uint8), C


def test_what_is_certain_is_true_at_margins_of_every_size():
    X, C = twins(1.0)
    got = Assigned(watched(), X, C)
    assert_labels(got.labels, X.astype(np.float64), C, want=nearest(X.astype(np.float64), C))
    assert 40 < got.done.n_certified < 290
    fast = Assigned(watched(), X, C, exact=False)
    assert fast.done[:3] == (300, got.done.n_certified, 0)
    assert fast.done.n_uncertain == 300 - got.done.n_certified


def test_ties_of_whole_numbers_are_decided_and_others_go_to_the_host():
    X, C = data(60, 4, 16)
    X[:20], C[1:3] = 100, [[99.0] * 16, [101.0] * 16]
    for offset in (0, 0.25):
        C[1], C[2] = 99 + offset, 101 - offset
        got = Assigned(watched(), X, C)
        assert_labels(got.labels, X.astype(np.float64), C)
        assert got.done.n_certified <= 40


@pytest.mark.parametrize("value", [600.0, 1e6, -1e30, np.nan])
def test_centers_beyond_fixed_point_certify_nothing_that_is_not_true(value):
    X, C = data(40, 5, 16)
    C[2, 3] = value
    got = Assigned(watched(), X, np.nan_to_num(C, nan=3e38))
    assert_labels(got.labels, X.astype(np.float64), np.nan_to_num(C, nan=3e38))
    if value == 600.0:
        check_copies(got, C)
    else:
        assert got.done.n_certified == 0


@pytest.mark.parametrize("k", [2, 10, 16])
def test_dead_centers_never_win(k):
    X, C = data(40, k, 32)
    C[k // 2 :] = C[: k // 2]
    got = Assigned(watched(), X, C)
    assert_labels(got.labels, X.astype(np.float64), C)
    assert got.labels.max() < k // 2
    assert got.done.n_certified == 40


@IN_ORDER
def test_few_rows_of_a_block_are_looked_at_and_none_is_lost(order, seed):
    """Iterations that leave out more and more rows, as NumPy's end in."""
    X = np.concatenate([data(150, 1, 32, seed)[0] // 4 + 40 * i for i in range(4)])
    models = [
        KMeans(4, init=X[[0, 10, 300, 450]].astype(np.float64), max_iter=12, backend=backend).fit(X)
        for backend in (CupyBackend(watched(order, seed)), "numpy")
    ]
    assert_same(*models)
    assert 0 < max(iteration.n_skipped for iteration in models[0].fit_report_.iterations) < 600


def test_restarts_side_by_side():
    X = data(90, 1, 32)[0]
    models = [
        KMeans(6, init="random", n_init=3, max_iter=4, random_state=0, backend=backend).fit(X)
        for backend in (CupyBackend(watched()), "numpy")
    ]
    assert_same(*models)


def test_only_what_fits_is_given_to_the_kernel():
    def taken(shape=(1000, 64), dtype="uint8", aligned=True, k=10, capability=(9, 0)):
        return tuning.takes_limbs(shape, np.dtype(dtype), aligned, k, capability)

    assert taken()
    assert taken(k=16)
    assert taken(shape=(1 << 20, 1 << 16))
    for other in (
        {"k": 17}, {"dtype": "float32"}, {"aligned": False}, {"shape": (10, 65)}, {"shape": (10, (1 << 16) + 16)},
        {"shape": ((1 << 20) + 1, 1 << 16)}, {"capability": (10, 3)},
    ):  # fmt: skip
        assert not taken(**other)


@pytest.mark.parametrize("rounded", [True, False])
def test_errors_of_every_feature_that_add_up_decide_nothing(rounded):
    """Rows far from the offset, and centers that are all rounded, or all cut, away from the nearer one."""
    unit, d = 2.0**-14, 64
    X = np.repeat(np.array([[200], [0]], np.uint8), d, axis=1).repeat(20, axis=0)
    if rounded:
        near = 1.0 - 0.49 * unit
        C = np.array([200.0 - near, 200.0 + (np.sqrt(near**2 + 0.1 * 2 / d) // unit) * unit - 0.49 * unit])
    else:
        C = np.array([700.0, -310.0])
    C = np.repeat(C[:, None], d, axis=1)
    assert_labels(Assigned(watched(), X, C).labels, X.astype(np.float64), C)


# ---- the tests can fail ----------------------------------------------------------------------------------------------

run_noise = own_test(globals(), "test_labels_are_the_true_nearest", 257, 9, 80)
run_skips = own_test(globals(), "test_few_rows_of_a_block_are_looked_at_and_none_is_lost", "forward", 0)
run_dead = own_test(globals(), "test_dead_centers_never_win", 10)
run_rounded = own_test(globals(), "test_errors_of_every_feature_that_add_up_decide_nothing", True)
run_cut = own_test(globals(), "test_errors_of_every_feature_that_add_up_decide_nothing", False)

#: A fault: the runner that fails on it, the good text, the bad text.
FAULTS = {
    "limbs change places": (run_noise, "hi * 65536 + (long long)mid * 256", "mid * 65536 + (long long)hi * 256"),
    "columns beyond the end are read": (run_noise, "4 * group + t < width ? 4 * group + t : 0", "4 * group + t"),
    "rows are another lane's": (run_noise, "4 * (g_now & 6) + 2 * t_now + (g_now & 1)", "8 * (g_now & 3) + 2 * t_now"),
    "the radius of fixed point is forgotten": (run_rounded, "__dadd_rn(rest, subnormal)", "subnormal"),
    "dead centers are candidates": (run_dead, "alive = screened.half_squares[g_now] != -INFINITE", "alive = true"),
    "rows that are left are those of other warps": (run_skips, "left = -first_slot", "left = 0"),
    "what is cut is no rest": (run_cut, "z - q * FIXED_UNIT", "z - rint(z * 16384.0) * FIXED_UNIT"),
    "starts forget the offsets": (run_noise, "FIXED_BITS), square, offset_product", "FIXED_BITS), square, 0.0"),
}

test_planted_faults_are_caught, test_planted_faults_are_really_planted = fault_tests(FAULTS)
