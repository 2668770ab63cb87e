"""One run of Lloyd's algorithm on the device."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans import tie_break
from gpukmeans.backends import Assigned, Step, Updated, tuning
from gpukmeans.backends.cupy_control import HISTORY, LASTING, Control, Fact, History, Measure, Reason
from gpukmeans.backends.cupy_screen import screen_for
from gpukmeans.backends.device import explained_memory_errors
from gpukmeans.certificates import exact_in_float64
from gpukmeans.exact_sums import F64, I64, Grid, farthest_rows, weight_grid
from gpukmeans.half_certificates import tensor_accumulation

if TYPE_CHECKING:
    from gpukmeans.backends.cupy_backend import CupyRows

#: Bytes of rows that come to the host at a time to be decided exactly.
EXACT_BYTES = 1 << 26
#: Iterations that are launched one by one, and then those of a recorded graph: while the device is busy with the
#: former, the host records the latter.
FIRST_ITERATIONS = 4
GRAPH_ITERATIONS = 4
#: Replays of the graph between two looks at the device: each look waits for it, and iterations that are launched after
#: the last one cost some microseconds each.
REPLAYS = (1, 2, 4, 8)


class CupyRun:
    """Centers, labels and exact sums on the device.

    An iteration is three launches (for more than `tuning.FEW_CENTERS` centers some more): the assignment, the sums that
    follow it, the centers that follow them.  The last one judges whether to go on, so that the host need not wait:
    `advance` launches iteration after iteration and looks at the device every few of them.
    """

    def __init__(self, rows: CupyRows, centers: NDArray, precision: str) -> None:
        if precision not in ("exact", "fast"):
            raise ValueError(f"precision={precision!r} should be 'exact' or 'fast'.")
        self._rows = rows
        self._launch, self._device = rows.launch, rows.device
        self._exact = precision == "exact"
        self._k = k = len(centers)
        n, d = rows.n_samples, rows.n_features
        self._weight_grid = weight_grid(n, rows.host_weight)
        self._screen = screen_for(rows, k, self._exact)
        self._n_steps = tuning.n_steps(d, rows.dtype)
        limbs = 0 if rows.grid is None else rows.grid.n_limbs
        padded, columns = self._screen.n_padded, tuning.STEP_COLUMNS * self._n_steps
        wanted = 8 * n + k * d * (8 * limbs + 2 * rows.center_dtype.itemsize) + 2 * padded * columns
        with explained_memory_errors(self._device, f"{k} clusters of {n} rows", wanted):
            empty, upload = self._device.empty, self._device.upload
            self._labels = empty(n, np.int32)
            self._limits = empty(n, np.float32)
            self._centers = empty((k, d), rows.center_dtype)
            #: The centers before the last update.
            self._previous = empty((k, d), rows.center_dtype)
            self._half_centers = empty(padded * columns, np.uint16)
            self._half_squares = upload(np.full(padded, -np.inf, np.float32))
            self._measures = empty((len(Measure), k), np.float64)
            self._facts = empty(len(Fact), np.float32)
            self._drift = empty(k, np.float32)
            self._table = empty(tuning.hash_slots(k), np.uint64)
            self._tolerance = upload(np.full(1, -1.0))
            self._history = empty((HISTORY, len(History)), np.float64)
            control = np.zeros(len(Control), np.int32)
            control[Control.EPOCH] = 1
            self._control = upload(control)
            self._sums = empty((limbs, k, d), np.int64) if limbs else None
            self._weights = empty((self._weight_grid.n_limbs, k), np.int64) if limbs else None
        self._device.fill(self._labels, 0xFF)  # -1
        self._device.fill(self._half_centers, 0)
        self._device.fill(self._table, 0)
        if limbs:
            self._device.fill(self._sums, 0)
            self._device.fill(self._weights, 0)
        self._replay: Callable[[], None] | None = None
        #: Whether an update has followed the last assignment, whose centers are then the previous ones.
        self._updated = False
        self._assigned = False
        self.set_centers(centers)

    # ---- centers -----------------------------------------------------------------------------------------------

    def set_centers(self, centers: NDArray) -> None:
        host = np.array(centers, self._rows.center_dtype, order="C")
        if self._assigned and not self._updated:
            self._device.write(self._previous, self.centers())
            self._updated = True
        self._device.write(self._centers, host)
        self._finite = bool(np.isfinite(host).all())
        self._device.fill(self._limits, 0xFF)  # NaN: nothing is known
        self._device.fill(self._drift, 0)
        self._launch_update(given=True)
        self._may_have_equals = True

    def centers(self) -> NDArray:
        return self._device.download(self._centers)

    def assigned_centers(self) -> NDArray:
        return self._device.download(self._previous if self._updated else self._centers)

    def _mark_equal_centers(self) -> None:
        """Tell the screen of the centers that an equal one stands before, if the device has seen any."""
        if not self._may_have_equals:
            return
        self._may_have_equals = False
        lasting = self._control[LASTING:]
        if not self._device.download(lasting)[0]:
            return
        squares = self._device.download(self._half_squares)
        dead = np.ones(self._k, bool)
        dead[self._living(self.centers())] = False
        squares[: self._k][dead] = -np.inf
        self._device.write(self._half_squares, squares)
        self._device.write(self._control[Control.HAS_EQUAL : Control.HAS_EQUAL + 1], np.zeros(1, np.int32))

    @staticmethod
    def _living(centers: NDArray) -> I64:
        """Indices of the centers that no equal one stands before."""
        return np.flatnonzero(tie_break.first_of_equal_rows(centers) == np.arange(len(centers)))

    # ---- launches ----------------------------------------------------------------------------------------------

    def _launch_assign(self) -> None:
        self._screen.launch(
            *(self._centers, self._half_centers, self._half_squares, self._drift, self._facts),
            *(self._labels, self._limits, self._control),
        )

    def _launch_move(self) -> None:
        rows, grid, weights = self._rows, self._need_grid(), self._weight_grid
        shape = tuning.move_shape(rows.n_samples, rows.n_features)
        args = (
            *(rows.X, rows.weights, rows.scale, np.float64(2.0**grid.bits)),
            *(np.float64(weights.scale[0]), np.float64(2.0**weights.bits)),
            *(np.int32(self._k), np.int32(rows.n_features), rows.moved_rows, rows.moved_from, self._labels),
            *(self._sums, self._weights, self._control),
        )
        limbs = max(grid.n_limbs, weights.n_limbs)
        weighted = rows.weights is not None
        constants = tuning.move_constants(rows.dtype, rows.n_features, rows.aligned, limbs, weighted)
        self._launch("move_sums", constants, shape.grid, shape.block, args)

    def _launch_update(self, *, given: bool = False) -> None:
        rows, grid, weights = self._rows, self._rows.grid, self._weight_grid
        args = (
            *(self._sums, self._weights, rows.unit),
            *(np.int32(grid.n_limbs if grid else 0), np.float64(2.0**-grid.bits if grid else 0.0)),
            *(np.int32(weights.n_limbs), np.float64(weights.scale[0]), np.float64(2.0**-weights.bits)),
            *(np.int32(self._k), np.int32(rows.n_features), self._centers, self._previous),
            *(np.float64(rows.half_scale), rows.offsets, np.int32(self._n_steps)),
            *(self._half_centers, self._half_squares, self._measures),
            *(np.float64(tensor_accumulation(tuning.STEP_COLUMNS * self._n_steps)), np.float64(rows.largest_integer)),
            *(self._facts, self._drift, self._table, np.int32(self._table.size)),
            *(self._tolerance, self._history, self._control),
        )
        self._launch("update_centers", tuning.update_constants(rows.dtype, given=given), self._k, 256, args)

    def _launch_iterations(self, count: int) -> None:
        for _ in range(count):
            self._launch_assign()
            self._launch_move()
            self._launch_update()

    # ---- many iterations at a time -----------------------------------------------------------------------------

    def advance(self, limit: int, tol: float) -> list[Step]:
        started = time.perf_counter()
        self._need_grid()
        self._ready()
        self._device.write(self._tolerance, np.full(1, tol))
        limit = min(limit, HISTORY)
        self._reset(limit)
        n_exact = np.zeros(limit, np.int64)
        replays = iter(REPLAYS)
        reason = done = 0
        while reason not in _FINAL:
            self._launch_some(limit - done, next(replays, REPLAYS[-1]))
            reason, done, n_open = self._look()
            if reason == Reason.ROWS_LEFT_OPEN:
                n_exact[done] = self._decide_exactly(n_open)
                self._launch_move()
                self._launch_update()
                reason, done, _ = self._look()
            if reason == Reason.EQUAL_CENTERS:
                self._go_on()
                self._mark_equal_centers()
                reason = Reason.ITERATIONS_DONE if done == limit else Reason.GO_ON
        self._assigned = self._updated = True
        history = self._device.download(self._history)[:done]
        self._finite = not history[-1, History.EMPTY]
        seconds = (time.perf_counter() - started) / done
        return [self._step(record, int(exact), seconds) for record, exact in zip(history, n_exact, strict=False)]

    def _launch_some(self, most: int, replays: int) -> None:
        """Launch some iterations: those beyond `most`, or beyond the last, do nothing."""
        if most <= GRAPH_ITERATIONS:
            self._launch_iterations(most)
            return
        if self._replay is None:
            self._launch_iterations(FIRST_ITERATIONS)
            self._replay = self._device.record(lambda: self._launch_iterations(GRAPH_ITERATIONS))
        for _ in range(min(replays, -(-most // GRAPH_ITERATIONS))):
            self._replay()

    def _look(self) -> tuple[int, int, int]:
        """Why the device stopped (0 if it did not), iterations done, rows left open."""
        control = self._device.download(self._control)
        self._may_have_equals = bool(control[Control.HAS_EQUAL])
        return int(control[Control.STOP]), int(control[Control.N_DONE]), int(control[Control.N_OPEN])

    def _step(self, record: F64, n_exact: int, seconds: float) -> Step:
        moved, skipped, undecided, uncertain, _, empty = (int(x) if x == x else 0 for x in record.tolist())
        certified = self._rows.n_samples - skipped - undecided - uncertain
        assigned = Assigned(moved, certified, undecided - n_exact, n_exact, uncertain, skipped)
        return Step(assigned, float(record[History.SHIFT]), empty, seconds)

    def _ready(self) -> None:
        if not self._finite:
            raise ValueError("A center is not finite: give empty clusters a center before the next assignment.")
        self._mark_equal_centers()

    def _reset(self, limit: int) -> None:
        words = np.zeros(LASTING, np.int32)
        words[Control.N_LIMIT] = limit
        self._device.write(self._control[:LASTING], words)

    def _go_on(self) -> None:
        self._device.write(self._control[Control.STOP : Control.STOP + 1], np.zeros(1, np.int32))

    # ---- one step at a time ------------------------------------------------------------------------------------

    def assign(self, *, move: bool = True) -> Assigned:
        if move and self._rows.grid is None:
            raise ValueError("These rows were loaded without a grid: they can be labelled (move=False), not summed.")
        self._ready()
        self._reset(HISTORY)
        self._launch_assign()
        self._assigned, self._updated = True, False
        control = self._device.download(self._control)
        n_exact = 0
        if control[Control.N_OPEN]:
            n_exact = self._decide_exactly(int(control[Control.N_OPEN]))
            control[Control.N_MOVED] = self._device.download(self._control)[Control.N_MOVED]
        if move:
            self._launch_move()
        words = (Control.N_MOVED, Control.N_SKIPPED, Control.N_UNDECIDED, Control.N_UNCERTAIN)
        moved, skipped, undecided, uncertain = (int(control[word]) for word in words)
        certified = self._rows.n_samples - skipped - undecided - uncertain
        return Assigned(moved, certified, undecided - n_exact, n_exact, uncertain, skipped)

    def update(self) -> Updated:
        self._need_grid()
        self._launch_update()
        self._updated = self._may_have_equals = True
        weights, shift_square = self._device.download(self._measures)[: Measure.NORM]
        self._finite = bool(weights.all())
        return Updated(weights, shift_square)

    def _decide_exactly(self, n_open: int) -> int:
        """Rows that float64 distances leave open: to the host, a few at a time.  Returns how many needed exactness."""
        rows, device = self._rows, self._device
        centers = self.centers()
        alive = self._living(centers)
        largest = float(device.download(self._measures)[Measure.LARGEST].max())
        whole = all(exact_in_float64(rows.n_features, value) for value in (largest, rows.largest_integer))
        step = max(1, EXACT_BYTES // (rows.n_features * rows.dtype.itemsize))
        n_exact = 0
        for start in range(0, n_open, step):
            count = min(step, n_open - start)
            values = rows.gather(rows.open_rows, start, count)
            labels, n = tie_break.resolve(values, centers, alive, whole)
            n_exact += n
            args = (rows.open_rows[start : start + count], device.upload(labels), np.int32(count), self._labels)
            lists = (rows.moved_rows, rows.moved_from, self._control)
            self._launch("settle_rows", {}, -(-count // 256), 256, (*args, *lists))
        device.write(self._control[Control.N_OPEN : Control.N_OPEN + 1], np.zeros(1, np.int32))
        self._go_on()
        return n_exact

    # ---- results -----------------------------------------------------------------------------------------------

    def sums(self) -> tuple[I64, I64]:
        self._need_grid()
        return self._device.download(self._sums), self._device.download(self._weights)

    def weights(self) -> F64:
        return self._device.download(self._measures)[Measure.WEIGHT]

    def _need_grid(self) -> Grid:
        if self._rows.grid is None:
            raise ValueError("These rows were loaded without a grid: they can be labelled, not summed.")
        return self._rows.grid

    def labels(self) -> NDArray[np.int32]:
        return self._device.download(self._labels)

    def farthest(self, count: int) -> NDArray[np.int64]:
        self._own_distances(self._previous if self._updated else self._centers, None)
        return farthest_rows(self._device.download(self._rows.distances), count)

    def inertia(self) -> float:
        n = self._rows.n_samples
        largest = self._own_distances(self._centers, self._rows.weights)
        grid = Grid.for_largest(float(self._device.download(largest)[0]), n)
        total = self._device.empty((2, 1), np.int64)
        self._device.fill(total, 0)
        args = (self._rows.distances, np.int64(n), np.float64(grid.scale[0]), np.float64(2.0**grid.bits), total)
        self._launch("exact_total", {}, min(512, -(-n // 256)), 256, args)
        return float(grid.value(self._device.download(total))[0])

    def _own_distances(self, centers: Any, weights: Any) -> Any:
        """Fill `distances`; returns the largest, on the device."""
        rows = self._rows
        largest = self._device.empty(1, np.float64)
        self._device.fill(largest, 0)
        args = (rows.X, centers, self._labels, weights, np.int64(rows.n_samples), np.int32(rows.n_features))
        grid = min(tuning.STRIDE_BLOCKS, -(-rows.n_samples // 8))
        constants = tuning.row_center_constants(rows.dtype)
        self._launch("row_distance", constants, grid, 256, (*args, rows.distances, largest))
        return largest


_FINAL = (Reason.LABELS_STAYED, Reason.CENTERS_STAYED, Reason.EMPTY_CLUSTER, Reason.ITERATIONS_DONE)
