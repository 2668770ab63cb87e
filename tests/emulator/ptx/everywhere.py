"""A plugin of pytest: the emulator runs the PTX that NVRTC makes of each kernel, in every test.

    python -m pytest -p tests.emulator.ptx.everywhere tests/kernels tests/laws/test_same_bits.py

Tests of the emulator itself are not for it, nor those that look for a message with a line of a source.
"""

from __future__ import annotations

from ..device import EmulatorDevice
from ..module import Launch, Module
from .device import PtxDevice


def _load(device: EmulatorDevice, file: str, text: str) -> Module:
    device.launch = Launch(device.launch.order, device.launch.seed)  # PTX says where subnormals are flushed
    return PtxDevice._load(device, file, text)  # type: ignore[arg-type]


EmulatorDevice._load = _load  # type: ignore[method-assign]
EmulatorDevice.options = ()  # type: ignore[attr-defined]
