"""Where Lloyd's algorithm starts: k-means++ with scikit-learn's draws, k-means||, and random rows.

D. Arthur and S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007; the greedy variant with
2 + log(k) trials is scikit-learn's.  B. Bahmani, B. Moseley, A. Vattani, R. Kumar and S. Vassilvitskii, "Scalable
k-means++", VLDB 2012, for k-means||.

A draw is a decision: which row does the running sum of squared distances first reach a random value at?  Which of the
trials leaves the smallest potential?  Is a row's share of the potential above a random one?  The decisions are those of
real arithmetic.  Backends return distances with error bounds, which settle nearly every decision; those they leave open
are settled in whole numbers of unlimited size.
So every backend draws the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from gpukmeans.backends import Drawn, Rows, Seeding
from gpukmeans.certificates import SLACK, SQUARE_UNDERFLOW, UNIT64, gamma
from gpukmeans.exact_sums import F64
from gpukmeans.tie_break import first_of_equal_rows


def probabilities(n_samples: int, sample_weight: F64 | None, dtype: np.dtype) -> NDArray:
    """The chance of each row to be drawn first, in the dtype in which scikit-learn computes it."""
    weight = np.ones(n_samples, dtype) if sample_weight is None else sample_weight.astype(dtype)
    return weight / weight.sum()


def random_rows(rows: Rows, n_clusters: int, random_state: np.random.RandomState, p: NDArray) -> NDArray[np.int64]:
    """Indices of `n_clusters` different rows drawn with probability `p`: scikit-learn's ``init="random"``."""
    return random_state.choice(rows.n_samples, size=n_clusters, replace=False, p=p).astype(np.int64)


def draw_rows(
    init: str,
    rows: Rows,
    n_clusters: int,
    random_state: np.random.RandomState,
    sample_weight: F64 | None,
    dtype: np.dtype,
    load: Callable[[NDArray, F64], Rows],
) -> NDArray[np.int64]:
    """Indices of the rows to start from, by the name of a way to draw them: see `gpukmeans.KMeans`."""
    if init == "k-means||":
        return kmeans_parallel(rows, n_clusters, random_state, dtype, sample_weight, load)
    p = probabilities(rows.n_samples, sample_weight, dtype)
    if init == "random":
        return random_rows(rows, n_clusters, random_state, p)
    return kmeans_plusplus(rows, n_clusters, random_state, p, sample_weight)


def kmeans_plusplus(
    rows: Rows,
    n_clusters: int,
    random_state: np.random.RandomState,
    p: NDArray,
    sample_weight: F64 | None = None,
    n_local_trials: int | None = None,
) -> NDArray[np.int64]:
    """Indices of `n_clusters` rows drawn by greedy k-means++, in the order drawn.

    Parameters
    ----------
    rows : Rows
    random_state : RandomState
        Used exactly as scikit-learn uses it: one `choice`, then `n_local_trials` uniforms for each further row.
    p : ndarray of shape (n_samples,)
        See `probabilities`.
    n_local_trials : int, default=2 + int(log(n_clusters))
    """
    return many_kmeans_plusplus(rows, n_clusters, 1, random_state, p, sample_weight, n_local_trials)[0]


def many_kmeans_plusplus(
    rows: Rows,
    n_clusters: int,
    n_runs: int,
    random_state: np.random.RandomState,
    p: NDArray,
    sample_weight: F64 | None = None,
    n_local_trials: int | None = None,
) -> NDArray[np.int64]:
    """What so many calls of `kmeans_plusplus` draw one after another, (n_runs, n_clusters).

    No random value depends on what an earlier one hit, so all are drawn first.  The backend goes as far as it is
    certain, with all runs at once if it likes.
    """
    first, draws = plusplus_draws(rows.n_samples, n_clusters, n_runs, random_state, p, n_local_trials)
    return settled(rows.plusplus(first, draws), draws, lambda _: (rows, sample_weight))


def plusplus_draws(
    n_samples: int,
    n_clusters: int,
    n_runs: int,
    random_state: np.random.RandomState,
    p: NDArray,
    n_local_trials: int | None = None,
) -> tuple[NDArray[np.int64], F64]:
    """The random values of `many_kmeans_plusplus`: the first rows (n_runs, 1), and (n_runs, n_steps, n_trials)."""
    if n_local_trials is None:
        n_local_trials = 2 + int(np.log(n_clusters))
    first = np.empty((n_runs, 1), np.int64)
    draws = np.empty((n_runs, n_clusters - 1, n_local_trials))
    for run in range(n_runs):
        first[run] = random_state.choice(n_samples, p=p)
        draws[run] = random_state.uniform(size=draws.shape[1:])
    return first, draws


def settled(drawn: Drawn, draws: F64, problem_of: Callable[[int], tuple[Rows, F64 | None]]) -> NDArray[np.int64]:
    """All rows of the runs, of which a backend was certain of some; `problem_of` a run: its rows and their weights."""
    for run in np.flatnonzero(drawn.n_certain < drawn.rows.shape[1]).tolist():
        rows, sample_weight = problem_of(run)
        certain = drawn.rows[run, : drawn.n_certain[run]].tolist()
        drawn.rows[run] = _settled(rows, certain, draws[run], sample_weight)
    return drawn.rows


def _settled(rows: Rows, seeds: list[int], draws: F64, sample_weight: F64 | None) -> list[int]:
    """The rest of a run, of which some seeds are certain: one step, then as far as the backend goes on, and so on."""
    exact = _ExactPotentials(rows, sample_weight)
    seeding = rows.seeding()
    sums, errors = seeding.add(np.array(seeds))
    while True:
        located = _locate(draws[len(seeds) - 1], sums, errors, seeding, exact, seeds)
        candidates = np.array(list(dict.fromkeys(located)))
        best = _smallest(candidates, seeding, rows, exact, seeds)
        seeds.append(int(candidates[best]))
        drawn = rows.plusplus(np.array([seeds]), draws[None, len(seeds) - 1 :])
        further = drawn.rows[0, len(seeds) : drawn.n_certain[0]]
        if len(seeds) + len(further) > len(draws):
            return [*seeds, *further.tolist()]
        sums, errors = seeding.accept(best)
        if len(further):
            sums, errors = seeding.add(further)
            seeds += further.tolist()


#: Rows that a round of k-means|| draws on average, in multiples of n_clusters; and its rounds.  With 2 and 5 Bahmani et
#: al. end as low as with k-means++.
OVERSAMPLING = 2
ROUNDS = 5


def kmeans_parallel(
    rows: Rows,
    n_clusters: int,
    random_state: np.random.RandomState,
    dtype: np.dtype,
    sample_weight: F64 | None,
    load: Callable[[NDArray, F64], Rows],
) -> NDArray[np.int64]:
    """Indices of `n_clusters` rows drawn by k-means||: few passes over the rows, however many clusters there are.

    The first row is drawn as by k-means++.  Then, in each of 5 rounds, every row becomes a candidate by itself, with
    a chance of 2 n_clusters times its share of the potential.  Each candidate is weighed by the rows nearest to it,
    and greedy k-means++ draws among the candidates.  Where these are too few, k-means++ draws the missing ones among
    all rows.

    Parameters
    ----------
    rows : Rows
    random_state : RandomState
        One `choice`, then a uniform for every row and round, then what `kmeans_plusplus` uses.
    dtype : dtype
        That of `probabilities`.
    load : callable
        Brings candidate rows and their weights to where `rows` are: ``Backend.load``.

    Notes
    -----
    The rounds hold about 10 n_clusters candidates, whose distances to all rows are the work: five passes over the rows
    instead of n_clusters, but no fewer multiplications.  That pays where passes are dear.  On a CPU greedy k-means++
    multiplies far less, as it leaves out most rows unread, and is the quicker one for rows that fit the memory.
    """
    p = probabilities(rows.n_samples, sample_weight, dtype)
    chosen = [int(random_state.choice(rows.n_samples, p=p))]
    if n_clusters == 1:
        return np.array(chosen)
    seeding = rows.seeding()
    exact = _ExactPotentials(rows, sample_weight)
    sums, errors = seeding.add(np.array(chosen))
    for _ in range(ROUNDS):
        draws = random_state.uniform(size=rows.n_samples)
        kept = _kept(draws, OVERSAMPLING * n_clusters, sums, errors, seeding, exact, chosen)
        if len(kept):
            sums, errors = seeding.add(kept)
            chosen += kept.tolist()
    candidates = np.array(chosen)
    weights = _weights_of_nearest(rows, candidates, sample_weight)
    heavy = np.flatnonzero(weights > 0.0)  # equal rows: the first of them bears their weight
    if len(heavy) > n_clusters:
        table, weights = rows.take(candidates[heavy]), weights[heavy]
        p = probabilities(len(heavy), weights, dtype)
        return candidates[heavy][kmeans_plusplus(load(table, weights), n_clusters, random_state, p, weights)]
    missing: list[int] = []
    while len(heavy) + len(missing) < n_clusters:
        missing += _locate(random_state.uniform(size=1), sums, errors, seeding, exact, [*chosen, *missing])
        sums, errors = seeding.add(np.array(missing[-1:]))
    return np.concatenate([candidates[heavy], np.array(missing, np.int64)])


def _kept(
    draws: F64, factor: int, sums: F64, errors: F64, seeding: Seeding, exact: _ExactPotentials, chosen: list[int]
) -> NDArray[np.int64]:
    """The rows whose draw, times the potential, is less than `factor` times their own term of it."""
    running, running_error = _running(sums, errors)
    terms, term_errors = seeding.terms()
    share = draws * running[-1]
    gap = factor * terms - share
    doubt = factor * term_errors + draws * running_error[-1] + 4.0 * UNIT64 * (factor * terms + share)
    doubt = SLACK * doubt + SQUARE_UNDERFLOW
    kept = gap > doubt
    open_ = np.flatnonzero((np.abs(gap) <= doubt) & (terms + term_errors > 0.0))
    if len(open_):
        kept[open_] = exact.kept(open_, draws[open_], factor, chosen)
    return np.flatnonzero(kept)


def _weights_of_nearest(rows: Rows, candidates: NDArray[np.int64], sample_weight: F64 | None) -> F64:
    """The summed weights of the rows nearest to each candidate; ties go to the candidate that comes first."""
    run = rows.start(rows.take(candidates).astype(rows.center_dtype))
    run.assign(move=False)
    return np.bincount(run.labels(), sample_weight, len(candidates)).astype(np.float64)


def _locate(
    draws: F64, sums: F64, errors: F64, seeding: Seeding, exact: _ExactPotentials, chosen: list[int]
) -> list[int]:
    """The first row at which the running sum of the potential reaches u times its total, for every draw u."""
    running, running_error = _running(sums, errors)
    values = draws * running[-1]
    value_errors = draws * running_error[-1] + 4.0 * UNIT64 * values
    found, open_ = _first_reaching(running, running_error, values, value_errors)
    rows = []
    for i, block in enumerate(found.tolist()):
        row: int | None = None if open_[i] else block
        if row is not None and seeding.block_size > 1:
            row = _locate_within(block, running, running_error, values[i : i + 1], value_errors[i : i + 1], seeding)
        rows.append(exact.locate(float(draws[i]), chosen) if row is None else row)
    return rows


def _locate_within(
    block: int, running: F64, running_error: F64, value: F64, value_error: F64, seeding: Seeding
) -> int | None:
    """The first row of a block at which the running sum reaches a value, or None where the errors leave it open."""
    before, before_error = (running[block - 1], running_error[block - 1]) if block else (0.0, 0.0)
    terms, term_errors = seeding.block(block)
    inner, inner_error = _running(np.append(before, terms), np.append(before_error, term_errors))
    row, open_ = _first_reaching(inner[1:], inner_error[1:], value, value_error)
    return None if open_[0] else block * seeding.block_size + int(row[0])


def _running(terms: F64, errors: F64) -> tuple[F64, F64]:
    """Running sums of non-negative terms, and bounds of their errors."""
    running = terms.cumsum()
    slack = gamma(len(terms) + 1.0, UNIT64) * running
    if errors.any():
        slack += errors.cumsum() * (1.0 + 2.0**-20)
    return running, slack


def _first_reaching(
    running: F64, errors: F64, values: F64, value_errors: F64
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """The first index whose running sum is at least each value, and where the errors leave it open.

    Running sums and their errors rise, and so do both summed.
    """
    may = np.searchsorted(running + errors, values - value_errors)
    last = np.minimum(may, len(running) - 1)
    must = running[last] - errors[last] >= values + value_errors
    return last, ~(must & (may == last))


def _smallest(
    candidates: NDArray[np.int64], seeding: Seeding, rows: Rows, exact: _ExactPotentials, chosen: list[int]
) -> int:
    """The candidate that leaves the smallest potential; of equal ones the first."""
    potentials, errors = seeding.propose(candidates)
    contenders = _contenders(potentials, errors)
    if len(contenders) > 1:
        contenders = contenders[np.unique(first_of_equal_rows(rows.take(candidates[contenders])))]
    if len(contenders) > 1:
        potentials, errors = seeding.refine(contenders)
        among = _contenders(potentials, errors)
        if len(among) > 1 and errors[among].any():
            return int(contenders[among[exact.smallest(candidates[contenders[among]], chosen)]])
        return int(contenders[among[0]])
    return int(contenders[0])


def _contenders(potentials: F64, errors: F64) -> NDArray[np.intp]:
    """Those that may be the smallest, in order."""
    return np.flatnonzero(potentials - errors <= (potentials + errors).min())


class _ExactPotentials:
    """The same decisions in whole numbers of unlimited size: slow, and hardly ever asked."""

    BLOCK = 4096

    def __init__(self, rows: Rows, sample_weight: F64 | None) -> None:
        self._rows = rows
        self._weight = sample_weight
        self._entries: Callable[..., tuple[NDArray, NDArray, NDArray]] | None = getattr(rows, "entries", None)

    def locate(self, u: float, chosen: list[int]) -> int:
        seeds = self._rows.take(np.array(chosen))
        terms = [self._closest(part, seeds) for part in self._parts()]
        total = sum(int(t.sum()) for t in terms)
        ratio = Fraction(u)
        running, row = 0, 0
        for block in terms:
            for term in block:
                running += int(term)
                if running * ratio.denominator >= total * ratio.numerator:
                    return row
                row += 1
        return row - 1

    def kept(self, ids: NDArray[np.int64], draws: F64, factor: int, chosen: list[int]) -> list[bool]:
        """Whether each row's draw, times the potential, is less than `factor` times its own term."""
        seeds = self._rows.take(np.array(chosen))
        total = sum(int(self._closest(part, seeds).sum()) for part in self._parts())
        ratios = [Fraction(u) for u in draws.tolist()]
        terms = self._closest(ids, seeds)
        return [r.numerator * total < factor * int(t) * r.denominator for r, t in zip(ratios, terms, strict=True)]

    def smallest(self, ids: NDArray[np.int64], chosen: list[int]) -> int:
        potentials = []
        for candidate in ids:
            seeds = self._rows.take(np.array([*chosen, int(candidate)]))
            potentials.append(sum(int(self._closest(part, seeds).sum()) for part in self._parts()))
        return min(range(len(ids)), key=lambda t: (potentials[t], t))

    def _parts(self) -> Iterator[NDArray[np.int64]]:
        n = self._rows.n_samples
        for start in range(0, n, self.BLOCK):
            yield np.arange(start, min(n, start + self.BLOCK))

    def _closest(self, part: NDArray[np.int64], seeds: NDArray) -> NDArray[np.object_]:
        """weight * min |x - seed|^2 of some rows, as Python integers on one grid."""
        distances = self._of_dense if self._entries is None else self._of_entries
        closest = None
        for distance in distances(part, seeds):
            closest = distance if closest is None else np.minimum(closest, distance)
        assert closest is not None
        if self._weight is not None:
            closest = closest * _whole(self._weight[part], -1074)
        return closest

    def _of_dense(self, part: NDArray[np.int64], seeds: NDArray) -> Iterator[NDArray[np.object_]]:
        """|x - seed|^2 of some rows, seed by seed."""
        x = self._integers(self._rows.take(part))
        for seed in self._integers(seeds):
            difference = x - seed
            yield (difference * difference).sum(axis=1)

    def _of_entries(self, part: NDArray[np.int64], seeds: NDArray) -> Iterator[NDArray[np.object_]]:
        """The same from the stored entries alone: |seed|^2 plus x (x - 2 seed) for each of a row's."""
        assert self._entries is not None
        owner, columns, values = self._entries(part)
        x = self._integers(values)
        for seed in seeds:
            there = np.flatnonzero(seed)
            s = np.zeros(len(seed), object)
            s[there] = self._integers(seed[there])
            distance = np.full(len(part), (s * s).sum(), object)
            np.add.at(distance, owner, x * (x - 2 * s[columns]))
            yield distance

    def _integers(self, values: NDArray) -> NDArray[np.object_]:
        lowest = {"u": 0, "f": -149 if values.dtype == np.float32 else -1074}[values.dtype.kind]
        return _whole(values.astype(np.float64), lowest)


def _whole(values: F64, exponent: int) -> NDArray[np.object_]:
    """values / 2**exponent as Python integers; every value must be a multiple of 2**exponent."""
    mantissas, exponents = np.frexp(values)
    whole = (mantissas * 2.0**53).astype(np.int64).astype(object)
    shifts = (exponents - 53 - exponent).astype(object)
    shift = np.frompyfunc(lambda m, s: m << s if s >= 0 else m >> -s, 2, 1)
    return shift(whole, shifts)
