"""Functions that launch one kernel each, and plain Python of what it should return."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda.control import Control, Scale
from gpukmeans.backends.cuda.device import nvrtc
from gpukmeans.backends.cuda.device.structs import Struct
from tests.emulator import EmulatorDevice

ORDERS = [("forward", 0), ("random", 1), ("random", 2)]
DTYPES = [np.uint8, np.float32, np.float64]
ROW_DTYPES = pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: t.__name__)
IN_ORDER = pytest.mark.parametrize(("order", "seed"), ORDERS)


def watched(order="forward", seed=0, faults=(), tensor_cores=None):
    """A device in check mode; `faults` are (text, replacement) pairs planted in the sources."""

    def source(file, constants):
        text = nvrtc.source(file, constants)
        for good, bad in faults:
            if good in text:
                text = text.replace(good, bad)
        return text

    return EmulatorDevice(mode="check", order=order, seed=seed, tensor_cores=tensor_cores, source=source)


def struct(device, name, types=None, **values):
    """A struct for a launch; `types` are the dtypes of ROW, CENTER, ..."""
    return Struct(device, name, {key: np.dtype(value) for key, value in (types or {}).items()}, **values)


def rows_struct(device, X, n=None):
    """Rows, of one problem or of several with n rows each."""
    return struct(device, "Rows", {"ROW": X.dtype}, X=device.upload(X), n=n or len(X), d=X.shape[1])


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
    """The facts: the largest whole number, the largest magnitude, 1 if limbs are too few; norms of halves first."""
    n, d = X.shape
    norms, rests = device.empty(n, np.float32), device.empty(n, np.float32)
    offsets = device.upload(np.zeros(d, np.float32))
    others = [None if array is None else device.upload(array) for array in (weight, scale)]
    scales = device.upload(scale_words(largest_whole=0.0))
    scaling = struct(device, "Scaling", scales=scales, offsets=offsets, n_steps=0)
    args = (rows_struct(device, X), scaling, norms, rests, *others)
    launch(device, "row_facts", tuning.row_constants(X.dtype), 3, 256, *args)
    return device.download(norms), *device.download(scales)[Scale.LARGEST_WHOLE :].tolist()


def column_facts(device, X, weight=None):
    """The largest magnitudes, and the sums and squares of what lies between a row and the first one."""
    (n, d), (block, rows) = X.shape, tuning.column_shape(X.shape[1])
    columns = filled(device, (3, d), np.float64)
    args = (device.upload(X), None if weight is None else device.upload(weight), np.int64(n), np.int32(d))
    grid = (-(-n // rows), -(-d // block[0]))
    launch(device, "column_facts", tuning.row_constants(X.dtype), grid, block, *args, np.int32(rows), columns)
    return device.download(columns)


def control_words(**words):
    """The device's control with these words set, as an int32 array; `epoch` is 1 by default."""
    control = np.zeros(len(Control), np.int32)
    for name, value in {"EPOCH": 1, **words}.items():
        control[Control[name]] = value
    return control


def scale_words(half_scale=1.0, weight_scale=1.0, largest_whole=np.inf):
    """The scales of a problem, as the kernels read them."""
    words = np.zeros(len(Scale))
    words[[Scale.HALF_SCALE, Scale.WEIGHT_SCALE, Scale.LARGEST_WHOLE]] = half_scale, weight_scale, largest_whole
    return words


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


def moves(n, k, seed=0):
    rng = np.random.default_rng(seed)
    old, new = rng.integers(-1, k, (2, n)).astype(np.int32)
    return old, np.where(new < 0, 0, new).astype(np.int32)


def moves_struct(device, labels, rows, old, **words):
    upload = device.upload
    control = upload(control_words(**words))
    return struct(device, "Moves", labels=upload(labels), rows=upload(rows), old=upload(old), control=control)


def sum_grid(device, grid, weight_grid):
    scales = device.upload(scale_words(weight_scale=weight_grid.scale[0]))
    sizes = {"limb_size": 2.0**grid.bits, "weight_limb_size": 2.0**weight_grid.bits}
    return struct(device, "SumGrid", scale=device.upload(grid.scale), scales=scales, **sizes)


def move(device, X, weight, old, new, k, grid, weight_grid, *, vector=None, blocks=3, width=None, own=None, **words):
    """Exact sums and weights after rows went from `old` to `new` (all but those that stay are listed, in disorder)."""
    (n, d), shape = X.shape, tuning.move_shape(*X.shape)
    width = width or shape.block[0]
    listed = np.random.default_rng(9).permutation(np.flatnonzero(old != new)).astype(np.int32)
    lists = [np.full(n, -7, np.int32) for _ in range(2)]
    lists[0][: len(listed)], lists[1][: len(listed)] = listed, old[listed]
    limbs = max(grid.n_limbs, weight_grid.n_limbs)
    vector = d % tuning.QUAD == 0 if vector is None else vector
    constants = tuning.move_constants(X.dtype, 4 if vector else 1, True, limbs, weight is not None)
    if own is not None:
        constants["OWN_LIMBS"] = int(own)
    sums, weight_sums = (
        filled(device, (limbs, k, d), np.int64),
        filled(device, (limbs, k), np.int64),
    )
    launch(
        device,
        "move_sums",
        constants,
        (blocks, -(-(-(-d // tuning.QUAD) + 1) // width)),
        (width, tuning.MOVE_THREADS // width),
        *(device.upload(X), None if weight is None else device.upload(weight), sum_grid(device, grid, weight_grid)),
        *(np.int32(n), np.int32(1), moves_struct(device, new, *lists, **{"N_MOVED": len(listed), **words})),
        struct(device, "Sums", sums=sums, weights=weight_sums, k=k, d=d),
    )
    sums, weight_sums = device.download(sums), device.download(weight_sums)
    assert not sums[grid.n_limbs :].any()
    assert not weight_sums[weight_grid.n_limbs :].any()
    return sums[: grid.n_limbs], weight_sums[: weight_grid.n_limbs]


def row_distance(device, X, C, labels, weight=None):
    distances, largest = device.empty(len(X), np.float64), filled(device, 1, np.float64)
    args = (
        *(rows_struct(device, X), device.upload(C), np.int32(len(C)), device.upload(labels)),
        *(None if weight is None else device.upload(weight), distances, largest),
    )
    launch(device, "row_distance", tuning.row_center_constants(X.dtype), 3, 256, *args)
    return device.download(distances), float(device.download(largest)[0])
