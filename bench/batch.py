"""Many problems in one call, beside a loop of our own fits and flash-kmeans' batched call.

``python -m bench.batch --out FILE [--seconds S] [--backend cupy | numpy] [--work NAMES]``

All ways alternate round by round from the same starts, with a fixed number of iterations, on rows that lie on the
device (NumPy's: on the host).  The file holds every round's seconds, and whether the batch ended in the loop's bits.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.machine import commit_info, machine_info
from bench.names import chosen
from bench.results import now, write_json
from bench.run import _free_device_memory, _synchronize

MOST_ROUNDS = 20


@dataclass(frozen=True)
class BatchWork:
    """So many problems of one shape: white noise, each with its own first rows for a start."""

    title: str
    n_problems: int
    n_samples: int
    n_features: int
    n_clusters: int
    dtype: str
    max_iter: int

    def make(self) -> tuple[NDArray, NDArray]:
        """Rows (n_problems, n_samples, n_features) and starts (n_problems, n_clusters, n_features)."""
        shape = (self.n_problems, self.n_samples, self.n_features)
        X = np.random.default_rng(0).standard_normal(shape, dtype=np.float32).astype(self.dtype)
        return X, X[:, : self.n_clusters].astype(np.float32)


WORK = {
    "small": BatchWork("1000 x 500 x 16 float32, k=8, 20 iterations", 1000, 500, 16, 8, "float32", 20),
    "large": BatchWork("32 x 65536 x 128 float16, k=1024, 10 iterations", 32, 65_536, 128, 1024, "float16", 10),
    "tiny": BatchWork("5 x 60 x 3 float32, k=4, 3 iterations", 5, 60, 3, 4, "float32", 3),  # to try this file
}


def ways(work: BatchWork, backend: str) -> dict[str, Callable[[], Any] | str]:
    """What is timed, by name; or why it cannot be."""
    from gpukmeans import KMeans, fit_many

    X, starts = work.make()
    settings = {"n_init": 1, "max_iter": work.max_iter, "tol": 0.0, "backend": backend}
    rows: Any = X
    if backend == "cupy":
        import cupy

        rows = cupy.asarray(X)

    def one_by_one() -> Any:
        return [
            KMeans(work.n_clusters, init=start, **settings).fit(table)
            for table, start in zip(rows, starts, strict=True)
        ]

    found: dict[str, Callable[[], Any] | str] = {
        "gpukmeans fit_many": lambda: fit_many(rows, work.n_clusters, init=starts, **settings),
        "gpukmeans one by one": one_by_one,
    }
    try:
        import torch
        from flash_kmeans import batch_kmeans_Euclid

        x = torch.from_numpy(X).cuda()
        start = torch.from_numpy(starts).cuda().to(x.dtype)
        found["flash-kmeans"] = lambda: batch_kmeans_Euclid(
            x, work.n_clusters, max_iters=work.max_iter, tol=0.0, init_centroids=start.clone()
        )
    except Exception as error:  # anything can be wrong with a half-installed GPU stack
        found["flash-kmeans"] = f"{type(error).__name__}: {error}"[:300]
    return found


def compare(work: BatchWork, backend: str, seconds: float) -> dict[str, Any]:
    """Seconds of every round of every way; the first turn, in which kernels are compiled, counts by itself."""
    lanes = ways(work, backend)
    skipped = {name: way for name, way in lanes.items() if isinstance(way, str)}
    running = {name: way for name, way in lanes.items() if not isinstance(way, str)}
    report: dict[str, Any] = {"title": work.title, "skipped": skipped, "first_seconds": {}, "seconds": {}}
    outcomes: dict[str, Any] = {}
    end = time.monotonic() + seconds
    for turn in range(MOST_ROUNDS + 1):
        if turn > 1 and time.monotonic() > end:
            break
        names = list(running)
        shift = turn % len(names) if names else 0
        for name in names[shift:] + names[:shift]:
            try:
                spent, outcome = _timed(running[name], backend)
            except Exception as error:
                skipped[name] = f"{type(error).__name__}: {error}"[:300]
                del running[name]
                continue
            if turn == 0:
                report["first_seconds"][name], outcomes[name] = spent, outcome
            else:
                report["seconds"].setdefault(name, []).append(spent)
    ours = [outcomes.get(f"gpukmeans {name}") for name in ("fit_many", "one by one")]
    report["same_bits"] = None not in ours and all(map(_same, *ours))
    return report


def _timed(way: Callable[[], Any], backend: str) -> tuple[float, Any]:
    gc.collect()
    if backend == "cupy":
        _synchronize()
    started = time.perf_counter()
    outcome = way()
    if backend == "cupy":
        _synchronize()
    return time.perf_counter() - started, outcome


def _same(one: Any, other: Any) -> bool:
    arrays = ("labels_", "cluster_centers_")
    return (one.inertia_, one.n_iter_) == (other.inertia_, other.n_iter_) and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays
    )


def main(argv: list[str] | None = None) -> int:
    """Measure, write, and say whether the bits were the same."""
    parser = argparse.ArgumentParser(prog="python -m bench.batch", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--seconds", type=float, default=30, help="for all work together")
    parser.add_argument("--backend", choices=["cupy", "numpy"], default="cupy")
    parser.add_argument("--work", default="small,large", help=f"of {','.join(WORK)}")
    options = parser.parse_args(argv)
    names = chosen(parser, options.work, WORK, "work")
    document = {"datetime": now(), "commit_info": commit_info(), "machine_info": machine_info(), "work": {}}
    for name in names:
        document["work"][name] = found = compare(WORK[name], options.backend, options.seconds / len(names))
        for way, seconds in found["seconds"].items():
            print(f"{found['title']}: {way} {sorted(seconds)[len(seconds) // 2]:.4f} s, {len(seconds)} rounds")
        print(f"{found['title']}: the batch {'ends' if found['same_bits'] else 'DOES NOT END'} in the loop's bits")
        write_json(options.out, document)
        _free_device_memory()
    return int(not all(found["same_bits"] for found in document["work"].values()))


if __name__ == "__main__":
    sys.exit(main())
