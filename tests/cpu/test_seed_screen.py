"""What k-means++ leaves unread or reads in float32 changes no draw, and its radii hold against rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.backends.cpu.seeding import screen as screens
from gpukmeans.backends.cpu.seeding.screen import SeedScreen, Shadow
from gpukmeans.certificates.rounding import UNIT32, UNIT64, ScoreRadius
from gpukmeans.certificates.seeds import candidate_radius
from gpukmeans.engine.seeding.draws import probabilities
from gpukmeans.engine.seeding.plusplus import kmeans_plusplus
from gpukmeans.threads import Workers
from tests.support.oracles import square_distances
from tests.support.score_cases import dot_in_order, norm_above

FLOATS = {UNIT32: np.float32, UNIT64: np.float64}


def error_and_radius(x, c, v, unit, order):
    """How far v + g is from |x - c|^2, and the radius of it, as Fractions and from one product order."""
    dtype = FLOATS[unit]
    wide, seed = x.astype(np.float64), c.astype(np.float64)
    q = float(dot_in_order(x, np.array([-2 * c], dtype), dtype, order)[0])
    change = (q + (float(wide @ wide) - v)) + float(seed @ seed)
    distance, grid = square_distances(x[None], c[None])
    error = abs(Fraction(v) + Fraction(change) - int(distance[0, 0]) * grid)
    radius = candidate_radius(len(x), unit)
    squares = float(wide @ wide) + float(seed @ seed) + v
    bound = radius.per_product * norm_above(x) * norm_above(c) + radius.per_square * squares + radius.constant
    return float(error), bound


@pytest.mark.parametrize("unit", [UNIT32, UNIT64])
@pytest.mark.parametrize("d", [1, 2, 7, 100])
def test_the_change_of_a_distance_is_within_its_radius(unit, d):
    local = np.random.default_rng(d)
    for trial in range(60):
        x = (local.standard_normal(d) * 10.0 ** local.uniform(-3, 3, d if trial % 2 else 1)).astype(FLOATS[unit])
        c = x if trial % 5 == 0 else (x * local.uniform(-1.1, 1.1, d)).astype(FLOATS[unit])
        v = float(local.choice([0.0, 1e-9, 1.0, 40.0]) * (x.astype(np.float64) @ x))
        error, bound = error_and_radius(x, c, v, unit, local.permutation(d))
        assert error <= bound


@pytest.mark.parametrize("d", [1000, 4000])
def test_the_radius_is_reached(d):
    """Terms of half a unit in the last place of the first one are all lost: no smaller share of |x||c| would do."""
    x = np.full(d, 2.0**-12, np.float32)
    x[0] = 1.0
    error, bound = error_and_radius(x, x, 0.0, UNIT32, np.arange(d))
    assert 0.98 * bound < error <= bound


def test_underflow_is_within_the_radius():
    x = np.full(300, 2.0**-76, np.float32)  # products of 2**-151 vanish
    error, bound = error_and_radius(x, x, 0.0, UNIT32, np.arange(300))
    assert 0 < error <= bound


@pytest.mark.parametrize(("low", "high"), [(0, 100), (200, 256)])
def test_products_of_whole_numbers_are_exact(low, high):
    """Also where a sum of products leaves float32's 24 bits, which is when they are taken in pieces."""
    X = np.random.default_rng(low).integers(low, high, (50, 784)).astype(np.uint8)
    screen = SeedScreen(X, 255.0, Workers(1))
    assert screen.exact
    assert screen.narrow
    seeds = X[[3, 4, 40]]
    truth = -2 * (X.astype(np.int64) @ seeds.T.astype(np.int64))
    assert (abs(truth).max() / 2 >= 2**24) == (low > 0)
    for rows in (slice(0, 50), np.array([1, 7, 30, 49])):
        got = screen.products(rows, seeds.astype(np.float64), float(screen.norms.max()))
        assert np.array_equal(got, truth[rows])


def test_whole_numbers_too_large_for_float32_are_multiplied_in_float64():
    X = np.random.default_rng(1).integers(-(2**20), 2**20, (40, 5)).astype(np.float32)
    screen = SeedScreen(X, float(abs(X).max()), Workers(1))
    assert screen.exact
    assert not screen.narrow
    wide = X.astype(np.int64)
    assert np.array_equal(screen.products(slice(0, 40), X[:2].astype(float), 2.0**23), -2 * (wide @ wide[:2].T))


def lying_in_few_directions(local, n, d):
    """Rows of a subspace: nothing is left out by a shadow, whose bounds are then nearly the distances."""
    return (local.standard_normal((n, 3)) @ local.standard_normal((3, d)) + 5.0).astype(np.float32)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("fault", [False, True])
def test_a_shadow_loses_no_row_that_a_seed_is_nearer_to(monkeypatch, flat, fault):
    """The closest seed is farther than the candidate by one part in 2**50.  A radius of zero is caught."""
    monkeypatch.setattr(screens, "COMPONENTS", 4)
    local = np.random.default_rng(5)
    X = lying_in_few_directions(local, 80, 20) if flat else local.standard_normal((80, 20)).astype(np.float32)
    screen = SeedScreen(X, float("inf"), Workers(1))
    shadow = Shadow(screen, Workers(1))
    lost = 0
    for seed in range(0, 80, 4):
        table, radius = shadow.of_seeds(X[[seed]].astype(np.float64))
        distances, unit = square_distances(X, X[[seed]])
        closest = np.array([float(int(v) * unit) for v in distances[:, 0]]) * (1.0 + 2.0**-50) + 2.0**-60
        radius = ScoreRadius(0.0, 0.0) if fault else radius
        lost += 80 - len(shadow.left(slice(0, 80), table, radius, closest))
    assert (lost > 0) == (fault and flat)


def test_a_shadow_leaves_most_rows_out(monkeypatch):
    monkeypatch.setattr(screens, "COMPONENTS", 4)
    X = lying_in_few_directions(np.random.default_rng(6), 400, 20)
    screen = SeedScreen(X, float("inf"), Workers(1))
    table, radius = Shadow(screen, Workers(1)).of_seeds(X[[0]].astype(np.float64))
    near = np.square(X.astype(np.float64) - X[0]).sum(axis=1)
    closest = np.full(400, np.sort(near)[20] * 0.999)
    left = Shadow(screen, Workers(1)).left(slice(0, 400), table, radius, closest)
    assert set(np.flatnonzero(near < closest)) <= set(left.tolist())
    assert len(left) <= 22


CASES = ["ordinary", "far from the origin", "tiny", "duplicates", "integers", "uint8", "wide", "large"]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_the_precision_of_a_look_changes_no_draw(monkeypatch, name, weighted):
    """The same rows stored in float64, over several parts and with a shadow from the second proposal on."""
    monkeypatch.setattr(screens, "COMPONENTS", 3)
    monkeypatch.setattr(screens, "LOOKS", 1)
    monkeypatch.setattr(screens, "PART", 2000)
    monkeypatch.setattr("gpukmeans.backends.cpu.seeding.steps.PART", 2000)
    local = np.random.default_rng(7)
    X = local.standard_normal((6001, 4)) @ local.standard_normal((4, 16)) + 0.1 * local.standard_normal((6001, 16))
    if name == "far from the origin":
        X += 1e4
    elif name == "tiny":
        X *= 2.0**-70
    elif name == "large":
        X *= 2.0**45
    elif name == "duplicates":
        X = X[local.integers(0, 12, 6001)]
    elif name in ("integers", "uint8"):
        X = np.rint(20 * X)
    elif name == "wide":
        X *= 10.0 ** local.uniform(-6, 6, (6001, 1))
    X = np.clip(X, 0, 255).astype(np.uint8) if name == "uint8" else X.astype(np.float32)
    weight = local.random(6001) if weighted else None
    p = probabilities(6001, weight, np.dtype(np.float64))
    drawn = []
    for dtype in (X.dtype, np.float64):
        rows = NumpyBackend(lockstep=False).load(X.astype(dtype), weight)
        drawn.append([kmeans_plusplus(rows, 20, np.random.RandomState(s), p, weight).tolist() for s in range(2)])
        if dtype != np.float64:
            assert rows.table.seed_screen.narrow == (name not in ("far from the origin", "tiny"))
            assert (rows.table.seed_screen._shadow is not None) == (rows.table.seed_screen.narrow and name != "large")
    assert drawn[0] == drawn[1]
