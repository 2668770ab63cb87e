"""Commands of the GPU check: one that hangs and one that faults end alone, and every one leaves a line."""

from __future__ import annotations

import json
import sys
import time

from bench import first_contact, gpu_check
from bench.each import run_each
from tests.emulator.testing import skip_without_compiler

COMMANDS = {
    "well": "print('fine')",
    "hangs": "import time; print('begun', flush=True); time.sleep(600)",
    "faults": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "refuses": "raise SystemExit('wrong labels')",
    "after": "pass",
}

STANDINS = {name: [sys.executable, "-S", "-c", code] for name, code in COMMANDS.items()}


def test_what_hangs_or_faults_ends_alone_and_every_command_leaves_a_line(tmp_path):
    out = tmp_path / "each.jsonl"
    found = run_each(STANDINS, out, 2.0, at_a_time=2)
    assert [(each["name"], each["ok"], each["exit"]) for each in found] == [
        ("well", True, 0),
        ("hangs", False, None),
        ("faults", False, -11),
        ("refuses", False, 1),
        ("after", True, 0),
    ]
    assert "begun" in found[1]["output"]
    assert "wrong labels" in found[3]["output"]
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert sorted(lines, key=lambda line: list(COMMANDS).index(line["name"])) == found


def test_nothing_runs_after_the_end(tmp_path):
    commands = {"late": [sys.executable, "-S", "-c", "pass"]}
    (found,) = run_each(commands, tmp_path / "each.jsonl", 60.0, end=time.monotonic() - 1)
    assert (found["ok"], found["exit"], found["output"]) == (False, None, "no time left")


class Moved:
    """Other starts each time: a stand-in for a backend that errs."""

    def __init__(self, X):
        self.X, self.calls = X.astype(float), 0

    def __call__(self, X, n_clusters, random_state):
        self.calls += 1
        return self.X + self.calls


def test_a_first_fit_ends_in_numpys_bits_or_names_what_differs(monkeypatch, capsys):
    """The rehearsal: on the emulator."""
    skip_without_compiler()
    assert first_contact.main(["fit", "few, uint8", "--emulated"]) == 0
    rows_of = first_contact.rows_of

    def other_rows(name):
        X, k, params = rows_of(name)
        return X, k, params | {"init": Moved(X[:k])}

    monkeypatch.setattr(first_contact, "rows_of", other_rows)
    assert first_contact.main(["fit", "few, uint8", "--emulated"]) == 1
    assert "n_iter_ differ from NumPy's" in capsys.readouterr().out


def test_a_step_of_the_check_goes_on_past_what_hangs_and_faults(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_check, "CONTACT_SECONDS", 2)
    monkeypatch.setattr(
        gpu_check, "run_each", lambda commands, *a, **k: run_each({n: STANDINS[n] for n in commands}, *a, **k)
    )
    monkeypatch.setattr(first_contact, "NAMES", tuple(STANDINS))
    found = gpu_check.Check(tmp_path, 1).contact(30.0)
    assert found == {"ok": False, "said": "5 processes, NOT OK: hangs; faults; refuses"}
    assert len((tmp_path / "contact.jsonl").read_text().splitlines()) == 5
