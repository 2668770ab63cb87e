"""`gpukmeans predict`: the clusters of other rows, by a model that was saved."""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from gpukmeans.study.outputs import check_file, write_labels
from gpukmeans.study.streams import emit, require_stdout, say
from gpukmeans.study.values import some_path


def add_command(commands: Any) -> None:
    """Add the command to the subparsers of `gpukmeans`."""
    predict = commands.add_parser(
        "predict",
        help="find the clusters of other rows, by a saved model",
        description="Find the nearest center of each row of a file, or of each picture in a folder. They are read as "
        "the model's own rows were: columns, categories, fills, scale, size of pictures.",
    )
    predict.add_argument("model", type=some_path, metavar="MODEL", help="model.npz, as `gpukmeans fit` writes it")
    predict.add_argument("path", type=some_path, metavar="PATH", help="a file or a folder, as of `gpukmeans fit`")
    predict.add_argument(
        "-o",
        "--out",
        type=some_path,
        default=Path("labels.csv"),
        metavar="FILE",
        help="where to write the labels, as .csv or .parquet; default: ./%(default)s",
    )
    predict.add_argument("--force", action="store_true", help="replace the file if it exists")
    predict.add_argument("--backend", default="auto", choices=["auto", "numpy", "cupy"], help="default: %(default)s")
    predict.add_argument("--json", action="store_true", help="print one JSON object on standard output, nothing else")
    predict.add_argument("--quiet", action="store_true", help="print nothing but errors")
    predict.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Label the rows and write the file; returns the exit status."""
    import gpukmeans
    from gpukmeans.evaluation import margins

    if arguments.json or not arguments.quiet:
        require_stdout()
    check_file(arguments.out, force=arguments.force)
    model = gpukmeans.load_model(arguments.model).set_params(backend=arguments.backend)
    preprocessing = getattr(model, "preprocessing_", None)
    table = gpukmeans.read_table(arguments.path, like=preprocessing)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        labels = np.asarray(model.predict(table.X))
    found = margins(table.X, labels, model.cluster_centers_)
    write_labels(arguments.out, labels, found, table.rows, table.ids)
    if not arguments.quiet:
        for warning in caught:
            say(f"gpukmeans: warning: {warning.message}")
    sizes = np.bincount(labels, minlength=len(model.cluster_centers_)).tolist()
    result = {
        "command": "predict",
        "model": str(arguments.model),
        "source": str(arguments.path),
        "n_samples": len(labels),
        "sizes": sizes,
        "notes": table.notes,
        "files": {"labels": str(arguments.out)},
    }
    if arguments.json:
        emit(json.dumps(result, allow_nan=False) + "\n")
    elif not arguments.quiet:
        lines = [
            f"{arguments.path}: {len(labels):,} row{'s' * (len(labels) != 1)}",
            *(f"  {note}" for note in table.notes),
        ]
        used = sum(size > 0 for size in sizes)
        lines += [
            f"in {used:,} of {len(sizes):,} clusters, the largest of which has {max(sizes):,}",
            f"wrote {arguments.out}",
        ]
        emit("\n".join(lines) + "\n")
    return 0
