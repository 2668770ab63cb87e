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

import hashlib
import importlib
import json
import math
import os
import stat
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from gpukmeans.callers import warn_caller
from gpukmeans.engine.records import FitReport
from gpukmeans.estimators.keeping import own_version
from gpukmeans.intake.kinds import arrays_on_host, on_host
from gpukmeans.logs import logger
from gpukmeans.scale.files import path_error, shown, unreadable
from gpukmeans.scale.npy import open_npz
from gpukmeans.writing import whole_file

FORMAT, VERSION = "gpukmeans model", 1
CLASSES = {
    "KMeans": "gpukmeans.estimators.kmeans",
    "MiniBatchKMeans": "gpukmeans.estimators.minibatch",
    "BisectingKMeans": "gpukmeans.estimators.bisecting",
    "SphericalKMeans": "gpukmeans.estimators.spherical",
}
MOST_JSON = 16 << 20  # bytes, which take some twenty times as much once they are read

_HEAD, _CHECKSUM = "gpukmeans_model", "checksum"
_DTYPES = tuple(map(np.dtype, ("<f8", "<f4", "<f2", "<i8", "<i4", "<i2", "|i1", "<u8", "<u4", "<u2", "|u1")))
_DRAWS = ("generator", "words", "place", "has_gauss", "gauss")  # of RandomState.get_state
_NOT = object()  # in place of what a file does not hold


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
    parameters = {key: _storable(value, init=key == "init") for key, value in given.items()}
    values = {key: _storable(_plain(model, key, value)) if key in _FITS else _NOT for key, value in fitted.items()}
    dropped = {key: (given | fitted)[key] for key, value in (parameters | values).items() if value is _NOT}
    if dropped:
        kinds = sorted({type(value).__name__ for value in dropped.values()})
        warn_caller(
            f"{name}.save leaves out {', '.join(dropped)} ({', '.join(kinds)}): a file holds numbers, texts and arrays "
            "that the class knows. A model that is read from it has the default of such a parameter.",
            UserWarning,
        )
    values["parameters"] = {key: value for key, value in parameters.items() if value is not _NOT}
    rest, arrays = _apart({key: value for key, value in sorted(values.items()) if value is not _NOT})
    head = {"format": FORMAT, "version": VERSION, "written_by": own_version(), "class": name, "model": rest}
    text = json.dumps(head, separators=(",", ":")).encode()
    if len(text) > MOST_JSON:
        raise ValueError(
            f"Names of features, preprocessing and other texts of this model take {len(text):,} bytes as JSON; a file "
            f"holds {MOST_JSON:,} at most."
        )
    members = {_HEAD: np.frombuffer(text, np.uint8), **arrays}
    members[_CHECKSUM] = np.frombuffer(_digest(members), np.uint8)
    with whole_file(path) as file, zipfile.ZipFile(file, "w") as archive:
        for key, array in members.items():
            # ZipInfo has the date 1980 unless it is given one, so that equal models have equal bytes.
            with archive.open(zipfile.ZipInfo(f"{key}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)
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
    where = shown(file)
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise unreadable(where, "no regular file; expected one that the method `save` has written")
    except OSError as error:
        raise path_error(file, error) from None
    head, arrays = _read(file, where)
    try:
        return _model_of(head, arrays)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise unreadable(where, f"not as `save` writes it ({error}); the file was altered") from None


def _read(file: Path, where: str) -> tuple[dict[str, Any], dict[str, NDArray]]:
    """JSON and arrays, after the checks of format, version and checksum."""
    with ExitStack() as files:
        part = open_npz(file, [_HEAD], files)[_HEAD]
        if len(part.shape) != 1 or part.shape[0] > MOST_JSON:
            raise unreadable(where, f"{_HEAD} has shape {part.shape}, expected at most ({MOST_JSON},)")
        text = np.empty(part.shape, np.uint8)
        part.read(text)
        try:
            head = json.loads(text.tobytes())
            found, version, writer = head["format"], head["version"], head["written_by"]
        except (ValueError, RecursionError, KeyError, TypeError):
            raise unreadable(where, "its JSON is none that `save` writes; the file was altered") from None
        if found != FORMAT or type(version) is not int or version < 1:
            raise unreadable(where, f"format {found!r:.40}, version {version!r:.20}; expected {FORMAT!r} and 1")
        if version > VERSION:
            raise unreadable(
                where,
                f"written by gpukmeans {writer!s:.20} in format {version}; gpukmeans {own_version()} reads formats up "
                f"to {VERSION}: update it",
            )
        parts = open_npz(file, None, files, _DTYPES)
        length = file.stat().st_size
        size = sum(math.prod(part.shape) * part.dtype.itemsize for part in parts.values())
        if size > length or any(len(part.shape) > 2 or max(part.shape) > length for part in parts.values()):
            raise unreadable(where, f"arrays of {size:,} bytes in a file of {length:,}, but `save` does not compress")
        arrays = {name: np.empty(part.shape, part.dtype) for name, part in parts.items()}
        for name, part in parts.items():
            part.read(arrays[name])
    checksum = arrays.pop(_CHECKSUM, None)
    if checksum is None or checksum.tobytes() != _digest(arrays):
        raise unreadable(where, "its checksum is not that of its arrays; the file was altered or damaged")
    del arrays[_HEAD]
    return head, arrays


def _model_of(head: dict[str, Any], arrays: dict[str, NDArray]) -> Any:
    """The model, after each attribute has been checked."""
    name, values = head["class"], head["model"]
    if not isinstance(name, str) or name not in CLASSES:
        raise ValueError(f"class {name!r:.40}, expected one of {', '.join(CLASSES)}")
    for key, array in arrays.items():
        outer, _, inner = key.partition(".")
        (values[outer] if inner else values)[inner or outer] = array
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


def _digest(arrays: dict[str, NDArray]) -> bytes:
    found = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        found.update(f"{name}:{array.dtype.str}:{array.shape}:".encode())
        found.update(array.reshape(-1).view(np.uint8).data)
    return found.digest()


# ---- attributes: how a file holds them, what each may be, how it is read ---------------------------------------------


def _plain(model: Any, name: str, value: Any) -> Any:
    """An attribute as dicts of arrays and JSON."""
    if isinstance(value, FitReport):
        kept = value.kept(summed=model._sums_records)
        return kept | kept.pop("iterations")
    if isinstance(value, np.random.RandomState):
        state: Any = value.get_state()
        return dict(zip(_DRAWS, state, strict=True)) if state[0] == "MT19937" else value
    return on_host(value) if name == "cluster_centers_" else value


def _storable(value: Any, *, init: bool = False) -> Any:
    """A value as a file holds it, or `_NOT`."""
    if init and not isinstance(value, str) and not callable(value):
        value = on_host(value)
        value = value if value.dtype.kind in "iuf" else value.astype(np.float64)
    if isinstance(value, np.ndarray) and value.ndim and value.dtype.newbyteorder("<") in _DTYPES:
        return np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        inner = {key: _storable(each) for key, each in value.items()}
        return _NOT if any(each is _NOT for each in inner.values()) else inner
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Real) and not isinstance(value, bool):
        value = int(value) if isinstance(value, Integral) else float(value)
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return _NOT
    return value


def _apart(values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, NDArray]]:
    """What is JSON, and the arrays by their names; those in a dict by that of the dict, a dot and their key."""
    rest, arrays = dict[str, Any](), dict[str, NDArray]()
    for key, value in values.items():
        if isinstance(value, np.ndarray):
            arrays[key] = value
        elif isinstance(value, dict):
            rest[key] = {inner: each for inner, each in value.items() if not isinstance(each, np.ndarray)}
            arrays |= {f"{key}.{inner}": each for inner, each in value.items() if isinstance(each, np.ndarray)}
        else:
            rest[key] = value
    return rest, arrays


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


def _state(value: Any) -> bool:
    """Whether it is a state of MT19937; NumPy does not check the place."""
    return (
        _array(1, np.uint32)(value["words"])
        and len(value["words"]) == 624
        and _count(value["place"])
        and value["place"] <= 624
        and value["has_gauss"] in (0, 1)
        and _number(value["gauss"])
    )


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
    "_random_state": _state,
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
    "_random_state": lambda value: _random_state(*(value[name] for name in _DRAWS)),
    "data_range_": lambda value: None if value is None else tuple(value),
    "feature_names_in_": lambda value: np.array(value, dtype=object),
    "fit_report_": _report_of,
}


def _random_state(*state: Any) -> np.random.RandomState:
    drawn = np.random.RandomState()
    drawn.set_state(state)
    return drawn
