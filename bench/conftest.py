"""What `pytest bench` says: a line for each round, the time left, ratios in the end; and no host's name in its JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import pytest

from bench import machine
from bench.progress import duration, ratios, run_line
from bench.table import OURS


def pytest_benchmark_update_machine_info(config: Any, machine_info: dict[str, Any]) -> None:
    machine_info.update(machine.machine_info())


class _Clock:
    """Of the session: how many tests it has, how many are over, and since when it runs."""

    n_tests, n_over, started = 0, 0, 0.0


def pytest_collection_finish(session: pytest.Session) -> None:
    _Clock.n_tests, _Clock.started = len(session.items), monotonic()


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Iterator[Callable[[str, int, int, float], None]]:
    """Writes the line of a round: system, its number, of how many, seconds."""
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")

    def write(system: str, turn: int, n_rounds: int, seconds: float) -> None:
        line = run_line(system, turn, n_rounds, seconds, 0.0)
        if _Clock.n_over:
            each = (monotonic() - _Clock.started) / _Clock.n_over
            line += f", about {duration(each * (_Clock.n_tests - _Clock.n_over))} left of all"
        if reporter is not None:
            with request.config.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
                reporter.write_line(line)

    yield write
    _Clock.n_over += 1


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    session = getattr(config, "_benchmarksession", None)
    found = [
        {
            "group": each.group,
            "param": each.extra_info["system"],
            "stats": {"data": each.stats.data, "median": each.stats.median},
            "extra_info": each.extra_info,
        }
        for each in (session.benchmarks if session else [])
        if each.extra_info.get("system") and not each.has_error
    ]
    ours = next((name for name in (OURS["gpu"], OURS["cpu"]) if any(entry["param"] == name for entry in found)), None)
    for line in ratios(found, ours) if ours else []:
        terminalreporter.write_line(line)
