"""Launches of the kernels of k-means++ over dense rows, and bounds of the errors of their potentials."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from gpukmeans.backends.cuda import tuning
from gpukmeans.certificates.seeds import SKIP_FACTOR, SKIP_FLOOR, SeedRadii
from gpukmeans.exact.tie_break import largest_integer
from tests.support.launches.common import filled, launch, rows_struct, struct

SIZES = [(1, 1), (255, 3), (257, 33), (300, 36), (520, 8)]

BLOCK = tuning.SEEDING_BLOCK


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


def so_far(device, closest, owners):
    return struct(device, "Closest", closest=closest, owners=owners)


def near_test(device, bounds):
    return struct(device, "NearTest", shrink=bounds.shrink, margin=bounds.margin)


def trials(device, candidates):
    return struct(device, "Trials", candidates=device.upload(candidates.astype(np.int32)), n_trials=candidates.shape[1])


# ---- seed_add and seed_accept ----------------------------------------------------------------------------------------


def add(device, X, seeds, *, weight=None, screened=False, parts=None):
    """closest, owners and sums of two runs, after their seeds came in parts."""
    n = len(X)
    n_runs, count = seeds.shape
    closest, owners = filled(device, n_runs * n, np.float64, 0x7F), filled(device, n_runs * n, np.int32, 0xFF)
    sums = device.empty((n_runs, len(blocks_of(n))), np.float64)
    bounds = radii_of(X, weight).of_gain(60.0, wide=False)
    for first, many in parts or [(0, count)]:
        launch(
            device,
            "seed_add",
            kept_constants(X),
            (len(blocks_of(n)), n_runs),
            256,
            *(rows_struct(device, X), optional(device, weight)),
            struct(
                device,
                "Listed",
                seeds=device.upload(seeds.astype(np.int32)),
                n_listed=count,
                first=first,
                count=many,
            ),
            *(np.int32(screened), near_test(device, bounds), so_far(device, closest, owners), sums),
        )
    return (
        device.download(closest).reshape(n_runs, n),
        device.download(owners).reshape(n_runs, n),
        device.download(sums),
    )


def awkward_rows(name, n, local):
    """float32 rows on which a careless bound of distances fails."""
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


def gain(device, X, weight, closest, owners, candidates, *, wide=None, reach=None, radius=None):
    """Bits of the rows near each candidate, sums of gains, and their radius."""
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
        *(rows_struct(device, X), optional(device, weight)),
        so_far(device, device.upload(closest.reshape(-1)), device.upload(owners.reshape(-1))),
        trials(device, candidates),
        struct(device, "Progress", state=None, n_clusters=0 if reach is None else reach.shape[1]),
        struct(device, "Skip", reach=optional(device, reach), factor=SKIP_FACTOR, floor=SKIP_FLOOR),
        near_test(device, radius),
        struct(device, "Gains", near=near, sums=sums),
    )
    return device.download(near).reshape(n_runs, n), device.download(sums), radius
