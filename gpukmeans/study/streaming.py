"""Cluster rows that stream: a fit within a memory limit, of a file or of images that are made on the way."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from gpukmeans.study.cluster import on_cluster
from gpukmeans.study.fitting import INFINITE, check_checkpoint, fitted
from gpukmeans.study.options import READING, Options
from gpukmeans.study.outputs import check_folder, write_centers
from gpukmeans.study.progress import Progress
from gpukmeans.writing import whole_file

#: The scheduler of a fit that goes on without one.
HERE = "none"
#: Options of reading that rows which stream have, too.
_HAVE = {"memory_limit", "scheduler", "columns"}
#: Other options that they do not have.
_OF_MEMORY = {
    "seeds", "check", "compare", "sweep", "train_test", "map", "silhouette", "labels_format", "dtype",
}  # fmt: skip


def streams(options: Options) -> bool:
    """Whether the rows are to be read block by block."""
    return not (options.memory_limit is None and options.scheduler is None) or str(options.path).startswith(INFINITE)


def run_stream(options: Options, progress: Progress) -> dict[str, Any]:
    """Fit the rows and write labels.npy, centers.csv and model.npz.

    Returns
    -------
    dict
        The outcome, as plain Python values.

    Raises
    ------
    ValueError
        An option needs all rows in memory.
    """
    without = "--memory-limit" if options.scheduler is None else "--scheduler"
    for field in fields(Options):
        of_memory = field.metadata.get("group") == READING or field.name in _OF_MEMORY
        if of_memory and field.name not in _HAVE and getattr(options, field.name) != field.default:
            raise ValueError(
                f"--{field.name.replace('_', '-')} needs all rows in memory; leave it out, or {without}"
                + (", and name the features by --columns" if field.name in ("label", "id", "drop") else "")
            )
    if options.report:
        raise ValueError(f"--report needs all rows in memory; leave it out, or {without}")
    check_checkpoint(options)
    check_folder(options.folder, force=options.force)
    rows = _opened(options)
    progress.stage(f"reading {options.path}")
    progress.n_samples, progress.max_iter = rows.n_samples, options.max_iter
    progress.stage(f"clustering {rows.n_samples:,} rows into {options.clusters:,}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        with _placed(options, rows) as X:
            model = fitted(options, X, progress)
            model.labels_ = np.asarray(model.labels_)
    progress.stage("writing")
    folder = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    sizes = np.bincount(model.labels_, minlength=options.clusters).tolist()
    with whole_file(folder / "labels.npy") as file:
        np.lib.format.write_array(file, model.labels_, allow_pickle=False)
    names = rows.feature_names or [f"feature_{i}" for i in range(rows.n_features)]
    written = [
        folder / "labels.npy",
        write_centers(folder / "centers.csv", model.cluster_centers_, sizes, names),
        model.save(folder / "model.npz"),
    ]
    progress.clear()
    report = model.fit_report_
    return {
        "command": options.command,
        "source": str(options.path),
        "n_samples": rows.n_samples,
        "n_features": rows.n_features,
        "dtype": rows.dtype.name,
        "parameters": {"n_clusters": options.clusters, **options.parameters()},
        "backend": model.backend_,
        "machine": report.backend,
        "n_iter": int(model.n_iter_),
        "inertia": model.inertia_,
        "bytes_read": report.bytes_read,
        "seconds": report.stages,
        "iterations": [asdict(record) for record in report.iterations],
        "sizes": sizes,
        "files": [str(path) for path in written],
        "warnings": [str(warning.message) for warning in caught],
    }


def _placed(options: Options, rows: Any) -> AbstractContextManager[Any]:
    """The rows where they are clustered."""
    address = options.scheduler
    return nullcontext(rows) if address in (None, HERE) else on_cluster(address, rows, options.clusters)


def _opened(options: Options) -> Any:
    import gpukmeans

    source: Any = options.path
    if str(source).startswith(INFINITE):
        from gpukmeans.datasets import make_infinite_mnist

        number = str(source).removeprefix(INFINITE).replace("_", "")
        if not number.isdecimal() or not int(number):
            raise ValueError(f"{source}: the number of rows should stand behind the colon, as in {INFINITE}8100000")
        source = make_infinite_mnist(int(number), options.seed)
    elif options.scheduler is not None:
        source = source.absolute()  # workers run in other folders
    columns = None if options.columns is None else options.columns.split(",")
    return gpukmeans.open_rows(source, columns=columns, memory_limit=options.memory_limit)


def stream_report(result: dict[str, Any]) -> str:
    """The outcome as text."""
    n, k, p = result["n_samples"], result["parameters"]["n_clusters"], result["parameters"]
    size = n * result["n_features"] * np.dtype(result["dtype"]).itemsize
    read, sizes = result["bytes_read"], result["sizes"]
    ended = "stopped by --max-iter" if result["n_iter"] == p["max_iter"] else "converged"
    seconds = "   ".join(f"{stage} {value:.3f}" for stage, value in result["seconds"].items())
    rate = n * result["n_iter"] / max(result["seconds"]["lloyd"], 1e-9)
    return "\n".join(
        [
            f"{result['source']}: {n:,} rows of {result['n_features']:,} features ({result['dtype']}), "
            f"{k:,} cluster{'s' * (k > 1)}",
            f"{result['backend']} backend, {result['machine']}; precision {p['precision']}",
            f"{ended} after {result['n_iter']} iterations from {p['init']} (seed {p['random_state']})",
            *([f"read       {read:,} bytes of rows, {read / size:.1f} times all of them"] if read else []),
            f"rate       {rate:,.0f} rows a second, each iteration counted",
            f"seconds    {seconds}",
            f"inertia    {result['inertia']:.9g}",
            f"sizes      {min(sizes):,} to {max(sizes):,} rows",
            "wrote " + ", ".join(result["files"]),
        ]
    )
