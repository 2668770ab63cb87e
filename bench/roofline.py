"""Bytes and operations of an iteration beside what a GPU can do: ``python -m bench.roofline`` (``--check`` compares).

Writes the table of kernels/README.md, between ``<!-- roofline -->`` and ``<!-- /roofline -->``.  Nothing in it was
timed: it counts what the kernels read, write and multiply, from the same shapes that the backend launches them with,
and divides by the rates of a data sheet.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.machine import ROOT
from bench.workloads import WORKLOADS, Workload
from gpukmeans.arrays.on_device import BFLOAT16
from gpukmeans.backends.cuda import screen_tiles, tuning

#: NVIDIA H200 SXM by its data sheet: bytes a second of memory, half-precision operations a second on tensor cores.
BYTES_PER_SECOND, OPERATIONS_PER_SECOND = 4.8e12, 989e12
#: Of the latter, what mma.sync is said to reach on that architecture.
MMA_SYNC = 0.6
SHARED_BYTES = 227 * 1024  # that a block may have there
NAMES = (
    "mnist-k10",
    "mnist-uint8-k10",
    "mnist-k100",
    "mnist-k1000",
    "fit-1000000x64-k64-bfloat16",
    "fit-200000x256-k256-bfloat16",
    "fit-100000x512-k512-bfloat16",
    "assign-65536x1024-k4096-float16",
    "assign-1048576x128-k65536-float16",
    "fit-1000000x768-k1000-float32",
    "fit-1000000x768-k4000-float32",
    "blobs-10M-k16",
)
HEAD = (
    "| work | kernel | rows, MB | beside them, MB | centers from the second-level cache, MB | tensor operations, 1e9 "
    "| padding | memory alone, us | tensor cores alone, us | launches |\n|---|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Assignment:
    """One assignment of all rows, none of them skipped; bytes and operations."""

    kernel: str
    row_bytes: int
    list_bytes: int  # labels, limits (of groups, too), norms, lists: what is read and written beside the rows
    center_bytes: int  # of halves, read from the second-level cache
    operations: int
    padding: float  # operations on padded centers and columns over those that are needed
    launches: int  # of a whole iteration
    rate: float = 1.0  # of its operations over those on halves: twice as many on bytes


def assignment(w: Workload) -> Assignment:
    """What the backend would launch for a workload on an H200, and what that reads and multiplies."""
    (n, d), k = w.shape, w.n_clusters
    dtype = BFLOAT16 if w.dtype == "bfloat16" else np.dtype(w.dtype)
    columns = tuning.STEP_COLUMNS * tuning.n_steps(d, dtype)
    rate = 1.0
    if tuning.takes_limbs((n, d), dtype, True, k, (9, 0)):
        kernel, centers, rate = "nearest_of_few_bytes", tuning.LIMB_ROWS, 2.0  # three bytes of each center
        readings, lists, launches, passes = -(-n // 32), 8 + 4 + 4, 3, 1
    elif k <= tuning.FEW_CENTERS:
        kernel, centers = "nearest_of_few", tuning.TILE_CENTERS * tuning.few_tiles(k)
        readings, lists, launches, passes = -(-n // 16), 8 + 8 + 4, 3, 1
    else:
        kernel, centers = "nearest_of_many", -(-k // tuning.TILE_CENTERS) * tuning.TILE_CENTERS
        vector = tuning.is_vector(dtype, d, True)
        tile = screen_tiles.many_tile(dtype, n, d, vector, SHARED_BYTES)
        readings, lists, launches = -(-n // tile.BM), 8 + 4 + 4 + 8 + 4 + 4 * tile.n_groups, 6
        passes = -(-k // tile.BN) if tile.PANEL_STEPS else 1
    operations = 2 * n * centers * columns
    return Assignment(
        kernel,
        passes * n * d * dtype.itemsize,
        lists * n,
        int(readings * 2 / rate) * centers * columns,
        operations,
        operations / (2 * n * k * d),
        launches,
        rate,
    )


def table() -> str:
    """The table, in Markdown."""
    lines = [HEAD]
    for name in NAMES:
        w = WORKLOADS[name]
        a = assignment(w)
        memory = (a.row_bytes + a.list_bytes) / BYTES_PER_SECOND
        arithmetic = a.operations / (a.rate * OPERATIONS_PER_SECOND * MMA_SYNC)
        title = w.title.split(", at most")[0]
        megabytes = (f"{x / 1e6:.3g}" for x in (a.row_bytes, a.list_bytes, a.center_bytes))
        cells = [title, a.kernel, *megabytes]
        cells += [f"{a.operations / 1e9:.3g}", f"{a.padding:.2f}", f"{1e6 * memory:.3g}", f"{1e6 * arithmetic:.3g}"]
        lines.append("| " + " | ".join([*cells, str(a.launches)]) + " |")
    return "\n".join(lines)


def write_table(text: str) -> str:
    """The text with its table rewritten."""
    begin, end = "<!-- roofline -->", "<!-- /roofline -->"
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    return f"{head}{begin}\n{table()}\n{end}{tail}"


def main(argv: list[str] | None = None) -> int:
    """Rewrite kernels/README.md, or with ``--check`` return 1 where it does not match."""
    parser = argparse.ArgumentParser(prog="python -m bench.roofline", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the table is not up to date")
    options = parser.parse_args(argv)
    path: Path = ROOT / "kernels" / "README.md"
    before = path.read_text()
    after = write_table(before)
    if options.check:
        return int(before != after)
    path.write_text(after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
