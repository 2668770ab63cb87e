"""The options of a study, each declared once: the fields of `Options`, from which the command line makes its own."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal


def whole(lowest: int, highest: int | None = None) -> Callable[[str], int]:
    """A parser of whole numbers within these limits; it raises argparse.ArgumentTypeError for other texts."""
    allowed = f"a whole number from {lowest} to {highest}" if highest else f"a whole number, at least {lowest}"

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = lowest - 1
        if value < lowest or (highest is not None and value > highest):
            raise argparse.ArgumentTypeError(f"{text!r} should be {allowed}")
        return value

    return parse


def runs(text: str) -> int | str:
    """A number of restarts, or "auto"."""
    if text == "auto":
        return text
    try:
        return whole(1)(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, or 'auto'") from None


def tolerance(text: str) -> float:
    """A finite number, at least 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{text!r} should be a finite number, at least 0")
    return value


def folder(text: str) -> Path:
    """A path that is not empty."""
    if not text:
        raise argparse.ArgumentTypeError("'' should be the path of a folder")
    return Path(text)


CLUSTERING, OUTPUT = "clustering", "data and output"


def _option(
    default: Any,
    help: str = "default: %(default)s",
    *,
    group: str = CLUSTERING,
    flags: Sequence[str] = (),
    commands: Sequence[str] = ("mnist", "digits"),
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
    **kwargs
        For `argparse.ArgumentParser.add_argument`.
    """
    return field(
        default=default,
        metadata={"help": help, "group": group, "flags": flags, "commands": commands, "kwargs": kwargs},
    )


@dataclass(frozen=True)
class Options:
    """What a study does.

    Attributes
    ----------
    command : {"mnist", "digits"}
        Which data.
    source : str
        Where the images of "mnist" come from, as of `gpukmeans.load_mnist`.
    clusters, backend, precision, init, n_init, max_iter, tol, seed
        Parameters of `gpukmeans.KMeans`; `clusters` is n_clusters, `seed` random_state.
    dtype : {"uint8", "float32", "float64"}
        Of the rows; other than uint8: pixels divided by the largest.
    check : bool
        Whether scikit-learn's clustering is compared.
    out : Path
        The folder for pictures.
    plots : bool
        Whether pictures are drawn.
    """

    command: str
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
    init: str = _option("k-means++", choices=["k-means++", "k-means||", "random"])
    n_init: int | Literal["auto"] = _option(
        "auto",
        "runs, of which the best is kept; auto: 1 for k-means++, 10 for random; default: %(default)s",
        type=runs,
        metavar="N",
    )
    max_iter: int = _option(300, type=whole(1), metavar="N")
    tol: float = _option(
        1e-4,
        "stop when the centers move less, relative to the pixels' variance; 0: when no label changes; "
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
        choices=["uint8", "float32", "float64"],
    )
    check: bool = _option(
        False,
        "also fit with scikit-learn in float64, from the same starting centers with tol 0, and compare",
        group=OUTPUT,
        action="store_true",
    )
    out: Path = _option(  # noqa: RUF009 (a field, like the others)
        "gpukmeans-{command}",
        "where to write centroids.png and confusion.png; default: ./%(default)s",
        group=OUTPUT,
        type=folder,
        metavar="DIR",
    )
    plots: bool = _option(
        True,
        "write no pictures (needs no matplotlib)",
        group=OUTPUT,
        flags=("--no-plots",),
        action="store_false",
    )

    def __post_init__(self) -> None:
        if isinstance(self.out, str):  # the default, which holds the command
            object.__setattr__(self, "out", Path(self.out.format(command=self.command)))
