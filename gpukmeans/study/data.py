"""The rows that a command clusters: digits that come with the package, or a file of the user's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gpukmeans.scale import recipe as recipes
from gpukmeans.study.options import OWN, Options
from gpukmeans.study.values import as_options

#: Of scaled rows.
_UNITS: dict[str | None, str] = {"standard": "standard deviations", "minmax": "ranges"}
#: Different labels that are taken for classes.
MOST_CLASSES = 1000


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


@dataclass(frozen=True)
class Loaded:
    """Rows, and all that is known of them.

    Attributes
    ----------
    name, source : str
        For titles and reports.
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,), or None
    class_name : str
        What a class is called.
    image_shape : tuple of int, or None
    feature_names : list of str
    preprocessing : dict
        A recipe, see `gpukmeans.scale.recipe`.
    rows : ndarray of shape (n_samples,), int64
        The place of each row in its file.
    ids : ndarray of shape (n_samples,), or None
    unit : str
        Of the rows.
    notes : list of str
        What was found out about a file.
    n_train : int, or None
        How many of the rows, which come first, are for training; None where there is no such part.
    large : {"dark", "bright"}
        How large values of grey images are drawn, as of `gpukmeans.plots.centroid_grid`.
    """

    name: str
    source: str
    X: NDArray[Any]
    y: NDArray[Any] | None
    class_name: str
    image_shape: tuple[int, ...] | None
    feature_names: list[str]
    preprocessing: dict[str, Any]
    rows: NDArray[np.int64]
    ids: NDArray[Any] | None
    unit: str
    notes: list[str] = field(default_factory=list)
    n_train: int | None = None
    large: Literal["dark", "bright"] = "dark"

    def in_own_units(self, centers: NDArray[Any]) -> NDArray[np.float64]:
        """Centers in the units of the columns."""
        return recipes.in_own_units(centers, self.preprocessing)


def load(options: Options) -> Loaded:
    """The rows that the options name."""
    return _own(options) if options.command in OWN else _digits(options)


def _digits(options: Options) -> Loaded:
    data_set = DATA_SETS[options.command]
    data = data_set.load(options.source)
    X, largest = data.data, data_set.largest_pixel
    scale: dict[str, Any] | None = None
    if options.dtype != "uint8":
        X = X.astype(options.dtype) / np.dtype(options.dtype).type(largest)
        n = X.shape[1]
        scale = {"kind": "minmax", "center": [0.0] * n, "by": [float(largest)] * n}
    if options.scale is not None:
        X = X.astype(np.result_type(X, np.float32) if options.dtype == "float32" else np.float64)
        scale = recipes.learn_scale(X, options.scale)
        X = recipes.scaled(X, scale)
    shape = tuple(data.images.shape[1:])
    return Loaded(
        data_set.name,
        options.source if options.command == "mnist" else "scikit-learn",
        X,
        data.target,
        "digit",
        shape,
        data.feature_names,
        recipes.made(columns=data.feature_names, scale=scale, shape=shape),
        np.arange(len(X)),
        None,
        _UNITS.get(options.scale, "pixel values" if options.dtype == "uint8" else f"pixel values / {largest}"),
        n_train=data.n_train,
    )


def _own(options: Options) -> Loaded:
    import gpukmeans

    table = gpukmeans.read_table(
        options.path,
        columns=_listed(options.columns),
        label=_column(options.label),
        id=_column(options.id),
        drop=_listed(options.drop) or (),
        one_hot=_listed(options.one_hot) or (),
        scale=options.scale,
        missing=options.missing,
        image_size=options.image_size,
        image_mode=options.image_mode,
        sample=options.sample,
        random_state=options.seed,
        delimiter="\t" if options.delimiter in ("tab", "\\t") else options.delimiter,
        decimal=options.decimal,
        header=options.header,
    )
    notes = list(map(as_options, table.notes))
    if table.y is not None and (n := len(np.unique(table.y))) > MOST_CLASSES:
        raise ValueError(
            f"{options.path}: the label has {n:,} different values, of which {MOST_CLASSES:,} at most are classes; "
            "give the column as the id, or drop it"
        )
    if len(table.X) < table.n_read and options.sample is not None:
        notes.append(f"a random sample of {len(table.X):,} of {table.n_read:,} rows")
    columns = "pixel values" if table.image_shape is not None else "units of the columns"
    unit = _UNITS.get(options.scale, columns)
    return Loaded(
        options.path.name or str(options.path),
        str(options.path),
        table.X,
        table.y,
        table.preprocessing["label"] or "class",
        table.image_shape,
        table.feature_names,
        table.preprocessing,
        table.rows,
        table.ids,
        unit,
        notes,
        large="bright" if options.path.is_dir() else "dark",  # pictures in files, or ink of digits in an array
    )


def _listed(names: str | None) -> Any:
    """Names with commas between; one that has none may be that of an array in an npz file."""
    if names is None:
        return None
    return names if "," not in names and names.isidentifier() else [_column(name) for name in names.split(",")]


def _column(name: str | None) -> Any:
    """A column on the command line: a name, or "none"."""
    return False if name == "none" else name
