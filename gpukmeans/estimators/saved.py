"""Fitted models in files without pickle: numbers in npz arrays, everything else as JSON; nothing in a file is executed.

A file is an npz archive (`numpy.load` reads it) of these arrays:

| array | what it holds |
|---|---|
| `gpukmeans_model` | JSON in UTF-8, as uint8: format, version, class, parameters, attributes that are no arrays |
| `parameters.init` | the parameter, where it holds centers |
| `cluster_centers_`, `labels_`, `_counts`, `_tree.centers`, ... | the fitted arrays, bit for bit; those in a dict |
| `checksum` | SHA-256 of all of these, as uint8 of shape (32,) |

The class is looked up in a table here.  Attributes are those of another table, and each is checked before it is set:
shapes against each other, labels and the nodes of a tree against their number.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from gpukmeans.callers import warn_caller
from gpukmeans.engine.records import FitReport
from gpukmeans.intake.kinds import arrays_on_host, on_host
from gpukmeans.logs import logger
from gpukmeans.scale.archives import (
    DTYPES,
    Format,
    apart,
    is_state,
    plain_state,
    read_archive,
    state_of,
    together,
    write_archive,
)
from gpukmeans.scale.files import shown, unreadable

MODEL = Format("gpukmeans model", 1, "gpukmeans_model", "`save`")
CLASSES = {
    "KMeans": "gpukmeans.estimators.kmeans",
    "MiniBatchKMeans": "gpukmeans.estimators.minibatch",
    "BisectingKMeans": "gpukmeans.estimators.bisecting",
    "SphericalKMeans": "gpukmeans.estimators.spherical",
}

NOT_HELD = object()  # in place of what a file does not hold


def save_model(model: Any, path: str | os.PathLike[str], *, labels: bool) -> Path:
    """Write a fitted model: see `BaseKMeans.save`."""
    check_is_fitted(model)
    name = type(model).__name__
    if type(model).__module__ != CLASSES.get(name):
        raise TypeError(
            f"{type(model).__qualname__} is none of the classes that a file can name, {', '.join(CLASSES)}: pickle a "
            "model of a class of your own."
        )
    given = model.get_params(deep=False)
    fitted = {key: value for key, value in arrays_on_host(model.__dict__).items() if key not in given}
    if not labels:
        fitted.pop("labels_", None)
    parameters = {key: storable(value, init=key == "init") for key, value in given.items()}
    values = {key: storable(_plain(model, key, value)) if key in _FITS else NOT_HELD for key, value in fitted.items()}
    dropped = {key: (given | fitted)[key] for key, value in (parameters | values).items() if value is NOT_HELD}
    if dropped:
        kinds = sorted({type(value).__name__ for value in dropped.values()})
        warn_caller(
            f"{name}.save leaves out {', '.join(dropped)} ({', '.join(kinds)}): a file holds numbers, texts and arrays "
            "that the class knows. A model that is read from it has the default of such a parameter.",
            UserWarning,
        )
    values["parameters"] = {key: value for key, value in parameters.items() if value is not NOT_HELD}
    rest, arrays = apart({key: value for key, value in sorted(values.items()) if value is not NOT_HELD})
    write_archive(path, MODEL, {"class": name, "model": rest}, arrays)
    logger.info("%s: saved as %s", name, path)
    return Path(path)


def load_model(path: str | os.PathLike[str]) -> Any:
    """Read a model that its method `save` has written.

    Nothing in the file is executed.  Its checksum finds accidents, not attackers, who can compute one: a model is as
    trustworthy as the one who made it.

    Parameters
    ----------
    path : path
        A regular file.

    Returns
    -------
    KMeans, MiniBatchKMeans, BisectingKMeans or SphericalKMeans
        Fitted, with the arrays that were saved, bit for bit, as NumPy arrays; without ``save(..., labels=True)`` it has
        no `labels_`.  It computes on any backend: ``load_model(path).set_params(backend="auto")`` where a model fitted
        with ``backend="cupy"`` is to be used without a GPU.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is cut short, was altered, is no such file, or has a format of a later version; the message says which.

    See Also
    --------
    KMeans : has the method `save`, as its relatives do.

    Notes
    -----
    The memory that is needed is a small multiple of the file's size, whatever the file claims.

    Examples
    --------
    >>> import tempfile
    >>> import gpukmeans
    >>> model = gpukmeans.fit([[0.0], [1.0], [9.0], [10.0]], 2, random_state=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     again = gpukmeans.load_model(model.save(folder + "/model.npz"))
    >>> bool((again.predict([[2.0], [8.0]]) == model.predict([[2.0], [8.0]])).all())
    True
    """
    file = Path(path)
    head, arrays = read_archive(file, MODEL)
    try:
        return _model_of(head, arrays)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise unreadable(shown(file), f"not as `save` writes it ({error}); the file was altered") from None


def _model_of(head: dict[str, Any], arrays: dict[str, NDArray]) -> Any:
    """The model, after each attribute has been checked."""
    name, values = head["class"], together(head["model"], arrays)
    if not isinstance(name, str) or name not in CLASSES:
        raise ValueError(f"class {name!r:.40}, expected one of {', '.join(CLASSES)}")
    model = getattr(importlib.import_module(CLASSES[name]), name)(**values.pop("parameters"))
    model._validate_params()
    for key, value in values.items():
        _need(key in _FITS and _FITS[key](value), key)
        model.__dict__[key] = _OF_PLAIN[key](value) if key in _OF_PLAIN else value
    _check_together(model)
    return model


def _check_together(model: Any) -> None:
    """Raise unless attributes fit each other, so that no method reads beside an array or never ends."""
    kind, k, d = type(model).__name__, model._n_features_out, model.n_features_in_
    _need(model.cluster_centers_.shape == (k, d), "cluster_centers_")
    _need(len(getattr(model, "feature_names_in_", range(d))) == d, "feature_names_in_")
    labels = getattr(model, "labels_", np.zeros(0, np.int32))
    _need(labels.max(initial=0) < k and labels.min(initial=0) >= 0, "labels_")
    if kind == "MiniBatchKMeans":
        _need(model._counts.shape == (k,) and model._batch_size > 0 and model._n_since_last_reassign >= 0, "_counts")
    if kind == "BisectingKMeans":
        first, label, node = model._tree["first_child"], model._tree["label"], np.arange(2 * k - 1)
        _need(first.shape == label.shape == node.shape and model._tree["centers"].shape == (2 * k - 1, d), "_tree")
        split = (first > node) & (first < 2 * k - 2)  # children lie behind their node, so that no path is a circle
        _need(bool((split ^ ((label >= 0) & (label < k))).all()), "_tree")


def _need(right: bool, name: str) -> None:
    if not right:
        raise ValueError(f"{name:.40} is not what the class has")


# ---- attributes: how a file holds them, what each may be, how it is read ---------------------------------------------


def _plain(model: Any, name: str, value: Any) -> Any:
    """An attribute as dicts of arrays and JSON."""
    if isinstance(value, FitReport):
        kept = value.kept(summed=model._sums_records)
        return kept | kept.pop("iterations")
    if isinstance(value, np.random.RandomState):
        return plain_state(value) or value
    return on_host(value) if name == "cluster_centers_" else value


def storable(value: Any, *, init: bool = False) -> Any:
    """A value as a file holds it, or `NOT_HELD`."""
    if init and not isinstance(value, str) and not callable(value):
        value = on_host(value)
        value = value if value.dtype.kind in "iuf" else value.astype(np.float64)
    if isinstance(value, np.ndarray) and value.ndim and value.dtype.newbyteorder("<") in DTYPES:
        return np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        inner = {key: storable(each) for key, each in value.items()}
        return NOT_HELD if any(each is NOT_HELD for each in inner.values()) else inner
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Real) and not isinstance(value, bool):
        value = int(value) if isinstance(value, Integral) else float(value)
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return NOT_HELD
    return value


def _array(n_axes: int, *dtypes: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, np.ndarray) and value.ndim == n_axes and value.dtype in dtypes


def _dict(value: Any) -> bool:
    return isinstance(value, dict)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def _number(value: Any) -> bool:
    return type(value) in (int, float)


def _report_of(value: dict[str, Any]) -> FitReport:
    backend, stages = value.pop("backend"), value.pop("stages")
    _need(_text(backend) and _texts(stages), "fit_report_")
    return FitReport.of_kept({"backend": backend, "stages": stages, "iterations": value})


_centers, _whole = _array(2, np.float32, np.float64), _array(1, np.int64, np.int32)

#: What each attribute may be in a file.
_FITS: dict[str, Callable[[Any], bool]] = {
    "_batch_size": _count,
    "_counts": lambda value: _array(1, np.float64)(value) and bool((value >= 0.0).all()),
    "_init_size": _count,
    "_n_features_out": _count,
    "_n_init": _count,
    "_n_since_last_reassign": _count,
    "_random_state": is_state,
    "_sklearn_output_config": lambda value: _dict(value) and all(map(_text, value.values())),
    "_tree": lambda value: _centers(value["centers"]) and _whole(value["first_child"]) and _whole(value["label"]),
    "backend_": _text,
    "cluster_centers_": _centers,
    "data_range_": lambda value: (
        value is None or (isinstance(value, list) and len(value) == 2 and all(map(_number, value)))
    ),
    "feature_names_in_": _texts,
    "fit_report_": _dict,
    "inertia_": _number,
    "labels_": _array(1, np.int32),
    "n_features_in_": _count,
    "n_iter_": _count,
    "n_steps_": _count,
    "preprocessing_": _dict,
}

#: How the model has it, where not as the file has it.
_OF_PLAIN: dict[str, Callable[[Any], Any]] = {
    "_random_state": state_of,
    "data_range_": lambda value: None if value is None else tuple(value),
    "feature_names_in_": lambda value: np.array(value, dtype=object),
    "fit_report_": _report_of,
}
