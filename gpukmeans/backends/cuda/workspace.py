"""What runs of Lloyd's algorithm keep on the device, and the launches that work on it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64, I64
from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda.control import HISTORY, LASTING, Control, Fact, History, Measure
from gpukmeans.backends.cuda.device.seam import explained_memory_errors
from gpukmeans.backends.cuda.screens import FewCenters, ManyCenters, screen_for
from gpukmeans.certificates.halves import tensor_accumulation
from gpukmeans.certificates.scores import exact_in_float64
from gpukmeans.exact import tie_break
from gpukmeans.exact.sums import Grid

if TYPE_CHECKING:
    from gpukmeans.backends.cuda.backend import CupyRows
    from gpukmeans.backends.cuda.rows import DeviceRows
    from gpukmeans.backends.cuda.sparse.workspace import SparseCenters

#: Iterations that are launched one by one, and then those of a recorded graph: while the device is busy with the
#: former, the host records the latter.
FIRST_ITERATIONS = 4
GRAPH_ITERATIONS = 4
#: Replays of the graph between two looks at the device: each look waits for it, and iterations that are launched after
#: the last one cost some microseconds each.
REPLAYS = (1, 2, 4, 8)
#: Bytes of rows that come to the host at a time to be decided exactly.
EXACT_BYTES = 1 << 26


class Workspace:
    """Centers, labels, exact sums and all that kernels tell each other, of one run or of several side by side.

    Arrays begin with the axis of the runs.  Restarts of a fit come one after the other and use the same workspace.
    How rows are stored is the business of subclasses: `DenseWorkspace` and `cupy_sparse_workspace.SparseWorkspace`.

    Parameters
    ----------
    rows : DeviceRows
    screen : FewCenters, ManyCenters or SparseCenters
        The kernels that assign.
    n_clusters, n_runs : int
    exact : bool
        Whether labels are exact, or the screen's word is taken.
    copy_size : int
        Elements of the copy of a run's centers that the screen reads, `half_centers`.
    """

    #: Of the copies of the centers, and of their half squares.
    _copy_dtype: np.dtype = np.dtype(np.uint16)
    _half_dtype: np.dtype = np.dtype(np.float32)
    #: Tensor products along a row.
    _n_steps = 0

    def __init__(
        self,
        rows: DeviceRows,
        screen: FewCenters | ManyCenters | SparseCenters,
        n_clusters: int,
        n_runs: int,
        exact: bool,
        copy_size: int,
    ) -> None:
        self._rows: DeviceRows = rows
        self._device = rows.device
        self.n_runs, self.n_clusters, self.exact = n_runs, n_clusters, exact
        r, k, n, d = n_runs, n_clusters, rows.n_samples, rows.n_features
        self.weight_grid = rows.weight_grid
        #: How runs share a launch: those of a problem, and problems (kernels/common.cuh).
        self.shared = (n_runs // rows.n_problems, rows.n_problems)
        self._screen = screen
        #: Sums and weights have as many limbs as either needs.
        self.n_limbs = 0 if rows.grid is None else max(rows.grid.n_limbs, self.weight_grid.n_limbs)
        per_run = 20 * n + k * d * (8 * self.n_limbs + 2 * rows.center_dtype.itemsize)
        per_run += copy_size * self._copy_dtype.itemsize
        with explained_memory_errors(self._device, f"{r * k} clusters of {n} rows", r * per_run):
            empty, upload = self._device.empty, self._device.upload
            self.labels = empty((r, n), np.int32)
            #: How far centers may drift before a row must be looked at; NaN: it must.
            self.limits = empty((r, n), np.float32)
            # What an assignment lists.
            self.moved_rows, self.moved_from, self.open_rows = (empty((r, n), np.int32) for _ in range(3))
            self.centers = empty((r, k, d), rows.center_dtype)
            #: The centers before the last update.
            self.previous = empty((r, k, d), rows.center_dtype)
            self.half_centers = empty((r, copy_size), self._copy_dtype)
            self.half_squares = upload(np.full((r, screen.n_padded), -np.inf, self._half_dtype))
            self.measures = empty((r, len(Measure), k), np.float64)
            self.facts = empty((r, len(Fact)), np.float32)
            self.drift = empty((r, k + screen.n_groups), np.float32)
            self._table = empty((r, tuning.hash_slots(k)), np.uint64)
            self.tolerance = empty(r, np.float64)
            self.history = empty((r, HISTORY, len(History)), np.float64)
            self.control = empty((r, len(Control)), np.int32)
            self.sums = empty((r, self.n_limbs, k, d), np.int64) if self.n_limbs else None
            self.weights = empty((r, self.n_limbs, k), np.int64) if self.n_limbs else None
        self._device.fill(self.half_centers, 0)
        #: Iterations recorded as a graph, if that has been done.
        self.replay: Callable[[], None] | None = None

    def attach(self, rows: DeviceRows | None) -> None:
        """Work for `rows`; None while nobody does, so that these do not keep each other alive."""
        self._rows = self._screen.rows = rows  # type: ignore[assignment]

    def begin(self, centers: NDArray) -> None:
        """New runs from `centers` (n_runs, n_clusters, n_features)."""
        control = np.zeros((self.n_runs, len(Control)), np.int32)
        control[:, Control.EPOCH] = 1
        self._device.write(self.control, control)
        self._device.fill(self.labels, 0xFF)  # -1
        self._device.fill(self._table, 0)
        if self.n_limbs:
            self._device.fill(self.sums, 0)
            self._device.fill(self.weights, 0)
        self.set_centers(centers)

    def set_centers(self, centers: NDArray) -> None:
        """Other centers: nothing is known of how far they are."""
        self._device.write(self.centers, centers)
        self._device.fill(self.limits, 0xFF)  # NaN
        self._device.fill(self.drift, 0)
        self.launch_update(given=True)

    def reset(self, limit: int) -> None:
        """Before an assignment of a single run, or `limit` iterations: nothing is counted yet, nothing stops them."""
        words = np.zeros(LASTING, np.int32)
        words[Control.N_LIMIT] = limit
        self._device.write(self.control.reshape(-1)[:LASTING], words)

    def put_word(self, word: Control, value: int) -> None:
        """Set a word of the control of a single run."""
        self._device.write(self.control.reshape(-1)[word : word + 1], np.full(1, value, np.int32))

    # ---- launches ----------------------------------------------------------------------------------------------

    def launch_assign(self) -> None:
        """Labels, limits and lists follow the centers."""
        self._screen.launch(self)

    def launch_move(self) -> None:
        """Sums and weights follow the listed rows."""
        raise NotImplementedError

    def launch_update(self, *, given: bool = False) -> None:
        """Centers follow the sums (unless `given`), and the device judges whether to go on."""
        rows, grid, weights = self._rows, self._rows.grid, self.weight_grid
        args = (
            *(self.sums, self.weights, rows.facts.unit, rows.facts.scales, np.int32(self.n_limbs)),
            *(np.float64(2.0**-grid.bits if grid else 0.0), np.float64(2.0**-weights.bits)),
            *(np.int32(self._screen.n_padded), np.int32(self.n_clusters), np.int32(rows.n_features)),
            *(self.centers, self.previous, rows.facts.offsets, np.int32(self._n_steps)),
            *(self.half_centers, self.half_squares, self.measures),
            *(np.float64(self._accumulation()), self.facts, self.drift, np.int32(self._screen.n_groups)),
            *(self._table, np.int32(tuning.hash_slots(self.n_clusters))),
            *(self.tolerance, self.history, np.int32(HISTORY), self.control),
        )
        constants = self._update_constants(given)
        rows.launch("update_centers", constants, (self.n_clusters, *self.shared), 256, args)

    def _update_constants(self, given: bool) -> tuning.Constants:
        return tuning.update_constants(self._rows.dtype, given=given)

    def _accumulation(self) -> float:
        """What the radius of a score has for each |c|^2 / 2."""
        return tensor_accumulation(tuning.STEP_COLUMNS * self._n_steps)

    def launch_some(self, most: int, replays: int) -> None:
        """Launch some iterations: those beyond `most`, or beyond the last, do nothing."""
        if most <= GRAPH_ITERATIONS:
            self.launch_iterations(most)
            return
        if self.replay is None:
            self.launch_iterations(FIRST_ITERATIONS)
            self.record(GRAPH_ITERATIONS)
        assert self.replay is not None
        for _ in range(min(replays, -(-most // GRAPH_ITERATIONS))):
            self.replay()

    def launch_iterations(self, count: int) -> None:
        """So many iterations."""
        for _ in range(count):
            self.launch_assign()
            self.launch_move()
            self.launch_update()

    def record(self, count: int) -> None:
        """Make `replay` launch so many iterations."""
        this = weakref.ref(self)  # no cycle: memory must come back at once

        def launches() -> None:
            work = this()
            assert work is not None
            work.launch_iterations(count)

        self.replay = self._device.record(launches)

    def launch_distances(self, centers: Any, weights: Any, distances: Any) -> Any:
        """Squared distances of the rows to their own centers; returns the largest of each run, on the device."""
        raise NotImplementedError

    def totals(self, terms: Any, largest: Any) -> F64:
        """The exact sums of non-negative terms, one for each row, by the largest of them: of each run."""
        n, bits = self._rows.n_samples, Grid.limb_bits(self._rows.n_samples)
        totals = self._device.empty((self.n_runs, 2), np.int64)
        self._device.fill(totals, 0)
        args = (terms, largest, np.int64(n), np.int32(bits), totals)
        self._rows.launch("exact_total", {}, (min(512, -(-n // 256)), *self.shared), 256, args)
        found = self._device.download(totals).T
        return Grid.for_largest(self._device.download(largest), n).value(found)

    # ---- what the host has to do -------------------------------------------------------------------------------

    def need_grid(self) -> Grid:
        """The grid of the rows."""
        if self._rows.grid is None:
            raise ValueError("These rows were loaded without a grid: they can be labelled (move=False), not summed.")
        return self._rows.grid

    def mark_equal_centers(self) -> None:
        """Of a single run: tell the screen of the centers that an equal one stands before."""
        squares = self._device.download(self.half_squares)[0]
        dead = np.ones(self.n_clusters, bool)
        dead[living(self._device.download(self.centers)[0])] = False
        squares[: self.n_clusters][dead] = -np.inf
        self._device.write(self.half_squares, squares[None])
        self.put_word(Control.HAS_EQUAL, 0)

    def decide_exactly(self, n_open: int) -> int:
        """Rows of a single run that float64 distances leave open, a few at a time.

        Returns how many needed exact arithmetic.
        """
        raise NotImplementedError

    def settle(self, start: int, labels: NDArray[np.int32]) -> None:
        """The host's word on some open rows, from number `start` on."""
        count = len(labels)
        open_rows = self.open_rows.reshape(-1)[start : start + count]
        args = (open_rows, self._device.upload(labels), np.int32(count))
        lists = (self.labels, self.moved_rows, self.moved_from, self.control)
        self._rows.launch("settle_rows", {}, -(-count // 256), 256, (*args, *lists))

    def all_settled(self) -> None:
        """No row is open any more: launches go on."""
        self.put_word(Control.N_OPEN, 0)
        self.put_word(Control.STOP, 0)


class DenseWorkspace(Workspace):
    """Of dense rows, whose screens read halves."""

    _rows: CupyRows

    def __init__(self, rows: CupyRows, n_clusters: int, n_runs: int, exact: bool) -> None:
        self._n_steps = tuning.n_steps(rows.n_features, rows.dtype)
        screen = screen_for(rows, n_clusters, exact)
        size = screen.n_padded * tuning.STEP_COLUMNS * self._n_steps
        super().__init__(rows, screen, n_clusters, n_runs, exact, size)

    def launch_move(self) -> None:
        rows, grid, weights = self._rows, self.need_grid(), self.weight_grid
        shape = tuning.move_shape(rows.n_samples, rows.n_features)
        args = (
            *(rows.X, rows.weights, rows.facts.scale, rows.facts.scales),
            *(np.float64(2.0**grid.bits), np.float64(2.0**weights.bits)),
            *(np.int32(rows.n_samples), np.int32(self.n_clusters), np.int32(rows.n_features)),
            np.int32(self.shared[0]),
            *(self.moved_rows, self.moved_from, self.labels, self.sums, self.weights, self.control),
        )
        weighted = rows.weights is not None
        constants = tuning.move_constants(rows.dtype, rows.n_features, rows.aligned, self.n_limbs, weighted)
        rows.launch("move_sums", constants, (*shape.grid, self.n_runs), shape.block, args)

    def launch_distances(self, centers: Any, weights: Any, distances: Any) -> Any:
        rows = self._rows
        largest = self._device.empty(self.n_runs, np.float64)
        self._device.fill(largest, 0)
        args = (rows.X, centers, self.labels, weights, np.int64(rows.n_samples), np.int32(rows.n_features))
        grid = (tuning.stride_blocks(rows.n_samples, 8), *self.shared)
        constants = tuning.row_center_constants(rows.dtype)
        rows.launch("row_distance", constants, grid, 256, (*args, distances, largest, np.int32(self.n_clusters)))
        return largest

    def decide_exactly(self, n_open: int) -> int:
        rows, device = self._rows, self._device
        centers = device.download(self.centers)[0]
        alive = living(centers)
        largest = float(device.download(self.measures)[0, Measure.LARGEST].max())
        whole = all(exact_in_float64(rows.n_features, value) for value in (largest, rows.largest_integer))
        step = max(1, EXACT_BYTES // (rows.n_features * rows.X.dtype.itemsize))
        open_rows = self.open_rows.reshape(-1)
        n_exact = 0
        for start in range(0, n_open, step):
            count = min(step, n_open - start)
            values = rows.gather(open_rows, start, count)
            labels, n = tie_break.resolve(values, centers, alive, whole)
            n_exact += n
            self.settle(start, labels)
        self.all_settled()
        return n_exact


def living(centers: NDArray) -> I64:
    """Indices of the centers that no equal one stands before."""
    return np.flatnonzero(tie_break.first_of_equal_rows(centers) == np.arange(len(centers)))
