"""The benchmarks' own arithmetic, tables and graceful failure; nothing is timed here."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import batch, gpu_check, results, roofline, table
from bench.quality import judge
from bench.systems import Outcome
from bench.workloads import WORKLOADS, Problem, first_rows
from tests.support.bench_documents import document, entry

ROOT = Path(__file__).resolve().parents[2]

README = (
    "# x\n<!-- bench:cpu -->\nold\n<!-- /bench:cpu -->\nbetween\n<!-- bench:gpu -->\n<!-- /bench:gpu -->\n"
    "<!-- bench:ties -->\n<!-- /bench:ties -->\n<!-- bench:starts -->\n<!-- /bench:starts -->\n"
    "<!-- bench:twice -->\n<!-- /bench:twice -->\n"
    "<!-- bench:mutations -->\n<!-- /bench:mutations -->\nend\n"
)


CPU = [
    entry("mnist-k10", "gpukmeans numpy", [1.0, 2.0, 1.0], ours=True),
    entry("mnist-k10", "gpukmeans numpy fast", [0.5, 1.0, 0.5], ours=True),
    entry("mnist-k10", "scikit-learn elkan", [3.0, 4.0, 5.0], wrong_labels=7, n_iter=63, inertia=101.0),
    entry("mnist-k10", "faiss-cpu", [9.0, 9.0, 9.0]),
]


def test_ratios_are_taken_within_rounds():
    ratio = results.paired_ratio([1.0, 2.0, 1.0], [3.0, 4.0, 5.0])
    assert ratio == results.Ratio(3.0, 2.0, 5.0, 3)
    assert results.paired_ratio([1.0, 2.0], [3.0]).n_rounds == 1
    with pytest.raises(ValueError, match="No round"):
        results.paired_ratio([], [1.0])


def test_statistics_are_those_of_pytest_benchmark():
    stats = pytest.importorskip("pytest_benchmark.stats")
    data = [1.0, 2.0, 2.5, 3.0, 30.0]
    theirs = stats.Stats()
    for seconds in data:
        theirs.update(seconds)
    ours = results.stats(data)
    assert ours["data"] == data
    for name in ("min", "max", "mean", "stddev", "rounds", "median", "total", "outliers", "ld15iqr", "hd15iqr"):
        assert ours[name] == pytest.approx(getattr(theirs, name)), name


def test_wrong_labels_are_counted_and_ties_are_not():
    X = np.array([[0.0], [0.4], [0.5], [1.0]])
    centers = np.array([[0.0], [1.0]])
    assert judge(X, Outcome(np.array([0, 0, 1, 1]), centers)).wrong_labels == 0  # 0.5 is as near to either
    verdict = judge(X, Outcome(np.array([1, 0, 0, 0]), centers))
    assert verdict.wrong_labels == 2
    assert verdict.inertia == pytest.approx(0.16 + 0.25)
    assert judge(X, Outcome(np.array([0, 0, 0, 0]), centers * np.nan)) is None
    assert judge(X, Outcome(np.zeros(4, int), centers), work_at_most=4).rows == 2
    with pytest.raises(ValueError, match="2 centers"):
        judge(X, Outcome(np.array([0, 0, 0, 2]), centers))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "README.md").write_text(README)
    return tmp_path


def write(folder, name, content):
    results.write_json(folder / "results" / name, content)
    return ["--readme", str(folder / "README.md"), "--results", str(folder / "results")]


def test_the_table_is_written_checked_and_stable(folder):
    options = write(folder, "x.json", document("cpu", CPU))
    assert table.main([*options, "--check"]) == 1
    assert table.main(options) == 0
    text = (folder / "README.md").read_text()
    assert table.main([*options, "--check"]) == 0
    table.main(options)
    assert (folder / "README.md").read_text() == text
    row = next(line for line in text.splitlines() if line.startswith("| the work mnist-k10"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:] == [
        "1 s",
        "scikit-learn elkan, 4 s",
        "**3.00x** (2.00 to 5.00)",
        "53 / 63",
        "0 / 7",
        "+1.0e-02",
        "2.00x",
    ]
    for said in ("A Processor, 2 cores", "numpy 2.4.6", "openblas 0.3 on 2 threads", "0123456789ab", "bench.run cpu"):
        assert said in text
    assert "No run on a GPU has been recorded yet" in text
    assert "old" not in text
    assert text.startswith("# x\n<!-- bench:cpu -->\n")
    assert text.endswith("end\n")
    edited = text.replace("3.00x", "4.00x")
    (folder / "README.md").write_text(edited)
    assert table.main([*options, "--check"]) == 1


def test_the_newest_run_of_each_workload_counts(folder):
    later = [entry("mnist-k10", "gpukmeans numpy", [0.25], ours=True)]
    write(folder, "a.json", document("cpu", later, when="2026-02-02T00:00:00+00:00"))
    digits = entry("digits-k10", "gpukmeans numpy", [0.1], ours=True)
    options = write(folder, "b.json", document("cpu", [*CPU, digits]))
    table.main(options)
    text = (folder / "README.md").read_text()
    assert "| the work mnist-k10 | 250 ms | none ran |" in text
    assert "| the work digits-k10 | 100 ms |" in text
    assert text.count("A Processor") == 1  # one note a machine, with the commands of both runs
    for name in ("a", "b"):
        assert f"(every run: `bench/results/{name}.json`)" in text


def test_every_machine_has_a_note_of_its_own(folder):
    fit = entry("mnist-k10", "gpukmeans numpy", [0.25], ours=True)
    other = document("cpu", [fit], when="2026-02-02T00:00:00+00:00")
    other["machine_info"]["cpu"] = {"brand_raw": "Another Processor"}
    write(folder, "a.json", other)
    options = write(folder, "b.json", document("cpu", [entry("digits-k10", "gpukmeans numpy", [0.1], ours=True)]))
    table.main(options)
    text = (folder / "README.md").read_text()
    assert "| the work mnist-k10 [1] | 250 ms |" in text
    assert "| the work digits-k10 [2] | 100 ms |" in text
    assert "[1] Another Processor, 2 cores" in text
    assert "[2] A Processor, 2 cores" in text


def test_a_gpu_run_fills_the_gpu_table_only(folder):
    fits = [
        entry("mnist-k10", "gpukmeans cupy", [0.002], ours=True),
        entry("mnist-k10", "flashlib", [0.01], n_iter=None),
    ]
    table.main(write(folder, "g.json", document("gpu", fits)))
    text = (folder / "README.md").read_text()
    assert "A GPU (driver 1.2) beside A Processor" in text
    assert "| 2 ms | flashlib, 10 ms | **5.00x** (5.00 to 5.00) | 53 / - |" in text
    assert "No run on a CPU has been recorded yet" in text


def test_missing_markers_are_an_error(folder):
    options = write(folder, "x.json", document("cpu", CPU))
    (folder / "README.md").write_text("nothing here")
    with pytest.raises(SystemExit):
        table.main(options)


def test_plain_torch_and_permuted_starts_agree_with_ours(monkeypatch):
    pytest.importorskip("torch")
    from bench import gpu_peers

    monkeypatch.setattr(gpu_peers, "DEVICE", "cpu")
    X = WORKLOADS["digits-k10"].make().astype(np.float32)
    small = replace(WORKLOADS["mnist-k10"], shape=X.shape)
    problem = Problem(small, X, [first_rows(X, 10)])
    iterations = problem.fixed_iterations()[0]
    for system in gpu_peers.GPU_PEERS:
        if system.name in ("torch GEMM + argmin", "fastkmeans") and system.unavailable() is None:
            outcome = system.run(problem)
            assert judge(X, outcome).wrong_labels == 0
            assert outcome.n_iter in (None, iterations)


def test_without_a_gpu_the_check_says_so_and_reports_the_environment(tmp_path):
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, "-m", "bench.gpu_check", "--out", str(tmp_path), "--minutes", "2"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=170)
    assert done.returncode == gpu_check.NO_GPU, done.stdout + done.stderr
    assert "no usable GPU" in done.stdout.strip().splitlines()[-1]
    report = json.loads((tmp_path / "environment.json").read_text())
    assert report["usable"] is False
    assert report["reason"].startswith("no usable GPU")
    assert report["machine_info"]["versions"]["numpy"] == np.__version__
    assert set(report["systems"]) >= {"gpukmeans cupy", "flashlib", "torch GEMM + argmin"}
    assert {path.name for path in tmp_path.iterdir()} == {"environment.json", "summary.json", "log.txt"}


def test_steps_that_fail_or_hang_do_not_stop_the_check(tmp_path):
    check = gpu_check.Check(tmp_path, 1)
    found = check.step("broken", lambda seconds: {}["missing"], 5)
    assert not found["ok"]
    assert "KeyError" in found["said"]
    assert check.command([sys.executable, "-c", "import time; time.sleep(60)"], 1.5)[0] is None
    assert check.command([sys.executable, "-c", "import sys; print('hi'); sys.exit(4)"], 30) == (4, "hi\n")
    assert check.command(["no-such-tool"], 5)[0] == 127
    assert set(json.loads((tmp_path / "summary.json").read_text())["steps"]) == {"broken"}


def test_the_counts_beside_the_kernels_are_those_of_the_kernels():
    text = (ROOT / "kernels" / "README.md").read_text()
    assert roofline.write_table(text) == text, "run `python -m bench.roofline`"
    few = roofline.assignment(WORKLOADS["mnist-k10"])
    assert (few.kernel, few.row_bytes) == ("nearest_of_few", 70_000 * 784 * 4)
    assert few.operations == 2 * 70_000 * 16 * 784  # 16 centers of which 10 are real
    many = roofline.assignment(WORKLOADS["mnist-k1000"])
    assert (many.kernel, many.operations) == ("nearest_of_many", 2 * 70_000 * 1000 * 784)


# ---- many problems in one call -------------------------------------------------------------------------------


def test_a_batch_is_timed_beside_single_fits(tmp_path, capsys):
    out = tmp_path / "batch.json"
    assert batch.main(["--out", str(out), "--backend", "numpy", "--work", "tiny", "--seconds", "0"]) == 0
    found = json.loads(out.read_text())["work"]["tiny"]
    assert found["same_bits"]
    assert set(found["seconds"]) >= {"gpukmeans fit_many", "gpukmeans one by one"}
    assert all(seconds > 0 for seconds in found["seconds"]["gpukmeans fit_many"])
    assert "in the loop's bits" in capsys.readouterr().out


def test_a_batch_in_other_bits_is_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(batch, "_same", lambda one, other: False)
    arguments = ["--out", str(tmp_path / "batch.json"), "--backend", "numpy", "--work", "tiny", "--seconds", "0"]
    assert batch.main(arguments) == 1
    assert "DOES NOT END" in capsys.readouterr().out


def test_every_step_of_the_check_has_a_share_of_the_time():
    assert sum(gpu_check.SHARES.values()) == pytest.approx(1)
    assert all(callable(getattr(gpu_check.Check, name)) for name in gpu_check.SHARES)
