"""One launch of one kernel each, and plain words of what it should give."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from gpukmeans.backends import nvrtc, tuning
from gpukmeans.certificates import SQUARE_UNDERFLOW, score_radius, square_distance_radius
from gpukmeans.exact_sums import Grid
from tests.emulator import EmulatorDevice

ORDERS = [("forward", 0), ("random", 1), ("random", 2)]
SHAPES = [(1, 1, 1), (127, 3, 5), (130, 17, 33), (65, 257, 7), (20, 10, 784)]
DTYPES = [np.uint8, np.float32, np.float64]
ROW_DTYPES = pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: t.__name__)
IN_ORDER = pytest.mark.parametrize(("order", "seed"), ORDERS)


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


def row_facts(device, X, weight=None, scale=None):
    """Bounds of the norms, and the facts: the largest whole number, the largest magnitude, 1 if limbs are too few."""
    n, d = X.shape
    norms, facts = device.empty(n, np.float32), filled(device, 3, np.float64)
    others = [None if array is None else device.upload(array) for array in (weight, scale)]
    args = (device.upload(X), np.int64(n), np.int32(d), norms, facts, *others)
    launch(device, "row_facts", tuning.row_constants(X.dtype), 3, 256, *args)
    return device.download(norms), *device.download(facts).tolist()


def column_largest(device, X, weight=None):
    (n, d), (block, rows) = X.shape, tuning.column_shape(X.shape[1])
    largest = filled(device, d, np.float64)
    args = (device.upload(X), None if weight is None else device.upload(weight), np.int64(n), np.int32(d))
    grid = (-(-n // rows), -(-d // block[0]))
    launch(device, "column_largest", tuning.row_constants(X.dtype), grid, block, *args, np.int32(rows), largest)
    return device.download(largest)


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


def finish(device, X, weight, labels, k, old_centers):
    d = X.shape[1]
    grid = Grid.for_rows(X, weight)
    ones = np.ones((len(X), 1)) if weight is None else weight[:, None]
    weight_grid = Grid.for_rows(ones)
    start = np.full(len(X), -1)
    sums = rational_sums(X, weight, start, labels, k, grid)
    weight_sums = rational_sums(ones, None, start, labels, k, weight_grid)[:, :, 0]
    previous, centers = device.upload(old_centers), device.empty(old_centers.shape, old_centers.dtype)
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
        *(np.int32(k), np.int32(d), previous, centers, weights, shifts),
    )
    return sums, grid, device.download(centers), device.download(weights), device.download(shifts)


def row_distance(device, X, C, labels, weight=None):
    n, d = X.shape
    distances, largest = device.empty(n, np.float64), filled(device, 1, np.float64)
    args = (
        *(device.upload(X), device.upload(C), device.upload(labels)),
        *(None if weight is None else device.upload(weight), np.int64(n), np.int32(d), distances, largest),
    )
    launch(device, "row_distance", tuning.row_center_constants(X.dtype), 3, 256, *args)
    return device.download(distances), float(device.download(largest)[0])
