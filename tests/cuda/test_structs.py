"""Structs that kernels take by value: laid out as NVRTC does, filled by name, and refused where they are wrong."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from gpukmeans.backends.cuda.device import nvrtc
from gpukmeans.backends.cuda.device.cupy_device import CupyDevice
from gpukmeans.backends.cuda.device.structs import Struct, fields, layout
from tests.emulator import EmulatorDevice
from tests.emulator.testing import skip_without_compiler
from tests.support import nvrtc_compiler
from tests.support.cupy_stand_in import stand_in
from tests.support.kernel_sources import KERNELS, parameters
from tests.support.nvrtc_compiler import NvrtcError, compile_cubin

TAKING_STRUCTS = [path for path in KERNELS if any(parameter.struct for parameter in parameters(path))]


@pytest.fixture
def device():
    skip_without_compiler()
    return EmulatorDevice()


# ---- layout --------------------------------------------------------------------------------------------------


def assertions(name, dtype):
    """A static assertion for the size of a struct and for the place of each field."""
    places = [f"__builtin_offsetof({name}, {field}) == {dtype.fields[field][1]}" for field in dtype.names]
    return "".join(f'static_assert({place}, "layout");\n' for place in [f"sizeof({name}) == {dtype.itemsize}", *places])


def compile_assertions(file, text):
    """Compile the text behind the structs of a kernel, without the kernel."""
    source = nvrtc.source(file, next(constants for name, constants in nvrtc.variants() if name == file))
    source = source[: source.index('extern "C" __global__')] + text + 'extern "C" __global__ void nothing() {}\n'
    compile_cubin(source, 90, nvrtc.OPTIONS, file=f"{file}.cu")


@pytest.mark.parametrize("path", TAKING_STRUCTS, ids=lambda path: path.stem)
def test_nvrtc_lays_structs_out_alike(path):
    nvrtc_compiler.skip_without_nvrtc()
    names = {parameter.struct for parameter in parameters(path)} - {None}
    text = "".join(assertions(name, layout(name)) for name in sorted(names))
    compile_assertions(path.stem, text)
    with pytest.raises(NvrtcError, match='static assertion failed with "layout"'):
        compile_assertions(path.stem, text.replace(") == 0,", ") == 4,", 1))


def test_fields_are_those_of_the_source():
    assert [str(field) for field in fields("Limits")] == ["float* drift_so_far", "float* limits", "int n"]
    assert layout("Limits").fields == {
        "drift_so_far": (np.dtype(np.uint64), 0),
        "limits": (np.dtype(np.uint64), 8),
        "n": (np.dtype(np.int32), 16),
    }
    assert layout("Limits").itemsize == 24
    with pytest.raises(ValueError, match="struct Limit should be defined once in kernels/, not 0 times"):
        fields("Limit")
    with pytest.raises(ValueError, match=r"struct Target: 'double value, error;.*' should declare one field"):
        fields("Target")


# ---- values --------------------------------------------------------------------------------------------------


def limits(device, **changes):
    values = {"drift_so_far": device.empty(3, np.float32), "limits": device.empty(5, np.float32), "n": 5}
    return Struct(device, "Limits", {}, **{**values, **changes})


def test_a_struct_holds_addresses_and_numbers(device):
    drift = device.empty(3, np.float32)
    got = limits(device, drift_so_far=drift, limits=None, n=np.int64(7))
    assert got.packed.view(layout("Limits")).item() == (drift.address, 0, 7)
    assert got.packed.shape == ()
    assert repr(got).startswith("Limits(drift_so_far=DeviceArray(shape=(3,), dtype=float32), limits=None, n=")


def test_a_struct_keeps_its_arrays_alive(device):
    before = device.bytes_in_use
    got = limits(device)
    assert device.bytes_in_use == before + 32
    del got
    assert device.bytes_in_use == before


def test_what_does_not_fit_is_refused(device):
    wrong = [
        (
            {"drift_so_far": device.empty(3, np.float64)},
            TypeError,
            "drift_so_far takes .* float32, not float64",
        ),
        ({"limits": np.zeros(5, np.float32)}, TypeError, r"Limits: float\* limits takes a device array or None"),
        ({"limits": 7}, TypeError, "takes a device array or None, not 7"),
        ({"n": 5.0}, TypeError, r"Limits: int n takes an integer, not 5\.0"),
        ({"n": None}, TypeError, "int n takes an integer, not None"),
        ({"n": 2**31}, OverflowError, "Limits: int n cannot hold 2147483648"),
        ({"m": 5}, TypeError, "struct Limits has no field m; its fields are drift_so_far, limits, n"),
    ]
    for changes, kind, message in wrong:
        with pytest.raises(kind, match=message):
            limits(device, **changes)
    with pytest.raises(TypeError, match="struct Limits needs a value for limits and needs a value for n; its fields"):
        Struct(device, "Limits", {}, drift_so_far=None)
    types = {"CENTER": np.dtype(np.float64)}
    with pytest.raises(TypeError, match=r"StoredCenters: CENTER\* C takes an array of dtype float64, not float32"):
        Struct(device, "StoredCenters", types, C=device.empty(3, np.float32), radius=0.0, underflow=0.0)
    with pytest.raises(TypeError, match=r"double radius takes a number, not 'wide'"):
        Struct(device, "StoredCenters", types, C=None, radius="wide", underflow=0.0)


# ---- launches ------------------------------------------------------------------------------------------------

SOURCE = """
struct Limits { const float* drift_so_far; float* limits; int n; };
extern "C" __global__ void fill(const __grid_constant__ Limits limits, float* copy) {
  if (threadIdx.x < limits.n) copy[threadIdx.x] = limits.limits[threadIdx.x] = limits.drift_so_far[threadIdx.x % 3];
}
"""


def test_cupy_is_given_an_array_of_one_element(monkeypatch):
    skip_without_compiler()
    inner = EmulatorDevice()
    cupy = stand_in(inner)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(nvrtc, "source", lambda file, constants: SOURCE)
    device = CupyDevice()
    kernel = device.kernel("fill", "fill", {})
    drift, copy = device.upload(np.arange(3, dtype=np.float32)), device.empty(5, np.float32)
    got = limits(device, drift_so_far=drift)
    kernel(1, 32, (got, copy))
    replay = device.record(lambda: kernel(1, 32, (got, copy)))
    for launch in (lambda: None, replay):
        launch()
        for array in (got.values["limits"], copy):
            assert device.download(array).tolist() == [0, 1, 2, 0, 1]
            device.fill(array, 0)
    wrong = [
        (np.zeros(3), TypeError, r"pass a numpy\.ndarray of shape \(3,\) as a kernel parameter"),
        (object(), TypeError, "Unsupported type"),
        (np.zeros(1), Exception, "array of one element of 24 bytes"),
    ]
    for argument, kind, message in wrong:
        with pytest.raises(kind, match=message):
            kernel(1, 32, (argument, copy))


def test_no_kernel_has_more_than_nine_parameters():
    most = {path.stem: len(parameters(path)) for path in KERNELS}
    assert max(most.values()) <= 9, most
