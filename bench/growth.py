"""How the time of an iteration grows with rows, features, clusters and threads.

``python -m bench.growth --out FILE.json [--picture FILE.png] [--shapes NAMES] [--rounds R]``

Each shape is fitted at an eighth, a quarter, a half and all of its rows, of its features and of its clusters, the other
two as they are.  The exponent of a line through the logarithms says how the time grows: 1 is in proportion, less is
where bounds leave rows out, or where fixed costs are in sight.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from bench.data import blobs, mnist, noise
from bench.machine import run_info, usable_cores
from bench.names import chosen
from bench.results import write_json
from bench.workloads import first_rows
from gpukmeans import KMeans

SHARES = (0.125, 0.25, 0.5, 1.0)
MAX_ITER = 20


@dataclass(frozen=True)
class Shape:
    """Rows, and how many clusters are asked for; sizes along an axis with fewer than `least` are left out."""

    title: str
    make: Callable[[], NDArray]
    n_clusters: int
    least: int = 2


SHAPES = {
    "mnist": Shape("MNIST", mnist, 80),
    "noise": Shape("white noise", lambda: noise(100_000, 128), 256),
    "blobs": Shape("make_blobs", lambda: blobs(1_000_000, 16, 16), 16),
    "line": Shape("one feature", lambda: noise(1_000_000, 1), 64),
}
AXES = ("n_samples", "n_features", "n_clusters")


@dataclass(frozen=True)
class Point:
    """A size to measure: a name of AXES or "n_threads", and what is fitted."""

    axis: str
    size: int
    n_samples: int
    n_features: int
    n_clusters: int
    n_threads: int


def points(shape: Shape, n: int, d: int, cores: int) -> Iterator[Point]:
    """All sizes of a shape of (n, d) rows."""
    whole = {"n_samples": n, "n_features": d, "n_clusters": shape.n_clusters, "n_threads": cores}
    for axis in AXES:
        for share in SHARES:
            size = round(whole[axis] * share)
            if size >= shape.least and (axis != "n_features" or d > 1):
                yield Point(axis, size, **(whole | {axis: size}))
    for threads in range(1, cores + 1):
        yield Point("n_threads", threads, **(whole | {"n_threads": threads}))


def part(X: NDArray, point: Point) -> NDArray:
    """The first rows, and features drawn once for all sizes, so that a smaller size is a part of a larger one."""
    features = np.random.RandomState(0).permutation(X.shape[1])[: point.n_features]
    rows = X[: point.n_samples]
    return rows if point.n_features == X.shape[1] else np.ascontiguousarray(rows[:, np.sort(features)])


def seconds_an_iteration(X: NDArray, point: Point) -> float:
    """Of a fit from rows, 20 iterations at most."""
    start = first_rows(X, point.n_clusters)
    model = KMeans(point.n_clusters, init=start, n_init=1, max_iter=MAX_ITER, tol=0.0, backend="numpy")
    with threadpool_limits(point.n_threads, user_api="blas"):
        started = time.perf_counter()
        model.fit(X)
        return (time.perf_counter() - started) / model.n_iter_


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """Of the power of the size that fits the seconds best, by least squares of the logarithms.

    Examples
    --------
    >>> exponent([1, 2, 4], [3.0, 6.0, 12.0])
    1.0
    """
    return round(float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0]), 6)


def measure(shape: Shape, rounds: int) -> dict[str, Any]:
    """Every round of every size, sizes alternating; exponents are those of the fastest rounds."""
    X = shape.make()
    every = list(points(shape, *X.shape, usable_cores()))
    seconds: list[list[float]] = [[] for _ in every]
    seconds_an_iteration(part(X, every[0]), every[0])  # what is imported and started once
    for _ in range(rounds):
        for point, runs in zip(every, seconds, strict=True):
            runs.append(seconds_an_iteration(part(X, point), point))
    axes: dict[str, Any] = {}
    for point, runs in zip(every, seconds, strict=True):
        axis = axes.setdefault(point.axis, {"sizes": [], "seconds": []})
        axis["sizes"].append(point.size)
        axis["seconds"].append(runs)
    for axis in axes.values():
        if len(axis["sizes"]) > 1:
            axis["exponent"] = exponent(axis["sizes"], [min(runs) for runs in axis["seconds"]])
    return {"title": shape.title, "shape": list(X.shape), "n_clusters": shape.n_clusters, "axes": axes}


def draw(document: dict[str, Any], path: Path) -> None:
    """One panel for each axis, a line for each shape, its exponent in the legend; dashed: in proportion."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.6), layout="constrained")
    titles = {"n_samples": "rows", "n_features": "features", "n_clusters": "clusters", "n_threads": "threads"}
    for axes, (axis, title) in zip(figure.subplots(1, 4), titles.items(), strict=True):
        for shape in document["shapes"].values():
            found = shape["axes"].get(axis)
            if found is None:
                continue
            sizes, best = found["sizes"], [1e3 * min(runs) for runs in found["seconds"]]
            power = found.get("exponent")
            label = shape["title"] + ("" if power is None else f": {power:+.2f}")
            (line,) = axes.plot(sizes, best, "o-", label=label)
            slope = -1 if axis == "n_threads" else 1
            ideal = [best[-1] * (size / sizes[-1]) ** slope for size in sizes]
            axes.plot(sizes, ideal, "--", color=line.get_color(), alpha=0.5, linewidth=1)
        axes.set(xscale="log", yscale="log", xlabel=title)
        axes.grid(which="both", alpha=0.2)
        axes.legend(fontsize="small")
    figure.axes[0].set_ylabel("ms an iteration")
    figure.savefig(path, dpi=110)


def main(arguments: list[str] | None = None) -> int:
    """Measure, write, draw, and print the exponents."""
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="JSON file for every round")
    parser.add_argument("--picture", type=Path, help="PNG file; by default beside the JSON file")
    parser.add_argument("--shapes", help="names, separated by commas; all by default: " + ", ".join(SHAPES))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    names = chosen(parser, options.shapes, SHAPES, "shape")
    shapes: dict[str, Any] = {}
    for name in names:
        shapes[name] = measure(SHAPES[name], options.rounds)
        powers = {axis: found.get("exponent") for axis, found in shapes[name]["axes"].items()}
        print(f"{name:8} {json.dumps(powers)}", flush=True)
        document = {
            **run_info("growth", arguments),
            "shapes": shapes,
        }
        write_json(options.out, document)
        draw(document, options.picture or options.out.with_suffix(".png"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
