"""What surrounds a fit, beside what it replaces, alternating in one run.

``python -m bench.study --out FILE [--rows N] [--rounds R]``

- The silhouette of every row of MNIST, beside scikit-learn's `silhouette_samples`.
- A sweep over 20 numbers of clusters with its metrics, beside 20 sweeps over one number each.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import silhouette_samples

import gpukmeans
from bench.machine import run_info
from bench.results import write_json


def compared(title: str, ours: Callable[[], Any], other: str, others: Callable[[], Any], rounds: int) -> dict[str, Any]:
    """The seconds of both in every round, and the ratios of the other's to ours."""
    seconds: dict[str, list[float]] = {"ours": [], other: []}
    for _ in range(rounds):
        for name, run in (("ours", ours), (other, others)):
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    ratios = [t / o for o, t in zip(seconds["ours"], seconds[other], strict=True)]
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    print(
        f"{title}: {middle['ours']:.2f} s, {other} {middle[other]:.2f} s, "
        f"{statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})",
        flush=True,
    )
    return {"work": title, "seconds": seconds, "ratio": statistics.median(ratios), "ratios": ratios}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.study", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="JSON file for every run")
    parser.add_argument("--rows", type=int, default=20_000, help="rows of MNIST for the silhouette (default 20000)")
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    options = parser.parse_args(arguments)
    X = np.ascontiguousarray(gpukmeans.load_mnist(return_X_y=True)[0][: options.rows])
    labels = gpukmeans.fit(X, 10, random_state=0, n_init=1).labels_
    works = []
    for rows in (X, X / 255.0):
        found = gpukmeans.silhouette(labels, rows).samples
        difference = float(np.abs(found - silhouette_samples(rows.astype(np.float64, copy=False), labels)).max())
        work = compared(
            f"silhouette of {len(X)} rows of MNIST, {rows.dtype}",
            lambda rows=rows: gpukmeans.silhouette(labels, rows),  # type: ignore[misc]
            "scikit-learn",
            lambda rows=rows: silhouette_samples(rows.astype(np.float64, copy=False), labels),  # type: ignore[misc]
            options.rounds,
        )
        works.append({**work, "largest_difference": difference})
    numbers = range(2, 22)
    for title, rows in (("digits", gpukmeans.load_digits(return_X_y=True)[0]), ("10,000 rows of MNIST", X[:10_000])):
        works.append(
            compared(
                f"sweep over 20 numbers of clusters, {title}",
                lambda rows=rows: gpukmeans.sweep(rows, numbers),  # type: ignore[misc]
                "one by one",
                lambda rows=rows: [gpukmeans.sweep(rows, [k]) for k in numbers],  # type: ignore[misc]
                options.rounds,
            )
        )
    document = {
        **run_info("study", arguments),
        "works": works,
    }
    write_json(options.out, document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
