"""The restarts of a fit: the start of each, and the result of the best."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpukmeans.arrays.types import F64
from gpukmeans.backends.known import Known
from gpukmeans.backends.protocol import Backend, Rows
from gpukmeans.engine.lloyd import Constraint, Keep, lloyd
from gpukmeans.engine.lockstep import lockstep
from gpukmeans.engine.records import FitReport, LloydResult, Watch
from gpukmeans.engine.seeding.draws import probabilities
from gpukmeans.engine.seeding.plusplus import many_kmeans_plusplus
from gpukmeans.engine.seeding.starts import find_starts
from gpukmeans.engine.standing import Begun, Standing, plain_standing
from gpukmeans.engine.tolerance import Tolerance
from gpukmeans.intake.checks import check_centers
from gpukmeans.scale.checkpoints import Checkpoint, active, wrong_state
from gpukmeans.threads import parts_of, workers

#: Runs whose seeds are drawn together.
SEEDED_TOGETHER = 64

#: `init` of the estimators: the name of a way to draw rows, centers, or a callable that returns centers.
Init = str | ArrayLike | Callable[..., ArrayLike]


@dataclass
class Restarts:
    """The restarts of one fit.

    Attributes
    ----------
    host_rows : callable
        For a callable `init`: returns the rows on the host, an ndarray or CSR of shape (n_samples, n_features).
    backend : Backend
    rows : Rows
        The rows on the backend, with `sample_weight`.
    sample_weight : ndarray of shape (n_samples,), float64, or None
    init : {"k-means++", "k-means||", "two-level", "random"}, ndarray of shape (n_clusters, n_features) or callable
    n_clusters, n_init : int
    random_state : RandomState
    dtype : dtype
        Of the centers.
    report : FitReport
        Filled in by `best`.
    centered : bool
        Whether a callable `init` gets rows from which their mean is subtracted, and returns centers likewise.
    constrain : callable, optional
        As of `gpukmeans.engine.lloyd.lloyd`.  A callable `init` returns centers that are constrained already.
    known : Known, optional
        What is known of the first rows beside `init`, an array.
    """

    host_rows: Callable[[], Any]
    backend: Backend
    rows: Rows
    sample_weight: F64 | None
    init: Init
    n_clusters: int
    n_init: int
    random_state: np.random.RandomState
    dtype: np.dtype
    report: FitReport
    centered: bool = True
    constrain: Constraint | None = None
    known: Known | None = None

    def best(
        self,
        *,
        max_iter: int,
        tol: float | Tolerance,
        precision: str,
        watch: Watch | None = None,
        verbose: bool = False,
    ) -> LloydResult:
        """The run with the lowest inertia, of equal ones the first; parameters as for `gpukmeans.engine.lloyd.lloyd`.

        Runs of small problems advance together, unless there is a `watch`.  A run that `watch` stops is the last.
        """
        foreign = watch is not None or callable(self.init)  # the user's code runs without the limit on BLAS threads
        with nullcontext() if foreign else workers(0):
            alone = watch is not None or verbose or self.constrain is not None
            alone |= self.known is not None or active() is not None
            if not alone and self.rows.runs_at_a_time(self.n_clusters, self.n_init):
                return self._best_of_all_at_once(max_iter, tol, precision)
            return self._best_of_each(max_iter, tol, precision, watch, verbose)

    def _best_of_all_at_once(self, max_iter: int, tol: float | Tolerance, precision: str) -> LloydResult:
        started = time.perf_counter()
        starts = list(self._starts(self.n_init))
        self.report.stages["seed"] += time.perf_counter() - started
        started = time.perf_counter()
        best = lockstep(
            self.rows, starts, sample_weight=self.sample_weight, max_iter=max_iter, tol=tol, precision=precision
        )
        self._note(best, started)
        return best

    def _best_of_each(
        self,
        max_iter: int,
        tol: float | Tolerance,
        precision: str,
        watch: Watch | None,
        verbose: bool,
    ) -> LloydResult:
        best, begun, first, keep = None, None, 0, active()
        if keep is not None and keep.resumed is not None:
            kept = self._standing(keep)
            best, begun, first, self.random_state = kept.best, kept.run, kept.restart, kept.random_state
            self.report.iterations = list(kept.iterations)
        together = 1 if verbose or watch or keep else SEEDED_TOGETHER  # a watch is called as early as possible
        starts = self._starts(self.n_init - first - (begun is not None), together)
        for restart in range(first, self.n_init):
            started = time.perf_counter()
            centers = next(starts) if begun is None else begun.centers
            self.report.stages["seed"] += time.perf_counter() - started
            if verbose:
                print("Initialization complete")
            if keep is not None and begun is None and restart == 0:
                keep.first(self._state(restart, best, Begun(centers, None, ())))
            started = time.perf_counter()
            result = lloyd(
                self.rows,
                centers,
                sample_weight=self.sample_weight,
                max_iter=max_iter,
                tol=tol,
                precision=precision,
                init=restart,
                watch=watch,
                verbose=verbose,
                constrain=self.constrain,
                begun=begun,
                known=self.known,
                keep=None if keep is None else Keep(lambda: keep.due_in, self._keeper(keep, restart, best)),
            )
            begun = None
            self._note(result, started)
            if best is None or result.inertia < best.inertia:
                best = result
            if result.stopped:
                break
            if keep is not None and restart + 1 < self.n_init:
                keep.after(1, self._state(restart + 1, best))
        assert best is not None
        if keep is not None:
            keep.end(self._state(self.n_init, best))
        if best.labels is None:  # as a file has it
            run = self.rows.start(best.centers, precision=precision)
            run.assign(move=False)
            best.labels = run.labels_for_caller()
        return best

    # ---- checkpoints -----------------------------------------------------------------------------------------------

    def _standing(self, keep: Checkpoint) -> Standing:
        """Where the fit stands that is to go on."""
        assert keep.resumed is not None
        try:
            return Standing.of(keep.resumed, (self.n_clusters, self.rows.n_features), self.dtype)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise wrong_state(keep.path, error) from None

    def _state(self, restart: int, best: LloydResult | None, run: Begun | None = None) -> Callable[[], dict[str, Any]]:
        """The state of the fit as it is now, for a checkpoint."""
        drawn = np.random.RandomState()
        drawn.set_state(self.random_state.get_state())
        return partial(plain_standing, Standing(restart, run, best, drawn, tuple(self.report.iterations)))

    def _keeper(self, keep: Checkpoint, restart: int, best: LloydResult | None) -> Callable[[int, Begun], None]:
        return lambda n_iterations, run: keep.after(n_iterations, self._state(restart, best, run))

    def _note(self, result: LloydResult, started: float) -> None:
        self.report.stages["lloyd"] += time.perf_counter() - started - result.inertia_seconds
        self.report.stages["inertia"] += result.inertia_seconds
        before = self.report.iterations
        self.report.iterations = [*before, *result.iterations] if before else result.iterations

    def _start(self) -> NDArray:
        """The centers that the next run starts from."""
        k = self.n_clusters
        if isinstance(self.init, str):
            load = partial(self.backend.load, sums=False)
            return find_starts(
                self.init, self.rows, k, self.random_state, self.sample_weight, self.dtype, load, self.constrain
            )
        if callable(self.init):
            X = self._host_rows
            if not self.centered:
                return check_centers(self.init(X, k, random_state=self.random_state), k, X.shape[1], self.dtype)
            mean = X.mean(axis=0, dtype=self.dtype)
            moved = self.init(X - mean, k, random_state=self.random_state)
            return check_centers(moved, k, X.shape[1], self.dtype) + mean
        return np.asarray(self.init)

    @cached_property
    def _host_rows(self) -> Any:
        """`host_rows()`, called once."""
        return self.host_rows()

    def _starts(self, n_runs: int, at_a_time: int = SEEDED_TOGETHER) -> Iterator[NDArray]:
        """The centers that `n_runs` runs start from; seeds of k-means++ are drawn for `at_a_time` runs together."""
        if not isinstance(self.init, str) or self.init != "k-means++":
            for _ in range(n_runs):
                yield self._start()
            return
        p = probabilities(self.rows.n_samples, self.sample_weight, self.dtype)
        for part in parts_of(n_runs, at_a_time):
            n_drawn = part.stop - part.start
            drawn = many_kmeans_plusplus(self.rows, self.n_clusters, n_drawn, self.random_state, p, self.sample_weight)
            yield from (self.rows.take(run).astype(self.dtype) for run in drawn)
