"""Several problems of one shape that are fitted together, on a backend that `fits_many`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64
from gpukmeans.backends.problems import BatchBackend, ProblemError, Problems
from gpukmeans.backends.protocol import Rows
from gpukmeans.engine.lockstep import Contest, contend
from gpukmeans.engine.records import FitReport, LloydResult
from gpukmeans.engine.restarts import Init
from gpukmeans.engine.seeding.draws import probabilities
from gpukmeans.engine.seeding.plusplus import completed, plusplus_draws
from gpukmeans.engine.seeding.starts import draw_rows, find_starts
from gpukmeans.intake.problems import GivenProblem, GivenProblems


class Outcome(NamedTuple):
    """The result of one problem."""

    best: LloydResult
    n_used: int  # clusters that have a row
    report: FitReport  # with an even share of the time


@dataclass
class Job:
    """Problems of one shape and dtype to be fitted together.

    Attributes
    ----------
    given : GivenProblems
        All problems of the call.
    problems : sequence of GivenProblem
        Those of this job, all alike.
    inits : sequence
        `init` of each of these: all the same name, or centers for each.
    n_clusters, n_init, max_iter, tol, precision
        As of `gpukmeans.KMeans`.
    new_state : callable
        Returns the RandomState of the next problem.
    same_state : bool
        Whether each problem begins with the same state.
    """

    given: GivenProblems
    problems: Sequence[GivenProblem]
    inits: Sequence[Init]
    n_clusters: int
    n_init: int
    max_iter: int
    tol: float
    precision: str
    new_state: Callable[[], np.random.RandomState]
    same_state: bool

    def run(self, backend: BatchBackend) -> list[Outcome]:
        """Fit all problems.

        Raises
        ------
        ProblemError
            By the number of the problem in the call.
        """
        n_problems = len(self.problems)
        times = [time.perf_counter()]
        rows = self._loaded(backend)
        tols = self.tol * rows.variances() if self.tol > 0 else np.zeros(n_problems)
        times.append(time.perf_counter())
        starts = self._starts(backend, rows)
        times.append(time.perf_counter())
        contests = [
            Contest(partial(rows.problem, i), problem.sample_weight, float(tols[i]))
            for i, problem in enumerate(self.problems)
        ]
        runs = rows.start_many(starts.reshape(-1, *starts.shape[2:]))
        contend(runs, starts, contests, max_iter=self.max_iter, precision=self.precision)
        times.append(time.perf_counter())
        load, seed, lloyd = (np.diff(times) / n_problems).tolist()
        described = backend.describe()
        outcomes = []
        for i, contest in enumerate(contests):
            best = contest.result()
            stages = {"load": load, "seed": seed, "lloyd": lloyd, "inertia": contest.inertia_seconds}
            n_used = best.n_used
            if n_used is None:
                n_used = rows.problem(i).n_used(best.labels, self.n_clusters)
            outcomes.append(Outcome(best, n_used, FitReport(described, stages, best.iterations)))
        return outcomes

    def _loaded(self, backend: BatchBackend) -> Problems:
        weights = [problem.sample_weight for problem in self.problems if problem.sample_weight is not None]
        try:
            return backend.load_many(self.given.stacked(self.problems), np.stack(weights) if weights else None)
        except ProblemError as caught:
            raise ProblemError(self.problems[caught.number].number, caught.error) from None

    def _starts(self, backend: BatchBackend, rows: Problems) -> NDArray:
        """The centers that all runs start from, (n_problems, n_init, n_clusters, n_features)."""
        init, k, shape = self.inits[0], self.n_clusters, (len(self.problems), self.n_init)
        if not isinstance(init, str):
            return np.stack([np.asarray(centers) for centers in self.inits])[:, None]
        dtype = self.problems[0].center_dtype
        load = partial(backend.load, sums=False)
        if init == "two-level":
            return np.array(
                [
                    [
                        find_starts(init, rows.problem(i), k, state, problem.sample_weight, dtype, load)
                        for _ in range(self.n_init)
                    ]
                    for i, problem in enumerate(self.problems)
                    for state in [self.new_state()]
                ]
            )
        # The same draws serve all problems where these begin with the same state and weigh all rows equally.
        alike = self.same_state and self.problems[0].sample_weight is None
        drawing = enumerate(self.problems[:1] if alike and init != "k-means||" else self.problems)
        if init == "k-means++":
            drawn = [self._draws(problem, rows.n_samples) for _, problem in drawing]
            seeds, draws = (np.concatenate(values) for values in zip(*drawn, strict=True))
            if alike:
                seeds, draws = np.tile(seeds, (shape[0], 1)), np.tile(draws, (shape[0], 1, 1))
            found = completed(rows.plusplus(seeds, draws), draws, partial(self._of_run, rows))
        else:
            found = np.array(
                [
                    draw_rows(init, rows.problem(i), k, state, problem.sample_weight, dtype, load)
                    for i, problem in drawing
                    for state in [self.new_state()]
                    for _ in range(self.n_init)
                ]
            )
        offset = np.arange(shape[0])[:, None, None] * rows.n_samples
        found = offset + np.broadcast_to(found.reshape(-1, shape[1], k), (*shape, k))
        return rows.take(found.reshape(-1)).astype(dtype).reshape(*shape, k, rows.n_features)

    def _draws(self, problem: GivenProblem, n_samples: int) -> tuple[NDArray[np.int64], F64]:
        p = probabilities(n_samples, problem.sample_weight, problem.center_dtype)
        return plusplus_draws(n_samples, self.n_clusters, self.n_init, self.new_state(), p)

    def _of_run(self, rows: Problems, run: int) -> tuple[Rows, F64 | None]:
        number = run // self.n_init
        return rows.problem(number), self.problems[number].sample_weight
