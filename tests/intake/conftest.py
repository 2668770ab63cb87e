"""Fixtures: an emulated device, and torch or its stand-in."""

from __future__ import annotations

import sys

import pytest

from tests.emulator import EmulatorDevice
from tests.emulator.testing import skip_without_compiler
from tests.support import torch_stand_in


@pytest.fixture
def device():
    skip_without_compiler()
    return EmulatorDevice()


@pytest.fixture(params=["stand-in", "real"])
def torch(request, monkeypatch):
    """torch on the host: a stand-in, and torch itself where it is installed."""
    if request.param == "real":
        return pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, "torch", torch_stand_in.module())
    return sys.modules["torch"]


@pytest.fixture
def tensors(monkeypatch):
    """Tensors on emulated devices."""
    monkeypatch.setitem(sys.modules, "torch", torch_stand_in.module())
    return torch_stand_in.Tensor
