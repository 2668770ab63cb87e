"""Decisions of a seeding step by sums with errors: what is decided is right, and little more than must be is open."""

from __future__ import annotations

from bisect import bisect_left
from fractions import Fraction
from itertools import accumulate, product

import numpy as np
import pytest

from gpukmeans.certificates.rounding import UNIT64
from gpukmeans.engine.seeding.decisions import first_reaching, locate, running_sums, smallest


class Terms:
    """A `Seeding` whose rows have given terms, as they are or off by a share that it tells; candidates likewise."""

    def __init__(self, terms, block_size=1, share=0.0, potentials=(), error=0.0, refined=None):
        self.terms, self.block_size, self.share = np.asarray(terms, float), block_size, share
        self.potentials, self.error, self.refined = np.asarray(potentials, float), error, refined

    def sums(self):
        starts = np.arange(0, len(self.terms), self.block_size)
        return np.add.reduceat(self.terms, starts), np.add.reduceat(self.share * self.terms, starts)

    def block(self, block):
        part = slice(block * self.block_size, (block + 1) * self.block_size)
        return self.terms[part], self.share * self.terms[part]

    def propose(self, candidates):
        return self.potentials, np.full(len(self.potentials), self.error)

    def refine(self, contenders):
        self.asked = contenders.tolist()
        return self.refined

    def nearer(self, contenders):
        return 10 * contenders


class Exact:
    """`ExactPotentials` that answers with a row and counts how often it is asked."""

    def __init__(self, answer=-1):
        self.answer, self.asked = answer, []

    def locate(self, u, chosen):
        self.asked.append((u, chosen))
        return self.answer

    def smallest(self, ids, chosen, nearer):
        self.asked.append((ids.tolist(), nearer.tolist()))
        return self.answer


def true_rows(terms, draws):
    running = list(accumulate(Fraction(t) for t in terms.tolist()))
    return [bisect_left(running, running[-1] * Fraction(u)) for u in draws.tolist()]


# ---- running sums ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 7, 1000])
def test_running_sums_are_within_their_errors_and_these_are_needed(n):
    """Each addition loses nearly half a unit of the last place of 1: the bound is met but for one rounding."""
    terms = np.concatenate([[1.0], np.full(n, UNIT64 * (1 - 2.0**-20))])
    running, errors = running_sums(terms, np.zeros(n + 1))
    lost = 1 + n * Fraction(terms[-1]) - Fraction(running[-1])
    assert lost <= Fraction(errors[-1]) <= lost * (n + 1) / n * (1 + Fraction(1, 2**19))


def test_the_errors_of_terms_add_up():
    """Among them the ones whose sum rounds down, and such of which some are zero."""
    assert running_sums(np.zeros(2), np.array([0.0, 1.0]))[1].tolist()[1] >= 1.0
    given = np.concatenate([[1.0], np.full(999, UNIT64 * (1 - 2.0**-20))])
    _, errors = running_sums(np.zeros(1000), given)
    true = np.cumsum([Fraction(e) for e in given.tolist()])
    assert all(t <= Fraction(e) <= t * (1 + Fraction(1, 2**19)) for t, e in zip(true, errors.tolist(), strict=True))


def test_a_value_is_reached_first_where_it_must_be_and_nowhere_earlier_may_be():
    """All small whole numbers: whether the index is open is known from the extremes of the true sums and values."""
    local = np.random.default_rng(0)
    n_open = 0
    for _ in range(3000):
        running = np.cumsum(local.integers(0, 3, 4)).astype(float)
        errors = np.sort(local.integers(0, 2, 4)).astype(float)
        value, value_error = float(local.integers(0, 8)), float(local.integers(0, 2))
        (index,), (open_,) = first_reaching(running, errors, np.array([value]), np.array([value_error]))
        low, high = running - errors, running + errors
        surely = low[index] >= value + value_error and not (high[:index] >= value - value_error).any()
        assert open_ == (not surely)
        n_open += open_
    assert 300 < n_open < 2700


# ---- the row that a draw hits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("block_size", [1, 4])
@pytest.mark.parametrize("n", [2, 3, 12, 50])
def test_draws_at_the_very_edge_of_a_row_hit_it_or_are_left_open(n, block_size):
    """Values within some units of the last place of a running sum, above and below it."""
    local = np.random.default_rng(n)
    n_open, n_all, far = 0, 0, 3 * n + 30
    for _ in range(600 // n):
        terms = local.random(n) * 2.0 ** local.integers(-3, 3, n) * (local.random(n) < 0.9)
        terms[0] = 1.0
        seeding = Terms(terms, block_size)
        sums, errors = seeding.sums()
        errors += (block_size - 1) * UNIT64 * sums * (1 + 2.0**-20)  # a block's own sum rounds, too
        edges = np.cumsum(terms) / terms.sum()
        draws = np.concatenate([edges + s * UNIT64 * edges for s in (-far, -4, -3, -2, -1, 0, 1, 2, 3, 4, far)])
        draws = draws[draws < 1]
        exact = Exact()
        located = locate(draws, sums, errors, seeding, exact, [5, 6])
        want = true_rows(terms, draws)
        assert [row if row >= 0 else true for row, true in zip(located, want, strict=True)] == want
        assert exact.asked == [(u, [5, 6]) for u, row in zip(draws.tolist(), located, strict=True) if row < 0]
        n_open, n_all = n_open + len(exact.asked), n_all + len(draws)
    assert 0 < n_open < 0.95 * n_all


def test_no_rounding_decides_where_it_weighs_most():
    """Sums, draws and values a little above and below powers of two, where a unit of the last place is largest."""
    n_open = n_all = 0
    draws = 0.5 + np.arange(-24, 25) * 2.0**-54
    for i, j in product(range(-9, 10), repeat=2):
        terms = 0.5 + np.array([i, j]) * 2.0**-54
        exact = Exact()
        located = locate(draws, terms, np.zeros(2), Terms(terms), exact, [0])
        assert all(row in (-1, true) for row, true in zip(located, true_rows(terms, draws), strict=True)), (i, j)
        n_open, n_all = n_open + len(exact.asked), n_all + len(draws)
    assert n_open < 0.8 * n_all


@pytest.mark.parametrize("block_size", [1, 8, 64])
def test_draws_inside_a_row_hit_it(block_size):
    terms = np.random.default_rng(1).random(200)
    seeding = Terms(terms, block_size)
    draws = (np.cumsum(terms) - 0.5 * terms) / terms.sum()
    exact = Exact()
    assert locate(draws, *seeding.sums(), seeding, exact, [0]) == list(range(200))
    assert exact.asked == []


def test_draws_that_the_errors_of_terms_leave_open_are_decided_exactly():
    """Terms may be off by a hundredth: a draw is open where the sums before it could make up for that."""
    terms = np.ones(10)
    seeding, exact = Terms(terms, 2, share=0.01), Exact(77)
    assert locate(np.array([0.05, 0.35, 0.399, 0.4, 0.713, 0.75]), *seeding.sums(), seeding, exact, [3]) == [
        0,
        3,
        77,
        77,
        77,
        7,
    ]
    assert exact.asked == [(0.399, [3]), (0.4, [3]), (0.713, [3])]


def test_the_last_row_is_hit_by_the_largest_draw():
    seeding = Terms([1.0, 2.0, 0.0])
    assert locate(np.array([0.0, 1 - 2.0**-53]), *seeding.sums(), seeding, Exact(1), [0]) == [0, 1]


# ---- the candidate that leaves the smallest potential ----------------------------------------------------------------


class Rows:
    def __init__(self, values):
        self.values = np.asarray(values, float)[:, None]

    def take(self, index):
        return self.values[index]


ROWS = Rows([5.0, 6.0, 5.0, 7.0, 8.0])


def chosen(seeding, exact, ids=(0, 1, 3, 4)):
    return smallest(np.array(ids), seeding, ROWS, exact, [9])


def test_a_potential_smaller_by_more_than_the_errors_wins_at_once():
    assert chosen(Terms([], potentials=[9.0, 3.0, 5.1, 8.0], error=1.0), Exact()) == 1


def test_contenders_are_refined_and_the_exact_potential_decides_what_is_open_then():
    """Of 3 and 5, each off by 1, either may be the smaller; 9 may not."""
    close = {"potentials": [9.0, 3.0, 5.0, 4.0], "error": 1.0}
    seeding, exact = Terms([], **close, refined=(np.array([4.0, 3.0, 3.5]), np.zeros(3))), Exact()
    assert chosen(seeding, exact) == 2
    assert seeding.asked == [1, 2, 3]
    assert exact.asked == []
    seeding, exact = Terms([], **close, refined=(np.array([4.0, 3.0, 3.5]), np.array([0.0, 0.0, 0.5]))), Exact(1)
    assert chosen(seeding, exact) == 3
    assert exact.asked == [
        ([3, 4], [20, 30])
    ]  # rows, and those that the positions 2 and 3 of the proposal are nearer to
    seeding, exact = Terms([], **close, refined=(np.array([3.0, 3.0, 3.5]), np.zeros(3))), Exact()
    assert chosen(seeding, exact) == 1  # equal, without any error: the first
    assert exact.asked == []


def test_two_contenders_are_refined():
    seeding = Terms([], potentials=[5.0, 4.5], error=1.0, refined=(np.array([4.0, 3.0]), np.zeros(2)))
    assert chosen(seeding, Exact(), ids=(0, 1)) == 1


def test_equal_rows_are_one_candidate():
    seeding, exact = Terms([], potentials=[3.0, 3.0], error=1.0), Exact()
    assert chosen(seeding, exact, ids=(0, 2)) == 0
    assert exact.asked == []
