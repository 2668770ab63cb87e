"""Runs of the benchmarks: what they write and tell, when they stop, how they go on."""

import json
import signal
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from bench import results
from bench.run import main as run_main
from bench.systems import Outcome
from bench.workloads import WORKLOADS
from tests.support.bench_documents import document


def test_the_runner_writes_every_run_and_skips_by_name(tmp_path, monkeypatch):
    digits = WORKLOADS["digits-k10"]
    monkeypatch.setitem(WORKLOADS, "digits-k10", replace(digits, n_init=2))
    out = tmp_path / "digits.json"
    systems = "gpukmeans numpy,scikit-learn lloyd,faiss-cpu"
    command = ["cpu", "--out", str(out), "--workloads", "digits-k10", "--rounds", "2", "--systems", systems]
    assert run_main(command) == 0
    written = json.loads(out.read_text())
    found = {b["param"]: b for b in written["benchmarks"]}
    for name in ("gpukmeans numpy", "scikit-learn lloyd"):
        assert len(found[name]["stats"]["data"]) == 2
        assert found[name]["extra_info"]["wrong_labels"] == 0
    assert found["gpukmeans numpy"]["extra_info"]["inertia"] == pytest.approx(
        found["scikit-learn lloyd"]["extra_info"]["inertia"], rel=1e-9
    )
    if "faiss-cpu" not in found:
        assert [s["system"] for s in written["skipped"]] == ["faiss-cpu"]
        assert "not available" in written["skipped"][0]["reason"]
    assert written["machine_info"]["node"] == ""
    assert str(tmp_path) not in written["command"]


def test_a_run_tells_each_round_the_time_left_and_the_ratio_in_the_end(tmp_path, monkeypatch, capsys):
    from bench import run
    from bench.systems import System

    def prepare(problem):
        return lambda: 0, lambda raw: Outcome(np.zeros(len(problem.X), np.int32), problem.X[:1])

    systems = [
        System("gpukmeans numpy", "cpu", True, "x", lambda: None, prepare),
        System("peer", "cpu", False, "x", lambda: None, prepare),
    ]
    monkeypatch.setattr(run, "systems_of", lambda suite, names: systems)
    seconds = iter([30.0, 60.0, 2.0, 6.0, 9.0, 3.0])

    def timed(lane):
        lane.seconds.append(next(seconds))
        lane.result = lane.outcome(lane.run())

    monkeypatch.setattr(run.Lane, "time_once", timed)
    monkeypatch.setattr(run, "WARM_UP_AT_MOST", 100.0)
    out = tmp_path / "r.json"
    assert run_main(["cpu", "--out", str(out), "--workloads", "digits-k10", "--rounds", "2", "--no-memory"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[1:7] == [
        "gpukmeans numpy first turn: 30.00000 s",
        "peer first turn: 60.00000 s",
        "gpukmeans numpy round 1 of 2: 2.00000 s, about 2 min 30 s left of this work",
        "peer round 1 of 2: 6.00000 s, about 1 min 30 s left of this work",
        "peer round 2 of 2: 9.00000 s, about 30 s left of this work",
        "gpukmeans numpy round 2 of 2: 3.00000 s",
    ]
    assert lines[-1] == "digits-k10: gpukmeans numpy is 3.00 times as fast as peer (3.00 to 3.00 in 2 rounds)"


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="nothing stops a run without SIGALRM")
def test_minutes_bound_the_first_turn_and_unknown_names_get_a_sentence(tmp_path, monkeypatch, capsys):
    from bench import progress, run
    from bench.systems import System

    now = [0.0]  # the clock of the runner and of the alarm, which the run itself rings: nobody waits

    def prepare(problem):
        def endless():
            left, _ = signal.getitimer(signal.ITIMER_REAL)
            assert 0.0 < left <= 60.0
            now[0] += 61.0
            signal.raise_signal(signal.SIGALRM)
            raise AssertionError("the alarm did not stop the run")

        return endless, lambda raw: raw

    systems = [System(name, "cpu", False, "x", lambda: None, prepare) for name in ("endless", "after it")]
    monkeypatch.setattr(run, "systems_of", lambda suite, names: systems)
    clock = SimpleNamespace(monotonic=lambda: now[0], perf_counter=time.perf_counter)
    monkeypatch.setattr(run, "time", clock)
    monkeypatch.setattr(progress, "time", clock)
    out = tmp_path / "r.json"
    assert run_main(["cpu", "--out", str(out), "--workloads", "digits-k10", "--minutes", "1"]) == 0
    skipped = {each["system"]: each["reason"] for each in json.loads(out.read_text())["skipped"]}
    assert skipped["endless"] == "TimeUp: no time left: stopped in its first run"
    assert skipped["after it"] == "no time left"
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        run_main(["cpu", "--out", str(out), "--workloads", "mnist-k11"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("mnist-k11: no such workload; there are mnist-k10, ")
    assert said.count("\n") == 1
    with pytest.raises(SystemExit):
        run_main(["--help"])
    text = capsys.readouterr().out
    assert "mnist-k10                MNIST 70k x 784, k=10" in text
    assert "(default: 5)" in text
    assert "systems of cpu: endless" in text


def test_a_died_run_is_resumed_past_the_culprit(tmp_path):
    out = tmp_path / "r.json"
    dead = document("cpu", [], finished=[], running=["digits-k10", "scikit-learn lloyd"])
    results.write_json(out, dead)
    systems = "gpukmeans numpy,scikit-learn lloyd"
    options = ["--workloads", "digits-k10", "--rounds", "1", "--systems", systems, "--resume"]
    assert run_main(["cpu", "--out", str(out), *options]) == 0
    written = json.loads(out.read_text())
    assert [b["param"] for b in written["benchmarks"]] == ["gpukmeans numpy"]
    assert "died" in written["skipped"][0]["reason"]
    assert written["finished"] == ["digits-k10"]


def test_a_system_that_fails_is_closed_and_a_lost_device_ends_the_process(tmp_path, monkeypatch):
    from bench import run
    from bench.systems import System

    def broken(problem):
        def fail():
            raise RuntimeError("illegal address")

        return fail, lambda raw: raw

    def works(problem):
        return lambda: 0, lambda raw: Outcome(np.zeros(len(problem.X), np.int32), problem.X[:1])

    def lost():
        raise RuntimeError("lost")

    def never():
        return None

    systems = [System("bad", "gpu", False, "x", never, broken), System("good", "cpu", True, "x", never, works)]
    monkeypatch.setattr(run, "systems_of", lambda suite, names: systems)
    out = tmp_path / "r.json"
    options = ["gpu", "--out", str(out), "--workloads", "digits-k10", "--rounds", "3"]
    monkeypatch.setattr(run.Lane, "time_once", _timed_without_a_device)
    monkeypatch.setattr(run, "_synchronize", never)
    assert run.main(options) == 0
    written = json.loads(out.read_text())
    assert [b["param"] for b in written["benchmarks"]] == ["good"]
    assert written["skipped"] == [
        {"workload": "digits-k10", "system": "bad", "reason": "RuntimeError: illegal address"}
    ]
    out.unlink()
    monkeypatch.setattr(run, "_synchronize", lost)
    with pytest.raises(SystemExit) as ended:
        run.main(options)
    assert ended.value.code == run.DEVICE_BROKEN
    assert json.loads(out.read_text())["skipped"][0]["system"] == "bad"
    assert run.main([*options, "--resume"]) == 0  # goes on without it
    assert [b["param"] for b in json.loads(out.read_text())["benchmarks"]] == ["good"]


def _timed_without_a_device(lane):
    raw = lane.run()
    lane.seconds.append(0.001)
    lane.result = lane.outcome(raw)
