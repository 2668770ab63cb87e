"""NVRTC without a GPU: compile kernels for any architecture and read what ptxas says about them.

Calls libnvrtc by ctypes, from the PyPI wheel `nvidia-cuda-nvrtc` (no driver, no CuPy, no toolkit).  The emulator proves
what a kernel computes; this proves that NVRTC accepts it, that it fits, and that nothing spills from registers.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.emulator.build import cache_folder, content_hash, locked

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
    files = [file for folder in folders for file in folder.glob("*/lib/libnvrtc.so.*[0-9]")]
    return sorted(files, key=lambda file: [int(part) for part in file.name.split(".")[2:]])


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


def skip_without_nvrtc() -> None:
    """Skip the running test (or module), with the reason, where there is no NVRTC."""
    try:
        require_nvrtc()
    except NvrtcUnavailable as error:
        pytest.skip(str(error))


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


@dataclass(frozen=True)
class Compiled:
    """What NVRTC makes (machine code or PTX), and what it and ptxas said."""

    output: bytes
    log: str

    @property
    def cubin(self) -> bytes:
        """The machine code."""
        return self.output


def compile_cubin(source: str, arch: int, options: Sequence[str] = (), *, file: str = "kernel.cu") -> Compiled:
    """Compile to machine code with the options CuPy would use, each content once: test workers share the cache.

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
    options = [*options, *CUPY_OPTIONS, f"-arch=sm_{arch}", "--ptxas-options=-v"]
    return _compiled(source, file, "CUBIN", options)


def compile_ptx(source: str, arch: int, options: Sequence[str] = (), *, file: str = "kernel.cu") -> str:
    """Compile to PTX for compute_`arch`, as `compile_cubin` does to machine code."""
    options = [*options, *CUPY_OPTIONS, f"-arch=compute_{arch}"]
    return _compiled(source, file, "PTX", options).output.rstrip(b"\0").decode()


def _compiled(source: str, file: str, kind: str, options: Sequence[str]) -> Compiled:
    """What NVRTC makes of a source, from the cache if it is there; `kind` is CUBIN or PTX."""
    stem = cache_folder() / f"nvrtc-{content_hash(version(), _library()._name, file, source, *options)}"
    output, log = stem.with_suffix(f".{kind.lower()}"), stem.with_suffix(".log")
    if not log.exists():  # it is written last
        with locked(stem.with_suffix(".lock")):
            if not log.exists():
                compiled = _compile(source, file, kind, options)
                for path, content in ((output, compiled.output), (log, compiled.log.encode())):
                    temporary = path.with_name(f"{path.name}.{os.getpid()}")
                    temporary.write_bytes(content)
                    os.replace(temporary, path)
    return Compiled(output.read_bytes(), log.read_text())


def _compile(source: str, file: str, kind: str, options: Sequence[str]) -> Compiled:
    library = _library()
    program = ctypes.c_void_p()
    _check(library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), file.encode(), 0, None, None))
    try:
        encoded = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        code = library.nvrtcCompileProgram(program, len(options), encoded)
        log = _program_log(program)
        if code:
            raise NvrtcError(f"{file} does not compile with {' '.join(options)}:\n{log}")
        size = ctypes.c_size_t()
        _check(getattr(library, f"nvrtcGet{kind}Size")(program, ctypes.byref(size)))
        output = ctypes.create_string_buffer(size.value)
        _check(getattr(library, f"nvrtcGet{kind}")(program, output))
        return Compiled(output.raw, log)
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def instructions(cubin: bytes) -> dict[str, bytes]:
    """The machine code of every kernel in a cubin (64-bit ELF, little endian), without the notes around it."""
    table_offset = struct.unpack_from("<Q", cubin, 0x28)[0]
    entry_size, count, names_index = struct.unpack_from("<HHH", cubin, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", cubin, table_offset + i * entry_size) for i in range(count)]
    names = sections[names_index][4]
    code = {}
    for name_offset, _, _, _, offset, size, *_ in sections:
        start = names + name_offset
        name = cubin[start : cubin.index(b"\0", start)].decode()
        if name.startswith(".text."):
            code[name.removeprefix(".text.")] = cubin[offset : offset + size]
    return code


_ENTRY = re.compile(r"Compiling entry function '(\w+)' for 'sm_")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


def resources(source: str, arch: int, options: Sequence[str] = (), *, file: str = "kernel.cu") -> list[KernelResources]:
    """Compile, and return one row per kernel of the source.

    Raises NvrtcError where the source does not compile, or where the log's format is not the known one.
    """
    log = compile_cubin(source, arch, options, file=file).log
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
    """Registers per kernel and architecture, as a Markdown table: the most of all its variants, spills marked."""
    arches = sorted({row.arch for row in rows})
    lines = ["| kernel | " + " | ".join(f"sm_{arch}" for arch in arches) + " | shared bytes |"]
    lines.append("|---" * (len(arches) + 2) + "|")
    for kernel in dict.fromkeys(row.kernel for row in rows):
        own = [row for row in rows if row.kernel == kernel]
        cells = []
        for arch in arches:
            here = [row for row in own if row.arch == arch]
            most = str(max((row.registers for row in here), default=""))
            cells.append(f"{most} (spills)" if any(row.spills for row in here) else most)
        lines.append(f"| {kernel} | " + " | ".join(cells) + f" | {max(row.shared for row in own)} |")
    return "\n".join(lines)


def package_rows(architectures: Sequence[int] = ARCHITECTURES) -> list[KernelResources]:
    """Every kernel of the package, with every set of constants it uses, on every architecture."""
    from gpukmeans.backends.cuda.device import nvrtc

    return [
        row
        for file, constants in nvrtc.variants()
        for arch in architectures
        for row in resources(nvrtc.source(file, constants), arch, nvrtc.OPTIONS, file=f"{file}.cu")
    ]


if __name__ == "__main__":  # python -m tests.support.nvrtc_compiler
    print(table(package_rows()))
