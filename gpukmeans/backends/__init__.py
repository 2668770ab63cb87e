"""Where the arithmetic runs: what a backend is (protocol.py), and how one is chosen (choice.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpukmeans.backends.choice import BackendUnavailable, explain, get_backend
from gpukmeans.backends.defaults import BackendDefaults, RowsDefaults, RunDefaults, SeedingDefaults
from gpukmeans.backends.protocol import (
    Assigned,
    Backend,
    BatchSums,
    DeviceRows,
    Drawn,
    Ended,
    Feed,
    Rows,
    Run,
    Runs,
    Seeding,
    Step,
    Updated,
)

if TYPE_CHECKING:
    from gpukmeans.backends.cpu.backend import NumpyBackend
    from gpukmeans.backends.cuda.backend import CupyBackend

__all__ = [
    "Assigned",
    "Backend",
    "BackendDefaults",
    "BackendUnavailable",
    "BatchSums",
    "CupyBackend",
    "DeviceRows",
    "Drawn",
    "Ended",
    "Feed",
    "NumpyBackend",
    "Rows",
    "RowsDefaults",
    "Run",
    "RunDefaults",
    "Runs",
    "Seeding",
    "SeedingDefaults",
    "Step",
    "Updated",
    "explain",
    "get_backend",
]


def __getattr__(name: str) -> Any:
    """The two backends, loaded on first use."""
    if name == "NumpyBackend":
        from gpukmeans.backends.cpu.backend import NumpyBackend

        return NumpyBackend
    if name == "CupyBackend":
        from gpukmeans.backends.cuda.backend import CupyBackend

        return CupyBackend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
