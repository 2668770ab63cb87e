"""Time every system on every workload, alternating round by round: ``python -m bench.run cpu --out FILE``.

The machine drifts, so systems are not timed one after the other: each round runs all of them once, beginning with
another one each time, and ratios are taken within rounds.  If a first turn of all systems takes less than 30 s it is
thrown away as a warm-up, else it counts as a round; in the GPU suite it is always thrown away (kernels are compiled in
it).  The file is written after every workload; ``--resume`` goes on where a run was stopped, and past a system that
brought the process down.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import gc
import json
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import machine, memory, results
from bench.peers import systems_of
from bench.progress import ratios, run_line, stopped_at
from bench.quality import judge
from bench.systems import Outcome, System, Unsupported
from bench.table import OURS
from bench.workloads import Problem, Workload, workloads_of

WARM_UP_AT_MOST = 30.0  # seconds
JUDGED_AT_MOST = {"cpu": 3e11, "gpu": 6e10}  # multiplications in float64: device time is short
INTERRUPTED = 130
DEVICE_BROKEN = 75  # exit status: this process cannot use the GPU any more, start another one with --resume


@dataclass
class Lane:
    """One system on the workload at hand."""

    system: System
    run: Callable[[], Any]
    outcome: Callable[[Any], Outcome]
    seconds: list[float] = field(default_factory=list)
    device_seconds: list[float] = field(default_factory=list)
    result: Outcome | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def time_once(self) -> float:
        """Run once; wall seconds until the device is idle again."""
        gc.collect()
        start_event = stop_event = None
        if self.system.device == "gpu":
            start_event, stop_event = _events()
            _synchronize()
            start_event.record()
        started = time.perf_counter()
        raw = self.run()
        if self.system.device == "gpu":
            _synchronize()
        seconds = time.perf_counter() - started
        if start_event is not None and stop_event is not None:
            stop_event.record()
            stop_event.synchronize()
            self.device_seconds.append(_elapsed_ms(start_event, stop_event) / 1000)
        self.seconds.append(seconds)
        if self.result is None:
            self.result = self.outcome(raw)
        return seconds


def _events() -> tuple[Any, Any]:
    """Two timing events, of CuPy where it works, else of torch."""
    try:
        import cupy

        return cupy.cuda.Event(), cupy.cuda.Event()
    except Exception:
        import torch

        return torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)


def _elapsed_ms(start: Any, stop: Any) -> float:
    if hasattr(start, "elapsed_time"):
        return float(start.elapsed_time(stop))
    import cupy

    return float(cupy.cuda.get_elapsed_time(start, stop))


def _synchronize() -> None:
    try:
        import cupy

        cupy.cuda.runtime.deviceSynchronize()
    except Exception:
        import torch

        torch.cuda.synchronize()


def _free_device_memory() -> None:
    """Give pooled memory back: the pools of CuPy and torch do not see each other."""
    gc.collect()
    if "cupy" in sys.modules:
        with contextlib.suppress(Exception):
            sys.modules["cupy"].get_default_memory_pool().free_all_blocks()
    if "torch" in sys.modules:
        with contextlib.suppress(Exception):
            sys.modules["torch"].cuda.empty_cache()


class Runner:
    """One suite on one machine, written to one file."""

    def __init__(self, options: argparse.Namespace, command: str) -> None:
        self.options = options
        self.out = Path(options.out)
        self.deadline = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
        self.document: dict[str, Any] = {
            "suite": options.suite,
            "datetime": results.now(),
            "version": results.FORMAT,
            "command": command,
            "commit_info": machine.commit_info(),
            "machine_info": {},
            "benchmarks": [],
            "skipped": [],
            "finished": [],
            "running": None,
        }
        if options.resume and self.out.exists():
            self.document |= json.loads(self.out.read_text())
            self._bury_the_dead()
        self.workloads = workloads_of(options.suite, options.workloads)
        self.systems = systems_of(options.suite, options.systems)
        self.unavailable = {s.name: reason for s in self.systems if (reason := s.unavailable())}
        self.document["machine_info"] = machine.machine_info()
        self.document["systems"] = {
            s.name: {"version": s.version(), "device": s.device, "unavailable": self.unavailable.get(s.name)}
            for s in self.systems
        }
        self.save()

    def save(self) -> None:
        """Write what there is."""
        results.write_json(self.out, self.document)

    def skip(self, workload: str, system: str, reason: str) -> None:
        """Record that a system did not do a workload, and why."""
        self.document["skipped"].append({"workload": workload, "system": system, "reason": reason})
        print(f"  {system:28s} skipped: {reason[:150]}", flush=True)

    def _bury_the_dead(self) -> None:
        """A process that died left the name of what it was running."""
        running = self.document["running"]
        if running:
            self.skip(running[0], running[1], "the process died or hung while running it")
            self.document["running"] = None

    def run_all(self) -> int:
        """Every workload that is not finished yet; the exit status."""
        for system, reason in self.unavailable.items():
            print(f"not here: {system}: {reason}", flush=True)
        for workload in self.workloads:
            if workload.name in self.document["finished"]:
                continue
            if time.monotonic() > self.deadline:
                print(f"{workload.name}: no time left", flush=True)
                continue
            print(f"{workload.name}: {workload.title}", flush=True)
            self.document["benchmarks"] = [b for b in self.document["benchmarks"] if b["group"] != workload.name]
            try:
                self._run(workload, workload.load())
            except KeyboardInterrupt:
                self.save()
                print("interrupted; go on with --resume", flush=True)
                return INTERRUPTED
            except Exception as error:
                self.skip(workload.name, "*", f"{type(error).__name__}: {error}"[:500])
            _free_device_memory()
            self.document["finished"].append(workload.name)
            self.document["running"] = None
            self.save()
        self.document["machine_info"]["thread_pools"] = machine.thread_pools()  # by now all of them are loaded
        self.save()
        print("\n".join(ratios(self.document["benchmarks"], OURS[self.options.suite])), flush=True)
        return 0

    def _run(self, workload: Workload, problem: Problem) -> None:
        begun = time.monotonic()
        lanes = self._first_turn(workload, problem)
        warm_up = self.options.suite == "gpu" or sum(lane.seconds[0] for lane in lanes) < WARM_UP_AT_MOST
        for lane in lanes:
            lane.extra["first_seconds"] = lane.seconds[0]
            if warm_up:
                lane.seconds.clear()
                lane.device_seconds.clear()
        allowed = min(self.deadline, begun + self.options.seconds) if self.options.seconds else self.deadline
        try:
            self._rounds(workload, lanes, 0 if warm_up else 1, allowed)
        finally:  # an interrupted run keeps its finished rounds
            for lane in lanes:
                self._record(workload, problem, lane)

    def _rounds(self, workload: Workload, lanes: list[Lane], first: int, allowed: float) -> None:
        """All systems once a round, beginning with another one each time."""
        for turn in range(first, self.options.rounds):
            if turn > 0 and time.monotonic() > allowed:
                break
            shift = turn % len(lanes) if lanes else 0
            order = lanes[shift:] + lanes[:shift]
            for place, lane in enumerate(order, 1):
                on_gpu_time = self.options.suite == "gpu" and lane.system.device == "cpu"
                most = 2 if on_gpu_time else 3 if lane.extra["first_seconds"] > 2 else self.options.rounds
                if lane not in lanes or (turn >= most and self.options.suite == "gpu"):
                    continue
                self._try(workload, lane, lanes)
                if lane in lanes:
                    rest = sum(other.extra["first_seconds"] for other in order[place:] if other in lanes)
                    rest += (self.options.rounds - turn - 1) * sum(other.extra["first_seconds"] for other in lanes)
                    left = min(rest, allowed - time.monotonic())
                    print(run_line(lane.system.name, turn + 1, self.options.rounds, lane.seconds[-1], left), flush=True)

    def _first_turn(self, workload: Workload, problem: Problem) -> list[Lane]:
        """Prepare and run every system, ours first: its iterations are given to those without a stopping rule."""
        lanes: list[Lane] = []
        dead = {s["system"] for s in self.document["skipped"] if s["workload"] == workload.name}
        for system in self.systems:
            if system.name in dead or (self.options.suite == "gpu" and system.device == "cpu" and not workload.cpu_too):
                continue
            if system.name in self.unavailable:
                self.skip(workload.name, system.name, f"not available: {self.unavailable[system.name]}")
                continue
            if time.monotonic() > self.deadline:
                self.skip(workload.name, system.name, "no time left")
                continue
            if self.options.suite == "gpu" and workload.converges and not system.ours:
                problem.fixed_iterations()  # where ours did not run: not within a peer's patience
            self._watch(workload, system)
            try:
                with stopped_at(self.deadline):
                    lane = Lane(system, *system.prepare(problem))
            except Unsupported as reason:
                self.skip(workload.name, system.name, str(reason))
                continue
            except Exception as error:
                self._failed(workload, system, error)
                continue
            lanes.append(lane)
            with stopped_at(self.deadline):
                self._try(workload, lane, lanes)
            if lane.seconds:
                print(run_line(system.name, 0, self.options.rounds, lane.seconds[0], 0.0), flush=True)
            if lane.result is not None and system.ours and workload.converges and not problem.iterations:
                problem.iterations = list(lane.result.notes.get("iterations_per_start", ()))
        self._watch(None, None)
        return lanes

    def _try(self, workload: Workload, lane: Lane, lanes: list[Lane]) -> None:
        """Time a lane once; a lane that fails is closed."""
        self._watch(workload, lane.system)
        try:
            lane.time_once()
        except Exception as error:
            lanes.remove(lane)
            self._failed(workload, lane.system, error)
        finally:
            self._watch(None, None)

    def _failed(self, workload: Workload, system: System, error: Exception) -> None:
        self.skip(workload.name, system.name, f"{type(error).__name__}: {error}"[:500])
        if system.device == "gpu" and not isinstance(error, MemoryError):
            try:
                _synchronize()
            except Exception as broken:
                print(f"the device is lost ({broken}); start again with --resume", flush=True)
                self.document["running"] = None
                self.save()
                sys.exit(DEVICE_BROKEN)

    def _watch(self, workload: Workload | None, system: System | None) -> None:
        """Leave a note of what runs, and end the process if it hangs (``--patience``)."""
        if not self.options.patience:
            return
        faulthandler.cancel_dump_traceback_later()
        running = [workload.name, system.name] if workload and system else None
        if running:
            faulthandler.dump_traceback_later(self.options.patience, exit=True)
            if self.document["running"] != running:
                self.document["running"] = running
                self.save()

    def _record(self, workload: Workload, problem: Problem, lane: Lane) -> None:
        if not lane.seconds or lane.result is None:
            return
        quality = judge(problem.X, lane.result, JUDGED_AT_MOST[self.options.suite])
        n_iter = lane.result.n_iter
        extra: dict[str, Any] = {
            "title": workload.title,
            "task": workload.task,
            "ours": lane.system.ours,
            "device": lane.system.device,
            "n_iter": n_iter,
            "inertia_reported": lane.result.inertia,
            "inertia": quality.inertia if quality else None,
            "wrong_labels": quality.wrong_labels if quality else None,
            "judged_rows": quality.rows if quality else 0,
            "notes": lane.result.notes,
            **lane.extra,
        }
        if lane.device_seconds:
            extra["device_seconds"] = lane.device_seconds
        if self.options.memory and workload.name in memory.WORKLOADS and lane.system.device == "cpu":
            extra["memory"] = memory.in_subprocess(lane.system.name, workload.name)
        entry = results.benchmark(workload.name, lane.system.name, lane.seconds, extra)
        self.document["benchmarks"].append(entry)
        median = entry["stats"]["median"]
        each = f", {1e3 * median / n_iter:9.3f} ms/iter" if n_iter else ""
        wrong = "-" if quality is None or quality.wrong_labels is None else quality.wrong_labels
        print(
            f"  {lane.system.name:28s} {median:10.5f} s ({entry['stats']['rounds']} runs{each}), "
            f"n_iter {n_iter}, wrong labels {wrong}",
            flush=True,
        )


def main(argv: list[str] | None = None) -> int:
    """Parse, run, write; 75 means that the device was lost."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.run", description=__doc__.splitlines()[0], epilog=_listed(), formatter_class=_Help
    )
    parser.add_argument("suite", choices=["cpu", "gpu"])
    parser.add_argument("--out", required=True, help="the JSON file to write")
    parser.add_argument("--workloads", type=_names, help="only these, by commas; else all of the suite")
    parser.add_argument("--systems", type=_names, help="only these, by commas; else all of the suite")
    parser.add_argument("--rounds", type=int, default=5, help="how often every system runs, the first turn apart")
    parser.add_argument(
        "--seconds", type=float, default=0, help="no new round of a workload after so many seconds; 0: no limit"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=0,
        help="no new run after so many minutes, and first runs are stopped; 0: no limit",
    )
    parser.add_argument(
        "--patience", type=float, default=0, help="end the process if one run takes so many seconds; 0: never"
    )
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="do not measure memory")
    parser.add_argument("--resume", action="store_true", help="go on with an unfinished file")
    arguments = sys.argv[1:] if argv is None else argv
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds} should be at least 1")
    shown = [Path(a).name if Path(a).is_absolute() else a for a in arguments if a != "--resume"]
    try:
        runner = Runner(options, shlex.join(["python", "-m", "bench.run", *shown]))
    except ValueError as error:
        parser.exit(2, f"{error}\n")
    return runner.run_all()


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Defaults of numbers, and the lists below as they are."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        plain = action.default is None or isinstance(action.default, bool | str)
        return action.help if plain else super()._get_help_string(action)


def _listed() -> str:
    """The workloads and systems of both suites."""
    lines = []
    for suite in ("cpu", "gpu"):
        lines += [f"workloads of {suite}:", *(f"  {w.name:24s} {w.title}" for w in workloads_of(suite))]
        lines += [f"systems of {suite}: " + ", ".join(system.name for system in systems_of(suite, None)), ""]
    return "\n".join(lines)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


if __name__ == "__main__":
    sys.exit(main())
