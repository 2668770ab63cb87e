"""Lloyd's algorithm, once, over any backend.

S. P. Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory 28 (1982).  Stopping rules and
the relocation of empty clusters are scikit-learn's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import cast

from numpy.typing import NDArray

from gpukmeans.arrays.types import F64
from gpukmeans.backends.protocol import Rows, Run, Step
from gpukmeans.engine.empty_clusters import fill_empty_clusters
from gpukmeans.engine.records import Iteration, LloydResult, Watch, iteration_record
from gpukmeans.engine.tolerance import Tolerance
from gpukmeans.exact.sums import exact_total
from gpukmeans.exact.warp_order import center_shift_square

#: ``project(centers, before)``: centers moved to where centers may be, given those that the labels belong to.
Projection = Callable[[NDArray, NDArray], NDArray]


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
    project: Projection | None = None,
) -> LloydResult:
    """Run Lloyd's algorithm from `centers` until labels or centers stay, or `max_iter` is reached, or `watch` ends it.

    Parameters
    ----------
    rows : Rows
    centers : ndarray of shape (n_clusters, n_features)
    sample_weight : ndarray of shape (n_samples,), float64, or None
        Those that `rows` were loaded with (relocation needs single ones).
    tol : float
        Absolute: the run ends when the summed squared shift of the centers is not above it.
    init : int
        The number of the run, for its records.
    watch : Watch, optional
    verbose : bool
        Print the inertia of every iteration, and why the run ended, as scikit-learn does.
    project : callable, optional
        Puts new centers where centers may be: ``project(centers, before)``.  Those given must be there already.
    """
    run = rows.start(centers, precision=precision)
    iterations: list[Iteration] = []
    settled = done = stopped = False
    with_inertia = verbose or (watch is not None and watch.inertia)
    while not (done or stopped) and len(iterations) < max_iter:
        steps: list[tuple[Step, dict[str, float], float | None]] = []
        if not with_inertia and project is None:
            limit = max_iter - len(iterations)
            limit = limit if watch is None else min(limit, watch.at_a_time)
            steps = [(step, {}, None) for step in run.advance(limit, cast(float, tol))]
        if not steps:
            steps = [_one_step(run, with_inertia)]
        for step, stages, run_inertia in steps:
            started = time.perf_counter()
            n_relocated, shift = 0, step.shift
            if step.n_empty:  # the last of these steps
                n_relocated, shifts = fill_empty_clusters(rows, run, sample_weight)
                shift = exact_total(shifts)
            if project is not None:
                shift = _project(run, project)
            filling = time.perf_counter() - started
            if "update" in stages:
                stages["update"] += filling
            number, moved = len(iterations) + 1, step.assigned.n_moved
            spent = step.seconds + filling
            record = iteration_record(init, number, step, n_relocated, shift, spent, stages, run_inertia)
            iterations.append(record)
            if verbose:
                print(f"Iteration {number - 1}, inertia {run_inertia}.")
            if watch is not None and watch.tell(record):
                stopped = True  # at the end of these steps, if there are more
            if moved == 0:
                done, settled = True, step.n_empty == 0  # else centers were placed after the labels were given
                if verbose:
                    print(f"Converged at iteration {number - 1}: strict convergence.")
            elif shift <= tol:
                done = True
                if verbose:
                    print(f"Converged at iteration {number - 1}: center shift {shift} within tolerance {tol}.")
    if not settled:
        run.assign(move=False)  # so that labels, centers and inertia belong together
    started = time.perf_counter()
    inertia = run.inertia()
    inertia_seconds = time.perf_counter() - started
    return LloydResult(
        run.labels_for_caller(), run.centers(), inertia, len(iterations), iterations, inertia_seconds, stopped
    )


def _one_step(run: Run, with_inertia: bool) -> tuple[Step, dict[str, float], float | None]:
    """An iteration, the seconds of its stages, and the inertia in between if it is wanted."""
    started = time.perf_counter()
    assigned = run.assign()
    inertia = run.inertia() if with_inertia else None
    updating = time.perf_counter()
    updated = run.update()
    n_empty = int((updated.weights == 0).sum())
    shift = float("nan") if n_empty else exact_total(updated.shift_square)
    now = time.perf_counter()
    return Step(assigned, shift, n_empty, now - started), {**assigned.seconds, "update": now - updating}, inertia


def _project(run: Run, project: Projection) -> float:
    """Put the centers where they may be; returns their summed squared shift since the last assignment."""
    before = run.assigned_centers()
    centers = project(run.centers(), before)
    run.set_centers(centers)
    return exact_total(center_shift_square(centers, before))
