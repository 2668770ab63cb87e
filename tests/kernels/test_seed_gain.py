"""k-means++ on the device: kernels/seed_reach.cu and seed_gain.cu in rational arithmetic; all memory is watched."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gpukmeans.backends.cuda import tuning
from gpukmeans.certificates.seeds import SeedRadii
from tests.emulator.testing import skip_without_compiler
from tests.support.launches.common import ROW_DTYPES, filled, launch, rows_and_centers, rows_struct, struct, watched
from tests.support.launches.faults import fault_tests
from tests.support.launches.seeding import SIZES, add, awkward_rows, blocks_of, gain, trials, weights_of
from tests.support.oracles import square_distances


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


# ---- seed_reach and seed_gain ----------------------------------------------------------------------------------------


def reach_of(device, X, seeds, candidates, n_seeds=None):
    n_runs, k = seeds.shape
    reach = filled(device, (n_runs, k), np.float64, 0x7F)
    state = np.tile(np.array([n_seeds or k - 1, 0, 0, 0], np.int32), (n_runs, 1))
    args = (
        *(rows_struct(device, X), device.upload(seeds.astype(np.int32)), trials(device, candidates)),
        *(struct(device, "Progress", state=device.upload(state), n_clusters=k), reach),
    )
    launch(device, "seed_reach", tuning.row_constants(X.dtype), (-(-k // 8), n_runs), 256, *args)
    return device.download(reach)


@ROW_DTYPES
@pytest.mark.parametrize("n_seeds", [1, 9])
def test_the_reach_of_candidates(dtype, n_seeds):
    X, _ = rows_and_centers(60, 1, 37, dtype)
    local = np.random.default_rng(7)
    seeds, candidates = local.integers(0, 60, (2, n_seeds + 2)), local.integers(0, 60, (2, 5))
    got = reach_of(watched("random", 1), X, seeds, candidates, n_seeds)
    for run in range(2):
        distances, unit = square_distances(X[seeds[run, :n_seeds]], X[candidates[run]])
        for value, row in zip(got[run, :n_seeds], distances.tolist(), strict=True):
            assert abs(Fraction(float(value)) - min(row) * unit) <= min(row) * unit / 2**48
        assert (got[run, n_seeds:] > 1e300).all()  # untouched


@pytest.mark.one_in(3)
@ROW_DTYPES
@pytest.mark.parametrize(("weighted", "n_trials", "skip"), [(False, 1, False), (True, 4, True), (False, 6, True)])
@pytest.mark.parametrize(("n", "d"), SIZES)
def test_gains(n, d, weighted, n_trials, skip, dtype):
    """Each row that a candidate is nearer to has its bit, few others have, and the sums hold the true gain."""
    X, _ = rows_and_centers(n, 1, d, dtype)
    weight = weights_of(n) if weighted else None
    local = np.random.default_rng(8)
    seeds, candidates = local.integers(0, n, (2, 5)), local.integers(0, n, (2, n_trials))
    device = watched("random", 1)
    closest, owners, _ = add(device, X, seeds, weight=weight)
    padded = np.pad(seeds, ((0, 0), (0, 1)))
    reach = reach_of(device, X, padded, candidates) if skip else None
    near, sums, radius = gain(device, X, weight, closest, owners, candidates, reach=reach)
    check_gains(X, weight, seeds, candidates, near, sums, radius)


def check_gains(X, weight, seeds, candidates, near, sums, radius):
    n = len(X)
    parts = [Fraction(1)] * n if weight is None else [Fraction(w) for w in weight.tolist()]
    for run in range(len(seeds)):
        distances, unit = square_distances(X, X[np.concatenate([seeds[run], candidates[run]])])
        closest = [min(row[: seeds.shape[1]]) for row in distances.tolist()]
        for t in range(candidates.shape[1]):
            other = distances[:, seeds.shape[1] + t].tolist()
            for i in range(n):
                marked = bool(near[run, i] >> t & 1)
                assert marked or other[i] >= closest[i]
                assert not marked or other[i] <= closest[i] * Fraction(1001, 1000) + (1 if radius.margin else 0)
            for b, block in enumerate(blocks_of(n)):
                true = sum((parts[i] * max(0, closest[i] - other[i]) for i in block), Fraction(0)) * unit
                far, close = (Fraction(float(v)) for v in sums[run, :, t, b])
                error = Fraction(radius.per_far) * far + Fraction(radius.per_near) * close
                error += Fraction(radius.floor if far else radius.zero_floor)
                assert abs(far - close - true) <= error
        assert not (near[run] >> candidates.shape[1]).any()


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("name", ["far apart", "twins", "tiny", "lattice", "clusters"])
def test_gains_of_awkward_rows(name, wide):
    local = np.random.default_rng(9)
    X = awkward_rows(name, 300, local)
    seeds, candidates = local.integers(0, 300, (1, 8)), local.integers(0, 300, (1, 4))
    device = watched()
    closest, owners, _ = add(device, X, seeds)
    reach = reach_of(device, X, np.pad(seeds, ((0, 0), (0, 1))), candidates)
    for given in (None, reach):
        near, sums, radius = gain(device, X, None, closest, owners, candidates, wide=wide, reach=given)
        if name != "tiny" or wide:
            check_gains(X, None, seeds, candidates, near, sums, radius)


def test_rows_far_from_every_candidate_are_not_read():
    """Rows that are left out may be anything: here they are NaN."""
    local = np.random.default_rng(10)
    X = local.standard_normal((256, 4))
    X[128:] += 1000.0
    device = watched()
    closest, owners, _ = add(device, X, np.array([[0, 128]]))
    candidates = np.array([[130, 140, 200]])
    reach = reach_of(device, X, np.array([[0, 128, 0]]), candidates)
    want, sums, _ = gain(device, X, None, closest, owners, candidates, reach=reach)
    assert (want[0, 128:] != 0).any()
    X[:128] = np.nan
    radius = SeedRadii(256, 4, 2, np.inf, np.inf).of_gain(60.0, wide=True)
    got, again, _ = gain(device, X, None, closest, owners, candidates, reach=reach, radius=radius)
    assert np.array_equal(got, want)
    assert np.array_equal(again, sums)


def run_gain(device):
    X, _ = rows_and_centers(300, 1, 36, np.float32)
    local = np.random.default_rng(8)
    seeds, candidates = local.integers(0, 300, (1, 5)), local.integers(0, 300, (1, 10))
    closest, owners, _ = add(watched(), X, seeds)
    near, sums, radius = gain(device, X, None, closest, owners, candidates)
    check_gains(X, None, seeds, candidates, near, sums, radius)


#: A fault: the runner that fails on it, the good text, the bad text.
FAULTS = {
    "gains are summed too early": (run_gain, "__syncthreads();  // all warps are done", ""),
    "a candidate too many": (run_gain, "mine && t0 + t < n_trials && near_it", "mine && near_it"),
    "bits of the first candidates only": (run_gain, "|= bits << t0;", "|= bits;"),
}

test_planted_faults_are_caught, test_planted_faults_are_really_planted = fault_tests(FAULTS)
