"""Instructions of the kernels that multiply matrices: ``python -m bench.machine_code --out FILE.csv`` adds rows to it.

Counted in what NVRTC makes for one architecture, on any machine, with the wheels of the extra ``dev``; nothing is
timed.  A row is a kernel with one set of constants:

==============================  ====================================================================================
note, digest, nvrtc, arch       of what: words of your own, and a digest of ``kernels/``
kernel, constants, registers    registers of a thread
loop_products, loop_            matrix products of 16 x 8 x 16 (bytes: 32) in an innermost loop with products, and
instructions, loop_moves        all its instructions, of which copies between registers
step_products, ...              the same of the longest run of products without a jump
==============================  ====================================================================================
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.machine import source_digest
from gpukmeans.backends.cuda.device import nvrtc
from tests.support import nvrtc_compiler, sass

KERNELS = ("nearest_of_few", "nearest_of_few_bytes", "nearest_of_many", "candidates")


def counts(arch: int, note: str, kernels: Sequence[str] = KERNELS) -> Iterator[dict[str, object]]:
    """A row for each innermost loop with matrix products."""
    of_all = {"note": note, "digest": source_digest("kernels")}
    of_all |= {"nvrtc": ".".join(map(str, nvrtc_compiler.version())), "arch": arch}
    for file, constants in nvrtc.variants():
        if file not in kernels:
            continue
        source = nvrtc.source(file, constants)
        (row,) = nvrtc_compiler.resources(source, arch, nvrtc.OPTIONS, file=f"{file}.cu")
        text = sass.disassembly(nvrtc_compiler.compile_cubin(source, arch, nvrtc.OPTIONS, file=f"{file}.cu").cubin)
        own = " ".join(f"{key}={value}" for key, value in constants.items() if key != "CENTER")
        found: dict[str, object] = {**of_all, "kernel": file, "constants": own, "registers": row.registers}
        for loop in sass.matrix_loops(text):
            for what, code in (("loop", loop), ("step", sass.most_products(text))):
                found[f"{what}_products"] = code.multiplications
                found[f"{what}_instructions"] = code.counts.total()
                found[f"{what}_moves"] = code.counts["MOV"]
            yield found


def main(argv: list[str] | None = None) -> int:
    """Count, and add the rows to a file."""
    parser = argparse.ArgumentParser(prog="python -m bench.machine_code", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--note", default="", help="what these kernels are")
    parser.add_argument("--arch", type=int, default=90, help="compute capability times ten")
    parser.add_argument("--kernels", nargs="+", choices=KERNELS, default=KERNELS, help="which; all by default")
    options = parser.parse_args(argv)
    rows = list(counts(options.arch, options.note, options.kernels))
    new = not options.out.exists()
    with options.out.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
