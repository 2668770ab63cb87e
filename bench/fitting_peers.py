"""Peers on a CPU that fit and no more: SuperKMeans, OpenCV, SciPy, mlpack and geokmeans.

SuperKMeans and geokmeans take no start and draw their own from a seed.  Threads are those of OMP_NUM_THREADS, where a
library does not read it by itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from bench.systems import Outcome, System, Timed, Unsupported, importing
from bench.workloads import Problem

Fit = Callable[[Problem, NDArray], Timed]
OWN_START = {"starts": "the system's own, from a seed: it takes none"}


def _threads() -> int:
    """How many threads to use; 0 where all."""
    return int(os.environ.get("OMP_NUM_THREADS", "0"))


def _superkmeans(problem: Problem, X: NDArray) -> Timed:
    from superkmeans import SuperKMeans

    k, (iterations,) = problem.workload.n_clusters, problem.fixed_iterations()
    settings = {"hierarchical": False, "sampling_fraction": 1.0, "early_termination": False, "n_threads": _threads()}

    def run() -> Any:
        model = SuperKMeans(k, X.shape[1], iters=iterations, **settings)
        return model, model.train(X)

    def outcome(trained: Any) -> Outcome:
        model, centers = trained
        notes = {"labels": "by assign() after the fit, not timed; a fixed number of iterations", **OWN_START}
        return Outcome(model.assign(X, centers).astype(np.int64), centers, iterations, None, notes)

    return run, outcome


def _opencv(problem: Problem, X: NDArray) -> Timed:
    import cv2
    from sklearn.metrics import pairwise_distances_argmin

    cv2.setNumThreads(_threads() or -1)
    w = problem.workload
    labels = pairwise_distances_argmin(X, problem.starts[0].astype(X.dtype))
    stop = (cv2.TERM_CRITERIA_MAX_ITER | cv2.TERM_CRITERIA_EPS, min(w.max_iter, 100), 0.0)

    def run() -> Any:
        first = labels.astype(np.int32)[:, None].copy()
        return cv2.kmeans(X, w.n_clusters, first, stop, 1, cv2.KMEANS_USE_INITIAL_LABELS)

    notes = {"iterations": "100 at most, OpenCV's limit; begins with the labels of the start"}
    return run, lambda found: Outcome(found[1].ravel().astype(np.int64), found[2], None, float(found[0]), notes)


def _scipy(problem: Problem, X: NDArray) -> Timed:
    from scipy.cluster.vq import kmeans2

    (iterations,), start = problem.fixed_iterations(), problem.starts[0].astype(X.dtype)

    def run() -> Any:
        return kmeans2(X, start, iter=iterations, minit="matrix")

    notes = {"iterations": "a fixed number: it has no test for convergence"}
    return run, lambda found: Outcome(found[1].astype(np.int64), found[0], iterations, None, notes)


def _mlpack(problem: Problem, X: NDArray) -> Timed:
    import mlpack

    w, rows, start = problem.workload, X.astype(np.float64), problem.starts[0].astype(np.float64)

    def run() -> Any:
        settings: dict[str, Any] = {"max_iterations": w.max_iter, "seed": 1, "labels_only": True}
        first = start.copy()  # which mlpack overwrites
        return mlpack.kmeans(w.n_clusters, rows, initial_centroids=first, algorithm="hamerly", **settings)

    return run, lambda found: Outcome(
        np.asarray(found["output"]).ravel().astype(np.int64), np.asarray(found["centroid"])
    )


def _geokmeans(problem: Problem, X: NDArray) -> Timed:
    from geokmeans import GeoKMeans

    w, rows = problem.workload, X.astype(np.float64)

    def run() -> Any:
        model = GeoKMeans(w.n_clusters, algorithm="hamerly", max_iter=w.max_iter, tol=0.0, random_state=0)
        return model.fit(rows)

    return run, lambda m: Outcome(m.labels_, np.asarray(m.cluster_centers_), int(m.n_iter_), None, dict(OWN_START))


def _fits(fit: Fit) -> Callable[[Problem], Timed]:
    def prepare(problem: Problem) -> Timed:
        if problem.workload.task != "fit":
            raise Unsupported("it is compared in fits only")
        if problem.workload.seeded:
            raise Unsupported("it has no greedy k-means++ with restarts")
        if issparse(problem.X):
            raise Unsupported("it reads dense rows only")
        return fit(problem, np.ascontiguousarray(problem.X, dtype=np.float32))

    return prepare


FITTING_PEERS: list[System] = [
    System(name, "cpu", False, distribution, importing(module), _fits(fit))
    for name, distribution, module, fit in (
        ("SuperKMeans", "superkmeans", "superkmeans", _superkmeans),
        ("OpenCV", "opencv-python-headless", "cv2", _opencv),
        ("SciPy kmeans2", "scipy", "scipy.cluster.vq", _scipy),
        ("mlpack hamerly", "mlpack", "mlpack", _mlpack),
        ("geokmeans hamerly", "geokmeans", "geokmeans", _geokmeans),
    )
]
