"""`gpukmeans fit --checkpoint` and `gpukmeans resume`: the file alone is enough to go on."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gpukmeans
from gpukmeans.cli import main
from gpukmeans.scale.checkpoints import Checkpoint
from gpukmeans.study.progress import Progress


@pytest.fixture
def stopped(monkeypatch):
    """Stop fits by Ctrl-C in their eighth iteration, until it is undone."""
    show = Progress.iteration

    def stop(self, record):
        if record.iteration == 8:
            raise KeyboardInterrupt
        show(self, record)

    monkeypatch.setattr(Progress, "iteration", stop)
    return monkeypatch


@pytest.mark.parametrize("limit", [[], ["--memory-limit", "1GB"]], ids=["in memory", "streamed"])
def test_an_interrupted_fit_goes_on_in_another_folder(limit, stopped, tmp_path, capsys):
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).standard_normal((900, 4)))
    stopped.chdir(tmp_path)
    command = ["fit", "rows.npy", "-k", "4", "--no-plots", "--tol", "0", "--quiet", "--backend", "numpy", *limit]
    kept = [*command, "-o", "out", "--checkpoint", "run.ckpt"]
    assert main(kept) == 130
    assert main(kept) == 2
    assert "a fit that has not ended" in capsys.readouterr().err
    stopped.undo()
    assert main(["resume", str(tmp_path / "run.ckpt"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["n_iter"] > 8
    assert main(["fit", str(tmp_path / "rows.npy"), *command[2:], "-o", str(tmp_path / "whole")]) == 0
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert names == {path.name for path in (tmp_path / "out").iterdir()}
    for name in names - {"model.npz", "report.html"}:  # which count how rows were settled, and seconds
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    models = [gpukmeans.load_model(tmp_path / folder / "model.npz") for folder in ("out", "whole")]
    assert models[0].inertia_ == models[1].inertia_
    assert np.array_equal(models[0].cluster_centers_, models[1].cluster_centers_)


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT to a process")
def test_ctrl_c_leaves_a_checkpoint_and_one_line(tmp_path):
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).standard_normal((20_000, 8)))
    command = [sys.executable, "-m", "gpukmeans", "fit", "rows.npy", "-k", "40", "--tol", "0", "--max-iter", "9999"]
    command += ["--backend", "numpy", "--init", "random", "--memory-limit", "1GB", "--checkpoint", "run.ckpt"]
    heed = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    with subprocess.Popen([sys.executable, "-c", heed, *command], cwd=tmp_path, env=env, stderr=subprocess.PIPE) as fit:
        while not fit.stderr.readline().startswith(b"iteration 5"):
            pass
        fit.send_signal(signal.SIGINT)
        told = [line for line in fit.stderr.read().splitlines() if not line.startswith(b"iteration")]
    assert fit.returncode == 130
    assert told == [b"gpukmeans: interrupted"]
    assert sorted(os.listdir(tmp_path)) == ["rows.npy", "run.ckpt"]
    assert len(Checkpoint.read(tmp_path / "run.ckpt").resumed["iterations"]["n_moved"]) >= 5


def test_what_cannot_go_on_is_one_line(tmp_path, capsys):
    X = np.random.default_rng(0).standard_normal((90, 4))
    np.save(tmp_path / "rows.npy", X)
    with gpukmeans.checkpoint(tmp_path / "python.ckpt"):
        gpukmeans.fit(X, 2)
    for command, why in (
        (["resume", str(tmp_path / "python.ckpt")], "kept from Python, so that it knows no path of its rows"),
        (["resume", str(tmp_path / "rows.npy")], "a single array, not an npz file"),
        (["resume", str(tmp_path / "none")], "No such file"),
        (
            ["fit", str(tmp_path / "rows.npy"), "--seeds", "3", "--no-plots", "--checkpoint", str(tmp_path / "c")],
            "--checkpoint keeps one fit, and --seeds makes several",
        ),
        (
            ["fit", str(tmp_path / "rows.npy"), "--no-plots", "--checkpoint", str(tmp_path / "rows.npy")],
            "is there and no checkpoint",
        ),
    ):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert why in said
        assert len([line for line in said.splitlines() if line.startswith("gpukmeans: error")]) == 1


def test_a_fit_on_a_cluster_goes_on_there_and_here(tmp_path, capsys, monkeypatch):
    """Workers, processes in another folder, read ranges of an npy file and walk a table."""
    distributed = pytest.importorskip("distributed", reason="Dask is not installed: pip install 'gpukmeans[dask]'")
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    X = rng.integers(0, 9, (900, 4)) + rng.standard_normal((900, 4)).round(3)
    np.save("rows.npy", X)
    np.savetxt("rows.csv", X, delimiter=",", header="a,b,c,d", comments="")
    command = ["-k", "4", "--tol", "0", "--quiet", "--backend", "numpy"]
    assert main(["fit", "rows.npy", *command, "--memory-limit", "1GB", "-o", "want"]) == 0

    def same(folder):
        return all(Path(folder, n).read_bytes() == Path("want", n).read_bytes() for n in ("labels.npy", "centers.csv"))

    def stop(self, record):
        if record.iteration == 4:
            raise KeyboardInterrupt

    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster:
        there = ["--scheduler", cluster.scheduler_address]
        with monkeypatch.context() as patch:
            patch.setattr(Progress, "iteration", stop)
            assert main(["fit", "rows.npy", *command, *there, "-o", "out", "--checkpoint", "run.ckpt"]) == 130
        shutil.copy("run.ckpt", "here.ckpt")
        assert main(["resume", "run.ckpt", "--quiet"]) == 0
        assert same("out")
        assert main(["fit", "rows.csv", *command, *there, "-o", "table"]) == 0
        assert np.array_equal(np.load("table/labels.npy"), np.load("want/labels.npy"))
        too_little = ["--memory-limit", "9MB", *there]
        assert main(["fit", "rows.npy", *command, *too_little, "-o", "none"]) == 2
        assert "are needed in each, or more workers" in capsys.readouterr().err
        with monkeypatch.context() as patch:
            patch.setattr(Progress, "stage", lambda self, text: "clustering" in text and os.rename("rows.npy", "moved"))
            assert main(["fit", "rows.npy", *command, *there, "-o", "none"]) == 2
        os.rename("moved", "rows.npy")
        assert re.search("a worker on .* cannot read .*rows.npy .* that all of them see", capsys.readouterr().err)
    shutil.rmtree("out")
    monkeypatch.setattr("gpukmeans.study.cluster.PATIENCE", 1)
    for address in (there[1], "nonsense"):
        assert main(["resume", "here.ckpt", "--quiet", "--scheduler", address]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"gpukmeans: error: --scheduler {address}: ")
        assert len(said.splitlines()) == 1
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "distributed", None)
        assert main(["resume", "here.ckpt", "--quiet"]) == 2
        assert "pip install 'gpukmeans[dask]'" in capsys.readouterr().err
    assert main(["resume", "here.ckpt", "--quiet", "--scheduler", "none"]) == 0
    assert same("out")
