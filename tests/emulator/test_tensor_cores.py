"""The tensor cores of the emulator add with the bits of real ones.

With GPUKMEANS_TENSOR_CORES set to a .npz of measured sums (GPU_fp16_a, _b of shape (n, products) as 16-bit words,
GPU_fp16_c, _d as float32; GPU_bf16_... alike) the emulator must give every measured d.
"""

from __future__ import annotations

import os
from fractions import Fraction

import numpy as np
import pytest

from tests.emulator import WORST_TENSOR_CORES, EmulatorDevice, TensorCores, tensor_cores_of
from tests.emulator.testing import own_source, skip_without_compiler
from tests.support.tensor_cores import tensor_chain

KNOWN = {"V100": 700, "A100": 800, "A2": 860, "Ada": 890, "L40S": 890, "H100": 900, "H200": 900, "B200": 1000}
KINDS = {"multiply_f16": 16, "multiply_f16_k8": 8, "multiply_bf16": 16, "multiply_tf32": 8}
CORES = [WORST_TENSOR_CORES, TensorCores(8, 1), TensorCores(16, 2)]


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


def multiplied(cores, kernel, a, b, c, mode="fast"):
    """c + a b of each (16, K), (K, 8) and (16, 8) float32, whose operands are exact in the kernel's type."""
    device = EmulatorDevice(mode=mode, tensor_cores=cores, source=own_source)
    run = device.kernel("tensor", kernel, {})
    found = []
    for operands in zip(a, b, c, strict=True):
        d = device.empty((16, 8), np.float32)
        run(1, 32, (*map(device.upload, operands), d))
        found.append(device.download(d))
    return np.array(found)


def rows_of_sums(cores, kernel, a, b, c):
    """c + a.b row by row, for (n, K) operands: a row fills the first row and column of a product, 8 rows at a time."""
    depth = KINDS[kernel]
    n = -(-len(a) // 8) * 8
    padded = [np.zeros((n, depth), np.float32) for _ in "ab"]
    for wide, values in zip(padded, (a, b), strict=True):
        wide[: len(values), : values.shape[1]] = values
    A = np.zeros((n // 8, 16, depth), np.float32)
    A[:, :8] = padded[0].reshape(-1, 8, depth)
    C = np.zeros((n // 8, 16, 8), np.float32)
    starts = np.zeros(n, np.float32)
    starts[: len(c)] = c
    C[:, np.arange(8), np.arange(8)] = starts.reshape(-1, 8)
    B = np.ascontiguousarray(padded[1].reshape(-1, 8, depth).transpose(0, 2, 1))
    return multiplied(cores, kernel, A, B, C)[:, np.arange(8), np.arange(8)].reshape(-1)[: len(a)]


# ---- the model -------------------------------------------------------------------------------------------------------


def model(cores, tf32, start, a, b):
    """start + a.b of float32 numbers; tensor cores add half as many products of tf32 at once."""
    pairs = [(Fraction(float(x)), Fraction(float(y))) for x, y in zip(a, b, strict=True)]
    at_once = cores._replace(products=cores.products // 2) if tf32 else cores
    return np.float32(float(tensor_chain(Fraction(float(start)), pairs, at_once)))


def operands(kernel, kind, n, seed):
    """Rows of operands and starts: of one size, of very different sizes, that cancel, or tiny."""
    local, depth = np.random.default_rng(seed), KINDS[kernel]
    digits = {"multiply_bf16": 8}.get(kernel, 11)
    a, b = (local.integers(-(1 << digits) + 1, 1 << digits, (n, depth)) / 2.0**digits for _ in "ab")
    c = local.standard_normal(n).astype(np.float32)
    if kind == "spread":
        a, b = (np.ldexp(t, local.integers(-7, 4, t.shape)) for t in (a, b))
        c = np.ldexp(c, local.integers(-30, 12, n)).astype(np.float32)
    elif kind == "cancelling":
        c = -(a * b).sum(axis=1).astype(np.float32)
    elif kind == "tiny":  # subnormal halves, and starts down to float32's smallest
        a, b = np.rint(a * 1000) * 2.0**-24, np.rint(b * 3) * 2.0**-24
        c = np.ldexp(c, local.integers(-149, -40, n)).astype(np.float32)
    a[local.random(a.shape) < 0.1] = 0.0
    if kernel == "multiply_bf16":  # 8 digits
        keep = lambda t: (np.asarray(t, np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)  # noqa: E731
        return keep(a), keep(b), c
    return a.astype(np.float16).astype(np.float32), b.astype(np.float16).astype(np.float32), c


@pytest.mark.parametrize("kind", ["even", "spread", "cancelling", "tiny"])
@pytest.mark.parametrize("kernel", KINDS)
@pytest.mark.parametrize("cores", CORES, ids=str)
def test_sums_have_the_bits_of_the_model(cores, kernel, kind):
    a, b, c = operands(kernel, kind, 64, 5)
    got = rows_of_sums(cores, kernel, a, b, c)
    want = np.array([model(cores, kernel == "multiply_tf32", *row) for row in zip(c, a, b, strict=True)])
    assert np.array_equal(got, want)
    once = (c + (a.astype(np.float64) * b).sum(axis=1)).astype(np.float32)
    assert kind != "spread" or (got != once).any()


def test_cases_by_hand():
    """Of the architectures' own documents: what is below the last bit kept is lost, before anything is added."""
    ones = np.ones((1, 16), np.float32)
    small = np.full((1, 16), 2.0**-12, np.float32)
    for cores, want in (
        (TensorCores(4, 0), 1.0),
        (TensorCores(8, 1), 1 + 2.0**-20),
        (TensorCores(16, 2), 1 + 2.0**-20),
    ):
        # sixteen times 2**-24 beside 1: one guard bit keeps it, none does not
        assert rows_of_sums(cores, "multiply_f16", small, small, np.ones(1, np.float32))[0] == np.float32(want)
    for cores, want in ((TensorCores(8, 1), 1.0), (TensorCores(16, 2), 1 + 2.0**-21)):
        assert rows_of_sums(cores, "multiply_f16", small, small / 2, np.ones(1, np.float32))[0] == np.float32(want)
    big = 2048 * ones
    for start, want in ((np.inf, np.inf), (-np.inf, -np.inf), (np.nan, np.nan), (-(2.0**26), 0.0)):
        got = rows_of_sums(WORST_TENSOR_CORES, "multiply_f16", big, big, np.array([start], np.float32))
        np.testing.assert_equal(got, np.array([want], np.float32))


def test_products_of_bytes_are_whole_and_wrap():
    local = np.random.default_rng(2)
    A, B = local.integers(-128, 128, (16, 32)).astype(np.int8), local.integers(0, 256, (32, 8)).astype(np.uint8)
    A[0], B[:, 0] = -128, 255
    C = local.integers(-(2**31), 2**31, (16, 8)).astype(np.int32)
    C[0, 0] = -(2**31)
    device = EmulatorDevice(mode="check", source=own_source)
    D = device.empty((16, 8), np.int32)
    device.kernel("tensor", "multiply_bytes", {})(1, 32, (*map(device.upload, (A, B, C)), D))
    want = (A.astype(np.int64) @ B + C).astype(np.int32)
    assert np.array_equal(device.download(D), want)


def test_every_architecture_has_its_own():
    assert {name: tuple(tensor_cores_of(arch)) for name, arch in KNOWN.items()} == {
        "V100": (4, 0), "A100": (8, 1), "A2": (8, 1), "Ada": (8, 1), "L40S": (8, 1),
        "H100": (16, 2), "H200": (16, 2), "B200": (16, 2),
    }  # fmt: skip
    assert {arch: tensor_cores_of(arch) for arch in (750, 1030, 1100, 1200)}.keys() == {750, 1030, 1100, 1200}
    assert all(tensor_cores_of(arch) == WORST_TENSOR_CORES for arch in (750, 1030, 1100, 1200))


def test_measured_sums():
    file = os.environ.get("GPUKMEANS_TENSOR_CORES")
    if not file:
        pytest.skip("GPUKMEANS_TENSOR_CORES names no file of measured sums.")
    data = np.load(file)
    for name in sorted({key.rsplit("_", 1)[0] for key in data}):
        gpu, kind = name.split("_")
        a, b = (data[f"{name}_{letter}"] for letter in "ab")
        halves = kind == "fp16"
        a, b = (t.view(np.float16).astype(np.float32) if halves else widened(t) for t in (a, b))
        kernel = "multiply_f16" if halves else "multiply_bf16"
        got = rows_of_sums(tensor_cores_of(KNOWN[gpu]), kernel, a, b, data[f"{name}_c"])
        assert np.array_equal(got, data[f"{name}_d"]), name


def widened(bfloat16):
    return (bfloat16.astype(np.uint32) << 16).view(np.float32)
