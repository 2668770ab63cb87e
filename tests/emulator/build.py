"""Compile the run time and the kernels with g++, each content once, into a cache outside the repository.

A cached object's name is the hash of everything that made it: sources, headers, flags, compiler and processor.
Parallel test workers share the cache: a lock per object lets one compile while the others wait for it.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

CUDA = Path(__file__).resolve().parent / "cuda"
RUNTIME = CUDA / "runtime"

# -ffp-contract=off always: a * b + c rounds twice and fma happens where it is written, as on the GPU with -fmad=false.
# -g1: lines and inlined calls, which messages need; without variables, which take a quarter of the compiler's time.
COMMON_FLAGS = ("-std=c++17", "-g1", "-fPIC", "-ffp-contract=off")
KERNEL_FLAGS = (
    *COMMON_FLAGS,
    "-fvisibility=hidden",
    "-fno-gnu-unique",
    "-fno-exceptions",
    "-Werror=uninitialized",  # the run cannot see a local variable that was never set
    "-Werror=return-type",
)
MODE_FLAGS = {
    "fast": ("-Og",),  # compiles in half of -O1's time; most of a launch is switches, in the run time
    "check": (
        "-Og",  # compiles in three quarters of -O1's time, and its code is as fast when watched
        "-fsanitize=thread",
        "--param=tsan-instrument-func-entry-exit=0",
        "--param=tsan-distinguish-volatile=1",
        "-fsanitize=bounds-strict,alignment,shift,integer-divide-by-zero,signed-integer-overflow,float-cast-overflow",
    ),
}


class EmulatorUnavailable(RuntimeError):
    """This machine cannot compile kernels for its CPU; the message says why."""


class EmulatorError(RuntimeError):
    """A kernel does not compile, was launched wrongly, or did something wrong."""


def _run(command: Iterable[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(command), capture_output=True, text=True, check=False)


@functools.cache
def compiler() -> str:
    """The C++ compiler: $CXX or g++.  Raises EmulatorUnavailable where it is missing or is not GCC."""
    if platform.system() != "Linux" or platform.machine() not in ("x86_64", "aarch64"):
        raise EmulatorUnavailable(
            f"the CUDA emulator runs on Linux, x86_64 and aarch64; this is {platform.system()} on {platform.machine()}"
        )
    name = os.environ.get("CXX", "g++")
    path = shutil.which(name)
    if path is None:
        raise EmulatorUnavailable(
            f"the CUDA emulator needs GCC's C++ compiler, and {name!r} was not found; install g++ or set CXX"
        )
    version = _run([path, "--version"]).stdout
    if "Free Software Foundation" not in version:
        raise EmulatorUnavailable(
            f"the CUDA emulator needs GCC (10 or later), and {name!r} is {version.splitlines()[:1]}; set CXX=g++"
        )
    return path


def require_compiler() -> None:
    """Raise EmulatorUnavailable, with the reason, unless kernels can be compiled here."""
    compiler()


@functools.cache
def _compiler_identity() -> str:
    return "\n".join(_run([compiler(), *flags]).stdout for flags in (["--version"], ["-dumpmachine"]))


@functools.cache
def _native_flags() -> tuple[str, ...]:
    """-march=native where it works: fmaf becomes an instruction instead of a call, ten times faster."""
    probe = subprocess.run(
        [compiler(), "-march=native", "-x", "c++", "-E", "-", "-o", os.devnull],
        input="",
        capture_output=True,
        text=True,
        check=False,
    )
    return ("-march=native",) if probe.returncode == 0 else ()


@functools.cache
def _processor() -> str:
    """What -march=native may depend on: a cache folder can be shared between machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))


@functools.cache
def cache_folder() -> Path:
    """$GPUKMEANS_EMULATOR_CACHE, or the user's cache folder, or a private folder among the temporary files."""
    chosen = os.environ.get("GPUKMEANS_EMULATOR_CACHE")
    if chosen:
        candidates = [Path(chosen)]
    else:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        candidates = [
            home / "gpukmeans" / "emulator",
            Path(tempfile.gettempdir()) / f"gpukmeans-emulator-{os.getuid()}",
        ]
    for folder in candidates:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            continue
        # Objects found here are loaded into the process: other users must not be able to put one there.
        if os.access(folder, os.W_OK) and folder.stat().st_uid == os.getuid():
            return folder
    raise EmulatorUnavailable(
        f"no writable folder for compiled kernels among {', '.join(map(str, candidates))}; "
        "set GPUKMEANS_EMULATOR_CACHE to one"
    )


def content_hash(*parts: object) -> str:
    """Twenty hexadecimal digits that stand for all the parts."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:20]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`: other processes that want it wait."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _compile(name: str, make: list[list[str]], output: Path, prepare: Callable[[], None] = lambda: None) -> Path:
    """Prepare and run the commands unless their output is there; the last one writes to its temporary name."""
    if output.exists():
        return output
    with locked(output.with_suffix(".lock")):
        if output.exists():
            return output
        prepare()
        temporary = output.with_suffix(".tmp")
        for command in make:
            done = _run(str(temporary) if word == "{out}" else word for word in command)
            if done.returncode:
                raise EmulatorError(f"{name} does not compile for the emulator:\n{done.stderr}")
        os.replace(temporary, output)
    return output


def _headers() -> str:
    return "".join(path.read_text() for path in sorted(CUDA.glob("*.h")))


def build_runtime() -> Path:
    """The shared object with fibers, scheduler, detector and guarded memory."""
    command = [
        compiler(),
        *COMMON_FLAGS,
        "-O2",
        "-Wall",
        "-Wextra",
        "-fvisibility=hidden",
        "-shared",
        str(RUNTIME / "all.cpp"),
        "-ldl",
        "-o",
        "{out}",
    ]
    text = "".join(path.read_text() for path in sorted(RUNTIME.iterdir()) if path.is_file())
    key = content_hash(text, _headers(), _compiler_identity(), command[1:])
    return _compile("the emulator's run time", [command], cache_folder() / f"runtime-{key}.so")


# After the preprocessor: __global__ and __launch_bounds__ are these marks, __shared__ is static (cuda/vocabulary.h).
_KERNEL = re.compile(r'extern\s+"C"\s+CUEMU_GLOBAL\b')
_EXTERN_SHARED = re.compile(
    r"extern\s+static\s+(?:(?:__attribute__\s*\(\(aligned\(\w+\)\)\)|alignas\s*\(\w+\))\s*)?"
    r"([\w\s:]+?)\s+(\w+)\s*\[\s*\]\s*;"
)


def _balanced(text: str, start: int) -> int:
    """The index after the parenthesis that closes the one at `start`."""
    depth = 0
    for index in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[index], 0)
        if depth == 0:
            return index + 1
    raise EmulatorError(f"unbalanced parentheses after {text[start : start + 60]!r}")


def _find_kernels(text: str) -> dict[str, str]:
    """The extern "C" kernels of a preprocessed text, each with its __launch_bounds__ expression ("1024" if none)."""
    kernels = {}
    for match in _KERNEL.finditer(text):
        at, bound = match.end(), "1024"
        while word := re.compile(r"\s*(\w+)\s*").match(text, at):
            at = word.end()
            if word[1] == "CUEMU_BOUNDS":
                end = _balanced(text, at)
                bound, at = text[at + 1 : end - 1], end
            elif word[1] != "void":
                kernels[word[1]] = bound
                break
    return kernels


def _unit(file: str, text: str, flags: list[str], header: str) -> str:
    """Plain C++: the preprocessed text without CUDA's marks, and the exports of its kernels."""
    source = f'#line 1 "{file}"\n{text}\n'
    command = [compiler(), *flags, "-include", str(CUDA / header), "-E", "-x", "c++", "-"]
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EmulatorError(f"{file} does not pass the emulator's preprocessor:\n{done.stderr}")
    body = done.stdout
    kernels = _find_kernels(body)
    body = re.sub(r"\bCUEMU_GLOBAL\b", "", body)
    while mark := re.search(r"\bCUEMU_BOUNDS\s*(?=\()", body):
        body = body[: mark.start()] + body[_balanced(body, mark.end()) :]
    body = _EXTERN_SHARED.sub(r"\1* const \2 = reinterpret_cast<\1*>(::cuemu::dynamic_shared);", body)
    exports = [f"CUEMU_EXPORT({name}, {bound})" for name, bound in sorted(kernels.items())]
    names = " ".join(sorted(kernels))
    return "\n".join([body, '# 1 "exports"', *exports, f'CUEMU_MODULE("{names}")', ""])


def build_kernels(file: str, text: str, mode: str, arch: int, header: str = "kernel.h") -> Path:
    """The shared object with all extern "C" kernels of one source text.

    Parameters
    ----------
    file : str
        What messages call the source; a #line directive in the text overrides it.
    text : str
        CUDA C++, headers inlined.
    mode : {"fast", "check"}
        Optimised, or watched.
    arch : int
        Compute capability times ten, e.g. 900: the kernel's __CUDA_ARCH__.
    header : str
        Of the folder cuda: what the text includes.
    """
    if mode not in MODE_FLAGS:
        raise ValueError(f"mode={mode!r} should be one of {', '.join(MODE_FLAGS)}")
    flags = [*KERNEL_FLAGS, *MODE_FLAGS[mode], *_native_flags(), f"-D__CUDA_ARCH__={arch}"]
    own = Path(__file__).read_text()
    key = content_hash(file, text, header, _headers(), own, _compiler_identity(), _processor(), flags)
    stem = cache_folder() / f"{Path(file).stem}-{mode}-{key}"
    output, unit, compiled = (stem.with_suffix(suffix) for suffix in (".so", ".cpp", ".o"))

    def write_unit() -> None:
        unit.write_text(_unit(file, text, flags, header))

    # No -fsanitize at the link: the run time answers the instrumentation's calls.  No libraries: the process has them.
    make = [
        [compiler(), *flags, "-include", str(CUDA / "export_macros.h"), "-c", str(unit), "-o", str(compiled)],
        [compiler(), "-shared", "-nostdlib", str(compiled), "-o", "{out}"],
    ]
    _compile(file, make, output, write_unit)
    compiled.unlink(missing_ok=True)
    return output


def resolve_places(message: str) -> str:
    """Replace the run time's {object+offset} by file:line, where binutils' addr2line is installed."""

    def place(match: re.Match[str]) -> str:
        if shutil.which("addr2line") is None:
            return match[0]
        found = _run(["addr2line", "-i", "-e", match[1], match[2]]).stdout.splitlines()
        # Innermost first: skip the emulator's own inlined headers, the caller is the kernel.
        lines = [line.split(" ")[0] for line in found if not line.startswith(str(CUDA))]
        return os.path.basename(lines[0]) if lines else match[0]

    return re.sub(r"\{([^{}+]+)\+(0x[0-9a-f]+)\}", place, message)
