"""Copies between host and device: how many a fit takes, and large ones through page-locked memory."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from gpukmeans import KMeans
from gpukmeans.backends.cuda.backend import CupyBackend
from gpukmeans.backends.cuda.device import uploads
from gpukmeans.backends.cuda.device.cupy_device import STAGED_BYTES, CupyDevice
from tests.emulator import EmulatorDevice
from tests.emulator.testing import skip_without_compiler
from tests.support.assertions import assert_same
from tests.support.cupy_stand_in import stand_in


@pytest.fixture(autouse=True)
def _compiler():
    skip_without_compiler()


class CudaError(RuntimeError):
    def __init__(self, status):
        super().__init__("CUDA's words")
        self.status = status


#: Of a fit of 1000 rows: with a given start to strict convergence, with a tolerance, and with k-means++.
#: With an allocation, a copy and a wait for each array, and the variance by a run of its own, "given" took 52
#: allocations, 15 uploads, 21 fills, 19 waits and 12 launches beside those of its iterations.
CALLS = {
    "given, tol=0": ({"tol": 0.0}, {"allocations": 4, "uploads": 3, "fills": 1}, 3),
    "given": ({}, {"allocations": 4, "uploads": 3, "fills": 1}, 3),
    "k-means++": ({"init": "k-means++"}, {"allocations": 7, "uploads": 4, "fills": 2}, 4),
}
#: Once a fit: facts about features and rows, of the centers given, distances and their sum.
FIXED_LAUNCHES = {"column_facts", "column_means", "row_facts", "row_distance", "exact_total"}


@pytest.mark.parametrize("case", CALLS)
def test_what_the_host_does_for_a_small_fit(case):
    """Beside its launches; it looks at the device after 8, 16, 32 and 64 iterations."""
    options, calls, waits = CALLS[case]
    X = np.random.default_rng(0).standard_normal((1000, 16)).astype(np.float32)
    device = EmulatorDevice()
    params = {"init": X[:8], "n_init": 1, "random_state": 0, **options}
    model = KMeans(8, backend=CupyBackend(device), **params).fit(X)
    looks = 1 + sum(model.n_iter_ > done for done in (8, 16, 32))
    assert device.calls == {**calls, "waits": waits + looks}
    assert {name for name, count in device.launches.items() if count == 1} >= FIXED_LAUNCHES
    launches = device.launches
    assert launches["update_centers"] == launches["move_sums"] + 1  # of the centers given
    assert_same(model, KMeans(8, backend="numpy", **params).fit(X))


def test_several_arrays_share_an_allocation_a_copy_a_fill_and_a_wait(monkeypatch):
    cupy = stand_in()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    device = CupyDevice()
    hosts = [np.arange(5, dtype=np.int32), np.full((2, 3), 0.5), np.arange(7, dtype=np.uint8), np.zeros((0, 4))]
    arrays = device.uploads(*hosts)
    assert cupy.log == ["ours allocates", "an upload"]
    cupy.log.clear()
    for got, want in zip(device.downloads(*arrays), hosts, strict=True):
        assert np.array_equal(got, want)
        assert got.dtype == want.dtype
    assert cupy.log == [f"{STAGED_BYTES} page-locked bytes"]
    cupy.log.clear()
    device.fills(arrays[1:3], 0)
    device.writes((arrays[0], hosts[0] + 1), (arrays[2], hosts[2] + 1))  # another array lies between them
    assert cupy.log == ["a fill", "an upload", "an upload"]
    first, second, third, _ = device.downloads(*arrays)
    assert first.tolist() == [1, 2, 3, 4, 5]
    assert not second.any()
    assert third.tolist() == [1, 2, 3, 4, 5, 6, 7]
    cupy.log.clear()
    device.writes((arrays[0], hosts[0]), (arrays[1], 0), (arrays[2], 0xFF))
    assert cupy.log == ["an upload"]
    first, second, third, _ = device.downloads(*arrays)
    assert first.tolist() == [0, 1, 2, 3, 4]
    assert not second.any()
    assert third.tolist() == [255] * 7


def test_what_is_too_much_for_one_copy_is_filled_and_copied(monkeypatch):
    cupy = stand_in()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    device = CupyDevice()
    large = (STAGED_BYTES // 4, np.int32)
    arrays = device.arrays(large, (3, np.float32), (5, np.int32), (2, np.int32), large, (4, np.uint8))
    cupy.log.clear()
    hosts = np.arange(5, dtype=np.int32), np.arange(2, dtype=np.int32)
    values = (0xFF, 0xFF, *hosts, 0, 7)
    device.writes(*zip(arrays, values, strict=True))
    assert cupy.log == ["a fill", "an upload", "a fill", "a fill"]
    found = [array.tolist() for array in device.downloads(*arrays)]
    assert found[0] == [-1] * (STAGED_BYTES // 4)
    assert np.isnan(found[1]).all()
    assert found[2:4] == [host.tolist() for host in hosts]
    assert not any(found[4])
    assert found[5] == [7] * 4


def test_downloads_do_without_page_locked_memory(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", stand_in(pinned_error=CudaError(2)))
    device = CupyDevice()
    host = np.arange(5.0)
    assert np.array_equal(device.download(device.upload(host)), host)


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(uploads, "PART_BYTES", 1 << 12)
    monkeypatch.setattr(uploads, "n_threads", lambda: 2)


@pytest.mark.parametrize("n", [3 * 1024 + 1, 9 * 1024, 20_000])
def test_large_uploads_go_in_parts_through_page_locked_memory(n, small_parts, monkeypatch):
    """Copies from it are made as late as may be, so that a part that is filled again too early shows."""
    cupy = stand_in()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    host = np.random.default_rng(0).standard_normal((n, 1)).astype(np.float32)
    device = CupyDevice()
    array = device.upload(host)
    n_parts = -(-host.nbytes // (1 << 12))
    assert cupy.log == ["ours allocates", f"{3 << 12} page-locked bytes", *["an upload"] * n_parts]
    assert np.array_equal(device.download(array), host)


def test_uploads_go_at_once_where_there_is_too_little_page_locked_memory(small_parts, monkeypatch):
    host = np.arange(20_000.0)
    for status in (2, 700):
        cupy = stand_in(pinned_error=CudaError(status))
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        device = CupyDevice()
        if status == 2:
            assert np.array_equal(device.download(device.upload(host)), host)
            assert cupy.log == ["ours allocates", "an upload"]
        else:
            with pytest.raises(RuntimeError, match="CUDA's words"):
                device.upload(host)
