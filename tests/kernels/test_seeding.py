"""The kernels of k-means++, each alone, against rational arithmetic; every memory access is watched."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pytest

from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda.device import nvrtc
from gpukmeans.certificates.rounding import SQUARE_UNDERFLOW
from gpukmeans.certificates.seeds import SKIP_FACTOR, SKIP_FLOOR, SeedRadii
from gpukmeans.exact.tie_break import largest_integer
from tests.emulator import EmulatorError
from tests.emulator.testing import skip_without_compiler
from tests.support.launches.common import ORDERS, ROW_DTYPES, filled, launch, rows_and_centers, watched
from tests.support.oracles import square_distances

SIZES = [(1, 1), (255, 3), (257, 33), (300, 36), (520, 8)]
BLOCK = tuning.SEEDING_BLOCK


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


def radii_of(X, weight=None):
    whole = largest_integer(X)
    weights = None if weight is None else (float(weight[weight > 0].min()), float(weight.max()))
    spread = 255.0 if X.dtype == np.uint8 else 2 * whole
    return SeedRadii(*X.shape, tuning.seeding_lanes(X.shape[1]), whole, spread, weights)


def kept_constants(X):
    return tuning.distance_constants(X.dtype, X.shape[1], True, wide=tuning.wide_distances(X.dtype))


def weights_of(n, seed=4):
    local = np.random.default_rng(seed)
    return local.random(n) * (local.random(n) > 0.3) + np.where(np.arange(n) == 0, 0.5, 0.0)


def optional(device, weight):
    return None if weight is None else device.upload(weight)


def blocks_of(n):
    return [range(start, min(n, start + BLOCK)) for start in range(0, n, BLOCK)]


def within(got, want, radius):
    return abs(Fraction(float(got)) - want) <= Fraction(radius.relative) * want + Fraction(
        radius.floor if got else radius.zero_floor
    )


# ---- seed_add and seed_accept ----------------------------------------------------------------------------------------


def add(device, X, seeds, *, weight=None, screened=False, parts=None):
    """closest, owners and sums of two runs, after their seeds came in parts."""
    n, d = X.shape
    n_runs, count = seeds.shape
    closest, owners = filled(device, n_runs * n, np.float64, 0x7F), filled(device, n_runs * n, np.int32, 0xFF)
    sums = device.empty((n_runs, len(blocks_of(n))), np.float64)
    gain = radii_of(X, weight).of_gain(60.0, wide=False)
    for first, many in parts or [(0, count)]:
        launch(
            device,
            "seed_add",
            kept_constants(X),
            (len(blocks_of(n)), n_runs),
            256,
            *(device.upload(X), optional(device, weight), device.upload(seeds.astype(np.int32)), np.int32(count)),
            *(np.int32(first), np.int32(many), np.int64(n), np.int32(d)),
            *(np.int32(screened), np.float64(gain.shrink), np.float64(gain.margin), closest, owners, sums),
        )
    return (
        device.download(closest).reshape(n_runs, n),
        device.download(owners).reshape(n_runs, n),
        device.download(sums),
    )


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


def awkward_rows(name, n, local):
    """float32 rows whose distances tell how careful a bound is."""
    X = local.standard_normal((n, 5))
    if name == "far apart":
        X = X * 10.0 ** local.uniform(-8, 8, (n, 1))
    elif name == "twins":
        X = np.repeat(1e4 + X[: n // 10], 10, axis=0).astype(np.float32)
        X[::2] = np.nextafter(X[::2], np.float32(np.inf))
    elif name == "tiny":
        X = X * 1e-19
    elif name == "lattice":
        X = local.integers(-3, 4, (n, 5)) / 3.0
    elif name == "clusters":
        X = 100 * local.integers(0, 3, (n, 1)) + X
    return X.astype(np.float32)


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

    def accept(state):
        args = (
            *(device.upload(X), optional(device, weight), device.upload(seeds.astype(np.int32)), device.upload(state)),
            *(
                np.int32(4),
                device.upload(near.reshape(-1)),
                device.upload(gains),
                np.int32(4),
                np.int64(n),
                np.int32(d),
            ),
        )
        launch(device, "seed_accept", kept_constants(X), (len(blocks_of(n)), 2), 256, *args, *arrays)
        return [device.download(a) for a in arrays]

    for idle in ([4, 0, 1, 0], [3, 1, 1, 0], [3, 2, 1, 0]):  # no seed is wanted any more, or the host is asked
        unchanged = accept(np.array([idle, idle], np.int32))
        assert np.array_equal(unchanged[0], closest.reshape(-1))
        assert np.array_equal(unchanged[2], sums)
    new = accept(state)
    for run in range(2):
        rows = slice(run * n, (run + 1) * n)
        check_potentials(X, weight, seeds[run, :3], new[0][rows], new[1][rows], new[2][run])


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
        *(device.upload(sums), device.upload(closest.reshape(-1)), optional(device, weight)),
        *(device.upload(draws), np.int32(n_steps), np.int32(n_given), device.upload(state)),
        *(np.int32(n_given + n_steps), np.int64(n), np.int32(sums.shape[1])),
        *map(np.float64, radius),
        *(np.int32(exact), candidates),
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


# ---- seed_reach and seed_gain ----------------------------------------------------------------------------------------


def reach_of(device, X, seeds, candidates, n_seeds=None):
    n_runs, k = seeds.shape
    reach = filled(device, (n_runs, k), np.float64, 0x7F)
    state = np.tile(np.array([n_seeds or k - 1, 0, 0, 0], np.int32), (n_runs, 1))
    args = (
        *(device.upload(X), device.upload(seeds.astype(np.int32)), device.upload(candidates.astype(np.int32))),
        *(
            np.int32(candidates.shape[1]),
            device.upload(state),
            np.int32(k),
            np.int64(len(X)),
            np.int32(X.shape[1]),
            reach,
        ),
    )
    launch(device, "seed_reach", tuning.row_constants(X.dtype), (-(-k // 8), n_runs), 256, *args)
    return device.download(reach)


def gain(device, X, weight, closest, owners, candidates, *, wide=None, reach=None, radius=None):
    """near bits, sums and the radius."""
    n, d = X.shape
    n_runs, n_trials = candidates.shape
    wide = X.dtype == np.float64 if wide is None else wide
    near = device.empty(n_runs * n, np.uint16)
    sums = device.empty((n_runs, 2, n_trials, len(blocks_of(n))), np.float64)
    radius = radius or radii_of(X, weight).of_gain(60.0, wide=wide)
    launch(
        device,
        "seed_gain",
        tuning.gain_constants(X.dtype, d, True, n_trials, wide=wide),
        (len(blocks_of(n)), n_runs),
        256,
        *(device.upload(X), device.upload(closest.reshape(-1)), device.upload(owners.reshape(-1))),
        *(optional(device, weight), None if reach is None else device.upload(reach)),
        *(device.upload(candidates.astype(np.int32)), np.int32(n_trials), None),
        *(np.int32(0 if reach is None else reach.shape[1]), np.int64(n), np.int32(d)),
        *(np.float64(radius.shrink), np.float64(radius.margin), np.float64(SKIP_FACTOR), np.float64(SKIP_FLOOR)),
        *(near, sums),
    )
    return device.download(near).reshape(n_runs, n), device.download(sums), radius


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


# ---- seed_choose -----------------------------------------------------------------------------------------------------


def choose(device, sums, candidates, *, X=None, radius=(1e-9, 1e-9, 0.0, 0.0), seeds=2, k=4, opened=0):
    """The state and the seeds of one run after the choice, by sums (2, n_trials, n_blocks)."""
    n_trials, n_blocks = sums.shape[1:]
    X = np.arange(60.0).reshape(20, 3) if X is None else X
    state = device.upload(np.array([[seeds, opened, 9, 0]], np.int32))
    table = device.upload(np.full((1, k), 77, np.int32))
    launch(
        device,
        "seed_choose",
        tuning.row_constants(X.dtype),
        1,
        1024,
        *(device.upload(X), device.upload(np.array([candidates], np.int32)), np.int32(n_trials)),
        *(device.upload(sums[None]), np.int32(n_blocks), np.int64(len(X)), np.int32(X.shape[1])),
        *map(np.float64, radius),
        *(np.int32(k), table, state),
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


def run_gain(device):
    X, _ = rows_and_centers(300, 1, 36, np.float32)
    local = np.random.default_rng(8)
    seeds, candidates = local.integers(0, 300, (1, 5)), local.integers(0, 300, (1, 10))
    closest, owners, _ = add(watched(), X, seeds)
    near, sums, radius = gain(device, X, None, closest, owners, candidates)
    check_gains(X, None, seeds, candidates, near, sums, radius)


def run_choose(device):
    assert choose(device, gains_of([10.0, 50.0, 20.0]), [3, 1, 4])[0] == [3, 0, 1, 0]
    assert choose(device, gains_of([10.0, 50.0, 50.0]), [3, 1, 4])[0][1] == 2


FAULTS = {
    "add reads what other lanes have not written": (run_add, "__syncwarp();  // what other lanes found", ""),
    "add forgets the ends of lists": (run_add, "min(r + group, n_wanted - 1)", "(r + group)"),
    "add takes the last seed for the nearest": (run_add, "if (distance[0] < smallest) {", "if (true) {"),
    "a first look misses near seeds": (run_add, "s0 + s < count && near)", "s0 + s + 1 < count && near)"),
    "squares vanish": (run_tiny, "distance[t] = fmax(distance[t], LEAST);", ";"),
    "block sums are read too early": (run_add, "  __syncthreads();\n  double total = 0.0;", "  double total = 0.0;"),
    "a scan forgets the warps before": (run_locate, "if (w == warp) before = all;", ""),
    "the block is used before it is found": (run_locate, "__syncthreads();  // the block is found", ""),
    "edges are taken for certain": (run_edges, "sum - error_of(sum) >= value + error", "sum >= value"),
    "gains are summed too early": (run_gain, "__syncthreads();  // all warps are done", ""),
    "a candidate too many": (run_gain, "mine && t0 + t < n_trials && near_it", "mine && near_it"),
    "bits of the first candidates only": (run_gain, "|= bits << t0;", "|= bits;"),
    "the choice is read too early": (run_choose, "__syncthreads();  // the contenders are known", ""),
    "the choice ignores the errors": (
        run_choose,
        "taken && gain + radius >= best",
        "taken && gain >= best + 2 * radius",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults_are_caught(name):
    run, good, bad = FAULTS[name]
    texts = [nvrtc.source(file, {}) for file in {file for file, _ in nvrtc.variants()}]
    assert any(good in text for text in texts), "the fault is not planted"
    run(watched())
    caught = 0
    for order, seed in ORDERS:
        try:
            run(watched(order, seed, [(good, bad)]))
        except (EmulatorError, AssertionError):
            caught += 1
    assert caught
