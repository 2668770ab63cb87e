"""What this GPU can do at best: ``python -m bench.ceilings``, one line of JSON.

Bytes a second of a copy within its memory, and multiplications-and-additions a second of matrix products of random
numbers: what kernels/README.md's counts of bytes and operations are to be divided by.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from statistics import median
from typing import Any


def seconds(work: Callable[[], object], repeats: int = 20) -> float:
    """Median device time of a call, by events."""
    import cupy

    work()
    times = []
    for _ in range(repeats):
        start, stop = cupy.cuda.Event(), cupy.cuda.Event()
        start.record()
        work()
        stop.record()
        stop.synchronize()
        times.append(cupy.cuda.get_elapsed_time(start, stop) / 1e3)
    return median(times)


def ceilings(n_bytes: int = 4 << 30, size: int = 8192) -> dict[str, Any]:
    """Copies count bytes read and bytes written; a product of two square matrices 2 size**3 operations."""
    found: dict[str, Any] = {"copy_bytes_per_second": n_bytes / _copy(n_bytes // 2)}
    for dtype in ("float16", "float32", "float64"):
        found[f"{dtype}_operations_per_second"] = 2 * size**3 / _product(size, dtype)
    return found


def _copy(n_bytes: int) -> float:
    import cupy

    source = cupy.random.randint(0, 256, n_bytes, dtype=cupy.uint8)
    target = cupy.empty_like(source)
    return seconds(lambda: cupy.copyto(target, source))


def _product(size: int, dtype: str) -> float:
    import cupy

    a, b = (cupy.random.standard_normal((size, size), dtype=cupy.float32).astype(dtype) for _ in range(2))
    out = cupy.empty((size, size), dtype)
    return seconds(lambda: cupy.matmul(a, b, out=out), 5)


if __name__ == "__main__":
    print(json.dumps(ceilings()))
