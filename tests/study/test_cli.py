"""The command line: what it prints, writes and returns, and how it ends when something goes wrong."""

from __future__ import annotations

import builtins
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import KMeans

import gpukmeans
from gpukmeans.cli import main
from gpukmeans.datasets import load_digits
from gpukmeans.study import job as _job
from gpukmeans.study import progress as _progress

FAST = ["digits", "--backend", "numpy", "--no-plots"]


def run_json(capsys, *arguments):
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def environment():
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    env.pop("PYTHONUNBUFFERED", None)
    return env


def test_digits_prints_the_report_and_writes_both_pictures(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    assert main(["digits", "--backend", "numpy", "--out", str(tmp_path / "new" / "folder")]) == 0
    text = capsys.readouterr().out
    for what in (
        "Digits: 1,797 images of 8 x 8 pixels (uint8; source: scikit-learn), 10 clusters",
        "numpy backend (asked for)",
        "seconds    data",
        "iteration  median",
        "inertia, squared pixel values",
        "homogeneity",
        "completeness",
        "V-measure",
        "adjusted Rand index",
        "silhouette",
        "accuracy by majority class",
        "cluster     size  digit  share",
    ):
        assert what in text
    written = sorted((tmp_path / "new" / "folder").iterdir())
    assert [path.name for path in written] == [
        "centers.csv",
        "centroids.png",
        "confusion.png",
        "labels.csv",
        "model.npz",
        "report.html",
    ]
    assert all(path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" for path in written if path.suffix == ".png")


def test_json_is_all_there_is_on_stdout_and_agrees_with_a_fit(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run_json(capsys, *FAST, "-k", "7", "--seed", "3")
    X, y = load_digits(return_X_y=True)
    model = gpukmeans.fit(X, 7, random_state=3, backend="numpy")
    assert result["metrics"]["inertia"] == model.inertia_
    assert result["metrics"]["sizes"] == np.bincount(model.labels_).tolist()
    assert result["n_iter"] == model.n_iter_ == len(result["iterations"])
    assert [record["iteration"] for record in result["iterations"]] == list(range(1, model.n_iter_ + 1))
    assert result["backend"] == "numpy"
    assert {"data", "load", "seed", "lloyd", "inertia", "evaluation"} <= set(result["seconds"])
    assert all(value >= 0 for value in result["seconds"].values())
    majority = sum(np.bincount(y[model.labels_ == j]).max() for j in range(7))
    assert result["metrics"]["accuracy"] == majority / 1797
    assert result["files"] == {}
    assert not list(tmp_path.iterdir())


def test_mnist_files_are_clustered_from_a_path(capsys, tmp_path, monkeypatch):
    """A thousand images in Keras' layout; the full set is clustered by the tests of the estimator."""
    X, y = gpukmeans.load_mnist(return_X_y=True)
    path = tmp_path / "part.npz"
    images, digits = X[:1000].reshape(-1, 28, 28), y[:1000].astype(np.uint8)
    np.savez(path, x_train=images[:900], y_train=digits[:900], x_test=images[900:], y_test=digits[900:])

    def load(source):
        return gpukmeans.load_mnist(source, checksum=False)

    monkeypatch.setitem(_job.DATA_SETS, "mnist", _job.DataSet("MNIST", load, 255))
    result = run_json(capsys, "mnist", "--source", str(path), "--backend", "numpy", "--no-plots", "--check")
    assert result["data"] == {
        "name": "MNIST",
        "source": str(path),
        "n_samples": 1000,
        "n_features": 784,
        "image_shape": [28, 28],
        "dtype": "uint8",
        "unit": "pixel values",
        "class_name": "digit",
        "notes": [],
    }
    assert result["check"]["agrees"]


@pytest.mark.parametrize("init", ["k-means++", "random"])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_check_finds_scikit_learns_clustering(capsys, init, dtype):
    check = run_json(capsys, *FAST, "--check", "--dtype", dtype, "--init", init, "--n-init", "1")["check"]
    assert check["agrees"]
    assert check["n_different_labels"] == 0
    assert check["n_iter"][0] == check["n_iter"][1] > 3
    assert check["relative_inertia_difference"] < 1e-12
    assert check["relative_center_difference"] < 1e-12


def test_check_reports_another_clustering_and_the_status_says_so(capsys, monkeypatch):
    fit = KMeans.fit

    def other_fit(self, X, y=None, sample_weight=None):
        fit(self, X)
        self.labels_[:5] = (self.labels_[:5] + 1) % 10
        return self

    monkeypatch.setattr(KMeans, "fit", other_fit)
    assert main([*FAST, "--check"]) == 1
    out, err = capsys.readouterr()
    assert "NOT the same clustering" in out
    assert "5 of 1,797 labels differ" in out
    assert err.splitlines()[-1].startswith("gpukmeans: --check: not scikit-learn's clustering: 5 labels differ")


def test_floats_are_pixels_over_the_largest(capsys):
    pixels = run_json(capsys, *FAST)
    scaled = run_json(capsys, *FAST, "--dtype", "float64")
    assert scaled["data"]["unit"] == "pixel values / 16"
    assert scaled["metrics"]["sizes"] == pixels["metrics"]["sizes"]
    # 1/16 is a power of two, so every rounding is the same one.
    assert scaled["metrics"]["inertia"] == pixels["metrics"]["inertia"] / 256


def test_options_reach_the_fit(capsys):
    result = run_json(
        capsys, *FAST, "--init", "random", "--n-init", "3", "--max-iter", "2", "--tol", "0", "--precision", "fast"
    )
    assert {record["init"] for record in result["iterations"]} == {0, 1, 2}
    assert result["n_iter"] == 2
    assert result["parameters"] == {
        "n_clusters": 10,
        "init": "random",
        "n_init": 3,
        "max_iter": 2,
        "tol": 0.0,
        "random_state": 0,
        "precision": "fast",
        "backend": "numpy",
    }


def test_the_iterations_are_listed_when_asked_for(capsys):
    assert main([*FAST, "--iterations", "--max-iter", "3"]) == 0
    text = capsys.readouterr().out
    assert "stopped by --max-iter after 3 iterations" in text
    header = next(line for line in text.splitlines() if "n_moved" in line)
    assert header.split() == [
        "init", "iteration", "seconds", "n_moved", "n_certified", "n_resolved", "n_exact", "shift",
    ]  # fmt: skip
    rows = text.splitlines()[text.splitlines().index(header) + 1 :][:3]
    assert [row.split()[1] for row in rows] == ["1", "2", "3"]


def test_many_clusters_are_summed_up(capsys):
    assert main([*FAST, "-k", "60"]) == 0
    assert "60 clusters of " in capsys.readouterr().out


def test_quiet_says_nothing(capsys):
    assert main([*FAST, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_quiet_json_says_only_the_object(capsys):
    assert main([*FAST, "--quiet", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["command"] == "digits"
    assert err == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits", "-k", "0"], "'0' should be a whole number, at least 1"),
        (["digits", "-k", "ten"], "'ten' should be a whole number, at least 1"),
        (["digits", "--tol", "-1"], "'-1' should be a finite number, at least 0"),
        (["digits", "--tol", "nan"], "'nan' should be a finite number, at least 0"),
        (["digits", "--seed", "4294967296"], "'4294967296' should be a whole number from 0 to 4294967295"),
        (["digits", "--n-init", "many"], "'many' should be a whole number, at least 1, or 'auto'"),
        (["digits", "--backend", "tpu"], "invalid choice: 'tpu'"),
        (["digits", "--source", "openml"], "unrecognized arguments: --source openml"),
        (["cluster"], "invalid choice: 'cluster'"),
        ([], "the following arguments are required"),
        ([*FAST, "-k", "1798"], "n_samples=1797 should be >= n_clusters=1798"),
        (["mnist", "--source", "kears", "--no-plots"], "source='kears' should be 'bundled', 'keras', 'openml'"),
        (["mnist", "--source", "./nowhere.npz", "--no-plots"], "nowhere.npz: no such file or folder"),
    ],
)
def test_errors_are_one_line_and_status_2(capsys, arguments, message):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("gpukmeans")
    assert "Traceback" not in err


def test_a_backend_that_cannot_run_here_is_an_error(capsys, monkeypatch):
    backends = pytest.importorskip("gpukmeans.backends")

    def unavailable(name="auto", device=None, *, sparse=False):
        raise backends.BackendUnavailable("no GPU;\nuse another backend")

    monkeypatch.setattr("gpukmeans.intake.given.get_backend", unavailable)
    assert main(["digits", "--no-plots", "--backend", "cupy"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "gpukmeans: error: no GPU; use another backend"


def test_an_output_folder_that_is_a_file_is_found_before_the_work(capsys, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    (tmp_path / "taken").write_text("")
    monkeypatch.setattr(_job, "run_job", lambda *_: pytest.fail("the work was begun"))
    for out in ("taken", "taken/below"):
        assert main(["digits", "--out", str(tmp_path / out)]) == 2
        assert "is a file, not a folder" in capsys.readouterr().err


def test_missing_matplotlib_is_found_before_the_work(capsys, monkeypatch, tmp_path):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError("No module named 'matplotlib'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(_job, "run_job", lambda *_: pytest.fail("the work was begun"))
    assert main(["digits", "--out", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert 'pip install "gpukmeans[plots]", or leave them out with --no-plots' in err
    monkeypatch.undo()
    monkeypatch.setattr(builtins, "__import__", without)
    assert main([*FAST, "--quiet"]) == 0


def test_warnings_are_one_line_each(capsys, monkeypatch):
    def load(source):
        data = load_digits()
        data.data[:] = data.data[0]
        return data

    monkeypatch.setitem(_job.DATA_SETS, "digits", _job.DataSet("Digits", load, 16))
    assert main(FAST) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert warnings[0].startswith("gpukmeans: warning: Number of distinct clusters (1) found smaller than n_clusters")


def test_info_explains_the_backends(capsys):
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    assert f"gpukmeans {gpukmeans.__version__}" in text
    assert f"numpy         {np.__version__}" in text
    assert "auto   chooses " in text
    assert main(["info", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["backends"]["numpy"]["usable"] is True
    assert found["backends"]["auto"]["chosen"] in ("numpy", "cupy")
    assert found["cpu_threads"] >= 1


def test_version_and_help_end_well(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"gpukmeans {gpukmeans.__version__}\n"
    assert main(["mnist", "--help"]) == 0
    assert "--check" in capsys.readouterr().out


def test_python_m_runs_in_a_bare_checkout(tmp_path):
    checkout = Path(gpukmeans.__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": str(checkout)}
    command = [sys.executable, "-m", "gpukmeans", "info"]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "chooses" in done.stdout


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_ctrl_c_ends_in_one_line_and_leaves_nothing(tmp_path):
    command = [sys.executable, "-m", "gpukmeans", "digits", "--backend", "numpy", "--n-init", "100000"]
    with subprocess.Popen(
        command,
        env=environment(),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where tests run in the background
    ) as process:
        told = []
        for line in process.stderr:  # until the iterations run
            told.append(line)
            if line.startswith(("iteration", "run")):
                process.send_signal(signal.SIGINT)
                break
        out, rest = process.communicate(timeout=60)
    assert process.returncode == 130, [*told, rest]
    assert out == ""
    after = [line for line in rest.splitlines() if not line.startswith(("iteration", "run"))]
    assert after == ["gpukmeans: interrupted"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.one_in(2)
@pytest.mark.skipif(os.name != "posix", reason="closes a pipe's reading end")
@pytest.mark.parametrize("arguments", [[*FAST, "--quiet", "--json"], ["info"], ["--help"], ["--version"]])
def test_a_reader_that_went_away_is_no_traceback(tmp_path, arguments):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "gpukmeans", *arguments]
    try:
        done = subprocess.run(
            command, env=environment(), cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, timeout=120, check=False
        )
    finally:
        os.close(writing)
    assert done.stderr == b""
    assert done.returncode == 2


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Info:
    def __init__(self, iteration, n_moved, init=0):
        self.iteration, self.n_moved, self.init, self.seconds = iteration, n_moved, init, 0.25


def test_on_a_terminal_one_line_is_redrawn_and_removed(monkeypatch):
    terminal = Terminal()
    progress = _progress.Progress(terminal)
    progress.n_samples, progress.max_iter = 1000, 12_002
    monkeypatch.setattr(_progress, "_REDRAW_SECONDS", 0)
    progress.iteration(Info(1, 1000))
    progress.iteration(Info(2, 31))
    progress.iteration(Info(3, 0, init=4))
    lines = terminal.getvalue().split("\r\x1b[K")[1:]
    assert lines == [
        "[........................] iteration 1: 1,000 rows moved (100.0%), 0.250 s, 4,000 rows/s, 50 min at most",
        "[############............] iteration 2: 31 rows moved (3.1%), 0.250 s, 4,000 rows/s, 50 min at most",
        "[########################] run 5, iteration 3: 0 rows moved (0.0%), 0.250 s, 4,000 rows/s, 50 min at most",
    ]
    progress.clear()
    progress.clear()
    assert terminal.getvalue().endswith("at most\r\x1b[K")
    assert "\n" not in terminal.getvalue()


def test_on_a_terminal_fast_iterations_are_not_all_drawn(monkeypatch):
    terminal = Terminal()
    progress = _progress.Progress(terminal)
    now = iter([0.0, 0.01, 0.04, 0.06])
    monkeypatch.setattr(_progress.time, "monotonic", lambda: next(now))
    for iteration in range(1, 5):
        progress.iteration(Info(iteration, 1))
    drawn = [part for part in (1, 2, 3, 4) if f"iteration {part}:" in terminal.getvalue()]
    assert drawn == [1, 4]


def test_in_a_log_every_tenth_iteration_is_a_line():
    log = io.StringIO()
    progress = _progress.Progress(log)
    progress.n_samples = 100
    progress.stage("loading")
    for iteration in range(1, 26):
        progress.iteration(Info(iteration, 1))
    progress.clear()
    assert [line.split(":")[0] for line in log.getvalue().splitlines()] == ["loading", "iteration 10", "iteration 20"]
