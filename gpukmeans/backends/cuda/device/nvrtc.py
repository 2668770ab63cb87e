"""Kernel sources: kernels/<file>.cu with its headers inlined and its constants in front, ready for NVRTC.

Headers are inlined because the key of CuPy's kernel cache does not include the contents of included files.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path

from gpukmeans.backends.cuda import screen_tiles, tuning

#: CuPy adds -ftz=true, which no option here can revert: kernels/ptx.cuh keeps subnormals where they matter.
#: -fmad=false: x * y + z rounds twice, as in NumPy; where one rounding is meant, fma is written.
OPTIONS = ("--std=c++17", "-fmad=false")

_INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"\s*$')
_ONCE = re.compile(r"^\s*#\s*pragma\s+once\s*$")


@functools.cache
def kernels_folder() -> Path:
    """Where the .cu files are: inside an installed package, or beside it in a checkout or editable install."""
    package = Path(__file__).resolve().parents[3]
    for folder in (package / "kernels", package.parent / "kernels"):
        if (folder / "common.cuh").is_file():
            return folder
    raise FileNotFoundError(f"The CUDA sources are in neither {package / 'kernels'} nor {package.parent / 'kernels'}.")


def source(file: str, constants: Mapping[str, int | str]) -> str:
    """The text of kernels/<file>.cu as it is compiled.

    Parameters
    ----------
    file : str
        Without the extension.
    constants : mapping
        Becomes ``#define`` lines in front.
    """
    defines = "".join(f"#define {name} {value}\n" for name, value in constants.items())
    return defines + _inlined(f"{file}.cu")


@functools.cache
def _inlined(name: str) -> str:
    return "\n".join(_lines(name, set())) + "\n"


def _lines(name: str, seen: set[str]) -> list[str]:
    """The lines of a source with its headers inlined, each once; #line keeps line numbers of messages correct."""
    seen.add(name)
    lines = [f'#line 1 "{name}"']
    for number, line in enumerate((kernels_folder() / name).read_text(encoding="utf-8").splitlines(), 1):
        include = _INCLUDE.match(line)
        if include and include[1] in seen:
            lines.append("")
        elif include:
            lines += [*_lines(include[1], seen), f'#line {number + 1} "{name}"']
        else:
            lines.append("" if _ONCE.match(line) else line)
    return lines


def variants() -> list[tuple[str, tuning.Constants]]:
    """Every kernel (its file and its function have one name) with every set of constants that the backend uses."""
    return [*tuning.variants(), *screen_tiles.variants()]
