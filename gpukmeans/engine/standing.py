"""Where the restarts of a fit stand between two iterations, as a checkpoint holds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.engine.records import FitReport, Iteration, LloydResult
from gpukmeans.scale.archives import is_state, plain_state, state_of


@dataclass(frozen=True)
class Begun:
    """A run that goes on.

    Attributes
    ----------
    centers : ndarray of shape (n_clusters, n_features)
    assigned : ndarray of the same shape, or None
        The centers that the labels belong to; None: no iteration has been taken.
    iterations : sequence of Iteration
    """

    centers: NDArray
    assigned: NDArray | None
    iterations: Sequence[Iteration]


@dataclass(frozen=True)
class Standing:
    """Where the restarts of a fit stand.

    Attributes
    ----------
    restart : int
        The number of the restart that runs, or comes next.
    run : Begun or None
        None: it has not been seeded.
    best : LloydResult or None
        The best run that has ended; without labels, which are the nearest of its centers.
    random_state : RandomState
        From which the starts of later runs are drawn.
    iterations : sequence of Iteration
        The records of the runs before.
    """

    restart: int
    run: Begun | None
    best: LloydResult | None
    random_state: np.random.RandomState
    iterations: Sequence[Iteration]

    @classmethod
    def of(cls, values: dict[str, Any], shape: tuple[int, int], dtype: np.dtype) -> Standing:
        """From what `plain_standing` returned; `shape` and `dtype` are those of the centers.

        Raises
        ------
        KeyError, TypeError, ValueError
            It is something else.
        """
        run, best = values["run"], values["best"]
        records = records_of(values["iterations"])
        here = len(records) - run["n_iter"] if run else len(records)
        begun = won = None
        if run:
            for name in ("centers", "assigned"):
                check_kept(run.get(name, run["centers"]), shape, dtype, name)
            begun = Begun(run["centers"], run.get("assigned"), records[here:])
        if best:
            check_kept(best["centers"], shape, dtype, "best")
            won = LloydResult(None, best["centers"], float(best["inertia"]), int(best["n_iter"]))
        if here < 0 or (begun and (begun.assigned is None) != (not begun.iterations)) or values["restart"] < 0:
            raise ValueError("iterations")
        return cls(int(values["restart"]), begun, won, kept_state(values["random_state"]), records[:here])


def plain_standing(standing: Standing) -> dict[str, Any]:
    """As JSON and arrays."""
    run, best = standing.run, standing.best
    records = [*standing.iterations, *(run.iterations if run else ())]
    plain: dict[str, Any] = {
        "restart": standing.restart,
        "run": {},
        "best": {},
        "random_state": plain_state(standing.random_state),
        "iterations": plain_records(records),
    }
    if run is not None:
        plain["run"] = {"n_iter": len(run.iterations), "centers": run.centers}
        if run.assigned is not None:
            plain["run"]["assigned"] = run.assigned
    if best is not None:
        plain["best"] = {"centers": best.centers, "inertia": best.inertia, "n_iter": best.n_iter}
    return plain


def plain_records(records: Sequence[Iteration]) -> dict[str, NDArray]:
    """Records as arrays, one of each number; the times of stages are left out."""
    columns = FitReport(iterations=records).kept(summed=False)["iterations"]
    return {**columns, "seconds": np.array([record.seconds for record in records], np.float64)}


def records_of(columns: dict[str, NDArray]) -> list[Iteration]:
    """From what `plain_records` returned."""
    columns = dict(columns)
    seconds = columns.pop("seconds").tolist()
    records = FitReport.of_kept({"backend": "", "stages": [], "iterations": columns}).iterations
    return [replace(record, seconds=spent) for record, spent in zip(records, seconds, strict=True)]


def check_kept(centers: Any, shape: tuple[int, ...], dtype: np.dtype, name: str) -> NDArray:
    """Centers of a file, if the fit can have them."""
    if not isinstance(centers, np.ndarray) or centers.shape != shape or centers.dtype != dtype:
        raise ValueError(name)
    if not np.isfinite(centers).all():
        raise ValueError(name)
    return centers


def kept_state(value: Any) -> np.random.RandomState:
    """The random draws of a file."""
    if not is_state(value):
        raise ValueError("random_state")
    return state_of(value)
