"""Rows in CSR for the CUDA kernels, single launches, and plain Python of what these should return."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from scipy import sparse

from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda.backend import CupyBackend
from tests.emulator import EmulatorDevice
from tests.support.launches.common import filled, launch, moves_struct, struct, sum_grid


def rows_of(n, d, density, dtype=np.float64, seed=0, *, whole=False):
    """Random rows in CSR, of which some are empty and some appear twice; some stored entries are zero."""
    local = np.random.default_rng(seed)
    X = sparse.random_array((n, d), density=density, rng=local, format="csr")
    X.data = local.integers(-5, 6, X.nnz) * 1.0 if whole else local.standard_normal(X.nnz) * 3
    X.data[::17] = 0.0
    X = sparse.csr_array(X[np.where(np.arange(n) % 7, np.arange(n), 0)]).astype(dtype)
    X.data[X.indptr[3 % n] : X.indptr[3 % n + 1]] = 0.0
    X.sort_indices()
    return X


def load(X, weight=None, device=None, *, sums=True):
    return CupyBackend(device or EmulatorDevice()).load(X, weight, sums=sums)


def sparse_rows(device, X):
    """X as the kernels take it."""
    indptr, indices, data = (device.upload(a) for a in (X.indptr.astype(np.int64), X.indices.astype(np.int32), X.data))
    return struct(device, "SparseRows", {"ROW": X.dtype}, indptr=indptr, indices=indices, data=data)


def halfway(n, d, dtype=np.float64, seed=0, density=0.5):
    """Sparse rows as far from one center as from another but for rounding, and these centers."""
    local = np.random.default_rng(seed)
    centers = local.standard_normal((2, d))
    dense = np.where(local.random((n, d)) < density, local.standard_normal((n, d)), 0.0)
    near = centers[1] - centers[0]
    stored = dense != 0.0
    gap = (dense - (centers[0] + centers[1]) / 2) @ near
    dense -= np.where(stored, near, 0.0) * (gap / np.maximum((stored * near * near).sum(axis=1), 1e-9))[:, None]
    return sparse.csr_array(dense.astype(dtype)), centers.astype(dtype)


def move(device, X, weight, old, new, k, grid, weight_grid, *, blocks=3, **words):
    """Exact sums and weights after rows went from `old` to `new` (all but those that stay are listed, in disorder)."""
    n, d = X.shape
    listed = np.random.default_rng(9).permutation(np.flatnonzero(old != new)).astype(np.int32)
    lists = [np.full(n, -7, np.int32) for _ in range(2)]
    lists[0][: len(listed)], lists[1][: len(listed)] = listed, old[listed]
    limbs = max(grid.n_limbs, weight_grid.n_limbs)
    sums, weight_sums = filled(device, (limbs, k, d), np.int64), filled(device, (limbs, k), np.int64)
    launch(
        device,
        "sparse_move_sums",
        tuning.sparse_move_constants(X.dtype, limbs, weight is not None),
        blocks,
        256,
        *(
            sparse_rows(device, X),
            None if weight is None else device.upload(weight),
            sum_grid(device, grid, weight_grid),
        ),
        moves_struct(device, new, *lists, **{"N_MOVED": len(listed), **words}),
        struct(device, "Sums", sums=sums, weights=weight_sums, k=k, d=d),
    )
    sums, weight_sums = device.download(sums), device.download(weight_sums)
    assert not sums[grid.n_limbs :].any()
    assert not weight_sums[weight_grid.n_limbs :].any()
    return sums[: grid.n_limbs], weight_sums[: weight_grid.n_limbs]


def weights_of(n):
    """Weights, some of them zero."""
    return np.random.default_rng(7).uniform(0.1, 3, n) * (np.arange(n) % 5 != 4)


def row_distance(device, X, C, labels, weight=None):
    n, d = X.shape
    distances, largest = device.empty(n, np.float64), filled(device, 1, np.float64)
    weights = None if weight is None else device.upload(weight)
    args = (sparse_rows(device, X), device.upload(C), device.upload(labels), weights, np.int64(n), np.int32(d))
    constants = tuning.row_center_constants(X.dtype)
    launch(device, "sparse_row_distance", constants, 3, 256, *args, distances, largest)
    return device.download(distances), float(device.download(largest)[0])


def lookup(device, X, rows, width):
    table = filled(device, (X.shape[1], width), X.dtype)
    args = (sparse_rows(device, X), device.upload(np.asarray(rows, np.int32)), np.int32(len(rows)), np.int32(width))
    launch(device, "sparse_lookup", tuning.row_constants(X.dtype), 1, 256, *args, table)
    return device.download(table)


def plain_scores(x, C, scale, lanes):
    """Scores of one row, (columns, values), as kernels/sparse_nearest.cu adds them up, rounding by rounding.

    Half squares are taken exactly and rounded once, which is within every error bound.
    """
    groups, scores = 32 // lanes, []
    columns, values = x
    for c in C.astype(np.float64):
        dots = [0.0] * groups
        for e, (f, value) in enumerate(zip(columns.tolist(), values.astype(np.float64).tolist(), strict=True)):
            g = e % 32 % groups
            dots[g] = float(Fraction(dots[g]) + Fraction(value) * Fraction(c[f]))
        while len(dots) > 1:  # neighbouring groups first
            dots = [dots[g] + dots[g + 1] for g in range(0, len(dots), 2)]
        start = -float(sum(Fraction(v) ** 2 for v in c.tolist()) * Fraction(scale) ** 2 / 2)
        scores.append(float(Fraction(dots[0]) * Fraction(scale) ** 2 + Fraction(start)))
    return scores


def true_scores(x, C, scale):
    """The same without rounding."""
    columns, values = x
    found = []
    for c in C.astype(np.float64):
        dot = sum(
            (Fraction(v) * Fraction(c[f]) for f, v in zip(columns.tolist(), values.tolist(), strict=True)), Fraction()
        )
        square = sum((Fraction(v) ** 2 for v in c.tolist()), Fraction())
        found.append((dot - square / 2) * Fraction(scale) ** 2)
    return found
