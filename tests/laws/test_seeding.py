"""The rows drawn are scikit-learn's, on every backend, and draws that float64 leaves open are decided exactly."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.cluster import kmeans_plusplus as sklearn_plusplus
from sklearn.datasets import load_digits, make_blobs

from gpukmeans import KMeans
from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.datasets import near_ties
from gpukmeans.engine.seeding import decisions, exact
from gpukmeans.engine.seeding.decisions import locate
from gpukmeans.engine.seeding.draws import probabilities, random_rows
from gpukmeans.engine.seeding.plusplus import kmeans_plusplus
from tests.support.oracles import rational_plusplus, square_distances

#: Without runs in lockstep NumPy leaves every step to the engine.
STEP_BY_STEP = NumpyBackend(lockstep=False)


@pytest.fixture(params=[NumpyBackend(), STEP_BY_STEP], ids=["lockstep", "step by step"])
def numpy(request):
    return request.param


def draw(backend, X, k, seed, sample_weight=None, n_local_trials=None):
    weight = None if sample_weight is None else np.asarray(sample_weight, np.float64)
    p = probabilities(len(X), weight, np.dtype(np.float64))
    state = np.random.RandomState(seed)
    return kmeans_plusplus(backend.load(X, weight), k, state, p, weight, n_local_trials).tolist()


def sklearn_draw(X, k, seed, sample_weight=None, n_local_trials=None):
    return sklearn_plusplus(
        X.astype(np.float64), k, sample_weight=sample_weight, random_state=seed, n_local_trials=n_local_trials
    )[1].tolist()


def data(name):
    local = np.random.default_rng(50)
    if name == "digits":
        return load_digits().data
    if name == "blobs":
        return make_blobs(500, 5, centers=6, random_state=1)[0]
    if name == "far from the origin":
        return 1000.0 + local.random((400, 3))
    if name == "one feature":
        return local.standard_normal((300, 1))
    if name == "more features than rows":
        return local.standard_normal((30, 200))
    return 10.0 ** local.uniform(-6, 6, (300, 4))  # wide


SETS = ["blobs", "far from the origin", "one feature", "more features than rows", "wide"]


@pytest.mark.one_in(2)
@pytest.mark.parametrize("k", [1, 2, 7, 25])
@pytest.mark.parametrize("name", SETS)
def test_the_rows_drawn_are_those_of_real_arithmetic_and_of_scikit_learn(numpy, name, k):
    """scikit-learn's rounding decides only what is an exact tie (two trials that are each other's only neighbour)."""
    X = data(name)
    compared = 0
    for seed in range(12):
        want, margin = rational_plusplus(X, k, seed)
        assert draw(numpy, X, k, seed) == want
        if margin > 0:
            compared += 1
            assert sklearn_draw(X, k, seed) == want
    assert compared >= 9


@pytest.mark.parametrize("k", [1, 2, 7, 25])
def test_digits_are_drawn_as_by_scikit_learn(numpy, k):
    """Whole numbers: scikit-learn's float64 is exact here, ties included."""
    X = load_digits().data
    for seed in range(12):
        assert draw(numpy, X, k, seed) == sklearn_draw(X, k, seed)


@pytest.mark.parametrize("n_local_trials", [1, 2, 6])
def test_any_number_of_trials(numpy, n_local_trials):
    X = data("blobs")
    for seed in range(12):
        assert draw(numpy, X, 8, seed, None, n_local_trials) == sklearn_draw(X, 8, seed, None, n_local_trials)


@pytest.mark.parametrize("name", ["digits", "blobs", "wide"])
def test_weights_bias_the_draws_as_in_scikit_learn(numpy, name):
    X = data(name)
    local = np.random.default_rng(51)
    for seed in range(12):
        weight = local.random(len(X)) * (local.random(len(X)) > 0.3)
        drawn = draw(numpy, X, 9, seed, weight)
        assert drawn == sklearn_draw(X, 9, seed, weight)
        assert weight[drawn].all()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_every_backend_draws_the_same_rows(backend, dtype, weighted):
    local = np.random.default_rng(52)
    X = (255 * local.random((150, 9))).astype(dtype)
    weight = local.random(150) if weighted else None
    for seed in range(3):
        assert draw(backend, X, 6, seed, weight) == sklearn_draw(X, 6, seed, weight)


def test_blocks_of_rows_are_searched_through(backend):
    """More rows than a block holds: the block first, then the row within it."""
    n, k = (5000, 5) if backend.name == "numpy" else (2500, 2)
    X = np.random.default_rng(53).standard_normal((n, 2))
    for seed in range(4):
        assert draw(backend, X, k, seed) == sklearn_draw(X, k, seed)


def force_exact(monkeypatch):
    """Make every bound leave its decision open; returns a list of the decisions then made in whole numbers."""
    exact_decisions = []
    potentials = exact.ExactPotentials
    locate, smallest = potentials.locate, potentials.smallest
    monkeypatch.setattr(
        decisions,
        "first_reaching",
        lambda running, errors, values, _: (np.zeros(len(values), int), np.full(len(values), True)),
    )
    monkeypatch.setattr(potentials, "locate", lambda *args: exact_decisions.append("locate") or locate(*args))
    monkeypatch.setattr(potentials, "smallest", lambda *args: exact_decisions.append("smallest") or smallest(*args))
    return exact_decisions


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_exact_arithmetic_draws_the_same_rows(monkeypatch, dtype, weighted):
    local = np.random.default_rng(54)
    X = (100 * local.random((90, 3))).astype(dtype)
    weight = local.random(90) if weighted else None
    exact_decisions = force_exact(monkeypatch)
    for seed in range(5):
        assert draw(STEP_BY_STEP, X, 5, seed, weight) == sklearn_draw(X, 5, seed, weight)
    assert exact_decisions.count("locate") == 5 * 4 * (2 + int(np.log(5)))


def test_exact_decisions_are_those_of_fractions():
    """Where a running sum is reached, and which potential is smallest, against a plain loop over Fractions."""
    X, _ = near_ties(40, 4, 3, seed=6, dtype=np.float64)
    weight = np.random.default_rng(55).random(40)
    potentials = exact.ExactPotentials(NumpyBackend().load(X, weight), weight)
    chosen = [3, 17]
    distances, _ = square_distances(X, X)

    def terms(seeds):
        return [Fraction(w) * min(int(row[j]) for j in seeds) for w, row in zip(weight, distances, strict=True)]

    closest = terms(chosen)
    edges = np.cumsum([float(t) for t in closest]) / float(sum(closest))
    for u in [0.0, 0.25, 0.9999, *edges[:20].tolist(), *np.nextafter(edges[:20], 2).tolist()]:
        running, row = Fraction(0), 0
        for row, term in enumerate(closest):  # noqa: B007
            running += term
            if running >= Fraction(u) * sum(closest):
                break
        assert potentials.locate(u, chosen) == row
    ids = np.array([5, 30, 8, 12])
    sums = [sum(terms([*chosen, i])) for i in ids.tolist()]
    assert potentials.smallest(ids, chosen) == sums.index(min(sums))


@pytest.mark.parametrize("seed", range(50))
def test_a_running_sum_is_located_only_where_its_errors_allow(seed):
    """For any true values within the errors: the row that these reach first, or no answer."""
    local = np.random.default_rng(seed)
    running = np.cumsum(local.integers(0, 4, 12)).astype(float)
    errors = np.cumsum(local.random(12)) * local.choice([0.0, 0.01, 0.3])
    value, value_error = (
        running[local.integers(12)] + local.choice([-0.5, -0.005, 0.0, 0.005, 0.5]),
        local.random() * 0.1,
    )
    (answer,), (open_,) = decisions.first_reaching(running, errors, np.array([value]), np.array([value_error]))
    for _ in range(200):
        true = running + errors * local.choice([-1.0, 0.0, 1.0], 12)
        aim = value + value_error * local.choice([-1.0, 0.0, 1.0])
        reached = np.flatnonzero(np.maximum.accumulate(true) >= aim)
        assert open_ or (len(reached) and reached[0] == answer)


def test_a_running_sum_far_from_every_edge_is_located():
    running, tiny = np.arange(1.0, 9.0), np.full(8, 1e-9)
    inside, edges = np.arange(8) + 0.5, np.arange(8) + 1.0
    found, open_ = decisions.first_reaching(running, tiny, inside, np.full(8, 1e-9))
    assert found.tolist() == list(range(8))
    assert not open_.any()
    assert decisions.first_reaching(running, tiny, edges, np.full(8, 1e-9))[1].all()
    found, open_ = decisions.first_reaching(running, 0 * tiny, edges, np.zeros(8))  # on an edge, but without error
    assert found.tolist() == list(range(8))
    assert not open_.any()
    assert decisions.first_reaching(running, tiny, np.array([9.0]), np.zeros(1))[1].all()  # beyond the total


def test_an_uncertain_total_makes_its_share_uncertain():
    """Ten ones, the last of them off by up to 1: where u times the total is near an edge, exact arithmetic decides."""

    class Blocks:
        block_size = 1

        def block(self, block):
            return np.ones(1), np.full(1, float(block == 9))

    class Exact:
        def locate(self, u, chosen):
            return "exactly"

    sums, errors = np.ones(10), np.where(np.arange(10) == 9, 1.0, 0.0)
    draws = np.array([0.05, 0.205, 0.25, 0.29])
    assert locate(draws, sums, errors, Blocks(), Exact(), [0]) == [0, "exactly", 2, "exactly"]


class Scripted:
    """A source of given random numbers."""

    def __init__(self, first, uniform):
        self.first, self.drawn = first, uniform

    def choice(self, n, p):
        return self.first

    def uniform(self, size):
        return np.full(size, self.drawn)


@pytest.mark.parametrize(("u", "row"), [(0.0, 0), (0.1, 2), (np.nextafter(0.1, 0), 1), (0.3, 3), (0.5, 5), (0.99, 10)])
def test_the_rounding_of_the_target_moves_no_draw(backend, u, row):
    """Ten rows at distance 1 from the first: the sum reaches the real u * 10, not the float next to it.

    The float 0.1 lies above 1/10, so row 1 does not quite reach ten times it, though the float product is 1.0.
    """
    X = np.concatenate([np.zeros((1, 10)), np.eye(10)])
    p = probabilities(11, None, np.dtype(np.float64))
    assert kmeans_plusplus(backend.load(X), 2, Scripted(0, u), p, n_local_trials=1).tolist() == [0, row]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "name", ["uint8", "ordinary", "far from the origin", "twins far away", "tiny", "wide", "float32"]
)
def test_potentials_lie_within_the_errors_that_come_with_them(backend, name, weighted):
    """Sums over blocks and terms of single rows, against whole numbers, seed after seed."""
    local = np.random.default_rng(59)
    X = local.standard_normal((70, 5))
    if name == "uint8":
        X = local.integers(0, 256, (70, 5)).astype(np.uint8)
    elif name == "far from the origin":
        X += 1e7
    elif name == "twins far away":
        X = 1e6 * np.repeat(X[:10], 7, axis=0)
        X[::2] = np.nextafter(X[::2], np.inf)
    elif name == "tiny":
        X *= 1e-140
    elif name == "wide":
        X *= 10.0 ** local.uniform(-9, 9, (70, 1))
    elif name == "float32":
        X = (1000 + X).astype(np.float32)
    weight = local.random(70) if weighted else None
    w = [Fraction(v) for v in (np.ones(70) if weight is None else weight).tolist()]
    distances, unit = square_distances(X, X)
    engine = backend.load(X, weight).seeding()
    size, chosen = engine.block_size, [int(local.integers(70))]

    def true_terms(seeds):
        return [w[i] * min(int(distances[i, j]) for j in seeds) * unit for i in range(70)]

    sums, errors = engine.add(np.array(chosen))
    for step in range(5):
        true = true_terms(chosen)
        assert len(sums) == len(errors) == -(-70 // size)
        for b in range(len(sums)):
            exact = sum(true[b * size : (b + 1) * size], Fraction(0))
            assert abs(Fraction(float(sums[b])) - exact) <= Fraction(float(errors[b]))
            terms, term_errors = engine.block(b)
            for exact, term, error in zip(true[b * size : (b + 1) * size], terms, term_errors, strict=True):
                assert abs(Fraction(float(term)) - exact) <= Fraction(float(error))
        assert errors.sum() <= 2.0**-19 * sums.sum()  # not vacuous: half of the digits are left, at least
        candidates = local.choice(70, 3, replace=False)
        totals = [sum(true_terms([*chosen, i]), Fraction(0)) for i in candidates.tolist()]
        for potentials, radii in (engine.propose(candidates), engine.refine(np.arange(3))):
            for total, potential, radius in zip(totals, potentials, radii, strict=True):
                assert abs(Fraction(float(potential)) - total) <= Fraction(float(radius))
        assert (radii <= 2.0**-18 * potentials).all()
        sums, errors = engine.accept(step % 3)
        chosen.append(int(candidates[step % 3]))


def test_exact_ties_of_potentials_go_to_the_first_trial(backend):
    """A symmetric lattice: mirror images leave equal potentials, and scikit-learn takes the first of them drawn."""
    axis = np.arange(-3, 4.0)
    X = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    for seed in range(60 if backend.name == "numpy" else 12):
        assert draw(backend, X, 5, seed) == sklearn_draw(X, 5, seed), seed


def test_ties_that_only_exact_arithmetic_sees(monkeypatch):
    """The lattice scaled by a third: float64 potentials of mirror images differ by noise, true ones by real digits."""
    axis = np.arange(-2, 3) / 3.0
    X = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    plain = [draw(STEP_BY_STEP, X, 4, seed) for seed in range(20)]
    exact_decisions = force_exact(monkeypatch)
    assert [draw(STEP_BY_STEP, X, 4, seed) for seed in range(20)] == plain
    assert "smallest" in exact_decisions


def test_duplicates_give_more_seeds_than_points(backend):
    """Potential zero: the first row is drawn again and again, as in scikit-learn."""
    X = np.repeat([[1.0, 2.0], [4.0, 8.0], [-3.0, 5.0]], 5, axis=0)
    for seed in range(6):
        drawn = draw(backend, X, 7, seed)
        assert drawn == sklearn_draw(X, 7, seed)
        assert len(np.unique(X[drawn], axis=0)) == 3


def test_a_row_of_weight_zero_is_never_drawn():
    X = np.random.default_rng(56).standard_normal((50, 2))
    weight = np.where(np.arange(50) < 10, 1.0, 0.0)
    assert {i for seed in range(30) for i in draw(NumpyBackend(), X, 4, seed, weight)} <= set(range(10))


@pytest.mark.parametrize("weighted", [False, True])
def test_random_rows_are_those_of_scikit_learn(weighted):
    X = data("blobs")
    weight = np.random.default_rng(57).random(len(X)) if weighted else None
    for seed in range(5):
        reference = SklearnKMeans(6, init="random", n_init=1, max_iter=1, random_state=seed)
        p = probabilities(len(X), weight, np.dtype(np.float64))
        drawn = random_rows(NumpyBackend().load(X), 6, np.random.RandomState(seed), p)
        weights = np.ones(len(X)) if weight is None else weight
        want = reference._init_centroids(
            X, None, "random", np.random.RandomState(seed), sample_weight=weights, n_centroids=6
        )
        assert np.array_equal(X[drawn], want)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_probabilities_are_computed_in_the_dtype_of_the_data(dtype):
    weight = np.random.default_rng(58).random(1000)
    p = probabilities(1000, weight, np.dtype(dtype))
    assert p.dtype == dtype
    assert np.array_equal(p, weight.astype(dtype) / weight.astype(dtype).sum())
    assert np.array_equal(probabilities(7, None, np.dtype(dtype)), np.full(7, 1, dtype) / 7)


@pytest.mark.parametrize("init", ["k-means++", "random"])
@pytest.mark.parametrize("n_init", [1, 4])
def test_restarts_draw_from_one_stream_of_random_numbers(init, n_init):
    """The best of several restarts is scikit-learn's best."""
    X = data("blobs")
    ours, theirs = np.random.RandomState(3), np.random.RandomState(3)
    got = KMeans(6, init=init, n_init=n_init, random_state=ours, backend="numpy", max_iter=20).fit(X)
    want = SklearnKMeans(6, init=init, n_init=n_init, random_state=theirs, max_iter=20).fit(X)
    assert got.n_iter_ == want.n_iter_
    assert np.array_equal(got.labels_, want.labels_)


def test_restarts_consume_the_same_random_numbers_as_one_seeding_each():
    X = data("blobs")
    state, copy = np.random.RandomState(9), np.random.RandomState(9)
    KMeans(5, n_init=3, random_state=state, backend="numpy").fit(X)
    p = probabilities(len(X), None, X.dtype)
    for _ in range(3):
        kmeans_plusplus(NumpyBackend().load(X), 5, copy, p)
    assert state.uniform() == copy.uniform()


def test_more_seeds_than_distinct_rows_need_no_exact_arithmetic(backend, monkeypatch):
    """A row that a seed equals is at distance zero without error, whatever other candidates are worth."""
    X = np.repeat(np.random.default_rng(20).standard_normal((5, 3)), 40, axis=0)
    monkeypatch.setattr(exact.ExactPotentials, "_nearest", lambda *_: pytest.fail("exact arithmetic was used"))
    rows = backend.load(X)
    chosen = kmeans_plusplus(rows, 8, np.random.RandomState(0), probabilities(len(X), None, np.dtype(np.float64)))
    assert len(np.unique(X[chosen[:5]], axis=0)) == 5
