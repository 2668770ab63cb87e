"""One run of Lloyd's algorithm on the device."""

from __future__ import annotations

import time
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64, I64
from gpukmeans.backends.cuda.control import HISTORY, Control, History, Measure, Reason
from gpukmeans.backends.cuda.table import CupyTable
from gpukmeans.backends.cuda.workspace import REPLAYS, Workspace, Workspaces
from gpukmeans.backends.defaults import RunDefaults
from gpukmeans.backends.protocol import Assigned, Step, Updated
from gpukmeans.exact.sums import exact_totals_by_label
from gpukmeans.exact.warp_order import farthest_rows

_FINAL = (Reason.LABELS_STAYED, Reason.CENTERS_STAYED, Reason.EMPTY_CLUSTER, Reason.ITERATIONS_DONE)


class CupyRun(RunDefaults):
    """Centers, labels and exact sums on the device.

    An iteration is three launches (for more than `tuning.FEW_CENTERS` centers some more): the assignment, the update of
    the sums, the update of the centers.  The last launch decides whether to stop, so that the host need not wait:
    `advance` launches one iteration after another and downloads the control array after several of them.

    Parameters
    ----------
    table : CupyTable
    workspaces : Workspaces
        Of that table; the run takes one, and leaves it when the run is deleted.
    centers : ndarray of shape (n_clusters, n_features)
    precision : {"exact", "fast"}
    """

    def __init__(self, table: CupyTable, workspaces: Workspaces, centers: NDArray, precision: str) -> None:
        if precision not in ("exact", "fast"):
            raise ValueError(f"precision={precision!r} should be 'exact' or 'fast'.")
        self._table, self._device = table, table.device
        self._k = len(centers)
        self._workspace = workspaces.take(self._k, 1, precision == "exact")
        weakref.finalize(self, workspaces.leave, self._workspace).atexit = False
        #: Whether the centers were replaced after the last assignment; its centers are then `Workspace.previous`.
        self._updated = False
        self._assigned = False
        #: The centers until the device has them: they go there with a limit and a tolerance, if `advance` is first.
        self._given: NDArray | None = self._checked(centers)

    @property
    def _work(self) -> Workspace:
        """The workspace, with the run begun."""
        self._begin(HISTORY, -1.0)
        return self._workspace

    def _begin(self, limit: int, tol: float) -> bool:
        """Begin the run if it has not; returns whether it was begun here."""
        given, self._given = self._given, None
        if given is not None:
            self._workspace.begin(given[None], limit, tol)
        return given is not None

    # ---- centers -----------------------------------------------------------------------------------------------

    def _checked(self, centers: NDArray) -> NDArray:
        host = np.array(centers, self._table.center_dtype, order="C")
        self._finite = bool(np.isfinite(host).all())
        self._may_have_equals = self._k > 1
        return host

    def set_centers(self, centers: NDArray) -> None:
        host = self._checked(centers)
        if self._assigned and not self._updated:
            self._device.write(self._work.previous, self.centers()[None])
            self._updated = True
        self._work.set_centers(host[None])

    def centers(self) -> NDArray:
        return self._device.download(self._work.centers)[0]

    def assigned_centers(self) -> NDArray:
        return self._device.download(self._work.previous if self._updated else self._work.centers)[0]

    # ---- many iterations at a time -----------------------------------------------------------------------------

    def advance(self, limit: int, tol: float) -> list[Step]:
        started = time.perf_counter()
        work, limit = self._workspace, min(limit, HISTORY)
        work.need_grid()
        self._check_finite()
        if not self._begin(limit, tol):
            self._mark_equal_centers()
        work.reset(limit, tol)
        n_exact = np.zeros(limit, np.int64)
        replays = iter(REPLAYS)
        reason = done = 0
        while reason not in _FINAL:
            work.launch_some(limit - done, next(replays, REPLAYS[-1]))
            reason, done, n_open, history = self._progress()
            if reason == Reason.ROWS_LEFT_OPEN:
                n_exact[done] = work.decide_exactly(n_open)
                work.launch_move()
                work.launch_update()
                reason, done, _, history = self._progress()
            if reason == Reason.EQUAL_CENTERS:
                self._may_have_equals = False
                work.mark_equal_centers()
                reason = Reason.ITERATIONS_DONE if done == limit else Reason.GO_ON
        self._assigned = self._updated = True
        history = history[:done]
        self._finite = not history[-1, History.EMPTY]
        seconds = (time.perf_counter() - started) / done
        n = self._table.n_samples
        return [step_of(record, n, int(exact), seconds) for record, exact in zip(history, n_exact, strict=False)]

    def _progress(self) -> tuple[int, int, int, F64]:
        """Download why the device stopped (0 if it did not), iterations done, rows left open, records of iterations."""
        (control,), (history,) = self._device.downloads(self._work.control, self._work.history)
        self._may_have_equals = bool(control[Control.HAS_EQUAL])
        return int(control[Control.STOP]), int(control[Control.N_DONE]), int(control[Control.N_OPEN]), history

    def _check_finite(self) -> None:
        if not self._finite:
            raise ValueError("A center is not finite: give empty clusters a center before the next assignment.")

    def _mark_equal_centers(self) -> None:
        """Exclude centers that equal one of a lower index from the screen, if the device has found any."""
        if self._may_have_equals:
            self._may_have_equals = False
            if self._device.download(self._work.control)[0, Control.HAS_EQUAL]:
                self._work.mark_equal_centers()

    # ---- one step at a time ------------------------------------------------------------------------------------

    def assign(self, *, move: bool = True) -> Assigned:
        work = self._work
        if move:
            work.need_grid()
        self._check_finite()
        self._mark_equal_centers()
        work.reset(HISTORY)
        work.launch_assign()
        self._assigned, self._updated = True, False
        control = self._device.download(work.control)[0]
        n_exact = 0
        if control[Control.N_OPEN]:
            n_exact = work.decide_exactly(int(control[Control.N_OPEN]))
            control[Control.N_MOVED] = self._device.download(work.control)[0, Control.N_MOVED]
        if move:
            work.launch_move()
        fields = (Control.N_MOVED, Control.N_SKIPPED, Control.N_UNDECIDED, Control.N_UNCERTAIN)
        return _counted([int(control[field]) for field in fields], self._table.n_samples, n_exact)

    def update(self) -> Updated:
        work = self._work
        work.need_grid()
        work.launch_update()
        self._updated, self._may_have_equals = True, self._k > 1
        weights, shift_square = self._device.download(work.measures)[0, : Measure.NORM]
        self._finite = bool(weights.all())
        return Updated(weights, shift_square)

    # ---- results -----------------------------------------------------------------------------------------------

    def sums(self) -> tuple[I64, I64]:
        grid = self._work.need_grid()
        (sums,), (weights,) = self._device.downloads(self._work.sums, self._work.weights)
        return sums[: grid.n_limbs], weights[: self._work.weight_grid.n_limbs]

    def batch_sums(self) -> tuple[F64, F64]:
        """Sums and weights for `BatchSums`; called after an assignment."""
        sums, weights = self.sums()
        values = self._work.need_grid().value(sums)
        return values, self._work.weight_grid.value(weights[:, :, None])[:, 0]

    def weights(self) -> F64:
        return self._device.download(self._work.measures)[0, Measure.WEIGHT]

    def labels(self) -> NDArray[np.int32]:
        return self._device.download(self._work.labels)[0]

    def labels_for_caller(self) -> Any:
        return self._table.labels_for_caller(self._work.labels.reshape(-1))

    def farthest(self, count: int) -> NDArray[np.int64]:
        centers = self._work.previous if self._updated else self._work.centers
        distances = self._table.distances
        self._work.launch_distances(centers, None, distances)
        return farthest_rows(self._device.download(distances), count)

    def inertia(self) -> float:
        distances = self._table.distances
        self._work.launch_distances(self._work.centers, self._table.weights, distances)
        return float(self._work.totals(distances)[0])

    def results(self) -> tuple[Any, NDArray, float]:
        work, distances = self._work, self._table.distances
        work.launch_distances(work.centers, self._table.weights, distances)
        if self._table.stays:
            (inertia,), (centers,) = work.totals_and(distances, work.centers)
            return self.labels_for_caller(), centers[0], float(inertia)
        (inertia,), (centers, labels) = work.totals_and(distances, work.centers, work.labels)
        return labels[0], centers[0], float(inertia)

    def inertias(self) -> F64:
        distances = self._table.distances
        self._work.launch_distances(self._work.centers, self._table.weights, distances)
        return exact_totals_by_label(self._device.download(distances), self.labels(), self._k)


def step_of(record: F64, n_samples: int, n_exact: int, seconds: float) -> Step:
    """A `Step` from the record that the device keeps of an iteration."""
    fields = (History.MOVED, History.SKIPPED, History.UNDECIDED, History.UNCERTAIN)
    assigned = _counted([int(record[field]) for field in fields], n_samples, n_exact)
    return Step(assigned, float(record[History.SHIFT]), int(record[History.EMPTY]), seconds)


def _counted(counts: list[int], n_samples: int, n_exact: int) -> Assigned:
    moved, skipped, undecided, uncertain = counts
    certified = n_samples - skipped - undecided - uncertain
    return Assigned(moved, certified, undecided - n_exact, n_exact, uncertain, skipped)
