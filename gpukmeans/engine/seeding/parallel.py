"""k-means||: seeds in few passes over the rows.

B. Bahmani, B. Moseley, A. Vattani, R. Kumar and S. Vassilvitskii, "Scalable k-means++", VLDB 2012.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64
from gpukmeans.backends.protocol import Rows, Seeding
from gpukmeans.certificates.rounding import SLACK, SQUARE_UNDERFLOW, UNIT64
from gpukmeans.engine.seeding.decisions import locate, running_sums
from gpukmeans.engine.seeding.draws import probabilities
from gpukmeans.engine.seeding.exact import ExactPotentials
from gpukmeans.engine.seeding.plusplus import kmeans_plusplus

#: Rows that a round of k-means|| draws on average, in multiples of n_clusters.  With 2, and 5 rounds, the inertias of
#: Bahmani et al. are as low as with k-means++.
OVERSAMPLING = 2
#: Rounds of k-means||.
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
    a probability of 2 n_clusters times its share of the potential.  The weight of a candidate is the sum of the weights
    of the rows nearest to it, and greedy k-means++ draws among the candidates.  Where these are too few, k-means++
    draws the missing ones among all rows.

    Parameters
    ----------
    rows : Rows
    n_clusters : int
    random_state : RandomState
        One `choice`, then a uniform for every row and round, then what `kmeans_plusplus` uses.
    dtype : dtype
        That of `probabilities`.
    sample_weight : ndarray of shape (n_samples,), float64, or None
        The weights that `rows` were loaded with.
    load : callable
        ``load(X, sample_weight)`` returns candidate rows on the backend of `rows`: ``Backend.load``.

    Notes
    -----
    The rounds draw about 10 n_clusters candidates, whose distances to all rows are the work: five passes over the rows
    instead of n_clusters, but no fewer multiplications.  That pays where passes are expensive.  On a CPU greedy
    k-means++ multiplies far less, as it skips most rows without reading them, and is faster for rows that fit the
    memory.
    """
    p = probabilities(rows.n_samples, sample_weight, dtype)
    chosen = [int(random_state.choice(rows.n_samples, p=p))]
    if n_clusters == 1:
        return np.array(chosen)
    seeding = rows.seeding()
    exact = ExactPotentials(rows, sample_weight)
    sums, errors = seeding.add(np.array(chosen))
    for _ in range(ROUNDS):
        draws = random_state.uniform(size=rows.n_samples)
        kept = rows_to_keep(draws, OVERSAMPLING * n_clusters, sums, errors, seeding, exact, chosen)
        if len(kept):
            sums, errors = seeding.add(kept)
            chosen += kept.tolist()
    candidates = np.array(chosen)
    weights = _weights_of_nearest(rows, candidates, sample_weight)
    heavy = np.flatnonzero(weights > 0.0)  # of equal candidates only the first has a weight
    if len(heavy) > n_clusters:
        table, weights = rows.take(candidates[heavy]), weights[heavy]
        p = probabilities(len(heavy), weights, dtype)
        return candidates[heavy][kmeans_plusplus(load(table, weights), n_clusters, random_state, p, weights)]
    missing: list[int] = []
    while len(heavy) + len(missing) < n_clusters:
        missing += locate(random_state.uniform(size=1), sums, errors, seeding, exact, [*chosen, *missing])
        sums, errors = seeding.add(np.array(missing[-1:]))
    return np.concatenate([candidates[heavy], np.array(missing, np.int64)])


def rows_to_keep(
    draws: F64, factor: int, sums: F64, errors: F64, seeding: Seeding, exact: ExactPotentials, chosen: list[int]
) -> NDArray[np.int64]:
    """The rows whose draw, times the potential, is less than `factor` times their own term of it."""
    running, running_error = running_sums(sums, errors)
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
