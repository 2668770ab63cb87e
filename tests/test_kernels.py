"""Every kernel, alone, against whole numbers or plain Python, with every memory access watched."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from emulator import EmulatorDevice, EmulatorError
from emulator.testing import skip_without_compiler
from oracles import nearest, square_distances

from gpukmeans.backends import nvrtc, tuning
from gpukmeans.certificates import SQUARE_UNDERFLOW, score_radius, square_distance_radius
from gpukmeans.datasets import exact_ties, near_ties
from gpukmeans.exact_sums import Grid, cluster_means, exact_total

ORDERS = [("forward", 0), ("random", 1), ("random", 2)]
SHAPES = [(1, 1, 1), (127, 3, 5), (130, 17, 33), (65, 257, 7), (20, 10, 784)]
DTYPES = [np.uint8, np.float32, np.float64]
ROW_DTYPES = pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: t.__name__)
IN_ORDER = pytest.mark.parametrize(("order", "seed"), ORDERS)


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


def watched(order="forward", seed=0, faults=()):
    """A device in check mode; `faults` are (text, replacement) pairs planted in the sources."""

    def source(file, constants):
        text = nvrtc.source(file, constants)
        for good, bad in faults:
            if good in text:
                text = text.replace(good, bad)
        return text

    return EmulatorDevice(mode="check", order=order, seed=seed, source=source)


def launch(device, name, constants, grid, block, *args, shared_mem=0):
    device.kernel(name, name, constants)(grid, block, args, shared_mem=shared_mem)


def rows_and_centers(n, k, d, dtype, seed=0):
    rng = np.random.default_rng(seed)
    if dtype == np.uint8:
        return rng.integers(0, 256, (n, d)).astype(dtype), rng.uniform(0, 255, (k, d))
    return rng.standard_normal((n, d)).astype(dtype), rng.standard_normal((k, d)).astype(dtype)


def filled(device, shape, dtype, byte=0):
    array = device.empty(shape, dtype)
    device.fill(array, byte)
    return array


def plain_warp_order(terms):
    """The documented order of addition, one Python float at a time."""
    lanes = [0.0] * 32
    for f, term in enumerate(terms):
        lanes[f % 32] += term
    half = 16
    while half:
        for lane in range(half):
            lanes[lane] += lanes[lane + half]
        half //= 2
    return lanes[0]


def plain_square_distance(x, c):
    return plain_warp_order([(a - b) * (a - b) for a, b in zip(x.tolist(), c.tolist(), strict=True)])


# ---- row_facts ------------------------------------------------------------------------------------------------


def row_facts(device, X):
    n, d = X.shape
    norms, largest = device.empty(n, np.float32), filled(device, 1, np.float64)
    constants = tuning.row_constants(X.dtype)
    launch(device, "row_facts", constants, 3, 256, device.upload(X), np.int64(n), np.int32(d), norms, largest)
    return device.download(norms), float(device.download(largest)[0])


@ROW_DTYPES
def test_norms_are_tight_upper_bounds(dtype):
    X, _ = rows_and_centers(70, 1, 33, dtype)
    X[0] = 0
    X[1, 1:] = 0
    norms, _ = row_facts(watched(), X)
    squares, unit = square_distances(X, np.zeros((1, 33)))
    for norm, square in zip(norms, squares[:, 0], strict=True):
        exact = int(square) * unit
        assert exact <= Fraction(float(norm)) ** 2 <= max(exact * (1 + Fraction(1, 2**18)), Fraction(1, 2**200))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_norms_hold_at_the_ends_of_the_range(dtype):
    largest = np.finfo(dtype).max if dtype == np.float32 else 2.0**480
    X = np.array([[largest, 0], [np.finfo(dtype).smallest_subnormal, 0], [-largest, largest]], dtype)
    norms, _ = row_facts(watched(), X)
    assert norms[0] == np.inf or float(norms[0]) >= float(largest)
    assert float(norms[1]) >= float(X[1, 0])
    assert norms[2] == np.inf


@ROW_DTYPES
def test_whole_numbers_are_recognised(dtype):
    X = np.random.default_rng(0).integers(0, 200, (50, 7)).astype(dtype)
    X[17, 3] = 231
    assert row_facts(watched("random", 3), X)[1] == 231
    if dtype != np.uint8:
        X[17, 3] = -231
        assert row_facts(watched(), X)[1] == 231
        X[49, 6] = 0.5
        assert row_facts(watched(), X)[1] == np.inf


# ---- nearest_center -------------------------------------------------------------------------------------------


def screen(device, X, C, *, dead=(), tile=None, radius=None, norm_limit=1e30):
    """Labels, the undecided rows and their number."""
    (n, d), k = X.shape, len(C)
    wide = C.astype(np.float64)
    squares = (wide**2).sum(axis=1)
    c_sq = squares.astype(np.float32)
    c_sq[list(dead)] = np.inf
    if radius is None:
        bound = score_radius(d, math.sqrt(squares.max()) * (1 + 1e-6))
        radius = bound.per_norm * 1.001, bound.constant * 1.001
    tile = tile or tuning.screen_tile(X.dtype, k)
    norms = (np.sqrt((X.astype(np.float64) ** 2).sum(axis=1)) * (1 + 1e-6)).astype(np.float32)
    labels, undecided = device.empty(n, np.int32), device.empty(n, np.int32)
    counters = filled(device, 3, np.int32)
    launch(
        device,
        "nearest_center",
        tuning.screen_constants(X.dtype, tile, d),
        -(-n // tile.BM),
        tile.threads,
        *(device.upload(X), device.upload(norms), device.upload(C.astype(np.float32)), device.upload(c_sq)),
        *(np.int64(n), np.int32(k), np.int32(d), np.float32(radius[0]), np.float32(radius[1])),
        *(np.float32(norm_limit), labels, undecided, counters),
    )
    count, others = device.download(counters)[0], device.download(counters)[1:]
    assert not others.any()
    open_rows = device.download(undecided)[:count]
    assert len(set(open_rows.tolist())) == count
    return device.download(labels), np.sort(open_rows)


def certified(n, open_rows):
    return np.setdiff1d(np.arange(n), open_rows)


@ROW_DTYPES
@pytest.mark.parametrize(("n", "k", "d"), SHAPES)
def test_certified_labels_are_the_true_ones(n, k, d, dtype):
    X, C = rows_and_centers(n, k, d, dtype)
    labels, open_rows = screen(watched(), X, C)
    sure = certified(n, open_rows)
    assert np.array_equal(labels[sure], nearest(X[sure], C))
    assert len(open_rows) <= max(1, n // 8)  # noise is easy


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("n", "k", "d"), [(130, 17, 33), (5, 65, 4)])
def test_no_order_of_threads_changes_a_label(n, k, d, seed):
    X, C = rows_and_centers(n, k, d, np.float32)
    forward, random = screen(watched(), X, C), screen(watched("random", seed), X, C)
    assert np.array_equal(forward[0], random[0])
    assert np.array_equal(forward[1], random[1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "k", "d"), [(200, 10, 33), (140, 40, 8)])
def test_near_ties_are_left_open_not_guessed(n, k, d, dtype):
    X, C = near_ties(n, k, d, seed=1, dtype=dtype)
    labels, open_rows = screen(watched(), X, C)
    sure = certified(n, open_rows)
    assert np.array_equal(labels[sure], nearest(X[sure], C))
    assert len(open_rows) > n // 2


def test_a_radius_too_small_is_caught():
    """The oracle can fail: without the radius the same rows get wrong labels."""
    X, C = near_ties(200, 10, 33, seed=1)
    labels, open_rows = screen(watched(), X, C, radius=(0.0, 0.0))
    sure = certified(200, open_rows)
    assert not np.array_equal(labels[sure], nearest(X[sure], C))


def test_exact_ties_are_left_open():
    X, C = exact_ties(60, 6, 9, seed=0)
    distances, _ = square_distances(X, C)
    tied = [i for i, row in enumerate(distances) if sorted(row)[0] == sorted(row)[1]]
    assert tied
    _, open_rows = screen(watched(), X, C)
    assert set(tied) <= set(open_rows.tolist())


@pytest.mark.parametrize("k", [2, 9, 70])
def test_dead_centers_never_compete(k):
    X, C = rows_and_centers(40, k, 6, np.float32)
    C[1:] = np.concatenate([C[:1], C[1:-1]])  # every center twice over
    dead = [j for j in range(k) if (C[:j] == C[j]).all(axis=1).any()]
    labels, open_rows = screen(watched(), X, C, dead=dead)
    want = nearest(X, C)
    sure = certified(40, open_rows)
    assert len(sure) > 20
    assert np.array_equal(labels[sure], want[sure])


def test_rows_beyond_the_norm_limit_are_left_open():
    X, C = rows_and_centers(130, 5, 4, np.float64)
    X[[3, 129]] *= 1e35  # |x|^2 has no place in float32
    labels, open_rows = screen(watched(), X, C)
    assert {3, 129} <= set(open_rows.tolist())
    assert ((labels >= 0) & (labels < 5)).all()


def test_certificates_hold_when_subnormals_are_flushed():
    """CuPy compiles with -ftz=true."""
    X, C = rows_and_centers(100, 7, 9, np.float32)
    X, C = X * np.float32(1e-20), C * np.float32(1e-20)  # products near 1e-40
    device = EmulatorDevice(mode="check", flush_subnormals=True)
    labels, open_rows = screen(device, X, C)
    sure = certified(100, open_rows)
    assert np.array_equal(labels[sure], nearest(X[sure], C))


def test_an_impossible_tile_fails_with_a_sentence():
    tile = tuning.ScreenTile(BM=130, BN=16, BK=16, TM=4, TN=4)
    X, C = rows_and_centers(3, 2, 4, np.float32)
    with pytest.raises(EmulatorError, match="a tile must divide into the threads' parts"):
        screen(watched(), X, C, tile=tile)


# ---- resolve --------------------------------------------------------------------------------------------------


def resolved(device, X, C, *, alive=None, whole=False, radius=None):
    """Labels and the rows left to the host, when every row is undecided; the old labels are 77."""
    n, d = X.shape
    alive = np.arange(len(C), dtype=np.int32) if alive is None else alive
    if radius is None:
        radius = (0.0, 0.0) if whole else (square_distance_radius(d), SQUARE_UNDERFLOW)
    labels, exact_rows = device.empty(n, np.int32), device.empty(n, np.int32)
    counters = device.upload(np.array([n, 0, 0], np.int32))
    launch(
        device,
        "resolve",
        tuning.row_center_constants(X.dtype),
        3,
        128,
        *(device.upload(X), device.upload(C), device.upload(alive), np.int32(len(alive)), np.int32(d)),
        *(np.float64(radius[0]), np.float64(radius[1]), np.int32(whole)),
        *(device.upload(np.random.default_rng(0).permutation(n).astype(np.int32)),),
        *(device.upload(np.full(n, 77, np.int32)), labels, exact_rows, counters),
    )
    left = device.download(exact_rows)[: device.download(counters)[1]]
    return device.download(labels), np.sort(left)


@ROW_DTYPES
@pytest.mark.parametrize(("n", "k", "d"), SHAPES)
def test_float64_distances_decide(n, k, d, dtype):
    X, C = rows_and_centers(min(n, 40), k, d, dtype)
    labels, left = resolved(watched("random", 4), X, C)
    assert len(left) == 0
    assert np.array_equal(labels, nearest(X, C))


@IN_ORDER
def test_what_float64_cannot_separate_goes_to_the_host(order, seed):
    X, C = near_ties(60, 8, 17, seed=3, dtype=np.float64)
    labels, left = resolved(watched(order, seed), X, C)
    sure = certified(60, left)
    assert 0 < len(left) < 60
    assert (labels[left] == 77).all()
    assert np.array_equal(labels[sure], nearest(X[sure], C))


def test_a_float64_radius_too_small_is_caught():
    X, C = near_ties(200, 8, 17, seed=3, dtype=np.float64)
    labels, left = resolved(watched(), X, C, radius=(0.0, 0.0))
    sure = certified(200, left)
    assert not np.array_equal(labels[sure], nearest(X[sure], C))


def test_true_ties_of_whole_numbers_go_to_the_lowest_index():
    X, C = exact_ties(60, 6, 9, seed=0)
    labels, left = resolved(watched(), X, C.astype(tuning.center_dtype(X.dtype)), whole=True)
    assert len(left) == 0
    assert np.array_equal(labels, nearest(X, C))


def test_only_living_centers_are_candidates():
    X, C = rows_and_centers(20, 6, 5, np.float32)
    C[4] = C[1]
    labels, left = resolved(watched(), X, C, alive=np.array([0, 1, 2, 3, 5], np.int32))
    assert len(left) == 0
    assert np.array_equal(labels, nearest(X, C))
    labels, left = resolved(watched(), X, C, alive=np.array([2], np.int32))
    assert len(left) == 0
    assert (labels == 2).all()


# ---- move_sums, relabel ---------------------------------------------------------------------------------------


def limbs(value, scale, bits, n_limbs):
    """The limbs of a float, in rational arithmetic (Python rounds half to even, too)."""
    scaled = Fraction(float(value)) * Fraction(float(scale))
    first = round(scaled)
    return [first, round((scaled - first) * 2**bits)][:n_limbs]


def rational_sums(X, weight, old, new, k, grid):
    table = X.astype(np.float64) if weight is None else X.astype(np.float64) * weight[:, None]
    sums = np.zeros((grid.n_limbs, k, X.shape[1]), np.int64)
    for y, a, b in zip(table, old, new, strict=True):
        if a == b:
            continue
        for f, value in enumerate(y):
            share = limbs(value, grid.scale[f], grid.bits, grid.n_limbs)
            if a >= 0:
                sums[:, a, f] -= share
            sums[:, b, f] += share
    return sums


def move(device, X, weight, old, new, k, grid, *, shared=True):
    (n, d), shape = X.shape, tuning.move_shape(X.shape[1], k, grid.n_limbs)
    assert shape.shared_bytes or not shared
    if not shared:
        shape = tuning.MoveShape(shape.features, shape.rows, 0)
    sums = filled(device, (grid.n_limbs, k, d), np.int64)
    launch(
        device,
        "move_sums",
        tuning.move_constants(X.dtype, grid.n_limbs, shape),
        (-(-n // shape.rows), -(-d // shape.features)),
        shape.block,
        *(device.upload(X), None if weight is None else device.upload(weight), device.upload(grid.scale)),
        *(np.float64(2.0**grid.bits), np.int64(n), np.int32(k), np.int32(d), np.int32(shape.rows)),
        *(device.upload(old), device.upload(new), sums),
        shared_mem=shape.shared_bytes,
    )
    return device.download(sums)


def moves(n, k, seed=0):
    rng = np.random.default_rng(seed)
    old, new = rng.integers(-1, k, (2, n)).astype(np.int32)
    return old, np.where(new < 0, 0, new).astype(np.int32)


@ROW_DTYPES
@pytest.mark.parametrize(("n", "k", "d", "weighted"), [(1, 1, 1, False), (700, 3, 5, True), (33, 7, 150, True)])
@pytest.mark.parametrize("shared", [True, False])
def test_sums_follow_the_rows_exactly(n, k, d, weighted, shared, dtype):
    X, _ = rows_and_centers(n, k, d, dtype)
    weight = np.random.default_rng(1).uniform(0.1, 3, n) if weighted else None
    old, new = moves(n, k)
    grid = Grid.for_rows(X, weight)
    got = move(watched("random", 5), X, weight, old, new, k, grid, shared=shared)
    assert np.array_equal(got, rational_sums(X, weight, old, new, k, grid))


@IN_ORDER
def test_no_order_changes_a_sum(order, seed):
    X, _ = rows_and_centers(300, 1, 6, np.float64)
    grid = Grid.for_rows(X)
    assert grid.n_limbs == 2
    old, new = np.full(300, -1, np.int32), np.zeros(300, np.int32)
    for shared in (True, False):
        got = move(watched(order, seed), X, None, old, new, 1, grid, shared=shared)
        assert np.array_equal(got, rational_sums(X, None, old, new, 1, grid))


def relabel(device, weight, old, new, k, grid, *, shared=True, with_sums=True):
    n = len(new)
    shared_bytes = tuning.relabel_shared_bytes(k, grid.n_limbs, weight is not None) if shared else 0
    labels, counters = device.upload(old), filled(device, 3, np.int32)
    sums = filled(device, (grid.n_limbs, k), np.int64)
    launch(
        device,
        "relabel",
        tuning.relabel_constants(grid.n_limbs, weight is not None, shared_bytes),
        -(-n // 512),
        256,
        None if weight is None else device.upload(weight),
        *(np.float64(grid.scale[0]), np.float64(2.0**grid.bits), np.int64(n), np.int32(k), np.int32(512)),
        *(device.upload(new), labels, sums if with_sums else None, counters),
        shared_mem=shared_bytes,
    )
    assert not device.download(counters)[:2].any()
    return device.download(labels), device.download(sums), int(device.download(counters)[2])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shared", [True, False])
@IN_ORDER
def test_weights_and_labels_follow(weighted, shared, order, seed):
    n, k = 700, 5
    old, new = moves(n, k)
    weight = np.random.default_rng(1).uniform(0, 1, n) if weighted else None
    grid = Grid.for_rows(weight[:, None]) if weighted else Grid(np.ones(1), 36, 1)
    labels, sums, n_moved = relabel(watched(order, seed), weight, old, new, k, grid, shared=shared)
    ones = np.ones((n, 1)) if weight is None else weight[:, None]
    assert np.array_equal(labels, new)
    assert n_moved == (old != new).sum()
    assert np.array_equal(sums, rational_sums(ones, None, old, new, k, grid)[:, :, 0])
    labels, sums, n_moved = relabel(watched(order, seed), weight, old, new, k, grid, with_sums=False)
    assert np.array_equal(labels, new)
    assert n_moved == (old != new).sum()
    assert not sums.any()


# ---- finish, center_facts -------------------------------------------------------------------------------------


def finish(device, X, weight, labels, k, old_centers):
    d = X.shape[1]
    grid = Grid.for_rows(X, weight)
    ones = np.ones((len(X), 1)) if weight is None else weight[:, None]
    weight_grid = Grid.for_rows(ones)
    start = np.full(len(X), -1)
    sums = rational_sums(X, weight, start, labels, k, grid)
    weight_sums = rational_sums(ones, None, start, labels, k, weight_grid)[:, :, 0]
    centers = device.upload(old_centers)
    weights, shifts = device.empty(k, np.float64), device.empty(k, np.float64)
    launch(
        device,
        "finish",
        tuning.center_constants(old_centers.dtype),
        -(-k // 4),
        128,
        *(device.upload(sums), device.upload(weight_sums), device.upload(grid.scale)),
        *(np.int32(grid.n_limbs), np.float64(2.0**-grid.bits)),
        *(np.int32(weight_grid.n_limbs), np.float64(weight_grid.scale[0]), np.float64(2.0**-weight_grid.bits)),
        *(np.int32(k), np.int32(d), centers, weights, shifts),
    )
    return sums, grid, device.download(centers), device.download(weights), device.download(shifts)


@ROW_DTYPES
@pytest.mark.parametrize("weighted", [False, True])
def test_centers_are_the_means_in_numpys_bits(dtype, weighted):
    k, d = 6, 37
    X, C = rows_and_centers(50, k, d, dtype)
    C = C.astype(tuning.center_dtype(X.dtype))
    labels = np.random.default_rng(2).integers(0, k - 1, 50)  # the last cluster is empty
    weight = np.random.default_rng(3).uniform(0.1, 1, 50) if weighted else None
    sums, grid, centers, weights, shifts = finish(watched("random", 1), X, weight, labels, k, C)
    assert weights[-1] == 0
    assert np.isnan(centers[-1]).all()
    assert np.isnan(shifts[-1])
    assert np.array_equal(centers, cluster_means(sums, weights, grid, C.dtype), equal_nan=True)
    parts = [Fraction(1)] * 50 if weight is None else [Fraction(w) for w in weight.tolist()]
    for j in range(k - 1):
        total = sum((w for w, own in zip(parts, labels, strict=True) if own == j), Fraction(0))
        assert abs(Fraction(weights[j]) - total) <= total / 2**51
        for f in range(d):
            y = [Fraction(float(x[f]) * float(w)) for x, w, own in zip(X, parts, labels, strict=True) if own == j]
            mean = sum(y, Fraction(0)) / total
            largest = max(abs(v) for v in y) / total * len(y)
            ulp = Fraction(float(np.spacing(np.abs(centers[j, f]))))
            assert abs(Fraction(float(centers[j, f])) - mean) <= ulp + largest / 2**48
        assert shifts[j] == plain_square_distance(centers[j].astype(np.float64), C[j].astype(np.float64))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_facts_about_centers(dtype):
    C = np.random.default_rng(0).standard_normal((7, 40)).astype(dtype)
    C[2] = np.arange(40) - 50
    C[5] = C[3]
    device = watched("random", 2)
    outputs = [device.empty(shape, t) for shape, t in (((7, 40), np.float32), (7, np.float32))]
    outputs += [device.empty(7, np.float64), device.empty(7, np.float64)]
    args = (device.upload(C), np.int32(7), np.int32(40), *outputs)
    launch(device, "center_facts", tuning.center_constants(C.dtype), 2, 128, *args)
    narrow, c_sq, squares, largest = (device.download(a) for a in outputs)
    assert np.array_equal(narrow, C.astype(np.float32))
    assert squares.tolist() == [plain_square_distance(c.astype(np.float64), np.zeros(40)) for c in C]
    assert squares[5] == squares[3]
    assert np.array_equal(c_sq, squares.astype(np.float32))
    assert largest.tolist() == [np.inf, np.inf, 50, np.inf, np.inf, np.inf, np.inf]


# ---- results --------------------------------------------------------------------------------------------------


def row_distance(device, X, C, labels, weight=None):
    n, d = X.shape
    distances, largest = device.empty(n, np.float64), filled(device, 1, np.float64)
    args = (
        *(device.upload(X), device.upload(C), device.upload(labels)),
        *(None if weight is None else device.upload(weight), np.int64(n), np.int32(d), distances, largest),
    )
    launch(device, "row_distance", tuning.row_center_constants(X.dtype), 3, 256, *args)
    return device.download(distances), float(device.download(largest)[0])


@ROW_DTYPES
@pytest.mark.parametrize("d", [1, 33, 100])
def test_distances_are_added_in_warp_order(dtype, d):
    X, C = rows_and_centers(60, 4, d, dtype)
    C = C.astype(tuning.center_dtype(X.dtype))
    labels = np.random.default_rng(5).integers(0, 4, 60).astype(np.int32)
    weight = np.random.default_rng(6).uniform(0, 2, 60)
    plain = [
        plain_square_distance(x.astype(np.float64), C[j].astype(np.float64)) for x, j in zip(X, labels, strict=True)
    ]
    distances, largest = row_distance(watched("random", 1), X, C, labels)
    assert distances.tolist() == plain
    assert largest == max(plain)
    distances, largest = row_distance(watched(), X, C, labels, weight)
    assert distances.tolist() == [p * w for p, w in zip(plain, weight.tolist(), strict=True)]


@IN_ORDER
def test_totals_do_not_depend_on_the_order(order, seed):
    terms = np.random.default_rng(0).uniform(0, 1, 1500) ** 40
    grid = Grid.for_largest(float(terms.max()), len(terms))
    device = watched(order, seed)
    total = filled(device, (2, 1), np.int64)
    args = (np.int64(1500), np.float64(grid.scale[0]), np.float64(2.0**grid.bits), total)
    launch(device, "exact_total", {}, 3, 256, device.upload(terms), *args)
    got = float(grid.value(device.download(total))[0])
    assert got == exact_total(terms)
    assert abs(Fraction(got) - sum(map(Fraction, terms.tolist()), Fraction(0))) <= Fraction(got) / 2**52


# ---- k-means++ ------------------------------------------------------------------------------------------------


@ROW_DTYPES
@pytest.mark.parametrize("n_candidates", [1, 6])
def test_distances_to_candidates(dtype, n_candidates):
    n, d = 50, 35
    X, _ = rows_and_centers(n, 1, d, dtype)
    candidates = np.random.default_rng(1).choice(n, n_candidates).astype(np.int32)
    closest = np.random.default_rng(2).uniform(0, d, n)
    device = watched("random", 1)
    proposed = device.empty((n_candidates, n), np.float64)
    args = (device.upload(X), device.upload(candidates), np.int32(n_candidates), device.upload(closest))
    constants = tuning.row_constants(X.dtype)
    launch(device, "seed_distance", constants, 2, 256, *args, np.int64(n), np.int32(d), proposed)
    got = device.download(proposed)
    distances, unit = square_distances(X, X[candidates])
    for t in range(n_candidates):
        for i in range(n):
            want = min(distances[i, t] * unit, Fraction(closest[i]))
            assert abs(Fraction(got[t, i]) - want) <= want * (d + 2) / 2**52
        assert got[t, candidates[t]] == 0

    accepted = device.empty(n, np.float64)
    launch(device, "accept_seed", {}, 1, 256, proposed, np.int32(n_candidates - 1), np.int64(n), accepted)
    assert np.array_equal(device.download(accepted), got[-1])


@IN_ORDER
def test_block_sums(order, seed):
    rng = np.random.default_rng(0)
    terms, weight = rng.uniform(0, 1, (2, 2500)), rng.uniform(0, 1, 2500)
    device = watched(order, seed)
    for w in (None, weight):
        sums = device.empty((2, 3), np.float64)
        args = (device.upload(terms), None if w is None else device.upload(w), np.int64(2500), np.int32(3), sums)
        launch(device, "block_sums", {"BLOCK_ROWS": 1024}, (3, 2), 256, *args)
        products = terms if w is None else terms * w
        want = [[math.fsum(row[s : s + 1024]) for s in (0, 1024, 2048)] for row in products]
        assert np.allclose(device.download(sums), want, rtol=1026 * 2.0**-53, atol=0)


# ---- copies ---------------------------------------------------------------------------------------------------


@ROW_DTYPES
def test_gather_and_scatter(dtype):
    X, _ = rows_and_centers(30, 1, 37, dtype)
    device = watched("random", 1)
    index = np.random.default_rng(0).permutation(30)[:11].astype(np.int32)
    target = device.empty((7, 37), X.dtype)
    args = (device.upload(X), device.upload(index), np.int64(2), np.int64(7), np.int32(37), target)
    launch(device, "gather_rows", tuning.row_constants(X.dtype), 1, 256, *args)
    assert np.array_equal(device.download(target), X[index[2:9]])
    labels = device.upload(np.zeros(30, np.int32))
    decided = np.arange(1, 12, dtype=np.int32)
    launch(device, "scatter_labels", {}, 1, 256, device.upload(index), device.upload(decided), np.int64(11), labels)
    want = np.zeros(30, np.int32)
    want[index] = decided
    assert np.array_equal(device.download(labels), want)


# ---- planted faults -------------------------------------------------------------------------------------------


def run_screen(device):
    X, C = rows_and_centers(70, 20, 37, np.float32)
    labels, open_rows = screen(device, X, C)
    sure = certified(70, open_rows)
    assert np.array_equal(labels[sure], nearest(X[sure], C))
    assert len(open_rows) < 10


def run_screen_on_near_ties(device):
    X, C = near_ties(120, 16, 5, seed=1)
    labels, open_rows = screen(device, X, C)
    sure = certified(120, open_rows)
    assert np.array_equal(labels[sure], nearest(X[sure], C))


def run_move(device):
    X, _ = rows_and_centers(300, 3, 5, np.float64)
    old, new = moves(300, 3)
    grid = Grid.for_rows(X)
    got = move(device, X, None, old, new, 3, grid)
    assert np.array_equal(got, rational_sums(X, None, old, new, 3, grid))


def run_relabel(device):
    old, new = moves(600, 5)
    _, sums, n_moved = relabel(device, None, old, new, 5, Grid(np.ones(1), 36, 1))
    assert sums.sum() == (old < 0).sum()
    assert n_moved == (old != new).sum()


def run_finish(device):
    X, C = rows_and_centers(40, 5, 37, np.float64)
    sums, grid, centers, weights, shifts = finish(device, X, None, np.arange(40) % 5, 5, C)
    assert np.array_equal(centers, cluster_means(sums, weights, grid, C.dtype))
    assert shifts.tolist() == [plain_square_distance(a, b) for a, b in zip(centers, C, strict=True)]


def run_block_sums(device):
    sums = device.empty((1, 1), np.float64)
    args = (device.upload(np.ones((1, 1000))), None, np.int64(1000), np.int32(1), sums)
    launch(device, "block_sums", {"BLOCK_ROWS": 1024}, (1, 1), 256, *args)
    assert device.download(sums)[0, 0] == 1000


FAULTS = {
    "screen reads tiles before they are complete": (run_screen, "__syncthreads();  // the tiles are complete", ""),
    "screen overwrites tiles in use": (run_screen, "__syncthreads();  // everyone is done with the tiles", ""),
    "screen forgets the ends of rows": (run_screen, "left > 1 ? p[1] : T(0)", "p[1]"),
    "screen labels a row too many": (run_screen, "tx == 0 && row < n", "tx == 0 && row <= n"),
    "screen loses the second best": (run_screen_on_near_ties, "second[i] = best[i];\n", ""),
    "lanes do not compare their second best": (
        run_screen_on_near_ties,
        "fminf(fmaxf(best[i], their_best), ",
        "fminf(second[i], ",
    ),
    "move reads its list too early": (run_move, "__syncthreads();  // the list is complete", ""),
    "move clears a list in use": (run_move, "__syncthreads();  // the list has been read", ""),
    "move drops the second limb": (run_move, "LIMBS == 2 ? second_limb(scaled, limb_size) : 0", "0"),
    "move forgets where rows come from": (run_move, "if (moved_from[e] >= 0) add(", "if (false) add("),
    "limbs are truncated": (run_move, "return (long long)rint(scaled);", "return (long long)scaled;"),
    "relabel adds to sums that are not cleared yet": (
        run_relabel,
        "= 0;\n  __syncthreads();\n#endif\n  const auto",
        "= 0;\n#endif\n  const auto",
    ),
    "relabel flushes too early": (
        run_relabel,
        "#if SHARED\n  __syncthreads();\n  if (weight_sums)",
        "#if SHARED\n  if (weight_sums)",
    ),
    "finish fuses": (
        run_finish,
        "return __dmul_rn(difference, difference);",
        "return fma(difference, difference, 1e-17);",
    ),
    "finish ignores the second limb": (run_finish, "if (two) low", "if (false) low"),
    "finish adds lanes in another order": (
        run_finish,
        "int half = WARP / 2; half > 0; half /= 2)\n    lane_sum",
        "int half = 1; half < WARP; half *= 2)\n    lane_sum",
    ),
    "block sums add too early": (run_block_sums, "    __syncthreads();\n    if (tid < half)", "    if (tid < half)"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults_are_caught(name):
    run, good, bad = FAULTS[name]
    run(watched())
    with pytest.raises((EmulatorError, AssertionError)):
        for seed in range(3):
            run(watched("random" if seed else "forward", seed, [(good, bad)]))


def test_planted_faults_are_really_planted():
    texts = [nvrtc.source(file, {}) for file in {file for file, _ in nvrtc.variants()}]
    for _, good, _ in FAULTS.values():
        assert any(good in text for text in texts), good
