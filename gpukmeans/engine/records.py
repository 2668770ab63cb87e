"""Records of runs: an `Iteration` for each iteration, the result of a run, the report of a fit, and their observer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from gpukmeans.backends.protocol import Step
from gpukmeans.tables import html_table


@dataclass(frozen=True)
class Iteration:
    """The record of one iteration, passed to `progress` and kept in the fit report.

    Attributes
    ----------
    init : int
        The number of the restart, from 0.
    iteration : int
        The number of the iteration in its restart, from 1; of mini-batches, the number of the step.
    n_moved : int
        Rows whose label changed; of mini-batches, the rows of the batch.
    shift : float
        Sum over the clusters of |new center - old center|^2.
    n_skipped, n_certified, n_resolved, n_exact, n_uncertain : int
        Rows whose label was decided by drift bounds, by a screen, by float64 distances and by exact arithmetic, and
        (``precision="fast"``) rows that were given the best screened label without proof.
    n_relocated : int
        Empty clusters that were given a row.
    seconds : float
        Wall time; of runs that advance together, an even share.  NaN in a model that was read from a pickle.
    stages : dict of str to float
        The part of it in each stage: "update" and, on the CPU, "skip", "project", "screen groups", "screen components",
        "screen and anchor", "screen", "resolve", "move".  Which stages an iteration has shows how rows were screened.
        Empty in a model that was read from a pickle.
    inertia : float or None
        Of the rows with their new labels and the centers before they moved; None if it was not computed, which takes a
        `callback` or `verbose`.

    See Also
    --------
    FitReport : the records of a fit.
    gpukmeans.KMeans : takes a callable `progress`, which is called with these records.
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
    """An observer of a run: called after each iteration; may stop it.

    Attributes
    ----------
    call : callable
        ``call(iteration)`` gets the record of each iteration, in order.  If it returns a true value, the run stops.
    inertia : bool
        Whether the records must contain the inertia, which takes a pass over the rows in each iteration.
    at_a_time : int
        The most iterations that may run before their records are passed on, one after the other.  A run then stops
        only after the last of them.
    """

    call: Callable[[Iteration], object]
    inertia: bool = False
    at_a_time: int = 1


class Iterations(Sequence[Iteration]):
    """A lazy list of `Iteration` records, built on first access."""

    def __init__(self) -> None:
        self._runs: list[tuple[int, Sequence[Step | Iteration]]] = []
        self._records: list[Iteration] | None = None

    def add(self, init: int, steps: Sequence[Step] | Sequence[Iteration]) -> None:
        """Append the steps or records of a run, which is restart number `init`."""
        self._runs.append((init, steps))
        self._records = None

    def __len__(self) -> int:
        return sum(len(steps) for _, steps in self._runs)

    def __getstate__(self) -> dict[str, object]:
        """The state for pickles and copies: the records, without the steps that they were built from."""
        return {"_runs": [(0, list(self))], "_records": None}

    @overload
    def __getitem__(self, index: int) -> Iteration: ...
    @overload
    def __getitem__(self, index: slice) -> list[Iteration]: ...
    def __getitem__(self, index: int | slice) -> Iteration | list[Iteration]:
        if self._records is None:
            self._records = [
                step
                if isinstance(step, Iteration)
                else iteration_record(init, number, step, 0, step.shift, step.seconds, {})
                for init, steps in self._runs
                for number, step in enumerate(steps, 1)
            ]
        return self._records[index]


@dataclass
class LloydResult:
    """The result of one run.

    Attributes
    ----------
    labels : array of shape (n_samples,), int32
        The nearest of `centers` for each row; where the array lies is up to the backend.
    centers : ndarray of shape (n_clusters, n_features)
    inertia : float
        The sum of weighted squared distances of the rows to the centers of their labels.
    n_iter : int
        The number of iterations of this run.
    iterations : sequence of Iteration
        Their records; of the best of several runs, those of all runs.
    inertia_seconds : float
        Wall time of the final inertia.
    stopped : bool
        Whether the `Watch` stopped the run.
    n_used : int or None
        How many clusters have a row, if that is known already.
    """

    labels: Any
    centers: NDArray
    inertia: float
    n_iter: int
    iterations: Sequence[Iteration] = field(default_factory=list)
    inertia_seconds: float = 0.0
    stopped: bool = False
    n_used: int | None = None


def iteration_record(
    init: int,
    number: int,
    step: Step,
    n_relocated: int,
    shift: float,
    seconds: float,
    stages: dict[str, float],
    inertia: float | None = None,
) -> Iteration:
    """The record of a step of restart `init`, with the relocated clusters, the shift and the times of the engine."""
    a = step.assigned
    counts = (a.n_skipped, a.n_certified, a.n_resolved, a.n_exact, a.n_uncertain, n_relocated)
    return Iteration(init, number, a.n_moved, shift, *counts, seconds, stages, inertia)


#: The numbers of an `Iteration` that pickles keep, and their dtypes.
_KEPT = {
    each.name: np.float64 if each.name in ("shift", "inertia") else np.int64
    for each in fields(Iteration)
    if each.name not in ("seconds", "stages")
}


@dataclass(repr=False)
class FitReport:
    """The time that a fit took by stage, and what each iteration did.

    A pickled model keeps the counts and no time, so that equal fits have equal pickles: seconds read back are NaN, and
    "-" in ``print(model.fit_report_)``.

    Attributes
    ----------
    backend : str
        The machine and the library versions of the backend that computed.
    stages : dict of str to float
        Seconds of wall time in "load", "seed", "lloyd" and "inertia", over all restarts; of `MiniBatchKMeans` in
        "seed", "steps" and "labels".
    iterations : sequence of Iteration
        Every iteration of every restart, in order.  Of a `MiniBatchKMeans` that was read from a pickle: one record, the
        last of the steps, with the sums of their counts.
    bytes_read : int or None
        Of rows that stream: bytes of rows that were read, in all passes, those before the first iteration included.
        None for rows in memory, and in a model that was read from a pickle.

    See Also
    --------
    Iteration : the record of one iteration.
    gpukmeans.KMeans : keeps a report of its fit as `fit_report_`.

    Examples
    --------
    >>> import pickle
    >>> import gpukmeans
    >>> model = gpukmeans.fit([[0.0], [1.0], [9.0], [10.0]], 2, random_state=0, backend="numpy")
    >>> print(pickle.loads(pickle.dumps(model)).fit_report_)  # doctest: +ELLIPSIS
    NumPy ...
    seconds: load -, seed -, lloyd -, inertia -
    rows: 0 skipped, 8 certified, 0 resolved, 0 exact, 0 uncertain
    """

    backend: str = ""
    stages: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("load", "seed", "lloyd", "inertia"), 0.0))
    iterations: Sequence[Iteration] = field(default_factory=list)
    bytes_read: int | None = None

    def __str__(self) -> str:
        """The backend, the seconds of the stages, and how rows got their labels, over all iterations."""
        times = (
            f"{stage} {'-' if math.isnan(value) else format(value, '.3f')}" for stage, value in self.stages.items()
        )
        settled = ("skipped", "certified", "resolved", "exact", "uncertain")
        counts = (f"{sum(vars(record)[f'n_{how}'] for record in self.iterations):,} {how}" for how in settled)
        return f"{self.backend}\nseconds: {', '.join(times)}\nrows: {', '.join(counts)}"

    def __repr__(self) -> str:
        """As ``str``, after the number of iterations."""
        return f"FitReport of {len(self.iterations)} iterations\n{self}"

    def _repr_html_(self) -> str:
        """The same, for notebooks."""
        rows = [tuple(line.split(": ", 1)) for line in str(self).splitlines()[1:]]
        return html_table(rows, caption=f"{len(self.iterations)} iterations, {self.backend}")

    def kept(self, *, summed: bool) -> dict[str, Any]:
        """The counts as plain types and arrays; with `summed`, one record for all."""
        columns = {name: np.array([vars(i)[name] for i in self.iterations], dtype) for name, dtype in _KEPT.items()}
        if summed and self.iterations:
            counted = [name for name in columns if name.startswith("n_")]
            columns = {name: column[-1:] for name, column in columns.items()} | {
                name: columns[name].sum(keepdims=True) for name in counted
            }
        return {"backend": self.backend, "stages": list(self.stages), "iterations": columns}

    @classmethod
    def of_kept(cls, kept: dict[str, Any]) -> FitReport:
        """The report of what `kept` returned."""
        columns = {name: column.tolist() for name, column in kept["iterations"].items()}
        columns["inertia"] = [None if math.isnan(inertia) else inertia for inertia in columns["inertia"]]
        rows = zip(*columns.values(), strict=True)
        records = [Iteration(**dict(zip(columns, row, strict=True)), seconds=math.nan) for row in rows]
        return cls(kept["backend"], dict.fromkeys(kept["stages"], math.nan), records)
