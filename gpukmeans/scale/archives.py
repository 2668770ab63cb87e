"""Files of arrays and JSON without pickle, for models and checkpoints: npz archives that are whole or not there.

| array | what it holds |
|---|---|
| the head, named after the kind of file | JSON in UTF-8, as uint8: format, version, and what else is no array |
| others | arrays, bit for bit; those in a dict by its name, a dot and their key |
| `checksum` | SHA-256 of all of these, as uint8 of shape (32,) |

Nothing in a file is executed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpukmeans.scale.files import path_error, shown, unreadable
from gpukmeans.scale.npy import open_npz
from gpukmeans.writing import whole_file

MOST_JSON = 16 << 20  # bytes, which take some twenty times as much once they are read
DTYPES = tuple(map(np.dtype, ("<f8", "<f4", "<f2", "<i8", "<i4", "<i2", "|i1", "<u8", "<u4", "<u2", "|u1")))

_CHECKSUM = "checksum"
_DRAWS = ("generator", "words", "place", "has_gauss", "gauss")  # of RandomState.get_state


class Format(NamedTuple):
    """A kind of file.

    Attributes
    ----------
    name : str
    version : int
        The latest, which this version of the package writes.
    head : str
        The array with the JSON.
    writer : str
        What writes such files, for messages.
    """

    name: str
    version: int
    head: str
    writer: str


def own_version() -> str:
    """Of gpukmeans, from the face, which must not be imported before it is complete."""
    from gpukmeans import __version__

    return __version__


def write_archive(path: str | os.PathLike[str], form: Format, head: dict[str, Any], arrays: dict[str, NDArray]) -> None:
    """Write a file, which takes the place of another one once it is complete.

    Raises
    ------
    ValueError
        The JSON is longer than a file may hold.
    OSError
        It cannot be written.
    """
    known = {"format": form.name, "version": form.version, "written_by": own_version()}
    text = json.dumps(known | head, separators=(",", ":")).encode()
    if len(text) > MOST_JSON:
        raise ValueError(
            f"Names of features, preprocessing and other texts take {len(text):,} bytes as JSON; a file holds "
            f"{MOST_JSON:,} at most."
        )
    members = {form.head: np.frombuffer(text, np.uint8), **arrays}
    members[_CHECKSUM] = np.frombuffer(_digest(members), np.uint8)
    with whole_file(path) as file, zipfile.ZipFile(file, "w") as archive:
        for key, array in members.items():
            # ZipInfo has the date 1980 unless it is given one, so that equal values have equal bytes.
            with archive.open(zipfile.ZipInfo(f"{key}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)


def read_archive(file: Path, form: Format) -> tuple[dict[str, Any], dict[str, NDArray]]:
    """JSON and arrays of a file, after the checks of format, version and checksum.

    Raises
    ------
    OSError
        It cannot be read.
    ValueError
        It is cut short, was altered, is no such file, or has a format of a later version; the message says which.
    """
    where = shown(file)
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise unreadable(where, f"no regular file; expected one that {form.writer} has written")
    except OSError as error:
        raise path_error(file, error) from None
    with ExitStack() as files:
        part = open_npz(file, [form.head], files)[form.head]
        if len(part.shape) != 1 or part.shape[0] > MOST_JSON:
            raise unreadable(where, f"{form.head} has shape {part.shape}, expected at most ({MOST_JSON},)")
        text = np.empty(part.shape, np.uint8)
        part.read(text)
        try:
            head = json.loads(text.tobytes())
            found, version, writer = head["format"], head["version"], head["written_by"]
        except (ValueError, RecursionError, KeyError, TypeError):
            raise unreadable(where, f"its JSON is none that {form.writer} writes; the file was altered") from None
        if found != form.name or type(version) is not int or version < 1:
            raise unreadable(where, f"format {found!r:.40}, version {version!r:.20}; expected {form.name!r} and 1")
        if version > form.version:
            raise unreadable(
                where,
                f"written by gpukmeans {writer!s:.20} in format {version}; gpukmeans {own_version()} reads formats up "
                f"to {form.version}: update it",
            )
        parts = open_npz(file, None, files, DTYPES)
        length = file.stat().st_size
        size = sum(math.prod(part.shape) * part.dtype.itemsize for part in parts.values())
        if size > length or any(len(part.shape) > 3 or max(part.shape, default=0) > length for part in parts.values()):
            raise unreadable(
                where, f"arrays of {size:,} bytes in a file of {length:,}, but {form.writer} does not compress"
            )
        arrays = {name: np.empty(part.shape, part.dtype) for name, part in parts.items()}
        for name, part in parts.items():
            part.read(arrays[name])
    checksum = arrays.pop(_CHECKSUM, None)
    if checksum is None or checksum.tobytes() != _digest(arrays):
        raise unreadable(where, "its checksum is not that of its arrays; the file was altered or damaged")
    del arrays[form.head]
    return head, arrays


def _digest(arrays: dict[str, NDArray]) -> bytes:
    found = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        found.update(f"{name}:{array.dtype.str}:{array.shape}:".encode())
        found.update(array.reshape(-1).view(np.uint8).data)
    return found.digest()


# ---- values as JSON and arrays ---------------------------------------------------------------------------------------


def apart(values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, NDArray]]:
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


def together(rest: dict[str, Any], arrays: dict[str, NDArray]) -> dict[str, Any]:
    """What `apart` took apart; `rest` is changed in place."""
    for key, array in arrays.items():
        outer, _, inner = key.partition(".")
        (rest[outer] if inner else rest)[inner or outer] = array
    return rest


def plain_state(random_state: np.random.RandomState) -> dict[str, Any] | None:
    """The state of a generator as JSON and an array; None of another generator than NumPy's MT19937."""
    state: Any = random_state.get_state(legacy=False)
    if state["bit_generator"] != "MT19937":
        return None
    values = "MT19937", state["state"]["key"], state["state"]["pos"], state["has_gauss"], state["gauss"]
    return dict(zip(_DRAWS, values, strict=True))


def is_state(value: Any) -> bool:
    """Whether it is a state of MT19937; NumPy does not check the place."""
    words, place = value["words"], value["place"]
    return (
        isinstance(words, np.ndarray)
        and words.shape == (624,)
        and words.dtype == np.uint32
        and type(place) is int
        and 0 <= place <= 624
        and value["has_gauss"] in (0, 1)
        and type(value["gauss"]) in (int, float)
    )


def state_of(value: dict[str, Any]) -> np.random.RandomState:
    """A generator in a state of `plain_state`."""
    drawn = np.random.RandomState()
    drawn.set_state(tuple(value[name] for name in _DRAWS))
    return drawn
