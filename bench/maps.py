"""Libraries that lay 70,000 images out in a plane so that neighbours stay together: time, memory, islands, bits.

``python -m bench.maps --out FILE [--rows N] [--few N]``

Every layout of the first 50 principal components of MNIST is made in a process of its own, with its default parameters
and ``random_state=0``: of all rows on two threads, and of a few rows on one thread and on two, whose bits are compared.
Needs ``pip install umap-learn openTSNE``.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import ROOT, run_info
from bench.memory import resident, resident_peak
from bench.results import write_json

SYSTEMS = ("umap-learn", "openTSNE")
LIBRARIES = (*SYSTEMS, "pynndescent", "numba", "llvmlite")
COMPONENTS, NEIGHBOURS = 50, 10
SAMPLE = 10_000  # rows that are looked at for islands


def lay_out(system: str, X: np.ndarray, threads: int) -> np.ndarray:
    if system == "umap-learn":
        import umap

        warnings.filterwarnings("ignore", "n_jobs value", UserWarning)
        return umap.UMAP(random_state=0, n_jobs=threads).fit_transform(X)
    import openTSNE

    return np.asarray(openTSNE.TSNE(random_state=0, n_jobs=threads).fit(X))


def one(system: str, threads: int, rows: int, folder: Path) -> dict[str, Any]:
    """In this process: seconds (imports and compilation included), memory, and a digest of the layout."""
    X = np.load(folder / "rows.npy")[:rows]
    before = resident(reset=True) or 0
    wall, cpu = time.perf_counter(), time.process_time()
    points = lay_out(system, X, threads)
    seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    np.save(folder / "points.npy", points)
    peak = resident_peak() or 0
    return {
        "system": system,
        "rows": rows,
        "threads": threads,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "extra_bytes": peak - before,
        "sha256": hashlib.sha256(np.ascontiguousarray(points).data).hexdigest()[:16],
    }


def in_subprocess(system: str, threads: int, rows: int, folder: Path) -> dict[str, Any]:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, str(threads))}
    command = [sys.executable, "-m", "bench.maps", "--one", system, str(threads), str(rows), str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"system": system, "rows": rows, "threads": threads, "error": done.stderr.strip()[-300:]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def islands(points: np.ndarray, X: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Whether the digits are islands, and whether neighbours in the plane are neighbours of the rows."""
    from sklearn.cluster import HDBSCAN
    from sklearn.metrics import adjusted_rand_score
    from sklearn.neighbors import NearestNeighbors

    sample = np.random.default_rng(0).permutation(len(points))[:SAMPLE]
    near, near_rows = (
        NearestNeighbors(n_neighbors=NEIGHBOURS).fit(values[sample]).kneighbors(return_distance=False)
        for values in (points, X)
    )
    kept = np.mean([len(np.intersect1d(a, b)) for a, b in zip(near, near_rows, strict=True)]) / NEIGHBOURS
    found = HDBSCAN(min_cluster_size=max(5, len(sample) // 100), copy=True).fit_predict(points[sample])
    return {
        "neighbours_of_the_same_digit": float((y[sample][near] == y[sample][:, None]).mean()),
        "neighbours_kept": float(kept),
        "islands": int(found.max()) + 1,
        "rows_in_no_island": float((found < 0).mean()),
        "islands_and_digits_adjusted_rand": float(adjusted_rand_score(y[sample], found)),
    }


def document(arguments: list[str] | None, works: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        **run_info("maps", arguments),
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "works": works,
    }


def main(arguments: list[str] | None = None) -> int:
    if (arguments or sys.argv[1:])[:1] == ["--one"]:
        system, threads, rows, folder = (arguments or sys.argv[1:])[1:]
        print(json.dumps(one(system, int(threads), int(rows), Path(folder))))
        return 0
    parser = argparse.ArgumentParser(prog="python -m bench.maps", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="JSON file for every run")
    parser.add_argument("--rows", type=int, default=70_000, help="rows of MNIST (default 70000)")
    parser.add_argument("--few", type=int, default=4_500, help="rows whose bits are compared (default 4500)")
    options = parser.parse_args(arguments)
    import gpukmeans
    from gpukmeans.evaluation.layouts import components

    X, y = gpukmeans.load_mnist(return_X_y=True)
    works: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = components(X[: options.rows], COMPONENTS, 0)
        np.save(folder / "rows.npy", rows)
        for n, threads in ((options.rows, 2), (options.few, 1), (options.few, 2)):
            for system in SYSTEMS:
                work = in_subprocess(system, threads, n, folder)
                if "error" not in work:
                    work |= islands(np.load(folder / "points.npy"), rows[:n], y[:n])
                works.append(work)
                print(work, flush=True)
                write_json(options.out, document(arguments, works))
    return 0


if __name__ == "__main__":
    sys.exit(main())
