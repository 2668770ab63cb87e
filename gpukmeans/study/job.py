"""Cluster rows from end to end: load, fit, evaluate, check, write and draw."""

from __future__ import annotations

import statistics
import warnings
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.study.beside import Beside
from gpukmeans.study.check import check_against_sklearn
from gpukmeans.study.data import DATA_SETS, DataSet, Loaded, load
from gpukmeans.study.fitting import check_checkpoint, fitted
from gpukmeans.study.options import Options
from gpukmeans.study.outputs import check_folder, write_all
from gpukmeans.study.progress import Progress, timed

_MOST_CLASSES = 100  # of a picture that shows where they went

__all__ = ["DATA_SETS", "DataSet", "check_ahead", "run_job"]


def check_ahead(options: Options) -> None:
    """Find out before the work what would spoil its end: a package that is missing, options that do
    not go together, or no folder to write to.

    Raises
    ------
    ImportError, OSError, ValueError
    """
    if options.map == "neighbours":
        from gpukmeans.evaluation.layouts import require_neighbours

        require_neighbours()
    if options.train_test and options.scale:
        raise ValueError(
            "--train-test does not go with --scale, which is learned from all images, those of the test too"
        )
    check_checkpoint(options)
    if options.plots:
        from gpukmeans.plots import require_matplotlib

        try:
            require_matplotlib()
        except ImportError as error:
            raise ImportError(f"{error}, or leave them out with --no-plots") from error
    if options.writes:
        check_folder(options.folder, force=options.force)


def run_job(options: Options, progress: Progress) -> dict[str, Any]:
    """Do what the options say.

    Returns
    -------
    dict
        The whole outcome, as plain Python values: what ``--json`` prints and :func:`report` formats.
    """
    seconds: dict[str, float] = {}
    progress.stage(f"loading {DATA_SETS[options.command].name if options.command in DATA_SETS else options.path}")
    with timed(seconds, "data"):
        data = load(options)
    X = data.X

    beside = Beside(options, data)
    progress.n_samples, progress.max_iter = len(X), options.max_iter
    progress.stage(
        f"clustering {len(X):,} {'rows' if data.image_shape is None else 'images'} into {options.clusters:,}"
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        model, other, seeds = _best(options, X, progress)
    seconds |= model.fit_report_.stages
    model.preprocessing_ = data.preprocessing

    progress.stage("evaluating")
    from gpukmeans.evaluation import cluster_class_counts, cluster_names, evaluate

    with timed(seconds, "evaluation"):
        table = evaluate(
            model.labels_, X, data.y, n_clusters=options.clusters, inertia=model.inertia_,
            random_state=options.seed,
        )  # fmt: skip
        counts = classes = None
        if data.y is not None:
            counts, classes = cluster_class_counts(model.labels_, data.y, options.clusters)

    more = beside.run(seconds, progress.stage)

    check = None
    if options.check:
        progress.stage("checking against scikit-learn")
        with timed(seconds, "check"):
            check = check_against_sklearn(options, X)

    files: dict[str, str] = {}
    if options.writes:
        progress.stage("writing")
        from gpukmeans.evaluation import margins

        with timed(seconds, "margins"):
            found = margins(X, model.labels_, model.cluster_centers_)
        with timed(seconds, "files"):
            files = write_all(
                options.folder, options.labels_format, model, found, data.in_own_units(model.cluster_centers_),
                data.feature_names, data.rows, data.ids,
            )  # fmt: skip
    names = None if counts is None or classes is None else cluster_names(counts, classes)
    points, points_name = None, ""
    if options.page or (options.plots and options.map):
        from gpukmeans.study.explorer.content import placed

        progress.stage(f"laying {len(X):,} rows out in a plane")
        with timed(seconds, "map"):
            points, points_name = placed(options, data)
    pictures = dict[str, Any]()
    if options.plots:
        progress.stage("drawing")
        with timed(seconds, "pictures"):
            files |= _draw(options, data, model, counts, classes)
            pictures = beside.pictures(points if options.map else None)
            if options.map and points is not None:
                from gpukmeans.plots import point_map

                pictures["map"] = point_map(points, model.labels_, names=names, title=f"{data.name}: clusters")
            for what, picture in pictures.items():
                files[what] = str(picture.save(options.folder / f"{what}.png"))
    if options.page:
        progress.stage("putting the report together")
        from gpukmeans.study.explorer.content import Outcome, made, silhouettes_of
        from gpukmeans.study.explorer.page import write_page

        with timed(seconds, "report"):
            outcome = Outcome(
                data, model, options.parameters(), found, table, data.unit, counts, classes,
                silhouettes_of(data, model, found, options.silhouette), options.silhouette, dict(seconds),
                [str(warning.message) for warning in caught],
                beside.extras(model, names, pictures, other),
            )  # fmt: skip
            page = made(outcome, points=points, points_name=points_name)
            files["report"] = str(write_page(options.folder / "report.html", *page))
            if options.labels_format == "parquet" and points is not None:
                from gpukmeans.study.explorer.atlas import write_points

                files["points"] = str(write_points(options.folder / "points.parquet", outcome, points))
    progress.clear()

    return {
        "command": options.command,
        "data": {
            "name": data.name,
            "source": data.source,
            "n_samples": len(X),
            "n_features": X.shape[1],
            "image_shape": None if data.image_shape is None else list(data.image_shape),
            "dtype": X.dtype.name,
            "unit": data.unit,
            "class_name": data.class_name,
            "notes": data.notes,
        },
        "parameters": {"n_clusters": options.clusters, **options.parameters(), "random_state": model.random_state},
        "backend": model.backend_,
        "machine": model.fit_report_.backend,
        "n_iter": int(model.n_iter_),
        "seconds": seconds,
        "iterations": [asdict(record) for record in model.fit_report_.iterations],
        "metrics": table.as_dict(),
        "metric_table": table.rows(data.unit),
        "shares": None if counts is None else (counts.max(axis=1) / np.maximum(counts.sum(axis=1), 1)).tolist(),
        "seeds": seeds,
        "check": check,
        **more,
        "files": files,
        "warnings": [str(warning.message) for warning in caught],
    }


def _best(options: Options, X: NDArray[Any], progress: Progress) -> tuple[Any, Any, dict[str, Any] | None]:
    """The fit of lowest inertia over all seeds, the next, and what came of each, if there are several."""
    models, inertias, n_iters = list[Any](), list[float](), list[int]()
    for seed in range(options.seed, options.seed + options.seeds):
        if options.seeds > 1:
            progress.stage(f"clustering from seed {seed}")
        model = fitted(options, X, progress, seed)
        inertias.append(model.inertia_)
        n_iters.append(int(model.n_iter_))
        models = sorted([*models, model], key=lambda one: one.inertia_)[:2]  # of equal ones the first seed
    if options.seeds == 1:
        return models[0], None, None
    return *models, {
        "first": options.seed,
        "inertias": inertias,
        "n_iters": n_iters,
        "mean": statistics.fmean(inertias),
        "standard_deviation": statistics.stdev(inertias),
    }


def _draw(options: Options, data: Loaded, model: Any, counts: Any, classes: Any) -> dict[str, str]:
    """Draw the centers, and where the classes went, if these are known."""
    from gpukmeans.plots import centroid_grid, confusion_heatmap

    k, n = options.clusters, len(data.X)
    what = "centers" if data.image_shape is None else "centroids"
    grid = centroid_grid(
        data.in_own_units(model.cluster_centers_), image_shape=data.image_shape, counts=counts, classes=classes,
        sizes=None if counts is not None else np.bincount(model.labels_, minlength=k).tolist(),
        class_name=data.class_name, feature_names=data.feature_names, large=data.large,
        title=f"{data.name}: {k:,} {what} of {n:,} {'rows' if data.image_shape is None else 'images'}",
    )  # fmt: skip
    written = {"centroids": str(grid.save(options.folder / "centroids.png"))}
    if counts is not None and counts.shape[1] <= _MOST_CLASSES:
        title = f"{data.name}: where the {'digits' if data.class_name == 'digit' else 'classes'} went"
        confusion = confusion_heatmap(counts, classes=classes, class_name=data.class_name, title=title)
        written["confusion"] = str(confusion.save(options.folder / "confusion.png"))
    return written
