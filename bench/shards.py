"""Tests in several processes, each started again past a test that fails, hangs or brings its process down.

A failed launch leaves CUDA unusable until its process ends, so that all later tests of the process would fail, too.
``python -m bench.shards LIST RESULTS`` is one such process: it runs the tests that the file LIST names, a line each, up
to the first that does not pass.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.each import kill
from bench.machine import ROOT

PATIENCE = 45.0  # seconds without a result, of which importing takes a few
TAIL = 1500  # characters of a failure's text
_POLL = 0.1


def collected(selection: Sequence[str], seconds: float) -> list[str]:
    """The names of the tests that pytest selects, in its order."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *selection]
    options: dict[str, Any] = {"cwd": ROOT, "env": _environment(), "timeout": seconds}
    done = subprocess.run(command, **options, capture_output=True, text=True)
    names = itertools.takewhile(str.strip, done.stdout.splitlines())  # warnings behind them may name tests, too
    return [line for line in names if "::" in line]


def by_file(tests: Sequence[str], n_shards: int) -> list[list[str]]:
    """The tests in so many parts of about one size; a file's stay together as far as they fill no more than a part.

    They share what is computed once, but a long file by itself would take longer than all other parts.
    """
    files: dict[str, list[str]] = {}
    for test in tests:
        files.setdefault(test.partition("::")[0], []).append(test)
    shards: list[list[str]] = [[] for _ in range(n_shards)]
    most = -(-len(tests) // n_shards)
    groups = [group[start : start + most] for group in files.values() for start in range(0, len(group), most)]
    for group in sorted(groups, key=len, reverse=True):
        min(shards, key=len).extend(group)
    return [shard for shard in shards if shard]


def run_shards(
    shards: Sequence[list[str]], out: Path, end: float, *, patience: float = PATIENCE, root: Path = ROOT
) -> dict[str, int]:
    """Run the shards side by side.

    Parameters
    ----------
    shards : sequence of list of str
        Names of tests.
    out : Path
        A line of JSON is added for each test: test, outcome (passed, failed, skipped; hung, died) and, unless it
        passed, what was said.
    end : float
        The time by time.monotonic() after which nothing runs.
    patience : float
        Seconds without a result after which the test in progress counts as hung.
    root : Path
        The folder that the names begin at.

    Returns
    -------
    dict of str to int
        The number of tests of each outcome, "not run" among them.
    """
    counts: dict[str, int] = {}

    def run(shard: list[str]) -> None:
        left = list(shard)
        while left and time.monotonic() < end:
            found = _run_once(left, end, patience, root)
            with out.open("a") as lines:  # one write: lines of several threads do not mix
                lines.write("".join(json.dumps(each) + "\n" for each in found))
            for each in found:
                counts[each["outcome"]] = counts.get(each["outcome"], 0) + 1
            done = {each["test"] for each in found}
            if done.isdisjoint(left):  # they have other names in their process
                break
            left = [test for test in left if test not in done]
        counts["not run"] = counts.get("not run", 0) + len(left)

    with ThreadPoolExecutor(len(shards) or 1) as threads:
        list(threads.map(run, shards))
    return counts


def _run_once(tests: list[str], end: float, patience: float, root: Path) -> list[dict[str, Any]]:
    """Results up to the first test that does not pass, one at least unless time is over."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+", errors="replace") as sink:
        listed, results = Path(folder, "tests"), Path(folder, "results")
        listed.write_text("\n".join(tests))
        results.touch()
        command = [sys.executable, "-m", "bench.shards", str(listed), str(results)]
        options: dict[str, Any] = {"cwd": root, "env": _environment(), "start_new_session": True}
        process = subprocess.Popen(command, **options, stdout=sink, stderr=subprocess.STDOUT)
        size, since, hung = 0, time.monotonic(), False
        while process.poll() is None and not hung and time.monotonic() < end:
            time.sleep(_POLL)
            if results.stat().st_size != size:
                size, since = results.stat().st_size, time.monotonic()
            hung = time.monotonic() - since > patience
        stopped = process.poll() is None and not hung
        kill(process)
        lines = [json.loads(line) for line in results.read_text().splitlines()]
        begun = next((line["test"] for line in reversed(lines) if line["outcome"] == "begun"), tests[0])
        found = [line for line in lines if line["outcome"] != "begun"]
        if not stopped and (not found or found[-1]["test"] != begun):
            sink.seek(0)
            text = sink.read()[-TAIL:]
            found.append({"test": begun, "outcome": "hung" if hung else "died", "said": text})
        return found


def _environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # no test on a GPU needs a plugin


class Reporter:
    """A plugin of pytest: a line for each test that begins or ends; the first failure ends the session."""

    def __init__(self, results: Path) -> None:
        self._results, self._told = results, False

    def _write(self, **line: Any) -> None:
        with self._results.open("a") as lines:
            lines.write(json.dumps(line) + "\n")

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A test begins."""
        self._told = False
        self._write(test=nodeid, outcome="begun")

    def pytest_runtest_logreport(self, report: Any) -> None:
        """A part of a test has ended; what is told at its end is the first that went wrong."""
        wrong = report.failed or (report.skipped and report.when != "teardown")
        if self._told or not (wrong or report.when == "teardown"):
            return
        self._told = True
        said = {"said": report.longreprtext[-TAIL:]} if wrong else {}
        self._write(test=report.nodeid, outcome=report.outcome, **said)

    def pytest_runtest_makereport(self, item: Any, call: Any) -> None:
        """Stop behind a failure."""
        if call.excinfo is not None and call.excinfo.typename != "Skipped":
            item.session.shouldstop = "the next tests get a process of their own"


def main(argv: list[str] | None = None) -> int:
    """Run the listed tests; pytest's exit status."""
    import pytest

    listed, results = map(Path, sys.argv[1:] if argv is None else argv)
    options = ["-q", "-p", "no:cacheprovider", "--rootdir", os.getcwd(), "-c", str(ROOT / "pyproject.toml")]
    return int(pytest.main([*options, *listed.read_text().splitlines()], plugins=[Reporter(results)]))


if __name__ == "__main__":
    sys.exit(main())
