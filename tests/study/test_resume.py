"""`gpukmeans fit --checkpoint` and `gpukmeans resume`: the file alone is enough to go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

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
