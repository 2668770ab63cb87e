"""Restarts that advance together: Lloyd's algorithm over several runs, with one call a step for all of them.

Each run takes the same steps as alone (see lloyd.py) and ends in the same bits.  It leaves when it ends.  A run that
empties a cluster starts over alone, for relocation looks at single rows; so does one that the backend gives up.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpukmeans.backends import ManyAssigned, Rows, Runs
from gpukmeans.exact_sums import F64, exact_totals
from gpukmeans.lloyd import Iteration, LloydResult, lloyd


@dataclass
class _Ended:
    """A run that has ended, its inertia known within bounds."""

    labels: Any
    centers: NDArray
    lowest: float
    highest: float


def lockstep(
    rows: Rows,
    starts: Sequence[NDArray],
    *,
    sample_weight: F64 | None,
    max_iter: int,
    tol: float,
    precision: str = "exact",
) -> LloydResult:
    """The result of the run with the lowest inertia (the first of equal ones), and the iterations of all of them.

    Parameters
    ----------
    rows : Rows
        Of which ``rows.runs_at_a_time(n_clusters, n_runs)`` is not 0.
    starts : sequence of ndarray of shape (n_clusters, n_features)
    sample_weight, max_iter, tol, precision
        As for `gpukmeans.lloyd.lloyd`; "fast" can only concern runs that start over alone.
    """
    at_a_time = rows.runs_at_a_time(len(starts[0]), len(starts))
    best: LloydResult | None = None
    iterations: list[Iteration] = []
    inertia_seconds = 0.0
    for base in range(0, len(starts), at_a_time):
        group = starts[base : base + at_a_time]
        runs = rows.start_many(np.stack(group))
        records: list[list[Iteration]] = [[] for _ in group]
        ended = _advance(runs, base, records, max_iter, tol)
        alone: dict[int, LloydResult] = {}
        for i in range(len(group)):
            if ended[i] is None:
                alone[i] = lloyd(
                    rows,
                    group[i],
                    sample_weight=sample_weight,
                    max_iter=max_iter,
                    tol=tol,
                    precision=precision,
                    init=base + i,
                )
                records[i] = alone[i].iterations
                inertia_seconds += alone[i].inertia_seconds
            iterations += records[i]
        started = time.perf_counter()
        reach = min(end.highest if end else alone[i].inertia for i, end in enumerate(ended))
        for i, end in enumerate(ended):
            if end is None:
                result = alone[i]
            elif end.lowest > reach or (best is not None and end.lowest > best.inertia):
                continue
            else:
                inertia = runs.inertia(end.labels, end.centers)
                result = LloydResult(end.labels, end.centers, inertia, len(records[i]))
            if best is None or result.inertia < best.inertia:
                best = result
        inertia_seconds += time.perf_counter() - started
    assert best is not None
    return LloydResult(best.labels, best.centers, best.inertia, best.n_iter, iterations, inertia_seconds)


class _Step(NamedTuple):
    """What one iteration did, before it is told run by run."""

    active: NDArray[np.intp]
    counted: NDArray[np.bool_]
    assigned: ManyAssigned
    shift_square: F64
    seconds: float


def _advance(runs: Runs, base: int, records: list[list[Iteration]], max_iter: int, tol: float) -> list[_Ended | None]:
    """Take all runs to their ends; None stands for a run that has to start over alone."""
    ended: list[_Ended | None] = [None] * len(records)
    active = np.arange(len(records))
    closing = np.zeros(len(records), bool)  # to be labelled once more, by the last centers
    steps: list[_Step] = []
    while len(active):
        started = time.perf_counter()
        assigned = runs.assign()
        if assigned is None:
            break
        updated = runs.update()
        counted = updated.weights.all(axis=1) & ~closing
        over = closing | (counted & (assigned.n_moved == 0))
        if over.any():
            lowest, highest = runs.inertia_bounds()
            for i in np.flatnonzero(over).tolist():
                labels, centers = runs.outcome(i)
                ended[active[i]] = _Ended(labels, centers, float(lowest[i]), float(highest[i]))
        steps.append(
            _Step(active, counted, assigned, updated.shift_square, (time.perf_counter() - started) / len(active))
        )
        going = counted & ~over
        closing = going.copy()
        if len(steps) < max_iter:
            closing &= _at_most(updated.shift_square, tol)
        if not going.all():
            if going.any():
                runs.keep(going)
            active, closing = active[going], closing[going]
    _record(steps, base, records)
    return ended


def _at_most(shift_square: F64, tol: float) -> NDArray[np.bool_]:
    """Whether the exact total of each row is at most `tol`; rows of empty clusters do not matter."""
    totals = shift_square.sum(axis=1)
    room = 2.0**-40 * totals + 2.0**-900  # beyond the roundings of the sum and of the exact total
    decided = (totals - room > tol) | (totals + room <= tol) | (totals == 0.0) | np.isnan(totals)
    if decided.all():
        return totals <= tol
    return exact_totals(np.nan_to_num(shift_square).T) <= tol


def _record(steps: list[_Step], base: int, records: list[list[Iteration]]) -> None:
    """Tell the iterations run by run; the runs share the time of a step."""
    if not steps:
        return
    shifts = exact_totals(np.nan_to_num(np.concatenate([step.shift_square for step in steps])).T)
    first = 0
    for number, step in enumerate(steps, 1):
        mine = shifts[first : first + len(step.active)].tolist()
        first += len(step.active)
        counts = zip(*(count.tolist() for count in step.assigned), strict=True)
        columns = zip(step.active.tolist(), step.counted.tolist(), mine, counts, strict=True)
        for run, counted, shift, (n_moved, n_certified, n_resolved, n_exact) in columns:
            if counted:
                done = (n_moved, shift, 0, n_certified, n_resolved, n_exact, 0, 0)
                records[run].append(Iteration(base + run, number, *done, step.seconds))
