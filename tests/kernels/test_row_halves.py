"""What is asked of the rows once (row_facts.cu, column_means.cu), and settle_rows.cu; memory is watched."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda.backend import CupyBackend
from gpukmeans.backends.cuda.control import Control
from tests.emulator import EmulatorDevice
from tests.emulator.testing import skip_without_compiler
from tests.support.launches.common import (
    IN_ORDER,
    ROW_DTYPES,
    control_words,
    filled,
    launch,
    struct,
    watched,
)
from tests.support.launches.faults import fault_tests, own_test
from tests.support.launches.few import (
    BYTE,
    DOUBLE,
    FLOAT,
    FLOAT32_MAX,
    KINDS,
    Scaling,
    data,
    row_facts,
    scaling,
)
from tests.support.rational_floats import INFINITY, norm, to_float32, to_float64, to_half

EVERY_KIND = pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name.replace(" ", "_"))


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


def halves(kind, row, scaled):
    """z and its halves of a row, as kernels/screen.cuh says, without rounding but where it says so."""
    z = [
        Fraction(v) * Fraction(scaled.scale) + Fraction(float(o))
        for v, o in zip(row.tolist(), scaled.offsets.tolist(), strict=False)
    ]
    return z, [to_half(to_float32(to_float64(v) if kind is DOUBLE else v)) for v in z]


def check_facts(kind, X, scaled, device):
    norms, rests, _ = row_facts(device, kind, X, scaled)
    for i, row in enumerate(kind.widen(X)):
        z, h = halves(kind, row, scaled)
        if any(abs(v) == INFINITY for v in h):
            assert norms[i] == rests[i] == np.inf
            continue
        low_norm, high_norm = norm(z)
        low_rest, high_rest = norm([a - b for a, b in zip(z, h, strict=True)])
        assert Fraction(float(rests[i])) >= max(high_rest, Fraction(1, 2**100))
        assert Fraction(float(rests[i])) <= low_rest * (1 + Fraction(1, 2**18)) + low_norm / 2**48 + Fraction(1, 2**99)
        assert Fraction(float(norms[i])) >= high_norm + high_rest
        assert Fraction(float(norms[i])) <= (low_norm + low_rest) * (1 + Fraction(1, 2**18)) + Fraction(1, 2**99)


@EVERY_KIND
@pytest.mark.parametrize("d", [1, 33, 100])
def test_norms_and_rests_are_tight_upper_bounds(kind, d):
    X, _ = data(kind, 40, 1, d)
    X[0] = X[1, 1:] = 0
    X[2] = X[3]
    check_facts(kind, X, scaling(kind, X), watched("random", 1))


def test_bytes_lose_nothing():
    X, _ = data(BYTE, 40, 1, 33)
    scaled = scaling(BYTE, X)
    norms, rests, _ = row_facts(watched(), BYTE, X, scaled)
    assert (rests <= norms * 2.0**-49).all()
    assert (rests > 0).all()
    z = [norm([Fraction(v) for v in row]) for row in scaled.z(X).tolist()]
    assert all(Fraction(float(n)) >= high for n, (_, high) in zip(norms, z, strict=True))


@pytest.mark.parametrize("kind", [FLOAT, DOUBLE], ids=lambda kind: kind.name)
@pytest.mark.parametrize("scale", [1.0, 2.0**-40, 2.0**100])
def test_facts_hold_at_the_ends_of_the_range(kind, scale):
    tiny = 2.0**-149 if kind is FLOAT else 2.0**-1074
    most = FLOAT32_MAX if kind is FLOAT else 2.0**480
    values = [0.0, tiny, -tiny, 2.0**-126, 65504.0, 65519.0, 65520.0, -65536.0, 2.0**-25, 3 * 2.0**-25, most, -most]
    X = kind.store(
        np.array([[v / s, w] for v in values for w in (0.0, 1.0) for s in (1.0, scale) if abs(v / s) <= most])
    )
    check_facts(kind, X, Scaling(scale, np.zeros(16, np.float32)), watched())
    check_facts(kind, X, Scaling(scale, np.full(16, 3.25, np.float32)), watched())


@pytest.mark.parametrize("exponent", [-149, -140, -30, -20])
def test_facts_hold_when_subnormals_are_flushed(exponent):
    """CuPy compiles with -ftz=true: what becomes zero there is in the rests.  (The device flushes float64, too.)"""
    X = (np.random.default_rng(3).integers(-99, 99, (30, 5)) * 2.0**exponent).astype(np.float32)
    for scale in (1.0, 2.0**20, 2.0**-exponent if exponent > -120 else 2.0**120):
        scaled = Scaling(scale, np.zeros(16, np.float32))
        norms, rests, _ = row_facts(EmulatorDevice(mode="check", flush_subnormals=True), FLOAT, X, scaled)
        for i, row in enumerate(X):
            z, h = halves(FLOAT, row, scaled)
            flushed = [0 if abs(x) < 2.0**-126 else b for x, b in zip(row.tolist(), h, strict=True)]
            high = norm([a - Fraction(b) for a, b in zip(z, flushed, strict=True)])[1]
            assert Fraction(float(rests[i])) >= high
            assert Fraction(float(norms[i])) >= norm(z)[1] + high


def test_what_overflows_on_the_way_is_infinite_not_unknown():
    """z beyond float64: infinity less infinity must not become a small norm."""
    X = np.array([[2.0**400, 1.0], [-(2.0**400), 2.0**400], [2.0**-890, 0.0]])
    norms, rests, _ = row_facts(watched(), DOUBLE, X, Scaling(2.0**890, np.zeros(16, np.float32)))
    assert norms.tolist()[:2] == rests.tolist()[:2] == [np.inf, np.inf]
    assert 1 <= norms[2] < 1.001
    offsets = np.full(16, np.inf, np.float32)
    norms, rests, _ = row_facts(watched(), DOUBLE, X, Scaling(1.0, offsets))
    assert (norms == np.inf).all()
    assert (rests == np.inf).all()


@EVERY_KIND
def test_whole_numbers_are_recognised(kind):
    X = kind.store(np.random.default_rng(0).integers(0, 200, (50, 7)))
    X[17, 3] = kind.store(231)
    wide = kind.widen(X)
    assert row_facts(watched("random", 3), kind, X, scaling(kind, X))[2] == wide.max()
    if kind is not BYTE:
        X[17, 3] = kind.store(-231)
        assert row_facts(watched(), kind, X, scaling(kind, X))[2] == abs(kind.widen(X)).max()
        X[49, 6] = kind.store(0.5)
        assert row_facts(watched(), kind, X, scaling(kind, X))[2] == np.inf


# ---- column_means ---------------------------------------------------------------------------------------------


@ROW_DTYPES
@pytest.mark.parametrize(("n", "d", "n_sample"), [(1, 1, 1), (50, 33, 50), (100, 5, 37), (70, 64, 64)])
def test_means_of_a_sample(n, d, n_sample, dtype):
    kind = {np.uint8: BYTE, np.float32: FLOAT, np.float64: DOUBLE}[dtype]
    X, _ = data(kind, n, 1, d)
    device = watched("random", 1)
    means, spread = device.empty(d, np.float64), filled(device, 1, np.float64)
    args = (device.upload(X), np.int64(n), np.int32(d), np.int32(n_sample), means, spread)
    launch(device, "column_means", tuning.row_constants(X.dtype), -(-d // 32), (32, 32), *args)
    sample = X[[s * n // n_sample for s in range(n_sample)]].astype(np.float64)
    means = device.download(means)
    exact = [sum(map(Fraction, column), Fraction(0)) / n_sample for column in sample.T.tolist()]
    size = np.abs(sample).max()
    assert all(
        abs(Fraction(m) - e) <= (n_sample + 2) * Fraction(size) / 2**53 for m, e in zip(means, exact, strict=True)
    )
    assert device.download(spread)[0] == np.abs(sample - means).max()


def test_rows_are_scaled_to_leave_room_for_outliers():
    """2**10 to 2**11 for the farthest of a sample, wherever they lie and however large they are; bytes stay whole."""
    for shift, size in ((0.0, 1.0), (1e6, 1e-3), (-1e30, 1e27), (0.0, 1e-42)):
        X = (shift + size * np.random.default_rng(0).standard_normal((200, 5))).astype(np.float64)
        rows = CupyBackend(EmulatorDevice()).load(X)
        z = X * rows.table.half_scale + rows.table.device.download(rows.table.facts.offsets)[0, :5]
        assert 2**9 < abs(z).max() < 2**12
        assert np.isfinite(rows.table.device.download(rows.table.facts.norms)).all()
    rows = CupyBackend(EmulatorDevice()).load(np.full((3, 2), 7.5, np.float32))  # no spread at all
    assert rows.table.half_scale == 1
    rows = CupyBackend(EmulatorDevice()).load(np.array([[0, 255], [2, 254]], np.uint8))
    assert rows.table.half_scale == 1
    assert rows.table.device.download(rows.table.facts.offsets)[0, :3].tolist() == [-1, -254, 0]


# ---- settle_rows ----------------------------------------------------------------------------------------------


@IN_ORDER
@pytest.mark.parametrize("count", [1, 31, 300])
def test_settled_rows_are_labelled_and_listed(order, seed, count):
    n = 400
    local = np.random.default_rng(count)
    rows = local.permutation(n)[:count].astype(np.int32)
    old, decided = local.integers(-1, 3, n).astype(np.int32), local.integers(0, 3, count).astype(np.int32)
    device = watched(order, seed)
    labels, lists = device.upload(old), [device.upload(np.full(n, -7, np.int32)) for _ in range(2)]
    control = device.upload(control_words(N_MOVED=5))  # some were listed before
    moves = struct(device, "Moves", labels=labels, rows=lists[0], old=lists[1], control=control)
    args = (device.upload(rows), device.upload(decided), np.int32(count), moves)
    launch(device, "settle_rows", {}, -(-count // 256), 256, *args)
    want = old.copy()
    want[rows] = decided
    assert np.array_equal(device.download(labels), want)
    moved = {int(i): int(old[i]) for i in np.flatnonzero(want != old)}
    listed, origin = (device.download(part).tolist() for part in lists)
    end = 5 + len(moved)
    assert dict(zip(listed[5:end], origin[5:end], strict=True)) == moved
    assert listed[:5] == [-7] * 5
    assert listed[end:] == [-7] * (n - end)
    control = device.download(control)
    assert control[Control.N_MOVED] == end
    assert control.sum() == end + 1  # and the epoch: nothing else was touched


# ---- the tests can fail ----------------------------------------------------------------------------------------------


def run_facts(device):
    X, _ = data(FLOAT, 40, 1, 33)
    check_facts(FLOAT, X, scaling(FLOAT, X), device)


run_means = own_test(globals(), "test_means_of_a_sample", 70, 64, 64, np.float32)
run_settle = own_test(globals(), "test_settled_rows_are_labelled_and_listed", "forward", 0, 300)

#: A fault: the runner that fails on it, the good text, the bad text.
FAULTS = {
    "row norms forget the rests": (run_facts, "norm + above, 1.0", "norm, 1.0"),
    "row norms are rounded down": (
        run_facts,
        "__dmul_rn(sqrt(square), 1.0 + 0x1p-20)",
        "__dmul_rn(sqrt(square), 0.99999)",
    ),
    "means are taken too early": (run_means, "__syncthreads();  // all parts are there", ""),
    "means of other rows": (
        run_means,
        "widen(X[s * n / n_sample * d + own]);",
        "widen(X[(s / 2) * n / n_sample * d + own]);",
    ),
    "rows that stay are listed": (run_settle, "const bool is_new = old != label;", "const bool is_new = true;"),
}

test_planted_faults_are_caught, test_planted_faults_are_really_planted = fault_tests(FAULTS)
