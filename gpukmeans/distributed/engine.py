"""What a fit asks of the engine that keeps its parts: a few verbs, which executors, Dask and Ray answer alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol


class WorkersLost(RuntimeError):
    """The workers that hold the rows are gone, or cannot do their work; the message says what to do."""


class Engine(Protocol):
    """Parts on workers, and functions of them: ``work(part, *shared)``, or ``work(part, own, *shared)`` with `each`.

    A function's result depends on its arguments alone, so that an engine may call it again.

    Attributes
    ----------
    n_parts : int
    """

    n_parts: int

    def share(self, value: Any) -> Any:
        """A handle of a value that several calls get: it travels to a worker once."""

    def map(
        self,
        work: Callable[..., Any],
        *shared: Any,
        each: Sequence[Any] | None = None,
        only: Sequence[int] | None = None,
    ) -> list[Any]:
        """The results for all parts, or for those whose numbers are `only`, in order; `each` has one value for each."""

    def total(self, work: Callable[..., Any], *shared: Any) -> Any:
        """The sum of the results for all parts, added up as a tree where the parts are."""

    def derived(self, work: Callable[..., Any], *shared: Any, each: Sequence[Any]) -> Engine:
        """An engine of the same kind whose parts are the results, which stay where they are made."""

    def rows(self, work: Callable[..., Any], *shared: Any, sizes: Sequence[int], width: int | None, dtype: Any) -> Any:
        """The results, an array for each part, as one array for the caller.

        `sizes` are their lengths; `width` is that of each row, or None for one number a row.
        """


def in_groups(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """Neighbours, `size` at a time."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def added(values: Sequence[Any]) -> Any:
    """The sum of some results of `Engine.total`, in any grouping the same."""
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total
