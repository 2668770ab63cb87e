"""Lloyd's algorithm, once, over any backend.

S. P. Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory 28 (1982).  Stopping rules and
the relocation of empty clusters are scikit-learn's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast, overload

import numpy as np
from numpy.typing import NDArray

from gpukmeans.backends import Rows, Run, Step
from gpukmeans.exact_sums import F64, I64, Grid, center_shift_square, cluster_means, exact_total, weight_grid


@dataclass(frozen=True)
class Iteration:
    """What one iteration did; shown to who watches, and kept in the fit report.

    Attributes
    ----------
    init : int
        Which restart, from 0.
    iteration : int
        From 1.
    n_moved : int
        Rows whose label changed.
    shift : float
        Sum over the clusters of |new center - old center|^2.
    n_skipped, n_certified, n_resolved, n_exact, n_uncertain : int
        Rows settled by drift bounds, by a screen, by float64 distances, by exact arithmetic, and
        (``precision="fast"``) left to the screen's word.
    n_relocated : int
        Empty clusters that were given a row.
    seconds : float
        Wall time; where runs advance together, its even share.
    stages : dict of str to float
        The part of it in each stage: "update" and, on the CPU, "skip", "project", "screen groups", "screen components",
        "screen and anchor", "screen", "resolve", "move".  Which stages an iteration has shows how rows were screened.
    inertia : float or None
        Of the rows with their new labels and the centers before they moved; None where nobody asked for it.
    """

    init: int
    iteration: int
    n_moved: int
    shift: float
    n_skipped: int
    n_certified: int
    n_resolved: int
    n_exact: int
    n_uncertain: int
    n_relocated: int
    seconds: float
    stages: dict[str, float] = field(default_factory=dict)
    inertia: float | None = None


class Watch(NamedTuple):
    """Somebody who looks on while a run goes."""

    tell: Callable[[Iteration], object]  # is told of every iteration; what it returns, if true, ends the run
    inertia: bool = False  # wants that of every iteration, too: a pass over the rows each
    at_a_time: int = 1  # iterations that may be told together


#: ``project(centers, before)``: centers moved to where centers may be, given those that the labels belong to.
Projection = Callable[[NDArray, NDArray], NDArray]


class Iterations(Sequence[Iteration]):
    """The iterations of some runs, in order; told when somebody asks for them."""

    def __init__(self) -> None:
        self._runs: list[tuple[int, Sequence[Step | Iteration]]] = []
        self._told: list[Iteration] | None = None

    def add(self, init: int, steps: Sequence[Step] | Sequence[Iteration]) -> None:
        """Those of one more run, the restart of this number."""
        self._runs.append((init, steps))
        self._told = None

    def __len__(self) -> int:
        return sum(len(steps) for _, steps in self._runs)

    def __getstate__(self) -> dict[str, object]:
        """For pickles and copies: all told."""
        return {"_runs": [(0, list(self))], "_told": None}

    @overload
    def __getitem__(self, index: int) -> Iteration: ...
    @overload
    def __getitem__(self, index: slice) -> list[Iteration]: ...
    def __getitem__(self, index: int | slice) -> Iteration | list[Iteration]:
        if self._told is None:
            self._told = [
                step if isinstance(step, Iteration) else _iteration(init, number, step, 0, step.shift, step.seconds, {})
                for init, steps in self._runs
                for number, step in enumerate(steps, 1)
            ]
        return self._told[index]


@dataclass
class LloydResult:
    """The outcome of one run: labels, centers and inertia of one and the same assignment.

    `stopped`: whether the watch ended it.
    """

    labels: Any  # (n_samples,), int32, as of `Run.labels_there`
    centers: NDArray
    inertia: float
    n_iter: int
    iterations: Sequence[Iteration] = field(default_factory=list)
    inertia_seconds: float = 0.0
    stopped: bool = False
    n_used: int | None = None  # how many clusters have a row, where that is known already


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
                n_relocated, shifts = _fill_empty_clusters(rows, run, sample_weight)
                shift = exact_total(shifts)
            if project is not None:
                shift = _project(run, project)
            filling = time.perf_counter() - started
            if "update" in stages:
                stages["update"] += filling
            number, moved = len(iterations) + 1, step.assigned.n_moved
            spent = step.seconds + filling
            record = _iteration(init, number, step, n_relocated, shift, spent, stages, run_inertia)
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
        run.labels_there(), run.centers(), inertia, len(iterations), iterations, inertia_seconds, stopped
    )


def _iteration(
    init: int,
    number: int,
    step: Step,
    n_relocated: int,
    shift: float,
    seconds: float,
    stages: dict[str, float],
    inertia: float | None = None,
) -> Iteration:
    a = step.assigned
    counts = (a.n_skipped, a.n_certified, a.n_resolved, a.n_exact, a.n_uncertain, n_relocated)
    return Iteration(init, number, a.n_moved, shift, *counts, seconds, stages, inertia)


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


def _fill_empty_clusters(rows: Rows, run: Run, sample_weight: F64 | None) -> tuple[int, F64]:
    """Give each empty cluster the row farthest from its own center, as scikit-learn does.

    The row's share is taken out of the center of the cluster that it leaves; labels and kept sums stay as they are (the
    next assignment moves rows).  Where every row lies on its center there is nothing to give: such clusters, and those
    that get a row of weight zero, are put on the center of the heaviest cluster.

    Returns the number of relocated clusters and the shifts of all centers.
    """
    grid = rows.grid
    assert grid is not None
    empty = np.flatnonzero(run.weights() == 0)
    sums, weight_sums = run.sums()
    weights_on = weight_grid(rows.n_samples, sample_weight)
    labels = run.labels()
    before = run.assigned_centers()
    far = run.farthest(len(empty))
    values = rows.take(far)
    n_relocated = 0
    if (values != before[labels[far]]).any():
        for cluster, i, x in zip(empty, far, values, strict=True):
            weight = np.ones(1) if sample_weight is None else sample_weight[i : i + 1]
            share = _limbs(grid, x.astype(np.float64) * weight)
            weight_share = _limbs(weights_on, weight)[:, 0]
            sums[:, labels[i]] -= share
            sums[:, cluster] = share
            weight_sums[:, labels[i]] -= weight_share
            weight_sums[:, cluster] = weight_share
            n_relocated += 1
    weights = weights_on.value(weight_sums[:, :, None])[:, 0]
    centers = cluster_means(sums, weights, grid, before.dtype)
    centers[weights == 0] = centers[weights.argmax()]
    run.set_centers(centers)
    return n_relocated, center_shift_square(centers, before)


def _limbs(grid: Grid, values: F64) -> I64:
    return np.stack([limb.astype(np.int64) for limb in grid.limbs(values)])


class Tolerance:
    """``tol * mean_variance(rows)``, known within bounds until a shift is too close to them to tell.

    Stands on the right of ``shift <= tolerance``.  The inertia that it needs is dear over sparse rows, bounds are not.
    """

    def __init__(self, tol: float, lowest: float, highest: float, compute: Callable[[], float]) -> None:
        self._lowest, self._highest = tol * lowest * (1.0 - 2.0**-50), tol * highest * (1.0 + 2.0**-50)
        self._compute = lambda: tol * compute()
        self._value: float | None = None

    def __float__(self) -> float:
        if self._value is None:
            self._value = self._compute()
        return self._value

    def __str__(self) -> str:
        return str(float(self))

    def __ge__(self, shift: float) -> bool:
        if self._value is None and not self._lowest <= shift <= self._highest:
            return shift < self._lowest
        return shift <= float(self)


def scaled_tolerance(rows: Rows, tol: float) -> float | Tolerance:
    """`tol` times the mean variance of the features, as `lloyd` wants it."""
    if tol == 0.0:
        return 0.0
    run = _one_cluster(rows)
    bounds = getattr(run, "inertia_bounds", None)
    size = rows.n_samples * rows.n_features
    if bounds is None:
        return tol * (run.inertia() / size)
    lowest, highest = bounds()
    slack = 2.0**-50  # of the quotients
    return Tolerance(tol, lowest / size * (1.0 - slack), highest / size * (1.0 + slack), lambda: run.inertia() / size)


def mean_variance(rows: Rows) -> float:
    """Mean over the features of the population variance: the inertia of one cluster, by n_samples * n_features.

    Weights do not enter, as in scikit-learn, whose `tol` is relative to this number.
    """
    return _one_cluster(rows).inertia() / (rows.n_samples * rows.n_features)


def _one_cluster(rows: Rows) -> Run:
    run = rows.start(np.zeros((1, rows.n_features)))
    run.assign()
    run.update()
    return run
