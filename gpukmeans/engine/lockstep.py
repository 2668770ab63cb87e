"""Runs that advance together: restarts of one problem, or of several of one shape, and the best run of each.

Each run takes the same steps as it would alone (lloyd.py) and ends in the same bits.  A run that empties a cluster
starts over alone, since relocation reads single rows; so does a run that the backend does not finish.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64
from gpukmeans.backends.protocol import Ended, Rows, Runs
from gpukmeans.engine.lloyd import lloyd
from gpukmeans.engine.records import Iterations, LloydResult
from gpukmeans.engine.tolerance import Tolerance


@dataclass
class Contest:
    """The runs of one problem: the best so far, and the records of all.

    Attributes
    ----------
    rows : callable
        Returns the rows of the problem, for runs that start over alone.
    sample_weight, tol
        As for `gpukmeans.engine.lloyd.lloyd`.
    best : LloydResult or None
        The run with the lowest inertia so far, the first of equal ones.
    n_runs : int
        The number of runs so far.
    iterations : Iterations
        The records of all runs.
    inertia_seconds : float
        Wall time of their inertias.
    """

    rows: Callable[[], Rows]
    sample_weight: F64 | None
    tol: float | Tolerance
    best: LloydResult | None = None
    n_runs: int = 0
    iterations: Iterations = field(default_factory=Iterations)
    inertia_seconds: float = 0.0

    def result(self) -> LloydResult:
        """The best run, with the iterations of all runs."""
        best = self.best
        assert best is not None
        # Arrays of several runs may be views of one array: a copy releases the others.
        labels = best.labels.copy() if isinstance(best.labels, np.ndarray) else best.labels
        return replace(
            best,
            labels=labels,
            centers=best.centers.copy(),
            iterations=self.iterations,
            inertia_seconds=self.inertia_seconds,
        )

    def judge(
        self, runs: Runs, starts: NDArray, ended: Sequence[Ended | None], *, max_iter: int, precision: str
    ) -> None:
        """Take in further runs: where they started, (n_runs, n_clusters, n_features), and how each ended.

        A run whose end is None starts over alone.  An inertia is computed only where its bounds allow the run to be the
        best.
        """
        alone: dict[int, LloydResult] = {}
        for i, end in enumerate(ended):
            number = self.n_runs + i
            if end is None:
                alone[i] = lloyd(
                    self.rows(),
                    starts[i],
                    sample_weight=self.sample_weight,
                    max_iter=max_iter,
                    tol=self.tol,
                    precision=precision,
                    init=number,
                )
                self.iterations.add(number, alone[i].iterations)
                self.inertia_seconds += alone[i].inertia_seconds
            else:
                self.iterations.add(number, end.steps)
        self.n_runs += len(ended)
        started = time.perf_counter()
        reach = min(end.highest if end else alone[i].inertia for i, end in enumerate(ended))
        for i, end in enumerate(ended):
            if end is None:
                result = alone[i]
            elif end.lowest > reach or (self.best is not None and end.lowest > self.best.inertia):
                continue
            else:
                known = end.lowest == end.highest
                inertia = end.lowest if known else runs.inertia(end.labels, end.centers)
                result = LloydResult(end.labels, end.centers, inertia, len(end.steps), n_used=end.n_used)
            if self.best is None or result.inertia < self.best.inertia:
                self.best = result
        self.inertia_seconds += time.perf_counter() - started


def contend(
    runs: Runs, starts: NDArray, contests: Sequence[Contest], *, max_iter: int, precision: str = "exact"
) -> None:
    """Finish all runs, and pass each contest its own.

    Parameters
    ----------
    runs : Runs
        Started from ``starts.reshape(-1, n_clusters, n_features)``.
    starts : ndarray of shape (n_contests, n_runs, n_clusters, n_features)
    contests : sequence of Contest
        Changed in place.
    max_iter, precision
        As for `lockstep`.
    """
    ended = runs.finish(max_iter, [contest.tol for contest in contests for _ in range(starts.shape[1])])
    for i, contest in enumerate(contests):
        own = ended[i * starts.shape[1] : (i + 1) * starts.shape[1]]
        contest.judge(runs, starts[i], own, max_iter=max_iter, precision=precision)


def lockstep(
    rows: Rows,
    starts: Sequence[NDArray],
    *,
    sample_weight: F64 | None,
    max_iter: int,
    tol: float | Tolerance,
    precision: str = "exact",
) -> LloydResult:
    """The result of the run with the lowest inertia (of equal ones the first), with the iterations of all runs.

    Parameters
    ----------
    rows : Rows
        Its ``rows.runs_at_a_time(n_clusters, n_runs)`` must not be 0.
    starts : sequence of ndarray of shape (n_clusters, n_features)
    sample_weight, max_iter, tol, precision
        As for `gpukmeans.engine.lloyd.lloyd`; "fast" affects only runs that start over alone.
    """
    at_a_time = rows.runs_at_a_time(len(starts[0]), len(starts))
    contest = Contest(lambda: rows, sample_weight, tol)
    for base in range(0, len(starts), at_a_time):
        group = np.stack(starts[base : base + at_a_time])
        contend(rows.start_many(group), group[None], [contest], max_iter=max_iter, precision=precision)
    return contest.result()
