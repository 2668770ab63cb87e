"""Whether a CUDA device can be used on this machine, determined by a trial."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, field

import numpy as np

from gpukmeans.backends.cuda.device.cupy_device import cached_device, current_device
from gpukmeans.backends.cuda.device.seam import error_sentence


@dataclass(frozen=True)
class Probe:
    """The result of `probe`.

    Attributes
    ----------
    usable : bool
    reason : str
        Why the device is usable or not: a sentence.
    device_name : str or None
    versions : dict
        Of CuPy, the CUDA runtime and the driver, as far as they could be found.
    """

    usable: bool
    reason: str
    device_name: str | None = None
    versions: dict[str, str] = field(default_factory=dict)


@functools.cache
def probe() -> Probe:
    """Try CuPy, a device, an allocation and a kernel; the result says what failed.  Never raises."""
    versions: dict[str, str] = {}
    if _forked_after_cuda:
        return Probe(False, "CUDA was in use before this process was forked; start processes with 'spawn' instead.")
    try:
        import cupy

        versions["cupy"] = str(cupy.__version__)
    except ModuleNotFoundError as error:
        if error.name == "cupy":
            return Probe(False, "CuPy is not installed (pip install 'gpukmeans[cuda13]', or [cuda12]).")
        return Probe(False, f"CuPy could not be imported: {error_sentence(error)}")
    except Exception as error:  # an unwritable HOME, a missing library, two CuPys at once: anything
        return Probe(False, f"CuPy could not be imported: {error_sentence(error)}{_hint(error)}", None, versions)
    name = None
    step = "no CUDA device answers"
    try:
        runtime = cupy.cuda.runtime
        if runtime.is_hip:
            return Probe(False, "this CuPy is built for ROCm, not for CUDA.", None, versions)
        if runtime.getDeviceCount() == 0:
            return Probe(False, "the driver knows no CUDA device.", None, versions)
        versions["runtime"] = _version(runtime.runtimeGetVersion())
        versions["driver"] = _version(runtime.driverGetVersion())
        device = current_device()
        name = device.name
        step = f"a trial on {name} failed"
        row, copy = device.upload(np.full((1, 1), 7, np.float32)), device.upload(np.zeros((1, 1), np.float32))
        kernel = device.kernel("gather_rows", "gather_rows", {"ROW": "float"})
        first = device.upload(np.zeros(1, np.int32))
        kernel(1, 256, (row, first, np.int64(0), np.int64(1), np.int32(1), copy))
        if device.download(copy)[0, 0] != 7:
            return Probe(False, f"a trial kernel on {name} gave a wrong result.", name, versions)
    except Exception as error:
        return Probe(False, f"{step}: {error_sentence(error)}{_hint(error)}", name, versions)
    return Probe(True, f"{name} (CuPy {versions['cupy']}, CUDA {versions['runtime']}).", name, versions)


_forked_after_cuda = False


def _after_fork() -> None:
    """Called in a forked child, which must not use CUDA if its parent has."""
    global _forked_after_cuda
    _forked_after_cuda = _forked_after_cuda or cached_device.cache_info().currsize > 0
    probe.cache_clear()
    cached_device.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _hint(error: Exception) -> str:
    """What to do about an OSError: CuPy keeps compiled kernels in a folder below HOME, which may be unwritable."""
    return " Set CUPY_CACHE_DIR to a folder that can be written." if isinstance(error, OSError) else ""


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
