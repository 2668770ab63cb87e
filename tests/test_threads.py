"""Blocks over threads: results in order, BLAS single-threaded within, and as it was afterwards."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

from gpukmeans import threads
from gpukmeans.threads import SMALL, n_threads, parts_of, workers


def blas_threads():
    info = threads._controller().info()
    return [library["num_threads"] for library in info if library["user_api"] == "blas"]


def test_results_come_in_order_from_more_than_one_thread():
    with workers(SMALL) as pool:
        pool.threads = 3
        found = pool.map(lambda i: (i, threading.current_thread().name), range(40))
    assert [i for i, _ in found] == list(range(40))
    assert all(name.startswith("gpukmeans") for _, name in found)


def test_small_work_stays_in_its_thread():
    with workers(SMALL - 1) as pool:
        assert pool.map(lambda _: threading.current_thread(), range(3)) == 3 * [threading.current_thread()]


def test_overlapping_users_leave_blas_as_it_was():
    """The first in is the first out, while the other still works: neither may restore the other's limit."""
    before, allowed = blas_threads(), n_threads()
    first, second = workers(SMALL), workers(SMALL)
    first.__enter__()
    pool = second.__enter__()
    assert pool.threads == allowed  # not the limit that the first has set
    first.__exit__(None, None, None)
    assert blas_threads() == [1] * len(before)
    second.__exit__(None, None, None)
    assert blas_threads() == before


def test_an_error_inside_leaves_blas_as_it_was():
    before = blas_threads()
    with pytest.raises(KeyboardInterrupt), workers(SMALL):
        raise KeyboardInterrupt
    assert blas_threads() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_child_forked_in_the_middle_works_and_is_not_limited():
    before = blas_threads()
    with workers(SMALL):
        child = os.fork()
        if not child:
            with workers(SMALL) as pool:
                pool.threads = 2
                fine = pool.map(lambda i: i, range(4)) == [0, 1, 2, 3]
            os._exit(0 if fine and blas_threads() == before else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_parts_cover_all_rows_once():
    covered = np.concatenate([np.arange(1003)[part] for part in parts_of(1003, 100)])
    assert covered.tolist() == list(range(1003))
    assert parts_of(0, 100) == []
