"""What a benchmark says while it runs: a line for each run, the time that is left, and the ratios in the end."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

from bench.results import paired_ratio


class TimeUp(Exception):
    """A run was stopped at the deadline."""


def duration(seconds: float) -> str:
    """In words, to two digits or so.

    Examples
    --------
    >>> [duration(seconds) for seconds in (0.4, 59.0, 100.0, 7260.0)]
    ['1 s', '59 s', '1 min 40 s', '2 h 1 min']
    """
    whole = max(1, math.ceil(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def run_line(system: str, turn: int, n_rounds: int, seconds: float, left: float) -> str:
    """The line of one run; turn 0 is the first one, whose time may be thrown away."""
    which = f"round {turn} of {n_rounds}" if turn else "first turn"
    ahead = f", about {duration(left)} left of this work" if left > 0.0 else ""
    return f"  {system:28s} {which:>14s}: {seconds:10.5f} s{ahead}"


@contextlib.contextmanager
def stopped_at(deadline: float) -> Iterator[None]:
    """Raise `TimeUp` in the body once `time.monotonic()` reaches the deadline: as soon as Python code runs again.

    A library's own loop ends first.  Without SIGALRM (Windows), or in another thread, nothing is stopped.
    """
    left = deadline - time.monotonic()
    alarm = getattr(signal, "SIGALRM", None)
    if alarm is None or not math.isfinite(left) or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(*_: object) -> None:
        raise TimeUp("no time left: stopped in its first run")

    before = signal.signal(alarm, ring)
    signal.setitimer(signal.ITIMER_REAL, max(left, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(alarm, before)


def ratios(benchmarks: list[dict[str, Any]], ours: str) -> list[str]:
    """A line for each work: how many times faster ours is than the quickest peer, within rounds.

    Parameters
    ----------
    benchmarks : list of dict
        With "group", "param", "stats" and "extra_info", as `bench.results.benchmark` makes them.
    ours : str
        The system of ours that is compared.
    """
    lines = []
    for work in dict.fromkeys(entry["group"] for entry in benchmarks):
        entries = {entry["param"]: entry for entry in benchmarks if entry["group"] == work}
        peers = [name for name, entry in entries.items() if not entry["extra_info"]["ours"]]
        if ours not in entries or not peers:
            lines.append(f"{work}: nothing to compare, {', '.join(entries) or 'no system'} ran")
            continue
        best = min(peers, key=lambda name: entries[name]["stats"]["median"])
        ratio = paired_ratio(entries[ours]["stats"]["data"], entries[best]["stats"]["data"])
        lines.append(
            f"{work}: {ours} is {ratio.median:.2f} times as fast as {best} ({ratio.low:.2f} to {ratio.high:.2f} in "
            f"{ratio.n_rounds} round{'s' * (ratio.n_rounds != 1)})"
        )
    return lines
