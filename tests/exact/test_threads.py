"""Blocks over threads: results in order, BLAS single-threaded within, and as it was afterwards."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

from gpukmeans import threads
from gpukmeans.threads import SMALL, Workers, n_threads, parts_of, workers


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


@pytest.mark.parametrize("n_threads", [1, 2, 3, 8])
@pytest.mark.parametrize(("most", "least"), [(1, 1), (7, 3), (100, 64), (64, 100), (10**6, 10), (10**6, 10**6)])
def test_a_share_covers_all_rows_once_in_slices_that_are_not_too_large(n_threads, most, least):
    for n in (0, 1, 2, 6, 7, 8, 63, 99, 100, 101, 199, 1003):
        parts = Workers(n_threads).share(n, most, least)
        assert [i for part in parts for i in range(n)[part]] == list(range(n))
        assert all(0 < part.stop - part.start <= most for part in parts)
        assert all(part.stop - part.start <= n // len(parts) + 1 for part in parts)


@pytest.mark.parametrize("n_threads", [1, 2, 3, 8])
@pytest.mark.parametrize("most", [10, 1000, 10**6])
def test_a_share_has_as_many_slices_for_each_thread(n_threads, most):
    """However many more rows than `most`, and also where one thread could take them all."""
    for n in (10**5, 10**5 + 1, 123_457):
        parts = Workers(n_threads).share(n, max(most, n // 200), 1024)
        assert len(parts) % n_threads == 0
        assert len(parts) < n / max(most, n // 200) + n_threads


@pytest.mark.parametrize("n_threads", [2, 3, 8])
def test_few_rows_are_not_shared(n_threads):
    share = Workers(n_threads).share
    assert share(1999, 10**6, 1000) == [slice(0, 1999)]
    assert share(2000, 10**6, 1000) == [slice(0, 1000), slice(1000, 2000)]
    assert len(share(1000 * n_threads, 10**6, 1000)) == n_threads
    assert share(0, 10, 10) == []
    assert share(1, 10, 10) == [slice(0, 1)]
