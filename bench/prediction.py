"""What an assignment will take on an H200, by counting: ``python -m bench.prediction --out FILE.json``.

Written before any run on a GPU, to be compared with the first one.  Instructions are counted in the machine code that
NVRTC makes for sm_90, bytes and tensor products as in `bench.roofline`.  For each kernel

    time = max(memory, second-level cache, waves * max(tensor + issue, shared memory))

where `memory` and `cache` are bytes over what can be reached of either, `shared memory` the bytes of operands from
there, or from the first-level cache, over 128 a clock, `tensor` the products over what can be reached of the tensor
cores, `issue` all other instructions over four a clock (a warp does not compare while it multiplies, so the two are
added; `overlapped` is the time if warps fill each other's gaps), and `waves` the whole waves of blocks over the waves.
Nothing is fitted: the rates are those of data sheets and of published measurements, named beside each.  ``PEERS`` are
published times of other people's kernels, by the same formula.

What is counted of nearest_of_few.cu, for 16 rows of a warp (of nearest_of_few_bytes.cu for 32): its loop of products,
by the products; and once all between it and the next loop, and before it.  Of nearest_of_many.cu, for a tile: a
straight run of products and what surrounds it, by the steps; the moves by which sums start; and the comparison, most of
which is left out if no score of 8 rows beats their second best so far, which one of t tiles in random order does with
probability 2 / t a row.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bench import roofline
from bench.machine import source_digest
from bench.results import write_json
from bench.workloads import Workload, workloads_of
from gpukmeans.arrays.on_device import BFLOAT16
from gpukmeans.backends.cuda import screen_tiles, tuning
from gpukmeans.backends.cuda.device import nvrtc
from tests.support import nvrtc_compiler, sass

ARCH = 90
MULTIPROCESSORS, CLOCK = 132, 1.755e9  # NVIDIA H100 and H200 SXM: data sheet, base clock under load
MEMORY = 4.3e12  # bytes a second that a copy reaches on an H200 of 4.8e12 (published, as the next)
TENSOR = 790e12  # operations a second that a matrix product in bf16 reaches there of 989e12
CACHE = 5.5e12  # bytes a second of an H100's second-level cache (Chips and Cheese, "Nvidia's H100", 2023)
MMA_SYNC = roofline.MMA_SYNC * roofline.OPERATIONS_PER_SECOND
SHARED = 128.0  # bytes a clock and multiprocessor (CUDA C++ programming guide)
ISSUE = 4.0  # warp instructions a clock and multiprocessor
PRODUCT = 2.0 * 16 * 8 * 16  # operations of a tensor product
REGISTERS, UNIT, WARPS = 65536, 256, 64  # of a multiprocessor; registers are given in units, to a warp
COMPARE = 4.0  # instructions by which a peer compares a score: multiply-add, comparison, two selections


@dataclass(frozen=True)
class Counts:
    """Of a launch."""

    memory: float  # bytes
    cache: float  # bytes
    operations: float  # of tensor products; two on bytes take as long as one on halves
    instructions: float  # of warps, all but those products
    shared: float  # bytes of shared memory and of the first-level cache, which are one
    waves: float = 1.0  # whole waves over waves

    def seconds(self, tensor_rate: float = MMA_SYNC) -> dict[str, float]:
        """Each part, their combination, and that with products and instructions overlapped."""
        parts = {
            "memory": self.memory / MEMORY,
            "cache": self.cache / CACHE,
            "tensor": self.operations / tensor_rate,
            "issue": self.instructions / (MULTIPROCESSORS * CLOCK * ISSUE),
            "shared": self.shared / (MULTIPROCESSORS * CLOCK * SHARED),
        }
        elsewhere = max(parts["memory"], parts["cache"])
        in_turn = self.waves * max(parts["tensor"] + parts["issue"], parts["shared"])
        overlapped = self.waves * max(parts["tensor"], parts["issue"], parts["shared"])
        return {**parts, "time": max(elsewhere, in_turn), "overlapped": max(elsewhere, overlapped)}


#: Published times of assignments in seconds on an H200 (flash-kmeans, branch fa3, its README of benchmarks; FlashLib's
#: kernels for Hopper, the last one in Triton): n, d, k, bytes of an element.
PEERS = {
    "FlashLib 10M x 128, k=20000, bf16": (10_000_000, 128, 20_000, 2, 108.8e-3),
    "FlashLib 10M x 256, k=65536, bf16": (10_000_000, 256, 65_536, 2, 620e-3),
    "FlashLib 1.05M x 128, k=65536, fp16": (1_048_576, 128, 65_536, 2, 35.1e-3),
    "flash-kmeans 65536 x 1024, k=4096, fp16": (65_536, 1024, 4096, 2, 0.943e-3),
}


def of_peer(n: int, d: int, k: int, size: int) -> Counts:
    """A kernel that reads rows once, centers for every 128 rows, and compares each score once."""
    return Counts(n * d * size, -(-n // 128) * k * d * size, 2.0 * n * d * k, COMPARE * n * k / 32, 0.0)


@functools.cache
def _code(file: str, constants: tuple[tuple[str, int | str], ...]) -> tuple[list[str], list[tuple[int, int]], int, str]:
    source = nvrtc.source(file, dict(constants))
    (row,) = nvrtc_compiler.resources(source, ARCH, nvrtc.OPTIONS, file=f"{file}.cu")
    text = sass.disassembly(nvrtc_compiler.compile_cubin(source, ARCH, nvrtc.OPTIONS, file=f"{file}.cu").cubin)
    names, loops, _ = sass._parsed(text)
    return names, sorted(set(loops)), row.registers, text


def _nested(names: list[str], loops: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The loops around the innermost loop with products, it first."""
    multiplying = sorted(
        ((a, b) for a, b in loops if sass.PRODUCTS & set(names[a:b])), key=lambda loop: loop[1] - loop[0]
    )
    inner = multiplying[0]
    if len(multiplying) > 1 and "HMMA" in names[inner[1] : multiplying[1][1]]:  # products before the loop, too
        inner = multiplying[1]
    return [loop for loop in multiplying if loop[0] <= inner[0] and inner[1] <= loop[1]]


def _waves(n_blocks: int, registers: int, warps: int) -> float:
    at_a_time = REGISTERS // (-(-registers * 32 // UNIT) * UNIT) // warps
    waves = n_blocks / (MULTIPROCESSORS * min(at_a_time, WARPS // warps))
    return -(-waves // 1) / waves if waves > 1 else 1.0


def _few(n: int, d: int, k: int, dtype: np.dtype) -> tuple[float, float]:
    """Instructions but for products, and waves, of nearest_of_few.cu."""
    tiles = tuning.few_tiles(k)
    names, loops, registers, _ = _code("nearest_of_few", tuple(tuning.few_constants(dtype, d, True, tiles).items()))
    (a, b), (start, _) = _nested(names, loops)[:2]
    products, in_loop = tiles * tuning.n_steps(d, dtype), Counter(names[a:b])
    after = min((c for c, _ in loops if c >= b), default=b)
    once = a - start + after - b
    of_batch = products / in_loop["HMMA"] * (b - a - in_loop["HMMA"]) + once
    n_blocks = -(-n // tuning.FEW_ROWS)
    return -(-n // 16) * of_batch + 4.0 * n_blocks * start, _waves(n_blocks, registers, 4)


def _few_bytes(n: int, d: int) -> tuple[float, float]:
    """The same of nearest_of_few_bytes.cu, for 32 rows of a warp."""
    constants = tuning.row_center_constants(np.dtype(np.uint8))
    names, loops, registers, _ = _code("nearest_of_few_bytes", tuple(constants.items()))
    (a, b) = _nested(names, loops)[0]
    after = min(c for c, _ in loops if c >= b)
    of_loop = b - a - Counter(names[a:b])["IMMA"]
    of_warp = -(-d // tuning.LIMB_GROUP) * of_loop + a + after - b
    return -(-n // 32) * float(of_warp), _waves(-(-n // tuning.FEW_ROWS), registers, 4)


def _many(n: int, d: int, k: int, dtype: np.dtype) -> tuple[float, float]:
    """The same of nearest_of_many.cu, whose blocks stay."""
    vector = tuning.is_vector(dtype, d, True)
    tile = screen_tiles.many_tile(dtype, n, d, vector, roofline.SHARED_BYTES)
    names, loops, _, text = _code("nearest_of_many", tuple(tile.constants(dtype, vector).items()))
    (a, b), (c, e) = _nested(names, loops)[:2]
    run, loop = sass.most_products(text), Counter(names[a:b])
    runs = loop["HMMA"] / run.multiplications
    starts = loop["MOV"] - runs * run.counts["MOV"]  # moves by which sums start
    around = max(0.0, b - a - runs * run.counts.total() - starts)
    steps = tuning.n_steps(d, dtype) / tile.CHUNK
    warps = tile.WARPS_M * tile.WARPS_N
    rows_of_lane = tile.BM // tile.WARPS_M // 8
    scores = tile.BM * tile.BN / warps / 32
    always = scores + 6.0 * rows_of_lane
    n_tiles = -(-k // tile.BN)
    beaten = np.minimum(1.0, 16.0 / np.arange(1, n_tiles + 1)).mean()
    compare = always + beaten * max(0.0, e - c - (b - a) - always)
    of_tile = steps * (run.counts.total() - run.multiplications + around) + starts + compare
    n_row_tiles = -(-n // tile.BM)
    waves = n_row_tiles / (MULTIPROCESSORS * tile.blocks)
    return n_row_tiles * n_tiles * warps * of_tile, -(-waves // 1) / waves if waves > 1 else 1.0


def of_work(w: Workload) -> Counts:
    """The assignment of a workload, no row of which is skipped."""
    a, (n, d), k = roofline.assignment(w), w.shape, w.n_clusters
    dtype = BFLOAT16 if w.dtype == "bfloat16" else np.dtype(w.dtype)
    if a.kernel == "nearest_of_few_bytes":
        instructions, waves = _few_bytes(n, d)
        cache, shared = float(tuning.limb_bytes(d)) * MULTIPROCESSORS, float(a.center_bytes)
    elif k <= tuning.FEW_CENTERS:  # centers stay in the first-level cache
        instructions, waves = _few(n, d, k, dtype)
        cache, shared = 2.0 * k * d * MULTIPROCESSORS, float(a.center_bytes)
    else:
        instructions, waves = _many(n, d, k, dtype)
        cache, shared = float(a.center_bytes), a.operations / PRODUCT * 128.0  # screen_tiles: of a warp of 64 x 64
    return Counts(a.row_bytes + a.list_bytes, cache, a.operations / a.rate, instructions, shared, waves)


def predictions() -> dict[str, object]:
    """Everything, by the names of workloads and peers; seconds."""
    found: dict[str, object] = {
        "card": "NVIDIA H200 SXM",
        "kernels": source_digest("kernels"),
        "nvrtc": ".".join(map(str, nvrtc_compiler.version())),
        "rates": {"memory": MEMORY, "cache": CACHE, "mma.sync": MMA_SYNC, "wgmma": TENSOR, "clock": CLOCK},
    }
    peers = {name: (of_peer(*shape).seconds(TENSOR)["time"], published) for name, (*shape, published) in PEERS.items()}
    found["peers"] = {name: {"predicted": t, "published": p, "ratio": t / p} for name, (t, p) in peers.items()}
    works = {w.name: of_work(w) for w in workloads_of("gpu") if w.task in ("fit", "predict")}
    found["assignments"] = {name: {"counts": asdict(c), "seconds": c.seconds()} for name, c in works.items()}
    return found


def main(argv: list[str] | None = None) -> int:
    """Count, predict and write."""
    parser = argparse.ArgumentParser(prog="python -m bench.prediction", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    write_json(parser.parse_args(argv).out, predictions())
    return 0


if __name__ == "__main__":
    sys.exit(main())
