"""gpukmeans as systems under test: NumPy and CuPy, exact and fast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.systems import Outcome, System, Timed, Unsupported
from bench.workloads import Problem
from gpukmeans.arrays.on_device import host_copy

# Read as stored; others would be converted first, which is other work.
ROW_DTYPES = {"numpy": ("uint8", "float32", "float64"), "cupy": ("uint8", "float16", "bfloat16", "float32", "float64")}


def _estimator(problem: Problem, backend: str, precision: Any, start: Any = None) -> Any:
    from gpukmeans import KMeans

    w = problem.workload
    init: dict[str, Any] = {"init": "k-means++", "n_init": w.n_init, "random_state": 0}
    if not w.seeded:
        init = {"init": problem.starts[0] if start is None else start, "n_init": 1}
    return KMeans(w.n_clusters, **init, max_iter=w.max_iter, tol=0.0, backend=backend, precision=precision)


def _fit_outcome(model: Any) -> Outcome:
    report = model.fit_report_
    per_start: dict[int, int] = {}
    for iteration in report.iterations:
        per_start[iteration.init] = per_start.get(iteration.init, 0) + 1
    notes = {
        "stages": dict(report.stages),
        "iterations_per_start": list(per_start.values()),
        **_iteration_notes(report.iterations),
    }
    labels, centers = host_copy(model.labels_), host_copy(model.cluster_centers_)
    return Outcome(labels, centers, int(model.n_iter_), float(model.inertia_), notes)


def _iteration_notes(iterations: list[Any]) -> dict[str, Any]:
    kept = ("n_moved", "n_skipped", "n_certified", "n_resolved", "n_exact", "n_uncertain")
    notes: dict[str, Any] = {"iteration_seconds": [round(i.seconds, 7) for i in iterations]}
    for name in kept:
        notes[name] = [int(getattr(i, name, 0)) for i in iterations]
    return notes


def _fit(problem: Problem, backend: str, precision: str, X: Any) -> Timed:
    return lambda: _estimator(problem, backend, precision).fit(X), _fit_outcome


def _minibatch(problem: Problem, backend: str, precision: Any, X: Any) -> Timed:
    from gpukmeans import MiniBatchKMeans

    w = problem.workload
    options: dict[str, Any] = {"random_state": 0, "backend": backend, "precision": precision}

    def outcome(model: Any) -> Outcome:
        notes = {"stages": dict(model.fit_report_.stages)}
        return Outcome(model.labels_, model.cluster_centers_, int(model.n_steps_), float(model.inertia_), notes)

    return lambda: MiniBatchKMeans(w.n_clusters, batch_size=w.batch_size, **options).fit(X), outcome


def _predict(problem: Problem, backend: str, precision: str, X: Any) -> Timed:
    centers = problem.starts[0]
    model = _estimator(problem, backend, precision, centers).fit(centers)  # every center is its own row
    model.cluster_centers_ = centers
    return lambda: model.predict(X), lambda labels: Outcome(host_copy(labels), centers)


def _seed(problem: Problem, backend: str) -> Timed:
    from gpukmeans.backends import get_backend
    from gpukmeans.engine.seeding.draws import probabilities
    from gpukmeans.engine.seeding.plusplus import kmeans_plusplus

    place, X = get_backend(backend), problem.X
    on_device = place.load(X) if backend == "cupy" else None

    def run() -> Any:
        rows = on_device or place.load(X)
        p = probabilities(len(X), None, X.dtype)
        return kmeans_plusplus(rows, problem.workload.n_clusters, np.random.RandomState(0), p, None)

    return run, lambda picks: Outcome(None, X[picks], notes={"picks_sum": int(np.sum(picks))})


def _on_device(problem: Problem) -> Any:
    """The rows as an array on the device; bfloat16, which CuPy lacks, as a torch tensor."""
    if problem.workload.dtype == "bfloat16":
        import torch

        return torch.from_numpy(problem.X).cuda().bfloat16()
    import cupy

    return cupy.asarray(problem.X)


def _prepare(backend: str, precision: str) -> Callable[[Problem], Timed]:
    def prepare(problem: Problem) -> Timed:
        w = problem.workload
        if w.dtype not in ROW_DTYPES[backend]:
            raise Unsupported(f"gpukmeans on {backend} reads {', '.join(ROW_DTYPES[backend])} as stored, not {w.dtype}")
        if w.task == "seed":
            if precision != "exact":
                raise Unsupported("seeding has one precision")
            return _seed(problem, backend)
        X = _on_device(problem) if backend == "cupy" and not w.from_host else problem.X
        tasks = {"fit": _fit, "predict": _predict, "minibatch": _minibatch}
        return tasks[w.task](problem, backend, precision, X)

    return prepare


def _check(backend: str) -> Callable[[], object]:
    def check() -> object:
        from gpukmeans.backends import get_backend

        return get_backend(backend)

    return check


OURS: list[System] = [
    System(
        f"gpukmeans {backend}" + ("" if precision == "exact" else " fast"),
        "cpu" if backend == "numpy" else "gpu",
        True,
        "gpukmeans",
        _check(backend),
        _prepare(backend, precision),
    )
    for backend in ("numpy", "cupy")
    for precision in ("exact", "fast")
]
