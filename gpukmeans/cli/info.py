"""`gpukmeans info`: versions, processors, and why which backend is used."""

from __future__ import annotations

import argparse
import json
import os
import platform
from typing import Any

import gpukmeans
from gpukmeans.study.streams import emit, require_stdout

_PACKAGES = {
    "numpy": ["numpy"],
    "scikit-learn": ["scikit-learn"],
    "scipy": ["scipy"],
    "cupy": ["cupy-cuda13x", "cupy-cuda12x", "cupy"],
    "matplotlib": ["matplotlib"],
    "keras": ["keras"],
}


def found() -> dict[str, Any]:
    """Versions, processors and backends, as plain Python values."""
    from threadpoolctl import threadpool_info

    from gpukmeans.backends.choice import explain

    backends = explain()  # loads what the backends use, so that their threads are seen
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "gpukmeans": gpukmeans.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(candidates) for name, candidates in _PACKAGES.items()},
        "cpu_threads": len(affinity(0)) if affinity else os.cpu_count(),
        "thread_pools": [
            {"library": pool["internal_api"], "version": pool["version"], "threads": pool["num_threads"]}
            for pool in threadpool_info()
        ],
        "backends": backends,
    }


def _version(candidates: list[str]) -> str | None:
    from importlib import metadata

    for name in candidates:
        try:
            return metadata.version(name) + (f" ({name})" if name != candidates[-1] else "")
        except metadata.PackageNotFoundError:
            continue
    return None


def as_text(found: dict[str, Any]) -> str:
    """What `found` returns, as text."""
    lines = [f"gpukmeans {found['gpukmeans']}, Python {found['python']}, {found['platform']}", ""]
    lines += [f"{name:<13} {version or 'not installed'}" for name, version in found["packages"].items()]
    lines += [f"{'CPU threads':<13} {found['cpu_threads']}"]
    lines += [
        f"{'' if position else 'thread pools':<13} {pool['library']} {pool['version'] or ''}, {pool['threads']} threads"
        for position, pool in enumerate(found["thread_pools"])
    ]
    lines += ["", "backends"]
    for name, backend in found["backends"].items():
        if name == "auto":
            lines.append(f"  auto   chooses {backend['chosen']}: {backend['reason']}")
        else:
            lines.append(f"  {name:<6} {'usable' if backend['usable'] else 'not usable'}: {backend['reason']}")
    return "\n".join(lines)


def add_command(commands: Any) -> None:
    """Add the command to the subparsers of `gpukmeans`."""
    info = commands.add_parser(
        "info",
        help="versions, processors, and why which backend is used",
        description="Show versions, processors, which backends can be used here, and which one `auto` chooses and why.",
    )
    info.add_argument("--json", action="store_true", help="print one JSON object")
    info.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print what was found; returns the exit status."""
    require_stdout()
    outcome = found()
    emit((json.dumps(outcome, indent=2) if arguments.json else as_text(outcome)) + "\n")
    return 0
