"""Cluster a labelled set of images from end to end: load, fit, evaluate, check and draw."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.study.check import check_against_sklearn
from gpukmeans.study.options import Options
from gpukmeans.study.progress import Progress


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
        The whole outcome, as plain Python values: what ``--json`` prints and :func:`report` formats.
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
            model.labels_, X, data.target, n_clusters=options.clusters, inertia=model.inertia_,
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
        "metric_table": table.rows(unit),
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
