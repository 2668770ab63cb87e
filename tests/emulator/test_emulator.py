"""The emulator computes what CUDA defines: intrinsics against NumPy, Python integers and fractions."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import partial

import numpy as np
import pytest

from tests.emulator import EmulatorDevice, EmulatorError
from tests.emulator.testing import own_source, skip_without_compiler

VARIANTS = [("fast", "forward"), ("fast", "random"), ("check", "forward"), ("check", "reverse"), ("check", "random")]
MODES = ("rn", "ru", "rd", "rz")


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


@pytest.fixture(params=VARIANTS, ids="-".join)
def device(request):
    mode, order = request.param
    return EmulatorDevice(mode=mode, order=order, seed=3, source=own_source)


def rows(device, file, kernel, inputs, n_rows, dtype):
    """Run an elementwise kernel; every intrinsic gives one row."""
    n = inputs[0].size
    out = device.empty((n_rows, n), dtype)
    device.kernel(file, kernel, {})(-(-n // 64), 64, (*map(device.upload, inputs), np.int32(n), out))
    return device.download(out)


# ---- floating point -----------------------------------------------------------------------------------------


def order(v: Fraction, exact: Fraction) -> int:
    return (v > exact) - (v < exact)


def is_rounding(got, compare, mode) -> bool:
    """Whether got is an exact value rounded by mode; compare(v) is the sign of v minus that value."""
    lower, middle, upper = (Fraction(float(v)) for v in (np.nextafter(got, -np.inf), got, np.nextafter(got, np.inf)))
    if mode == "rz":
        mode = "rd" if compare(Fraction(0)) <= 0 else "ru"
    if mode == "rd":  # the largest number not above
        return compare(middle) <= 0 < compare(upper)
    if mode == "ru":  # the smallest number not below
        return compare(lower) < 0 <= compare(middle)
    even = int(got.view(f"u{got.itemsize}")) % 2 == 0
    below, above = compare((lower + middle) / 2), compare((middle + upper) / 2)
    return below < 0 < above or (even and below <= 0 <= above)


def comparisons(a, b, c):
    """Of the exact results, in the kernels' order; the square root is compared by its square."""
    x, y, z = (Fraction(float(v)) for v in (a, b, c))
    tests = [partial(order, exact=e) for e in (x + y, x - y, x * y, x / y, x * y + z)]
    tests.insert(4, lambda v: -1 if v < 0 else order(v * v, abs(x)))
    return tests


@pytest.mark.parametrize(("kernel", "dtype"), [("float_rounding", np.float32), ("double_rounding", np.float64)])
def test_rounded_operations_equal_exact_arithmetic_rounded_once(device, kernel, dtype):
    rng = np.random.default_rng(0)
    n = 96
    a, b, c = (rng.standard_normal(n) * 2.0 ** rng.integers(-20, 20, n) for _ in range(3))
    a[:8] = [1, 1, 0.5, 3, -1, 0.1, 2, 4]  # ties, exact results and a cancellation among them
    b[:8] = [2.0**-24, 2.0**-53, 0.25, 3, -1, 0.1, 2, 2]
    c[:8] = [0, 1, -0.125, 1, -1, -0.01, -4, 1]
    a, b, c = (v.astype(dtype) for v in (a, b, c))
    got = rows(device, "arithmetic", kernel, (a, b, c), 24, dtype).reshape(4, 6, n)
    for m, mode in enumerate(MODES):
        for i in range(n):
            for f, compare in enumerate(comparisons(a[i], b[i], c[i])):
                assert is_rounding(got[m, f, i], compare, mode), (mode, f, a[i], b[i], c[i], got[m, f, i])
    assert all((got[m] != got[0]).any(axis=1).all() for m in (1, 2, 3))  # every direction matters to every operation


def test_products_are_never_fused_unless_written(device):
    rng = np.random.default_rng(1)
    a, b, c = rng.standard_normal((3, 256))
    got = rows(device, "arithmetic", "plain", (a, b, c), 6, np.float64)
    assert np.array_equal(got[0], a * b + c)
    fused = [float(Fraction(x) * Fraction(y) + Fraction(z)) for x, y, z in zip(a, b, c, strict=True)]
    assert np.array_equal(got[1], fused)
    assert not np.array_equal(got[0], got[1])
    assert np.array_equal(got[2:], [np.minimum(a, b), np.maximum(a, b), np.sqrt(abs(a)), abs(a)])


def test_narrowing_rounds_in_all_four_directions(device):
    a = np.random.default_rng(2).standard_normal(200)
    a[:4] = [1 + 2.0**-24, 1 + 3 * 2.0**-24, 0.5, -1e-40]
    got = rows(device, "arithmetic", "narrowing", (a,), 4, np.float32)
    assert np.array_equal(got[0], a.astype(np.float32))
    for i, mode in enumerate(MODES):
        for value, exact in zip(got[i], a, strict=True):
            assert is_rounding(value, partial(order, exact=Fraction(exact)), mode), (mode, value, exact)


def saturated(value: float, bits: int, signed: bool, function, wide_source: bool) -> int:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    if math.isnan(value):
        if bits == 32 and not wide_source:
            return 0
        return low if signed else 2 ** (bits - 1)
    if math.isinf(value):
        return high if value > 0 else low
    return min(max(function(value), low), high)


@pytest.mark.parametrize("source", ["double", "float"])
def test_conversions_to_integers_round_and_saturate(device, source):
    dtype = np.float64 if source == "double" else np.float32
    a = np.random.default_rng(3).standard_normal(100) * 10.0 ** np.random.default_rng(4).integers(-2, 21, 100)
    special = [0.5, 1.5, -0.5, -1.5, 2.0**31, -(2.0**31), 2.0**32, 2.0**63, -(2.0**63), 1e300, -math.inf, math.inf]
    with np.errstate(over="ignore"):
        a = np.concatenate([a, special, [math.nan]]).astype(dtype)
    got = rows(device, "arithmetic", f"{source}_to_integers", (a,), 12, np.int64)
    functions = (round, math.trunc, math.floor, math.ceil)
    kinds = ((32, True), (32, False), (64, True))
    for row, (bits, signed, function) in enumerate((*kind, function) for kind in kinds for function in functions):
        assert got[row].tolist() == [saturated(float(v), bits, signed, function, source == "double") for v in a], row
    if source == "double":
        got = rows(device, "arithmetic", "double_to_unsigned", (a,), 4, np.uint64)
        for row, function in enumerate(functions):
            assert got[row].tolist() == [saturated(float(v), 64, False, function, True) for v in a]


def test_integers_become_the_nearest_floating_point_number(device):
    a = np.random.default_rng(5).integers(-(2**63), 2**63 - 1, 100)
    a[:4] = [2**53 + 1, 2**24 + 1, -1, 2**63 - 1]
    got = rows(device, "arithmetic", "integers_to_floating", (a,), 6, np.float64)
    unsigned, low = a.view(np.uint64), a.astype(np.int32)
    assert np.array_equal(got[:3], [a.astype(np.float64), unsigned.astype(np.float64), low])
    assert np.array_equal(got[3:], [v.astype(np.float32).astype(np.float64) for v in (a, unsigned, low)])


def test_reinterpretation_keeps_every_bit(device):
    a = np.random.default_rng(6).standard_normal(64)
    got = rows(device, "arithmetic", "reinterpreting", (a,), 8, np.int64)
    bits, single = a.view(np.int64), a.astype(np.float32)
    low = (bits & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
    want = [bits, bits + 1, bits >> 32, low, bits, single.view(np.int32), single.view(np.uint32), np.arange(1, 65)]
    assert np.array_equal(got, want)


def test_half_and_bfloat16_conversions(device):
    bits = np.arange(65536, dtype=np.uint16)
    rng = np.random.default_rng(7)
    x = (rng.standard_normal(5000) * 2.0 ** rng.integers(-30, 18, 5000)).astype(np.float32)
    x[:6] = [65519.9, 65520, 2.0**-24, 2.0**-25, math.inf, -0.0]
    as_float, narrowed = device.empty((2, 65536), np.float32), device.empty((2, x.size), np.uint16)
    args = (device.upload(bits), device.upload(x), np.int32(x.size), as_float, narrowed)
    device.kernel("half", "half_conversions", {})(1024, 64, args)
    got, narrow = device.download(as_float), device.download(narrowed)
    assert np.array_equal(got[0], bits.view(np.float16).astype(np.float32), equal_nan=True)
    assert np.array_equal(got[1], (bits.astype(np.uint32) << 16).view(np.float32), equal_nan=True)
    with np.errstate(over="ignore"):
        assert np.array_equal(narrow[0], x.astype(np.float16).view(np.uint16))
    for value, short in zip(x[np.isfinite(x)], narrow[1][np.isfinite(x)], strict=True):
        below = int(value.view(np.uint32)) >> 16  # towards zero, then one further out
        nearest = min((below, below + 1), key=lambda v: (abs(bfloat16(v) - Fraction(float(value))), v % 2))
        assert short == nearest


def bfloat16(bits: int) -> Fraction:
    return Fraction(float(np.uint32(bits << 16).view(np.float32)))


# ---- integers -----------------------------------------------------------------------------------------------


def signed32(v: int) -> int:
    return (v & 0xFFFFFFFF) - (1 << 32 if v & 0x80000000 else 0)


def signed64(v: int) -> int:
    return (v & (2**64 - 1)) - (1 << 64 if v >> 63 & 1 else 0)


def byte_perm(x: int, y: int, selector: int) -> int:
    pool = [*x.to_bytes(4, "little"), *y.to_bytes(4, "little")]
    picked = [selector >> 4 * i & 15 for i in range(4)]
    return int.from_bytes(bytes((255 * (pool[p & 7] >> 7)) if p & 8 else pool[p] for p in picked), "little")


def bit_tricks(x: int, y: int, i: int) -> list[int]:
    wide = x << 32 | y
    other = ~wide & (2**64 - 1)
    bytes_x, bytes_y = x.to_bytes(4, "little"), y.to_bytes(4, "little")
    as_signed = [b - 256 if b > 127 else b for b in (*bytes_x, *bytes_y)]
    pair = y << 32 | x  # funnel shifts take (lo, hi)
    return [
        x.bit_count(),
        32 - x.bit_length(),
        (x & -x).bit_length(),
        int(f"{x:032b}"[::-1], 2),
        x * y >> 32,
        signed32(x) * signed32(y) >> 32,
        pair << i % 32 >> 32,
        pair >> i % 32,
        byte_perm(x, y, 0x5140),
        byte_perm(x, y, 0xB720),
        sum(p * q for p, q in zip(bytes_x, bytes_y, strict=True)) + 7,
        sum(p * q for p, q in zip(as_signed[:4], as_signed[4:], strict=True)) - 3,
        wide.bit_count(),
        64 - wide.bit_length(),
        (wide & -wide).bit_length(),
        wide * other >> 96,
        signed64(wide) * signed64(other) >> 96,
        min(x, y),
        max(signed32(x), signed32(y)),
    ]


def test_integer_intrinsics(device):
    x, y = np.random.default_rng(8).integers(0, 2**32, (2, 64), dtype=np.uint32)
    x[:3], y[:3] = [0, 1, 2**32 - 1], [0, 2**31, 1]
    got = rows(device, "arithmetic", "bit_tricks", (x, y), 19, np.uint32)
    want = [bit_tricks(int(p), int(q), i) for i, (p, q) in enumerate(zip(x, y, strict=True))]
    assert got.T.tolist() == [[v & 0xFFFFFFFF for v in row] for row in want]


# ---- threads together ---------------------------------------------------------------------------------------


def test_warp_collectives(device):
    x = np.random.default_rng(9).integers(0, 1000, 64).astype(np.int32)
    out = device.empty((14, 64), np.int32)
    device.kernel("cooperation", "warp_collectives", {})(1, 64, (device.upload(x), out))
    i = np.arange(64)
    lane, warps = i % 32, x.reshape(2, 32).astype(np.int64)
    base = i - lane

    def spread(per_warp):
        return np.repeat(per_warp, 32)

    want = [
        np.where(lane >= 3, x[(i - 3).clip(0)], x),
        np.where(lane % 16 + 5 < 16, x[(i + 5).clip(0, 63)], x),
        x[base + (lane ^ 9)],
        x[base + (lane & ~7) + 7],
        x[base + (lane ^ 1)],
        spread(((warps & 1) << np.arange(32)).sum(1)).astype(np.uint32).view(np.int32),
        spread((warps > 900).any(1)),
        spread((warps >= 0).all(1)),
        spread((warps < 500).all(1)),
        np.full(64, (x & 1).sum()),
        np.full(64, (x > 990).any()),
        np.full(64, (x < 1000).all()),
        np.where(lane < 16, x[i ^ 2], x[i ^ 1]),
        spread(warps.sum(1)),
    ]
    assert np.array_equal(device.download(out), want)


def test_warp_reductions(device):
    x = np.random.default_rng(10).integers(-1000, 1000, 64).astype(np.int32)
    out = device.empty((7, 64), np.int32)
    device.kernel("cooperation", "warp_reductions", {})(1, 64, (device.upload(x), out))
    warps = x.reshape(2, 32)
    operations = (np.add, np.minimum, np.maximum, np.bitwise_and, np.bitwise_or, np.bitwise_xor)
    want = [np.repeat(operation.reduce(warps, axis=1), 32) for operation in operations]
    same = [sum(1 << j for j in range(32) if (warps[w, j] ^ warps[w, i]) & 3 == 0) for w in (0, 1) for i in range(32)]
    want.append(np.array(same, np.uint32).view(np.int32))
    assert np.array_equal(device.download(out), want)


def test_kernels_for_new_architectures_are_missing_on_old_ones():
    with pytest.raises(EmulatorError, match=r'no extern "C" kernel .warp_reductions.; it has atomics, indices'):
        EmulatorDevice(arch=750, source=own_source).kernel("cooperation", "warp_reductions", {})


def test_atomics(device):
    n = 1000
    x = np.random.default_rng(11).integers(0, 1000, n).astype(np.int32)
    words = device.upload(np.array([2**64 - 1, 0, 0, 0], np.uint64))
    total = device.upload(np.zeros(2))
    counters = device.upload(np.zeros(11, np.int32))
    counters_start = np.zeros(11, np.int32)
    counters_start[5] = -1
    device.write(counters, counters_start)
    args = (device.upload(x), np.int32(n), words, total, counters)
    device.kernel("cooperation", "atomics", {})(8, 128, args)
    key = x.astype(np.uint64) << np.uint64(32) | np.arange(n, dtype=np.uint64)
    shifted = x.astype(np.int64) - 500
    assert device.download(words)[:2].tolist() == [key.min(), key.max()]
    assert device.download(words).view(np.int64)[2:].tolist() == [shifted.sum(), shifted.min()]
    assert device.download(total).tolist() == [n / 2, n / 4]
    got = device.download(counters)
    assert got[:4].tolist() == np.bincount(x & 3, minlength=4).tolist()
    bits = [np.bitwise_or.reduce(x), np.bitwise_and.reduce(x | 1024), np.bitwise_xor.reduce(x), -x.sum()]
    assert got[4:].tolist() == [*bits, n % 7, (-n) % 7, 77]


def test_every_thread_of_a_three_dimensional_grid_runs_once(device):
    out = device.upload(np.zeros((24, 24), np.int32))
    device.kernel("cooperation", "indices", {})((2, 3, 4), (4, 3, 2), (out,))
    assert np.array_equal(device.download(out), np.add.outer(1000 * np.arange(24), np.arange(24)))


# ---- tensor cores -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "depth", "largest"),
    [("multiply_tf32", 8, 1024), ("multiply_bf16", 16, 256), ("multiply_f16", 16, 1024), ("multiply_f16_k8", 8, 1024)],
)
def test_matrix_fragments(device, kernel, depth, largest):
    rng = np.random.default_rng(12)
    a = rng.integers(-largest, largest, (16, depth)).astype(np.float32)  # exact in the operand type
    b = rng.integers(-8, 8, (depth, 8)).astype(np.float32)
    c = rng.integers(-100, 100, (16, 8)).astype(np.float32)
    d = device.empty((16, 8), np.float32)
    device.kernel("tensor", kernel, {})(1, 32, (*map(device.upload, (a, b, c)), d))
    assert np.array_equal(device.download(d), a @ b + c)


def test_matrix_loads(device):
    matrices = np.arange(256, dtype=np.uint16).reshape(4, 8, 8)
    plain, transposed = device.empty((4, 32), np.uint32), device.empty((4, 32), np.uint32)
    device.kernel("tensor", "load_matrices", {})(1, 32, (device.upload(matrices), plain, transposed))
    assert np.array_equal(device.download(plain), matrices.view(np.uint32).reshape(4, 32))
    turned = np.ascontiguousarray(matrices.transpose(0, 2, 1)).view(np.uint32).reshape(4, 32)
    assert np.array_equal(device.download(transposed), turned)
