"""Rows of one feature: sorted rows end in the bits of the general way, boundaries in those of real arithmetic."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

from gpukmeans import KMeans
from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.backends.cpu.line.run import LineRun
from gpukmeans.engine.seeding.plusplus import kmeans_plusplus
from gpukmeans.exact.midpoints import boundaries
from tests.support.assertions import assert_same
from tests.support.law_cases import fit

SORTED, GENERAL = NumpyBackend(lockstep=False), NumpyBackend(lockstep=False, sort=False)


def numbers(kind, n=150, seed=0):
    """Rows (n, 1), float64."""
    local = np.random.default_rng(seed)
    x = local.standard_normal(n)
    if kind == "spread":
        x *= np.exp(15.0 * local.standard_normal(n))
    if kind == "far":
        x += 1e6
    if kind == "few":
        x = local.integers(0, 5, n) * 0.5
    if kind == "whole":
        x = np.abs(np.rint(40.0 * x)) % 256
    return x[:, None]


@pytest.mark.parametrize("init", ["k-means++", "random", "k-means||", "given"])
@pytest.mark.parametrize("weights", [None, "some"])
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("plain", "f4"),
        ("plain", "f8"),
        ("spread", "f8"),
        ("far", "f4"),
        ("few", "f4"),
        ("whole", "u1"),
        ("whole", "f8"),
    ],
)
def test_sorted_rows_end_in_the_bits_of_the_general_way(kind, dtype, weights, init):
    X = numbers(kind).astype(dtype)
    local = np.random.default_rng(1)
    params = {"init": init, "n_init": 2, "random_state": 3, "tol": local.choice([0.0, 1e-3]), "max_iter": 25}
    if init == "given":  # equal centers, one out of the way that empties, one between two rows
        start = np.array([X[0], X[0], X.max(axis=0) * 8.0 + 9.0, (X[1] + X[2].astype(float)) / 2, X[5]], float)
        params |= {"init": start, "n_init": 1}
    weight = None if weights is None else local.random(len(X)) * (np.arange(len(X)) % 4 > 0)
    calls, models = [], []
    for backend in (SORTED, GENERAL):
        seen = []
        callback = (lambda *told, seen=seen: seen.append(told)) if kind == "plain" else None
        models.append(fit(X, 5, backend, sample_weight=weight, callback=callback, **params))
        calls.append(seen)
    assert_same(*models)
    assert calls[0] == calls[1]
    told = [[(i.init, i.n_moved, i.shift, i.n_relocated) for i in model.fit_report_.iterations] for model in models]
    assert told[0] == told[1]
    other = np.concatenate([X, X[::-1] + X.dtype.type(1)])
    assert np.array_equal(models[0].predict(other), models[1].predict(other))
    assert models[0].score(other) == models[1].score(other)


def test_rows_of_one_feature_are_sorted_unless_switched_off():
    X = numbers("plain")
    assert isinstance(SORTED.load(X).start(X[:2]), LineRun)
    for name in ("sort", "skip", "screen", "project"):
        assert not isinstance(NumpyBackend(**{name: False}).load(X).start(X[:2]), LineRun)
    assert not isinstance(SORTED.load(np.hstack([X, X])).start(np.hstack([X, X])[:2]), LineRun)


@pytest.mark.parametrize("of_centers", [np.float32, np.float64])
@pytest.mark.parametrize("of_rows", [np.float32, np.float64])
def test_boundaries_are_those_of_real_arithmetic(of_rows, of_centers):
    """Centers whose midpoints lie on numbers of the rows, beside them, and far below the last bit of their sum."""
    local = np.random.default_rng(2)
    tiny = np.nextafter(of_centers(0), of_centers(1))
    values = [
        0.0,
        -0.0,
        1.0,
        3.0,
        3.0,
        np.nextafter(of_centers(3), of_centers(4)),
        2.0**-90,
        -1.0,
        tiny,
        -3 * tiny,
        2.0**40,
    ]
    for _ in range(30):
        centers = np.array(local.permutation(values)[:5], of_centers)
        found = boundaries(centers, np.dtype(of_rows))
        halves = [(Fraction(float(a)) + Fraction(float(b))) / 2 for a, b in itertools.combinations(centers, 2)]
        near = np.array([float(half) for half in halves], of_rows)
        x = np.concatenate([near, np.nextafter(near, of_rows(-np.inf)), np.nextafter(near, of_rows(np.inf))])
        got = found.ids[found.firsts.searchsorted(x, "right")]
        for value, label in zip(x, got, strict=True):
            apart = [abs(Fraction(float(value)) - Fraction(float(c))) for c in centers]
            assert label == apart.index(min(apart))


@pytest.mark.parametrize("kind", ["plain", "few", "whole", "spread"])
def test_seeds_are_those_of_the_general_way(kind):
    """Over several blocks of rows, whose numbers of rows no block divides."""
    X = numbers(kind, 5000)
    for seed, weight in [(0, None), (1, np.random.default_rng(4).integers(0, 3, len(X)).astype(float))]:
        p = (np.ones(len(X)) if weight is None else weight) / (len(X) if weight is None else weight.sum())
        drawn = [
            kmeans_plusplus(backend.load(X, weight), 12, np.random.RandomState(seed), p, weight)
            for backend in (SORTED, GENERAL)
        ]
        assert np.array_equal(*drawn)


def test_rows_that_are_not_finite_are_refused():
    model = KMeans(2, backend=SORTED, random_state=0).fit(numbers("plain").astype(np.float32))
    with pytest.raises(ValueError, match="Input X contains NaN"):
        model.predict(np.array([[0.0], [np.nan]], np.float32))
    with pytest.raises(ValueError, match="Input X contains infinity"):
        model.fit(np.array([[0.0], [np.inf]], np.float32))
