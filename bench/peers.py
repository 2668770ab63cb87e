"""The peers on a CPU, each through its public interface, and the list of all systems.

Every peer gets what suits it: its favourite dtype ready-made (uint8 rows as float32), the same start, tol=0, all cores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.sparse import issparse

from bench.fitting_peers import FITTING_PEERS
from bench.ours import OURS
from bench.systems import Outcome, System, Timed, Unsupported, importing
from bench.workloads import Problem, kmeans_plusplus_starts


def _floats(problem: Problem) -> Any:
    """The rows as float32, or float64 where they are that (already converted before the clock starts)."""
    X = problem.X
    return X if X.dtype in (np.float32, np.float64) else X.astype(np.float32)


def _sklearn_like(module: str, algorithm: str) -> Callable[[Problem], Timed]:
    def prepare(problem: Problem) -> Timed:
        KMeans = importing(module)()[0].KMeans  # type: ignore[index]
        w, X = problem.workload, _floats(problem)
        if w.task == "seed":
            if algorithm != "lloyd" or module != "sklearn.cluster":
                raise Unsupported("seeding does not depend on it, or is scikit-learn's own")
            return _sklearn_seed(problem)
        if w.task == "minibatch":
            if algorithm != "lloyd" or module != "sklearn.cluster":
                raise Unsupported("it has no algorithm to choose, or is scikit-learn's own")
            return _sklearn_minibatch(problem)
        if w.task == "predict" and algorithm != "lloyd":
            raise Unsupported("prediction is the same as with lloyd")
        start = problem.starts[0].astype(X.dtype) if problem.starts else None
        given: dict[str, Any] = {"init": start, "n_init": 1}
        if w.seeded:
            given = {"init": "k-means++", "n_init": w.n_init, "random_state": 0}
        if w.task == "predict":
            assert start is not None
            # Two rows per center: the fitted centers are the given ones, and oneDAL wants more rows than centers.
            model = KMeans(w.n_clusters, init=start, n_init=1, max_iter=1, tol=0.0).fit(np.repeat(start, 2, axis=0))
            if module == "sklearn.cluster":
                model.cluster_centers_ = start
            return lambda: model.predict(X), lambda labels: Outcome(labels, np.asarray(model.cluster_centers_))

        def run() -> Any:
            return KMeans(w.n_clusters, **given, max_iter=w.max_iter, tol=0.0, algorithm=algorithm).fit(X)

        return run, lambda m: Outcome(m.labels_, m.cluster_centers_, int(m.n_iter_), float(m.inertia_))

    return prepare


def _sklearn_seed(problem: Problem) -> Timed:
    from sklearn.cluster import kmeans_plusplus

    X, k = _floats(problem), problem.workload.n_clusters
    return (
        lambda: kmeans_plusplus(X, k, random_state=0),
        lambda drawn: Outcome(None, drawn[0], notes={"picks_sum": int(np.sum(drawn[1]))}),
    )


def _sklearn_minibatch(problem: Problem) -> Timed:
    from sklearn.cluster import MiniBatchKMeans

    w, X = problem.workload, _floats(problem)
    return (
        lambda: MiniBatchKMeans(w.n_clusters, batch_size=w.batch_size, random_state=0).fit(X),
        lambda m: Outcome(m.labels_, m.cluster_centers_, int(m.n_steps_), float(m.inertia_)),
    )


def _faiss(**settings: Any) -> Callable[[Problem], Timed]:
    def prepare(problem: Problem) -> Timed:
        import faiss

        w = problem.workload
        missing = [name for name in settings if not hasattr(faiss.ClusteringParameters(), name)]
        if missing:
            raise Unsupported(f"this faiss has no {', '.join(missing)}")
        if settings and w.task == "predict":
            raise Unsupported("prediction is the same without it")
        if w.task == "seed":
            raise Unsupported("faiss has no greedy k-means++ with scikit-learn's draws")
        if w.task == "minibatch":
            raise Unsupported("faiss has no mini-batch k-means")
        if issparse(problem.X):
            raise Unsupported("faiss reads dense rows only")
        X = np.ascontiguousarray(problem.X, dtype=np.float32)
        starts = [np.ascontiguousarray(start, dtype=np.float32) for start in problem.starts]
        d, k = X.shape[1], w.n_clusters
        if w.task == "predict":
            index = faiss.IndexFlatL2(d)
            index.add(starts[0])
            return lambda: index.search(X, 1), lambda found: Outcome(found[1].ravel(), starts[0])
        iterations = problem.fixed_iterations()

        def run() -> Any:
            best = None
            # faiss has no k-means++: who restarts from it has scikit-learn draw, as is done here while the clock runs.
            begun = drawn() if w.seeded else starts
            for start, niter in zip(begun, iterations, strict=True):
                model = faiss.Kmeans(
                    d, k, niter=niter, min_points_per_centroid=1, max_points_per_centroid=len(X), **settings
                )
                objective = model.train(X, init_centroids=start)
                if best is None or objective < best[0]:
                    best = objective, model, niter
            return best

        def drawn() -> list[Any]:
            return [np.ascontiguousarray(s, dtype=np.float32) for s in kmeans_plusplus_starts(problem.X, k, w.n_init)]

        def outcome(best: Any) -> Outcome:
            objective, model, niter = best
            notes = {"labels": "by assign() after the fit, not timed; a fixed number of iterations"}
            if w.seeded:
                notes["starts"] = "scikit-learn's kmeans_plusplus, timed: faiss has none of its own"
            return Outcome(model.assign(X)[1], model.centroids, niter, float(objective), notes)

        return run, outcome

    return prepare


PEERS: list[System] = [
    *(
        System(f"{package} {algorithm}", "cpu", False, package, importing(module), _sklearn_like(module, algorithm))
        for package, module in (("scikit-learn", "sklearn.cluster"), ("scikit-learn-intelex", "sklearnex.cluster"))
        for algorithm in ("lloyd", "elkan")
    ),
    System("faiss-cpu", "cpu", False, "faiss-cpu", importing("faiss"), _faiss()),
    System("faiss-cpu super", "cpu", False, "faiss-cpu", importing("faiss"), _faiss(use_super_kmeans=True)),
    *(system for system in FITTING_PEERS if system.name == "SuperKMeans"),  # the others are far behind
]


def systems_of(suite: str, names: list[str] | None = None) -> list[System]:
    """The systems of a suite, ours first, or those named.

    The GPU suite holds ours and scikit-learn on the CPU as well, for the workloads marked ``cpu_too``.

    Raises
    ------
    ValueError
        If a name is unknown.
    """
    from bench.gpu_peers import GPU_PEERS

    on_cpu = [s for s in OURS if s.device == "cpu"]
    on_gpu = [s for s in OURS if s.device == "gpu"]
    classic = [s for s in PEERS if s.distribution == "scikit-learn"]
    every = [*on_gpu, *GPU_PEERS, *on_cpu, *classic] if suite == "gpu" else [*on_cpu, *PEERS]
    if not names:
        return every
    unknown = sorted(set(names) - {s.name for s in every})
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: no such system; {suite} has {', '.join(s.name for s in every)}.")
    return [s for s in every if s.name in names]
