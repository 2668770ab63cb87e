"""The emulated device that runs the PTX which NVRTC makes of the kernels, in place of their sources."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from gpukmeans.backends.cuda.device.nvrtc import OPTIONS
from tests.support.nvrtc_compiler import compile_ptx, require_nvrtc

from ..device import EmulatorDevice
from ..module import Module, load
from .writer import translate


class PtxDevice(EmulatorDevice):
    """An `EmulatorDevice` that compiles each kernel by NVRTC to PTX, and runs that.

    Subnormals are flushed where the PTX says so: `flush_subnormals` cannot be chosen.

    Parameters
    ----------
    options : sequence of str, default=()
        Of NVRTC, beside those of the package and of CuPy.
    **chosen
        As of `EmulatorDevice`.

    Raises
    ------
    NvrtcUnavailable
        Where there is no NVRTC.
    """

    name = "CUDA emulator, running PTX"

    def __init__(self, *, options: Sequence[str] = (), **chosen: Any):
        if "flush_subnormals" in chosen:
            raise TypeError("flush_subnormals is not for a PtxDevice: PTX says by .ftz where subnormals are flushed")
        require_nvrtc()
        super().__init__(**chosen)
        self.options = tuple(options)

    def _load(self, file: str, text: str) -> Module:
        return load(f"{file}.ptx", translated(file, text, self.arch, self.options), self.mode, self.arch, "ptx.h")


@functools.cache
def translated(file: str, text: str, arch: int, options: tuple[str, ...] = ()) -> str:
    """C++ of the PTX that NVRTC makes of a source; `arch` is given as __CUDA_ARCH__."""
    ptx = compile_ptx(text, arch // 10, (*OPTIONS, *options), file=f"{file}.cu")
    return translate(ptx, f"{file}.ptx")
