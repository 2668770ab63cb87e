"""k-means++ on the device: kernels/seed_locate.cu in rational arithmetic; all memory is watched."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gpukmeans.certificates.seeds import SeedRadii
from tests.emulator.testing import skip_without_compiler
from tests.support.launches.common import filled, launch, struct, watched
from tests.support.launches.faults import fault_tests
from tests.support.launches.seeding import blocks_of, optional, weights_of


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


# ---- seed_locate -----------------------------------------------------------------------------------------------------


def locate(device, closest, draws, *, weight=None, exact=False, radius=(0.0, 0.0, 0.0), state=None, n_given=1):
    n_runs, n = closest.shape
    n_steps, n_trials = draws.shape[1:]
    products = closest if weight is None else closest * weight
    sums = np.stack([products[:, b.start : b.stop].sum(axis=1) for b in blocks_of(n)], axis=1)
    state = np.tile(np.array([n_given, 0, 0, 0], np.int32), (n_runs, 1)) if state is None else state
    candidates = filled(device, (n_runs, n_trials), np.int32, 0x11)
    launch(
        device,
        "seed_locate",
        {},
        (n_trials, n_runs),
        256,
        struct(device, "BlockSums", sums=device.upload(sums), n_blocks=sums.shape[1]),
        *(device.upload(closest.reshape(-1)), optional(device, weight), np.int64(n)),
        struct(device, "Draws", draws=device.upload(draws), n_steps=n_steps, n_given=n_given),
        struct(device, "Progress", state=device.upload(state), n_clusters=n_given + n_steps),
        struct(device, "SumRadius", relative=radius[0], floor=radius[1], zero_floor=radius[2], exact=int(exact)),
        candidates,
    )
    return device.download(candidates)


def first_reaching(terms, u):
    """The row at which the running sum reaches u times the total, in Fractions."""
    total, running = sum(terms), Fraction(0)
    for i, term in enumerate(terms):
        running += term
        if running >= u * total:
            return i
    raise AssertionError


@pytest.mark.one_in(2)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n", [1, 255, 256, 257, 1000, 66_000])
def test_a_draw_hits_the_row_of_real_arithmetic(n, weighted):
    local = np.random.default_rng(n)
    closest = local.random((2, n)) ** 8
    weight = weights_of(n) if weighted else None
    terms = closest if weight is None else closest * weight
    draws = local.random((2, 2, 5))
    draws[:, :, 0] = 0.0
    if n > 60_000:
        draws = draws[:, :, :2]
    radius = SeedRadii(n, 3, 2, np.inf, np.inf).of_sum(100.0, n)
    state = np.array([[2, 0, 0, 0], [3, 0, 0, 0]], np.int32)  # one step apart
    state[:, 0] -= 1
    got = locate(
        watched("random", 1) if n < 2000 else watched(),
        *(closest, draws),
        weight=weight,
        radius=(radius.relative, radius.floor, 0.0),
        state=state,
    )
    for run in range(2):
        fractions = [Fraction(v) for v in terms[run].tolist()]
        want = [first_reaching(fractions, Fraction(u)) for u in draws[run, run].tolist()]
        assert got[run].tolist() == want


def test_where_the_errors_reach_an_edge_the_host_decides():
    closest = np.ones((1, 600))
    edges = np.array([[[256 / 600, np.nextafter(256 / 600, 1), 0.5, 0.001, 300.5 / 600]]])
    loose = locate(watched(), closest, edges, radius=(1e-12, 0.0, 0.0))[0]
    assert loose.tolist() == [-1, -1, -1, 0, 300]
    exact = locate(watched(), closest, edges, exact=True)[0]
    assert exact.tolist() == [first_reaching([Fraction(1)] * 600, Fraction(u)) for u in edges[0, 0].tolist()]
    assert locate(watched(), closest, edges, radius=(1e-12, 1.0, 0.0))[0].tolist() == 3 * [-1] + [-1, -1]


def test_exact_sums_are_compared_exactly():
    """Targets right at, just below and just above whole numbers that float64 products cannot tell from them."""
    local = np.random.default_rng(6)
    closest = local.integers(0, 2**20, (1, 700)).astype(np.float64)
    total = int(closest.sum())
    running = np.cumsum(closest[0])
    picks = running[local.integers(0, 700, 8)] / total
    draws = np.concatenate([picks, np.nextafter(picks, 0), np.nextafter(picks, 1)])
    draws = np.array([d for d in draws if d < 1.0])[None, None]
    got = locate(watched(), closest, np.ascontiguousarray(draws[:, :, :16]), exact=True)[0]
    terms = [Fraction(v) for v in closest[0].tolist()]
    assert got.tolist() == [first_reaching(terms, Fraction(u)) for u in draws[0, 0, :16].tolist()]


def test_a_potential_of_zero_hits_the_first_row():
    closest = np.zeros((1, 300))
    draws = np.array([[[0.0, 0.3, 0.99]]])
    assert locate(watched(), closest, draws, radius=(1e-12, 1e-300, 0.0))[0].tolist() == [0, 0, 0]
    # where weights are so small that products vanish, a zero is none
    assert locate(watched(), closest, draws, radius=(1e-12, 1e-300, 1e-300))[0].tolist() == [-1, -1, -1]


def test_sums_that_overflow_hit_no_row():
    closest = np.full((1, 600), 1e307)
    with np.errstate(over="ignore"):
        assert locate(watched(), closest, np.array([[[0.5]]]), radius=(1e-12, 0.0, 0.0))[0].tolist() == [-1]


@pytest.mark.parametrize("state", [[1, 1, 0, 0], [1, 2, 0, 0], [3, 0, 0, 0]])
def test_a_run_that_waits_or_is_done_is_left_alone(state):
    draws = np.full((1, 2, 2), 0.5)
    got = locate(watched(), np.ones((1, 300)), draws, state=np.array([state], np.int32))
    assert (got == 0x11111111).all()


def run_locate(device):
    local = np.random.default_rng(0)
    closest = local.random((1, 1000))
    draws = local.random((1, 1, 8))
    want = [first_reaching([Fraction(v) for v in closest[0].tolist()], Fraction(u)) for u in draws[0, 0].tolist()]
    assert locate(device, closest, draws, radius=(1e-12, 0.0, 0.0))[0].tolist() == want


def run_edges(device):
    closest = np.ones((1, 600))
    edges = np.array([[[256 / 600, 0.5, 300.5 / 600]]])
    assert locate(device, closest, edges, radius=(1e-12, 0.0, 0.0))[0].tolist() == [-1, -1, 300]


#: A fault: the runner that fails on it, the good text, the bad text.
FAULTS = {
    "a scan forgets the warps before": (run_locate, "if (w == warp) before = all;", ""),
    "the block is used before it is found": (run_locate, "__syncthreads();  // the block is found", ""),
    "edges are taken for certain": (run_edges, "sum - error_of(sum) >= value + error", "sum >= value"),
}

test_planted_faults_are_caught, test_planted_faults_are_really_planted = fault_tests(FAULTS)
