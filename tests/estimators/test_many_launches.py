"""`fit_many` on a device: launches and memory, and faults in the strides of problems."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from gpukmeans import fit_many
from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda.backend import CupyBackend
from tests.emulator import EmulatorDevice, EmulatorError
from tests.emulator.testing import skip_without_compiler
from tests.support.launches.common import DTYPES, watched
from tests.support.launches.faults import assert_planted, some_weekly
from tests.support.many_problems import assert_same, differs, one_by_one, problems, weights_of


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


@pytest.mark.parametrize("params", [{}, {"n_init": 3}, {"init": "random", "n_init": 2}], ids=str)
def test_launches_do_not_grow_with_the_number_of_problems(params):
    """The same problem again and again: no other takes longer."""
    X = problems(np.float32, 1)
    counts = []
    for n_problems in (2, 5):
        device = EmulatorDevice()
        fit_many(np.repeat(X, n_problems, axis=0), 5, backend=CupyBackend(device), random_state=0, **params)
        counts.append(device.n_launches)
    assert counts[0] == counts[1]


def test_neither_do_looks_at_the_device(monkeypatch):
    X = problems(np.float32, 1)
    counts = []
    for n_problems in (2, 9):
        device = EmulatorDevice()
        download, upload = device.download, device.upload
        moved = []
        monkeypatch.setattr(device, "download", lambda array, go=download, to=moved: to.append(0) or go(array))
        monkeypatch.setattr(device, "upload", lambda array, go=upload, to=moved: to.append(1) or go(array))
        fit_many(np.repeat(X, n_problems, axis=0), 5, backend=CupyBackend(device), random_state=0)
        counts.append(len(moved))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("dtype", DTYPES)
def test_as_many_at_a_time_as_memory_holds(dtype, monkeypatch):
    X = problems(dtype, 5, 140)
    want = one_by_one(X, 4, random_state=0, n_init=2)
    device = EmulatorDevice()
    share = 2**30 // tuning.problems_at_a_time((140, 5), np.dtype(dtype), 4, 2, 2**30, weighted=False)
    monkeypatch.setattr(tuning, "BATCH_BYTES", 2 * share + share // 2)
    most = CupyBackend(device).problems_at_a_time((140, 5), np.dtype(dtype), 4, 2, weighted=False)
    assert most == 2
    assert_same(fit_many(X, 4, backend=CupyBackend(device), random_state=0, n_init=2), want)


@pytest.mark.one_in(3)
@pytest.mark.parametrize(("dtype", "weighted"), [(np.uint8, False), (np.float32, True), (np.float64, False)])
@pytest.mark.parametrize(
    ("n", "d", "k", "n_init"), [(500, 16, 8, 1), (300, 3, 60, 1), (300, 70, 20, 3), (20, 784, 1, 3)]
)
def test_memory_is_what_was_reckoned_with(dtype, weighted, n, d, k, n_init):
    """`tuning.problems_at_a_time` leaves out small change."""
    X = problems(dtype, 3, n, d)
    weights = weights_of(3, n) if weighted else None
    device = EmulatorDevice()
    backend = CupyBackend(device)
    room = 1 << 30
    share = room / tuning.problems_at_a_time((n, d), X.dtype, k, n_init, room, weighted=weighted)
    fit_many(X, k, backend=backend, sample_weight=weights, random_state=0, n_init=n_init, max_iter=1)
    assert device.peak_bytes <= 3 * share + 4096
    assert device.peak_bytes >= 1.5 * share
    assert device.bytes_in_use == 0


def test_which_problems_go_together():
    def together(n, k, n_runs=1, room=1 << 30):
        return tuning.problems_at_a_time((n, 16), np.dtype(np.float32), k, n_runs, room, weighted=False)

    assert together(500, 8) > 1000
    assert together(65536, 64) > 1
    assert together(200_000, 8) <= 1  # one fills the device
    assert together(500, 65) == 0  # the few-center kernel does not reach
    assert together(500, 8, 100_000) == 0  # a grid has no room for so many runs
    assert together(10, 2, room=1 << 60) <= min(2**31 // 10, 65535)


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    ("good", "bad"),
    some_weekly(
        [
            ("operands.offsets + (long long)problem * n_steps * (4 * QUAD);", "operands.offsets;"),
            ("list_open_rows(place < n, problem * n + int(place),", "list_open_rows(place < n, int(place),"),
            ("grid.scale + (long long)problem * d;", "grid.scale;"),
            ("means.unit + (long long)problem_index() * d;", "means.unit;"),
            ("weights[first + i] : 1.0", "weights[i] : 1.0"),
            ("int(blockIdx.z * gridDim.y + blockIdx.y)", "int(blockIdx.z + gridDim.z * blockIdx.y)"),
            ("rows.X + problem * n * d;\n  if (weights) weights += problem * n;\n  C += run", "rows.X;\n  C += run"),
            ("moves.labels + (long long)(run - problem) * n,", "moves.labels + (long long)run * n,"),
            ("record.tolerance[run]", "record.tolerance[0]"),
        ]
    ),
)
def test_a_wrong_stride_is_seen(good, bad):
    assert_planted({"a wrong stride": (None, good, bad)})
    X, weights = problems(np.uint8, 3, 140, 5, seed=2).astype(np.float32), weights_of(3, 140)
    X = X * 1.5 ** np.arange(3, dtype=np.float32)[:, None, None] + X[::-1] / 7
    device = watched(faults=[(good, bad)])
    params = {"random_state": 0, "n_init": 2, "tol": 0.03}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            got = fit_many(X, 6, sample_weight=weights, backend=CupyBackend(device), **params)
        except EmulatorError:  # it reads or writes what is not its own
            return
    assert differs(got, one_by_one(X, 6, [*weights], **params))
