"""The emulated device keeps a real one's rules: arguments, limits, memory that ends, errors that name the line."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.emulator import DeviceArray, EmulatorDevice, EmulatorError
from tests.emulator.testing import own_source, skip_without_compiler


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


@pytest.fixture(params=["fast", "check"])
def device(request):
    return EmulatorDevice(mode=request.param, source=own_source)


def test_arguments_must_match_the_parameters(device):
    kernel = device.kernel("faults", "read_out_of_bounds", {})
    x, y = device.upload(np.ones(4, np.float32)), device.empty(4, np.float32)
    good = (x, np.int32(4), np.int32(0), y)
    kernel(1, 64, good)
    wrong = [
        (good[:3], "3 arguments for 4 parameters"),
        ((x, np.int64(4), np.int32(0), y), r"argument 1 is the int64 4; the parameter is int32: pass np.int32"),
        ((x, np.uint32(4), np.int32(0), y), "argument 1 is the uint32 4"),
        ((x, np.float32(4), np.int32(0), y), "argument 1 is the float32 4.0"),
        ((x, 4, np.int32(0), y), "pass a NumPy scalar"),
        ((np.ones(4, np.float32), np.int32(4), np.int32(0), y), "pass a device array"),
        ((device.empty(4, np.float64), np.int32(4), np.int32(0), y), r"dtype=float64\); the parameter is float32\*"),
    ]
    for args, message in wrong:
        with pytest.raises(EmulatorError, match=message):
            kernel(1, 64, args)
    with pytest.raises(EmulatorError, match="memory fault"):
        kernel(1, 64, (None, np.int32(4), np.int32(0), y))


@pytest.mark.parametrize(
    ("grid", "block", "shared", "message"),
    [
        (1, 1025, 0, "1025 threads in a block"),
        (0, 32, 0, "at least 1 in every dimension"),
        ((1, 65536), 32, 0, "the grid is at most"),
        (1, (1, 1, 65), 0, "z must be at most 64"),
        (1, 32, 227 * 1024 + 1, "more static and dynamic shared memory than a block gets"),
    ],
)
def test_launch_limits(grid, block, shared, message):
    device = EmulatorDevice(source=own_source)
    kernel = device.kernel("faults", "read_out_of_bounds", {})
    x = device.empty(4, np.float32)
    with pytest.raises(EmulatorError, match=message):
        kernel(grid, block, (x, np.int32(4), np.int32(0), x), shared_mem=shared)


@pytest.mark.parametrize(("arch", "kib"), [(750, 64), (800, 163), (860, 99), (900, 227), (1200, 99)])
def test_shared_memory_is_that_of_the_architecture(arch, kib):
    text = 'extern "C" __global__ void nothing(int* x) {}'
    device = EmulatorDevice(source=lambda file, constants: text, arch=arch)
    assert device.shared_bytes == kib * 1024
    kernel = device.kernel("nothing", "nothing", {})
    kernel(1, 32, (None,), shared_mem=device.shared_bytes)
    with pytest.raises(EmulatorError, match="more static and dynamic shared memory than a block gets"):
        kernel(1, 32, (None,), shared_mem=device.shared_bytes + 1)


def test_launch_bounds_hold():
    device = EmulatorDevice(source=own_source)
    x = device.upload(np.zeros(64, np.int32))
    with pytest.raises(EmulatorError, match="96 threads in a block; its __launch_bounds__ are 64"):
        device.kernel("cooperation", "warp_collectives", {})(1, 96, (x, device.empty((14, 64), np.int32)))


def test_device_memory_ends_and_comes_back():
    device = EmulatorDevice(memory_limit=1000)
    first = device.upload(np.ones(100, np.float32))
    assert device.memory() == (600, 1000)
    with pytest.raises(MemoryError, match="Out of memory allocating 800 bytes"):
        device.empty(100, np.float64)
    rows = first[10:20]
    del first
    gc.collect()
    assert device.memory() == (600, 1000)  # the slice keeps it
    assert np.array_equal(device.download(rows), np.ones(10))
    del rows
    gc.collect()
    assert device.memory() == (1000, 1000)
    device.empty(100, np.float64)
    assert device.peak_bytes == 800


def test_device_arrays_are_not_host_arrays():
    device = EmulatorDevice()
    host = np.arange(12, dtype=np.int64).reshape(3, 4)[:, ::2]
    array = device.upload(host)
    assert (array.shape, array.dtype, array.size, array.nbytes) == ((3, 2), np.int64, 6, 48)
    assert np.array_equal(device.download(array), host)
    assert np.array_equal(device.download(array[1:].reshape(-1).view(np.uint64)), [4, 6, 8, 10])
    device.write(array[2:], np.array([[7, -1]]))
    assert np.array_equal(device.download(array)[2], [7, -1])
    device.fill(array, 255)
    assert np.array_equal(device.download(array), np.full((3, 2), -1))
    assert isinstance(device.empty((0, 5), np.float32), DeviceArray)
    assert np.isnan(device.download(device.empty(3, np.float32))).all()
    with pytest.raises(TypeError, match="device memory"):
        np.asarray(array)
    with pytest.raises(TypeError):
        array + host
    with pytest.raises(ValueError, match="needs equal shapes and dtypes"):
        device.write(array, np.zeros((3, 2)))


def test_compile_errors_name_file_and_line():
    device = EmulatorDevice(source=lambda file, constants: '#define N 4\n#line 1 "mine.cu"\n\nint x = unknown;\n')
    with pytest.raises(EmulatorError, match=r"mine\.cu:2:9: error: .unknown. was not declared"):
        device.kernel("mine", "mine", {})


def test_subnormals_can_be_flushed():
    a = np.full(32, 1e-320)
    for flush, want in ((False, a), (True, np.zeros(32))):
        device = EmulatorDevice(flush_subnormals=flush, source=own_source)
        out = device.empty((6, 32), np.float64)
        inputs = map(device.upload, (a, np.ones(32), np.zeros(32)))
        device.kernel("arithmetic", "plain", {})(1, 32, (*inputs, np.int32(32), out))
        assert np.array_equal(device.download(out)[0], want)
    assert np.float64(1e-320) * 1.0 > 0  # the host's own mode is as before


def test_without_a_compiler_the_reason_is_said():
    code = "from tests.emulator import EmulatorDevice; EmulatorDevice()"
    env = {**os.environ, "CXX": "no-such-compiler", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert "EmulatorUnavailable: the CUDA emulator needs GCC's C++ compiler, and 'no-such-compiler'" in done.stderr
