"""k-means++ driven by the device: the rows that NumPy draws, by launches alone; the host only where it is needed."""

from __future__ import annotations

import numpy as np
import pytest

from gpukmeans.arrays.on_device import bfloat16_values, on_device
from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda.backend import CupyBackend
from gpukmeans.backends.cuda.seeding import plusplus as cupy_plusplus
from gpukmeans.engine.seeding import plusplus
from gpukmeans.engine.seeding.draws import probabilities
from gpukmeans.engine.seeding.parallel import kmeans_parallel
from gpukmeans.engine.seeding.plusplus import kmeans_plusplus, many_kmeans_plusplus
from tests.emulator import EmulatorDevice
from tests.emulator.testing import skip_without_compiler
from tests.support.bfloat16_array import BFloat16Array
from tests.support.launches.common import ROW_DTYPES, watched

F64 = np.dtype(np.float64)


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


def rows_of(n, d, dtype, seed=0):
    return (255 * np.random.default_rng(seed).random((n, d))).astype(dtype)


def weights_of(n):
    local = np.random.default_rng(1)
    return local.random(n) * (local.random(n) > 0.3)


def draw_many(rows, k, n_runs, weight=None, seed=3, n_local_trials=None):
    p = probabilities(rows.n_samples, weight, F64)
    return many_kmeans_plusplus(rows, k, n_runs, np.random.RandomState(seed), p, weight, n_local_trials)


def reference(X, k, n_runs, weight=None, seed=3, n_local_trials=None):
    return draw_many(NumpyBackend(lockstep=False).load(X, weight), k, n_runs, weight, seed, n_local_trials)


def alone(rows, k, n_runs=2, seed=3):
    """What the device draws without the engine's help."""
    state = np.random.RandomState(seed)
    first = state.randint(rows.n_samples, size=(n_runs, 1))
    return rows.plusplus(first, state.uniform(size=(n_runs, k - 1, 2 + int(np.log(k)))))


@pytest.fixture
def no_help(monkeypatch):
    monkeypatch.setattr(plusplus, "complete_run", lambda *_: pytest.fail("the host was asked"))


SHAPES = [(1, 1, 1), (50, 3, 5), (300, 37, 7), (700, 5, 40), (520, 36, 33), (90, 700, 4)]


@pytest.mark.one_in(6)
@ROW_DTYPES
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("n", "d", "k"), SHAPES)
def test_the_device_draws_what_numpy_draws_and_asks_nobody(monkeypatch, n, d, k, weighted, dtype):
    X = rows_of(n, d, dtype)
    weight = weights_of(n) if weighted and n > 1 else None
    want = reference(X, k, 2, weight)
    monkeypatch.setattr(plusplus, "complete_run", lambda *_: pytest.fail("the host was asked"))
    got = draw_many(CupyBackend(EmulatorDevice()).load(X, weight), k, 2, weight)
    assert np.array_equal(got, want)
    assert weight is None or weight[got].all()


SETTLED = plusplus.complete_run


@pytest.mark.one_in(4)
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("d", [3, 36])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_drawn_as_the_numbers_they_are(dtype, d, whole):
    device = EmulatorDevice()
    X = rows_of(300, d, np.float32)
    X = np.rint(X) if whole else X
    if dtype == "float16":
        halves = X.astype(np.float16)
        there, X = device.upload(halves), halves.astype(np.float64)
    else:
        bits = (X.view(np.uint32) >> 16).astype(np.uint16)
        there, X = BFloat16Array(device.upload(bits)), bfloat16_values(bits).astype(np.float64)
    got = draw_many(CupyBackend(device).load(on_device(there)), 34, 2)
    assert np.array_equal(got, reference(X, 34, 2))


def test_rows_that_begin_anywhere_are_read_one_element_at_a_time():
    """A caller's array may begin at any element: then no four are read at once (which check mode would report)."""
    X = rows_of(101, 36, np.float32)
    device = watched()
    whole = device.upload(X.reshape(-1, 1))
    there = whole[3:3603].reshape(100, 36)
    got = draw_many(CupyBackend(device).load(on_device(there)), 5, 1)
    assert np.array_equal(got, reference(X.reshape(-1)[3:3603].reshape(100, 36), 5, 1))


@pytest.mark.one_in(6)
@ROW_DTYPES
@pytest.mark.parametrize(("order", "seed"), [("random", 1), pytest.param("reverse", 0, marks=pytest.mark.weekly)])
def test_no_order_of_threads_changes_a_draw(dtype, order, seed):
    X = rows_of(300, 9, dtype)
    got = draw_many(CupyBackend(watched(order, seed)).load(X), 34, 2)
    assert np.array_equal(got, reference(X, 34, 2))


@ROW_DTYPES
def test_as_many_seeds_as_rows(dtype):
    """Two trials that are each other's only neighbour are an exact tie: whole numbers settle it on the device."""
    X = rows_of(40, 4, dtype)
    rows = CupyBackend(EmulatorDevice()).load(X)
    drawn = draw_many(rows, 40, 2)
    assert np.array_equal(drawn, reference(X, 40, 2))
    for run in drawn:
        assert sorted(run.tolist()) == list(range(40))
    assert bool((alone(rows, 40).n_certain == 40).all()) == (dtype == np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_more_seeds_than_distinct_rows(no_help, dtype):
    X = np.repeat(rows_of(5, 3, dtype), 60, axis=0)
    drawn = alone(CupyBackend(EmulatorDevice()).load(X), 9)
    assert drawn.n_certain.tolist() == [9, 9]
    for run in drawn.rows:
        assert len(np.unique(X[run[:5]], axis=0)) == 5
        assert run[5:].tolist() == [0] * 4  # the potential is zero, and the first row reaches it


@pytest.mark.parametrize("n_runs", [1, 3])
def test_a_run_costs_launches_only(monkeypatch, n_runs):
    """No look before the end, however many seeds: one wait for where the runs stand and the seeds."""
    device = EmulatorDevice()
    rows = CupyBackend(device).load(rows_of(300, 6, np.uint8))
    downloads, copy = [], device.downloads
    monkeypatch.setattr(device, "downloads", lambda *some: downloads.append([a.shape for a in some]) or copy(*some))
    launches, calls = device.n_launches, device.calls.copy()
    drawn = alone(rows, 20, n_runs)
    assert (drawn.n_certain == 20).all()
    assert downloads == [[(n_runs, 4), (n_runs, 20)]]
    assert device.calls - calls == {"uploads": 1, "waits": 1, "allocations": 3, "fills": 1}
    assert device.n_launches - launches == 1 + 19 * 4


def test_every_seed_is_the_same_launches(monkeypatch):
    """Arguments are constant, so that a recorded step can be replayed; replays beyond the end do nothing."""
    device = EmulatorDevice()
    rows = CupyBackend(device).load(rows_of(300, 6, np.float32))
    steps, inside = [], cupy_plusplus._Plusplus._one_seed
    seen = []
    real = rows.table.launch.device.kernel

    def kernel(file, name, constants):
        function = real(file, name, constants)

        def call(grid, block, args, shared_mem=0):
            buffers = tuple(id(arg) if getattr(arg, "shape", ()) else arg for arg in args)
            seen.append((name, tuple(sorted(constants.items())), grid, block, buffers))
            function(grid, block, args, shared_mem=shared_mem)

        return call

    def one_seed(self):
        seen.clear()
        inside(self)
        steps.append(list(seen))
        if len(steps) == 33:
            before = [device.download(a) for a in (self._seeds, self._state, self._potentials.closest)]
            inside(self)
            after = [device.download(a) for a in (self._seeds, self._state, self._potentials.closest)]
            assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))

    monkeypatch.setattr(device, "kernel", kernel)
    monkeypatch.setattr(cupy_plusplus._Plusplus, "_one_seed", one_seed)
    alone(rows, 34)
    assert len(steps) == 33
    assert [call[0] for call in steps[0]] == ["seed_locate", "seed_reach", "seed_gain", "seed_choose", "seed_accept"]
    assert all(step == steps[0] for step in steps)


def near_twins(n_pairs, dtype, seed=0):
    """Pairs of rows that differ in the last bit: which of two trials is better drowns in float32, or in float64."""
    X = np.repeat(1e3 * np.random.default_rng(seed).standard_normal((n_pairs, 4)), 2, axis=0).astype(dtype)
    X[1::2] = np.nextafter(X[1::2], np.inf)
    return X


@pytest.mark.one_in(2)
@pytest.mark.parametrize("n_runs", [1, 3])
@pytest.mark.parametrize("name", ["twins in float32", "twins in float64", "lattice", "thirds of a lattice"])
def test_decisions_that_rounding_leaves_open_are_settled(monkeypatch, name, n_runs):
    if name.startswith("twins"):
        X = near_twins(14, np.float32 if "32" in name else np.float64)
    else:
        axis = np.arange(-4, 5.0)
        X = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
        X = X / 3 if name.startswith("thirds") else X
    asked = []
    monkeypatch.setattr(plusplus, "complete_run", lambda *args: asked.append(1) or SETTLED(*args))
    found = 0
    for seed in range(4):
        got = draw_many(CupyBackend(EmulatorDevice()).load(X), 8, n_runs, seed=seed, n_local_trials=6)
        found += len(asked)
        assert np.array_equal(got, reference(X, 8, n_runs, seed=seed, n_local_trials=6))
        asked.clear()
    if name == "lattice":
        assert found == 0  # whole numbers: no rounding, so ties are exact
    else:
        assert found > 0


def test_a_run_that_was_settled_goes_on_by_itself(monkeypatch):
    """The engine takes one step for each that is open, not the rest of the run."""
    X = np.concatenate([rows_of(200, 4, np.float32), near_twins(30, np.float32)])
    rows = CupyBackend(EmulatorDevice()).load(X)
    steps = []
    smallest = plusplus.smallest
    monkeypatch.setattr(plusplus, "smallest", lambda *args: steps.append(len(args[-1])) or smallest(*args))
    p = probabilities(len(X), None, F64)
    settled = 0
    for seed in range(10):
        steps.clear()
        got = kmeans_plusplus(rows, 30, np.random.RandomState(seed), p, n_local_trials=8)
        settled += bool(steps)
        assert len(steps) < 15
        assert np.array_equal(got, reference(X, 30, 1, seed=seed, n_local_trials=8)[0])
    assert settled > 0


def test_more_trials_than_bits_are_left_to_the_engine():
    X = rows_of(120, 3, np.float32)
    rows = CupyBackend(EmulatorDevice()).load(X)
    n_trials = tuning.MOST_TRIALS + 3
    assert rows.plusplus(np.array([[5]]), np.full((1, 3, n_trials), 0.5)).n_certain.tolist() == [1]
    assert np.array_equal(draw_many(rows, 6, 2, n_local_trials=n_trials), reference(X, 6, 2, n_local_trials=n_trials))


def test_tiny_weights_and_tiny_rows():
    local = np.random.default_rng(4)
    X = local.standard_normal((60, 3))
    cases = [
        (X, 2.0 ** local.uniform(-1000, 0, 60)),
        (1e-160 * X, None),
        (1e-140 * X, 1e-20 * local.random(60)),
    ]
    for rows, weight in cases:
        got = draw_many(CupyBackend(EmulatorDevice()).load(rows, weight), 5, 2, weight)
        assert np.array_equal(got, reference(rows, 5, 2, weight))


def test_rows_beyond_float32s_squares(no_help):
    X = (rows_of(80, 3, np.float64) * 1e30).astype(np.float32)
    drawn = alone(CupyBackend(EmulatorDevice()).load(X), 6)
    assert drawn.n_certain.tolist() == [6, 6]


def test_many_runs_come_a_few_at_a_time(monkeypatch):
    X = rows_of(300, 3, np.float32)
    rows = CupyBackend(EmulatorDevice()).load(X)
    want = alone(rows, 8, 7)
    monkeypatch.setattr(cupy_plusplus, "LITTLE", 2 * 14 * 300)
    got = alone(rows, 8, 7)
    assert np.array_equal(got.rows, want.rows)
    assert np.array_equal(got.n_certain, want.n_certain)


@pytest.mark.one_in(3)
@ROW_DTYPES
def test_memory_is_little_beside_the_rows(dtype, monkeypatch):
    monkeypatch.setattr(cupy_plusplus, "LITTLE", 0)
    n, d, k = 6000, 64, 8  # memory does not depend on how many seeds are drawn, but for a few bytes of each
    X = rows_of(n, d, dtype)
    device = EmulatorDevice()
    rows = CupyBackend(device).load(X)
    before = device.bytes_in_use
    device.peak_bytes = before
    alone(rows, k, 1)
    assert device.peak_bytes - before <= 14 * n + 8 * 2 * 4 * (n // 256 + 1) + 50 * k * 4 + 1000
    device.peak_bytes = before
    engine = rows.seeding()
    engine.add(np.arange(300))
    engine.add(np.arange(300, 340))
    assert device.peak_bytes - before <= 14 * n + 8 * (n // 256 + 1) + 4 * 300 + 1000
    del engine
    assert device.bytes_in_use == before


@ROW_DTYPES
@pytest.mark.parametrize("weighted", [False, True])
def test_kmeans_parallel_draws_what_numpy_draws(dtype, weighted):
    X = rows_of(600, 5, dtype)
    weight = weights_of(600) if weighted else None
    backend = CupyBackend(EmulatorDevice())
    for seed in range(2):
        got = kmeans_parallel(backend.load(X, weight), 4, np.random.RandomState(seed), F64, weight, backend.load)
        other = NumpyBackend()
        want = kmeans_parallel(other.load(X, weight), 4, np.random.RandomState(seed), F64, weight, other.load)
        assert np.array_equal(got, want)


class FromTheFirstRow(np.random.RandomState):
    def choice(self, n, p):
        return 0


@pytest.mark.one_in(2)
@pytest.mark.parametrize("unit", ["UNIT32", "UNIT64"])
def test_radii_too_small_are_seen(monkeypatch, unit):
    """Rows and their mirror images, but for a last bit, about the first seed: gains differ by less than they round."""
    dtype = np.dtype(np.float32 if unit == "UNIT32" else np.float64).type

    def rows(seed):
        half = (np.random.default_rng(seed).standard_normal((5, 400)) + 3.0).astype(dtype)
        image = half[:, ::-1].copy()
        image[:, 7] = np.nextafter(image[:, 7], np.array([-9, 9, -9, 9, 9], dtype))
        return np.concatenate([np.zeros((1, 400), dtype), half, image])

    def drawn(backend, X):
        p = probabilities(len(X), None, F64)
        return kmeans_plusplus(backend.load(X), 3, FromTheFirstRow(0), p, n_local_trials=16)

    def wrong():
        device, numpy = CupyBackend(EmulatorDevice()), NumpyBackend(lockstep=False)
        return any(not np.array_equal(drawn(device, X), drawn(numpy, X)) for X in map(rows, range(40)))

    assert not wrong()
    monkeypatch.setattr(f"gpukmeans.certificates.seeds.{unit}", 0.0)
    assert wrong()
