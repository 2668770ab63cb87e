"""`read_table`: the rows of a file, ready for a fit, and what was done to them."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.scale import recipe as recipes
from gpukmeans.scale.files import free_memory, unreadable
from gpukmeans.scale.gathering import TEXT
from gpukmeans.scale.reading import Plan, planned, read_rows
from gpukmeans.scale.sources import ReadingOptions, Source, is_archive, open_source

MISSING = ("error", "drop", "mean")
#: The least side of a picture for which rows without any sign of it are taken.
_LEAST_SIDE = 8


@dataclass(frozen=True)
class Table:
    """Rows that were read from a file; made by :func:`gpukmeans.read_table`.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_features)
        uint8 if all values are whole numbers from 0 to 255 (the clustering is that of the same values in float64),
        float32 if the file holds float32, else float64. C-contiguous, without missing values.
    y : ndarray of shape (n_samples,), or None
        The label of each row, numbers or texts (of object dtype); None without a label column.
    ids : ndarray of shape (n_samples,), or None
        The id of each row: numbers or texts; of pictures their paths in the folder.
    feature_names : list of str of length n_features
    image_shape : tuple of int, or None
        (height, width) or (height, width, 3) where each row is a picture.
    preprocessing : dict
        Columns, one-hot categories, fills for missing values, scale and picture size, as values that JSON holds: for
        ``read_table(other, like=...)``, and for `preprocessing_` of a model that is saved.
    rows : ndarray of shape (n_samples,), int64
        The place of each row in the file, from 0 on.
    n_read : int
        Rows in the file; more than n_samples where some were dropped or a sample was drawn.
    missing : dict
        Column -> how many values were missing.
    notes : list of str
        What was found out about the file, to be shown.
    source : str
        The path.
    """

    X: NDArray[Any]
    y: NDArray[Any] | None
    ids: NDArray[Any] | None
    feature_names: list[str]
    image_shape: tuple[int, ...] | None
    preprocessing: dict[str, Any]
    n_read: int
    missing: dict[str, int]
    notes: list[str]
    source: str
    kept_rows: NDArray[np.int64] | None = field(default=None, repr=False)

    @property
    def rows(self) -> NDArray[np.int64]:
        return np.arange(self.n_read) if self.kept_rows is None else self.kept_rows

    def in_own_units(self, values: Any) -> NDArray[np.float64]:
        """Centers or rows of shape (n, n_features) in the units of the file's columns: `scale` undone."""
        return recipes.in_own_units(values, self.preprocessing)

    def __repr__(self) -> str:
        has = [name for name in ("y", "ids") if getattr(self, name) is not None]
        return (
            f"Table({' x '.join(map(str, self.X.shape))} {self.X.dtype} from {self.source}; {', '.join(['X', *has])})"
        )


def read_table(
    path: str | os.PathLike[str],
    *,
    columns: Sequence[str | int] | str | None = None,
    label: str | int | bool | None = None,
    id: str | int | bool | None = None,
    drop: Sequence[str | int] | str = (),
    scale: str | None = None,
    missing: str = "error",
    image_size: int | tuple[int, int] | None = None,
    image_mode: str | None = None,
    like: Any = None,
    max_bytes: int | None = None,
    one_hot: Sequence[str | int] | str = (),
    sample: int | None = None,
    random_state: int = 0,
    delimiter: str | None = None,
    decimal: str | None = None,
    header: bool | None = None,
) -> Table:
    """Read the rows of a file: a table, an array, or a folder of pictures.

    The format is recognised by the content: CSV, TSV and their relatives (plain or gzip), Parquet, Arrow and Feather
    (extra ``files``); npy, npz and IDX; a folder of PNG and JPEG (extra ``images``), in the order of their names. What
    separates values, whether there is a line of names, and which column holds ids is found out and told in
    `Table.notes`. Files may come from strangers: no pickle is read, and memory stays below `max_bytes`.

    Parameters
    ----------
    path : path
        A file, or a folder of pictures.
    columns : sequence of str or int, or str, optional
        The columns to cluster by, by name or place (digits are a place unless a column is called so); all that hold
        numbers by default. A str is the name of one; of an
        npz file, that of the array that has the rows.
    label : str or int, optional
        The column of known classes, which becomes `Table.y`; for pictures ``"folder"`` is the name of the folder that
        each lies in. False: none, also where an array of that kind lies beside the rows.
    id : str or int, optional
        The column that names the rows; False: none. By default a column called id, index or the like whose values
        differ, or one of texts that all differ.
    drop : sequence of str or int, default=()
        Columns to leave out.
    scale : {"standard", "minmax"}, optional
        Bring each feature to mean 0 and variance 1, or to 0 to 1, as scikit-learn's scalers do.
    missing : {"error", "drop", "mean"}, default="error"
        Of rows in which a value is missing: raise, which names and counts them; leave the rows out; or put the
        feature's mean there.
    image_size : int or (int, int), optional
        Height and width to which pictures are brought; that of all by default. Of other rows: which pictures they are.
    image_mode : {"L", "RGB"}, optional
        Grey or colour; that of all pictures by default.
    like : Table, dict or model, optional
        Do what was done to that table (its `preprocessing`, or a model's `preprocessing_`): columns by name,
        categories, fills, scale, picture size.
    max_bytes : int, optional
        The most memory to take for the rows; half of what is free by default.
    one_hot : sequence of str or int, default=()
        Columns of categories: each category becomes a feature of 0 and 1.
    sample : int, optional
        Read a random sample of so many rows.
    random_state : int, default=0
        Draws the sample.
    delimiter, decimal : str, optional
        What stands between values, and before decimals, in a table in text.
    header : bool, optional
        Whether its first line has the names of the columns.

    Returns
    -------
    Table
        With X, y, ids, feature_names, image_shape, preprocessing.

    Raises
    ------
    OSError
        Nothing is there, it cannot be read, or it is a device or a pipe.
    ValueError
        A format that is not read, a damaged file, columns that hold no numbers and are not said to be anything else,
        missing or infinite values, more memory than allowed: one sentence that says what was found and what to do.
    TypeError
        `like` is none of these.
    ImportError
        pyarrow or Pillow is needed; the message says how to install it.

    See Also
    --------
    load_mnist : MNIST itself, as one table of both parts.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import gpukmeans
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "flowers.csv")
    ...     _ = path.write_text("id;length;width;kind\\n1;5,1;3,5;a\\n2;4,9;3,0;a\\n3;6,3;3,3;b\\n")
    ...     table = gpukmeans.read_table(path, label="kind", scale="standard")
    >>> table.X.shape, table.y.tolist(), table.ids.tolist(), table.feature_names
    ((3, 2), ['a', 'a', 'b'], [1, 2, 3], ['length', 'width'])
    """
    recipe = None if like is None else recipes.checked(like)
    if recipe is not None:
        given = {"columns": columns, "drop": drop or None, "scale": scale, "one_hot": one_hot or None}
        if clash := [name for name, value in given.items() if value is not None]:
            raise ValueError(f"{clash[0]} is given beside like, which has it; give one of them")
        missing = recipe["missing"] if missing == "error" else missing
    _check_choice("missing", missing, MISSING)
    _check_choice("scale", scale, (*recipes.SCALES, None))
    _check_choice("image_mode", image_mode, ("L", "RGB", None))
    if sample is not None and sample < 1:
        raise ValueError(f"sample={sample} should be a number of rows, at least 1")
    limit = free_memory() // 2 if max_bytes is None else max_bytes
    size = _size(image_size)
    if recipe is not None and recipe["image"] is not None:
        size = size or (recipe["image"]["shape"][0], recipe["image"]["shape"][1])
        image_mode = image_mode or recipe["image"]["mode"]
    array = None
    if isinstance(columns, str):
        array, columns = (columns, None) if is_archive(Path(path)) else (None, [columns])
    source = open_source(Path(path), ReadingOptions(limit, delimiter, decimal, header, array, size, image_mode))
    plan = planned(source, recipe, columns, label, id, drop, one_hot)
    found = read_rows(source, plan, missing, sample, random_state, limit)
    X, notes = found.X, [*source.notes, *plan.notes, *found.notes]
    means = None
    if missing == "mean":
        means = recipes.learn_means(X) if recipe is None else recipe["means"]
        recipes.fill(X, means)
    steps: dict[str, Any] | None = recipe["scale"] if recipe else None
    if scale is not None:
        steps = recipes.learn_scale(X, scale)
    if steps:
        X = recipes.scaled(X, steps)
    shape = _image_shape(source, plan, X, size, image_mode, notes) if recipe is None else _shape_of(recipe)
    made = recipe or recipes.made(
        columns=plan.numbers, one_hot=plan.categories, label=plan.label, id=plan.id, drop=plan.dropped,
        missing=missing, means=means, scale=steps, shape=shape,
    )  # fmt: skip
    return Table(
        X, _labels(found.y), found.ids, recipes.feature_names(made), shape, made, found.n_read, found.missing, notes,
        os.fspath(path), found.rows,
    )  # fmt: skip


def _labels(y: NDArray[Any] | None) -> NDArray[Any] | None:
    """Texts as objects, of which equal ones are one, as scikit-learn reads them."""
    if y is None or y.dtype != TEXT:
        return y
    classes, places = np.unique(y, return_inverse=True)
    return classes.astype(object)[places]


def _shape_of(recipe: dict[str, Any]) -> tuple[int, ...] | None:
    return None if recipe["image"] is None else tuple(recipe["image"]["shape"])


def _image_shape(
    source: Source, plan: Plan, X: NDArray[Any], size: tuple[int, int] | None, mode: str | None, notes: list[str]
) -> tuple[int, ...] | None:
    """Of which pictures the rows are, if they are of any; a guess from their bytes is told."""
    n_features = X.shape[1]
    if source.image_shape is not None and math.prod(source.image_shape) == n_features and not plan.categories:
        return source.image_shape
    if size is not None:
        shape = next((s for s in (size, (*size, 3)) if math.prod(s) == n_features), None)
        if shape is None:
            raise unreadable(
                source.where,
                f"{n_features:,} features, but image_size={size} has {math.prod(size):,} pixels; give the height and "
                "width of what the rows are, or leave out other columns with drop",
            )
        return shape
    side = math.isqrt(n_features)
    if X.dtype == np.uint8 and side >= _LEAST_SIDE and side * side == n_features and not plan.categories:
        notes.append(f"taken for pictures of {side} x {side} pixels (image_size says otherwise)")
        return side, side
    return None


def _check_choice(name: str, value: Any, allowed: Sequence[Any]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}={value!r} should be one of {', '.join(map(repr, allowed))}")


def _size(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    if not (0 < height <= 1 << 15 and 0 < width <= 1 << 15):
        raise ValueError(f"image_size={size!r} should be (height, width) in pixels, each from 1 to 32,768")
    return int(height), int(width)
