"""Blocks of rows over the cores: NumPy and BLAS calls release the GIL, so threads are enough.

Each thread calls single-threaded BLAS on its own block, which beats multi-threaded BLAS on thin products.
No result depends on the number of threads: every block writes its own rows, or adds integers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

from threadpoolctl import ThreadpoolController

T = TypeVar("T")
S = TypeVar("S")

#: Fewer values than this are not worth a second thread.
SMALL = 1 << 18


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


def n_threads() -> int:
    """Threads that BLAS may use now (OMP_NUM_THREADS, threadpoolctl), and no more than the cores of this process."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    allowed = [library["num_threads"] for library in _controller().info() if library["user_api"] == "blas"]
    return max(1, min([cores, *allowed]))


@cache
def _pool(size: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(size, thread_name_prefix="gpukmeans")


if hasattr(os, "register_at_fork"):  # a forked child has none of its parent's threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


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


@contextmanager
def workers(n_values: int) -> Iterator[Workers]:
    """Workers for about `n_values` values; BLAS is single-threaded within."""
    threads = n_threads() if n_values >= SMALL else 1
    with _controller().limit(limits=1, user_api="blas"):
        yield Workers(threads)


def parts_of(n_rows: int, step: int) -> list[slice]:
    """Slices of at most `step` rows that cover `n_rows`."""
    return [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]
