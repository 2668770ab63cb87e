"""Rows cut into blocks, and blocks spread over the cores: NumPy and BLAS release the GIL, so threads suffice.

Each thread calls single-threaded BLAS on its own block, which beats multi-threaded BLAS on thin products.
Blocks are as large as caches and memory allow: threads that pass the interpreter back and forth between short calls
gain nothing over one thread.
No result depends on the number of threads or on the size of a block: each block writes its own rows, or adds integers.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from math import prod
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

T = TypeVar("T")
S = TypeVar("S")
Indices = NDArray[np.int64]

#: Fewer values than this are not worth a second thread.
SMALL = 1 << 18
#: Bytes of a block of rows: few enough for the shared cache, and enough that threads seldom wait for one another
#: between NumPy calls.
BLOCK_BYTES = 1 << 21
#: Scores that a thread computes in one block.
SCORES = 1 << 18
#: Values of the rows that are fetched in one block; for more, the allocator would request fresh pages each time.
FETCHED = 1 << 20


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


def n_threads() -> int:
    """The number of threads to use: those that BLAS may use (OMP_NUM_THREADS, threadpoolctl), at most one per core.

    Cores are those that this process may run on.
    """
    if _single_threaded_blas.users:
        return _single_threaded_blas.threads_before
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    allowed = [library["num_threads"] for library in _controller().info() if library["user_api"] == "blas"]
    return max(1, min([cores, *allowed]))


class _SingleThreadedBlas:
    """A context that limits BLAS to one thread while at least one thread is inside.

    The limit is global to the process.  If each fit saved and restored it by itself, two fits that overlap in different
    threads could leave it at one forever.  From 3.8 on, threadpoolctl ignores limits of OpenBLAS but those of the
    thread that set the first one, without a word: this context is entered by any thread, and left by another.
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
                self._take_control()
                self._limiter = _controller().limit(limits=1, user_api="blas")
            self.users += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.users -= 1
            if not self.users:
                self._restore()

    def _restore(self) -> None:
        self._take_control()
        self._limiter.restore_original_limits()
        self._take_control()  # and give it up

    @staticmethod
    def _take_control() -> None:
        """Let the next limit be effective whichever thread sets it."""
        for library in _controller().lib_controllers:
            if hasattr(library, "clear_controlling_thread"):
                library.clear_controlling_thread(force=True)

    def after_fork(self) -> None:
        """Lift the limit in a forked child, in which the threads that held it do not exist."""
        self.lock = threading.Lock()
        if self.users:
            self.users = 0
            self._restore()


_single_threaded_blas = _SingleThreadedBlas()


@cache
def _pool(size: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(size, thread_name_prefix="gpukmeans")


if hasattr(os, "register_at_fork"):  # the threads of the parent do not exist in a forked child
    os.register_at_fork(after_in_child=_pool.cache_clear)
    os.register_at_fork(after_in_child=_single_threaded_blas.after_fork)


class Workers:
    """Maps a function over blocks of rows, on `threads` threads."""

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def map(self, function: Callable[[S], T], parts: Iterable[S]) -> list[T]:
        """``[function(part) for part in parts]``, computed in parallel; results are in the order of the parts."""
        parts = list(parts)
        if self.threads == 1 or len(parts) < 2:
            return [function(part) for part in parts]
        return list(_pool(self.threads).map(function, parts))

    def share(self, n_rows: int, most: int, least: int) -> list[slice]:
        """Slices that cut `n_rows` rows into even parts of at most `most` rows, the same number for each thread.

        There are fewer slices where they would have less than `least` rows.  Their lengths differ by one at most.
        """
        n_parts = -(-n_rows // max(1, most))
        if n_parts < self.threads:
            n_parts = max(n_parts, min(self.threads, n_rows // least))
        else:
            n_parts += -n_parts % self.threads
        n_parts = min(max(1, n_parts), n_rows)
        ends = [n_rows * i // n_parts for i in range(n_parts + 1)] if n_parts else []
        return [slice(start, stop) for start, stop in pairwise(ends)]


class Rooms(threading.local):
    """Arrays to compute in, of each thread its own, which are kept from one block to the next."""

    def room(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> NDArray:
        """An array that the next call for that name from the same thread overwrites."""
        size, kept = prod(shape), self.__dict__.get(name)
        if kept is None or len(kept) < size or kept.dtype != dtype:
            kept = self.__dict__[name] = np.empty(size, dtype)
        return kept[:size].reshape(shape)


@contextmanager
def workers(n_values: int) -> Iterator[Workers]:
    """A context with the `Workers` for about `n_values` values; inside it BLAS is single-threaded.

    Below `SMALL` values there is one thread.
    """
    with _single_threaded_blas:
        yield Workers(n_threads() if n_values >= SMALL else 1)


@overload
def rows_of(rows: slice, part: slice) -> slice: ...


@overload
def rows_of(rows: Indices, part: slice) -> Indices: ...


def rows_of(rows: slice | Indices, part: slice) -> slice | Indices:
    """``rows[part]``, where `rows` are indices or a slice with a start and a stop."""
    return slice(rows.start + part.start, rows.start + part.stop) if isinstance(rows, slice) else rows[part]


def parts_of(n_rows: int, step: int) -> list[slice]:
    """Slices of `step` rows that cover `n_rows` rows; the last one may be shorter."""
    return [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]


def rows_in_block(n_columns: int, bytes_per_value: int = 8) -> int:
    """Rows in a block of about `BLOCK_BYTES`: one at least."""
    return max(1, BLOCK_BYTES // max(1, n_columns * bytes_per_value))


def blocks(n_rows: int, n_columns: int, bytes_per_value: int = 8) -> list[slice]:
    """Slices that cut `n_rows` rows into blocks of `rows_in_block` rows; the last one may be shorter."""
    return parts_of(n_rows, rows_in_block(n_columns, bytes_per_value))


def rows_to_screen(n_centers: int) -> int:
    """Rows that a thread screens in one block: enough to multiply fast, few enough to keep their scores in a cache."""
    return max(64, SCORES // n_centers, min(2048, 8 * SCORES // n_centers))


def rows_to_fetch(n_features: int) -> int:
    """Rows that are fetched in one block, about `FETCHED` values: 8 at least."""
    return max(8, FETCHED // n_features)
