"""Who looks on while a fit goes: the caller's callback, a progress bar."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gpukmeans.engine.records import Iteration, Watch

#: ``callback(iteration, inertia, shift, n_moved)``; True ends the fit.
Callback = Callable[[int, float, float, int], object]

#: Iterations that a progress bar may learn of together: it need not stop the device after each.
SHOWN_TOGETHER = 4


@contextmanager
def watching(
    callback: Callback | None,
    progress: bool | Callable[[Iteration], object],
    name: str,
    n_samples: int,
    n_steps: int | None = None,
) -> Iterator[Watch | None]:
    """The watch of a fit, None where nobody looks on; a progress bar is closed at the end.

    Parameters
    ----------
    callback : callable or None
        As of `gpukmeans.KMeans`.
    progress : bool or callable
        As of `gpukmeans.KMeans`.
    name : str
        What the bar is labelled with.
    n_samples : int
        Rows, to judge by how far the labels have settled.
    n_steps : int, optional
        Of mini-batches at most: a bar then shows how many have been taken.

    Raises
    ------
    ImportError
        If a bar is wanted and tqdm is not there.
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

    How many there will be nobody knows, so the bar fills as the labels settle: it is empty while all rows move, full
    when none does, and goes with the logarithm of their number between.  It never goes back within a restart.

    Parameters
    ----------
    name : str
    n_samples : int
    **options
        For tqdm, such as `file`.
    """

    def __init__(self, name: str, n_samples: int, **options: Any) -> None:
        layout = "{desc}: {percentage:3.0f}% settled |{bar}| {elapsed}{postfix}"
        self._bar = _tqdm()(total=1.0, desc=name, bar_format=layout, **options)
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
        """Draw the last state and leave the bar there."""
        self._bar.refresh()
        self._bar.close()


class StepBar:
    """A tqdm bar over the mini-batches of a fit, of which there are seldom as many as there may be.

    Parameters
    ----------
    name : str
    n_steps : int
    **options
        For tqdm, such as `file`.
    """

    def __init__(self, name: str, n_steps: int, **options: Any) -> None:
        self._bar = _tqdm()(total=n_steps, desc=name, unit="batch", **options)

    def __call__(self, record: Iteration) -> None:
        """Show a step."""
        inertia = "" if record.inertia is None else f"inertia of the batch {record.inertia:.4g}"
        self._bar.set_postfix_str(inertia, refresh=False)
        self._bar.update()

    def close(self) -> None:
        """Leave the bar there."""
        self._bar.close()


def _tqdm() -> Any:
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError(
            "progress=True needs tqdm: pip install 'gpukmeans[progress]', or pass a callable as progress"
        ) from error
    return tqdm
