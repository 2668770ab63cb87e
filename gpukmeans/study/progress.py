"""What a running command prints on standard error: one line redrawn in place on a terminal, few lines in a log."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from gpukmeans.study.streams import discard

_REDRAW_SECONDS = 0.05
_BAR_WIDTH = 24
_LOG_EVERY = 10  # iterations between two lines where the line cannot be redrawn


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Note under its name how long a stage of the work takes."""
    started = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - started


class IterationInfo(Protocol):
    """The fields of an iteration that are shown here; see `gpukmeans.engine.records.Iteration`."""

    @property
    def init(self) -> int: ...
    @property
    def iteration(self) -> int: ...
    @property
    def n_moved(self) -> int: ...
    @property
    def seconds(self) -> float: ...


class Progress:
    """Progress of a fit.

    K-means does not know how many iterations it will take, so the bar shows how far the labels have settled instead:
    it is empty while all rows move and full when none does, and goes with the logarithm of their number between.

    Parameters
    ----------
    stream : text file or None
        Where to write; None writes nothing.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.n_samples = 1
        self.max_iter: int | None = None  # of a run
        self._in_place = stream is not None and stream.isatty()
        self._drawn_at = -math.inf
        self._dirty = False

    def stage(self, text: str) -> None:
        """Say what is being done now."""
        if self.stream is not None:
            self._write(text + " ..." if self._in_place else text)

    def iteration(self, info: IterationInfo) -> None:
        """Show one iteration; made to be the `progress` of a fit."""
        if self.stream is None:
            return
        restart = f"run {info.init + 1}, " if info.init else ""
        share = info.n_moved / self.n_samples
        text = f"{restart}iteration {info.iteration}: {info.n_moved:,} rows moved ({share:.1%}), {info.seconds:.3f} s"
        if info.seconds > 0.0:
            text += f", {self.n_samples / info.seconds:,.0f} rows/s"
        if self.max_iter is not None:  # more cannot be told: a fit ends where no row moves
            text += f", {_duration((self.max_iter - info.iteration) * info.seconds)} at most"
        if not self._in_place:
            if info.iteration % _LOG_EVERY == 0:
                self._write(text)
        elif (now := time.monotonic()) - self._drawn_at >= _REDRAW_SECONDS:
            self._drawn_at = now
            settled = 1 - math.log1p(info.n_moved) / math.log1p(self.n_samples)
            filled = round(_BAR_WIDTH * min(max(settled, 0.0), 1.0))
            self._write(f"[{'#' * filled}{'.' * (_BAR_WIDTH - filled)}] {text}")

    def clear(self) -> None:
        """Remove the line that is redrawn, so that other output starts on a clean one."""
        if self._dirty:
            self._write_raw("\r\x1b[K")
            self._dirty = False

    def _write(self, text: str) -> None:
        self._write_raw(f"\r\x1b[K{text}" if self._in_place else f"{text}\n")
        self._dirty = self._in_place

    def _write_raw(self, text: str) -> None:
        """Write text; a stream that fails is left alone from then on, for the work is not lost with it."""
        if self.stream is None:
            return
        try:
            self.stream.write(text)
            self.stream.flush()
        except OSError:
            discard(self.stream)
            self.stream = None


def _duration(seconds: float) -> str:
    """Rounded, as "40 s", "3 min" or "2.5 h"."""
    if seconds < 90.0:
        return f"{seconds:.0f} s"
    return f"{seconds / 60.0:.0f} min" if seconds < 5400.0 else f"{seconds / 3600.0:.1f} h"
