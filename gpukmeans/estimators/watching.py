"""Observers of a fit: the caller's callback, a progress bar."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gpukmeans.engine.records import Iteration, Watch

#: ``callback(iteration, inertia, shift, n_moved)``; True ends the fit.
Callback = Callable[[int, float, float, int], object]

#: Iterations that may be shown together in a progress bar: the device need not be stopped after each.
SHOWN_TOGETHER = 4


@contextmanager
def watching(
    callback: Callback | None,
    progress: bool | Callable[[Iteration], object],
    name: str,
    n_samples: int,
    n_steps: int | None = None,
) -> Iterator[Watch | None]:
    """The observer of a fit, None if neither a callback nor progress is requested; closes the progress bar at the end.

    Parameters
    ----------
    callback : callable or None
        As of `gpukmeans.KMeans`.
    progress : bool or callable
        As of `gpukmeans.KMeans`.
    name : str
        The label of the bar.
    n_samples : int
        Rows; the share of them that moves is the bar's measure of progress.
    n_steps : int, optional
        Mini-batches at most; if given, the bar counts these.

    Raises
    ------
    ImportError
        If a bar is requested and tqdm is not installed.
    """
    if callback is None and not progress:
        yield None
        return
    show: Callable[[Iteration], object] | None = None
    bar: Bar | StepBar | None = None
    if callable(progress):
        show = progress
    elif progress:
        show = bar = Bar(name, n_samples) if n_steps is None else StepBar(name, n_steps)

    def tell(record: Iteration) -> bool:
        if show is not None:
            show(record)
        if callback is None:
            return False
        assert record.inertia is not None
        return bool(callback(record.iteration, record.inertia, record.shift, record.n_moved))

    try:
        yield Watch(tell, callback is not None, SHOWN_TOGETHER if bar is not None and callback is None else 1)
    finally:
        if bar is not None:
            bar.close()


class Bar:
    """A tqdm bar over the iterations of a fit.

    The number of iterations is not known in advance, so the bar fills as fewer rows change their label: it is empty
    while all rows do, full when none does, and linear in the logarithm of their number between.  It never falls within
    a restart.

    Parameters
    ----------
    name : str
    n_samples : int
    **options
        For tqdm, such as `file`.
    """

    def __init__(self, name: str, n_samples: int, **options: Any) -> None:
        layout = "{desc}: {percentage:3.0f}% settled |{bar}| {elapsed}{postfix}"
        self._bar = require_tqdm()(total=1.0, desc=name, bar_format=layout, **options)
        self._n_samples = n_samples
        self._run = 0

    def __call__(self, record: Iteration) -> None:
        """Show an iteration."""
        settled = 1.0 - math.log1p(record.n_moved) / math.log1p(self._n_samples)
        if record.init != self._run:
            self._run, self._bar.n = record.init, 0.0
        self._bar.n = max(self._bar.n, min(max(settled, 0.0), 1.0))
        run = f"run {record.init + 1}, " if record.init else ""
        text = f"{run}iteration {record.iteration}, {record.n_moved:,} rows moved, shift {record.shift:.3g}"
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(0.0)

    def close(self) -> None:
        """Draw the last state and keep the bar on the screen."""
        self._bar.refresh()
        self._bar.close()


class StepBar:
    """A tqdm bar over the mini-batches of a fit, out of the largest possible number; most fits end earlier.

    Parameters
    ----------
    name : str
    n_steps : int
    **options
        For tqdm, such as `file`.
    """

    def __init__(self, name: str, n_steps: int, **options: Any) -> None:
        self._bar = require_tqdm()(total=n_steps, desc=name, unit="batch", **options)

    def __call__(self, record: Iteration) -> None:
        """Show a step."""
        inertia = "" if record.inertia is None else f"inertia of the batch {record.inertia:.4g}"
        self._bar.set_postfix_str(inertia, refresh=False)
        self._bar.update()

    def close(self) -> None:
        """Keep the bar on the screen."""
        self._bar.close()


def require_tqdm() -> Any:
    """The class of tqdm's bars, or an ImportError that says how to install it."""
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError(
            "progress=True needs tqdm: pip install 'gpukmeans[progress]', or pass a callable as progress"
        ) from error
    return tqdm
