"""A fit through the CuPy backend for tools that watch kernels: ``python -m bench.small_fit [small | mnist]``."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np


def small() -> None:
    """Ragged sizes in each dtype, seeding, weights and prediction: a few launches of every kernel."""
    from gpukmeans import KMeans

    random_state = np.random.RandomState(0)
    for dtype, n, d, k in (("uint8", 257, 33, 5), ("float32", 515, 37, 11), ("float64", 300, 3, 7)):
        X = random_state.randint(0, 256, (n, d)).astype(dtype)
        for weight in (None, random_state.rand(n)):
            model = KMeans(k, random_state=0, n_init=1, max_iter=4, tol=0.0, backend="cupy")
            model.fit(X, sample_weight=weight).predict(X[:100])
    print("small fits done")


def mnist(k: int = 10) -> dict[str, Any]:
    """A whole fit of MNIST from the fixed start, and what its report says: seconds per stage and iteration."""
    from bench.ours import _iteration_notes
    from bench.workloads import first_rows
    from bench.workloads import mnist as rows
    from gpukmeans import KMeans

    X = rows()
    model = KMeans(k, init=first_rows(X, k), n_init=1, max_iter=60, tol=0.0, backend="cupy")
    model.fit(X)  # compiles
    report = model.fit(X).fit_report_
    return {"n_clusters": k, "stages": report.stages, **_iteration_notes(report.iterations)}


if __name__ == "__main__":
    if "mnist" in sys.argv[1:]:
        for n_clusters in (10, 100):
            print(json.dumps(mnist(n_clusters)))
    else:
        small()
