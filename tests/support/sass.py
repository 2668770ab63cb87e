"""Machine code as nvdisasm shows it: the code that multiplies matrices, and what instructions it has.

nvdisasm is in the PyPI wheel `nvidia-cuda-nvdisasm`; it needs no GPU.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import os
import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.support.nvrtc_compiler import NvrtcUnavailable

_LABEL = re.compile(r"^\.(L_x_\d+|L_\w+):")
_INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?\s*([A-Z][\w.]*)([^;]*);")
PRODUCTS = {"HMMA", "IMMA"}  # of halves, of bytes
_TARGET = re.compile(r"`\(\.(L_\w+)\)")


@dataclass(frozen=True)
class Code:
    """The instructions of code that multiplies matrices, by the first part of their names."""

    counts: Counter[str]

    @property
    def multiplications(self) -> int:
        """Matrix products of one pass."""
        return self.counts["HMMA"] + self.counts["IMMA"]

    @property
    def instructions(self) -> float:
        """Instructions of all kinds for each matrix product."""
        return self.counts.total() / self.multiplications

    @property
    def moves(self) -> float:
        """Copies between registers for each matrix product."""
        return self.counts["MOV"] / self.multiplications


@functools.cache
def nvdisasm() -> Path:
    """The program.  Raises NvrtcUnavailable where it is not installed."""
    spec = importlib.util.find_spec("nvidia")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    found = sorted(file for folder in folders for file in folder.glob("*/bin/nvdisasm"))
    if not found:
        raise NvrtcUnavailable("nvdisasm is not installed; `pip install nvidia-cuda-nvdisasm` (5 MB, no GPU needed)")
    return found[-1]


def disassembly(cubin: bytes) -> str:
    """The machine code of a cubin, with labels."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        program = nvdisasm()
        if not os.access(program, os.X_OK):  # a wheel's data may have lost the permission
            program.chmod(0o755)
        return subprocess.run([program, "-c", file.name], capture_output=True, text=True, check=True).stdout


def _parsed(text: str) -> tuple[list[str], list[tuple[int, int]], list[int]]:
    """Names of the instructions, loops (the places of a jump back and its target), and where straight code ends."""
    labels: dict[str, int] = {}
    names: list[str] = []
    loops, ends = [], [0]
    for line in text.splitlines():
        if label := _LABEL.match(line):
            labels[label[1]] = len(names)
            ends.append(len(names))
        elif instruction := _INSTRUCTION.match(line):
            target = _TARGET.search(instruction[2])
            name = instruction[1]  # a move takes the unit of multiplications where that is idle
            names.append("MOV" if name.startswith("IMAD.MOV") else name.split(".")[0])
            if names[-1] == "BRA":
                ends.append(len(names))
                if target and target[1] in labels:
                    loops.append((labels[target[1]], len(names)))
    return names, loops, [*ends, len(names)]


def matrix_loops(text: str) -> list[Code]:
    """The innermost loops with matrix products: from a jump's target to the jump back, none such loop within."""
    names, loops, _ = _parsed(text)
    multiplying = [(a, b) for a, b in set(loops) if PRODUCTS & set(names[a:b])]
    inner = [(a, b) for a, b in multiplying if not any((c, d) != (a, b) and a <= c and d <= b for c, d in multiplying)]
    return [Code(Counter(names[a:b])) for a, b in sorted(inner)]


def most_products(text: str) -> Code:
    """The longest run of matrix products that no jump enters or leaves: what a loop does when nothing is missing."""
    names, _, ends = _parsed(text)
    runs = [Code(Counter(names[a:b])) for a, b in itertools.pairwise(ends)]
    return max(runs, key=lambda code: code.multiplications)
