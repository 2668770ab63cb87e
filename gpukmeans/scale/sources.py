"""Where rows come from: a `Source` gives them in blocks, as often as it is asked; `open_source` finds one for a path.

A format is one file beside this one, and one line in `open_source`.
"""

from __future__ import annotations

import importlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gpukmeans.scale.files import open_binary, path_error, require_regular, shown, take, unreadable
from gpukmeans.scale.idx import GZIP_MAGIC, TYPES

#: Bytes of the rows in a block, about.
BLOCK_BYTES = 1 << 20
_BYTES_A_NAME = 100


@dataclass(frozen=True)
class Column:
    """One column of a source.

    Attributes
    ----------
    name : str
    kind : {"number", "text", "other", "beside"}
        "beside": no feature unless it is asked for, like labels in an array of their own.
    holds : str
        What is in it, for messages: "text such as 'setosa'".
    use : {"label", "id", "counter", "classes"} or None
        What it is taken for unless the caller says otherwise; a "counter" is a feature that counts the rows, "classes"
        could be the label.
    """

    name: str
    kind: Literal["number", "text", "other", "beside"] = "number"
    holds: str = "numbers"
    use: Literal["label", "id", "counter", "classes"] | None = None


class Block(NamedTuple):
    """Some rows.

    Attributes
    ----------
    numbers : ndarray of shape (n_rows, n_numbers)
        uint8, float32 or float64; NaN where a value is missing.
    others : list of ndarray of shape (n_rows,)
        Numbers, or texts (of `numpy.dtypes.StringDType`, empty where one is missing).
    """

    numbers: NDArray[Any]
    others: list[NDArray[Any]]


class Source(Protocol):
    """Rows in blocks.

    Attributes
    ----------
    where : str
        The file or folder, for messages.
    columns : sequence of Column
        Their names differ.
    n_rows : int or None
        None: not known before all have been read.
    n_expected : int
        A guess where `n_rows` is not known.
    image_shape : tuple of int or None
        (height, width) or (height, width, 3), where each row is a picture.
    notes : sequence of str
        What was found out about the file, to be told.
    """

    @property
    def where(self) -> str: ...
    @property
    def columns(self) -> Sequence[Column]: ...
    @property
    def n_rows(self) -> int | None: ...
    @property
    def n_expected(self) -> int: ...
    @property
    def image_shape(self) -> tuple[int, ...] | None: ...
    @property
    def notes(self) -> Sequence[str]: ...

    def row_dtype(self, numbers: Sequence[str]) -> np.dtype:
        """uint8, float32 or float64: what holds these columns.

        uint8 may come in blocks of float64, which then tell whether every value fits.
        """

    def blocks(self, numbers: Sequence[str], others: Sequence[str]) -> Iterator[Block]:
        """All rows from the first on: some columns as numbers, others as they are.

        Raises
        ------
        ValueError
            The file is damaged, or a column holds no numbers.
        OSError
            The file cannot be read.
        """


@dataclass(frozen=True)
class ReadingOptions:
    """What a caller says about a file, where what is found out about it would be wrong.

    Attributes
    ----------
    delimiter, decimal : str or None
        Of a table in text; None: find out.
    header : bool or None
        Whether the first line of a table in text has the names; None: find out.
    array : str or None
        Which array of an npz file has the rows; None: find out.
    image_size : tuple of int or None
        Height and width to which pictures are brought; None: all have one size.
    image_mode : {"L", "RGB"} or None
        Grey or colour; None: as the first picture.
    max_bytes : int
        The most memory to take.
    """

    max_bytes: int
    delimiter: str | None = None
    decimal: str | None = None
    header: bool | None = None
    array: str | None = None
    image_size: tuple[int, int] | None = None
    image_mode: str | None = None


def open_source(path: Path, options: ReadingOptions) -> Source:
    """The reader for a path, by what the file holds.

    Raises
    ------
    OSError
        Nothing is there, or it cannot be read.
    ValueError
        No reader knows what is there.
    ImportError
        The reader needs a package that is not installed.
    """
    where = shown(path)
    try:
        is_folder = stat.S_ISDIR(os.stat(path).st_mode)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{where}: no such file or folder; a table, an array or a folder of pictures is needed"
        ) from None
    except OSError as error:
        raise path_error(path, error) from None
    except ValueError as error:
        raise unreadable(ascii(where), f"no possible path ({error})") from None
    if is_folder:
        return _reader("pictures").open_pictures(path, options)
    require_regular(path)
    with open_binary(path) as file:
        start = take(file, 8, path, where)
    if start[:6] == b"\x93NUMPY":
        return _reader("arrays").open_array(path, options)
    if start[:2] == b"PK":
        return _reader("arrays").open_archive(path, options)
    if start[:3] in (b"\0\0" + bytes([kind]) for kind in TYPES) or _is_packed_idx(path, start):
        return _reader("arrays").open_idx_rows(path, options)
    if start[:4] == b"PAR1":
        return _reader("columnar").open_parquet(path, options)
    if start[:6] == b"ARROW1" or start[:4] == b"\xff\xff\xff\xff":
        return _reader("columnar").open_arrow(path, options)
    _refuse_known(path, start, where)
    return _reader("delimited").open_text(path, options)


def is_archive(path: Path) -> bool:
    """Whether an npz file, or another zip file, is there."""
    with suppress(OSError):
        if path.is_file():
            with open(path, "rb") as file:
                return file.read(2) == b"PK"
    return False


def _reader(name: str) -> Any:
    """A module of this folder, imported when a file needs it."""
    return importlib.import_module(f"gpukmeans.scale.{name}")


def _is_packed_idx(path: Path, start: bytes) -> bool:
    return start[:2] == GZIP_MAGIC and "idx" in path.name.lower()


#: How files begin that are known and not read, and what to do.
_KNOWN = {
    b"\x89PNG": "a single picture; give the folder that it lies in",
    b"\xff\xd8\xff": "a single picture; give the folder that it lies in",
    b"\x89HDF": "an HDF5 file, which is not read; save the rows with numpy.save",
    b"FEA1": "Feather of version 1, which is not read; save it anew as Feather of version 2",
    b"\xd0\xcf\x11\xe0": "an old Excel file, which is not read; save it as CSV",
    b"SQLi": "a database, which is not read; export the table as CSV",
    **{
        bytes([0x80, n]): "a pickle, which can run code and is never read; save the rows with numpy.save"
        for n in range(2, 6)
    },
}


def _refuse_known(path: Path, start: bytes, where: str) -> None:
    for magic, what in _KNOWN.items():
        if start.startswith(magic):
            raise unreadable(where, what)
    if not start:
        raise unreadable(where, "an empty file; a table, an array or a folder of pictures is needed")


def require_names(where: str, n_features: int, max_bytes: int) -> None:
    """Raise unless the names of so many features have room: about 100 bytes each."""
    if (needed := _BYTES_A_NAME * n_features) > max_bytes:
        raise unreadable(
            where,
            f"{n_features:,} features, whose names alone take {needed:,} bytes, more than max_bytes={max_bytes:,}; "
            "read fewer columns, smaller pictures (image_size), or allow more",
        )


def require(package: str, extra: str, what: str) -> Any:
    """A package that a reader needs.

    Raises
    ------
    ImportError
        It is not installed, or too old; the message says what installs it.
    """
    try:
        module = importlib.import_module(package)
    except ImportError as error:
        raise ImportError(f"{what} need {package} ({error}): pip install 'gpukmeans[{extra}]'") from error
    return module


def row_dtype_of(dtype: np.dtype) -> np.dtype:
    """In which of uint8, float32 and float64 values of a dtype are kept.

    As a fit reads an array of it in the machine's order of bytes.

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans.scale.sources import row_dtype_of
    >>> [row_dtype_of(np.dtype(t)).name for t in ("?", "u1", ">f4", "f2", "i2")]
    ['uint8', 'uint8', 'float32', 'float64', 'float64']
    """
    dtype = dtype.newbyteorder("=")
    if dtype.kind == "b" or dtype == np.uint8:
        return np.dtype(np.uint8)
    return np.dtype(np.float32 if dtype == np.float32 else np.float64)
