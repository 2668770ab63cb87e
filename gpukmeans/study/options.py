"""The options of a study, each declared once: the fields of `Options`, from which the command line makes its own."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gpukmeans.study.values import image_size, numbers, runs, some_path, tolerance, whole

CLUSTERING, READING, OUTPUT = "clustering", "reading the data", "data and output"
DIGITS, OWN = ("mnist", "digits"), ("fit",)


def _option(
    default: Any,
    help: str = "default: %(default)s",
    *,
    group: str = CLUSTERING,
    flags: Sequence[str] = (),
    commands: Sequence[str] = (*DIGITS, *OWN),
    explore: bool = True,
    **kwargs: Any,
) -> Any:
    """A field of `Options` and how the command line reads it.

    Parameters
    ----------
    default : object
        A text may hold {command} and {largest}, the largest pixel.
    help : str
        Likewise.
    group : str
        The heading in ``--help``.
    flags : sequence of str
        Where they are not ``--name``.
    commands : sequence of str
        The commands that have the option; others take the default.
    explore : bool
        Whether `gpukmeans explore` has it, which serves what it fits and writes nothing.
    **kwargs
        For `argparse.ArgumentParser.add_argument`.
    """
    return field(
        default=default,
        metadata={
            "help": help,
            "group": group,
            "flags": flags,
            "commands": commands,
            "explore": explore,
            "kwargs": kwargs,
        },
    )


def _named(help: str, metavar: str = "NAME") -> Any:
    """A field for the name of a column, or for several."""
    return _option(None, help, group=READING, commands=OWN, metavar=metavar)


@dataclass(frozen=True)
class Options:
    """What a study does.

    Attributes
    ----------
    command : {"mnist", "digits", "fit"}
        Which data.
    path : Path
        The file or folder of "fit".
    columns, label, id, drop, one_hot, missing, scale, sample, image_size, image_mode, delimiter, decimal, header
        Parameters of `gpukmeans.read_table`; columns are listed with commas between.
    seeds : int
        How many seeds, from `seed` on, are fitted, of which the best is kept.
    memory_limit : str or None
        As of `gpukmeans.open_rows`: the rows stream.
    scheduler : str or None
        The address of a Dask cluster whose workers read and cluster the rows.
    source : str
        Where the images of "mnist" come from, as of `gpukmeans.load_mnist`.
    clusters, backend, precision, init, n_init, max_iter, tol, seed
        Parameters of `gpukmeans.KMeans`; `clusters` is n_clusters, `seed` random_state.
    dtype : {"uint8", "float32", "float64"}
        Of the rows; other than uint8: pixels divided by the largest.
    check : bool
        Whether scikit-learn's clustering is compared.
    compare : {"starts", "reductions", "algorithms"}, or None
        What is compared.
    sweep : tuple of int, or None
        Numbers of clusters that are fitted beside, and compared.
    train_test : tuple of int, or None
        Numbers of clusters that are fitted to the training images and judged on the test images.
    out : Path or None
        The folder for all that is written; None: `folder` is a default, for pictures and what comes with them.
    checkpoint : Path or None
        The checkpoint of the fit.
    resumes : bool
        Whether the fit goes on from it.
    force : bool
        Whether the folder may hold files already.
    labels_format : {"csv", "parquet"}
        Of the file of labels.
    map : {"pca", "neighbours"}, or None
        How the rows are laid out in a map.
    plots : bool
        Whether pictures are drawn.
    """

    command: str
    path: Path = _option(  # noqa: RUF009 (a field, like the others)
        Path(),
        "a table (CSV, TSV, Parquet, Arrow, Feather), an array (npy, npz, IDX), or a folder of PNG and JPEG files; or "
        "infinite-mnist:N, N deformed digits",
        group="",
        flags=("path",),
        commands=OWN,
        type=some_path,
        metavar="PATH",
    )
    source: str = _option(
        "bundled",
        "bundled (needs no network), keras, openml, or the path of an npz file or a folder of IDX files; "
        "default: %(default)s",
        group="",
        commands=("mnist",),
    )
    clusters: int = _option(10, flags=("-k", "--clusters"), type=whole(1), metavar="K")
    backend: str = _option("auto", choices=["auto", "numpy", "cupy"])
    precision: Literal["exact", "fast"] = _option(
        "exact",
        "fast leaves rows that are too close to call to rounding; default: %(default)s",
        choices=["exact", "fast"],
    )
    init: str = _option("k-means++", choices=["k-means++", "k-means||", "two-level", "random"])
    n_init: int | Literal["auto"] = _option(
        "auto",
        "runs, of which the best is kept; auto: 1 for k-means++, 10 for random; default: %(default)s",
        type=runs,
        metavar="N",
    )
    max_iter: int = _option(300, type=whole(1), metavar="N")
    tol: float = _option(
        1e-4,
        "stop when the centers move less, relative to the features' variance; 0: when no label changes; "
        "default: %(default)s",
        type=tolerance,
        metavar="T",
    )
    seed: int = _option(0, type=whole(0, 2**32 - 1), metavar="S")
    dtype: str = _option(
        "uint8",
        "uint8: pixels as they are, 0 to {largest}; float32, float64: pixels / {largest}; inertia is in squared "
        "units of these; default: %(default)s",
        group=OUTPUT,
        commands=DIGITS,
        choices=["uint8", "float32", "float64"],
    )
    check: bool = _option(
        False,
        "also fit with scikit-learn in float64, from the same starting centers with tol 0, and compare",
        group=OUTPUT,
        commands=DIGITS,
        action="store_true",
        explore=False,
    )
    compare: str | None = _option(
        None,
        "also fit and compare starts (k-means++, random rows, principal components, with 4, 4 and 1 starts; the "
        "default of --compare alone), reductions (k-means of leading principal components) or algorithms (eight, on "
        "5,000 rows at most)",
        group=OUTPUT,
        nargs="?",
        const="starts",
        choices=["starts", "reductions", "algorithms"],
        explore=False,
    )
    map: Literal["pca", "neighbours"] | None = _option(
        None,
        "draw a map of the rows, which is the report's, too: their first two principal components (pca), or a layout "
        "that keeps neighbours together (minutes for 70,000 rows; needs gpukmeans[maps])",
        group=OUTPUT,
        choices=["pca", "neighbours"],
    )
    sweep: tuple[int, ...] | None = _option(
        None,
        "also fit each of these numbers of clusters, and say which one the silhouette speaks for; K,K,...: 2 to 20 by "
        "default",
        group=OUTPUT,
        nargs="?",
        const=tuple(range(2, 21)),
        type=numbers,
        metavar="K,K,...",
        explore=False,
    )
    train_test: tuple[int, ...] | None = _option(
        None,
        "also fit k-means and mini-batches to the 60,000 training images, for each of these numbers of clusters, and "
        "judge them on the 10,000 test images; K,K,...: 10,16,32,64,128,256,512,1024 by default (minutes)",
        group=OUTPUT,
        commands=("mnist",),
        nargs="?",
        const=(10, 16, 32, 64, 128, 256, 512, 1024),
        type=numbers,
        metavar="K,K,...",
        explore=False,
    )
    columns: str | None = _named(
        "columns to cluster by: names, or places from 0 (digits that name none); default: all that hold numbers",
        "NAMES",
    )
    label: str | None = _named("column of known classes, to compare the clusters with (pictures: folder)")
    id: str | None = _named("column that names the rows; default: one called id, index or the like")
    drop: str | None = _named("columns to leave out", "NAMES")
    one_hot: str | None = _named("columns of categories, each of which becomes a feature of 0 and 1", "NAMES")
    missing: str = _option(
        "error",
        "rows with missing values: name them and stop, leave them out, or put the column's mean there; "
        "default: %(default)s",
        group=READING,
        commands=OWN,
        choices=["error", "drop", "mean"],
    )
    scale: str | None = _option(
        None,
        "standard: features of mean 0 and variance 1; minmax: from 0 to 1; default: as they are",
        group=READING,
        choices=["standard", "minmax"],
    )
    sample: int | None = _option(
        None, "cluster a random sample of N rows", group=READING, commands=OWN, type=whole(1), metavar="N"
    )
    memory_limit: str | None = _option(
        None,
        "read the rows block by block, within so much memory, as 4GB: they need not fit into it; with --scheduler: the "
        "memory that each worker has for its share of the rows",
        group=READING,
        commands=OWN,
        metavar="BYTES",
        explore=False,
    )
    scheduler: str | None = _option(
        None,
        "fit on the workers of this Dask cluster, as tcp://10.0.0.1:8786, to the same bits; they read PATH themselves, "
        "so all of them must see it, and must be trusted (needs gpukmeans[dask])",
        group=READING,
        commands=OWN,
        metavar="ADDRESS",
        explore=False,
    )
    image_size: tuple[int, int] | None = _option(
        None,
        "size of the pictures, to which those in files are brought; default: their own",
        group=READING,
        commands=OWN,
        type=image_size,
        metavar="HxW",
    )
    image_mode: str | None = _option(
        None, "grey or colour; default: as the pictures are", group=READING, commands=OWN, choices=["L", "RGB"]
    )
    delimiter: str | None = _named("what stands between values in a text; default: found out", "TEXT")
    decimal: str | None = _named("what stands before decimals in a text; default: found out", "TEXT")
    header: bool | None = _option(
        None,
        "whether the first line of a text has the names of the columns; default: found out",
        group=READING,
        commands=OWN,
        action=argparse.BooleanOptionalAction,
    )
    seeds: int = _option(
        1,
        "fit from N seeds, show mean and spread, keep the best; default: %(default)s",
        commands=OWN,
        type=whole(1),
        metavar="N",
        explore=False,
    )
    out: Path | None = _option(  # noqa: RUF009
        None,
        "where to write labels, centers, model.npz, report.html and pictures; default: ./gpukmeans-{command}",
        group=OUTPUT,
        flags=("-o", "--out"),
        type=some_path,
        metavar="DIR",
        explore=False,
    )
    force: bool = _option(
        False, "replace files in a folder that exists", group=OUTPUT, action="store_true", explore=False
    )
    checkpoint: Path | None = _option(  # noqa: RUF009
        None,
        "keep the fit in this file; `gpukmeans resume FILE` goes on from it, to the same bits",
        group=OUTPUT,
        commands=OWN,
        type=some_path,
        metavar="FILE",
        explore=False,
    )
    resumes: bool = _option(False, commands=())
    labels_format: str = _option(
        "csv",
        "of the file of labels; with a report, parquet also writes its map, for Embedding Atlas; default: %(default)s",
        group=OUTPUT,
        choices=["csv", "parquet"],
        explore=False,
    )
    plots: bool = _option(
        True,
        "write no pictures (needs no matplotlib); without -o, mnist and digits then write nothing",
        group=OUTPUT,
        flags=("--no-plots",),
        action="store_false",
        explore=False,
    )

    report: bool | None = _option(
        None,
        "whether to write report.html, too: a map, the clusters and their members in one page that needs no network; "
        "default: with everything else that is written",
        group=OUTPUT,
        action=argparse.BooleanOptionalAction,
        explore=False,
    )
    silhouette: str = _option(
        "simplified",
        "of the report: by distances to the centers, or to all rows; default: %(default)s",
        group=OUTPUT,
        choices=["simplified", "exact"],
    )

    @property
    def folder(self) -> Path:
        """Where files are written."""
        return Path(f"gpukmeans-{self.command}") if self.out is None else self.out

    @property
    def writes(self) -> bool:
        """Whether anything is written."""
        return self.command in OWN or self.plots or self.report is True or self.out is not None

    @property
    def page(self) -> bool:
        """Whether report.html is written."""
        return self.writes if self.report is None else self.report

    def parameters(self) -> dict[str, Any]:
        """Those of `gpukmeans.KMeans`, but for the callback."""
        return {
            "init": self.init,
            "n_init": self.n_init,
            "max_iter": self.max_iter,
            "tol": self.tol,
            "random_state": self.seed,
            "precision": self.precision,
            "backend": self.backend,
        }
