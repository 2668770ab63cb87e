"""Partials add up to the bits of a fit in memory, in any grouping."""

from __future__ import annotations

import pickle
import re
from functools import reduce
from itertools import pairwise
from operator import add

import numpy as np
import pytest
from scipy import sparse

import gpukmeans
from gpukmeans import Facts, KMeans, Partial, partial
from gpukmeans.exact.sums import Grid, exact_total
from gpukmeans.exact.totals import Total


def rows(kind, rng, n=400):
    X = rng.standard_normal((n, 5)) * 10.0 ** rng.integers(-6, 6, 5)
    if kind == "csr":
        X[rng.random(X.shape) < 0.6] = 0.0
        return sparse.csr_array(X)
    return (np.abs(X) % 251).astype(kind) if kind in ("uint8", "float16") else X.astype(kind)


def stepwise(parts, weights, centers):
    """The last partial, and the number of steps, of Lloyd's algorithm by partials, merged in a random order."""
    rng = np.random.default_rng(len(parts))
    offsets = np.cumsum([0, *(part.shape[0] for part in parts)])

    def merged(values):
        values = [values[i] for i in rng.permutation(len(values))]
        cut = len(values) // 2
        return reduce(add, [*values[:cut], *([reduce(add, values[cut:])] if values[cut:] else [])])

    grid = merged([Facts.of(part, w) for part, w in zip(parts, weights, strict=True)]).grid()
    labels = [None] * len(parts)
    for step in range(1, 100):
        found = [
            partial(part, centers, grid, offset=int(offset), labels=old, sample_weight=w, backend="numpy")
            for part, offset, old, w in zip(parts, offsets, labels, weights, strict=False)
        ]
        labels, total = [one.labels for one in found], merged([*found, Partial.zero(grid, centers)])
        before, centers = centers, total.new_centers()
        if not total.n_moved or np.array_equal(before, centers):  # rows without weight may move
            return total, np.concatenate(labels), step
    raise AssertionError("no end")


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("kind", ["uint8", "float16", "float32", "float64", "csr"])
def test_any_grouping_ends_in_the_bits_of_a_fit(kind, weighted):
    rng = np.random.default_rng(3)
    X = rows(kind, rng)
    n = X.shape[0]
    weight = np.round(rng.exponential(size=n), 3) * (rng.random(n) < 0.8) if weighted else None
    dense = X.toarray() if kind == "csr" else X
    start = dense[[0, 1, 2, 2, 2, 3]].astype(np.float64) + np.array([[0.0], [0], [0], [0], [1e9], [0]])  # two run empty
    want = KMeans(6, init=start, n_init=1, tol=0, backend="numpy").fit(X, sample_weight=weight)
    assert want.fit_report_.iterations[0].n_relocated > 0
    cuts = np.sort(rng.integers(0, n + 1, 6))
    edges = [0, *cuts.tolist(), n]
    parts = [X[a:b] for a, b in pairwise(edges)]
    weights = [None if weight is None else weight[a:b] for a, b in pairwise(edges)]
    total, labels, n_iter = stepwise(parts, weights, start)
    assert n_iter == want.n_iter_
    assert np.array_equal(labels, want.labels_)
    assert np.array_equal(total.centers, want.cluster_centers_)
    assert total.inertia() == want.inertia_
    assert np.array_equal(total.counts, np.bincount(labels, minlength=6))


def test_facts_make_the_grid_of_rows_in_memory():
    """Also where a block alone would do with one limb, and all rows do not."""
    rng = np.random.default_rng(0)
    for power in range(-45, 60, 7):
        X = np.concatenate([rng.integers(0, 9, (30, 2)).astype(np.float64), np.ldexp([[3.0, 1.0]], power)])
        for dtype in (np.float32, np.float64):
            want = Grid.for_rows(X.astype(dtype))
            found = reduce(add, [Facts.of(block) for block in np.array_split(X.astype(dtype), 4)]).grid().rows
            assert (found.n_limbs, found.bits) == (want.n_limbs, want.bits)
            assert np.array_equal(found.scale, want.scale)


def test_a_total_of_blocks_is_the_exact_total():
    rng = np.random.default_rng(1)
    for spread in (1, 10, 60, 300):
        terms = 1e-30 * np.exp(rng.uniform(-spread, spread / 2, 200)) * (rng.random(200) < 0.7)
        terms[:9] = 0.0  # a block of zeros alone
        parts = [Total.of(part, 200, 240) for part in np.split(terms, [9, *np.sort(rng.integers(9, 200, 5))])]
        assert reduce(add, [parts[i] for i in rng.permutation(7)]).value() == exact_total(terms)


def test_partials_of_other_centers_or_grids_are_refused_and_files_hold_them(tmp_path):
    X = np.array([[0.0], [1.0], [9.0], [10.0]])
    grid = Facts.of(X).grid()
    one = partial(X[:2], [[0.0], [9.0]], grid, offset=0)
    with pytest.raises(ValueError, match=r"different centers cannot be added: \w{12} and \w{12} "):
        one + partial(X[2:], [[0.0], [9.5]], grid, offset=2)
    with pytest.raises(ValueError, match="different grid"):
        one + partial(X[2:], [[0.0], [9.0]], Facts.of(X * 3).grid(), offset=2)
    with pytest.raises(ValueError, match="are of 2 rows; all 4 are needed"):
        one.new_centers()
    with pytest.raises(ValueError, match="float64 rows of 1 features without weights and uint8"):
        Facts.of(X) + Facts.of(X.astype(np.uint8))
    for wrong, error, message in [
        ({"offset": 3}, ValueError, "offset=3 is no place for 2 of 4 rows"),
        ({"grid": Facts.of(X)}, TypeError, "grid is of type Facts"),
        ({"centers": [0.0]}, ValueError, r"centers has shape \(1,\)"),
    ]:
        with pytest.raises(error, match=message):
            partial(X[:2], **{"centers": [[0.0], [9.0]], "grid": grid, "offset": 0} | wrong)
    with pytest.raises(TypeError, match="unsupported operand"):
        one + Facts.of(X)
    for weight in (0.0, 2.0**60):  # what a fit refuses
        with pytest.raises(ValueError, match="sample_weight"):
            Facts.of(X, np.full(4, weight)).grid()
    with pytest.raises(ValueError, match="contains NaN"):
        Facts.of(X * np.nan)
    with pytest.raises(ValueError, match="do not fit a grid for float64"):
        partial(X.astype(np.float32), [[0.0], [9.0]], grid, offset=0)
    other = partial(X[2:], [[0.0], [9.0]], grid, offset=2)
    want = gpukmeans.fit(X, 2, init=np.array([[0.0], [9.0]]), n_init=1, max_iter=1).cluster_centers_
    read = Partial.load(one.save(tmp_path / "one.npz"))
    for first in (read, pickle.loads(pickle.dumps(one))):
        assert np.array_equal((first + other).new_centers(), want)
        assert (first + other).inertia() == 2.0
    with pytest.raises(FileNotFoundError, match=re.escape(f"'{tmp_path / 'none' / 'one.npz'}'")):
        one.save(tmp_path / "none" / "one.npz")
    content = bytearray((tmp_path / "one.npz").read_bytes())
    content[len(content) // 2] ^= 4
    (tmp_path / "one.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"one\.npz"):
        Partial.load(tmp_path / "one.npz")
