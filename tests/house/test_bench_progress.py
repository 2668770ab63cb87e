"""What benchmarks say while they run, and that a deadline bounds them; nothing is timed here."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest

from bench.run import main as run_main
from bench.systems import Outcome


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
    from bench import run
    from bench.systems import System

    def prepare(problem):
        def endless():
            while True:
                pass

        return endless, lambda raw: raw

    systems = [System(name, "cpu", False, "x", lambda: None, prepare) for name in ("endless", "after it")]
    monkeypatch.setattr(run, "systems_of", lambda suite, names: systems)
    out = tmp_path / "r.json"
    assert run_main(["cpu", "--out", str(out), "--workloads", "digits-k10", "--minutes", "0.005"]) == 0
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
