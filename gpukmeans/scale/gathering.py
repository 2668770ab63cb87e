"""Rows that come in blocks, put together: a matrix that grows in place, a random sample, and columns of any values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.scale.files import unreadable

TEXT = np.dtypes.StringDType()
_GROWTH = 1.25


class Matrix:
    """A matrix to which rows are added; it grows where it lies, so that it is held once.

    Parameters
    ----------
    where : str
        Begins messages.
    n_features, n_expected : int
        Columns, and rows that room is made for.
    dtype : dtype
        uint8: until a value is no whole number from 0 to 255, then float64.
    max_bytes : int
        The most memory to take.
    """

    def __init__(self, where: str, n_features: int, n_expected: int, dtype: np.dtype, max_bytes: int) -> None:
        self.where, self.max_bytes, self.n_rows = where, max_bytes, 0
        room = max_bytes // max(1, n_features * dtype.itemsize)
        self._rows = self._made(min(n_expected, room + 1), n_features, dtype)

    def add(self, block: NDArray[Any]) -> None:
        """Copy some rows behind those that are there."""
        if self._rows.dtype == np.uint8 and block.dtype != np.uint8:
            with np.errstate(invalid="ignore"):
                narrow = block.astype(np.uint8)
            if np.array_equal(narrow, block):
                block = narrow
            else:
                self._widen()
        stop = self.n_rows + len(block)
        if stop > len(self._rows):
            self._resize(max(stop, int(_GROWTH * len(self._rows))), stop)
        self._rows[self.n_rows : stop] = block
        self.n_rows = stop

    def keep(self, rows: NDArray[np.intp]) -> None:
        """Keep these rows only, whose indices rise."""
        self._rows[: len(rows)] = self._rows[rows]
        self.n_rows = len(rows)

    def finished(self) -> NDArray[Any]:
        """The matrix, of shape (n_rows, n_features)."""
        self._rows.resize((self.n_rows, self._rows.shape[1]), refcheck=False)
        return self._rows

    def _widen(self) -> None:
        old = self._rows
        self._rows = self._made(len(old), old.shape[1], np.dtype(np.float64), self.n_rows)
        self._rows[: self.n_rows] = old[: self.n_rows]

    def _resize(self, wanted: int, needed: int) -> None:
        n_features, itemsize = self._rows.shape[1], self._rows.itemsize
        self._check(needed * n_features * itemsize)
        room = self.max_bytes // max(1, n_features * itemsize)
        try:
            self._rows.resize(
                (max(needed, min(wanted, room)), n_features), refcheck=False
            )  # without a copy where it can
        except MemoryError:
            raise self._too_much(wanted * n_features * itemsize, "which cannot be had") from None

    def _made(self, n_rows: int, n_features: int, dtype: np.dtype, least: int = 0) -> NDArray[Any]:
        """Room, whose memory is not taken before it is written to."""
        size = n_features * dtype.itemsize
        n_rows = max(least, min(n_rows, self.max_bytes // max(1, size)), 1)
        self._check(n_rows * size)
        try:
            return np.empty((n_rows, n_features), dtype)
        except (MemoryError, ValueError):
            raise self._too_much(n_rows * size, "which cannot be had") from None

    def _check(self, n_bytes: int) -> None:
        if n_bytes > self.max_bytes:
            raise self._too_much(n_bytes, f"more than max_bytes={self.max_bytes:,}")

    def _too_much(self, n_bytes: int, why: str) -> ValueError:
        return unreadable(
            self.where, f"its rows take {n_bytes:,} bytes, {why}; read a sample, fewer columns, or allow more"
        )


class Sample:
    """Which of the rows that come are kept for a random sample of `size`: the same whatever the blocks.

    Every row draws a number; those with the smallest numbers stay.
    """

    def __init__(self, size: int, random_state: int) -> None:
        self.size = size
        self._random = np.random.default_rng(random_state)
        self._draws = np.empty(0)

    def of_block(self, n_rows: int) -> NDArray[np.intp]:
        """Which rows of the next block may stay."""
        draws = self._random.random(n_rows)
        limit = np.partition(self._draws, self.size - 1)[self.size - 1] if len(self._draws) > self.size else np.inf
        chosen = np.flatnonzero(draws < limit)
        self._draws = np.append(self._draws, draws[chosen])
        return chosen

    def kept(self) -> NDArray[np.intp] | None:
        """Which of all that were chosen stay, once they are twice too many; None: no need to look yet."""
        if len(self._draws) < 2 * self.size:
            return None
        return self.last()

    def last(self) -> NDArray[np.intp]:
        """Which of all that were chosen stay."""
        chosen = np.sort(np.argsort(self._draws, kind="stable")[: self.size])
        self._draws = self._draws[chosen]
        return chosen


class Values:
    """A column of numbers or texts; texts that are all whole numbers, written as Python writes them, become int64."""

    def __init__(self) -> None:
        self._blocks: list[NDArray[Any]] = []
        self.n_bytes = 0

    def add(self, block: NDArray[Any]) -> None:
        """Some more values."""
        if block.dtype == TEXT and len(block):
            digits = np.strings.isdecimal(np.strings.lstrip(block, "-"))
            if digits.all() and (np.strings.str_len(block) < 19).all():
                whole = block.astype(np.int64)
                if (whole.astype(TEXT) == block).all():
                    block = whole
        self._blocks.append(block)
        self.n_bytes += block.nbytes + (int(np.strings.str_len(block).sum()) if block.dtype == TEXT else 0)

    def keep(self, rows: NDArray[np.intp]) -> None:
        """Keep these only."""
        kept = self.finished()[rows]
        self._blocks, self.n_bytes = [], 0
        self.add(kept)

    def finished(self) -> NDArray[Any]:
        """All values: int64, another number, or `TEXT`."""
        is_text = any(block.dtype == TEXT for block in self._blocks)
        blocks = [block.astype(TEXT) if is_text else block for block in self._blocks]
        return np.concatenate(blocks) if blocks else np.empty(0, np.int64)
