"""Peak extra memory of a fit, in a process of its own and not timed: ``python -m bench.memory SYSTEM WORKLOAD``.

Two measures: the growth of the resident set (everything, libraries' buffers included; Linux) and tracemalloc's peak
(what NumPy and Python allocate; blind to compiled libraries).  A small fit beforehand brings in what is loaded once.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import ROOT
from bench.workloads import WORKLOADS as ALL_WORKLOADS
from bench.workloads import Problem

WORKLOADS = ("mnist-k10", "mnist-uint8-k10")


def in_subprocess(system: str, workload: str, timeout: float = 600) -> dict[str, Any]:
    """Measure in a fresh interpreter; the reason under "error" where that fails."""
    command = [sys.executable, "-m", "bench.memory", system, workload]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=True)
        return json.loads(done.stdout.strip().splitlines()[-1])
    except subprocess.CalledProcessError as error:
        return {"error": (error.stderr.strip().splitlines() or ["no message"])[-1][:300]}
    except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
        return {"error": f"{type(error).__name__}: {error}"[:300]}


def measure(system_name: str, workload_name: str) -> dict[str, Any]:
    """Bytes on top of the rows, as the caller holds them, while fitting.

    Returns
    -------
    dict
        "resident_bytes" (None where the system cannot tell), "traced_bytes", "float32_copy_bytes", "labels_bytes", and
        "resident_share", "traced_share" of a float32 copy of the rows.
    """
    from bench.peers import systems_of

    (system,) = systems_of("cpu", [system_name])
    problem = ALL_WORKLOADS[workload_name].load()
    _warm_up(system, problem)
    run, outcome = system.prepare(problem)
    gc.collect()
    before = resident(reset=True)
    result = run()
    after = resident_peak()
    labels = outcome(result).labels
    del result
    tracemalloc.start()
    run()
    traced = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    copy = problem.X.size * 4
    grown = None if before is None or after is None else max(0, after - before)
    return {
        "resident_bytes": grown,
        "traced_bytes": traced,
        "float32_copy_bytes": copy,
        "labels_bytes": 0 if labels is None else int(labels.nbytes),
        "resident_share": None if grown is None else grown / copy,
        "traced_share": traced / copy,
    }


def _warm_up(system: Any, problem: Problem) -> None:
    """The same fit of every 20th row."""
    X = np.ascontiguousarray(problem.X[::20])
    small = replace(problem.workload, shape=X.shape, max_iter=5)
    system.run(Problem(small, X, problem.starts))


def _status(key: str) -> int | None:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def resident(*, reset: bool) -> int | None:
    """Of this process now; `reset` forgets the peak so far."""
    if reset:
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return None
    return _status("VmRSS")


def resident_peak() -> int | None:
    """The largest since then."""
    return _status("VmHWM")


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], sys.argv[2])))
