"""k-means++ with scikit-learn's draws, each decided as real arithmetic would.

D. Arthur and S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007; the greedy variant with
2 + log(k) trials is scikit-learn's.

A draw is a decision: which row does the running sum of squared distances first reach a random value at?  Which of the
trials leaves the smallest potential?  Backends return distances with error bounds, which settle nearly every decision
(decisions.py); whole numbers of unlimited size decide the rest (exact.py).  So every backend draws the same rows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64
from gpukmeans.backends.protocol import Drawn, Rows
from gpukmeans.engine.seeding.decisions import locate, smallest
from gpukmeans.engine.seeding.exact import ExactPotentials


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
        See `gpukmeans.engine.seeding.draws.probabilities`.
    sample_weight : ndarray of shape (n_samples,), float64, or None
        The weights that `rows` were loaded with.
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
    """The rows that `n_runs` calls of `kmeans_plusplus` draw one after another, (n_runs, n_clusters).

    No random value depends on the row that an earlier one hit, so all are drawn first.  The backend draws rows for as
    long as it is certain, and may advance all runs together.
    """
    first, draws = plusplus_draws(rows.n_samples, n_clusters, n_runs, random_state, p, n_local_trials)
    return completed(rows.plusplus(first, draws), draws, lambda _: (rows, sample_weight))


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


def completed(drawn: Drawn, draws: F64, problem_of: Callable[[int], tuple[Rows, F64 | None]]) -> NDArray[np.int64]:
    """The seeds of all runs, (n_runs, n_clusters): those that a backend was certain of, and the rest.

    Parameters
    ----------
    drawn : Drawn
        What the backend drew; its `rows` are completed in place.
    draws : ndarray of shape (n_runs, n_clusters - 1, n_trials), float64
        See `plusplus_draws`.
    problem_of : callable
        ``problem_of(run)`` returns the rows of the problem of a run, and their weights or None.
    """
    for run in np.flatnonzero(drawn.n_certain < drawn.rows.shape[1]).tolist():
        rows, sample_weight = problem_of(run)
        certain = drawn.rows[run, : drawn.n_certain[run]].tolist()
        drawn.rows[run] = complete_run(rows, certain, draws[run], sample_weight)
    return drawn.rows


def complete_run(rows: Rows, seeds: list[int], draws: F64, sample_weight: F64 | None) -> list[int]:
    """All seeds of a run, given the first of them.

    One step is decided here, then the backend goes on for as long as it is certain, and so on.  A backend that got
    nowhere is asked again after twice as many steps.

    Parameters
    ----------
    rows : Rows
    seeds : list of int
        The first seeds, one at least.
    draws : ndarray of shape (n_clusters - 1, n_trials), float64
    sample_weight : ndarray of shape (n_samples,), float64, or None
    """
    exact = ExactPotentials(rows, sample_weight)
    seeding = rows.seeding()
    sums, errors = seeding.add(np.array(seeds))
    pause, ask_at = 1, 0  # steps before the backend is asked again, and how many seeds there are then
    while True:
        located = locate(draws[len(seeds) - 1], sums, errors, seeding, exact, seeds)
        candidates = np.array(list(dict.fromkeys(located)))
        best = smallest(candidates, seeding, rows, exact, seeds)
        seeds.append(int(candidates[best]))
        further = np.zeros(0, np.int64)
        if len(seeds) >= ask_at:
            drawn = rows.plusplus(np.array([seeds]), draws[None, len(seeds) - 1 :])
            further = drawn.rows[0, len(seeds) : drawn.n_certain[0]]
            pause = 1 if len(further) else 2 * pause
            ask_at = len(seeds) + len(further) + pause
        if len(seeds) + len(further) > len(draws):
            return [*seeds, *further.tolist()]
        sums, errors = seeding.accept(best)
        if len(further):
            sums, errors = seeding.add(further)
            seeds += further.tolist()
