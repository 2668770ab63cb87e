"""Where rows that stream come from: a `Reader` gives them by ranges, or from the first one on, as often as it is asked.

Files that `gpukmeans.scale.sources` opens, arrays that are sliced (npy files, memory maps, HDF5, Zarr), callables,
iterables that can be started again, Dask arrays.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gpukmeans.scale.files import path_error, shown, unreadable
from gpukmeans.scale.npy import open_npy
from gpukmeans.scale.sources import Source, row_dtype_of

#: Bytes between two rows that are read along, rather than asking for each, which costs as much.
GAP_BYTES = 1 << 13
#: Rows are gathered window by window, and a window is read whole where more than this share of it is wanted.
WINDOW_BYTES, WHOLE_FROM = 1 << 20, 0.1


class Reader(Protocol):
    """Rows that do not lie in memory.

    Attributes
    ----------
    where : str
        Begins every message.
    n_rows, n_features : int or None
        None: not known before all have been read.
    dtype : dtype or None
        uint8, float32 or float64, as the rows are kept; None: the first block tells.
    random : bool
        Whether `read` may begin at any row.
    direct : bool
        Whether ranges of any length, and single rows, cost little more than their bytes.
    """

    where: str
    n_rows: int | None
    n_features: int | None
    dtype: np.dtype | None
    random: bool
    direct: bool

    def read(self, start: int, stop: int) -> Any:
        """Rows of a range; only if `random`."""

    def walk(self) -> Iterator[Any]:
        """Blocks from the first row on, of any lengths; only if not `random`."""

    def gather(self, rows: NDArray[np.int64]) -> tuple[Any, int] | None:
        """Single rows, whose indices rise, and the bytes that were read; None where whole blocks are as good."""

    def check(self) -> None:
        """Raise a ValueError if the rows are known to have changed since they were opened."""


#: Times as long as a look at all files of a folder takes until the next one.
REST = 20.0


class Unchanged:
    """Whether a file, or all files of a folder, are what they were.

    A folder of many files is not looked at each time: that takes a twentieth of the time at most.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        self._before = self._state()
        self._rest, self._due = REST if os.path.isdir(path) else 0.0, 0.0

    def _state(self) -> tuple[Any, ...]:
        found = os.stat(self._path)
        if not stat.S_ISDIR(found.st_mode):
            return found.st_size, found.st_mtime_ns, found.st_ino
        paths = sorted(os.path.join(folder, name) for folder, _, names in os.walk(self._path) for name in names)
        return tuple((path, (file := os.stat(path)).st_size, file.st_mtime_ns) for path in paths)

    def __call__(self) -> None:
        start = time.monotonic()
        if start < self._due:
            return
        try:
            now = self._state()
        except FileNotFoundError:
            raise ValueError(
                f"{shown(self._path)} was removed after it had been opened; a fit reads its rows again and again."
            ) from None
        if now != self._before:
            raise ValueError(
                f"{shown(self._path)} has changed since it was opened: rows of two states would be clustered together. "
                "Open it again once it is complete."
            )
        end = time.monotonic()
        self._due = end + self._rest * (end - start)


class _Known:
    """What a reader knows of its rows."""

    n_rows: int | None
    n_features: int | None
    dtype: np.dtype | None


class _Ranged(_Known):
    """Defaults of readers that give ranges."""

    random = True
    direct = False

    def walk(self) -> Iterator[Any]:
        raise NotImplementedError

    def gather(self, rows: NDArray[np.int64]) -> tuple[Any, int] | None:
        return None

    def check(self) -> None:
        return None


class NpyRows(_Ranged):
    """An npy file in C order, by positional reads: a file that is cut short while it is read is an error, no crash."""

    direct = True

    def __init__(self, path: Path, shape: tuple[int, int], dtype: np.dtype, offset: int) -> None:
        self.where = shown(path)
        self.n_rows, self.n_features = shape
        self._width = shape[1]
        self.dtype = row_dtype_of(dtype)
        self._stored, self._offset = dtype, offset
        self._row_bytes = shape[1] * dtype.itemsize
        self._path, self.check = path, Unchanged(path)  # type: ignore[method-assign]
        self._file: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    def __del__(self) -> None:
        if getattr(self, "_file", None) is not None:
            os.close(self._file)  # type: ignore[arg-type]

    def read(self, start: int, stop: int) -> NDArray:
        out = np.empty((stop - start, self._width), self._stored)
        self._fill(out, start)
        return out

    def gather(self, rows: NDArray[np.int64]) -> tuple[NDArray, int]:
        in_window = max(1, WINDOW_BYTES // self._row_bytes)
        window, gaps = rows // in_window, np.diff(rows)
        dense = np.bincount(window - window[0]) > WHOLE_FROM * in_window
        near = (gaps <= 1 + GAP_BYTES // self._row_bytes) | dense[window[1:] - window[0]]
        first = np.concatenate([[0], np.flatnonzero(~near | (np.diff(window) > 0)) + 1, [len(rows)]])
        starts = rows[first[:-1]]
        lengths = rows[first[1:] - 1] + 1 - starts
        ends = np.cumsum(lengths)
        out = np.empty((len(rows), self._width), self._stored)
        if ends[-1] == len(rows):  # without gaps
            self._fill_spans(out, starts, lengths)
            return out, int(ends[-1]) * self._row_bytes
        places = rows - np.repeat(starts - (ends - lengths), np.diff(first))  # in all spans, one behind the other
        room = np.empty((min(int(ends[-1]), 2 * in_window), self._width), self._stored)
        span = 0
        while span < len(starts):  # spans lie within windows, so that one fits in any case
            before = int(ends[span] - lengths[span])
            stop = int(np.searchsorted(ends, before + len(room), "right"))
            here = slice(first[span], first[stop])
            self._fill_spans(room, starts[span:stop], lengths[span:stop])
            np.take(room, places[here] - before, axis=0, out=out[here], mode="clip")
            span = stop
        return out, int(ends[-1]) * self._row_bytes

    def _fill_spans(self, out: NDArray, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        """Read spans of rows, one behind the other."""
        file, room = self._opened(), out.reshape(-1).view(np.uint8).data
        sizes = lengths * self._row_bytes
        places = (np.cumsum(sizes) - sizes).tolist()
        offsets = (self._offset + starts * self._row_bytes).tolist()
        for number, (place, size, offset) in enumerate(zip(places, sizes.tolist(), offsets, strict=True)):
            if os.preadv(file, [room[place : place + size]], offset) != size:
                row = place // self._row_bytes
                self._fill(out[row : row + int(lengths[number])], int(starts[number]))  # raises, or reads on

    def _fill(self, out: NDArray, start: int) -> None:
        """Read rows from `start` on."""
        room, place = out.reshape(-1).view(np.uint8).data, self._offset + start * self._row_bytes
        while room:
            try:
                n = os.preadv(self._opened(), [room], place)
            except OSError as error:
                raise path_error(self._path, error) from None
            if not n:
                raise ValueError(
                    f"{self.where}: the file ends before row {start + len(out):,} of {self.n_rows:,}; it was cut "
                    "short while it was read"
                )
            room, place = room[n:], place + n

    def _opened(self) -> int:
        if self._file is None:
            try:
                self._file = os.open(self._path, os.O_RDONLY)
            except OSError as error:
                raise path_error(self._path, error) from None
        return self._file


class SlicedRows(_Ranged):
    """Anything with a shape and a dtype that is sliced: memory maps, HDF5 and Zarr arrays, arrays in memory.

    It gives single rows by their indices, at little cost, if it is an ndarray or has a true `gathers`.
    """

    def __init__(
        self, array: Any, where: str, columns: Sequence[int] | None = None, check: Callable[[], None] | None = None
    ) -> None:
        shape = tuple(array.shape)
        if len(shape) != 2:
            raise unreadable(where, f"an array of shape {shape}; rows need two dimensions")
        if np.dtype(array.dtype).kind not in "buif":
            raise unreadable(where, f"an array of {array.dtype}; rows are real numbers")
        self.where, self.n_rows, self.n_features = where, int(shape[0]), int(shape[1])
        self.dtype = row_dtype_of(np.dtype(array.dtype))
        self._array, self._columns = array, columns
        self.direct = isinstance(array, np.ndarray) or getattr(array, "gathers", False)
        if columns is not None:
            for place in columns:
                if not isinstance(place, int | np.integer) or not -shape[1] <= place < shape[1]:
                    raise unreadable(where, f"no column {place!r:.80}; there are {shape[1]:,}, named by their places")
            self.n_features = len(columns)
        if check is not None:
            self.check = check  # type: ignore[method-assign]

    def read(self, start: int, stop: int) -> NDArray:
        try:
            rows = np.asarray(self._array[start:stop])
        except (OSError, RuntimeError, KeyError) as error:  # of HDF5 and Zarr
            raise ValueError(f"{self.where}: rows {start:,} to {stop - 1:,} cannot be read ({error})") from None
        return rows if self._columns is None else rows[:, self._columns]

    def gather(self, rows: NDArray[np.int64]) -> tuple[NDArray, int] | None:
        if not self.direct:
            return None
        found = self._array[rows] if self._columns is None else self._array[rows][:, self._columns]
        return found, found.nbytes


class CalledRows(_Ranged):
    """``source(start, stop)`` returns rows."""

    def __init__(self, source: Callable[[int, int], Any], n_rows: int, n_features: int | None) -> None:
        self.where = f"{getattr(source, '__name__', type(source).__name__)}(start, stop)"
        self.n_rows, self.n_features, self.dtype = n_rows, n_features, None
        self._source = source

    def read(self, start: int, stop: int) -> Any:
        return self._source(start, stop)


class IteratedRows(_Known):
    """Blocks from ``iter(source)``, which must begin anew each time."""

    random = direct = False

    def __init__(self, source: Iterable[Any], where: str | None = None) -> None:
        self.where = where or f"the iterable {type(source).__name__}"
        self.n_rows, self.n_features, self.dtype = None, None, None
        self._source = source

    def read(self, start: int, stop: int) -> Any:
        raise NotImplementedError

    def walk(self) -> Iterator[Any]:
        blocks = iter(self._source)
        if blocks is self._source:
            raise TypeError(
                f"{self.where} can be walked once only, like a generator; a fit walks the rows in every iteration. "
                "Pass an object whose __iter__ begins anew, a callable(start, stop), or a file."
            )
        yield from blocks

    def gather(self, rows: NDArray[np.int64]) -> None:
        return None

    def check(self) -> None:
        return None


class TableRows(IteratedRows):
    """The number columns of a `Source`, and its column of weights, which the first walk collects."""

    def __init__(self, source: Source, path: Path, columns: list[str], weights: str | None) -> None:
        super().__init__((), source.where)
        self.n_rows, self.n_features = source.n_rows, len(columns)
        # uint8 blocks may come as float64, which tell whether every value fits
        self.dtype = None if source.row_dtype(columns) == np.uint8 else source.row_dtype(columns)
        self._table, self.columns, self._weights = source, columns, weights
        self.check = Unchanged(path)  # type: ignore[method-assign]
        self.weights: list[NDArray] | None = None if weights is None else []

    def walk(self) -> Iterator[NDArray]:
        found: list[NDArray] = []
        for block in self._table.blocks(self.columns, [] if self._weights is None else [self._weights]):
            found += block.others
            yield block.numbers
        if self._weights is not None:
            self.weights = found


def open_npy_rows(path: Path, columns: Sequence[int] | None) -> Reader | None:
    """The rows of an npy file; None where an array of more dimensions is read as `read_table` does."""
    with ExitStack() as files:
        part = open_npy(path, files)
        offset = part.stream.tell()
    if len(part.shape) != 2 or not all(part.shape):
        return None
    if part.fortran_order or columns is not None or not hasattr(os, "preadv"):
        array: NDArray = np.memmap(path, part.dtype, "r", offset, part.shape, "F" if part.fortran_order else "C")
        return SlicedRows(array, shown(path), columns, Unchanged(path))
    return NpyRows(path, (part.shape[0], part.shape[1]), part.dtype, offset)
