"""The same fit twice: which systems end in the same bits, and whose labels are the nearest of their own centers.

``python -m bench.twice --out FILE [--systems NAMES] [--seconds S]``; other systems than the named stay as in the file.

Every installed system fits the same rows from the same start twice in one process with one thread, twice more in
another process, and twice with two threads.  Compared are the bits of labels, centers, inertia and iterations.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.data import blobs, mnist
from bench.fitting_peers import FITTING_PEERS
from bench.machine import ROOT, run_info
from bench.names import chosen
from bench.ours import OURS
from bench.peers import PEERS
from bench.quality import judge
from bench.results import write_json
from bench.systems import Outcome, System
from bench.workloads import Problem, Workload

#: Of children that run one after another: the threads of each.
CHILDREN = (1, 1, 2)
PARTS = ("labels", "centers", "inertia", "n_iter")
WORKS = {
    work.name: work
    for work in (
        Workload("mnist", "MNIST 70k x 784, k=10", "fit", 10, (70_000, 784), mnist),
        Workload(
            "far",
            "make_blobs 20,000 x 16 + 100,000, float32, k=16",
            "fit",
            16,
            (20_000, 16),
            lambda: blobs(20_000, 16, 16) + np.float32(1e5),
        ),
    )
}
SYSTEMS = {s.name: s for s in [*OURS, *PEERS, *FITTING_PEERS] if s.device == "cpu"}  # a name once


def digests(outcome: Outcome) -> dict[str, str]:
    """What stands for the bits of each part of a result; "-" where the system does not tell it."""

    def of(value: Any, dtype: Any = None) -> str:
        if value is None:
            return "-"
        array = np.ascontiguousarray(value, dtype=dtype)
        return hashlib.sha256(f"{array.dtype} {array.shape}".encode() + array.tobytes()).hexdigest()[:16]

    return {
        "labels": of(outcome.labels, np.int64),
        "centers": of(outcome.centers),
        "inertia": "-" if outcome.inertia is None else float(outcome.inertia).hex(),
        "n_iter": str(outcome.n_iter),
    }


def fit_twice(system: System, problem: Problem) -> dict[str, Any]:
    """Two fits in this process: their digests, seconds, and the rows whose label is not the nearest center's."""
    fits, wrong = [], None
    for _ in range(2):
        run, outcome = system.prepare(problem)
        started = time.perf_counter()
        ended = run()
        seconds = time.perf_counter() - started
        found = outcome(ended)
        if not fits:
            verdict = judge(problem.X, found)
            wrong = None if verdict is None else verdict.wrong_labels
        fits.append({"seconds": seconds, **digests(found)})
    return {"fits": fits, "wrong_labels": wrong}


def differing(fits: list[dict[str, Any]]) -> list[str]:
    """The parts that are not the same in all the fits."""
    return [part for part in PARTS if len({fit[part] for fit in fits}) > 1]


def comparisons(children: list[dict[str, Any]]) -> dict[str, list[str]]:
    """What differs within a process, between two, and between numbers of threads."""
    first = [child["fits"][0] for child in children]
    alone = [first[i] for i, threads in enumerate(CHILDREN) if threads == 1]
    return {
        "one process": sorted({part for child in children for part in differing(child["fits"])}, key=PARTS.index),
        "two processes": differing(alone),
        "1 and 2 threads": differing(first),
    }


def measure(system: str, work: str, seconds: float) -> dict[str, Any]:
    """Run the children of a system on a work; "error" holds why there is nothing to compare."""
    children: list[dict[str, Any]] = []
    for threads in CHILDREN:
        environment = os.environ | {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "OPENBLAS", "MKL")}
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "child.json"
            command = [sys.executable, "-m", "bench.twice", "--child", system, "--work", work, "--out", str(out)]
            try:
                done = subprocess.run(
                    command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds, check=False
                )
            except subprocess.TimeoutExpired:
                return {"error": f"no result within {seconds:.0f} s"}
            if done.returncode != 0:
                lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
                return {"error": lines[-1][:300]}
            children.append({"threads": threads, **json.loads(out.read_text())})
    return {"children": children, "differs": comparisons(children)}


def main(arguments: list[str] | None = None) -> int:
    """Run all systems, or one as a child."""
    parser = argparse.ArgumentParser(prog="python -m bench.twice", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="JSON file for every fit")
    parser.add_argument("--systems", help="names, separated by commas; all by default: " + ", ".join(SYSTEMS))
    parser.add_argument("--seconds", type=float, default=300.0, help="that a process with two fits may take (300)")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        write_json(options.out, fit_twice(SYSTEMS[options.child], WORKS[options.work].load()))
        return 0
    names = chosen(parser, options.systems, SYSTEMS, "system")
    before = json.loads(options.out.read_text()) if options.systems and options.out.exists() else {}
    found: dict[str, Any] = before.get("systems", {})
    skipped: dict[str, str] = before.get("skipped", {})
    earlier = [{part: before[part] for part in ("command", "datetime", "commit_info")}] if before else []
    for name in names:
        if reason := SYSTEMS[name].unavailable():
            skipped[name] = reason
            print(f"{name:28} {reason}", flush=True)
            continue
        works = {work: measure(name, work, options.seconds) for work in WORKS}
        found[name] = {"ours": SYSTEMS[name].ours, "version": SYSTEMS[name].version(), "works": works}
        for work, result in works.items():
            print(f"{name:28} {work:6} {result.get('error') or result['differs']}", flush=True)
        document = {
            **run_info("twice", arguments),
            "earlier": [*before.get("earlier", []), *earlier],
            "works": {work: {"title": WORKS[work].title, "n_samples": WORKS[work].shape[0]} for work in WORKS},
            "systems": found,
            "skipped": skipped,
        }
        write_json(options.out, document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
