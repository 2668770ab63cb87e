"""Decisions of k-means++ in fixed point, against Fractions: dense and sparse rows, with weights, in blocks of a few."""

from __future__ import annotations

from bisect import bisect_left
from fractions import Fraction
from itertools import accumulate

import numpy as np
import pytest
from scipy import sparse

import gpukmeans.engine.seeding.exact as exact
from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.engine.seeding.exact import ExactPotentials

N = 23


def terms_of(X, weight, seeds):
    """Weight times the squared distance to the nearest seed, of every row."""
    rows = [[Fraction(v) for v in row] for row in X.tolist()]
    weights = [Fraction(1)] * len(rows) if weight is None else [Fraction(w) for w in weight.tolist()]

    def square(a, b):
        return sum(((v - w) ** 2 for v, w in zip(a, b, strict=True)), Fraction(0))

    return [w * min(square(row, rows[s]) for s in seeds) for w, row in zip(weights, rows, strict=True)]


@pytest.fixture(params=["dense", "csr"])
def form(request, monkeypatch):
    monkeypatch.setattr(exact, "BLOCK", 4)
    return np.asarray if request.param == "dense" else sparse.csr_array


def problem(seed, form):
    """Thirds, tenths or numbers of very different size, many of them twice; half of the problems have weights."""
    local = np.random.default_rng(seed)
    X = local.integers(-3, 4, (N, 3)) * [1 / 3, 0.1, 1.0][seed % 3]
    if seed % 4 == 3:
        X = X * 10.0 ** local.integers(-9, 9, (N, 1))
    weight = local.integers(1, 9, N) / 7.0 * (local.random(N) < 0.8) if seed % 2 else None
    return X, weight, ExactPotentials(NumpyBackend().load(form(X), weight), weight), local


@pytest.mark.parametrize("seed", range(4))
def test_a_draw_hits_the_row_at_which_the_sum_reaches_it(form, seed):
    """Draws at the edges of all rows, as near as floats come to them, and between."""
    X, weight, potentials, _ = problem(seed, form)
    chosen = [2, 11, 17]
    running = list(accumulate(terms_of(X, weight, chosen)))
    edges = {float(r / running[-1]) for r in running}
    draws = {0.0, *np.random.default_rng(seed).random(10)} | {np.nextafter(e, to) for e in edges for to in (0, e, 1)}
    for u in sorted(d for d in draws if d < 1):
        assert potentials.locate(u, chosen) == bisect_left(running, running[-1] * Fraction(u)), u


@pytest.mark.parametrize("seed", range(4))
def test_rows_are_kept_whose_draw_is_below_their_share(form, seed):
    """Draws at their very shares, and a unit of the last place to either side."""
    X, weight, potentials, local = problem(seed, form)
    chosen = [5, 3]
    terms = terms_of(X, weight, chosen)
    ids = local.permutation(N)[:9]
    for factor in (1, 6):
        shares = np.array([float(factor * terms[i] / sum(terms)) for i in ids.tolist()])
        for draws in (shares, np.nextafter(shares, 0), np.nextafter(shares, 2)):
            want = [
                Fraction(u) * sum(terms) < factor * terms[i] for i, u in zip(ids.tolist(), draws.tolist(), strict=True)
            ]
            assert potentials.kept(ids, draws, factor, chosen) == want


@pytest.mark.parametrize("seed", range(12))
def test_the_smallest_potential_wins_and_of_equal_ones_the_first(form, seed):
    X, weight, potentials, local = problem(seed, form)
    chosen = [7, 20]
    ids = local.permutation(N)[:6]
    ids[3] = ids[1]
    left = [sum(terms_of(X, weight, [*chosen, i])) for i in ids.tolist()]
    before = terms_of(X, weight, chosen)
    gaining = [
        any(t > min(t, u) for u in terms)
        for t, *terms in zip(before, *(terms_of(X, weight, [i]) for i in ids.tolist()), strict=True)
    ]
    with_others = np.flatnonzero(np.array(gaining) | (local.random(N) < 0.2))
    for nearer in (None, np.flatnonzero(gaining), with_others, np.arange(N)):
        assert potentials.smallest(ids, chosen, nearer) == left.index(min(left))
    assert potentials.smallest(ids[:1], chosen) == 0
    assert potentials.smallest(np.array(chosen), chosen) == 0  # no row is nearer to a seed than to that seed


def test_a_draw_at_the_very_edge_of_a_row_hits_it(form):
    """Also where the edge is that of a block of four rows."""
    X = np.array([[0.0], [1.0], [-1.0], [0.0], [1.0], [1.0]])
    potentials = ExactPotentials(NumpyBackend().load(form(X)), None)
    assert [potentials.locate(u, [0]) for u in (0.0, 0.25, 0.5, 0.75, 1 - 2.0**-53)] == [0, 1, 2, 4, 5]
