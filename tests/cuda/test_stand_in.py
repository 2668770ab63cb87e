"""The stand-in for CuPy has only what CuPy has, and our calls bind to its: where CuPy is installed, without a GPU."""

from __future__ import annotations

import inspect
import re
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from tests.emulator.testing import skip_without_compiler
from tests.support.cupy_stand_in import stand_in

#: What gpukmeans/backends/cuda/device calls: how many arguments it gives by position, and the names of the others.
CALLS = {
    "empty": (2, []),
    "RawModule": (0, ["code", "options"]),
    "cuda.Device": (1, []),
    "cuda.Stream": (0, ["non_blocking"]),
    "cuda.Stream.wait_event": (1, []),
    "cuda.alloc_pinned_memory": (1, []),
    "cuda.get_current_stream": (0, []),
    "cuda.Graph.launch": (1, []),
    "cuda.MemoryPointer.copy_from_device_async": (3, []),
    "cuda.MemoryPointer.copy_from_host_async": (3, []),
    "cuda.MemoryPointer.copy_to_host_async": (3, []),
    "cuda.MemoryPointer.memset_async": (3, []),
    "from_dlpack": (1, []),
    "ascontiguousarray": (2, []),
    "ndarray.get": (0, ["stream", "out"]),
    "ndarray.set": (1, ["stream"]),
    "RawKernel.__call__": (3, ["shared_mem"]),
}


@pytest.fixture(scope="module")
def cupy():
    return pytest.importorskip("cupy")


def public(thing):
    return [name for name in dir(thing) if not name.startswith("_") and name not in dir(type(thing))]


def missing(ours, real, path):
    """Names of ours that the real one lacks."""
    found = []
    for name in public(ours):
        if not hasattr(real, name):
            found.append(f"{path}.{name}")
        elif isinstance(getattr(ours, name), ModuleType | SimpleNamespace):
            found += missing(getattr(ours, name), getattr(real, name), f"{path}.{name}")
    return found


def test_every_name_of_the_stand_in_is_cupys(cupy):
    skip_without_compiler()
    ours = stand_in()
    del ours.log
    ours.array = ours.empty(3, np.float32)
    assert missing(ours.cuda, cupy.cuda, "cupy.cuda") == []
    assert missing(ours.array.data, cupy.cuda.MemoryPointer, "data") == ["data.array"]  # which only itself reads
    del ours.array
    assert missing(ours, cupy, "cupy") == []
    for number in ("MaxSharedMemoryPerBlockOptin", "MultiProcessorCount"):
        assert hasattr(cupy.cuda.runtime, f"cudaDevAttr{number}")
    for thing, names in (
        (cupy.cuda.Device, ["id", "attributes", "compute_capability", "__enter__"]),
        (cupy.cuda.Stream, ["record", "synchronize", "begin_capture", "end_capture", "__enter__"]),
        (cupy.cuda.Event, ["synchronize"]),
        (cupy.ndarray, ["shape", "dtype", "size", "nbytes", "data", "device", "reshape", "view", "__getitem__"]),
        (cupy.RawKernel, ["max_dynamic_shared_size_bytes"]),
    ):
        assert [name for name in names if not hasattr(thing, name)] == []
    assert issubclass(cupy.cuda.memory.OutOfMemoryError, MemoryError)
    assert issubclass(cupy.cuda.runtime.CUDARuntimeError, RuntimeError)


def signature(function):
    """Of a function, or as the first line of its documentation says it: compiled ones have no other."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        text = re.search(r"\((.*?)\)(?: ->.*)?$", function.__doc__.splitlines()[0])[1]
        names = [re.sub(r"^(?:[\w ]+ )?(\*{0,2}\w+|\*)(=.*)?$", r"\1\2", part.strip()) for part in text.split(",")]
        space: dict = {}
        exec(f"def f({', '.join(names)}): pass", space)
        return inspect.signature(space["f"])


@pytest.mark.parametrize("call", CALLS)
def test_calls_bind_to_cupys_signatures(cupy, call):
    function = cupy
    for name in call.split("."):
        function = getattr(function, name)
    n_positional, keywords = CALLS[call]
    own = "self" in signature(function).parameters
    signature(function).bind(*range(n_positional + own), **dict.fromkeys(keywords, 0))
