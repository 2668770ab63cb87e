"""The silhouette of every row beside scikit-learn's, alternating in one run.

``python -m bench.silhouette --out FILE [--rows N] [--rounds R]``
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from sklearn.metrics import silhouette_samples

import gpukmeans
from bench.machine import commit_info, machine_info
from bench.results import now, write_json
from bench.workloads import mnist


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.silhouette", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="JSON file for every run")
    parser.add_argument("--rows", type=int, default=20_000, help="MNIST's first rows (default 20000)")
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    options = parser.parse_args(arguments)
    X = np.ascontiguousarray(mnist()[: options.rows])
    labels = gpukmeans.fit(X, 10, random_state=0, n_init=1).labels_
    works = []
    for rows in (X, X / 255.0):
        ours: list[float] = []
        theirs: list[float] = []
        for _ in range(options.rounds):
            start = time.perf_counter()
            found = gpukmeans.silhouette(labels, rows).samples
            between = time.perf_counter()
            want = silhouette_samples(rows.astype(np.float64, copy=False), labels)
            end = time.perf_counter()
            ours.append(between - start)
            theirs.append(end - between)
        ratios = [t / o for o, t in zip(ours, theirs, strict=True)]
        difference = float(np.abs(found - want).max())
        works.append(
            {
                "work": f"MNIST, {len(X)} rows, {rows.dtype}, k=10",
                "seconds": {"gpukmeans": ours, "scikit-learn": theirs},
                "ratio": statistics.median(ratios),
                "ratios": ratios,
                "largest_difference": difference,
            }
        )
        print(
            f"{works[-1]['work']}: {statistics.median(ours):.2f} s, scikit-learn {statistics.median(theirs):.2f} s, "
            f"{statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f}), within {difference:.1e}",
            flush=True,
        )
    command = ["python", "-m", "bench.silhouette", *(arguments or sys.argv[1:])]
    record = {"command": command, "at": now(), "machine": machine_info(), "commit": commit_info(), "works": works}
    write_json(options.out, record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
