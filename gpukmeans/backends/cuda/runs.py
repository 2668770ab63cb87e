"""Several runs of Lloyd's algorithm side by side on the device: restarts, and runs of several problems of one shape."""

from __future__ import annotations

import time
import weakref
from collections.abc import Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64, Limit
from gpukmeans.backends.cuda.control import HISTORY, LASTING, Control, Reason
from gpukmeans.backends.cuda.run import step_of
from gpukmeans.backends.cuda.table import CupyDenseTable
from gpukmeans.backends.cuda.workspace import REPLAYS, Workspaces
from gpukmeans.backends.protocol import Ended, Step

_NEEDS_HOST = (Reason.EMPTY_CLUSTER, Reason.EQUAL_CENTERS, Reason.ROWS_LEFT_OPEN)


class CupyRuns:
    """Runs that share each launch and each download of the control array.

    Each run stops on the device by itself, as a single one does (`CupyRun.advance`); launches skip the runs that have
    stopped.  A run that needs the host is given up.

    Parameters
    ----------
    table : CupyDenseTable
    workspaces : Workspaces
        Of that table; the runs take one, and leave it when this object is deleted.
    centers : ndarray of shape (n_runs, n_clusters, n_features)
    """

    def __init__(self, table: CupyDenseTable, workspaces: Workspaces, centers: NDArray) -> None:
        self._table, self._device = table, table.device
        self._work = work = workspaces.take(centers.shape[1], len(centers), True)
        weakref.finalize(self, workspaces.leave, work).atexit = False
        work.need_grid()
        self._given = np.ascontiguousarray(centers, table.center_dtype)

    def finish(self, max_iter: int, tols: Sequence[Limit]) -> list[Ended | None]:
        work, device = self._work, self._device
        started = time.perf_counter()
        work.begin(self._given, min(HISTORY, max_iter), np.array(tols, np.float64))
        going, closing, given_up = (np.full(len(tols), is_so) for is_so in (True, False, False))
        n_iter, records, control = np.zeros(len(tols), np.int64), [], np.zeros(work.control.shape, np.int32)
        for first in range(0, max_iter, HISTORY):
            if not going.any():
                break
            limit = min(HISTORY, max_iter - first)
            if first:
                self._restart(control, going, limit)
            control, history = self._advance(going, limit)
            records.append(history)
            n_iter[going] += control[going, Control.N_DONE]
            given_up |= going & np.isin(control[:, Control.STOP], _NEEDS_HOST)
            closing |= going & (control[:, Control.STOP] == Reason.CENTERS_STAYED)
            going &= control[:, Control.STOP] == Reason.ITERATIONS_DONE
        closing |= going
        given_up |= self._close(control, closing)
        inertias = self._inertias(given_up)
        labels, centers = self._table.labels_for_caller(work.labels), device.download(work.centers)
        n_used = self._table.n_used_by_each(work.labels, work.n_clusters)
        seconds = (time.perf_counter() - started) / max(1, int(n_iter.sum()))
        ended: list[Ended | None] = [None] * len(tols)
        for i in np.flatnonzero(~given_up).tolist():
            history = np.concatenate([part[i] for part in records])[: n_iter[i]].copy()
            steps = Record(history, self._table.n_samples, seconds)
            inertia, own = float(inertias[i]), labels[i : i + 1].reshape(-1)
            ended[i] = Ended(own, centers[i], inertia, inertia, steps, n_used[i])
        return ended

    def inertia(self, labels: Any, centers: NDArray) -> float:
        raise NotImplementedError("The bounds of the inertia are equal here.")

    def _restart(self, control: NDArray[np.int32], going: NDArray[np.bool_], limit: int) -> None:
        """Clear the stop flags of the runs in `going`, for `limit` iterations at most; set those of all others."""
        control[:, :LASTING] = 0
        control[:, Control.N_LIMIT] = limit
        control[:, Control.STOP] = np.where(going, Reason.GO_ON, Reason.ITERATIONS_DONE)
        self._device.write(self._work.control, control)

    def _advance(self, going: NDArray[np.bool_], limit: int) -> list[NDArray]:
        """Launch iterations until all of these runs have stopped; returns the control array and their records."""
        replays, done = iter(REPLAYS), 0
        while True:
            self._work.launch_some(limit - done, next(replays, REPLAYS[-1]))
            control, history = self._device.downloads(self._work.control, self._work.history)
            on = going & (control[:, Control.STOP] == Reason.GO_ON)
            if not on.any():
                return [control, history]
            done = int(control[on, Control.N_DONE].max())

    def _close(self, control: NDArray[np.int32], closing: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Label the rows of these runs by their last centers; returns which of the runs need the host for it."""
        if not closing.any():
            return closing
        equal = closing & (control[:, Control.HAS_EQUAL] != 0)
        self._restart(control, closing & ~equal, HISTORY)
        self._work.launch_assign()
        n_open = self._device.download(self._work.control)[:, Control.N_OPEN]
        return equal | (closing & (n_open > 0))

    def _inertias(self, given_up: NDArray[np.bool_]) -> F64:
        """The inertias of all runs; those of runs given up, whose rows may have no labels, are meaningless."""
        work, device = self._work, self._device
        for i in np.flatnonzero(given_up).tolist():
            device.fill(work.labels[i : i + 1], 0)
        distances = device.empty((work.n_runs, self._table.n_samples), np.float64)
        work.launch_distances(work.centers, self._table.weights, distances)
        return work.totals(distances)


class Record(Sequence[Step]):
    """The iterations of a run, from the records that the device keeps."""

    def __init__(self, history: F64, n_samples: int, seconds: float) -> None:
        self._history, self._n_samples, self._seconds = history, n_samples, seconds

    def __len__(self) -> int:
        return len(self._history)

    @overload
    def __getitem__(self, index: int) -> Step: ...
    @overload
    def __getitem__(self, index: slice) -> list[Step]: ...
    def __getitem__(self, index: int | slice) -> Step | list[Step]:
        if isinstance(index, slice):
            return [step_of(record, self._n_samples, 0, self._seconds) for record in self._history[index]]
        return step_of(self._history[index], self._n_samples, 0, self._seconds)


def variances(table: CupyDenseTable, workspaces: Workspaces) -> F64:
    """The mean over the features of the population variance of each problem: the inertia of one cluster, scaled."""
    device, n_problems = table.device, table.n_problems
    work = workspaces.take(1, n_problems, True)
    work.need_grid()
    work.begin(np.zeros((n_problems, 1, table.n_features), table.center_dtype))
    work.launch_iterations(1)
    distances = device.empty((n_problems, table.n_samples), np.float64)
    work.launch_distances(work.centers, None, distances)
    inertias = work.totals(distances)
    workspaces.leave(work)
    return inertias / (table.n_samples * table.n_features)
