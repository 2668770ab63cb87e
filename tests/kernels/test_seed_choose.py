"""k-means++ on the device: kernels/seed_choose.cu in rational arithmetic; all memory is watched."""

from __future__ import annotations

import re

import numpy as np
import pytest

from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda.device import nvrtc
from tests.emulator.testing import skip_without_compiler
from tests.support.launches.common import launch, rows_struct, struct, watched
from tests.support.launches.faults import fault_tests
from tests.support.launches.seeding import trials


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


# ---- seed_choose -----------------------------------------------------------------------------------------------------


def choose(device, sums, candidates, *, X=None, radius=(1e-9, 1e-9, 0.0, 0.0), seeds=2, k=4, opened=0):
    """The state and the seeds of one run after the choice, by sums (2, n_trials, n_blocks)."""
    X = np.arange(60.0).reshape(20, 3) if X is None else X
    state = device.upload(np.array([[seeds, opened, 9, 0]], np.int32))
    table = device.upload(np.full((1, k), 77, np.int32))
    launch(
        device,
        "seed_choose",
        tuning.row_constants(X.dtype),
        1,
        1024,
        *(rows_struct(device, X), trials(device, np.array([candidates]))),
        struct(device, "BlockSums", sums=device.upload(sums[None]), n_blocks=sums.shape[2]),
        struct(device, "GainRadius", **dict(zip(("per_far", "per_near", "floor", "zero_floor"), radius, strict=True))),
        *(struct(device, "Progress", state=state, n_clusters=k), table),
    )
    return device.download(state)[0].tolist(), device.download(table)[0].tolist()


def gains_of(totals, n_blocks=70):
    """Sums over blocks that add up to these: far is 100, near what is left of it."""
    local = np.random.default_rng(11)
    share = local.integers(0, 100, (2, len(totals), n_blocks)).astype(float)
    share[:, :, 0] = 0
    share[0, :, 0] = 1e5 - share[0].sum(axis=1)
    share[1, :, 0] = 1e5 - np.array(totals) - share[1].sum(axis=1)
    return share


def test_the_largest_gain_wins():
    device = watched("random", 1)
    for winner in range(6):
        totals = [100.0 + (t == winner) for t in range(6)]
        state, seeds = choose(device, gains_of(totals), [3, 1, 4, 15, 9, 2])
        assert state == [3, 0, winner, 0]
        assert seeds == [77, 77, [3, 1, 4, 15, 9, 2][winner], 77]


def test_gains_too_close_to_call_are_left_to_the_host():
    state, seeds = choose(watched(), gains_of([10.0, 50.0, 50.0]), [3, 1, 4])
    assert state == [2, 2, 9, 0]
    assert seeds == [77] * 4
    state, _ = choose(watched(), gains_of([10.0, 50.0, 50.0]), [3, 1, 4], radius=(0.0, 0.0, 0.0, 0.0))
    assert state == [3, 0, 1, 0]  # exact: the first of equal ones
    X = np.arange(60.0).reshape(20, 3)
    X[4] = X[1]
    assert choose(watched(), gains_of([10.0, 50.0, 50.0]), [3, 1, 4], X=X)[0] == [3, 0, 1, 0]
    assert choose(watched(), gains_of([10.0, 50.0, 50.0]), [3, 1, 1])[0] == [3, 0, 1, 0]
    assert choose(watched(), gains_of([50.0, 50.0, 50.0]), [3, 1, 4], X=X)[0][1] == 2
    X[4, 2] = np.nextafter(X[4, 2], 99)
    assert choose(watched(), gains_of([10.0, 50.0, 50.0]), [3, 1, 4], X=X)[0][1] == 2


def test_no_gain_at_all_has_no_error():
    none = np.zeros((2, 3, 5))
    assert choose(watched(), none, [3, 1, 4], radius=(1e-9, 1e-9, 1e-3, 0.0))[0] == [3, 0, 0, 0]
    assert choose(watched(), none, [3, 1, 4], radius=(1e-9, 1e-9, 1e-3, 1e-3))[0][1] == 2


def test_a_draw_that_found_no_row_stops_the_run():
    assert choose(watched(), gains_of([10.0, 50.0, 20.0]), [3, -1, 4])[0] == [2, 1, 9, 0]


def test_sums_beyond_float64_are_left_to_the_host():
    sums = gains_of([10.0, 50.0])
    sums[0, 0, 3] = np.inf
    assert choose(watched(), sums, [3, 1])[0][1] == 2


def test_a_run_that_is_done_chooses_nothing():
    assert choose(watched(), gains_of([10.0, 50.0]), [3, 1], seeds=4)[0] == [4, 0, 9, 0]
    assert choose(watched(), gains_of([10.0, 50.0]), [3, 1], opened=1)[0] == [2, 1, 9, 0]


# ---- what the sources and Python must agree on -----------------------------------------------------------------------


def test_constants_are_the_same_on_both_sides():
    common = nvrtc.source("seed_gain", {})
    assert int(re.search(r"#define THREADS (\d+)", common)[1]) == tuning.SEEDING_BLOCK
    for file in ("seed_gain", "seed_choose"):
        assert int(re.search(r"#define MOST_TRIALS (\d+)", nvrtc.source(file, {}))[1]) == tuning.MOST_TRIALS
    assert re.search(r"#define SPAN \((\d+) \* LANES\)", common)[1] == "256"


def run_choose(device):
    assert choose(device, gains_of([10.0, 50.0, 20.0]), [3, 1, 4])[0] == [3, 0, 1, 0]
    assert choose(device, gains_of([10.0, 50.0, 50.0]), [3, 1, 4])[0][1] == 2


#: A fault: the runner that fails on it, the good text, the bad text.
FAULTS = {
    "the choice is read too early": (run_choose, "__syncthreads();  // the contenders are known", ""),
    "the choice ignores the errors": (
        run_choose,
        "taken && gain + radius >= best",
        "taken && gain >= best + 2 * radius",
    ),
}

test_planted_faults_are_caught, test_planted_faults_are_really_planted = fault_tests(FAULTS)
