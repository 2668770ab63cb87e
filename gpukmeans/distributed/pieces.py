"""Rows of a source that every worker can open: each part is read by the worker that has it."""

from __future__ import annotations

import os
import socket
from itertools import pairwise
from typing import Any

import numpy as np

from gpukmeans.intake.opened import open_rows
from gpukmeans.intake.streams import WORK_BYTES, OpenRows, tables_bytes

#: Bytes of the rows of a part, at most, where parts may begin anywhere.
PIECE_BYTES = 1 << 26
#: Bytes of the bounds and labels of a row, and of what k-means++ keeps of it.
STATE_BYTES = 150


class Piece:
    """Some neighbouring rows, read when they are called for.

    Parameters
    ----------
    rows : OpenRows
        Opened here; only how they were opened travels.
    start, stop : int
    """

    def __init__(self, rows: OpenRows, start: int, stop: int) -> None:
        self._source, self._options = rows.opened_by
        self._form, self._range, self._size = rows.form(), (start, stop), _size(self._source)
        self._name = rows.where
        self.where = f"{rows.where}, rows {start:,} to {stop - 1:,},"

    def __call__(self) -> Any:
        try:
            size = _size(self._source)
            rows = open_rows(self._source, **self._options)
            if size != self._size:
                raise ValueError(f"{self._name} has {size} bytes on {socket.gethostname()}, and {self._size} here")
            return rows.range(self._form, *self._range)
        except OSError as error:
            why = str(error).removeprefix(f"{self._name}: ")
            raise OSError(
                f"a worker on {socket.gethostname()} cannot read {self._name} ({why}); workers read their rows "
                "themselves, from a path that all of them see"
            ) from None


def _size(source: Any) -> int | None:
    """Of a file; None of what is none."""
    return os.path.getsize(source) if isinstance(source, str | os.PathLike) and os.path.isfile(source) else None


def pieces(rows: OpenRows, n_clusters: int, n_threads: int, n_processes: int) -> list[Piece]:
    """The rows in as many parts, at least, as workers have threads.

    A source whose ranges cannot be read alone, such as a CSV file, is walked by each thread to the end of its part.

    Raises
    ------
    ValueError
        The memory limit is too low for the share of a worker process.
    TypeError
        The source lies in this process.
    """
    source = rows.opened_by[0]
    if not (isinstance(source, str | os.PathLike) or callable(source) or getattr(source, "gathers", False)):
        raise TypeError(
            f"{rows.where} lies in this process, where no worker can read it; open_rows of a path or of a callable can "
            "be read on workers, and arrays are parts themselves."
        )
    (n, d), dtype, is_sparse = rows.form()
    row = d * dtype.itemsize
    share = -(-n // n_processes) * (row + row // 4 + STATE_BYTES + tables_bytes(n_clusters))
    least = share + 64 * n_clusters * d + WORK_BYTES * -(-n_threads // n_processes)
    if rows.memory_limit is not None and not is_sparse and least > rows.memory_limit:
        raise ValueError(
            f"memory_limit={rows.memory_limit:,} bytes is too little for a worker's share of {n:,} rows of {d:,} "
            f"features, as there are {n_processes:,} workers: about {least:,} are needed in each, or more workers."
        )
    turns = 1 if not rows.any_range else -(-n * row // (n_threads * PIECE_BYTES))
    ends = np.linspace(0, n, min(n, n_threads * turns) + 1).astype(np.int64).tolist()
    return [Piece(rows, start, stop) for start, stop in pairwise(ends)]
