"""kernels/skip_rows.cu: rows whose limits hold are skipped; every memory access is watched."""

from __future__ import annotations

import numpy as np
import pytest

from gpukmeans.arrays.on_device import ROW_DTYPES, dtype_name
from gpukmeans.backends.cuda.control import Control
from gpukmeans.backends.cuda.device import nvrtc
from tests.emulator.module import load
from tests.emulator.testing import skip_without_compiler
from tests.support.launches.common import IN_ORDER, watched
from tests.support.launches.few import FLOAT, data, nearest_of_few
from tests.support.launches.many import Screen

EVERY_DTYPE = pytest.mark.parametrize("dtype", ROW_DTYPES, ids=dtype_name)


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


@pytest.mark.parametrize("n", [1, 31, 2048, 2049, 5000])
@pytest.mark.parametrize("n_groups", [4, 8, 16])
@IN_ORDER
def test_skipped_rows_are_nearer_to_their_center_than_to_any_group(n, n_groups, order, seed):
    rng = np.random.default_rng(n)
    labels, drift = rng.integers(-1, 7, n).astype(np.int32), rng.uniform(0, 2, 7 + n_groups).astype(np.float32)
    uppers = rng.uniform(0, 2, n).astype(np.float32)
    own = uppers + drift[labels]
    gaps = np.exp(rng.uniform(-13, 0, (n, n_groups))).astype(np.float32)
    lowers = own[:, None] + drift[7:] + gaps
    one = rng.random(n) < 0.3  # group too near, or just so, which is near enough
    lowers[one, rng.integers(0, n_groups, n)[one]] -= np.float32(1)
    tied = rng.random(n) < 0.1
    group = rng.integers(0, n_groups, n)[tied]
    lowers[tied, group] = own[tied] + drift[7 + group]
    lowers[rng.random((n, n_groups)) < 0.1] = np.inf
    uppers[rng.random(n) < 0.05] = np.nan
    screen = Screen(
        watched(order, seed), np.dtype(np.float32), np.zeros((n, 1), np.float32), np.ones((7, 1), np.float32)
    )
    screen.upload(labels, drift, uppers, lowers, n_groups=n_groups)
    screen.skip()
    pairs = zip(labels, uppers, lowers, strict=True)
    skipped = [a >= 0 and bool((u + drift[a] < b - drift[7:]).all()) for a, u, b in pairs]
    assert n < 100 or 0.1 < np.mean(skipped) < 0.9
    listed = screen.get("active")[: screen.count(Control.N_ACTIVE)]
    assert sorted(listed) == [row for row, skip in enumerate(skipped) if not skip]
    assert screen.count(Control.N_SKIPPED) == sum(skipped)


def test_the_rows_that_are_left_of_a_block_share_tensor_products():
    """Few centers: the same operations of whole warps, whether 13 of 128 rows follow one another or lie apart."""
    X, C = data(FLOAT, 128, 4, 5)
    text = nvrtc.source("nearest_of_few", FLOAT.constants(VECTOR=0, TILES=2))
    kernel = load("nearest_of_few.cu", text, "check", 900).get_function("nearest_of_few")
    counts = []
    for rows in (np.arange(13), np.arange(0, 128, 10), np.arange(128)):
        limits = np.ones(128, np.float32)
        limits[rows] = np.nan
        got = nearest_of_few(watched(), FLOAT, X, C, labels=np.full(128, 3, np.int32), limits=limits)
        assert got.control[Control.N_SKIPPED] == 128 - len(rows)
        counts.append(kernel.statistics["collectives"])
    assert counts[0] == counts[1] < counts[2] / 2
