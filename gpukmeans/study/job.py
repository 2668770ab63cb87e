"""Cluster a labelled set of images from end to end: load, fit, evaluate, check, draw, and tell."""

from __future__ import annotations

import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.study.progress import Progress

_MOST_CLUSTER_LINES = 40


@dataclass(frozen=True)
class Options:
    """What to do; the command line's options by the same names."""

    command: str
    clusters: int
    backend: str
    precision: str
    init: str
    n_init: int | str
    max_iter: int
    tol: float
    seed: int
    dtype: str
    source: str
    out: Path
    plots: bool
    check: bool


@dataclass(frozen=True)
class DataSet:
    """A labelled set of images that a command clusters."""

    name: str
    load: Callable[[str], Any]
    largest_pixel: int


def load_mnist_from(source: str) -> Any:
    """The 70,000 images, by `gpukmeans.load_mnist`."""
    from gpukmeans.datasets import load_mnist

    return load_mnist(source)


def load_digits_from(source: str) -> Any:
    """The 1,797 digits of scikit-learn."""
    from gpukmeans.datasets import load_digits

    return load_digits()


DATA_SETS = {
    "mnist": DataSet("MNIST", load_mnist_from, 255),
    "digits": DataSet("Digits", load_digits_from, 16),
}


def check_ahead(options: Options) -> None:
    """Find out before the work what would spoil its end: no matplotlib, or no folder to write to.

    Raises
    ------
    ImportError, OSError
    """
    if not options.plots:
        return
    from gpukmeans.plots import require_matplotlib

    try:
        require_matplotlib()
    except ImportError as error:
        raise ImportError(f"{error}, or leave them out with --no-plots") from error
    existing = options.out.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise NotADirectoryError(f"--out {options.out}: {existing} is a file, not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise PermissionError(f"--out {options.out}: no permission to write in {existing}")


def run_job(options: Options, progress: Progress) -> dict[str, Any]:
    """Do what the options say.

    Returns
    -------
    dict
        Everything there is to tell, as plain Python values: what ``--json`` prints and :func:`report` formats.
    """
    seconds: dict[str, float] = {}
    data_set = DATA_SETS[options.command]

    progress.stage(f"loading {data_set.name}")
    with _timed(seconds, "data"):
        data = data_set.load(options.source)
        X = data.data
        if options.dtype != "uint8":
            X = X.astype(options.dtype) / np.dtype(options.dtype).type(data_set.largest_pixel)

    progress.n_samples = len(X)
    progress.stage(f"clustering {len(X):,} images into {options.clusters}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        model = _fit(options, X, progress)
    seconds |= model.fit_report_.stages

    progress.stage("evaluating")
    from gpukmeans.evaluation import cluster_class_counts, evaluate

    with _timed(seconds, "evaluation"):
        table = evaluate(
            X, model.labels_, data.target, n_clusters=options.clusters, inertia=model.inertia_,
            random_state=options.seed,
        )  # fmt: skip
        counts, classes = cluster_class_counts(model.labels_, data.target, options.clusters)

    check = None
    if options.check:
        progress.stage("checking against scikit-learn")
        with _timed(seconds, "check"):
            check = check_against_sklearn(options, X)

    files: list[str] = []
    if options.plots:
        progress.stage("drawing")
        with _timed(seconds, "pictures"):
            files = _draw(options, data_set, data, model.cluster_centers_, counts, classes)
    progress.clear()

    unit = "pixel values" if options.dtype == "uint8" else f"pixel values / {data_set.largest_pixel}"
    return {
        "command": options.command,
        "data": {
            "name": data_set.name,
            "source": options.source if options.command == "mnist" else "scikit-learn",
            "n_samples": len(X),
            "n_features": X.shape[1],
            "image_shape": list(data.images.shape[1:]),
            "dtype": options.dtype,
            "unit": unit,
        },
        "parameters": {
            "n_clusters": options.clusters,
            "init": options.init,
            "n_init": options.n_init,
            "max_iter": options.max_iter,
            "tol": options.tol,
            "random_state": options.seed,
            "precision": options.precision,
            "backend": options.backend,
        },
        "backend": model.backend_,
        "machine": model.fit_report_.backend,
        "n_iter": int(model.n_iter_),
        "seconds": seconds,
        "iterations": [asdict(record) for record in model.fit_report_.iterations],
        "metrics": table.as_dict(),
        "metric_table": table.rows(),
        "shares": [float(share) for share in counts.max(axis=1) / np.maximum(counts.sum(axis=1), 1)],
        "check": check,
        "files": files,
        "warnings": [str(warning.message) for warning in caught],
    }


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - started


def _fit(options: Options, X: NDArray[Any], progress: Progress) -> Any:
    import gpukmeans

    return gpukmeans.fit(
        X,
        options.clusters,
        init=options.init,
        n_init=options.n_init,
        max_iter=options.max_iter,
        tol=options.tol,
        random_state=options.seed,
        backend=options.backend,
        precision=options.precision,
        progress=progress.iteration,
    )


def check_against_sklearn(options: Options, X: NDArray[Any]) -> dict[str, Any]:
    """Fit once more, and with scikit-learn in float64, both from the same rows and until no label changes.

    float32 rows are compared as float64, so that both round their centers alike.

    Returns
    -------
    dict
        Iterations, inertia and seconds of both, and by how much the results differ.
    """
    import sklearn
    from sklearn.cluster import KMeans, kmeans_plusplus

    import gpukmeans

    X64 = X.astype(np.float64, copy=False)
    if options.init == "random":
        seeds = np.random.RandomState(options.seed).permutation(len(X))[: options.clusters]
    else:
        seeds = kmeans_plusplus(X64, options.clusters, random_state=options.seed)[1]
    start = X64[seeds]
    rows = X64 if X.dtype == np.float32 else X

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the run itself has given any warning already
        started = time.perf_counter()
        ours = gpukmeans.fit(
            rows, options.clusters, init=start, n_init=1, max_iter=options.max_iter, tol=0,
            backend=options.backend, precision=options.precision,
        )  # fmt: skip
        our_seconds = time.perf_counter() - started
        started = time.perf_counter()
        theirs = KMeans(
            options.clusters, init=start, n_init=1, max_iter=options.max_iter, tol=0, copy_x=rows is X64
        ).fit(X64)  # fmt: skip
        their_seconds = time.perf_counter() - started
    n_different = int(np.count_nonzero(ours.labels_ != theirs.labels_))
    return {
        "sklearn": sklearn.__version__,
        "agrees": n_different == 0 and ours.n_iter_ == theirs.n_iter_,
        "n_different_labels": n_different,
        "relative_inertia_difference": abs(ours.inertia_ - theirs.inertia_) / (theirs.inertia_ or 1.0),
        "relative_center_difference": float(
            np.abs(ours.cluster_centers_ - theirs.cluster_centers_).max()
            / (np.abs(theirs.cluster_centers_).max() or 1.0)
        ),
        "n_iter": [int(ours.n_iter_), int(theirs.n_iter_)],
        "inertia": [float(ours.inertia_), float(theirs.inertia_)],
        "seconds": [our_seconds, their_seconds],
    }


def _draw(
    options: Options,
    data_set: DataSet,
    data: Any,
    centers: NDArray[Any],
    counts: NDArray[np.int64],
    classes: NDArray[Any],
) -> list[str]:
    from gpukmeans.plots import centroid_grid, confusion_heatmap, save_png

    n_images, image_shape = len(data.data), data.images.shape[1:]
    grid = centroid_grid(
        centers, image_shape=image_shape, counts=counts, classes=classes,
        title=f"{data_set.name}: {len(centers):,} centroids of {n_images:,} images",
    )  # fmt: skip
    confusion = confusion_heatmap(counts, classes=classes, title=f"{data_set.name}: where the digits went")
    options.out.mkdir(parents=True, exist_ok=True)
    return [
        str(save_png(grid, options.out / "centroids.png")),
        str(save_png(confusion, options.out / "confusion.png")),
    ]


def report(result: dict[str, Any], *, iterations: bool = False) -> str:
    """Format what :func:`run_job` returned for reading."""
    data, parameters, metrics = result["data"], result["parameters"], result["metrics"]
    height, width = data["image_shape"]
    reason = "" if parameters["backend"] == "auto" else " (asked for)"
    ended = "stopped by --max-iter" if result["n_iter"] == parameters["max_iter"] else "converged"
    times = [record["seconds"] * 1e3 for record in result["iterations"]]
    lines = [
        f"{data['name']}: {data['n_samples']:,} images of {height} x {width} pixels ({data['dtype']}; "
        f"source: {data['source']}), {parameters['n_clusters']:,} cluster{'s' * (parameters['n_clusters'] > 1)}",
        f"{result['backend']} backend{reason}, {result['machine']}; precision {parameters['precision']}",
        f"{ended} after {result['n_iter']} iterations from {parameters['init']} (seed {parameters['random_state']}, "
        f"n_init {parameters['n_init']}, tol {parameters['tol']:g})",
        "",
        "seconds    " + "   ".join(f"{stage} {value:.3f}" for stage, value in result["seconds"].items()),
        f"iteration  median {statistics.median(times):.2f} ms   first {times[0]:.2f}   last {times[-1]:.2f}   "
        f"longest {max(times):.2f}",
    ]
    if iterations:
        lines += ["", *_iteration_table(result["iterations"])]
    table = [
        (f"inertia, squared {data['unit']}" if name == "inertia" else name, value)
        for name, value in result["metric_table"]
    ]
    widest = max(len(name) for name, _ in table)
    lines += ["", *(f"{name:<{widest}}  {value}" for name, value in table), ""]
    lines += _cluster_lines(metrics, result["shares"])
    if result["check"]:
        lines += ["", *_check_lines(result["check"], data["n_samples"])]
    if result["files"]:
        lines += ["", "wrote " + ", ".join(result["files"])]
    return "\n".join(lines)


def _cluster_lines(metrics: dict[str, Any], shares: list[float]) -> list[str]:
    sizes = metrics["sizes"]
    if len(sizes) > _MOST_CLUSTER_LINES:
        middle = statistics.median(sizes)
        return [f"{len(sizes):,} clusters of {min(sizes):,} to {max(sizes):,} images, median {middle:,g}"]
    return ["cluster     size  digit  share"] + [
        f"{cluster:7d} {size:8,d}  {digit:>5}  {share:5.1%}"
        for cluster, (size, digit, share) in enumerate(zip(sizes, metrics["classes"], shares, strict=True))
    ]


def _iteration_table(records: list[dict[str, Any]]) -> list[str]:
    columns = ["init", "iteration", "seconds", "n_moved", "n_certified", "n_resolved", "n_exact", "shift"]
    formats = ["d", "d", ".4f", ",d", ",d", ",d", ",d", ".6g"]
    cells = [
        [format(record[column], spec) for column, spec in zip(columns, formats, strict=True)] for record in records
    ]
    widths = [max(len(row[i]) for row in [columns, *cells]) for i in range(len(columns))]
    return ["  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in [columns, *cells]]


def _check_lines(check: dict[str, Any], n_samples: int) -> list[str]:
    verdict = "the same clustering" if check["agrees"] else "NOT the same clustering"
    ours, theirs = zip(check["n_iter"], check["inertia"], check["seconds"], strict=True)
    return [
        f"check against scikit-learn {check['sklearn']} in float64, same starting centers, tol 0: {verdict}",
        f"  gpukmeans     {ours[0]:4d} iterations  inertia {ours[1]:.15g}  {ours[2]:.3f} s",
        f"  scikit-learn  {theirs[0]:4d} iterations  inertia {theirs[1]:.15g}  {theirs[2]:.3f} s",
        f"  {check['n_different_labels']:,} of {n_samples:,} labels differ; relative difference of inertia "
        f"{check['relative_inertia_difference']:.1e}, of centers {check['relative_center_difference']:.1e}",
    ]
