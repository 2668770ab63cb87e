"""Everything worth doing on a machine with an NVIDIA GPU, in one command: ``python -m bench.gpu_check --out DIR``.

From the root of a checkout; gpukmeans need not be installed and nothing is fetched.  Each step runs in processes of its
own within its own share of the time, and what it found is on disk when it ends; one that fails does not stop the next.

==================  ===========================================================================
environment.json    GPU, driver, CuPy, torch, what can be imported, the tools on PATH; bandwidth and arithmetic at best
compile.jsonl       the kernels, all of them, compiled by a pool of processes
contact.jsonl       every kernel once, each in a process of 20 s, beside NumPy
rounding.json       how the tensor cores add, measured, beside what is known of their architecture
fits.jsonl          small fits, each in a process of 20 s, beside NumPy's bits
bits.jsonl          tests of same bits and other laws, each that fails, hangs or faults by itself
tests.jsonl         all other tests that need a GPU, likewise
sanitizer.txt       compute-sanitizer memcheck and racecheck over small fits
profile.txt         seconds per stage and iteration, early and late; ncu over the kernels of a fit
batch.json          many problems in one call, one by one, and by flash-kmeans (``bench.batch``)
bench.json          our fits and every importable peer (``bench.run gpu``)
log.txt             the output of all of it
summary.json        one line per step
==================  ===========================================================================

Exit status: 0 if every step went well, 1 if one did not, 3 without a usable GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench import first_contact, shards
from bench.each import kill, run_each
from bench.kernel_contacts import CONTACTS
from bench.machine import ROOT, commit_info, machine_info, usable_cores
from bench.results import now, write_json

NO_GPU = 3
#: In their order: what is right comes before what is fast.
SHARES = {"compile": 0.12, "contact": 0.12, "rounding": 0.03, "fits": 0.1, "bits": 0.1, "tests": 0.12}
SHARES |= {"sanitizer": 0.06, "profile": 0.05, "batch": 0.05, "bench": 0.25}
CONTACT_SECONDS = 20  # of a kernel or a fit, most of which are Python's start
AT_A_TIME = 8  # processes on the GPU side by side
LAWS = "tests/laws/"  # the tests of the step "bits"
TAIL = 4000  # characters of a failed command's output that are kept in the step's own file


class Check:
    """The steps, their time and their files."""

    def __init__(self, out: Path, minutes: float) -> None:
        self.out = out
        self.end = time.monotonic() + 60 * minutes
        self.summary: dict[str, Any] = {"datetime": now(), "minutes": minutes, "steps": {}}
        self.log = (out / "log.txt").open("a", buffering=1)

    @functools.cached_property
    def gpu_tests(self) -> Future[list[str]]:
        """The names of the tests that need a GPU, once they are collected, which takes a core many seconds."""
        return ThreadPoolExecutor(1).submit(shards.collected, ["-m", "gpu", "tests"], self.left())

    def left(self) -> float:
        """Seconds."""
        return max(0.0, self.end - time.monotonic())

    def command(self, arguments: list[str], seconds: float) -> tuple[int | None, str]:
        """Run from the root with it on the path; (exit status or None if out of time, output)."""
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])),
            "PYTHONUNBUFFERED": "1",
        }
        self.log.write(f"\n$ {' '.join(arguments)}   (at most {seconds:.0f} s)\n")
        if seconds < 1:
            return None, "no time left"
        capture = self.out / "step.part"
        with capture.open("w+") as sink:
            try:
                process = subprocess.Popen(
                    arguments, cwd=ROOT, env=environment, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True
                )
            except OSError as error:
                capture.unlink()
                return 127, str(error)
            try:
                status: int | None = process.wait(seconds)
            except subprocess.TimeoutExpired:
                status = None
                process.send_signal(signal.SIGINT)  # which may still write what it has
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)
                kill(process)
        output = capture.read_text(errors="replace")
        capture.unlink()
        self.log.write(output + f"\n[{'out of time' if status is None else f'exit {status}'}]\n")
        return status, output

    def step(self, name: str, work: Callable[[float], dict[str, Any]], seconds: float) -> dict[str, Any]:
        """Run a step and note how it went, whatever happens in it."""
        started = time.monotonic()
        try:
            found = work(seconds)
        except Exception as error:
            found = {"ok": False, "said": f"{type(error).__name__}: {error}"[:1000]}
        found["seconds"] = round(time.monotonic() - started, 1)
        self.summary["steps"][name] = found
        write_json(self.out / "summary.json", self.summary)
        print(
            f"{name:12s} {'ok' if found['ok'] else 'NOT OK':7s} {found['seconds']:6.1f} s  {found['said']}", flush=True
        )
        return found

    def environment(self, seconds: float) -> dict[str, Any]:
        """What is here; asked in a process of its own, since a broken GPU stack can bring one down."""
        end = time.monotonic() + seconds
        status, output = self.command([sys.executable, "-m", "bench.gpu_check", "--report"], seconds)
        try:
            report = json.loads(output.strip().splitlines()[-1])
        except (ValueError, IndexError):
            report = {"usable": False, "reason": f"the report failed (exit {status}): {output[-TAIL:]}"}
        if report["usable"]:
            ceilings = self.command([sys.executable, "-m", "bench.ceilings"], min(60, end - time.monotonic()))[1]
            try:
                report["ceilings"] = json.loads(ceilings.strip().splitlines()[-1])
            except (ValueError, IndexError):
                report["ceilings"] = ceilings[-TAIL:]
        report["nvidia_smi"] = self.command(["nvidia-smi"], min(30, end - time.monotonic()))[1][:TAIL]
        write_json(self.out / "environment.json", report)
        return {"ok": bool(report["usable"]), "said": report["reason"]}

    def compile(self, seconds: float) -> dict[str, Any]:
        """All kernels into CuPy's cache, so that no later step waits for NVRTC.  Tests are collected beside it."""
        self.gpu_tests  # noqa: B018
        parts = usable_cores()
        return self._each(
            {f"part {i}": ["compile", str(i), str(parts)] for i in range(parts)}, "compile", seconds, parts
        )

    def contact(self, seconds: float) -> dict[str, Any]:
        """Every kernel, each in a process of its own: one that hangs or faults hides no other."""
        return self._each({name: ["kernel", name] for name in CONTACTS}, "contact", seconds)

    def rounding(self, seconds: float) -> dict[str, Any]:
        """How the tensor cores add.  Where the table is wrong, fits take the wider radius and stay exact."""
        out = self.out / "rounding.json"
        status, output = self.command([sys.executable, "-m", "bench.first_contact", "rounding", str(out)], seconds)
        return {"ok": status == 0, "said": f"as in their table: {status == 0}; {output.strip()[-TAIL:]}"}

    def fits(self, seconds: float) -> dict[str, Any]:
        """Small fits, each in a process of its own."""
        return self._each({name: ["fit", name] for name in first_contact.NAMES}, "fits", seconds)

    def _each(
        self, parts: dict[str, list[str]], step: str, seconds: float, at_a_time: int | None = None
    ) -> dict[str, Any]:
        out = self.out / f"{step}.jsonl"
        out.unlink(missing_ok=True)
        commands = {name: [sys.executable, "-m", "bench.first_contact", *part] for name, part in parts.items()}
        limit = seconds if step == "compile" else CONTACT_SECONDS
        at_a_time = at_a_time or min(AT_A_TIME, usable_cores())
        found = run_each(commands, out, limit, at_a_time=at_a_time, end=time.monotonic() + seconds)
        bad = [each["name"] for each in found if not each["ok"]]
        said = f"{len(found)} processes, " + (f"NOT OK: {'; '.join(bad)}" if bad else "all ok")
        ended = [each for each in found if each["exit"] not in (0, first_contact.DIFFER)]
        last = {each["last_launch"] for each in ended if "last_launch" in each}
        return {"ok": not bad, "said": said + (f"; ended in a launch of {', '.join(sorted(last))}" if last else "")}

    def bits(self, seconds: float) -> dict[str, Any]:
        """The tests of same bits and other laws that need a GPU."""
        return self._tests("bits", seconds, lambda test: test.startswith(LAWS))

    def tests(self, seconds: float) -> dict[str, Any]:
        """The other tests that need a GPU."""
        return self._tests("tests", seconds, lambda test: not test.startswith(LAWS))

    def _tests(self, step: str, seconds: float, wanted: Callable[[str], bool]) -> dict[str, Any]:
        end, out = time.monotonic() + seconds, self.out / f"{step}.jsonl"
        out.unlink(missing_ok=True)
        chosen = [test for test in self.gpu_tests.result(seconds) if wanted(test)]
        counts = shards.run_shards(shards.by_file(chosen, min(AT_A_TIME, usable_cores())), out, end)
        good = counts.get("passed", 0) + counts.get("skipped", 0)
        said = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()) if count)
        return {"ok": bool(chosen) and good == len(chosen), "said": said or "there is no such test"}

    def bench(self, seconds: float) -> dict[str, Any]:
        """``bench.run gpu``, started again past whatever brings its process down."""
        end, out, starts = time.monotonic() + seconds, self.out / "bench.json", 0
        status: int | None = None
        output = "no time left"
        while starts < 30 and (left := end - time.monotonic()) > 10:
            starts += 1
            patience = max(20.0, min(60.0, left / 4))  # what hangs leaves time for others
            options = ["--rounds", "20", "--seconds", "6", "--patience", f"{patience:.0f}"]
            options += ["--minutes", f"{(left - 8) / 60:.2f}"]
            arguments = [sys.executable, "-m", "bench.run", "gpu", "--out", str(out), *options, "--resume"]
            status, output = self.command(arguments, left)
            if status in (0, 2, None) or not out.exists():
                break
        if not out.exists():
            return {"ok": False, "said": f"nothing measured: {output[-500:]}"}
        document = json.loads(out.read_text())
        ours = {b["group"] for b in document["benchmarks"] if b["extra_info"]["ours"]}
        wrong = [
            b["name"]
            for b in document["benchmarks"]
            if b["param"] == "gpukmeans cupy" and b["extra_info"]["wrong_labels"]
        ]
        said = f"{len(document['benchmarks'])} measurements, {len(ours)} workloads by us, {starts} starts"
        if wrong:
            said += f"; WRONG LABELS in {wrong}"
        return {"ok": status == 0 and not wrong, "said": said + ("" if status == 0 else f", last exit {status}")}

    def batch(self, seconds: float) -> dict[str, Any]:
        """``bench.batch``: many problems in one call."""
        out = self.out / "batch.json"
        command = [sys.executable, "-m", "bench.batch", "--out", str(out), "--seconds", f"{seconds / 2:.0f}"]
        status, output = self.command(command, seconds)
        return {"ok": status == 0, "said": f"exit {status}; " + "; ".join(output.strip().splitlines()[-8:])[:TAIL]}

    def sanitizer(self, seconds: float) -> dict[str, Any]:
        """Memory errors and races in small fits."""
        if not shutil.which("compute-sanitizer"):
            return self._absent("sanitizer.txt", "compute-sanitizer is not on PATH")
        text, said = "", []
        for tool in ("memcheck", "racecheck"):
            command = [
                "compute-sanitizer",
                "--tool",
                tool,
                "--error-exitcode",
                "9",
                sys.executable,
                "-m",
                "bench.small_fit",
            ]
            status, output = self.command(command, seconds / 2)
            text += f"== {tool}: exit {status}\n{output[-200_000:]}\n"
            said.append(f"{tool} {'clean' if status == 0 else f'exit {status}'}")
            (self.out / "sanitizer.txt").write_text(text)
        return {"ok": all("clean" in s for s in said), "said": ", ".join(said)}

    def profile(self, seconds: float) -> dict[str, Any]:
        """Our own report of a fit, and the hardware counters of its kernels."""
        status, text = 0, ""
        for fit in ("mnist", "pruning"):
            failed, output = self.command([sys.executable, "-m", "bench.small_fit", fit], seconds / 4)
            status, text = status if failed == 0 else failed, text + output
        (self.out / "profile.txt").write_text(text)
        if not shutil.which("ncu"):
            return {"ok": status == 0, "said": f"fit report exit {status}; ncu is not on PATH"}
        sections = ["SpeedOfLight", "MemoryWorkloadAnalysis", "ComputeWorkloadAnalysis", "Occupancy", "LaunchStats"]
        options = [
            "--clock-control",
            "none",
            "--target-processes",
            "all",
            "--launch-skip",
            "30",
            "--launch-count",
            "60",
        ]
        for section in sections:
            options += ["--section", section]
        ncu, output = self.command(["ncu", *options, sys.executable, "-m", "bench.small_fit", "mnist"], seconds / 2)
        (self.out / "profile.txt").write_text(f"{text}\n== ncu: exit {ncu}\n{output[-2_000_000:]}")
        return {"ok": status == 0 and ncu == 0, "said": f"fit report exit {status}, ncu exit {ncu}"}

    def _absent(self, file: str, reason: str) -> dict[str, Any]:
        (self.out / file).write_text(reason + "\n")
        return {"ok": True, "said": reason}


def report() -> dict[str, Any]:
    """The environment, and whether our CuPy backend can be used."""
    from bench.peers import systems_of

    found: dict[str, Any] = {"datetime": now(), "commit_info": commit_info(), "machine_info": machine_info()}
    try:
        from gpukmeans.backends import get_backend

        found |= {"usable": True, "reason": get_backend("cupy").describe()}
    except Exception as error:  # not only BackendUnavailable: the reason matters, whatever it is
        found |= {"usable": False, "reason": f"no usable GPU: {type(error).__name__}: {error}"[:1000]}
    found["systems"] = {s.name: {"version": s.version(), "unavailable": s.unavailable()} for s in systems_of("gpu")}
    found["tools"] = {
        tool: shutil.which(tool) is not None for tool in ("nvcc", "ncu", "compute-sanitizer", "nvidia-smi")
    }
    return found


def main(argv: list[str] | None = None) -> int:
    """Run the steps asked for; see the module's text for the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu_check", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="the folder to write to")
    parser.add_argument("--minutes", type=float, default=9, help="for all steps together")
    parser.add_argument("--only", default=",".join(SHARES), help=f"of {','.join(SHARES)}")
    parser.add_argument("--report", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.report:
        print(json.dumps(report(), default=str))
        return 0
    chosen = [name.strip() for name in options.only.split(",") if name.strip()]
    if options.out is None or not set(chosen) <= set(SHARES):
        parser.error("--out DIR is needed" if options.out is None else f"--only takes some of {','.join(SHARES)}")
    options.out.mkdir(parents=True, exist_ok=True)
    check = Check(options.out.resolve(), options.minutes)
    if not check.step("environment", check.environment, min(90, check.left()))["ok"]:
        print("summary: no usable GPU; only the environment was reported")
        return NO_GPU
    for i, name in enumerate(chosen):
        share = SHARES[name] / sum(SHARES[later] for later in chosen[i:])  # what a step leaves over, the next ones get
        check.step(name, getattr(check, name), check.left() * share)
    bad = [name for name, found in check.summary["steps"].items() if not found["ok"]]
    print(f"summary: {len(check.summary['steps'])} steps, {'all ok' if not bad else 'NOT OK: ' + ', '.join(bad)}")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
