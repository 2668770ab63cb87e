"""Runs that advance together step by step: Lloyd's algorithm over several runs, with one call a step for all of them.

Each run takes the same steps as alone (gpukmeans/engine/lloyd.py) and ends in the same bits.  It leaves when it ends.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64, I64, Limit
from gpukmeans.backends.protocol import Assigned, Ended, Step, Updated
from gpukmeans.exact.sums import exact_total, exact_totals


class ManyAssigned(NamedTuple):
    """As `Assigned`, of several runs: each of shape (n_runs,)."""

    n_moved: I64
    n_certified: I64
    n_resolved: I64
    n_exact: I64


class SteppedRuns(Protocol):
    """What `Run` does, of several runs in one call."""

    def assign(self) -> ManyAssigned | None:
        """As `Run.assign`.  None, and nothing done, where the runs must go on one by one."""

    def update(self) -> Updated:
        """As `Run.update`; weights and shifts of shape (n_runs, n_clusters)."""

    def keep(self, which: NDArray[np.bool_]) -> None:
        """Go on with these runs only."""

    def outcome(self, run: int) -> tuple[NDArray[np.int32], NDArray]:
        """The labels of a run, and the centers of the last `assign`, to which they belong; on the host."""

    def inertia_bounds(self) -> tuple[F64, F64]:
        """Per run, a lower and an upper bound of the inertia as of the last `assign`."""


class _Taken(NamedTuple):
    """What one step did, before it is split into runs."""

    active: NDArray[np.intp]
    counted: NDArray[np.bool_]
    assigned: ManyAssigned
    shift_square: F64
    seconds: float


def finish_in_steps(runs: SteppedRuns, max_iter: int, tols: Sequence[Limit]) -> list[Ended | None]:
    """See `gpukmeans.backends.Runs.finish`."""
    ended: list[Ended | None] = [None] * len(tols)
    active = np.arange(len(tols))
    closing = np.zeros(len(tols), bool)  # to be labelled once more, by the last centers
    taken: list[_Taken] = []
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
                ended[active[i]] = Ended(*runs.outcome(i), float(lowest[i]), float(highest[i]), [])
        seconds = (time.perf_counter() - started) / len(active)
        taken.append(_Taken(active, counted, assigned, updated.shift_square, seconds))
        going = counted & ~over
        closing = going.copy()
        if len(taken) < max_iter:
            closing &= _at_most(updated.shift_square, [tols[i] for i in active.tolist()])
        if not going.all():
            if going.any():
                runs.keep(going)
            active, closing = active[going], closing[going]
    for end, steps in zip(ended, _steps_of(taken, len(tols)), strict=True):
        if end is not None:
            end.steps = steps
    return ended


def _at_most(shift_square: F64, tols: Sequence[Limit]) -> list[bool]:
    """Whether the exact total of each row is at most its tolerance; rows of empty clusters do not matter."""
    totals = shift_square.sum(axis=1)
    room = 2.0**-40 * totals + 2.0**-900  # beyond the roundings of the sum and of the exact total
    bounds = zip((totals - room).tolist(), (totals + room).tolist(), tols, shift_square, strict=True)
    return [high <= tol or (low <= tol and exact_total(terms) <= tol) for low, high, tol, terms in bounds]


def _steps_of(taken: list[_Taken], n_runs: int) -> list[list[Step]]:
    """The steps run by run; the runs share the time of a step."""
    steps: list[list[Step]] = [[] for _ in range(n_runs)]
    if not taken:
        return steps
    shifts = exact_totals(np.nan_to_num(np.concatenate([step.shift_square for step in taken])).T)
    first = 0
    for step in taken:
        mine = shifts[first : first + len(step.active)].tolist()
        first += len(step.active)
        counts = zip(*(count.tolist() for count in step.assigned), strict=True)
        for run, counted, shift, count in zip(step.active.tolist(), step.counted.tolist(), mine, counts, strict=True):
            if counted:
                steps[run].append(Step(Assigned(*count), shift, 0, step.seconds))
    return steps
