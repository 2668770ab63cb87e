"""Commands of the GPU check: one that hangs and one that faults end alone, and every one leaves a line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import types

import pytest

from bench import first_contact, gpu_check, shards
from bench.each import kill, run_each
from bench.kernel_contacts import CONTACTS, Traced
from gpukmeans.backends.cuda.device import cupy_device
from gpukmeans.backends.cuda.device.cupy_device import CupyDevice
from gpukmeans.backends.cuda.device.nvrtc import kernels_folder
from tests.emulator import EmulatorDevice, TensorCores
from tests.emulator.testing import skip_without_compiler
from tests.support.cupy_stand_in import stand_in

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


def test_a_process_that_cannot_be_ended_is_left(tmp_path):
    """Its kernel runs on in the driver: the check must go on."""
    process = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"], start_new_session=True)
    waits = []

    class Stuck:
        pid = process.pid

        def wait(self, seconds):
            waits.append(seconds)
            raise subprocess.TimeoutExpired("stuck", seconds)

    kill(Stuck(), 0.5)
    assert waits == [0.5]
    assert process.wait(10) == -signal.SIGKILL


def test_tests_are_collected_by_their_names_alone(monkeypatch):
    """Behind them are warnings, which may name tests of parameters that pytest does not like."""
    said = "tests/a.py::test_a[1 2]\ntests/b.py::test_b\n\n=== warnings ===\n  Test: tests/c.py::test_c, argvalues\n"
    monkeypatch.setattr(shards.subprocess, "run", lambda *args, **options: types.SimpleNamespace(stdout=said))
    assert shards.collected([], 1.0) == ["tests/a.py::test_a[1 2]", "tests/b.py::test_b"]


def test_a_variant_that_does_not_compile_holds_up_no_other(monkeypatch):
    compiled = []

    class Compiler:
        def kernel(self, file, name, constants):
            if file == "move_sums":
                raise ValueError("does not compile")
            compiled.append(file)

    monkeypatch.setattr(cupy_device, "CupyDevice", Compiler)
    with pytest.raises(RuntimeError, match="move_sums"):
        first_contact.compile_part(0, 2)
    assert {"column_facts", "tensor_rounding"} <= set(compiled)


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
    assert first_contact.main(["fit", "few, uint8", "--emulated"]) == first_contact.DIFFER
    assert "n_iter_ differ" in capsys.readouterr().out


def test_the_first_contacts_reach_every_kernel_and_end_in_numpys_results(monkeypatch):
    """Through CuPy's stand-in, which sees what is used on one stream before another has made it."""
    skip_without_compiler()
    monkeypatch.setitem(sys.modules, "cupy", stand_in())
    launched = set()
    for work in dict.fromkeys(CONTACTS.values()):
        traced = Traced(CupyDevice())
        assert not any(work(traced).values())
        assert {kernel for kernel in CONTACTS if CONTACTS[kernel] is work} <= set(traced.launched)
        launched.update(traced.launched)
    assert launched == set(CONTACTS) == {path.stem for path in kernels_folder().glob("*.cu")}


#: Kernels that hang, fault and err.
PLANTED = {
    "gather_rows": (
        "const ROW* __restrict__ x = X",
        'int wait(unsigned) asm("usleep"); for (;;) wait(10000); const ROW* x = X',
    ),
    "unit_rows": ("const int lane", "*(int*)64 = 1;\n  const int lane"),
    "settle_rows": ("known ? decided[e]", "known ? 1"),
}


def test_a_step_of_the_check_goes_on_past_kernels_that_hang_fault_and_err(tmp_path, monkeypatch):
    """The rehearsal: on the emulator, each in a process of its own."""
    skip_without_compiler()

    def planted(commands, *args, **options):
        faults = {name: ["--emulated", "--plant", *PLANTED[name]] for name in commands}
        return run_each({name: [*commands[name], *faults[name]] for name in commands}, *args, **options)

    monkeypatch.setattr(gpu_check, "CONTACT_SECONDS", 8)
    monkeypatch.setattr(gpu_check, "AT_A_TIME", 2)
    monkeypatch.setattr(gpu_check, "run_each", planted)
    monkeypatch.setattr(gpu_check, "CONTACTS", PLANTED)
    found = gpu_check.Check(tmp_path, 1).contact(60.0)
    assert found == {
        "ok": False,
        "said": "3 processes, NOT OK: gather_rows; unit_rows; settle_rows; ended in a launch of gather_rows, unit_rows",
    }
    lines = {line["name"]: line for line in map(json.loads, (tmp_path / "contact.jsonl").read_text().splitlines())}
    assert lines["gather_rows"]["exit"] is None
    assert "first labels" in lines["settle_rows"]["output"]


SHARD = """
import os, time, pytest
def test_passes(): pass
def test_dies(): os._exit(3)
@pytest.mark.skip(reason="not here")
def test_skips(): pass
def test_fails(): assert 1 == 2
def test_passes_again(): pass
def test_hangs(): time.sleep(600)
"""


@pytest.mark.weekly
def test_a_shard_of_tests_goes_on_past_those_that_die_fail_and_hang(tmp_path):
    (tmp_path / "test_shard.py").write_text(SHARD)
    names = [f"test_shard.py::test_{name}" for name in ("passes", "dies", "skips", "fails", "passes_again", "hangs")]
    out = tmp_path / "out.jsonl"
    counts = shards.run_shards(shards.by_file(names, 4), out, time.monotonic() + 60, patience=8.0, root=tmp_path)
    assert counts == {"passed": 2, "died": 1, "skipped": 1, "failed": 1, "hung": 1, "not run": 0}
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["test"] for line in lines] == names
    assert "assert 1 == 2" in lines[3]["said"]
    assert shards.run_shards([names], out, time.monotonic()) == {"not run": 6}


def test_a_files_tests_stay_in_one_shard_unless_they_fill_more():
    assert shards.by_file(["a::1", "b::1", "a::2", "c::1"], 2) == [["a::1", "a::2"], ["b::1", "c::1"]]
    assert shards.by_file(["a::1", "a::2", "a::3", "b::1"], 2) == [["a::1", "a::2"], ["a::3", "b::1"]]
    assert shards.by_file([], 2) == []


def test_the_rounding_of_tensor_cores_is_recorded_beside_their_table(tmp_path, monkeypatch):
    skip_without_compiler()
    out = tmp_path / "rounding.json"
    assert first_contact.main(["rounding", str(out), "--emulated"]) == 0
    assert json.loads(out.read_text())["sums_off_by_model"]["(16, 2)"] == 0
    monkeypatch.setattr(first_contact, "device_of", lambda *_: EmulatorDevice(tensor_cores=TensorCores(4, 0)))
    assert first_contact.main(["rounding", str(out)]) == first_contact.DIFFER
    found = json.loads(out.read_text())
    assert (found["table"], found["measured"]) == ([16, 2], [4, 0])
    assert found["sums_off_by_model"]["(16, 2)"] > 0
