"""What a system under test is: three steps, of which the middle one is timed."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from numpy.typing import NDArray

from bench.workloads import Problem


class Unsupported(Exception):
    """This system cannot do this work; the message says why."""


@dataclass
class Outcome:
    """What a run ended with.

    Attributes
    ----------
    labels : ndarray of shape (n_samples,) or None
        As the fit returned them; by the system's own prediction where its fit returns none (`notes` says so).
    centers : ndarray of shape (n_clusters, n_features) or None
    n_iter : int or None
        None where the system does not say.
    inertia : float or None
        As the system reports it.
    notes : dict
        Whatever else is worth keeping with the times.
    """

    labels: NDArray | None = None
    centers: NDArray | None = None
    n_iter: int | None = None
    inertia: float | None = None
    notes: dict[str, Any] = field(default_factory=dict)


Timed = tuple[Callable[[], Any], Callable[[Any], Outcome]]


@dataclass(frozen=True)
class System:
    """A k-means implementation with its settings.

    Attributes
    ----------
    name : str
    device : {"cpu", "gpu"}
    ours : bool
    distribution : str
        The package whose version is recorded.
    check : callable
        Imports what is needed; raises if it cannot run here.
    prepare : callable
        ``prepare(problem) -> (run, outcome)``, of which ``run()`` alone is timed: not `prepare` (copies into the
        system's favourite dtype and, for rows that lie on the device, the transfer), nor ``outcome(run())`` (labels
        and centers back on the host).  Raises `Unsupported` where the system cannot do the same work.
    """

    name: str
    device: Literal["cpu", "gpu"]
    ours: bool
    distribution: str
    check: Callable[[], object]
    prepare: Callable[[Problem], Timed]

    def unavailable(self) -> str | None:
        """Why it cannot run here, or None."""
        try:
            self.check()
        except Exception as error:  # anything can be wrong with a half-installed GPU stack
            return f"{type(error).__name__}: {str(error).strip() or 'no message'}"[:500]
        return None

    def version(self) -> str:
        """Of the installed package, or "not installed"."""
        try:
            return importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            pass
        try:
            return str(getattr(importlib.import_module(self.distribution), "__version__", "not installed"))
        except Exception:
            return "not installed"

    def run(self, problem: Problem) -> Outcome:
        """Prepare, run and collect, untimed."""
        timed, outcome = self.prepare(problem)
        return outcome(timed())


def importing(*modules: str) -> Callable[[], object]:
    """A check that imports modules."""
    return lambda: [importlib.import_module(module) for module in modules]
