"""NVRTC without a GPU: compile kernels for any architecture and read what ptxas says about them.

Calls libnvrtc by ctypes, from the PyPI wheel `nvidia-cuda-nvrtc` (no driver, no CuPy, no toolkit).  The emulator proves
what a kernel computes; this proves that NVRTC accepts it, that it fits, and that nothing spills from registers.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)

# What cupy.RawModule adds to a module's own options (CuPy 14.2, cupy/cuda/compiler.py; -arch=sm_XX gives a cubin).
CUPY_OPTIONS = ("-ftz=true", "--device-as-default-execution-space")


class NvrtcUnavailable(RuntimeError):
    """There is no NVRTC library here; the message says what to install."""


class NvrtcError(RuntimeError):
    """A source does not compile; the message is NVRTC's log, with file and line."""


@dataclass(frozen=True)
class KernelResources:
    """What one kernel takes on one architecture, per thread (registers, stack, spills) or block (shared)."""

    file: str
    kernel: str
    arch: int
    registers: int
    stack: int
    spill_stores: int
    spill_loads: int
    shared: int

    @property
    def spills(self) -> bool:
        """Whether registers spill to memory."""
        return bool(self.spill_stores or self.spill_loads)


def _library_files() -> list[Path]:
    spec = importlib.util.find_spec("nvidia")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    return sorted(file for folder in folders for file in folder.glob("*/lib/libnvrtc.so.*[0-9]"))


@functools.cache
def _library() -> ctypes.CDLL:
    files = _library_files()
    if not files:
        raise NvrtcUnavailable("NVRTC is not installed; `pip install nvidia-cuda-nvrtc` (58 MB, no GPU needed)")
    newest = files[-1]
    for builtins in newest.parent.glob("libnvrtc-builtins.so.*"):
        ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)  # libnvrtc opens it by its bare name
    library = ctypes.CDLL(str(newest))
    library.nvrtcGetErrorString.restype = ctypes.c_char_p
    return library


@functools.cache
def version() -> tuple[int, int]:
    """NVRTC's version, (major, minor).  Raises NvrtcUnavailable where there is none."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _check(_library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
    return major.value, minor.value


def require_nvrtc() -> None:
    """Raise NvrtcUnavailable, with the reason, unless kernels can be compiled here."""
    version()


def _check(code: int) -> None:
    if code:
        raise NvrtcError(_library().nvrtcGetErrorString(code).decode())


def _program_log(program: ctypes.c_void_p) -> str:
    library = _library()
    size = ctypes.c_size_t()
    _check(library.nvrtcGetProgramLogSize(program, ctypes.byref(size)))
    log = ctypes.create_string_buffer(size.value)
    _check(library.nvrtcGetProgramLog(program, log))
    return log.value.decode(errors="replace")


def compile_cubin(source: str, arch: int, options: Sequence[str] = (), *, file: str = "kernel.cu") -> str:
    """Compile to machine code with the options CuPy would use; return the log, ptxas' figures included.

    Parameters
    ----------
    source : str
        CUDA C++, headers inlined.
    arch : int
        E.g. 90 for sm_90.
    options : sequence of str
        The module's own options.
    file : str
        What messages call the source.

    Raises
    ------
    NvrtcError
        With NVRTC's log, which names file and line.
    """
    library = _library()
    program = ctypes.c_void_p()
    _check(library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), file.encode(), 0, None, None))
    try:
        every = [*options, *CUPY_OPTIONS, f"-arch=sm_{arch}", "--ptxas-options=-v"]
        encoded = (ctypes.c_char_p * len(every))(*(option.encode() for option in every))
        code = library.nvrtcCompileProgram(program, len(every), encoded)
        log = _program_log(program)
        if code:
            raise NvrtcError(f"{file} does not compile for sm_{arch} with {' '.join(every)}:\n{log}")
        return log
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


_ENTRY = re.compile(r"Compiling entry function '(\w+)' for 'sm_")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


def resources(source: str, arch: int, options: Sequence[str] = (), *, file: str = "kernel.cu") -> list[KernelResources]:
    """Compile, and return one row per kernel of the source.

    Raises NvrtcError where the source does not compile, or where the log's format is not the known one.
    """
    log = compile_cubin(source, arch, options, file=file)
    rows = []
    starts = list(_ENTRY.finditer(log))
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        part = log[start.end() : following.start() if following else len(log)]
        stack, used, shared = _STACK.search(part), _USED.search(part), _SHARED.search(part)
        if not stack or not used:
            raise NvrtcError(f"{file}, sm_{arch}: ptxas' figures for {start[1]} were not understood:\n{log}")
        frame, stores, loads = (int(number) for number in stack.groups())
        smem = int(shared[1]) if shared else 0
        rows.append(KernelResources(file, start[1], arch, int(used[1]), frame, stores, loads, smem))
    if not rows:
        raise NvrtcError(f'{file}, sm_{arch}: the log names no kernel; is it extern "C" __global__?\n{log}')
    return rows


def table(rows: Sequence[KernelResources]) -> str:
    """Registers (and shared bytes) per kernel and architecture, as a Markdown table; a spill is marked."""
    arches = sorted({row.arch for row in rows})
    kernels: dict[tuple[str, str], dict[int, KernelResources]] = {}
    for row in rows:
        kernels.setdefault((row.file, row.kernel), {})[row.arch] = row
    lines = ["| kernel | " + " | ".join(f"sm_{arch}" for arch in arches) + " | shared |"]
    lines.append("|---" * (len(arches) + 2) + "|")
    for (file, kernel), found in kernels.items():
        cells = [f"{found[a].registers}{' spills' if found[a].spills else ''}" if a in found else "" for a in arches]
        shared = max(row.shared for row in found.values())
        lines.append(f"| {kernel} ({file}) | " + " | ".join(cells) + f" | {shared} |")
    return "\n".join(lines)
