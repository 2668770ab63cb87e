"""A fixture that probes for CuPy with a stand-in, or with an error, in its place."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from gpukmeans.backends.cuda.device import cupy_device
from gpukmeans.backends.cuda.device.probe import probe
from tests.support.cupy_stand_in import MissingCupy


@pytest.fixture
def probing(monkeypatch):
    """Call with a module (or an exception that importing CuPy raises, or None where it is not installed)."""

    def look(found):
        if isinstance(found, ModuleType):
            monkeypatch.setitem(sys.modules, "cupy", found)
        else:
            monkeypatch.delitem(sys.modules, "cupy", raising=False)
            monkeypatch.setattr(sys, "meta_path", [MissingCupy(found)])
        probe.cache_clear()
        cupy_device.cached_device.cache_clear()
        return probe()

    yield look
    probe.cache_clear()
    cupy_device.cached_device.cache_clear()
