"""k-means++ on the device: kernels/seed_add.cu and seed_accept.cu in rational arithmetic; all memory is watched."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gpukmeans.certificates.rounding import SQUARE_UNDERFLOW
from tests.emulator.testing import skip_without_compiler
from tests.support.launches.common import ROW_DTYPES, launch, rows_and_centers, rows_struct, struct, watched
from tests.support.launches.faults import fault_tests
from tests.support.launches.seeding import (
    BLOCK,
    SIZES,
    add,
    awkward_rows,
    blocks_of,
    gain,
    kept_constants,
    optional,
    radii_of,
    so_far,
    weights_of,
    within,
)
from tests.support.oracles import square_distances


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


def check_potentials(X, weight, seeds, closest, owners, sums):
    n = len(X)
    distances, unit = square_distances(X, X[seeds])
    radii = radii_of(X, weight)
    parts = [Fraction(1)] * n if weight is None else [Fraction(w) for w in weight.tolist()]
    true = [min(row) * unit for row in distances.tolist()]
    for i in range(n):
        got = Fraction(float(closest[i]))
        relative, underflow = Fraction(radii.of_distance()), Fraction(SQUARE_UNDERFLOW) if got else 0
        assert abs(got - true[i]) <= relative * true[i] + underflow
        assert (got == 0) == (true[i] == 0)
        own = distances[i, owners[i]] * unit  # the seed that the number belongs to
        assert abs(got - own) <= relative * own + underflow
    radius = radii.of_sum(14.0, BLOCK)
    for b, block in enumerate(blocks_of(n)):
        assert within(sums[b], sum((parts[i] * true[i] for i in block), Fraction(0)), radius)


@pytest.mark.one_in(6)
@ROW_DTYPES
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("n", "d"), SIZES)
def test_seeds_are_added(n, d, weighted, dtype):
    X, _ = rows_and_centers(n, 1, d, dtype)
    weight = weights_of(n) if weighted else None
    seeds = np.random.default_rng(1).integers(0, n, (2, 7))
    device = watched("random", 1)
    closest, owners, sums = add(device, X, seeds, weight=weight, screened=dtype == np.float32, parts=[(0, 1), (1, 6)])
    for run in range(2):
        check_potentials(X, weight, seeds[run], closest[run], owners[run], sums[run])


@pytest.mark.parametrize("screened", [False, True])
@pytest.mark.parametrize("name", ["far apart", "twins", "tiny", "lattice"])
def test_a_first_look_in_float32_misses_no_seed(name, screened):
    local = np.random.default_rng(2)
    X = awkward_rows(name, 200, local)
    seeds = local.integers(0, 200, (1, 11))
    closest, owners, sums = add(watched(), X, seeds, screened=screened)
    check_potentials(X, None, seeds[0], closest[0], owners[0], sums[0])


def test_rows_that_differ_are_never_at_distance_zero():
    X = np.zeros((40, 3))
    X[1::2] = 1e-200  # squares underflow
    closest, _, _ = add(watched(), X, np.array([[0]]))
    assert (closest[0][::2] == 0).all()
    assert (closest[0][1::2] == 2.0**-1000).all()


@pytest.mark.one_in(6)
@ROW_DTYPES
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("n", "d"), SIZES[1:])
def test_the_winner_becomes_a_seed(n, d, weighted, dtype):
    X, _ = rows_and_centers(n, 1, d, dtype)
    weight = weights_of(n) if weighted else None
    local = np.random.default_rng(5)
    seeds = np.stack([local.permutation(n)[:3] for _ in range(2)])
    candidates = np.stack([local.permutation(n)[:4] for _ in range(2)])
    candidates[1, 2] = seeds[1, 2]
    candidates[0, 1] = seeds[0, 2]
    device = watched("random", 2)
    closest, owners, sums = add(device, X, seeds[:, :2], weight=weight)
    seeds = np.pad(seeds, ((0, 0), (0, 1)))
    state = np.array([[3, 0, 1, 0], [3, 0, 2, 0]], np.int32)
    near, gains, _ = gain(device, X, weight, closest, owners, candidates)
    arrays = [device.upload(a) for a in (closest.reshape(-1), owners.reshape(-1), sums)]
    gains = struct(device, "Gains", near=device.upload(near.reshape(-1)), sums=device.upload(gains))

    def accept(state):
        args = (
            *(rows_struct(device, X), optional(device, weight), device.upload(seeds.astype(np.int32))),
            struct(device, "Progress", state=device.upload(state), n_clusters=4),
            *(gains, np.int32(4), so_far(device, *arrays[:2]), arrays[2]),
        )
        launch(device, "seed_accept", kept_constants(X), (len(blocks_of(n)), 2), 256, *args)
        return [device.download(a) for a in arrays]

    for idle in ([4, 0, 1, 0], [3, 1, 1, 0], [3, 2, 1, 0]):  # no seed is wanted any more, or the host is asked
        unchanged = accept(np.array([idle, idle], np.int32))
        assert np.array_equal(unchanged[0], closest.reshape(-1))
        assert np.array_equal(unchanged[2], sums)
    new = accept(state)
    for run in range(2):
        rows = slice(run * n, (run + 1) * n)
        check_potentials(X, weight, seeds[run, :3], new[0][rows], new[1][rows], new[2][run])


# ---- the tests can fail ----------------------------------------------------------------------------------------------


def run_add(device):
    X, _ = rows_and_centers(301, 1, 36, np.float32)
    seeds = np.random.default_rng(1).integers(0, 301, (1, 6))
    closest, owners, sums = add(device, X, seeds, screened=True)
    check_potentials(X, None, seeds[0], closest[0], owners[0], sums[0])


def run_tiny(device):
    X = np.zeros((40, 3))
    X[1::2] = 1e-200
    assert (add(device, X, np.array([[0]]))[0][0][1::2] > 0).all()


#: A fault: the runner that fails on it, the good text, the bad text.
FAULTS = {
    "add reads what other lanes have not written": (run_add, "__syncwarp();  // what other lanes found", ""),
    "add forgets the ends of lists": (run_add, "min(r + group, n_wanted - 1)", "(r + group)"),
    "add takes the last seed for the nearest": (run_add, "if (distance[0] < smallest) {", "if (true) {"),
    "a first look misses near seeds": (run_add, "s0 + s < count && near)", "s0 + s + 1 < count && near)"),
    "block sums are read too early": (run_add, "  __syncthreads();\n  double total = 0.0;", "  double total = 0.0;"),
    "squares vanish": (run_tiny, "distance[t] = fmax(distance[t], LEAST);", ";"),
}

test_planted_faults_are_caught, test_planted_faults_are_really_planted = fault_tests(FAULTS)
