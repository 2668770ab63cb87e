"""Blocks of rows over the cores: NumPy and BLAS calls release the GIL, so threads are enough.

Each thread calls single-threaded BLAS on its own block, which beats multi-threaded BLAS on thin products.
Blocks are as large as caches and memory allow: threads that hand the interpreter to and fro between short calls gain
nothing over one.
No result depends on the number of threads: every block writes its own rows, or adds integers.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

T = TypeVar("T")
S = TypeVar("S")
Indices = NDArray[np.int64]

#: Fewer values than this are not worth a second thread.
SMALL = 1 << 18


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


def n_threads() -> int:
    """Threads that BLAS may use now (OMP_NUM_THREADS, threadpoolctl), and no more than the cores of this process."""
    if _single_threaded_blas.users:
        return _single_threaded_blas.threads_before
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    allowed = [library["num_threads"] for library in _controller().info() if library["user_api"] == "blas"]
    return max(1, min([cores, *allowed]))


class _SingleThreadedBlas:
    """Holds BLAS at one thread from the first user's entry to the last one's leaving, in whatever order they come.

    The limit is the process's own: were every fit to save and restore it by itself, two that overlap in different
    threads could leave it at one for good.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.threads_before = 1
        self._limiter: Any = None

    def __enter__(self) -> None:
        with self.lock:
            if not self.users:
                self.threads_before = n_threads()
                self._limiter = _controller().limit(limits=1, user_api="blas")
            self.users += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.users -= 1
            if not self.users:
                self._limiter.restore_original_limits()

    def after_fork(self) -> None:
        """The child has none of the other threads whose fits held the limit."""
        self.lock = threading.Lock()
        if self.users:
            self.users = 0
            self._limiter.restore_original_limits()


_single_threaded_blas = _SingleThreadedBlas()


@cache
def _pool(size: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(size, thread_name_prefix="gpukmeans")


if hasattr(os, "register_at_fork"):  # a forked child has none of its parent's threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
    os.register_at_fork(after_in_child=_single_threaded_blas.after_fork)


class Workers:
    """Maps a function over blocks, on as many threads as are worth it."""

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def map(self, function: Callable[[S], T], parts: Iterable[S]) -> list[T]:
        """``[function(p) for p in parts]``, in order, in parallel."""
        parts = list(parts)
        if self.threads == 1 or len(parts) < 2:
            return [function(part) for part in parts]
        return list(_pool(self.threads).map(function, parts))

    def share(self, n_rows: int, most: int, least: int) -> list[slice]:
        """Even slices of at most `most` rows, as many for each thread; fewer where they would be below `least`.

        Their lengths differ by one at most.
        """
        n_parts = -(-n_rows // max(1, most))
        if n_parts < self.threads:
            n_parts = max(n_parts, min(self.threads, n_rows // least))
        else:
            n_parts += -n_parts % self.threads
        n_parts = min(max(1, n_parts), n_rows)
        ends = [n_rows * i // n_parts for i in range(n_parts + 1)] if n_parts else []
        return [slice(start, stop) for start, stop in pairwise(ends)]


@contextmanager
def workers(n_values: int) -> Iterator[Workers]:
    """Workers for about `n_values` values; BLAS is single-threaded within."""
    with _single_threaded_blas:
        yield Workers(n_threads() if n_values >= SMALL else 1)


@overload
def rows_of(rows: slice, part: slice) -> slice: ...


@overload
def rows_of(rows: Indices, part: slice) -> Indices: ...


def rows_of(rows: slice | Indices, part: slice) -> slice | Indices:
    """``rows[part]``, whether these are indices or a slice with a start."""
    return slice(rows.start + part.start, rows.start + part.stop) if isinstance(rows, slice) else rows[part]


def parts_of(n_rows: int, step: int) -> list[slice]:
    """Slices of at most `step` rows that cover `n_rows`."""
    return [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]


#: Bytes of a block that is worked on at a time: small enough for the shared cache, and large enough that threads seldom
#: wait for one another between NumPy calls.
BLOCK_BYTES = 1 << 21


def blocks(n_rows: int, n_columns: int, bytes_per_value: int = 8) -> list[slice]:
    """Slices that cut `n_rows` into blocks of about `BLOCK_BYTES`."""
    return parts_of(n_rows, max(32, BLOCK_BYTES // max(1, n_columns * bytes_per_value)))


#: Scores that a thread works on at a time.
SCORES = 1 << 18


#: Values of rows that are fetched at a time; more would make the allocator ask the system for fresh pages each time.
FETCHED = 1 << 20


def rows_to_screen(n_centers: int) -> int:
    """Rows that a thread screens at a time: enough to multiply fast, few enough to keep their scores in a cache."""
    return max(64, SCORES // n_centers, min(2048, 8 * SCORES // n_centers))


def rows_to_fetch(n_features: int) -> int:
    """Rows that are fetched at a time."""
    return max(64, FETCHED // n_features)
