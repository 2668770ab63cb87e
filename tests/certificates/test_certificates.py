"""Every radius holds against rational arithmetic, is not much wider than the worst case, and is needed."""

from __future__ import annotations

import sys
from fractions import Fraction

import numpy as np
import pytest

from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.certificates.components import projected_rows_error, projection_radius
from gpukmeans.certificates.drift import GAP_SLACK, gap_after_move
from gpukmeans.certificates.rounding import SQUARE_UNDERFLOW, UNIT32, UNIT64, ScoreRadius, gamma
from gpukmeans.certificates.scores import exact_in_float64, score_radius, square_distance_radius
from gpukmeans.datasets import near_ties
from tests.support.oracles import nearest, square_distances, whole

rng = np.random.default_rng(30)


def norm_above(vector):
    """An upper bound of |vector|, within a part in 2**40 of it (or 2**-160 of nothing)."""
    x, unit = whole(vector)
    square = Fraction(int((x * x).sum())) * unit * unit
    root = Fraction(float(square) ** 0.5) if square > Fraction(2) ** -1000 else Fraction(2) ** -160
    root *= 1 + Fraction(1, 2**40)
    assert root * root >= square
    return float(root) * (1 + 2.0**-50)


# ---- arithmetics in which scores may be formed ------------------------------------------------------------------


def flush(values):
    """Subnormal float32 to zero, as CUDA does with -ftz=true."""
    return np.where(np.abs(values) < np.float32(2.0**-126), values.dtype.type(0), values)


def dot_in_order(x, C, dtype, order, clean=lambda v: v):
    """x.c of every row of C, one rounded product and one rounded sum at a time."""
    x, C = clean(x.astype(dtype)[order]), clean(C.astype(dtype)[:, order])
    total = np.zeros(len(C), dtype)
    for f in range(len(order)):
        total = clean(total + clean(x[f] * C[:, f]))
    return total


def dot_fused(x, C, dtype, order):
    """As with fused multiply-add: float32 products and sums in float64, rounded once (to within double rounding)."""
    x, C = x.astype(dtype)[order].astype(np.float64), C.astype(dtype)[:, order].astype(np.float64)
    total = np.zeros(len(C), dtype)
    for f in range(len(order)):
        total = (total + x[f] * C[:, f]).astype(dtype)
    return total


def scores(x, C, dtype, how):
    """|c|^2 - 2 x.c as a backend may form it: the square in float64, the rest in `dtype`."""
    d = len(x)
    rising = np.argsort(np.abs(x.astype(np.float64) * C[0]), kind="stable")
    order = {"forward": np.arange(d), "backward": np.arange(d)[::-1], "rising": rising, "falling": rising[::-1]}
    squares = np.einsum("ij,ij->i", C.astype(np.float64), C.astype(np.float64)).astype(dtype)
    if how == "matmul":
        return C.astype(dtype) @ (dtype(-2) * x.astype(dtype)) + squares
    if how == "flushed":
        return flush(flush(squares) - flush(2 * dot_in_order(x, C, dtype, order["forward"], flush)))
    if how == "fused":
        return squares - 2 * dot_fused(x, C, dtype, order["forward"])
    return squares - 2 * dot_in_order(x, C, dtype, order[how])


def exact_scores(x, C):
    xs, cs, unit = whole(x, C)
    return [Fraction(int((c * c).sum() - 2 * (xs * c).sum())) * unit * unit for c in cs]


def alternating(d):
    """Products that cancel to almost nothing."""
    x = rng.uniform(1, 2, d)
    return x, np.where(np.arange(d) % 2, 1.0, -1.0) / np.roll(x, 1) * x.mean()


def families(dtype):
    """(name, row, centers), the rows and centers as stored."""
    for seed in range(4):
        X, C = near_ties(1, 6, 40, seed=seed, dtype=dtype)
        yield f"near ties {seed}", X[0], C
    for scale in (1e-30, 1.0, 1e6, 1e15):
        for d in (1, 7, 64):
            yield f"normal x {scale}", scale * rng.standard_normal(d), scale * rng.standard_normal((5, d))
    yield "far from the origin", 1e6 + rng.random(50), 1e6 + rng.random((5, 50))
    yield "row far, centers near", 1e12 * rng.standard_normal(20), rng.standard_normal((5, 20))
    yield "row near, centers far", rng.standard_normal(20), 1e12 * rng.standard_normal((5, 20))
    yield "subnormal float32", rng.integers(-99, 99, 30) * 2.0**-149, rng.integers(-99, 99, (5, 30)) * 2.0**-149
    yield "just above subnormal", rng.random(30) * 2.0**-126, rng.random((5, 30)) * 2.0**-125
    yield "products underflow", rng.random(30) * 2.0**-70, rng.random((5, 30)) * 2.0**-70
    yield "one underflows", rng.random(30) * 2.0**-140, rng.random((5, 30)) * 2.0**14
    yield "constant", np.full(33, 0.1), np.full((5, 33), 0.1)
    yield "zero row", np.zeros(9), rng.random((5, 9))
    yield "zero centers", rng.random(9), np.zeros((5, 9))
    yield "largest float32 squares", np.full(4, 2.0**61), np.full((5, 4), 2.0**57)
    x, c = alternating(200)
    yield "cancelling", x, np.stack([c, -c, 2 * c])
    yield "spread", np.ldexp(rng.random(60), rng.integers(-30, 30, 60)), np.ldexp(rng.random((5, 60)), -20)


CASES32 = [(name, np.asarray(x, np.float32), np.asarray(C, np.float32)) for name, x, C in families(np.float32)]
CASES64 = [(name, np.asarray(x), np.asarray(C)) for name, x, C in families(np.float64)]


def assert_within(x, C, how):
    radius = score_radius(len(x), max(norm_above(c) for c in C))
    allowed = Fraction(radius.per_norm) * Fraction(norm_above(x)) + Fraction(radius.constant)
    for got, want in zip(scores(x, C, np.float32, how).tolist(), exact_scores(x, C), strict=True):
        assert abs(Fraction(got) - want) <= allowed


@pytest.mark.parametrize("how", ["forward", "backward", "rising", "falling", "matmul", "fused", "flushed"])
@pytest.mark.parametrize(("name", "x", "C"), CASES32, ids=[case[0] for case in CASES32])
def test_scores_lie_within_their_radius(name, x, C, how):
    assert_within(x, C, how)


@pytest.mark.parametrize("how", ["forward", "rising", "matmul", "fused"])
@pytest.mark.parametrize(("name", "x", "C"), CASES64, ids=[case[0] for case in CASES64])
def test_scores_of_float64_rows_and_centers_lie_within_their_radius(name, x, C, how):
    """Rounding to float32 first is inside the bound (uint8 rows meet float64 centers so)."""
    assert_within(x, C, how)


def every_rounding_the_same_way(d, unit):
    """x = c = (1, t, t, ...), t*t a little above half an ulp of 1: each of d - 1 additions rounds up by nearly u."""
    t = np.sqrt(unit) * (1 + 2.0**-11)
    return np.concatenate([[1.0], np.full(d - 1, t)])


def test_the_score_radius_is_reached_to_three_quarters():
    """Worst-case roundings: the radius holds, and one a quarter smaller would not."""
    x = every_rounding_the_same_way(500, UNIT32).astype(np.float32)
    C = np.stack([x, -x])
    radius = score_radius(500, max(norm_above(c) for c in C))
    allowed = Fraction(radius.per_norm) * Fraction(norm_above(x)) + Fraction(radius.constant)
    error = max(
        abs(Fraction(got) - want)
        for got, want in zip(scores(x, C, np.float32, "forward").tolist(), exact_scores(x, C), strict=True)
    )
    assert Fraction(3, 4) * allowed < error <= allowed


def test_what_cannot_be_bounded_is_not_certified():
    assert gamma(0.5 / UNIT32, UNIT32) == float("inf")
    assert score_radius(int(0.6 / UNIT32), 1.0).per_norm == float("inf")
    assert 0 < gamma(1000, UNIT64) < 1001 * UNIT64


# ---- projections ---------------------------------------------------------------------------------------------------


def some_basis(d, m, seed, defect=0.0):
    """Nearly orthonormal float32 columns, and an upper bound of the spectral norm of Q'Q - I."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, m)))
    basis = (q * (1.0 + defect)).astype(np.float32)
    wide, unit = whole(basis)
    excess = wide.T.dot(wide) - np.diag([int(1 / (unit * unit))] * m)
    return basis, float(Fraction(int((excess * excess).sum())) ** Fraction(1, 2)) * float(unit * unit) * (1 + 2.0**-40)


def fraction_table(values):
    numerators, unit = whole(values)
    return numerators * unit


def rational_norm_above(vector):
    """A float at least |vector| of Fractions."""
    square = sum((v * v for v in vector), Fraction(0))
    return float(square) ** 0.5 * (1 + 2.0**-40) + 2.0**-160


PROJECTED = [
    ("ordinary", 1.0, 0.0, 0.0, 0.0),
    ("far from the origin", 1.0, 1e4, 0.0, 0.0),
    ("tiny", 2.0**-60, 0.0, 0.0, 0.0),
    ("huge", 2.0**50, 0.0, 0.0, 0.0),
    ("a skewed basis", 1.0, 0.0, 1e-3, 0.0),
    ("a badly skewed basis", 1.0, 3.0, 0.2, 0.0),
    ("centers projected badly", 1.0, 0.0, 0.0, 0.1),
]


@pytest.mark.parametrize(("name", "scale", "offset", "skew", "leaking"), PROJECTED, ids=[case[0] for case in PROJECTED])
def test_projected_scores_bound_the_true_ones_from_below(name, scale, offset, skew, leaking):
    """eta, and the radius: true - projected lies in [-radius, 4 r q + radius], for rows in and out of the span."""
    d, m = 24, 5
    basis, defect = some_basis(d, m, 1, skew)
    eta = projected_rows_error(d, m, defect)
    local = np.random.default_rng(2)
    X = (scale * (offset + local.standard_normal((12, d)))).astype(np.float32)
    C = scale * (offset + local.standard_normal((6, d)))
    X[0] = (scale * basis @ local.standard_normal(m)).astype(np.float32)
    C[0], C[1] = X[0], X[1]
    q = fraction_table(basis)
    p32 = X @ basis
    inside = (C @ basis.astype(np.float64) + leaking * local.standard_normal((6, m))).astype(np.float32)
    centers = fraction_table(C)
    g = fraction_table(inside)
    outside = centers - g.dot(q.T)
    leak = max(rational_norm_above(row) for row in outside.dot(q))
    largest = max(norm_above(c) for c in C)
    radius = projection_radius(m, largest, eta, defect, leak)
    for x, p in zip(X, p32, strict=True):
        row, projected = fraction_table(x), fraction_table(p)
        rest = row - q.dot(projected)
        norm = norm_above(x)
        assert rational_norm_above(projected - q.T.dot(row)) <= eta * norm
        assert rational_norm_above(q.T.dot(rest)) <= eta * norm
        r = np.float32(rational_norm_above(rest) * (1 + 2.0**-22))
        allowed = Fraction(radius.per_norm) * Fraction(norm) + Fraction(radius.constant)
        for c, inner, outer in zip(centers, inside, outside, strict=True):
            beyond = np.float32(rational_norm_above(outer) * (1 + 2.0**-22))
            square = np.float32(float(sum(c * c)))
            table = np.concatenate([-2 * inner, [-2 * beyond, square]]).astype(np.float32)
            score = Fraction(float(np.concatenate([p, [r, np.float32(1)]]).astype(np.float32) @ table))
            true = sum(c * c) - 2 * sum(row * c)
            assert -allowed <= true - score <= 4 * Fraction(float(r)) * Fraction(float(beyond)) + allowed


def test_the_bounds_of_a_projection_are_not_vacuous():
    """An orthonormal basis costs a few roundings, not digits: below 1e-4 of |x| |c| for MNIST's shape."""
    _, defect = some_basis(100, 16, 3)
    eta = projected_rows_error(784, 64, defect)
    assert eta < 1e-3
    radius = projection_radius(64, 1.0, eta, defect, 1e-7)
    assert radius.per_norm + radius.constant < 3e-3


# ---- drift -----------------------------------------------------------------------------------------------------------


def test_a_gap_shrinks_by_no_more_than_the_drift():
    """On a line, own center moving away and another coming near: the bound is met with equality, never crossed."""
    local = np.random.default_rng(4)
    for own, other in np.ldexp(local.random((500, 2)), local.integers(-60, 60, (500, 2))).tolist():
        shrunk = Fraction(gap_after_move(own, other))
        assert Fraction(own) + Fraction(other) <= shrunk <= (Fraction(own) + Fraction(other)) * (1 + Fraction(1, 2**30))


def test_a_kept_gap_stays_below_the_true_one():
    """100,000 rounded subtractions, each of half an ulp of the gap and a little less: the slack pays for them."""
    lower, upper = 3.0, 1.0
    gap = (1.0 - GAP_SLACK) * lower - (1.0 + GAP_SLACK) * upper
    true = Fraction(2)
    plain = 2.0
    step = 2.0**-54 * 1.999
    for _ in range(100_000):
        gap -= gap_after_move(step / 2, step / 2)
        plain -= step
        true -= Fraction(step)
    assert Fraction(gap) <= true
    assert Fraction(plain) > true  # without slack the rounding would win


# ---- squared distances -------------------------------------------------------------------------------------------


def float64_square(x, c, order):
    total = 0.0
    for f in order:
        total += (float(x[f]) - float(c[f])) ** 2
    return total


@pytest.mark.parametrize(("name", "x", "C"), CASES64, ids=[case[0] for case in CASES64])
def test_float64_square_distances_lie_within_their_radius(name, x, C):
    radius = Fraction(square_distance_radius(len(x)))
    distances, unit = square_distances(x[None], C)
    for j, c in enumerate(C):
        exact = int(distances[0, j]) * unit
        for order in (range(len(x)), range(len(x))[::-1], np.argsort(np.abs(x - c))):
            assert abs(Fraction(float64_square(x, c, order)) - exact) <= radius * exact + Fraction(SQUARE_UNDERFLOW)
        fused = float(np.einsum("i,i->", x - c, x - c))
        assert abs(Fraction(fused) - exact) <= radius * exact + Fraction(SQUARE_UNDERFLOW)


def test_the_square_distance_radius_is_reached_to_three_quarters():
    x = every_rounding_the_same_way(500, UNIT64)
    zero = np.zeros((1, 500))
    distances, unit = square_distances(x[None], zero)
    exact = int(distances[0, 0]) * unit
    error = abs(Fraction(float64_square(x, zero[0], range(500))) - exact) / exact
    radius = Fraction(square_distance_radius(500))
    assert Fraction(3, 4) * radius < error <= radius


@pytest.mark.parametrize("scale", [1.0, 2.0**-505, 2.0**-520, 2.0**470])
def test_squares_that_differ_by_more_than_the_radius_are_ordered_alike(scale):
    """The comparison that callers make, on near ties and where squares under- or nearly overflow."""
    X, C = near_ties(60, 6, 12, seed=5, dtype=np.float64)
    X, C = X * scale / 32, C * scale / 32
    radius = square_distance_radius(12)
    exact, _ = square_distances(X, C)
    decided = 0
    for i, x in enumerate(X):
        computed = [float64_square(x, c, range(12)) for c in C]
        for a in range(6):
            for b in range(6):
                if computed[b] - computed[a] > radius * (computed[a] + computed[b]) + SQUARE_UNDERFLOW:
                    decided += 1
                    assert exact[i, a] < exact[i, b]
    assert decided > (500 if scale >= 1 else -1)  # tiny squares may all stay open


@pytest.mark.parametrize(("d", "largest"), [(1, 2.0**25), (784, 255.0), (784, 65535.0), (3, 2.0**24), (64, 2.0**22)])
def test_whole_numbers_that_are_called_exact_are(d, largest):
    assert exact_in_float64(d, largest) == (4 * int(largest) ** 2 * d <= 2**53)
    if exact_in_float64(d, largest):
        x, c = np.full((1, d), largest), np.full((1, d), -largest + 1)
        x[0, 0] -= 1
        distances, unit = square_distances(x, c)
        assert float64_square(x[0], c[0], range(d)) == int(distances[0, 0]) * unit
        product = float(x[0] @ x[0]) + float(c[0] @ c[0]) - 2 * float(x[0] @ c[0])
        assert product == int(distances[0, 0]) * unit


def test_whole_numbers_beyond_the_limit_are_not_exact():
    """Otherwise the limit says nothing: a little above it float64 does round."""
    d, largest = 2, 2.0**26
    assert not exact_in_float64(d, largest)
    x, c = np.array([[largest, largest - 1]]), np.array([[-largest + 1, -largest]])
    distances, unit = square_distances(x, c)
    assert float64_square(x[0], c[0], range(d)) != int(distances[0, 0]) * unit


@pytest.mark.parametrize("value", [float("inf"), 1e200])
def test_no_whole_number_is_exact_beyond_float64(value):
    assert not exact_in_float64(1, value)


# ---- the certificates at work ------------------------------------------------------------------------------------


def labels_of(backend, X, C):
    run = backend.load(X).start(C)
    assigned = run.assign(move=False)
    assert assigned.n_certified + assigned.n_resolved + assigned.n_exact == len(X)  # none skipped: the first look
    return run.labels(), assigned


def scaled_near_ties(name):
    """Near ties where the arithmetic is at its weakest: (rows, centers)."""
    dtype = np.float64 if "float64" in name else np.float32
    X, C = near_ties(150, 6, 17, seed=8, dtype=dtype)
    if "tiny" in name:
        scale = 2.0**-120 if dtype == np.float32 else 2.0**-500
    elif "subnormal" in name:
        return (X * dtype(2.0**-138)).astype(dtype), (C * dtype(2.0**-138)).astype(dtype)
    elif "huge" in name:
        scale = 2.0**58 if dtype == np.float32 else 2.0**470
    elif "offset" in name:
        return (X + dtype(4096)).astype(dtype), (C + dtype(4096)).astype(dtype)
    elif "duplicated" in name:
        return X, C[np.array([3, 1, 3, 0, 1, 1])]
    else:
        scale = 1.0
    return X * dtype(scale), C * dtype(scale)


NEAR_TIES = [
    f"{kind} {dtype}"
    for dtype in ("float32", "float64")
    for kind in ("plain", "tiny", "huge", "offset", "duplicated centers")
] + ["subnormal float32"]


@pytest.mark.parametrize("name", NEAR_TIES)
def test_labels_of_near_ties_are_the_true_nearest(backend, name):
    X, C = scaled_near_ties(name)
    labels, _ = labels_of(backend, X, C)
    assert np.array_equal(labels, nearest(X, C))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_near_ties_are_ties_only_nearly(dtype):
    """Plain scores get many wrong, so that the test above can fail; and a step of one ulp decides."""
    X, C = near_ties(150, 6, 17, seed=8, dtype=dtype)
    plain = ((C * C).sum(axis=1) - 2 * X @ C.T).argmin(axis=1)
    assert (plain != nearest(X, C)).sum() > 15


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_ulp_decides(backend, dtype):
    """A row half way between two centers, and the same row moved by one ulp to either side."""
    a, b = dtype(1), dtype(3)
    C = np.array([[a, 5], [b, 5]], dtype)
    below, above = np.nextafter(dtype(2), dtype(0)), np.nextafter(dtype(2), dtype(9))
    X = np.array([[2, 0.1], [below, 0.1], [above, 0.1]], dtype)
    assert labels_of(backend, X, C)[0].tolist() == [0, 0, 1]
    assert labels_of(backend, X, C[::-1].copy())[0].tolist() == [0, 1, 0]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_ordinary_rows_are_certified_by_the_screen(backend, dtype):
    """Not vacuous: clusters a hundred spreads apart need no second look."""
    centers = 20 + 50 * np.arange(4)[:, None] + np.zeros((4, 30))
    X = (np.repeat(centers, 25, axis=0) + rng.uniform(-2, 2, (100, 30))).astype(dtype)
    labels, assigned = labels_of(backend, X, centers)
    assert labels.tolist() == np.repeat(np.arange(4), 25).tolist()
    assert assigned.n_certified == 100


def test_scores_that_overflow_certify_nothing(backend):
    """-2 x.c leaves float32 on the way although |x|^2 and |c|^2 stay within it: -inf is no score."""
    X = np.array([[1.5e19, 7e18, 7e18], [1e19, 1.2e19, 0]], np.float32)
    C = np.array([[1.5e19, -7e18, -7e18], [0, 0, 0], [-1.7e19, 0, 0]], np.float32)
    assert labels_of(backend, X, C)[0].tolist() == nearest(X, C).tolist()


@pytest.mark.parametrize("largest", [1e19, 1e20, 3e38])
def test_the_largest_float32_values_are_labelled_right(backend, largest):
    local = np.random.default_rng(3)
    X = (largest * local.uniform(-1, 1, (60, 5))).astype(np.float32)
    C = (largest * local.uniform(-1, 1, (4, 5))).astype(np.float32)
    C[0] *= np.float32(1e-20)
    assert np.array_equal(labels_of(backend, X, C)[0], nearest(X, C))


# ---- planted faults ----------------------------------------------------------------------------------------------


def plant(monkeypatch, name, fake):
    """Replace a certificate wherever the engine looks it up."""
    for module in [m for key, m in sys.modules.items() if key.startswith("gpukmeans")]:
        if hasattr(module, name):
            monkeypatch.setattr(module, name, fake)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_screen_without_radius_gives_wrong_labels(monkeypatch, dtype):
    X, C = near_ties(150, 6, 17, seed=8, dtype=dtype)
    plant(monkeypatch, "score_radius", lambda *args: ScoreRadius(0.0, 0.0))
    plant(monkeypatch, "gamma", lambda m, unit: 0.0)  # nor any allowance for |x|^2
    labels, _ = labels_of(NumpyBackend(), X, C)
    assert (labels != nearest(X, C)).any()


def test_float64_distances_without_radius_give_wrong_labels(monkeypatch):
    X, C = near_ties(400, 6, 17, seed=8, dtype=np.float64)
    plant(monkeypatch, "square_distance_radius", lambda n_features: 0.0)
    labels, _ = labels_of(NumpyBackend(), X, C)
    assert (labels != nearest(X, C)).any()


def test_whole_numbers_wrongly_called_exact_give_wrong_labels(monkeypatch):
    """Twin centers two apart, rows 2**40 away in another feature: their squares differ by 4 in 2**80."""
    local = np.random.default_rng(2)
    first = local.integers(-1000, 1000, (3, 8)).astype(np.float64)
    C = np.repeat(first, 2, axis=0)
    C[1::2, 0] += 2
    X = first[local.integers(3, size=180)]
    X[:, 0] += 2 * local.integers(0, 2, 180)
    X[:, 1] += local.integers(2**39, 2**40, 180)
    assert np.array_equal(labels_of(NumpyBackend(), X, C)[0], nearest(X, C))
    plant(monkeypatch, "exact_in_float64", lambda *args: True)
    assert (labels_of(NumpyBackend(), X, C)[0] != nearest(X, C)).any()
