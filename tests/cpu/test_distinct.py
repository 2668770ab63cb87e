"""Rows that repeat: a run over the distinct ones has the labels, sums and records of one over all."""

from __future__ import annotations

import numpy as np
import pytest

from gpukmeans.backends.cpu import sums
from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.backends.cpu.distinct import DistinctTable, distinct_table
from gpukmeans.exact.sums import Grid
from gpukmeans.threads import Workers
from tests.support.assertions import assert_same
from tests.support.law_cases import fit

ONCE, EACH = NumpyBackend(lockstep=False), NumpyBackend(lockstep=False, sort=False)


def colours(dtype, n=9000, d=3):
    """Rows (n, d), most of them repeated, a third of them one; zeros of both signs."""
    local = np.random.default_rng(0)
    X = np.abs(local.integers(-9, 9, (n, d))) * (28 if dtype == np.uint8 else 0.1)
    X[: n // 3] = X[0]
    if dtype != np.uint8:
        X[local.random(X.shape) < 0.05] *= -0.0
    return X.astype(dtype)


@pytest.mark.parametrize(
    ("dtype", "d", "weighted", "most"),
    [
        (np.uint8, 3, False, None),
        (np.float32, 3, False, None),
        (np.float64, 3, True, None),
        (np.float64, 12, True, None),
        (np.float32, 12, False, 64),
    ],
)
def test_distinct_rows_change_no_bit(dtype, d, weighted, most, monkeypatch):
    """From equal centers and a far one, so that clusters are empty and rows must be given to them.

    `most` rows are summed at a time, so that some count in pieces.
    """
    if most is not None:
        monkeypatch.setattr(sums, "EXACT_ROWS", most)
        monkeypatch.setattr(sums, "PIECE", most // 2)
    X = np.tile(colours(dtype), d // 3)
    start = X[[0, 5000, 1, 5001, 5002, 5002]].astype(np.float64)
    start[2] = 1e4
    weight = np.random.default_rng(1).random(len(X)) if weighted else None
    assert isinstance(ONCE.load(X, weight).start(start)._table, DistinctTable)
    steps = [], []
    got, want = (
        fit(X, 6, backend, init=start, tol=0, max_iter=9, progress=seen.append, sample_weight=weight)
        for backend, seen in zip((ONCE, EACH), steps, strict=True)
    )
    assert_same(got, want)
    assert steps[0][0].n_relocated > 0
    for ours, theirs in zip(*steps, strict=True):
        assert (ours.n_moved, ours.shift, ours.n_relocated) == (theirs.n_moved, theirs.shift, theirs.n_relocated)
        assert ours.n_skipped + ours.n_certified + ours.n_resolved + ours.n_exact + ours.n_uncertain == len(X)
    runs = [backend.load(X, weight).start(want.cluster_centers_) for backend in (ONCE, EACH)]
    for run in runs:
        run.assign()
    assert np.array_equal(runs[0].sums()[0], runs[1].sums()[0])
    assert np.array_equal(runs[0].sums()[1], runs[1].sums()[1])
    assert np.array_equal(runs[0].inertias(), runs[1].inertias())
    assert np.array_equal(runs[0].farthest(50), runs[1].farthest(50))


def test_rows_that_must_be_looked_at_one_by_one():
    """Few rows, and rows that hardly repeat, are not worth the search."""
    X = colours(np.float32)
    assert distinct_table(EACH.load(X).table).n_samples < len(X)
    spread = np.random.default_rng(1).random(X.shape)
    for rows in (EACH.load(X[:100]), EACH.load(spread)):
        assert distinct_table(rows.table) is rows.table


def test_rows_that_count_in_pieces(monkeypatch):
    """Rows 0, 0 and 2 are not the first three rows, though they are as many."""
    monkeypatch.setattr(sums, "EXACT_ROWS", 64)
    monkeypatch.setattr(sums, "PIECE", 16)
    X, counts = np.arange(36.0).reshape(4, 9), np.array([32, 1, 1, 40])
    rows, labels = np.array([0, 2, 3]), np.array([1, 0, 1], np.int32)
    found = sums.DenseSums(X, None, Grid.for_rows(X, None), 2, counts=counts)
    found.add(rows, np.full(3, -1, np.int32), labels, Workers(1))
    want = np.stack([X[2], 32 * X[0] + 40 * X[3]])
    assert np.array_equal(Grid.for_rows(X, None).value(found.sums), want)
    assert found.weights.tolist() == [[1, 72]]
