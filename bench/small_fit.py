"""Fits through the CuPy backend for tools that watch kernels.

``python -m bench.small_fit [small | mnist | pruning]``
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np


def small() -> None:
    """Ragged sizes in each dtype, seeding, weights and prediction: a few launches of every kernel."""
    from gpukmeans import KMeans, fit_many

    random_state = np.random.RandomState(0)
    for dtype, n, d, k in (
        ("uint8", 257, 33, 5),
        ("float32", 515, 37, 11),
        ("float32", 515, 128, 100),
        ("float64", 300, 3, 7),
    ):
        X = random_state.randint(0, 256, (n, d)).astype(dtype)
        for weight in (None, random_state.rand(n)):
            model = KMeans(k, random_state=0, n_init=1, max_iter=4, tol=0.0, backend="cupy")
            model.fit(X, sample_weight=weight).predict(X[:100])
        fit_many([X, X[::-1]], k, random_state=0, n_init=2, max_iter=4, tol=0.0, backend="cupy")
    print("small fits done")


def mnist(k: int = 10) -> dict[str, Any]:
    """A whole fit of MNIST from the fixed start, and what its report says: seconds per stage and iteration."""
    from bench.data import mnist as rows
    from bench.ours import _iteration_notes
    from bench.workloads import first_rows
    from gpukmeans import KMeans

    X = rows()
    model = KMeans(k, init=first_rows(X, k), n_init=1, max_iter=60, tol=0.0, backend="cupy")
    model.fit(X)  # compiles
    report = model.fit(X).fit_report_
    return {"n_clusters": k, "stages": report.stages, **_iteration_notes(report.iterations)}


def pruning() -> dict[str, Any]:
    """What late iterations cost, where bounds leave most rows out: seconds of each iteration, by itself."""
    from bench.ours import _iteration_notes
    from bench.workloads import WORKLOADS
    from gpukmeans import KMeans

    found = {}
    for name in ("mnist-k10", "mnist-k1000", "blobs-10M-k16"):
        problem = WORKLOADS[name].load()
        settings = {"init": problem.starts[0], "n_init": 1, "max_iter": 200, "tol": 0.0, "backend": "cupy"}
        KMeans(problem.workload.n_clusters, **settings).fit(problem.X[: 1 << 16])  # compiles
        # When told of each the host waits for every iteration.
        model = KMeans(problem.workload.n_clusters, **settings, progress=lambda iteration: None).fit(problem.X)
        notes = _iteration_notes(model.fit_report_.iterations)
        each = notes["iteration_seconds"]
        late = sorted(each[-max(1, len(each) // 4) :])
        found[name] = {"first": each[0], "late": late[len(late) // 2], **notes}
    return found


if __name__ == "__main__":
    if "pruning" in sys.argv[1:]:
        print(json.dumps(pruning()))
    elif "mnist" in sys.argv[1:]:
        for n_clusters in (10, 100):
            print(json.dumps(mnist(n_clusters)))
    else:
        small()
