"""Rows of a `Reader` cut into equal blocks: walked with the next block read ahead, sliced, and gathered."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from gpukmeans.arrays.magnitude import rows_times_power
from gpukmeans.arrays.types import I64, Index
from gpukmeans.scale.facts import stored_rows
from gpukmeans.scale.readers import WHOLE_FROM, Reader

#: Bytes of a block, about.
BLOCK_BYTES = 1 << 24
#: Blocks that are kept: threads that work side by side ask for neighbours.
KEPT = 3
#: Bytes of rows that a thread reads once and works on.
HELD_BYTES = 1 << 23


class RowBlocks:
    """Rows of one dtype and width, as a fit reads them.

    Parameters
    ----------
    reader : Reader
    shape : tuple of int
    dtype : dtype
        uint8, float32 or float64.
    is_sparse : bool
        Whether blocks are CSR.
    block_bytes : int
    exponent : int
        Rows are multiplied by 2**exponent.
    convert : bool
        Whether wider floats may be rounded to `dtype`, as the caller asked for it.

    Attributes
    ----------
    bytes_read : int
        Of rows that the reader was asked for.
    """

    ndim = 2

    def __init__(
        self,
        reader: Reader,
        shape: tuple[int, int],
        dtype: np.dtype,
        is_sparse: bool,
        block_bytes: int = BLOCK_BYTES,
        exponent: int = 0,
        convert: bool = False,
    ) -> None:
        self.reader, self.shape, self.dtype, self.is_sparse, self.exponent = reader, shape, dtype, is_sparse, exponent
        self.convert = convert and dtype.kind == "f"
        self.size = shape[0] * shape[1]
        self.itemsize = dtype.itemsize
        self.step = max(1, min(shape[0], block_bytes // max(1, shape[1] * dtype.itemsize)))
        self.bytes_read = 0
        self._kept: OrderedDict[int, Any] = OrderedDict()
        self._gathered: deque[tuple[I64, NDArray]] = deque(maxlen=2)  # the last that were held: some of them move next
        self._lock = threading.RLock()
        self._pulled: Iterator[Any] | None = None  # blocks of a reader that walks, and what is left of the last
        self._rest: Any = None
        self._at = 0  # the row that comes next
        self._starts: list[int] = []  # of the reader's own blocks

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def n_blocks(self) -> int:
        return -(-self.shape[0] // self.step)

    # ---- one block after the other -----------------------------------------------------------------------------------

    def walk(self) -> Iterator[tuple[slice, Any]]:
        """All blocks with their places; the next one is read while the caller works on one."""
        self.reader.check()
        with ThreadPoolExecutor(1, thread_name_prefix="gpukmeans-read") as ahead:
            coming = ahead.submit(self.block, 0)
            for number in range(self.n_blocks):
                block = coming.result()
                if number + 1 < self.n_blocks:
                    coming = ahead.submit(self.block, number + 1)
                start = number * self.step
                yield slice(start, start + block.shape[0]), block
        self.reader.check()

    def block(self, number: int) -> Any:
        """One block: an ndarray or a csr_array of at most `step` rows."""
        with self._lock:
            if number in self._kept:
                self._kept.move_to_end(number)
                return self._kept[number]
            start = number * self.step
            stop = min(start + self.step, self.shape[0])
            if self.reader.random:
                rows = self._read(start, stop)
            else:
                rows = self._pull(start, stop)
            self._kept[number] = rows
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return rows

    def _read(self, start: int, stop: int) -> Any:
        rows = self._unchanged(self.reader.read, start, stop)
        checked = self._as_stored(rows, f"rows {start:,} to {stop - 1:,}")
        if checked.shape[0] != stop - start:
            raise ValueError(
                f"{self.reader.where}: rows {start:,} to {stop - 1:,} were asked for, {stop - start:,} of them, and "
                f"{checked.shape[0]:,} came; a source gives the same rows each time it is asked"
            )
        return checked

    def _unchanged(self, read: Callable[..., Any], *where: Any) -> Any:
        """What a reader returns; one that is asked for rows here and there is not walked, which would check it."""
        if not self.reader.direct:
            return read(*where)
        self.reader.check()  # before: to read mapped pages of a file that was cut short ends the process
        found = read(*where)
        self.reader.check()
        return found

    def _pull(self, start: int, stop: int) -> Any:
        """Rows from a reader that walks, begun anew where these have gone by."""
        if self._pulled is None or start < self._at:
            self._pulled, self._rest, self._at, self._starts = self.reader.walk(), None, 0, []
            self._n_seen = 0
        parts: list[Any] = []
        while self._at < stop:
            if self._rest is None:
                found = next(self._pulled, None)
                if found is None:
                    raise ValueError(
                        f"{self.reader.where}: ended after {self._at:,} rows, and had {self.shape[0]:,} before; a "
                        "source gives the same rows each time it is walked"
                    )
                number = len(self._starts)
                self._starts.append(self._n_seen)
                self._rest = self._as_stored(found, f"block {number:,} (from row {self._n_seen:,} on)")
                self._n_seen += self._rest.shape[0]
            n = self._rest.shape[0]
            first, last = max(start - self._at, 0), min(stop - self._at, n)
            if last > first:
                parts.append(self._rest[first:last])
            self._at += last
            self._rest = self._rest[last:] if last < n else None
        if stop == self.shape[0] and (self._rest is not None or any(len_of(rest) for rest in self._pulled)):
            raise ValueError(
                f"{self.reader.where}: has more than the {self.shape[0]:,} rows that it had before; a source gives the "
                "same rows each time it is walked"
            )
        return joined(parts)

    def _as_stored(self, block: Any, what: str, n_read: int | None = None) -> Any:
        """A block as the fit reads it; `n_read` bytes were read for it."""
        try:
            rows = stored_rows(block)
        except ValueError as error:
            raise ValueError(f"{self.reader.where}: {what}: {error}") from None
        is_sparse = not isinstance(rows, np.ndarray)
        if is_sparse != self.is_sparse or rows.shape[1] != self.shape[1]:
            forms = [
                f"{'sparse' if form else 'dense'} rows of {width} features"
                for form, width in ((is_sparse, rows.shape[1]), (self.is_sparse, self.shape[1]))
            ]
            raise ValueError(f"{self.reader.where}: {what} has {forms[0]}, the first block {forms[1]}")
        with self._lock:
            self.bytes_read += bytes_of(rows) if n_read is None else n_read
        if rows.dtype != self.dtype:
            if not self.convert and not np.can_cast(rows.dtype, self.dtype) and not self._fits(rows):
                raise ValueError(
                    f"{self.reader.where}: {what} has {rows.dtype} rows that are not all {self.dtype}, as which rows "
                    "are kept; give all blocks one dtype, or say dtype='float64'"
                )
            with np.errstate(over="ignore"):  # infinity is refused
                rows = rows.astype(self.dtype)
        return rows_times_power(rows, self.exponent) if self.exponent else rows

    def _fits(self, rows: Any) -> bool:
        """Whether rows in a wider dtype are values of the narrower one: tables give whole numbers as float64."""
        values = rows if isinstance(rows, np.ndarray) else rows.data
        with np.errstate(invalid="ignore", over="ignore"):
            return self.dtype == np.uint8 and np.array_equal(values.astype(np.uint8), values)

    # ---- some rows ---------------------------------------------------------------------------------------------------

    def __getitem__(self, index: Index) -> Any:
        """Some rows; neighbours within a block are not copied."""
        if isinstance(index, slice):
            start, stop, step = index.indices(self.shape[0])
            if step != 1:
                return self[np.arange(start, stop, step)]
            if stop <= start:
                return self._joined([])
            if self.reader.direct:
                return self._read(start, stop)
            numbers = range(start // self.step, (stop - 1) // self.step + 1)
            return self._joined([self.block(n)[max(start - n * self.step, 0) : stop - n * self.step] for n in numbers])
        return self.take(index)

    def take(self, indices: I64, axis: int = 0, out: None = None, mode: str = "raise") -> Any:
        """Some rows by their indices, in this order and as often as they are named."""
        wanted, inverse = np.asarray(indices, np.int64), None
        if not len(wanted):
            return self._joined([])
        if (np.diff(wanted) <= 0).any():
            wanted, inverse = np.unique(wanted, return_inverse=True)
        held = self._of_gathered(wanted)
        found = self._unchanged(self.reader.gather, wanted) if self.reader.direct and held is None else None
        if held is not None:
            result = held
        elif found is not None:
            result = self._as_stored(found[0], f"rows {wanted[0]:,} to {wanted[-1]:,}", found[1])
        else:
            owner = wanted // self.step
            ends = [0, *(np.flatnonzero(np.diff(owner)) + 1).tolist(), len(wanted)]
            result = self._joined(
                [self.block(int(owner[a]))[wanted[a:b] - int(owner[a]) * self.step] for a, b in pairwise(ends)]
            )
        return result if inverse is None else result[inverse]

    @property
    def most_held(self) -> int:
        """Rows of about `HELD_BYTES`."""
        return max(1, HELD_BYTES // max(1, self.shape[1] * self.itemsize))

    def held(self, part: slice, rows: I64) -> HeldRows:
        """Some rows of a part, whose indices rise; the whole part where they are many of it."""
        n = int(part.stop - part.start)
        if len(rows) > WHOLE_FROM * n and n <= self.most_held:
            return HeldRows(self[part], int(part.start), None)
        found = self.take(rows)
        self._gathered.append((rows, found))
        return HeldRows(found, 0, rows)

    def _of_gathered(self, wanted: I64) -> NDArray | None:
        """Rows, whose indices rise, out of those that were held last; None where these are not all of them."""
        for rows, found in list(self._gathered):
            if rows[0] <= wanted[0] and wanted[-1] <= rows[-1]:
                places = np.searchsorted(rows, wanted)
                if np.array_equal(rows[places], wanted):
                    return found[places]
        return None

    def _joined(self, parts: list[Any]) -> Any:
        if parts:
            return joined(parts)
        empty: Any = sparse.csr_array if self.is_sparse else np.empty
        return empty((0, self.shape[1]), dtype=self.dtype)

    def name_of(self, row: int) -> str:
        """The block of the source that a row lies in, for messages."""
        if self._starts:
            number = bisect_right(self._starts, row) - 1
            return f"block {number:,} (from row {self._starts[number]:,} on)"
        return f"block {row // self.step:,} (rows of {self.step:,})"


class HeldRows:
    """Rows that have been read, by their indices among all: `rows`, which rise, or all from `start` on."""

    def __init__(self, X: NDArray, start: int, rows: I64 | None) -> None:
        self._X, self._start, self._rows = X, start, rows
        self.dtype = X.dtype

    def __getitem__(self, index: Index) -> NDArray:
        if not isinstance(index, slice):
            return self.take(index)
        if self._rows is not None:
            return self.take(np.arange(index.start, index.stop))
        return self._X[index.start - self._start : index.stop - self._start]

    def take(self, indices: I64, axis: int = 0, out: None = None, mode: str = "raise") -> NDArray:
        places = indices - self._start if self._rows is None else np.searchsorted(self._rows, indices)
        return np.take(self._X, places, axis=0)


def joined(parts: list[Any]) -> Any:
    """Rows one behind the other, all dense or all in CSR."""
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if isinstance(parts[0], np.ndarray) else sparse.csr_array(sparse.vstack(parts, "csr"))


def bytes_of(rows: Any) -> int:
    """Of the values of rows, and of their places in CSR."""
    if isinstance(rows, np.ndarray):
        return rows.nbytes
    return int(rows.data.nbytes + rows.indices.nbytes + rows.indptr.nbytes)


def first_of(reader: Reader, n_rows: int | None) -> Any:
    """The first block of a reader, or one row of a reader that gives ranges: what shows how rows are stored."""
    found = (
        reader.read(0, min(1, n_rows or 0)) if reader.random else next((b for b in reader.walk() if len_of(b)), None)
    )
    if found is None:
        raise ValueError(f"{reader.where}: no rows")
    try:
        return stored_rows(found)
    except ValueError as error:
        raise ValueError(f"{reader.where}: {error}") from None


def len_of(block: Any) -> int:
    """Rows of a block that has not been checked; 1 of what is none."""
    shape = block.shape if hasattr(block, "shape") else np.shape(block)
    return int(shape[0]) if len(shape) else 1
