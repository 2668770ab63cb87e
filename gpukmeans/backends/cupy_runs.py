"""Several runs of Lloyd's algorithm side by side on the device: restarts of problems too small to fill it."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.backends import ManyAssigned, Updated, tuning
from gpukmeans.backends.cupy_control import HISTORY, LASTING, Control, History, Measure, Reason
from gpukmeans.exact_sums import F64

if TYPE_CHECKING:
    from gpukmeans.backends.cupy_backend import CupyRows

#: Rows of all runs together: enough to keep a device busy, few enough for their labels and lists to be small change.
ROWS_TOGETHER = 1 << 18
#: Most runs side by side.
RUNS_TOGETHER = 16


def runs_at_a_time(n_samples: int, n_clusters: int) -> int:
    """How many runs advance together; 0 where one fills the device, or where the few-center kernel does not reach."""
    most = min(RUNS_TOGETHER, ROWS_TOGETHER // n_samples)
    return most if most > 1 and n_clusters <= tuning.FEW_CENTERS else 0


class CupyRuns:
    """Runs that share every launch, and one look at the device per iteration.

    A run that is over stays where it is, and launches pass it by.
    """

    def __init__(self, rows: CupyRows, centers: NDArray) -> None:
        self._rows, self._device = rows, rows.device
        self._k = centers.shape[1]
        self._work = rows.workspace(self._k, len(centers), True)
        weakref.finalize(self, rows.leave, self._work).atexit = False
        self._work.begin(np.ascontiguousarray(centers, rows.center_dtype))
        self._device.write(self._work.tolerance, np.full(1, -1.0))
        #: What the device's control is after the last launch.
        self._control = self._device.download(self._work.control)
        #: Where the runs are that still go on.
        self._places = np.arange(len(centers))
        self._updated: Updated | None = None

    def assign(self) -> ManyAssigned | None:
        work, device = self._work, self._device
        control = self._control
        if control[self._places, Control.HAS_EQUAL].any():
            return None
        control[:, :LASTING] = 0
        control[:, Control.N_LIMIT] = HISTORY
        control[:, Control.STOP] = Reason.ITERATIONS_DONE
        control[self._places, Control.STOP] = Reason.GO_ON
        device.write(work.control, control)
        work.launch_iterations(1)  # the update that follows is not waited for
        self._control = device.download(work.control)
        if (self._control[self._places, Control.STOP] == Reason.ROWS_LEFT_OPEN).any():
            return None
        record = device.download(work.history)[self._places, 0].astype(np.int64, casting="unsafe")
        measures = device.download(work.measures)[self._places]
        self._updated = Updated(measures[:, Measure.WEIGHT], measures[:, Measure.SHIFT_SQUARE])
        moved, undecided = record[:, History.MOVED], record[:, History.UNDECIDED]
        return ManyAssigned(moved, self._rows.n_samples - undecided, undecided, np.zeros_like(moved))

    def update(self) -> Updated:
        assert self._updated is not None
        return self._updated

    def keep(self, which: NDArray[np.bool_]) -> None:
        self._places = self._places[which]

    def outcome(self, run: int) -> tuple[Any, NDArray]:
        place = self._places[run]
        labels, centers = (array[place : place + 1] for array in (self._work.labels, self._work.previous))
        return self._rows.labels_there(labels.reshape(-1)), self._device.download(centers)[0]

    def inertia_bounds(self) -> tuple[F64, F64]:
        work, n = self._work, self._rows.n_samples
        distances = self._device.empty((work.n_runs, n), np.float64)
        largest = work.launch_distances(work.previous, self._rows.weights, distances)
        inertias = np.array([work.total(distances[i : i + 1], float(largest[i])) for i in self._places.tolist()])
        return inertias, inertias  # exact

    def inertia(self, labels: Any, centers: NDArray) -> float:
        rows, device = self._rows, self._device
        work = rows.workspace(self._k, 1, True)
        put = device.write if isinstance(labels, np.ndarray) else device.copy
        put(work.labels.reshape(-1), labels)
        device.write(work.centers, centers[None])
        largest = work.launch_distances(work.centers, rows.weights, rows.distances)
        inertia = work.total(rows.distances, float(largest[0]))
        rows.leave(work)
        return inertia
