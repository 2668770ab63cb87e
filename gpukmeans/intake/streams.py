"""Rows that stream, as an estimator gets them: their shape, what a first pass finds, and rows on a backend."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpukmeans.arrays.limits import LARGEST_VALUE
from gpukmeans.arrays.magnitude import SAMPLE, exponent_of, near_one
from gpukmeans.arrays.types import F64
from gpukmeans.backends.choice import get_backend
from gpukmeans.backends.protocol import Backend
from gpukmeans.scale.checkpoints import READ, digests_of
from gpukmeans.scale.facts import ColumnFacts, Facts, SumGrids, entries_of, extremes_of, refused_row
from gpukmeans.scale.readers import Reader, TableRows
from gpukmeans.scale.row_blocks import BLOCK_BYTES, KEPT, RowBlocks, first_of, len_of
from gpukmeans.scale.streamed_rows import Room, StreamedRows
from gpukmeans.threads import n_threads, parts_of

#: Blocks that there are at a time, at most, and how many the memory limit has room for.
BLOCKS, SHARE = KEPT + 9, 60
#: Of each row: what k-means++ keeps of it, which may lie in a file, and the components by which it may compare rows.
SEEDS_BYTES, SHADOW_BYTES = 32, 264
#: What a thread takes beside, whatever the rows: blocks of values that it works on, their scores and products.
WORK_BYTES = 25 << 20


def tables_bytes(n_clusters: int) -> int:
    """Of each row: leading components, and bounds of groups of centers."""
    return 4 * (68 + n_clusters) + 4 * (n_clusters // 32 + 164)


@dataclass(frozen=True)
class Survey:
    """What a first pass over the rows finds: their facts, and their smallest and largest value."""

    facts: Facts
    low: float
    high: float


class OpenRows:
    """Rows that are read when they are needed; made by `open_rows`.

    Attributes
    ----------
    shape : tuple of int
        (n_samples, n_features); reads all rows once where the source does not tell.
    n_samples, n_features : int
    dtype : dtype
        uint8, float32 or float64: how rows are kept.
    sample_weight : ndarray of shape (n_samples,), or None
    names : data frame without rows, or None
        Has the names of the columns, where a fit is to keep them.
    opened_by : tuple of (object, dict)
        The source, and the options of `open_rows` that open the same rows elsewhere.
    """

    names: Any = None

    def __init__(
        self,
        reader: Reader,
        dtype: np.dtype | None,
        sample_weight: ArrayLike | None,
        memory_limit: int | None,
        device_memory_limit: int | None,
        opened_by: tuple[Any, dict[str, Any]],
    ) -> None:
        self._reader, self._wanted, self.opened_by = reader, dtype, opened_by
        self._given_weight = sample_weight
        self.memory_limit, self.device_memory_limit = memory_limit, device_memory_limit
        self._form: tuple[tuple[int, int], np.dtype, bool] | None = None
        self.surveys: dict[int, Survey] = {}
        self.weighted: list[tuple[F64, int, Facts]] = []

    def __repr__(self) -> str:
        size = "" if self._form is None else f": {self.n_samples:,} rows of {self.n_features:,} features, {self.dtype}"
        return f"<OpenRows of {self._reader.where}{size}>"

    @property
    def feature_names(self) -> list[str] | None:
        """The columns of a table that are features, by name; None of rows without names."""
        return self._reader.columns if isinstance(self._reader, TableRows) else None

    def __array__(self, *_: object, **__: object) -> NDArray:
        raise TypeError(
            f"{self!r} stream and are no array: KMeans.fit, predict, score and transform take them; other code gets "
            "them block by block from rows.blocks(), or as an array from gpukmeans.read_table."
        )

    @property
    def shape(self) -> tuple[int, int]:
        return self.form()[0]

    @property
    def n_samples(self) -> int:
        return self.shape[0]

    @property
    def n_features(self) -> int:
        return self.shape[1]

    @property
    def dtype(self) -> np.dtype:
        return self.form()[1]

    @property
    def sample_weight(self) -> NDArray | None:
        if isinstance(self._reader, TableRows) and self._reader.weights is not None:
            if not self._reader.weights:
                for _ in self._reader.walk():
                    pass
            return np.concatenate(self._reader.weights).astype(np.float64)
        return None if self._given_weight is None else np.asarray(self._given_weight)

    def blocks(self, n_rows: int | None = None) -> Iterator[Any]:
        """All rows in blocks, ndarrays or CSR, for `MiniBatchKMeans.partial_fit` or any other use.

        Parameters
        ----------
        n_rows : int, optional
            Rows of a block; None: about 16 MB.
        """
        if n_rows is not None and n_rows < 1:
            raise ValueError(f"n_rows={n_rows} should be at least 1.")
        row_bytes = self.n_features * self.dtype.itemsize
        blocks = self._blocks(*self.form(), block_bytes=None if n_rows is None else n_rows * row_bytes)
        for _, block in blocks.walk():
            yield block

    # ---- for workers that open the rows themselves ----

    @property
    def where(self) -> str:
        """What the source is, for messages."""
        return self._reader.where

    @property
    def any_range(self) -> bool:
        """Whether rows may be read from any of them on."""
        return self._reader.random

    def range(self, form: tuple[tuple[int, int], np.dtype, bool], start: int, stop: int) -> Any:
        """Some rows, an ndarray or CSR, of a source whose form is known from elsewhere."""
        blocks = self._blocks(*form)
        self._reader.check()
        if blocks.is_sparse or self._reader.direct:
            return blocks[start:stop]
        out = np.empty((stop - start, blocks.shape[1]), blocks.dtype)
        for first in range(start // blocks.step * blocks.step, stop, blocks.step):
            here = slice(max(start, first), min(stop, first + blocks.step))
            out[here.start - start : here.stop - start] = blocks[here]
        return out

    def unchanged(self) -> None:
        """Raise a ValueError if the source is known to have changed."""
        self._reader.check()

    # ---- for the intake ----------------------------------------------------------------------------------------------

    def chosen(self, backend: str | Backend) -> Backend:
        """The backend of a fit."""
        return get_backend(backend, sparse=self.form()[2])

    def form(self) -> tuple[tuple[int, int], np.dtype, bool]:
        """Shape, dtype, and whether blocks are CSR; a pass over the rows where the source does not tell."""
        if self._form is None:
            reader = self._reader
            first = first_of(reader, reader.n_rows)
            d, sparse = first.shape[1], not isinstance(first, np.ndarray)
            if reader.n_features is not None and reader.n_features != d:
                raise ValueError(f"{reader.where}: rows of {d} features came, {reader.n_features} were expected")
            dtype = self._wanted or reader.dtype or first.dtype
            n = reader.n_rows
            if n is None or (isinstance(reader, TableRows) and self._wanted is None and reader.dtype is None):
                n, dtype = self._walked(reader, dtype)
            if not n or not d:
                raise ValueError(f"{reader.where}: {n} rows of {d} features; at least one of each is needed")
            self._form = (n, d), dtype, sparse
        return self._form

    def _walked(self, reader: Reader, dtype: np.dtype) -> tuple[int, np.dtype]:
        """The number of rows, and their dtype; that of a table which may hold bytes, or other whole numbers."""
        n, bytes_only = 0, isinstance(reader, TableRows) and self._wanted is None and reader.dtype is None
        undecided = bytes_only
        for block in reader.walk():
            n += len_of(block)
            if bytes_only and block.dtype != np.uint8:
                with np.errstate(invalid="ignore", over="ignore"):
                    bytes_only = bool(np.array_equal(block.astype(np.uint8), block))
        return n, np.dtype(np.uint8 if bytes_only else np.float64) if undecided else dtype

    def _blocks(
        self, shape: tuple[int, int], dtype: np.dtype, sparse: bool, exponent: int = 0, block_bytes: int | None = None
    ) -> RowBlocks:
        size, convert = block_bytes or self.block_bytes(), self._wanted is not None
        return RowBlocks(self._reader, shape, dtype, sparse, size, exponent, convert)

    def block_bytes(self) -> int:
        limits = [BLOCK_BYTES]
        if self.memory_limit is not None:
            limits.append(self.memory_limit // SHARE)
        if self.device_memory_limit is not None:
            limits.append(self.device_memory_limit // 4)
        return max(1, min(limits))

    def stream(self, n_clusters: int = 1, init: object = None) -> Stream:
        """The rows for one fit; `init` as of `KMeans`: drawing seeds takes more memory.

        Raises
        ------
        ValueError
            The memory limit is too low for it.
        """
        shape, dtype, sparse = self.form()
        blocks = self._blocks(shape, dtype, sparse)
        return Stream(self, blocks, self._room(blocks, n_clusters, init))

    def _room(self, blocks: RowBlocks, n_clusters: int, init: object) -> Room:
        """What is kept of the rows; raises if the limit is too low for what has to be."""
        if self.memory_limit is None:
            return Room()
        n, d = blocks.shape
        of_row = 24 if self._given_weight is not None else 0
        draws, filed = isinstance(init, str), 0
        if draws and init == "random":
            of_row += 40  # numpy's draw without replacement
        elif draws:  # the draw, what the trials may change, distances to seeds and their errors, squares and norms
            trials = 2 + int(np.log(n_clusters))
            of_row += 24 + 9 * trials
            filed = SEEDS_BYTES if init == "k-means++" and not blocks.is_sparse else 0
            of_row += SEEDS_BYTES - filed
        row = d * blocks.itemsize
        rest = n * of_row + 64 * n_clusters * d + WORK_BYTES * n_threads()
        least = rest + BLOCKS * blocks.step * row
        if least > self.memory_limit:  # blocks may be smaller, and are larger where the limit is
            most = min([BLOCK_BYTES, n * row, *([self.device_memory_limit // 4] if self.device_memory_limit else [])])
            least = rest + BLOCKS * max(row, min(most, -(-rest // (SHARE - BLOCKS))))
            raise ValueError(
                f"memory_limit={self.memory_limit:,} bytes is too little for {n:,} rows of {d:,} features in "
                f"{n_clusters:,} clusters: at least {least:,} are needed, of which {of_row * n:,} for the rows' state"
                + (". An array of centers as init needs less." if draws else ".")
            )
        left = (self.memory_limit - least) // n
        labels, bounds = filed + 8, filed + 60
        tables = bounds + tables_bytes(n_clusters)
        shadow = (tables if tables <= left else bounds) + SHADOW_BYTES
        return Room(labels > left, bounds <= left, tables <= left, filed > left, shadow <= left)


class Stream:
    """Opened rows in one use: `Given.X` of rows that stream."""

    def __init__(self, opened: OpenRows, blocks: RowBlocks, room: Room) -> None:
        self.opened, self.blocks, self.room = opened, blocks, room
        self.shape, self.dtype, self.ndim = blocks.shape, blocks.dtype, 2

    def survey(self, sample_weight: F64 | None = None) -> Survey:
        """A pass over the rows, unless they have been surveyed before.

        Raises
        ------
        ValueError
            A value is not finite or too large; the message names the block.
        """
        opened, exponent = self.opened, self.blocks.exponent
        known = next((f for w, e, f in opened.weighted if w is sample_weight and e == exponent), None)
        if exponent in opened.surveys and (sample_weight is None or known is not None):
            found = opened.surveys[exponent]
            return found if known is None else replace(found, facts=known)
        facts: Facts | None = None
        low, high = np.inf, -np.inf
        for part, X in self.blocks.walk():
            here = ColumnFacts.of(X)
            self._refuse(here, X, part)
            least, most = extremes_of(X)
            low, high = min(low, least), max(high, most)
            block = Facts.about(X, here, None if sample_weight is None else sample_weight[part])
            facts = block if facts is None else facts + block
        assert facts is not None
        facts = replace(facts, dtype=self.dtype)
        found = Survey(replace(facts, products=None, weights=None), low, high)
        opened.surveys[exponent] = found
        if sample_weight is None:
            return found
        opened.weighted = [(sample_weight, exponent, facts)]
        return replace(found, facts=facts)

    def _refuse(self, here: ColumnFacts, X: Any, part: slice) -> None:
        if float(here.largest.max(initial=0.0)) <= LARGEST_VALUE:
            return
        row, what = refused_row(X)
        row += part.start
        raise ValueError(
            f"{self.blocks.reader.where}: {self.blocks.name_of(row)} contains {what} in row {row:,}; rows are finite "
            f"and at most 2**480. Mend it, or leave the row out."
        )

    @property
    def surveyed(self) -> Survey | None:
        """The survey, if there was one."""
        return self.opened.surveys.get(self.blocks.exponent)

    def sampled(self, most: int) -> NDArray | None:
        """Evenly spaced dense rows of about `most` values, where single rows can be read; else None."""
        if not self.blocks.reader.direct or self.blocks.is_sparse:
            return None
        return self.blocks[:: -(-self.blocks.size // most)]

    def grids(self, sample_weight: F64 | None) -> SumGrids:
        """The grids of the sums of the rows."""
        return self.survey(sample_weight).facts.grid()

    def rows(self, backend: Backend, sample_weight: F64 | None, *, sums: bool) -> StreamedRows:
        """The rows on a backend."""
        grids = self.grids if sums else None
        return StreamedRows(self.blocks, backend, sample_weight, grids, self._values, self.room)

    def _values(self) -> ColumnFacts:
        return self.survey().facts.values

    def astype(self, dtype: Any) -> Stream:
        """The same rows in a wider dtype."""
        twin = copy(self)
        twin.blocks = self.opened._blocks(self.shape, np.dtype(dtype), self.blocks.is_sparse, self.blocks.exponent)
        twin.dtype = np.dtype(dtype)
        return twin

    def exponent(self, near: NDArray | None) -> int:
        """`gpukmeans.arrays.magnitude.unit_exponent` of the rows, and of values near them."""
        if self.dtype.kind != "f":
            return 0
        if self.surveyed is None and (sample := self.sampled(SAMPLE * self.shape[1])) is not None:
            seen = float(np.abs(sample).max())
            if seen and near_one(seen):
                return 0
        found = self.survey()
        largest = max(found.high, -found.low, 0.0 if near is None else float(np.abs(near).max()))
        if near_one(largest):
            return 0

        def arrays() -> Iterator[NDArray]:
            yield from (entries_of(X) for _, X in self.blocks.walk())
            if near is not None:
                yield near

        if not self.blocks.is_sparse:
            sample = self.blocks[:: max(1, self.shape[0] // SAMPLE)]
        else:
            step = max(1, sum(X.nnz for _, X in self.blocks.walk()) // SAMPLE)
            parts, before = [], 0
            for _, X in self.blocks.walk():
                parts.append(X.data[-before % step :: step])
                before += X.nnz
            sample = np.concatenate(parts)
        return exponent_of(sample, arrays)

    def in_unit(self, exponent: int) -> Stream:
        """The same rows times 2**exponent."""
        twin = copy(self)
        twin.blocks = self.opened._blocks(self.shape, self.dtype, self.blocks.is_sparse, exponent)
        return twin

    def digests(self, step: int) -> list[bytes]:
        """SHA-256 of each `step` rows, in some pieces."""
        blocks = self.blocks
        return [digests_of(blocks[part], step) for part in parts_of(len(blocks), READ * step)]

    def n_distinct(self, sample_weight: F64 | None, count: Any) -> int:
        """How many distinct rows of positive weight there are; ``count(rows, sample_weight, found)`` adds a block."""
        found: set[int] = set()
        for part, X in self.blocks.walk():
            count(X, None if sample_weight is None else sample_weight[part], found)
        return len(found)

    @property
    def bytes_read(self) -> int:
        """Of rows, so far."""
        return self.blocks.bytes_read
