"""gpukmeans as systems under test: NumPy and CuPy, exact and fast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.systems import Outcome, System, Timed, Unsupported
from bench.workloads import Problem

ROW_DTYPES = ("uint8", "float32", "float64")  # read as stored; others would be converted first, which is other work


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
    return Outcome(model.labels_, model.cluster_centers_, int(model.n_iter_), float(model.inertia_), notes)


def _iteration_notes(iterations: list[Any]) -> dict[str, Any]:
    kept = ("n_moved", "n_certified", "n_resolved", "n_exact", "n_uncertain")
    notes: dict[str, Any] = {"iteration_seconds": [round(i.seconds, 7) for i in iterations]}
    for name in kept:
        notes[name] = [int(getattr(i, name, 0)) for i in iterations]
    return notes


def _fit(problem: Problem, backend: str, precision: str) -> Timed:
    return lambda: _estimator(problem, backend, precision).fit(problem.X), _fit_outcome


def _predict(problem: Problem, backend: str, precision: str) -> Timed:
    centers = problem.starts[0]
    model = _estimator(problem, backend, precision, centers).fit(centers)  # every center is its own row
    model.cluster_centers_ = centers
    return lambda: model.predict(problem.X), lambda labels: Outcome(labels, centers)


def _seed(problem: Problem, backend: str, precision: str) -> Timed:
    from gpukmeans.backends import get_backend
    from gpukmeans.seeding import kmeans_plusplus, probabilities

    place, X = get_backend(backend), problem.X
    on_device = place.load(X, sums=False) if backend == "cupy" else None

    def run() -> Any:
        rows = on_device or place.load(X, sums=False)
        p = probabilities(len(X), None, X.dtype)
        return kmeans_plusplus(rows, problem.workload.n_clusters, np.random.RandomState(0), p, None)

    return run, lambda picks: Outcome(None, X[picks], notes={"picks_sum": int(np.sum(picks))})


def _on_device(problem: Problem, precision: str) -> Timed:
    """Lloyd's loop, or one assignment, over rows that lie on the device."""
    from gpukmeans.backends import get_backend
    from gpukmeans.lloyd import lloyd

    w, start = problem.workload, problem.starts[0]
    rows = get_backend("cupy").load(problem.X, sums=w.task != "predict")
    start = start.astype(rows.center_dtype)

    def assign() -> Any:
        run = rows.start(start, precision=precision)
        return run, run.assign(move=False)

    def assigned(result: Any) -> Outcome:
        run, counts = result
        names = ("n_certified", "n_resolved", "n_exact", "n_uncertain")
        return Outcome(run.labels(), start, notes={name: int(getattr(counts, name)) for name in names})

    def fit() -> Any:
        return lloyd(rows, start, sample_weight=None, max_iter=w.max_iter, tol=0.0, precision=precision)

    def fitted(result: Any) -> Outcome:
        notes = {"iterations_per_start": [result.n_iter], **_iteration_notes(result.iterations)}
        return Outcome(result.labels, result.centers, result.n_iter, result.inertia, notes)

    return (assign, assigned) if w.task == "predict" else (fit, fitted)


def _prepare(backend: str, precision: str) -> Callable[[Problem], Timed]:
    def prepare(problem: Problem) -> Timed:
        w = problem.workload
        if w.dtype not in ROW_DTYPES:
            raise Unsupported(f"gpukmeans does not read {w.dtype} rows yet (it reads {', '.join(ROW_DTYPES)})")
        if w.task == "seed":
            if precision != "exact":
                raise Unsupported("seeding has one precision")
            return _seed(problem, backend, precision)
        if backend == "cupy" and not w.from_host:
            return _on_device(problem, precision)
        return (_predict if w.task == "predict" else _fit)(problem, backend, precision)

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
