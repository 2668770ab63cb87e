"""The CUDA backend's own code over the emulated device: every verb against whole numbers or plain Python."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gpukmeans.arrays.on_device import center_dtype
from gpukmeans.backends.cuda import backend as cupy_backend
from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda.backend import CupyBackend
from gpukmeans.backends.cuda.control import HISTORY, History
from gpukmeans.backends.cuda.device.seam import DeviceMemoryError
from gpukmeans.datasets import exact_ties, near_ties
from gpukmeans.exact.sums import Grid, cluster_means, exact_total, weight_grid
from tests.emulator import EmulatorDevice
from tests.emulator.testing import skip_without_compiler
from tests.support.assertions import assert_labels
from tests.support.launches.common import DTYPES, ROW_DTYPES, plain_square_distance, rational_sums, rows_and_centers
from tests.support.oracles import nearest, square_distances

SHAPES = [(1, 1, 1), (127, 3, 5), (130, 17, 33), (65, 55, 7), (20, 10, 200)]


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


def load(X, weight=None, device=None, *, sums=True):
    return CupyBackend(device or EmulatorDevice()).load(X, weight, sums=sums)


def case(n, k, d, dtype):
    X, C = rows_and_centers(n, k, d, dtype)
    return X, C.astype(center_dtype(X.dtype))


def weights_of(n):
    return np.random.default_rng(7).uniform(0.1, 3, n) * (np.arange(n) % 5 != 4)


# ---- runs -----------------------------------------------------------------------------------------------------


@pytest.mark.one_in(3)
@ROW_DTYPES
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("n", "k", "d"), SHAPES)
def test_every_verb_of_a_run(n, k, d, weighted, dtype):
    X, C = case(n, k, d, dtype)
    weight = weights_of(n) if weighted else None
    rows = load(X, weight)
    ones = np.ones((n, 1)) if weight is None else weight[:, None]
    on_weights = weight_grid(n, weight)
    run = rows.start(C)
    assert (run.labels() == -1).all()
    labels = np.full(n, -1, np.int32)
    for _ in range(2):
        want = nearest(X, C)
        assigned = run.assign()
        assert np.array_equal(run.labels(), want)
        assert assigned.n_moved == (want != labels).sum()
        assert assigned.n_certified + assigned.n_resolved + assigned.n_exact == n
        labels = want

        sums, weight_sums = run.sums()
        start = np.full(n, -1)
        assert np.array_equal(sums, rational_sums(X, weight, start, want, k, rows.grid))
        assert np.array_equal(weight_sums, rational_sums(ones, None, start, want, k, on_weights)[:, :, 0])

        updated = run.update()
        assert np.array_equal(updated.weights, on_weights.value(weight_sums[:, :, None])[:, 0])
        centers = run.centers()
        means = cluster_means(sums, updated.weights, rows.grid, rows.center_dtype)
        assert centers.dtype == rows.center_dtype
        assert np.array_equal(centers, means, equal_nan=True)
        full = updated.weights > 0
        shifts = [
            plain_square_distance(*pair) for pair in zip(*(np.float64(a)[full] for a in (centers, C)), strict=True)
        ]
        assert updated.shift_square[full].tolist() == shifts
        assert np.isnan(updated.shift_square[~full]).all()
        C = np.where(full[:, None], centers, C)
        run.set_centers(C)

    assert run.assign(move=False).n_moved == (nearest(X, C) != labels).sum()
    labels = run.labels()
    assert_labels(labels, X, C)
    assert np.array_equal(run.sums()[0], sums)  # they stayed behind
    distances = np.array([plain_square_distance(*p) for p in zip(np.float64(X), np.float64(C)[labels], strict=True)])
    assert run.inertia() == exact_total(distances if weight is None else distances * weight)
    farthest = sorted(range(n), key=lambda i: (-distances[i], i))
    assert run.farthest(min(n, 7)).tolist() == farthest[:7]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_near_ties_climb_the_whole_ladder(dtype):
    X, C = near_ties(200, 7, 11, seed=1, dtype=dtype)
    run = load(X).start(C)
    assigned = run.assign()
    assert_labels(run.labels(), X, C)
    assert assigned.n_moved == 200
    assert assigned.n_certified + assigned.n_resolved + assigned.n_exact == 200
    assert assigned.n_resolved > 0 if dtype == np.float32 else assigned.n_exact > 0
    labels = run.labels()
    want = rational_sums(X, None, np.full(200, -1), labels, 7, Grid.for_rows(X))
    assert np.array_equal(run.sums()[0], want)  # rows that the host decided have moved, too
    assert run.assign().n_moved == 0


def test_rows_for_the_host_come_a_few_at_a_time(monkeypatch):
    X, C = near_ties(100, 7, 11, seed=1, dtype=np.float64)
    monkeypatch.setattr("gpukmeans.backends.cuda.dense_workspace.EXACT_BYTES", 3 * 11 * 8)
    run = load(X).start(C)
    assert run.assign().n_exact > 3
    assert_labels(run.labels(), X, C)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_true_ties_of_whole_numbers_need_no_host(dtype):
    X, C = exact_ties(100, 6, 9, seed=0, dtype=dtype)
    run = load(X).start(C)
    assigned = run.assign()
    assert_labels(run.labels(), X, C)
    assert assigned.n_resolved > 0
    assert assigned.n_exact == 0


@pytest.mark.parametrize("k", [2, 9])
def test_equal_centers_are_one_candidate(k):
    X, C = case(60, k, 6, np.float32)
    C[-1] = C[0]
    run = load(X).start(C)
    assigned = run.assign()
    assert_labels(run.labels(), X, C)
    assert assigned.n_certified > 50  # not all rows near the pair went to the host
    run.set_centers(np.roll(C, 1, axis=0))  # others are equal now
    run.assign()
    assert_labels(run.labels(), X, np.roll(C, 1, axis=0))
    run.set_centers(np.repeat(C[:1], k, axis=0))
    assert run.assign().n_certified == 60
    assert (run.labels() == 0).all()


def test_positive_and_negative_zero_are_equal():
    X = np.array([[0.0], [1.0]], np.float32)
    run = load(X).start(np.array([[-0.0], [0.0], [1.0]], np.float32))
    run.assign()
    assert run.labels().tolist() == [0, 2]


@pytest.mark.parametrize("size", [1e60, 1e-60, 2.0**470])
def test_values_beyond_float32_are_screened_all_the_same(size):
    """Halves are made of scaled values; what is too far from the sample of the rows for them is decided in float64."""
    X, C = case(40, 5, 3, np.float64)
    X, C = X * size, C * size
    run = load(X).start(C)
    assert run.assign().n_certified > 30
    assert_labels(run.labels(), X, C)
    assert load(X).start(C, precision="fast").assign().n_resolved == 0
    for precision in ("exact", "fast"):
        run = load(X).start(C * 1e6, precision=precision)
        assert run.assign().n_resolved == 40
        assert_labels(run.labels(), X, C * 1e6)


def test_subnormals_keep_their_bits_under_flush_to_zero():
    """CuPy compiles with -ftz=true; sums, centers and distances are float64 and must not notice."""
    X, C = case(40, 3, 5, np.float32)
    X, C = X * np.float32(1e-39), C * np.float32(1e-39)
    assert (np.abs(X) < 2.0**-126).any()
    results = []
    for flush in (False, True):
        run = load(X, device=EmulatorDevice(flush_subnormals=flush)).start(C)
        run.assign()
        updated = run.update()
        results.append((run.labels(), *run.sums(), run.centers(), updated.shift_square, run.inertia()))
    for plain, flushed in zip(*results, strict=True):
        assert np.array_equal(plain, flushed, equal_nan=True)
    assert np.array_equal(results[1][0], nearest(X, C))
    assert (np.abs(results[1][3]) < 2.0**-126).any()


def test_fast_leaves_rows_to_the_screen_and_says_so():
    X, C = near_ties(200, 7, 11, seed=1)
    run = load(X).start(C, precision="fast")
    assigned = run.assign()
    assert assigned.n_uncertain > 100
    assert assigned.n_resolved == assigned.n_exact == 0
    assert assigned.n_certified + assigned.n_uncertain == 200
    labels = run.labels()
    assert not np.array_equal(labels, nearest(X, C))  # hence "exact" is the default
    distances, _ = square_distances(X, C)
    chosen = [float(row[j]) / float(max(row)) for row, j in zip(distances, labels, strict=True)]
    best = [float(min(row)) / float(max(row)) for row in distances]
    assert np.allclose(chosen, best, rtol=0, atol=1e-3)
    assert np.array_equal(run.sums()[0], rational_sums(X, None, np.full(200, -1), labels, 7, Grid.for_rows(X)))


def test_runs_do_not_disturb_each_other():
    X, C = case(100, 4, 5, np.float32)
    rows = load(X)
    first, second = rows.start(C), rows.start(C[::-1])
    first.assign()
    labels, sums = first.labels(), first.sums()[0]
    second.assign()
    second.update()
    assert np.array_equal(first.labels(), labels)
    assert np.array_equal(first.sums()[0], sums)
    assert_labels(second.labels(), X, C[::-1])


@ROW_DTYPES
def test_memory_stays_near_that_of_the_rows(dtype):
    X, C = case(1000, 5, 64, dtype)
    device = EmulatorDevice()
    rows = load(X, device=device)
    run = rows.start(C)
    run.assign()
    run.update()
    run.inertia()
    history = 8 * HISTORY * len(History)
    halves = 2 * tuning.TILE_CENTERS * tuning.few_tiles(5) * 64
    assert device.peak_bytes <= X.nbytes + 36 * 1000 + 32 * 5 * 64 + halves + 20 * 64 + history + 1000
    del run, rows
    assert device.bytes_in_use == 0


# ---- rows -----------------------------------------------------------------------------------------------------


@ROW_DTYPES
def test_take_brings_rows_as_stored(dtype):
    X, _ = case(50, 1, 9, dtype)
    rows = load(X)
    index = np.array([49, 0, 7, 7])
    assert np.array_equal(rows.take(index), X[index])
    assert rows.take(index).dtype == X.dtype
    assert rows.take(index[:0]).shape == (0, 9)


def test_unweighted_rows_are_not_copied():
    X, C = case(50, 3, 9, np.float32)
    device = EmulatorDevice()
    rows = load(X, weights_of(50), device)
    before = device.bytes_in_use
    plain = rows.unweighted()
    assert device.bytes_in_use - before < X.nbytes
    run = plain.start(C)
    run.assign()
    assert run.update().weights.tolist() == np.bincount(nearest(X, C), minlength=3).tolist()


def test_any_layout_is_accepted():
    X, C = case(40, 3, 6, np.float64)
    for layout in (np.asfortranarray(X), np.repeat(X, 2, axis=0)[::2]):
        run = load(layout).start(C)
        run.assign()
        assert_labels(run.labels(), X, C)


# ---- what cannot be done --------------------------------------------------------------------------------------


def test_rows_without_a_grid_can_be_labelled_but_not_summed():
    X, C = case(40, 3, 6, np.float32)
    run = load(X, sums=False).start(C)
    run.assign(move=False)
    assert_labels(run.labels(), X, C)
    assert run.inertia() > 0
    for verb in (run.assign, run.update, run.sums):
        with pytest.raises(ValueError, match="loaded without a grid"):
            verb()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_centers_must_be_finite(bad):
    X, C = case(40, 3, 6, np.float32)
    C[1, 2] = bad
    run = load(X).start(C)
    with pytest.raises(ValueError, match="center is not finite: give empty clusters a center"):
        run.assign()


def test_words_for_what_is_not_allowed(monkeypatch):
    X, C = case(40, 3, 6, np.float32)
    with pytest.raises(ValueError, match="precision='sloppy' should be 'exact' or 'fast'"):
        load(X).start(C, precision="sloppy")
    with pytest.raises(TypeError, match="Rows of dtype int16 cannot be loaded; uint8, float16, bfloat16"):
        CupyBackend(EmulatorDevice()).load(X.astype(np.int16))
    monkeypatch.setattr(cupy_backend, "MOST_SAMPLES", 39)
    with pytest.raises(ValueError, match="n_samples=40 should be at most 39 on one device; split the rows"):
        load(X)
    monkeypatch.undo()
    monkeypatch.setattr(cupy_backend, "MOST_FEATURES", 5)
    with pytest.raises(ValueError, match="n_features=6 should be at most 5 on a GPU"):
        load(X)


def test_no_grid_has_more_rows_of_blocks_than_cuda_allows():
    d = cupy_backend.MOST_FEATURES
    rows_of_blocks = -(-d // tuning.column_shape(d)[0][0]), tuning.move_shape(10, d).grid[1]
    assert max(rows_of_blocks) == 65535


def test_memory_that_ends_says_what_to_do():
    X, C = case(50_000, 3, 32, np.float32)
    for limit, what in (
        (1 << 22, "50000 rows of 32 float32 features"),
        (X.nbytes + 1_200_000, "3 clusters of 50000 rows"),
    ):
        with pytest.raises(DeviceMemoryError, match="CUDA emulator has no room for") as caught:
            load(X, device=EmulatorDevice(memory_limit=limit)).start(C)
        message = str(caught.value)
        assert what in message
        assert " MiB wanted, " in message
        assert f"of {limit / 2**20:.1f} MiB free" in message
        assert "backend='numpy'" in message
        assert isinstance(caught.value.__cause__, MemoryError)


def test_a_failed_fit_gives_its_memory_back():
    X, _ = case(5000, 3, 32, np.float32)
    device = EmulatorDevice(memory_limit=X.nbytes + 1000)
    with pytest.raises(DeviceMemoryError):
        load(X, device=device)
    assert device.bytes_in_use == 0


def test_describe_names_the_device():
    assert CupyBackend(EmulatorDevice()).describe() == "CUDA emulator"


# ---- k-means++ ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_potentials_are_within_their_bounds(dtype, weighted):
    n, d = 400, 6  # two blocks
    X, _ = case(n, 1, d, dtype)
    weight = weights_of(n) if weighted else None
    parts = [Fraction(1)] * n if weight is None else [Fraction(w) for w in weight.tolist()]
    seeding = load(X, weight).seeding()
    assert seeding.block_size == 256
    distances, unit = square_distances(X, X[[3, 300, 7, 20]])
    closest = None
    for candidates, accepted in (([3], 0), ([300, 7, 20], 1)):
        columns = distances[:, :1] if closest is None else distances[:, 1:]
        columns = columns if closest is None else np.minimum(columns, closest[:, None])
        if closest is None:
            sums, errors = seeding.add(np.array(candidates))
        else:
            potentials, radii = seeding.propose(np.array(candidates))
            for t in range(len(candidates)):
                want = sum((parts[i] * int(columns[i, t]) for i in range(n)), Fraction(0)) * unit
                assert abs(Fraction(potentials[t]) - want) <= Fraction(radii[t])
                assert radii[t] <= 1e-12 * potentials[t]
            again = seeding.refine(np.array([2, 0]))
            assert np.array_equal(again[0], potentials[[2, 0]])
            sums, errors = seeding.accept(accepted)
        closest = columns[:, accepted]
        assert sums.shape == errors.shape == (2,)
        for b, part in enumerate((range(256), range(256, n))):
            want = sum((parts[i] * int(closest[i]) for i in part), Fraction(0)) * unit
            assert abs(Fraction(sums[b]) - want) <= Fraction(errors[b])
            assert errors[b] <= 1e-12 * sums[b]
            terms, bounds = seeding.block(b)
            assert len(terms) == len(bounds) == len(part)
            for i, term, bound in zip(part, terms, bounds, strict=True):
                assert abs(Fraction(term) - parts[i] * int(closest[i]) * unit) <= Fraction(bound)
    if dtype == np.uint8 and not weighted:
        assert not errors.any()
        assert not bounds.any()


def test_large_whole_numbers_are_not_called_exact():
    """256 exact distances of up to 2**53 each need not add up exactly."""
    X = np.random.default_rng(0).integers(0, 2**24, (256, 4)).astype(np.float64)
    seeding = load(X).seeding()
    sums, errors = seeding.add(np.array([0]))
    distances, unit = square_distances(X, X[:1])
    difference = abs(Fraction(sums[0]) - int(distances.sum()) * unit)
    assert difference > 0  # so a bound of zero would be wrong
    assert difference <= Fraction(errors[0])
