"""kernels/sparse_seed.cu against rational arithmetic; every memory access is watched."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy import sparse

from tests.emulator.testing import skip_without_compiler
from tests.support.launches.common import (
    IN_ORDER,
    watched,
)
from tests.support.launches.faults import fault_tests
from tests.support.launches.sparse import (
    load,
    rows_of,
    weights_of,
)
from tests.support.oracles import square_distances

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda t: t.__name__)


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


# ---- seeds ----------------------------------------------------------------------------------------------------


def potentials(X, weight, seeds):
    """weight * squared distance to the closest seed of every row, as Fractions."""
    distances, unit = square_distances(X.toarray(), X[seeds].toarray())
    weights = [Fraction(1)] * X.shape[0] if weight is None else [Fraction(w) for w in weight.tolist()]
    return [w * min(int(v) for v in row) * unit for w, row in zip(weights, distances, strict=True)]


def within(got, errors, want, tightness=1e-9):
    for value, error, exact in zip(got.tolist(), errors.tolist(), want, strict=True):
        assert abs(Fraction(value) - exact) <= Fraction(error)
        assert error <= tightness * max(value, 1.0) + 1e-290


def check_seeding(device, X, weight, first, candidates):
    n = X.shape[0]
    seeding = load(X, weight, device).seeding()
    seeding_terms = [potentials(X, weight, first)]
    sums, errors = seeding.add(np.array(first))

    def check_kept(terms, sums, errors):
        blocks = [sum(terms[b : b + 256]) for b in range(0, n, 256)]
        within(sums, errors, blocks)
        within(*seeding.terms(), terms)
        for b in range(len(blocks)):
            within(*seeding.block(b), terms[256 * b : 256 * (b + 1)])
        assert (seeding.terms()[0] == 0).tolist() == [term == 0 for term in terms]

    check_kept(seeding_terms[0], sums, errors)
    got, slack = seeding.propose(np.array(candidates))
    within(got, slack, [sum(potentials(X, weight, [*first, c])) for c in candidates])
    some = np.array([0, len(candidates) - 1])
    refined, bounds = seeding.refine(some)
    assert np.array_equal(refined, got[some])
    assert np.array_equal(bounds, slack[some])
    check_kept(potentials(X, weight, [*first, candidates[-1]]), *seeding.accept(len(candidates) - 1))


@pytest.mark.one_in(3)
@DTYPES
@IN_ORDER
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("n", "d", "density"), [(20, 1, 0.7), (280, 30, 0.2), (60, 70, 0.7)])
def test_potentials_are_within_their_bounds(n, d, density, weighted, order, seed, dtype):
    """Rows that are twice there, and more candidates than a launch takes."""
    X = rows_of(n, d, density, dtype)
    check_seeding(
        watched(order, seed), X, weights_of(n) if weighted else None, [4], [1, 9, 0, 3, 5, 7, 4, 6, 8, 19, 11]
    )


def test_many_seeds_at_once():
    check_seeding(watched(), rows_of(60, 20, 0.3), None, list(range(20)), [30, 31])


def test_seeds_of_whole_numbers_have_no_error():
    X = rows_of(90, 20, 0.3, whole=True)
    seeding = load(X).seeding()
    for values, errors in (seeding.add(np.array([5])), seeding.propose(np.array([1, 2])), seeding.terms()):
        assert values.any()
        assert not errors.any()
    assert seeding.propose(np.array([1, 2]))[0].tolist() == [float(sum(potentials(X, None, [5, c]))) for c in (1, 2)]


@pytest.mark.parametrize("size", [2.0**-560, 2.0**470])
def test_rows_near_to_each_other_are_told_apart(size):
    """Cancellation would leave nothing of such distances, and squares may underflow."""
    x = np.where(np.random.default_rng(0).random(40) < 0.5, 1.0, 0.0)
    dense = np.stack([x, x, x * (1 + 2.0**-50), x + 2.0**-40 * (np.arange(40) == 5), 0.5 * x, np.zeros(40)]) * size
    X = sparse.csr_array(dense)
    seeding = load(X, device=watched()).seeding()
    seeding.add(np.array([0]))
    terms, errors = seeding.terms()
    want = potentials(X, None, [0])
    assert (terms > 0).tolist() == [False, False, True, True, True, True]
    assert all(abs(Fraction(t) - w) <= Fraction(e) for t, e, w in zip(terms, errors.tolist(), want, strict=True))
    if size > 1:
        assert all(abs(float(Fraction(t) / w) - 1) < 1e-12 for t, w in list(zip(terms, want, strict=True))[2:])


def seeds(device):
    check_seeding(device, rows_of(280, 30, 0.2), weights_of(280), [4, 0], [1, 9, 0, 3])


def near_seeds(device):
    x = np.where(np.arange(40) % 3, 0.0, 1.0)
    seed = x + 2.0**-40 * (np.arange(40) == 1)
    X = sparse.csr_array(np.stack([seed, seed, x, np.roll(x, 1)]))
    seeding = load(X, device=device).seeding()
    seeding.add(np.array([0]))
    terms, errors = seeding.terms()
    want = potentials(X, None, [0])
    assert (terms > 0).tolist() == [False, False, True, True]
    assert all(abs(Fraction(t) - w) <= Fraction(e) for t, e, w in zip(terms, errors.tolist(), want, strict=True))
    assert terms[2] == 2.0**-80


#: A fault: the runner that fails on it, the good text, the bad text.
FAULTS = {
    "lanes without a row win": (seeds, "if (member >= count) distance = ", "if (false) distance = "),
    "the weight is left out": (seeds, "block_sum(__dmul_rn(weight, value), part)", "block_sum(value, part)"),
    "parts are read too early": (seeds, "    __syncthreads();  // the parts have been read\n", ""),
    "near rows are left to cancellation": (near_seeds, "!(distance > __dmul_rn(0x1p-20, both))", "false"),
    "a row that lacks an entry is a seed's equal": (near_seeds, "apart |= value != 0.0;", ""),
    "what only the seed has is left out": (near_seeds, "sum = fma(value, value, sum);", ""),
}

test_planted_faults_are_caught, test_planted_faults_are_really_planted = fault_tests(FAULTS)
