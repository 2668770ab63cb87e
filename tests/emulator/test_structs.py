"""Structs that kernels take by value: their fields are checked as parameters are, and their pointers are watched."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from tests.emulator import EmulatorDevice, EmulatorError
from tests.emulator.testing import own_source, skip_without_compiler


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


@pytest.fixture(params=["fast", "check"])
def device(request):
    return EmulatorDevice(mode=request.param, source=own_source)


def packed(**fields):
    """The bytes of a struct with these fields, laid out as the compiler does, and the fields' values."""
    kinds = [
        (name, getattr(value, "dtype", None) if isinstance(value, np.generic) else np.uint64)
        for name, value in fields.items()
    ]
    cell = np.zeros((), np.dtype(kinds, align=True))
    for name, value in fields.items():
        cell[name] = value if isinstance(value, np.generic) else 0 if value is None else value.address
    return SimpleNamespace(packed=cell.view(f"V{cell.itemsize}"), values=fields)


def vector(device, values):
    x = device.upload(np.asarray(values, np.float32))
    return packed(x=x, n=np.int32(x.size))


def mixed(device, halves, values=(1.0,), **changes):
    fields = {
        "factor": np.float32(3),
        "terms": device.upload(np.asarray(values, np.float64)),
        "n": np.int32(len(values)),
        "offset": np.int64(100),
        "halves": halves,
        "twice": np.bool_(True),
    }
    return packed(**{**fields, **changes})


def test_every_field_arrives(device):
    halves, y = device.empty(70, np.uint16), device.empty(70, np.float32)
    given = mixed(device, halves, [0.5, 0.25, 0.125])
    args = (vector(device, range(70)), given, packed(x=None, n=np.int32(7)))
    device.kernel("structs", "scale", {})(2, 64, (*args, y))
    want = np.arange(70) * 6 + np.array([0.5, 0.25, 0.125])[np.arange(70) % 3] + 100
    assert np.array_equal(device.download(y), want.astype(np.float32))
    assert np.array_equal(device.download(halves), np.arange(70) + 7)
    bare = [given.packed if hasattr(given, "packed") else given for given in args]  # as CuPy takes them
    device.fill(y, 0)
    device.kernel("structs", "scale", {})(2, 64, (*bare, y))
    assert np.array_equal(device.download(y), want.astype(np.float32))


def test_a_wrong_struct_is_refused(device):
    halves, y = device.empty(70, np.uint16), device.empty(70, np.float32)
    good, empty = vector(device, range(70)), packed(x=None, n=np.int32(0))
    kernel = device.kernel("structs", "scale", {})
    shifted = mixed(device, halves)
    shifted.packed = np.frombuffer(shifted.packed.tobytes()[8:] + bytes(8), shifted.packed.dtype)
    wrong = [
        (good, "pass a struct, or a NumPy array of one element of 48 bytes"),
        (np.zeros(6), "array of one element of 48 bytes"),
        (halves, "array of one element of 48 bytes"),
        (None, "argument 1 is None; the parameter is struct of 48 bytes .*float32, float64.*, int32"),
        (mixed(device, device.empty(70, np.int16)), r"field halves is .*int16\); the compiler's is uint16\*: pass"),
        (mixed(device, halves, terms=good.values["x"]), r"field terms is .*float32\); the compiler's is float64\*"),
        (mixed(device, halves, offset=np.uint64(1)), "field offset is .*; the compiler's is int64: pass np.int64"),
        (shifted, "field factor is not at byte 0, where the compiler has it"),
    ]
    for second, message in wrong:
        with pytest.raises(EmulatorError, match=message):
            kernel(2, 64, (good, second, empty, y))


def test_memory_behind_a_field_is_watched():
    device = EmulatorDevice(mode="check", source=own_source)
    y = device.empty(64, np.float32)
    with pytest.raises(EmulatorError, match=r"structs\.cu(.|\n)*[03] bytes past the end of a 256-byte device buffer"):
        device.kernel("structs", "beyond_the_end", {})(1, 64, (vector(device, range(64)), y))
    with pytest.raises(EmulatorError, match=r"race \(write after write\) on global memory(.|\n)*structs\.cu"):
        device.kernel("structs", "race", {})(1, 64, (vector(device, range(64)), y))
