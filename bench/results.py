"""Result files: pytest-benchmark's JSON with every single run in it, and the arithmetic on them."""

from __future__ import annotations

import datetime
import json
import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = "5.1.0"  # the pytest-benchmark whose layout this is


def stats(seconds: Sequence[float]) -> dict[str, Any]:
    """pytest-benchmark's statistics of the runs, which `data` keeps in the order of the rounds."""
    data = [float(s) for s in seconds]
    q1, median, q3 = (float(q) for q in np.quantile(data, [0.25, 0.5, 0.75]))
    mean, spread = statistics.fmean(data), statistics.stdev(data) if len(data) > 1 else 0.0
    low, high = q1 - 1.5 * (q3 - q1), q3 + 1.5 * (q3 - q1)
    far = sum(not low <= s <= high for s in data)
    odd = sum(abs(s - mean) > spread for s in data)
    return {
        "min": min(data),
        "max": max(data),
        "mean": mean,
        "stddev": spread,
        "rounds": len(data),
        "median": median,
        "iqr": q3 - q1,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": far,
        "stddev_outliers": odd,
        "outliers": f"{odd};{far}",
        "ld15iqr": min((s for s in data if s >= low), default=min(data)),
        "hd15iqr": max((s for s in data if s <= high), default=max(data)),
        "ops": 1 / mean if mean else math.inf,
        "total": sum(data),
        "data": data,
        "iterations": 1,
    }


def benchmark(workload: str, system: str, seconds: Sequence[float], extra: dict[str, Any]) -> dict[str, Any]:
    """One entry: a system on a workload."""
    return {
        "group": workload,
        "name": f"{workload}[{system}]",
        "fullname": f"bench/run.py::{workload}[{system}]",
        "params": {"workload": workload, "system": system},
        "param": system,
        "extra_info": {"workload": workload, "system": system, **extra},
        "options": {"disable_gc": False, "timer": "perf_counter", "min_rounds": 1, "warmup": True},
        "stats": stats(seconds),
    }


def now() -> str:
    """The time in UTC, as ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write at once or not at all, so that a run that is stopped leaves what it had."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(document, indent=1, default=_plain) + "\n")
    os.replace(part, path)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return str(value)


@dataclass(frozen=True)
class Ratio:
    """How many times longer the other one takes: per round, since the machine drifts between rounds."""

    median: float
    low: float
    high: float
    n_rounds: int


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Theirs / ours, round by round.

    Raises
    ------
    ValueError
        If there is no round that both ran.

    Examples
    --------
    >>> paired_ratio([1.0, 2.0, 1.0], [3.0, 4.0, 5.0])
    Ratio(median=3.0, low=2.0, high=5.0, n_rounds=3)
    """
    ratios = [b / a for a, b in zip(ours, theirs, strict=False)]
    if not ratios:
        raise ValueError("No round was run by both systems.")
    return Ratio(statistics.median(ratios), min(ratios), max(ratios), len(ratios))


@dataclass(frozen=True)
class Measured:
    """One workload of one result file."""

    workload: str
    entries: dict[str, dict[str, Any]]  # by system
    skipped: dict[str, str]  # system -> reason
    source: dict[str, Any]  # the document without its benchmarks
    file: str

    def seconds(self, system: str) -> list[float]:
        """Every run of a system, by round."""
        return self.entries[system]["stats"]["data"]

    def median(self, system: str) -> float:
        """Of its runs, in seconds."""
        return self.entries[system]["stats"]["median"]

    def best_peer(self) -> str | None:
        """The peer with the lowest median."""
        peers = [s for s, entry in self.entries.items() if not entry["extra_info"]["ours"]]
        return min(peers, key=self.median, default=None)


def newest(folder: Path, suite: str) -> dict[str, Measured]:
    """Per workload of a suite, the newest measurement among the JSON files of a folder."""
    documents = []
    for path in sorted(folder.glob("*.json")):
        document = json.loads(path.read_text())
        if isinstance(document, dict) and document.get("suite") == suite:
            documents.append((document["datetime"], path.name, document))
    found: dict[str, Measured] = {}
    for _, name, document in sorted(documents, key=lambda entry: entry[:2]):
        source = {key: value for key, value in document.items() if key not in ("benchmarks", "skipped")}
        for workload in dict.fromkeys(entry["group"] for entry in document["benchmarks"]):
            entries = {e["param"]: e for e in document["benchmarks"] if e["group"] == workload}
            skipped = {s["system"]: s["reason"] for s in document.get("skipped", ()) if s["workload"] == workload}
            found[workload] = Measured(workload, entries, skipped, source, name)
    return found
