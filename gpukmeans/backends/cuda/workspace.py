"""What runs of Lloyd's algorithm keep on the device, and the launches that read and write it."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64, I64
from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda.control import HISTORY, LASTING, Control, Fact, History, Measure, Reason
from gpukmeans.backends.cuda.device.seam import Spec, explained_memory_errors
from gpukmeans.backends.cuda.device.structs import Struct
from gpukmeans.backends.cuda.table import CupyTable
from gpukmeans.exact import tie_break
from gpukmeans.exact.sums import Grid

#: Iterations that are launched one by one, and then those of a recorded graph: the host records the graph while the
#: device executes the former.
FIRST_ITERATIONS = 4
GRAPH_ITERATIONS = 4
#: Replays of the graph between two downloads of the control array: each download waits for the device, and each
#: iteration that is launched after the last one costs some microseconds.
REPLAYS = (1, 2, 4, 8)


class Screen(Protocol):
    """The kernels that assign rows to their nearest centers."""

    n_groups: int  # groups of centers that have drifts of their own
    n_padded: int  # length of `Workspace.half_squares`, n_clusters at least

    def bind(self, work: Workspace) -> None:
        """Called once: later launches read and write this workspace's arrays."""

    def launch(self) -> None:
        """Bring labels, limits and lists up to date with the centers."""


class Workspace:
    """Centers, labels, exact sums and what kernels pass to each other, for one run or for several side by side.

    The first axis of each array is the run.  Restarts of a fit that follow one another use the same workspace (see
    `Workspaces`).  Subclasses hold what depends on how rows are stored: `dense_workspace.DenseWorkspace` and
    `sparse.workspace.SparseWorkspace`.

    Parameters
    ----------
    table : CupyTable
    screen : Screen
    n_clusters, n_runs : int
    exact : bool
        Whether labels are exact; else a row that is not certified takes the best screened label.
    copy_size : int
        Elements of the copy of a run's centers that the screen reads, `half_centers`.
    """

    #: Of the copies of the centers, and of their half squares.
    _copy_dtype: np.dtype = np.dtype(np.uint16)
    _half_dtype: np.dtype = np.dtype(np.float32)
    #: Tensor products along a row.
    _n_steps = 0
    #: Whether the copy is limbs in fixed point (kernels/limbs.cuh), whose scores start from `starts`.
    _limbs = False

    def __init__(
        self,
        table: CupyTable,
        screen: Screen,
        n_clusters: int,
        n_runs: int,
        exact: bool,
        copy_size: int,
    ) -> None:
        self._table = table
        self._device = table.device
        self.n_runs, self.n_clusters, self.exact = n_runs, n_clusters, exact
        r, k, n, d = n_runs, n_clusters, table.n_samples, table.n_features
        self.weight_grid = table.weight_grid
        #: The second and third axis of launches: runs of a problem, and problems (kernels/common.cuh).
        self.shared = (n_runs // table.n_problems, table.n_problems)
        self._screen = screen
        #: Sums and weights have as many limbs as either needs.
        self.n_limbs = 0 if table.grid is None else max(table.grid.n_limbs, self.weight_grid.n_limbs)
        per_run = 20 * n + k * d * (8 * self.n_limbs + 2 * table.center_dtype.itemsize)
        per_run += copy_size * self._copy_dtype.itemsize
        with explained_memory_errors(self._device, f"{r * k} clusters of {n} rows", r * per_run):
            #: Labels, and how far centers may drift before a row must be screened again; NaN: at the next assignment.
            unknown = [((r, n), np.int32), ((r, n), np.float32)]
            #: What a run starts from, in one copy: begin.
            given: list[Spec] = [((r, len(Control)), np.int32), (r, np.float64)]
            given += [((r, screen.n_padded), self._half_dtype), ((r, k, d), table.center_dtype)]
            zeros: list[Spec] = [
                ((r, k + screen.n_groups), np.float32),
                *(((r, 2), np.int64), (r, np.float64), ((r, copy_size), self._copy_dtype)),
                ((r, tuning.hash_slots(k)), np.uint64),
                *([((r, self.n_limbs, k, d), np.int64), ((r, self.n_limbs, k), np.int64)] if self.n_limbs else []),
            ]
            others: list[Spec] = [((r, k, d), table.center_dtype)]
            others += [((r, len(Measure), k), np.float64), ((r, len(Fact)), np.float32)]
            others += [((r, HISTORY, len(History)), np.float64), *([((r, n), np.int32)] * 3)]
            others += [((r, screen.n_padded), np.int64)] if self._limbs else []
            arrays = iter(self._device.arrays(*unknown, *given, *zeros, *others))
            self.labels, self.limits = next(arrays), next(arrays)
            self.control, self.tolerance, self.half_squares, self.centers = (next(arrays) for _ in given)
            self._zeros = [next(arrays) for _ in zeros]
            self.drift, self._totals, self.largest, self.half_centers, self._hash_table = self._zeros[:5]
            self.sums, self.weights = [*self._zeros[5:], None, None][:2]
            #: The centers before the last update.
            self.previous = next(arrays)
            self.measures, self.facts, self.history = next(arrays), next(arrays), next(arrays)
            #: Rows that the last assignment left open.
            self.open_rows = next(arrays)
            #: Labels, and the rows that change theirs in an assignment.
            rows, old = next(arrays), next(arrays)
            self.moves = table.struct("Moves", labels=self.labels, rows=rows, old=old, control=self.control)
            self.starts = next(arrays, None)
        screen.bind(self)
        #: Whether `_totals` and `largest` are zero.
        self._cleared = False
        #: Of a single run: the limit in its control array, if no launch has counted since; and its tolerance.
        self._limit: int | None = None
        self._tolerance: float | None = None
        #: Launches a recorded graph of iterations; None before `record`.
        self.replay: Callable[[], None] | None = None

    def begin(self, centers: NDArray, limit: int = HISTORY, tol: float | F64 = -1.0) -> None:
        """Start new runs from `centers` (n_runs, n_clusters, n_features), for up to `limit` iterations.

        Runs whose centers may be equal stop before the first; `tol` is the tolerance of all runs, or of each.
        """
        control = np.zeros((self.n_runs, len(Control)), np.int32)
        control[:, [Control.EPOCH, Control.N_LIMIT]] = 1, limit
        squares = np.full(self.half_squares.shape, -np.inf, self._half_dtype)
        self._device.writes(
            *((self.labels, 0xFF), (self.limits, 0xFF)),  # -1, NaN
            *((self.control, control), (self.tolerance, np.full(self.n_runs, tol))),
            *((self.half_squares, squares), (self.centers, centers)),
            *((array, 0) for array in self._zeros),
        )
        self._cleared = True
        self.launch_update(given=True)
        self._limit, self._tolerance = limit, tol if isinstance(tol, float) else None

    def set_centers(self, centers: NDArray) -> None:
        """Replace the centers; all limits become NaN."""
        self._device.write(self.centers, centers)
        self._device.fill(self.limits, 0xFF)  # NaN
        self._device.fill(self.drift, 0)
        self.launch_update(given=True)

    def reset(self, limit: int, tol: float | None = None) -> None:
        """Clear the counters and the stop flag of a single run, before an assignment or before `limit` iterations."""
        if limit != self._limit:
            fields = np.zeros(LASTING, np.int32)
            fields[Control.N_LIMIT] = limit
            self._device.write(self.control.reshape(-1)[:LASTING], fields)
        self._limit = None  # launches follow, which count
        if tol not in (None, self._tolerance):
            self._device.write(self.tolerance, np.full(1, tol))
            self._tolerance = tol

    def set_control(self, field: Control, value: int) -> None:
        """Set one field of the control array of a single run."""
        self._device.write(self.control.reshape(-1)[field : field + 1], np.full(1, value, np.int32))

    # ---- launches ----------------------------------------------------------------------------------------------

    def launch_assign(self) -> None:
        """Bring labels, limits and lists up to date with the centers."""
        self._screen.launch()

    def launch_move(self) -> None:
        """Bring sums and weights up to date with the listed rows."""
        raise NotImplementedError

    def launch_update(self, *, given: bool = False) -> None:
        """Compute centers from the sums (unless `given`), what screens need of them, and whether to stop."""
        constants = self._update_constants(given)
        self._table.launch("update_centers", constants, (self.n_clusters, *self.shared), 256, self._update_args)

    @functools.cached_property
    def _sums_of_clusters(self) -> Struct:
        return self._table.struct(
            "Sums", sums=self.sums, weights=self.weights, k=self.n_clusters, d=self._table.n_features
        )

    @functools.cached_property
    def _sum_grid(self) -> Struct:
        facts, grid, weights = self._table.facts, self.need_grid(), self.weight_grid
        sizes = {"limb_size": 2.0**grid.bits, "weight_limb_size": 2.0**weights.bits}
        return self._table.struct("SumGrid", scale=facts.scale, scales=facts.scales, **sizes)

    @functools.cached_property
    def _update_args(self) -> tuple[Any, ...]:
        facts, struct, grid = self._table.facts, self._table.struct, self._table.grid
        means = struct(
            "Means",
            unit=facts.unit,
            limb_unit=2.0**-grid.bits if grid else 0.0,
            weight_unit=2.0**-self.weight_grid.bits,
            n_limbs=self.n_limbs,
        )
        centers = struct("NewCenters", C=self.centers, previous=self.previous)
        copies = Struct(
            self._device,
            "CenterCopies",
            {"Copy": self._copy_dtype, "HalfSquare": self._half_dtype},
            offsets=facts.offsets,
            half_centers=self.half_centers,
            half_squares=self.half_squares,
            starts=self.starts,
            n_padded=self._screen.n_padded,
            n_steps=self._n_steps,
        )
        following = struct(
            "NextFacts",
            measures=self.measures,
            facts=self.facts,
            drift_so_far=self.drift,
            accumulation=self._accumulation(),
            n_groups=self._screen.n_groups,
        )
        hashes = struct("HashTable", words=self._hash_table, n_slots=tuning.hash_slots(self.n_clusters))
        record = struct(
            "Record", tolerance=self.tolerance, history=self.history, n_history=HISTORY, control=self.control
        )
        return (self._sums_of_clusters, means, facts.scales, centers, copies, following, hashes, record)

    def _update_constants(self, given: bool) -> tuning.Constants:
        return tuning.update_constants(self._table.dtype, given=given)

    def _accumulation(self) -> float:
        """The factor of |c|^2 / 2 in the radius of a score."""
        raise NotImplementedError

    def launch_some(self, most: int, replays: int) -> None:
        """Launch some iterations; those beyond `most`, or beyond a stop, have no effect."""
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
        """Launch `count` iterations."""
        for _ in range(count):
            self.launch_assign()
            self.launch_move()
            self.launch_update()

    def record(self, count: int) -> None:
        """Make `replay` launch `count` iterations."""
        this = weakref.ref(self)  # no reference cycle, which would delay the release of memory

        def launches() -> None:
            work = this()
            assert work is not None
            work.launch_iterations(count)

        self.replay = self._device.record(launches)

    def launch_distances(self, centers: Any, weights: Any, distances: Any) -> None:
        """Write squared distances of the rows to their own centers; `largest` becomes the largest of each run."""
        if not self._cleared:
            self._device.fills([self._totals, self.largest], 0)
        self._cleared = False
        self._launch_distances(centers, weights, distances)

    def _launch_distances(self, centers: Any, weights: Any, distances: Any) -> None:
        """The launch itself."""
        raise NotImplementedError

    def totals(self, terms: Any) -> F64:
        """The exact sum of non-negative terms of the rows, for each run; `largest` has the largest term of each run."""
        return self.totals_and(terms)[0]

    def totals_and(self, terms: Any, *others: Any) -> tuple[F64, list[NDArray]]:
        """The same, and host copies of further arrays, for which the host waits once."""
        n, bits = self._table.n_samples, Grid.limb_bits(self._table.n_samples)
        args = (terms, self.largest, np.int64(n), np.int32(bits), self._totals)
        self._table.launch("exact_total", {}, (min(512, -(-n // 256)), *self.shared), 256, args)
        found, largest, *copies = self._device.downloads(self._totals, self.largest, *others)
        return Grid.for_largest(largest, n).value(found.T), copies

    # ---- what the host has to do -------------------------------------------------------------------------------

    def need_grid(self) -> Grid:
        """The grid of the sums.  Raises a ValueError if the rows were loaded without."""
        if self._table.grid is None:
            raise ValueError("These rows were loaded without a grid: they can be labelled (move=False), not summed.")
        return self._table.grid

    def mark_equal_centers(self) -> None:
        """Exclude centers that equal one of a lower index from the screen of a single run, which may then go on."""
        (squares,), (centers,) = self._device.downloads(self.half_squares, self.centers)
        dead = np.ones(self.n_clusters, bool)
        dead[living(centers)] = False
        squares[: self.n_clusters][dead] = -np.inf
        self._device.write(self.half_squares, squares[None])
        self.set_control(Control.HAS_EQUAL, 0)
        self.set_control(Control.STOP, Reason.GO_ON)

    def decide_exactly(self, n_open: int) -> int:
        """Label the `n_open` open rows of a single run on the host, a few at a time.

        Returns how many of them needed exact arithmetic, because float64 distances left them open.
        """
        raise NotImplementedError

    def settle(self, start: int, labels: NDArray[np.int32]) -> None:
        """Write the labels of some open rows, from element `start` of `open_rows` on."""
        count = len(labels)
        open_rows = self.open_rows.reshape(-1)[start : start + count]
        args = (open_rows, self._device.upload(labels), np.int32(count), self.moves)
        self._table.launch("settle_rows", {}, -(-count // 256), 256, args)

    def all_settled(self) -> None:
        """Clear the number of open rows and the stop flag, so that the next launches take effect."""
        self.set_control(Control.N_OPEN, 0)
        self.set_control(Control.STOP, 0)


def living(centers: NDArray) -> I64:
    """Indices of the centers that equal no center of a lower index."""
    return np.flatnonzero(tie_break.first_of_equal_rows(centers) == np.arange(len(centers)))


class Workspaces:
    """The workspaces of one table: a run takes one and leaves it to the next run of the same kind.

    Parameters
    ----------
    new_workspace : callable
        A workspace, by (n_clusters, n_runs, exact).
    """

    def __init__(self, new_workspace: Callable[[int, int, bool], Workspace]) -> None:
        self._new_workspace = new_workspace
        self._idle: list[Workspace] = []

    def take(self, n_clusters: int, n_runs: int, exact: bool) -> Workspace:
        """An idle workspace of this kind, or a new one.  Idle ones of another kind are dropped."""
        wanted = (n_clusters, n_runs, exact)
        fitting = [work for work in self._idle if (work.n_clusters, work.n_runs, work.exact) == wanted]
        self._idle = fitting[1:]
        return fitting[0] if fitting else self._new_workspace(*wanted)

    def leave(self, work: Workspace) -> None:
        """Called when a run has ended: its workspace becomes idle."""
        self._idle.append(work)
