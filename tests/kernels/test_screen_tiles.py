"""Tiles of the screens of many centers: they fit every device, and keep rows in shared memory where possible."""

from __future__ import annotations

import numpy as np
import pytest

from gpukmeans.arrays.on_device import ROW_DTYPES, dtype_name
from gpukmeans.backends.cuda import screen_tiles, tuning
from tests.emulator.testing import skip_without_compiler

EVERY_DTYPE = pytest.mark.parametrize("dtype", ROW_DTYPES, ids=dtype_name)


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


# ---- tiles ------------------------------------------------------------------------------------------------------


@EVERY_DTYPE
@pytest.mark.parametrize("shared_kib", [64, 99, 163, 227])
@pytest.mark.parametrize("vector", [True, False])
def test_the_tile_fits_every_device_whatever_the_shape(dtype, shared_kib, vector):
    offered = [c for kernel, c in screen_tiles.variants() if kernel == "nearest_of_many"]
    for n in (1, 1 << 20):
        for d in (1, 48, 64, 128, 200, 256, 512, 784, 800, 1024, 5000, 10**6):
            tile = screen_tiles.many_tile(dtype, n, d, vector, shared_kib << 10)
            assert tile.shared_bytes(tuning.n_steps(d, dtype)) <= shared_kib << 10
            assert tile.constants(dtype, vector) in offered
    assert screen_tiles.candidate_tile(dtype).shared_bytes(10**6) <= 64 << 10


def test_rows_stay_in_shared_memory_where_they_find_room():
    half, wide = np.dtype(np.float16), 227 << 10

    def tile(d, n=1 << 20, shared=wide):
        found = screen_tiles.many_tile(half, n, d, True, shared)
        return found.BM, found.BN, found.PANEL_STEPS > 0

    assert tile(128) == (256, 64, False)
    assert tile(128, n=1000) == (128, 128, False)
    assert tile(256) == (128, 128, False)
    assert tile(768) == (128, 256, False)
    assert tile(784) == tile(1024) == (128, 256, True)
    assert tile(256, shared=99 << 10) == (128, 256, False)
