"""Shares of rows that scores on tensor cores certify, by the radius that these allow: in the emulator.

``python -m bench.certified --out FILE``

The arithmetic is that of an H100's tensor cores.  The radius is once theirs, once that of an A100's, and once that of
the worst that is known, which a device is taken for whose tensor cores were not measured: of scores in half precision.
Rows of bytes are assigned to few centers with these as three bytes of fixed point, too.  A row that is not certified
gets float64 distances to its candidates.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.data import mnist_uint8
from bench.machine import run_info
from bench.results import write_json
from bench.workloads import first_rows
from gpukmeans import KMeans
from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda.backend import CupyBackend
from gpukmeans.certificates.halves import WORST_TENSOR_CORES, TensorCores, tensor_cores_of
from tests.emulator import EmulatorDevice

RADII: dict[str, TensorCores | None] = {
    "worst known": WORST_TENSOR_CORES,
    "sm_80": tensor_cores_of((8, 0)),
    "sm_90": tensor_cores_of((9, 0)),
    "fixed point": None,
}
MAX_ITER = 8


class Device(EmulatorDevice):
    """An emulated H100 whose scores in half precision are given the radius of other tensor cores.

    Without one, rows of bytes are assigned in fixed point where a fit would do so.
    """

    radius: TensorCores | None = None

    @property
    def capability(self) -> tuple[int, int]:
        return tuning.SLOW_BYTES[0] if self.radius else super().capability

    @property
    def tensor_cores(self) -> TensorCores:
        return self.radius or super().tensor_cores


def images(dtype: str, n: int) -> NDArray:
    X = mnist_uint8()[:: 70_000 // n][:n]
    return np.ascontiguousarray(X) if dtype == "uint8" else (X / 255.0).astype(dtype)


def unit_vectors(n: int) -> NDArray:
    """Clustered vectors of length one, (n, 256) float32."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n // 8, 256)).repeat(8, axis=0) + 0.7 * rng.standard_normal((n // 8 * 8, 256))
    return (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)[rng.permutation(len(X))]


WORKS = {
    "MNIST uint8, k=10": (lambda: images("uint8", 2000), 10),
    "MNIST float32, k=10": (lambda: images("float32", 2000), 10),
    "MNIST uint8, k=100": (lambda: images("uint8", 2000), 100),
    "MNIST float32, k=100": (lambda: images("float32", 2000), 100),
    "unit vectors float32, k=1000": (lambda: unit_vectors(4000), 1000),
}


def shares(X: NDArray, n_clusters: int) -> dict[str, dict[str, Any]]:
    """By radius: the rows that were screened in all iterations, those left open, and the share that was certified."""
    found = {}
    for name, cores in RADII.items():
        device = Device(arch=900)
        device.radius = cores
        settings: dict[str, Any] = {"init": first_rows(X, n_clusters), "n_init": 1, "max_iter": MAX_ITER, "tol": 0.0}
        report = KMeans(n_clusters, backend=CupyBackend(device), **settings).fit(X).fit_report_
        if cores is None and not device.launches["nearest_of_few_bytes"]:
            continue
        screened = sum(len(X) - it.n_skipped for it in report.iterations)
        certified = sum(it.n_certified for it in report.iterations)
        left = screened - certified
        found[name] = {"screened": screened, "certified": certified, "left": left, "share": certified / screened}
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.certified", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="JSON file for all counts")
    options = parser.parse_args(arguments)
    rows = []
    for name, (make, n_clusters) in WORKS.items():
        X = make()
        found = shares(X, n_clusters)
        rows.append({"work": name, "shape": X.shape, "iterations": MAX_ITER, "radius": found})
        print(f"{name:30}", "  ".join(f"{radius}: {each['share']:.4f}" for radius, each in found.items()), flush=True)
    document = {
        **run_info("certified", arguments),
        "works": rows,
    }
    write_json(options.out, document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
