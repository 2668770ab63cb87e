"""The probe for a usable GPU never raises, and explains what is missing."""

from __future__ import annotations

import pytest

from gpukmeans.backends.cuda.backend import CupyBackend
from tests.emulator import EmulatorDevice
from tests.emulator.testing import skip_without_compiler
from tests.support.cupy_stand_in import stand_in


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (None, "CuPy is not installed (pip install 'gpukmeans[cuda13]', or [cuda12])."),
        (
            ImportError("libcublas.so.13: no such file"),
            "could not be imported: ImportError: libcublas.so.13: no such file.",
        ),
        (ModuleNotFoundError("No module named 'cuda'", name="cuda"), "could not be imported: ModuleNotFoundError"),
        (
            PermissionError(13, "Permission denied", "/root/.cupy"),
            "Set CUPY_CACHE_DIR to a folder that can be written.",
        ),
        (RuntimeError("two CuPys\nat once"), "RuntimeError: two CuPys."),
        (SystemError(), "could not be imported: SystemError."),
    ],
)
def test_the_probe_never_raises(probing, error, words):
    found = probing(error)
    assert not found.usable
    assert words in found.reason
    assert found.device_name is None


def test_a_usable_device_is_recognised(probing):
    skip_without_compiler()
    found = probing(stand_in())
    assert found.usable
    assert found.device_name == "Stand-in GPU"
    assert found.versions == {"cupy": "14.2.0", "runtime": "13.2", "driver": "12.8"}
    assert found.reason == "Stand-in GPU (CuPy 14.2.0, CUDA 13.2)."
    assert CupyBackend().describe() == "Stand-in GPU, cupy 14.2.0, runtime 13.2, driver 12.8"


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ({"count": 0}, "the driver knows no CUDA device."),
        ({"is_hip": True}, "this CuPy is built for ROCm, not for CUDA."),
        (
            {"devices_error": RuntimeError("insufficient driver")},
            "no CUDA device answers: RuntimeError: insufficient driver.",
        ),
        ({"wrong": True}, "a trial kernel on Stand-in GPU gave a wrong result."),
        ({"device": EmulatorDevice}, "a trial on Stand-in GPU failed: MemoryError"),
    ],
)
def test_unusable_devices_are_explained(probing, trouble, words):
    skip_without_compiler()
    if "device" in trouble:
        trouble = {"device": EmulatorDevice(memory_limit=4)}
    found = probing(stand_in(**trouble))
    assert not found.usable
    assert words in found.reason
    assert found.versions["cupy"] == "14.2.0"
