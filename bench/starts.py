"""What a start is worth with many clusters: time and inertia from random rows, k-means++ and clusters of clusters.

``python -m bench.starts --out FILE.json [--works NAMES] [--rounds R]``

Each round has a seed of its own and fits the same rows from each start in turn: 20 iterations from rows, 4 from
``init="two-level"``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from bench.data import blobs, mnist
from bench.machine import run_info
from bench.names import chosen
from bench.results import write_json
from gpukmeans import KMeans

#: The starts, and the iterations after each.
STARTS = {"random": 20, "k-means++": 20, "two-level": 4}


@dataclass(frozen=True)
class Work:
    """Rows, and how many clusters are asked for."""

    title: str
    make: Callable[[], NDArray]
    n_clusters: int


WORKS = {
    "mnist-k256": Work("MNIST 70k x 784, k=256", mnist, 256),
    "mnist-k1000": Work("MNIST 70k x 784, k=1000", mnist, 1000),
    "blobs-k1000": Work("make_blobs 100k x 64, k=1000", lambda: blobs(100_000, 64, 2000), 1000),
}


def fitted(X: NDArray, n_clusters: int, init: str, seed: int) -> dict[str, float]:
    """Seconds of a fit, those of its start among them, and its inertia."""
    model = KMeans(n_clusters, init=init, n_init=1, max_iter=STARTS[init], tol=0.0, random_state=seed, backend="numpy")
    started = time.perf_counter()
    model.fit(X)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "start_seconds": model.fit_report_.stages["seed"], "inertia": float(model.inertia_)}


def measure(work: Work, rounds: int) -> dict[str, Any]:
    """Every round of every start, starts alternating."""
    X = work.make()
    fitted(X[: 4 * work.n_clusters], work.n_clusters, "random", 0)  # what is imported and started once
    runs: dict[str, list[dict[str, float]]] = {init: [] for init in STARTS}
    for seed in range(rounds):
        for init, found in runs.items():
            found.append(fitted(X, work.n_clusters, init, seed))
    return {"title": work.title, "shape": list(X.shape), "n_clusters": work.n_clusters, "starts": runs}


def against_random(result: dict[str, Any], init: str) -> dict[str, Any]:
    """Medians of a start's runs, its time and inertia over those of random rows within the rounds, and their spread."""
    runs, others = result["starts"][init], result["starts"]["random"]
    ratios = [run["seconds"] / other["seconds"] for run, other in zip(runs, others, strict=True)]
    higher = [run["inertia"] / other["inertia"] - 1.0 for run, other in zip(runs, others, strict=True)]
    return {
        "iterations": STARTS[init],
        "start": statistics.median(run["start_seconds"] for run in runs),
        "seconds": statistics.median(run["seconds"] for run in runs),
        "ratio": (statistics.median(ratios), min(ratios), max(ratios)),
        "inertia": (statistics.median(higher), min(higher), max(higher)),
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure, write, and print a line for each start."""
    parser = argparse.ArgumentParser(prog="python -m bench.starts", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="JSON file for every round")
    parser.add_argument("--works", help="names, separated by commas; all by default: " + ", ".join(WORKS))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    names = chosen(parser, options.works, WORKS, "work")
    works: dict[str, Any] = {}
    for name in names:
        works[name] = measure(WORKS[name], options.rounds)
        for init in STARTS:
            found = against_random(works[name], init)
            (ratio, low, high), (inertia, *_) = found["ratio"], found["inertia"]
            print(
                f"{name:12} {init:10} {found['seconds']:7.2f} s, start {found['start']:6.2f} s, time / random "
                f"{ratio:.2f} ({low:.2f} to {high:.2f}), inertia / random - 1 {inertia:+.2%}",
                flush=True,
            )
        write_json(options.out, {**run_info("starts", arguments), "works": works})
    return 0


if __name__ == "__main__":
    sys.exit(main())
