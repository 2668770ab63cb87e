"""The clusters of `kmeans_1d` are the best of all partitions, in fractions."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

import gpukmeans
from gpukmeans.engine import optimal_line
from gpukmeans.engine.optimal_line import row_minima
from gpukmeans.exact.segments import Segments
from tests.support.oracles import inertia


def numbers(kind, n, local):
    x = local.standard_normal(n)
    if kind == "equally spaced":
        x = local.permutation(40)[:n].astype(float)
    if kind == "common offset":
        x = 1e9 + x
    if kind == "two clumps":
        x = 1e9 * (1e-13 * x + local.integers(0, 2, n))
    if kind == "equal ones":
        x = np.round(x)
    return x


def best_partition(x, weight, n_clusters):
    """The first numbers of all clusters but the lowest: of equal costs those with the last one lowest, and so on."""
    distinct = sorted({v for v, w in zip(x.tolist(), weight.tolist(), strict=True) if w})
    exact = [(Fraction(v), Fraction(w)) for v, w in zip(x.tolist(), weight.tolist(), strict=True)]

    def cost(low, high):
        some = [(v, w) for v, w in exact if w and low <= v < high]
        total = sum(w for _, w in some)
        mean = sum(v * w for v, w in some) / total
        return sum(w * (v - mean) ** 2 for v, w in some)

    ends = [*distinct, np.inf]
    costs = {pair: cost(*pair) for pair in itertools.combinations(ends, 2)}
    found = []
    for firsts in itertools.combinations(distinct[1:], min(n_clusters, len(distinct)) - 1):
        cuts = [distinct[0], *firsts, np.inf]
        found.append((sum(costs[pair] for pair in itertools.pairwise(cuts)), firsts[::-1]))
    return min(found)[1][::-1]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("blocks", [1, 2, 1024])
@pytest.mark.parametrize("kind", ["plain", "equally spaced", "common offset", "two clumps", "equal ones"])
def test_clusters_are_the_best_of_all_partitions(monkeypatch, kind, blocks):
    """From the coarsest blocks, and without; minima by halving, and by comparing all pairs."""
    monkeypatch.setattr(optimal_line, "BLOCKS", blocks)
    monkeypatch.setattr(optimal_line, "PAIRS", 0 if blocks == 2 else optimal_line.PAIRS)
    local = np.random.default_rng(5)
    for weights in (None, [0.0, 0.1, 1.0, 3.0], None, [0.0, 0.1, 1.0, 3.0], 2.0 ** np.arange(-99, 30)):
        n = int(local.integers(4, 11))
        x, k = numbers(kind, n, local), int(local.integers(1, 5))
        weight = None if weights is None else local.choice(weights, n)
        if weight is not None:
            weight[0] = 1.0
        found = gpukmeans.kmeans_1d(x, k, sample_weight=weight)
        heavy = np.ones(n) if weight is None else weight
        want = np.searchsorted(np.array(best_partition(x, heavy, k)), x, "right")
        assert np.array_equal(found.labels[heavy > 0], want[heavy > 0])
        light = np.flatnonzero(heavy == 0.0)
        assert np.array_equal(found.labels[light], np.abs(x[light, None] - found.centers).argmin(axis=1))
        true = inertia(x[:, None], found.centers[:, None], found.labels, weight)
        assert abs(Fraction(found.inertia) - true) <= true * Fraction(2.0**-48)
        for j, center in enumerate(found.centers.tolist()):
            own = [(Fraction(v), Fraction(w)) for v, w in zip(x.tolist(), heavy.tolist(), strict=True)]
            own = [pair for pair, label in zip(own, found.labels, strict=True) if label == j]
            mean = sum(v * w for v, w in own) / sum(w for _, w in own)
            grid = np.abs(x).max() * 2.0**-70 if weight is None else 0.0  # of the sums
            assert abs(Fraction(center) - mean) <= abs(mean) * Fraction(2.0**-52) + Fraction(grid)


def test_many_numbers_far_from_zero_have_the_optimum_of_the_same_without_offset():
    """Several layers of blocks; costs of numbers about 1e9 cancel 18 of float64's 16 digits."""
    x = np.random.default_rng(6).integers(0, 1 << 20, 8_000) / 2.0**20
    near, far = gpukmeans.kmeans_1d(x, 9), gpukmeans.kmeans_1d(x + 2.0**30, 9)
    assert np.array_equal(near.labels, far.labels)
    fits = [gpukmeans.fit(x[:, None], 9, random_state=seed, backend="numpy", tol=0).inertia_ for seed in range(2)]
    assert near.inertia <= min(fits)
    again = gpukmeans.fit(x[:, None], 9, init=near.centers[:, None], backend="numpy", tol=0)
    assert again.n_iter_ == 1
    assert np.array_equal(again.labels_, near.labels)
    assert again.inertia_ == near.inertia


def test_costs_are_within_their_error():
    local = np.random.default_rng(7)
    x = np.sort(1e9 + local.standard_normal(12) * 10.0 ** local.integers(-6, 3, 12))
    weight = local.random(12)
    segments = Segments(x, weight)
    starts, stops = np.triu_indices(13, 1)
    for start, stop, cost in zip(starts, stops, segments.costs(starts, stops), strict=True):
        v, w = [Fraction(a) for a in x[start:stop].tolist()], [Fraction(b) for b in weight[start:stop].tolist()]
        mean = sum(a * b for a, b in zip(v, w, strict=True)) / sum(w)
        true = sum(b * (a - mean) ** 2 for a, b in zip(v, w, strict=True))
        assert abs(Fraction(float(cost)) - true) <= Fraction(segments.error) + true * Fraction(2.0**-51)
    assert segments.error < 1e-10


@pytest.mark.parametrize("shape", [(1, 7), (5, 1), (37, 23), (64, 64)])
def test_row_minima_of_a_matrix_with_rising_places(monkeypatch, shape):
    monkeypatch.setattr(optimal_line, "PAIRS", 0)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    matrix = np.abs(rows * shape[1] / shape[0] - columns) + 0.5 * np.sin(columns)
    matrix = matrix + 2.0 * (rows * shape[1] / shape[0] - columns) ** 2
    least, where = row_minima(lambda i, j: matrix[i, j], *shape)
    assert np.array_equal(where, matrix.argmin(axis=1))
    assert np.array_equal(least, matrix.min(axis=1))


def test_kinds_of_input():
    x = [5.0, 1.0, 2.0, 6.0]
    want = gpukmeans.kmeans_1d(x, 2)
    assert want.labels.tolist() == [1, 0, 0, 1]
    assert want.labels.dtype == np.int32
    for other in (np.array(x, np.float32), np.array(x, np.uint8)[:, None], np.array(x) * 2.0**-500):
        assert np.array_equal(gpukmeans.kmeans_1d(other, 2).labels, want.labels)
    with pytest.warns(ConvergenceWarning, match=r"distinct numbers of positive weight \(1\) found smaller .*\(3\)"):
        assert gpukmeans.kmeans_1d([2.0, 2.0, 2.0], 3).centers.tolist() == [2.0]
    with pytest.raises(ValueError, match="x of 2 features should be one column"):
        gpukmeans.kmeans_1d(np.ones((3, 2)), 2)
    with pytest.raises(ValueError, match=r"contains NaN.\nkmeans_1d does not"):
        gpukmeans.kmeans_1d([0.0, np.nan], 1)
    with pytest.raises(ValueError, match="n_samples=1 should be >= n_clusters=2"):
        gpukmeans.kmeans_1d([0.0], 2)
