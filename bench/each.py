"""Commands in processes of their own: one that hangs or faults ends alone, and each leaves a line of JSON."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.machine import ROOT

TAIL = 2000  # characters of a failed command's output that are kept
KILLED = 15.0  # seconds in which a killed process must end: one whose kernel does not end may stay in the driver


def run_each(
    commands: Mapping[str, Sequence[str]], out: Path, seconds: float, *, at_a_time: int = 1, end: float = float("inf")
) -> list[dict[str, Any]]:
    """Run every command from the root of the checkout.

    Parameters
    ----------
    commands : mapping of str to sequence of str
        The arguments, by a name.
    out : Path
        A line is added when a command ends: name, ok, seconds, exit (None: out of time; negative: the signal that ended
        it) and, unless it went well, the end of its output and the last of the launches that it printed
        (`bench.kernel_contacts.Traced`), if any.
    seconds : float
        That each command may take.
    at_a_time : int
    end : float
        The time by time.monotonic() after which nothing runs.

    Returns
    -------
    list of dict
        What the lines hold, in the order of `commands`.
    """

    def run(name: str) -> dict[str, Any]:
        started = time.monotonic()
        status, output = _run(commands[name], min(seconds, end - started))
        found = {"name": name, "ok": status == 0, "seconds": round(time.monotonic() - started, 2), "exit": status}
        if status != 0:
            found["output"] = output[-TAIL:]
            if launches := re.findall(r"^launch (\w+)$", output, re.MULTILINE):
                found["last_launch"] = launches[-1]
        with out.open("a") as lines:  # one write: lines of several threads do not mix
            lines.write(json.dumps(found) + "\n")
        return found

    with ThreadPoolExecutor(at_a_time) as threads:
        return list(threads.map(run, commands))


def _run(arguments: Sequence[str], seconds: float) -> tuple[int | None, str]:
    if seconds <= 0:
        return None, "no time left"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    with tempfile.TemporaryFile("w+", errors="replace") as sink:
        process = subprocess.Popen(
            arguments, cwd=ROOT, env=environment, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            status: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        kill(process)
        sink.seek(0)
        return status, sink.read()


def kill(process: subprocess.Popen[Any], seconds: float = KILLED) -> None:
    """End a process that was started in a session of its own, and all that it has started; wait for it so long."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
