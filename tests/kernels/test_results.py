"""The kernels of what methods return: distances to every center, and which clusters have a row."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from sklearn.metrics.pairwise import euclidean_distances

from gpukmeans.arrays.on_device import center_dtype
from gpukmeans.backends.cpu.distances import order_by_labels
from gpukmeans.backends.cuda import tuning
from tests.emulator.testing import skip_without_compiler
from tests.support.launches.common import (
    IN_ORDER,
    ROW_DTYPES,
    filled,
    launch,
    plain_square_distance,
    rows_and_centers,
    watched,
)
from tests.support.launches.faults import assert_fault_is_seen, some_weekly
from tests.support.oracles import nearest


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


def center_distances(device, X, C, labels, *, blocks=2):
    constants = tuning.transform_constants(X.dtype, wide=C.dtype != np.float32)
    out = device.empty((len(X), len(C)), C.dtype)
    sizes = np.int64(len(X)), np.int32(X.shape[1]), np.int32(len(C))
    args = (device.upload(X), device.upload(C), device.upload(labels), *sizes, out)
    launch(device, "center_distances", constants, blocks, 256, *args)
    return device.download(out)


def check_distances(device, dtype, center_dtype, k, d, n=21):
    X, C = rows_and_centers(n, k, d, dtype)
    C = C.astype(center_dtype)
    plain = [
        [math.sqrt(plain_square_distance(x.astype(np.float64), c.astype(np.float64))) for c in C] for x in X
    ]  # Python's square root is correctly rounded
    rounded = np.array(plain).astype(center_dtype)
    for labels in (rounded.argmin(axis=1), np.random.default_rng(0).integers(0, k, n)):
        labels = labels.astype(np.int32)
        want = rounded.copy()
        order_by_labels(want, labels)
        assert np.array_equal(center_distances(device, X, C, labels), want)
        assert np.array_equal(want.argmin(axis=1), labels)


@ROW_DTYPES
@pytest.mark.parametrize(("k", "d"), [(1, 1), (3, 33), (9, 100)])
def test_distances_to_every_center_are_the_plain_ones(dtype, k, d):
    for their_dtype in {np.dtype(np.float64), center_dtype(np.dtype(dtype))}:
        check_distances(watched("random", 1), dtype, their_dtype, k, d)


def test_the_label_comes_first_where_distances_are_beyond_float32():
    X = (3e38 * np.random.default_rng(0).uniform(-1, 1, (60, 7))).astype(np.float32)
    C = np.ascontiguousarray(X[:5] * np.float32(0.99))
    labels = nearest(X, C).astype(np.int32)
    with np.errstate(over="ignore"):
        want = euclidean_distances(X.astype(np.float64), C.astype(np.float64)).astype(np.float32)
    assert np.count_nonzero(np.isinf(want).all(axis=1) & (labels > 0)) > 20
    order_by_labels(want, labels)
    got = center_distances(watched(), X, C, labels)
    assert np.array_equal(got.argmin(axis=1), labels)
    assert np.array_equal(np.isinf(got), np.isinf(want))
    assert np.allclose(got, want, rtol=1e-6)


def test_close_rows_far_from_the_origin_keep_their_distances():
    """Where |x|^2 - 2 x.c + |c|^2 cancels to nothing: rational arithmetic knows."""
    rng = np.random.default_rng(0)
    C = 1e6 + rng.standard_normal((3, 20))
    X = C[rng.integers(0, 3, 40)] + 1e-4 * rng.standard_normal((40, 20))
    got = center_distances(watched(), X, C, nearest(X, C))
    for x, distances in zip(X, got, strict=True):
        for c, distance in zip(C, distances.tolist(), strict=True):
            square = sum((Fraction(a) - Fraction(b)) ** 2 for a, b in zip(x.tolist(), c.tolist(), strict=True))
            assert abs(Fraction(distance) ** 2 - square) <= square / 2**49  # a few roundings: gamma(7 + 3), doubled
    near = got.min(axis=1)
    assert np.abs(euclidean_distances(X, C).min(axis=1) - near).max() > 0.1 * near.max()  # the case is a hard one


def used(device, labels, k):
    """Of each run, labels (n_runs, n)."""
    words = filled(device, (len(labels), -(-k // 32)), np.uint32)
    grid = (2, -(-k // tuning.USED_CLUSTERS), len(labels))
    args = (device.upload(labels), np.int64(labels.shape[1]), np.int32(k), words)
    launch(device, "used_clusters", {}, grid, 256, *args)
    return [
        np.flatnonzero(np.unpackbits(run.view(np.uint8), bitorder="little")).tolist() for run in device.download(words)
    ]


@IN_ORDER
@pytest.mark.parametrize("k", [1, 31, 32, 33, 1000, (1 << 17) + 40])
def test_every_cluster_with_a_row_is_seen(order, seed, k):
    rng = np.random.default_rng(k)
    labels = rng.integers(0, k, (3, 601)).astype(np.int32)
    labels[:, -1] = k - 1
    assert used(watched(order, seed), labels, k) == [sorted(set(run.tolist())) for run in labels]
    assert used(watched(order, seed), labels[:1, -1:].copy(), k) == [[k - 1]]


# ---- the checks can fail ---------------------------------------------------------------------------------------------


def distances_of_seven(device):
    check_distances(device, np.float32, np.float32, 7, 40)


def many_clusters(device):
    k = (1 << 17) + 40
    labels = np.arange(0, 2 * (k - k % 14), 7, dtype=np.int32).reshape(2, -1)
    labels[1] //= 2
    assert used(device, labels, k) == [sorted(set(run.tolist())) for run in labels]


FAULTS = {
    "the last centers are written twice": (distances_of_seven, "lane < TOGETHER && j0 + lane < k", "lane < TOGETHER"),
    "squares, not distances": (distances_of_seven, "__dsqrt_rn(own)", "own"),
    "columns beyond the first warp are left out": (
        distances_of_seven,
        "f < d; f += WARP",
        "f < min(d, WARP); f += WARP",
    ),
    "marks are made before the slate is clean": (many_clusters, "__syncthreads();  // nothing is seen yet", ""),
    "marks are read too early": (many_clusters, "__syncthreads();  // all marks are made", ""),
    "marks are not atomic": (
        many_clusters,
        "atomicOr(seen + j / 32, 1u << (j % 32));",
        "seen[j / 32] |= 1u << (j % 32);",
    ),
    "all parts go to the first": (many_clusters, "used + first / 32 + w", "used + w"),
    "all runs go to the first": (many_clusters, "used += (long long)blockIdx.z * ((k + 31) / 32);", ""),
}


@pytest.mark.parametrize("name", some_weekly(FAULTS))
def test_planted_faults_are_caught(name):
    run, good, bad = FAULTS[name]
    assert_fault_is_seen(name, run, good, bad)
