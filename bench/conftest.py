"""pytest-benchmark's own JSON names the host; ours need not."""

from __future__ import annotations

from typing import Any

from bench import machine


def pytest_benchmark_update_machine_info(config: Any, machine_info: dict[str, Any]) -> None:
    machine_info.update(machine.machine_info())
