"""The peers on an NVIDIA GPU, each through its public interface, and two plain baselines: GEMM and argmin.

What their interfaces (read in the wheels named below) allow decides how they are run:

- flash-kmeans 0.3.1 and flashlib 0.4.0 take a start but do not stop where labels do: they get the number of iterations
  that an exact fit takes.
- fastkmeans 0.5.0 takes no start: it begins from rows drawn by ``torch.randperm`` after ``manual_seed``.  Its rows are
  permuted beforehand so that it draws our start; they stay on the host, as its interface wants them.
- fast-pytorch-kmeans 0.2.2 takes a start and stops when the centers stay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.systems import Outcome, System, Timed, Unsupported, importing
from bench.workloads import Problem

DEVICE = "cuda"
SCORES_AT_ONCE = 1 << 28  # n_rows * n_clusters of one block of the plain baselines: 1 GiB of float32


def _torch_check(*modules: str) -> Callable[[], object]:
    def check() -> object:
        torch = importing("torch", *modules)()[0]  # type: ignore[index]
        if DEVICE == "cuda" and not torch.cuda.is_available():
            raise RuntimeError("torch sees no CUDA device")
        return torch

    return check


def _one_start(problem: Problem, *, may_predict: bool = True) -> None:
    """These systems know one start and no seeding like ours."""
    w = problem.workload
    if w.task == "seed":
        raise Unsupported("no greedy k-means++ with scikit-learn's draws")
    if w.task == "minibatch":
        raise Unsupported("mini-batch k-means is timed beside scikit-learn only")
    if w.task == "predict" and not may_predict:
        raise Unsupported("has no prediction of its own worth timing")
    if len(problem.starts) != 1:
        raise Unsupported("takes one start, not several")


def _to_torch(X: Any, dtype: str) -> Any:
    """A device tensor in the workload's dtype; uint8 and float64 rows become float32 (these peers compute in that)."""
    import torch

    wanted = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(dtype, torch.float32)
    return torch.from_numpy(np.ascontiguousarray(X)).to(DEVICE).to(wanted)


def _host(tensor: Any) -> Any:
    return tensor.detach().float().cpu().numpy() if tensor.is_floating_point() else tensor.cpu().numpy()


def _on_torch(fit: Callable[..., Any], predict: Callable[..., Any] | None, notes: dict[str, Any]) -> Any:
    """Make `prepare` of ``fit(x, start, iterations) -> (labels, centers, n_iter)`` and ``predict(x, centers)``."""

    def prepare(problem: Problem) -> Timed:
        _one_start(problem, may_predict=predict is not None)
        w = problem.workload
        start = _to_torch(problem.starts[0], w.dtype)
        rows = None if w.from_host else _to_torch(problem.X, w.dtype)
        if w.task == "predict":
            assert predict is not None
            labelled = lambda labels: Outcome(_host(labels).ravel(), _host(start), notes=notes)  # noqa: E731
            return lambda: predict(rows, start), labelled
        iterations = problem.fixed_iterations()[0]

        def run() -> Any:
            return fit(_to_torch(problem.X, w.dtype) if rows is None else rows, start.clone(), iterations)

        def outcome(result: Any) -> Outcome:
            labels, centers, n_iter = result
            centers = _host(centers).reshape(w.n_clusters, -1)
            return Outcome(_host(labels).ravel(), centers, None if n_iter is None else int(n_iter), notes=notes)

        return run, outcome

    return prepare


def _flash_kmeans(x: Any, start: Any, iterations: int) -> Any:
    from flash_kmeans import batch_kmeans_Euclid

    # tol=0 never stops it (it asks shift < tol), so that this is a fixed number of iterations.
    return batch_kmeans_Euclid(x[None], len(start), max_iters=iterations, tol=0.0, init_centroids=start[None])


def _flash_kmeans_predict(x: Any, centers: Any) -> Any:
    from flash_kmeans.assign_euclid_triton import euclid_assign_triton

    return euclid_assign_triton(x[None], centers[None], (x[None] ** 2).sum(dim=-1))


def _flashlib(x: Any, start: Any, iterations: int) -> Any:
    from flashlib import flash_kmeans

    return flash_kmeans(x, len(start), max_iters=iterations, tol=0.0, init_centroids=start[None])


def _flashlib_predict(x: Any, centers: Any) -> Any:
    from flashlib.primitives.kmeans import cutedsl_assign_euclid, euclid_assign_triton

    n_clusters, n_features = centers.shape
    if x.element_size() == 2 and n_clusters >= 4096 and n_features >= 256:  # flashlib's own rule for Hopper
        try:
            return cutedsl_assign_euclid(x[None], centers[None])
        except ImportError:  # needs its "cutedsl" extra
            pass
    return euclid_assign_triton(x[None], centers[None])


def _fast_pytorch(x: Any, start: Any, iterations: int) -> Any:
    from fast_pytorch_kmeans import KMeans

    model = KMeans(len(start), max_iter=iterations, tol=0.0)
    return model.fit_predict(x, centroids=start), model.centroids, None


def _fast_pytorch_predict(x: Any, centers: Any) -> Any:
    from fast_pytorch_kmeans import KMeans

    model = KMeans(len(centers))
    model.centroids = centers
    return model.predict(x)


def _fastkmeans(problem: Problem) -> Timed:
    import torch
    from fastkmeans import FastKMeans

    _one_start(problem)
    w = problem.workload
    n_samples, n_features = problem.X.shape
    dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(w.dtype, torch.float32)
    start = problem.starts[0].astype(np.float32)
    settings = {"dtype": dtype, "device": DEVICE, "seed": 0}
    if w.task == "predict":
        X = problem.X.astype(np.float32)
        model = FastKMeans(n_features, w.n_clusters, **settings)
        model.centroids = start
        return lambda: model.predict(X), lambda labels: Outcome(labels, start, notes={"rows": "sent from the host"})
    order = _draw_first(problem.X, problem.starts[0])
    X = problem.X[order].astype(np.float32)
    iterations = problem.fixed_iterations()[0]

    def run() -> Any:
        return FastKMeans(n_features, w.n_clusters, niter=iterations, tol=1e-30, **settings).fit(X)

    def outcome(model: Any) -> Outcome:
        labels = np.empty(n_samples, np.int64)
        labels[order] = model.predict(X)
        notes = {"labels": "by predict() after the fit, not timed", "rows": "sent from the host in every iteration"}
        return Outcome(labels, model.centroids, None, notes=notes)

    return run, outcome


def _draw_first(X: Any, start: Any) -> Any:
    """An order of the rows in which ``randperm(n)[:k]`` after ``manual_seed(0)`` picks those of `start`, in order."""
    import torch

    row_of = {row.tobytes(): i for i, row in enumerate(np.ascontiguousarray(X))}
    ours = [row_of[row.tobytes()] for row in start.astype(X.dtype)]
    torch.manual_seed(0)
    drawn = torch.randperm(len(X))[: len(start)].numpy()
    order = np.empty(len(X), np.int64)
    order[drawn] = ours
    others = np.ones(len(X), bool)
    others[drawn] = False
    order[others] = np.setdiff1d(np.arange(len(X)), ours)
    return order


def torch_nearest(x: Any, centers: Any) -> Any:
    """GEMM and argmin, in blocks of rows: argmin_j |c_j|^2 - 2 x.c_j."""
    import torch

    center_square = (centers.float() ** 2).sum(1).to(x.dtype)
    step = max(1, SCORES_AT_ONCE // len(centers))
    parts = [torch.addmm(center_square, block, centers.T, alpha=-2).argmin(1) for block in x.split(step)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def torch_lloyd(x: Any, centers: Any, max_iter: int) -> Any:
    """Lloyd's algorithm as one would write it in torch: labels by GEMM and argmin, sums by GEMM or index_add."""
    import torch

    n_clusters, labels = len(centers), None
    one_hot = len(x) * n_clusters <= SCORES_AT_ONCE and n_clusters <= 256
    ids = torch.arange(n_clusters, device=x.device)[:, None]
    for iteration in range(1, max_iter + 1):
        found = torch_nearest(x, centers)
        if labels is not None and torch.equal(found, labels):
            return found, centers, iteration
        labels = found
        counts = torch.bincount(labels, minlength=n_clusters)[:, None]
        if one_hot:
            sums = (labels == ids).to(x.dtype) @ x
        else:
            sums = torch.zeros(centers.shape, device=x.device).index_add_(0, labels, x.float())
        centers = torch.where(counts > 0, sums.float() / counts.clamp(min=1), centers.float()).to(x.dtype)
    return torch_nearest(x, centers), centers, max_iter


def cupy_nearest(x: Any, centers: Any) -> Any:
    """The same in CuPy."""
    import cupy as cp

    center_square = (centers * centers).sum(1)
    step = max(1, SCORES_AT_ONCE // len(centers))
    parts = [
        (center_square - 2 * (x[i : i + step] @ centers.T)).argmin(1).astype(cp.int32) for i in range(0, len(x), step)
    ]
    return parts[0] if len(parts) == 1 else cp.concatenate(parts)


def cupy_lloyd(x: Any, centers: Any, max_iter: int) -> Any:
    """Lloyd's algorithm as one would write it in CuPy."""
    import cupy as cp

    n_clusters, labels = len(centers), None
    ids = cp.arange(n_clusters, dtype=cp.int32)[:, None]
    one_hot = len(x) * n_clusters <= SCORES_AT_ONCE and n_clusters <= 256
    for iteration in range(1, max_iter + 1):
        found = cupy_nearest(x, centers)
        if labels is not None and bool((found == labels).all()):
            return found, centers, iteration
        labels = found
        counts = cp.bincount(labels, minlength=n_clusters)[:, None]
        if one_hot:
            sums = (labels == ids).astype(x.dtype) @ x
        else:
            sums = cp.zeros_like(centers)
            cp.add.at(sums, labels, x)
        centers = cp.where(counts > 0, sums / cp.maximum(counts, 1), centers).astype(x.dtype)
    return cupy_nearest(x, centers), centers, max_iter


def _cupy(problem: Problem) -> Timed:
    import cupy as cp

    _one_start(problem)
    w = problem.workload
    if w.dtype == "bfloat16":
        raise Unsupported("CuPy has no bfloat16")
    dtype = np.float16 if w.dtype == "float16" else np.float32
    start = cp.asarray(problem.starts[0].astype(dtype))
    rows = None if w.from_host else cp.asarray(problem.X).astype(dtype)
    if w.task == "predict":
        return lambda: cupy_nearest(rows, start), lambda labels: Outcome(labels.get(), start.get())

    def run() -> Any:
        x = cp.asarray(problem.X).astype(dtype) if rows is None else rows
        return cupy_lloyd(x, start, w.max_iter)

    return run, lambda r: Outcome(r[0].get(), r[1].get(), r[2])


def _cupy_check() -> object:
    cupy = importing("cupy")()[0]  # type: ignore[index]
    if cupy.cuda.runtime.getDeviceCount() < 1:
        raise RuntimeError("CuPy sees no CUDA device")
    return cupy


_FIXED = {"iterations": "a fixed number: it cannot stop when labels stay"}
GPU_PEERS: list[System] = [
    System(
        "flashlib",
        "gpu",
        False,
        "flashlib",
        _torch_check("flashlib"),
        _on_torch(_flashlib, _flashlib_predict, _FIXED),
    ),
    System(
        "flash-kmeans",
        "gpu",
        False,
        "flash-kmeans",
        _torch_check("flash_kmeans.assign_euclid_triton"),
        _on_torch(_flash_kmeans, _flash_kmeans_predict, _FIXED),
    ),
    System("fastkmeans", "gpu", False, "fastkmeans", _torch_check("fastkmeans"), _fastkmeans),
    System(
        "fast-pytorch-kmeans",
        "gpu",
        False,
        "fast-pytorch-kmeans",
        _torch_check("fast_pytorch_kmeans"),
        _on_torch(_fast_pytorch, _fast_pytorch_predict, {}),
    ),
    System("torch GEMM + argmin", "gpu", False, "torch", _torch_check(), _on_torch(torch_lloyd, torch_nearest, {})),
    System("CuPy GEMM + argmin", "gpu", False, "cupy", _cupy_check, _cupy),
]
