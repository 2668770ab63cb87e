"""What was done to a table before its rows were clustered, as plain values, so that it can be done to another table.

A recipe is a dict that JSON holds:

| key | value |
|---|---|
| `"version"` | 1 |
| `"columns"` | names of the columns that are numbers, in the order of the features |
| `"one_hot"` | column -> its categories in the order of the features, which come after the numbers |
| `"label"`, `"id"` | a column, or None |
| `"drop"` | columns that were left out by name |
| `"missing"` | "error", "drop" or "mean" |
| `"means"` | what missing values become: one number a feature; None unless "mean" |
| `"scale"` | None, or `{"kind", "center", "by"}`: features become (value - center) / by |
| `"image"` | None, or `{"shape", "mode"}`: (height, width) or (height, width, 3) of each row; "L" or "RGB" |
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

VERSION = 1
SCALES = ("standard", "minmax")
#: Bytes of the rows that are scaled at a time.
_BYTES_AT_ONCE = 1 << 22


def made(
    *,
    columns: list[str],
    one_hot: dict[str, list[str]] | None = None,
    label: str | None = None,
    id: str | None = None,
    drop: list[str] | None = None,
    missing: str = "error",
    means: list[float] | None = None,
    scale: dict[str, Any] | None = None,
    shape: tuple[int, ...] | None = None,
) -> dict[str, Any]:
    """A recipe of these."""
    return {
        "version": VERSION,
        "columns": columns,
        "one_hot": one_hot or {},
        "label": label,
        "id": id,
        "drop": drop or [],
        "missing": missing,
        "means": means,
        "scale": scale,
        "image": None if shape is None else {"shape": list(shape), "mode": "L" if len(shape) == 2 else "RGB"},
    }


def checked(recipe: Any) -> dict[str, Any]:
    """The recipe of a `Table`, of a model's `preprocessing_`, or itself, as a dict of this form.

    Raises
    ------
    ValueError, TypeError
        It is none, or one of a later version.
    """
    for attribute in ("preprocessing", "preprocessing_"):
        recipe = getattr(recipe, attribute, recipe)
    if recipe is None:
        raise ValueError(
            "like has no preprocessing: give a table of read_table, its `preprocessing`, or a model whose "
            "`preprocessing_` was set to one"
        )
    if not isinstance(recipe, dict):
        raise TypeError(
            f"like is a {type(recipe).__name__}; a table of read_table, its `preprocessing`, or a model whose "
            "`preprocessing_` was set to one is needed"
        )
    version = recipe.get("version")
    if isinstance(version, int) and version > VERSION:
        raise ValueError(f"like has preprocessing of version {version}; this gpukmeans knows versions up to {VERSION}")
    try:
        wanted = _FORM.keys()
        good = version == VERSION and recipe.keys() == wanted and all(_FORM[key](recipe[key]) for key in wanted)
        json.dumps(recipe, allow_nan=False)
        n = len(feature_names(recipe)) if good else 0
        lists = [recipe["means"]] + ([recipe["scale"]["center"], recipe["scale"]["by"]] if recipe["scale"] else [])
        good = good and n > 0 and all(values is None or len(values) == n for values in lists)
        good = good and (recipe["means"] is not None) == (recipe["missing"] == "mean")
        good = good and (recipe["image"] is None or math.prod(recipe["image"]["shape"]) == n)
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError, OverflowError):
        good = False
    if not good:
        raise ValueError("like holds something else than the preprocessing that read_table returns; it was altered")
    return recipe


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is float and math.isfinite(item) for item in value)


def _name(value: Any) -> bool:
    return value is None or isinstance(value, str)


_FORM = {
    "version": lambda value: True,
    "columns": _texts,
    "one_hot": lambda value: isinstance(value, dict) and all(_texts(v) for v in value.values()),
    "label": _name,
    "id": _name,
    "drop": _texts,
    "missing": lambda value: value in ("error", "drop", "mean"),
    "means": lambda value: value is None or _numbers(value),
    "scale": lambda value: (
        value is None
        or (value["kind"] in SCALES and _numbers(value["center"]) and _numbers(value["by"]) and min(value["by"]) > 0)
    ),
    "image": lambda value: (
        value is None
        or (
            value["mode"] in ("L", "RGB")
            and len(value["shape"]) in (2, 3)
            and all(type(size) is int and 0 < size < 1 << 20 for size in value["shape"])
        )
    ),
}


def feature_names(recipe: dict[str, Any]) -> list[str]:
    """The names of the features: columns of numbers, then COLUMN=CATEGORY."""
    pairs = [f"{name}={category}" for name, categories in recipe["one_hot"].items() for category in categories]
    return [*recipe["columns"], *pairs]


def learn_means(X: NDArray[Any]) -> list[float]:
    """The mean of the values of each feature that are there; 0 where none is."""
    sums, counts = np.zeros(X.shape[1]), np.zeros(X.shape[1], np.int64)
    for rows in _parts(X):
        there = ~np.isnan(rows)
        sums += np.where(there, rows, 0).sum(axis=0, dtype=np.float64)
        counts += there.sum(axis=0)
    return (sums / np.maximum(counts, 1)).tolist()


def fill(X: NDArray[Any], means: list[float]) -> None:
    """Put the means in the place of missing values, in X itself."""
    values = np.array(means)
    for rows in _parts(X):
        np.copyto(rows, values.astype(X.dtype), where=np.isnan(rows))


def learn_scale(X: NDArray[Any], kind: str) -> dict[str, Any]:
    """Center and divisor of each feature, by scikit-learn's StandardScaler or MinMaxScaler."""
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    scaler = StandardScaler() if kind == "standard" else MinMaxScaler()
    for rows in _parts(X):
        scaler.partial_fit(rows.astype(np.float64))
    if kind == "standard":
        center, by = scaler.mean_, scaler.scale_
    else:
        center, by = scaler.data_min_, 1.0 / scaler.scale_
    return {"kind": kind, "center": center.tolist(), "by": by.tolist()}


def scaled(X: NDArray[Any], scale: dict[str, Any]) -> NDArray[Any]:
    """(X - center) / by: in X itself if it holds floats, else in float64."""
    out = X if X.dtype.kind == "f" else np.empty(X.shape)
    center, by = np.array(scale["center"]), np.array(scale["by"])
    for source, target in zip(_parts(X), _parts(out), strict=True):
        target[:] = (source.astype(np.float64) - center) / by
    return out


def in_own_units(values: Any, recipe: dict[str, Any] | None) -> NDArray[np.float64]:
    """Centers, or rows, of scaled features in the units of the columns.

    Parameters
    ----------
    values : array-like of shape (n, n_features)
    recipe : dict or None
        None: nothing was done to them.

    Returns
    -------
    ndarray of shape (n, n_features), float64
        What the roundings of scaling, of a mean and of this cannot tell from zero is zero.
    """
    values = np.asarray(values)
    wide = values.astype(np.float64)
    scale = recipe and recipe["scale"]
    if not scale:
        return wide
    center = np.array(scale["center"])
    found = wide * np.array(scale["by"]) + center
    # (x - center) / by, a mean of such, the product: each errs by half an eps of |center| where the sum is about 0
    unit = np.finfo(values.dtype if values.dtype.kind == "f" else np.float64).eps
    found[np.abs(found) <= 2.0 * unit * np.abs(center)] = 0.0
    return found


def _parts(X: NDArray[Any]) -> list[NDArray[Any]]:
    n_rows = max(1, _BYTES_AT_ONCE // (8 * max(1, X.shape[1])))
    return [X[start : start + n_rows] for start in range(0, len(X), n_rows)]
