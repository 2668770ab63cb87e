"""The loop of Lloyd's algorithm, over any backend.

S. P. Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory 28 (1982).  Stopping rules and
the relocation of empty clusters are scikit-learn's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from numpy.typing import NDArray

from gpukmeans.arrays.types import F64
from gpukmeans.backends.known import Known
from gpukmeans.backends.protocol import Rows, Run, Step
from gpukmeans.engine.empty_clusters import fill_empty_clusters
from gpukmeans.engine.records import Iteration, LloydResult, Watch, iteration_record
from gpukmeans.engine.standing import Begun
from gpukmeans.engine.tolerance import Tolerance
from gpukmeans.exact.sums import exact_total
from gpukmeans.exact.warp_order import center_shift_square

#: ``constrain(centers, before)`` returns the centers mapped onto the set of allowed ones, such as the unit sphere;
#: `before` are the centers that the labels belong to.
Constraint = Callable[[NDArray, NDArray], NDArray]


class Keep(NamedTuple):
    """What keeps a run.

    Attributes
    ----------
    due_in : callable
        ``due_in()`` is the number of iterations after which it is to be kept again, at least 1.
    after : callable
        ``after(n_iterations, begun)`` is called with the number of iterations since the last call.
    """

    due_in: Callable[[], int]
    after: Callable[[int, Begun], None]


def lloyd(
    rows: Rows,
    centers: NDArray,
    *,
    sample_weight: F64 | None,
    max_iter: int,
    tol: float | Tolerance,
    precision: str = "exact",
    init: int = 0,
    watch: Watch | None = None,
    verbose: bool = False,
    constrain: Constraint | None = None,
    begun: Begun | None = None,
    keep: Keep | None = None,
    known: Known | None = None,
) -> LloydResult:
    """Run Lloyd's algorithm from `centers` until labels or centers stay, `max_iter` is reached, or `watch` stops it.

    Parameters
    ----------
    rows : Rows
    centers : ndarray of shape (n_clusters, n_features)
    sample_weight : ndarray of shape (n_samples,), float64, or None
        The weights that `rows` were loaded with; the relocation of an empty cluster reads single ones.
    max_iter : int
        The most iterations; 0 assigns rows to the given centers only.
    tol : float or Tolerance
        Absolute: the run ends when the summed squared shift of the centers is at most `tol`.
    precision : {"exact", "fast"}
        As of `gpukmeans.KMeans`.
    init : int
        The number of the run, for its records.
    watch : Watch, optional
        Called after each iteration.
    verbose : bool
        Print the inertia of every iteration, and why the run ended, as scikit-learn does.
    constrain : callable, optional
        ``constrain(centers, before)`` maps new centers onto the set of allowed ones.  `centers` must be in it already.
    begun : Begun, optional
        Go on with this run, not from `centers`: its labels and sums are found anew, by one assignment.
    keep : Keep, optional
        Called with where the run stands, after iterations that are not its last.
    known : Known, optional
        What is known of the first rows beside `centers`.

    Returns
    -------
    LloydResult
        Its labels and inertia are those of the returned centers.
    """
    iterations: list[Iteration] = []
    if begun is None or begun.assigned is None:
        start = rows.start if known is None else partial(rows.start_from, known=known)
        run = start(centers, precision=precision)
    else:
        run = rows.start(begun.assigned, precision=precision)
        run.assign()
        run.set_centers(begun.centers)
        iterations += begun.iterations
    current = done = stopped = False  # current: labels are those of the centers
    with_inertia = verbose or (watch is not None and watch.inertia)
    while not (done or stopped) and len(iterations) < max_iter:
        steps: list[tuple[Step, dict[str, float], float | None]] = []
        if not with_inertia and constrain is None:
            limit = max_iter - len(iterations)
            limit = limit if watch is None else min(limit, watch.at_a_time)
            limit = limit if keep is None else min(limit, keep.due_in())
            # It may end too early by the bound, and then goes on.
            highest = tol.highest if isinstance(tol, Tolerance) else tol
            steps = [(step, {}, None) for step in run.advance(limit, highest)]
        if not steps:
            steps = [_one_step(run, with_inertia)]
        for step, stages, run_inertia in steps:
            started = time.perf_counter()
            n_relocated, shift = 0, step.shift
            if step.n_empty:  # only the last of the steps may have empty clusters
                n_relocated, shifts = fill_empty_clusters(rows, run, sample_weight)
                shift = exact_total(shifts)
            if constrain is not None:
                shift = _constrain(run, constrain)
            filling = time.perf_counter() - started
            if "update" in stages:
                stages["update"] += filling
            number, moved = len(iterations) + 1, step.assigned.n_moved
            spent = step.seconds + filling
            record = iteration_record(init, number, step, n_relocated, shift, spent, stages, run_inertia)
            iterations.append(record)
            if verbose:
                print(f"Iteration {number - 1}, inertia {run_inertia}.")
            if watch is not None and watch.call(record):
                stopped = True  # takes effect after the last of these steps
            if moved == 0:
                done, current = True, step.n_empty == 0  # else centers were relocated after the assignment
                if verbose:
                    print(f"Converged at iteration {number - 1}: strict convergence.")
            elif shift <= tol:
                done = True
                if verbose:
                    print(f"Converged at iteration {number - 1}: center shift {shift} within tolerance {tol}.")
        if keep is not None and not (done or stopped) and len(iterations) < max_iter:
            here = Begun(run.centers().copy(), run.assigned_centers().copy(), tuple(iterations))
            keep.after(len(steps), here)
    if not current:
        run.assign(move=False)
    started = time.perf_counter()
    labels, found, inertia = run.results()
    inertia_seconds = time.perf_counter() - started
    return LloydResult(labels, found, inertia, len(iterations), iterations, inertia_seconds, stopped)


def _one_step(run: Run, with_inertia: bool) -> tuple[Step, dict[str, float], float | None]:
    """One iteration: its step, the seconds of its stages, and, if `with_inertia`, the inertia before centers moved."""
    started = time.perf_counter()
    assigned = run.assign()
    inertia = run.inertia() if with_inertia else None
    updating = time.perf_counter()
    updated = run.update()
    n_empty = int((updated.weights == 0).sum())
    shift = float("nan") if n_empty else exact_total(updated.shift_square)
    now = time.perf_counter()
    return Step(assigned, shift, n_empty, now - started), {**assigned.seconds, "update": now - updating}, inertia


def _constrain(run: Run, constrain: Constraint) -> float:
    """Constrain the centers of a run; returns their summed squared shift since the last assignment."""
    before = run.assigned_centers()
    centers = constrain(run.centers(), before)
    run.set_centers(centers)
    return exact_total(center_shift_square(centers, before))
