"""Ctrl-C ends a fit wherever it computes: a checkpoint stays, no task and no file, and workers take the next fit."""

from __future__ import annotations

import gc
import os
import signal
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest

import gpukmeans
from gpukmeans import KMeans, __main__, distributed, open_rows
from gpukmeans.scale.checkpoints import Checkpoint
from gpukmeans.writing import whole_file
from tests.support.assertions import assert_same

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends SIGINT to this process")

X = np.random.default_rng(7).standard_normal((1000, 4))
CUT = np.split(X, [1, 700, 900])
PARAMS = {"n_init": 2, "init": "random", "random_state": 2, "tol": 0, "backend": "numpy"}


@pytest.fixture(autouse=True)
def interruptible():
    """Processes that run tests may ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt(record):
    """A `progress` that has the signal come a moment later, while the fit waits for its workers."""
    if (record.init, record.iteration) == (0, 3):
        threading.Timer(0.001, os.kill, (os.getpid(), signal.SIGINT)).start()


def interrupted(path, fit, resume):
    """`fit`, interrupted; and what it ends in where it goes on from its checkpoint, if it is to keep one."""
    with pytest.raises(KeyboardInterrupt):
        fit(progress=interrupt, **PARAMS)
    with pytest.raises(KeyboardInterrupt), gpukmeans.checkpoint(path, every=10**6):
        fit(progress=interrupt, **PARAMS)
    assert len(Checkpoint.read(path).resumed["iterations"]["n_moved"]) >= 2
    return resume(path)


@pytest.fixture(scope="module")
def want():
    return KMeans(9, **PARAMS).fit(X)


def test_streams(want, tmp_path):
    np.save(tmp_path / "X.npy", X)
    for rows in (open_rows(tmp_path / "X.npy"), open_rows(lambda a, b: X[a:b], n_samples=1000)):
        got = interrupted(
            tmp_path / "run.ckpt",
            lambda rows=rows, **params: KMeans(9, **params).fit(rows),
            lambda path, rows=rows: gpukmeans.resume(path, rows),
        )
        assert_same(got, want)
    assert sorted(os.listdir(tmp_path)) == ["X.npy", "run.ckpt"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("gpukmeans-read")]


@pytest.mark.parametrize("kind", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_executors(kind, want, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with kind(2) as executor:
        got = interrupted(
            tmp_path / "run.ckpt",
            lambda **params: distributed.fit(CUT, 9, executor=executor, **params),
            lambda path: distributed.resume(path, [X[:650], X[650:]], executor=executor),
        )
        assert_same(got, want)
        gc.collect()
    assert os.listdir(tmp_path) == ["run.ckpt"]  # arrays for other processes are removed


def test_dask(want, tmp_path):
    engine = pytest.importorskip("distributed", reason="pip install 'gpukmeans[dask]'")
    import dask.array as da

    options = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "dashboard_address": None}
    with engine.LocalCluster(**options) as cluster, engine.Client(cluster) as client:
        rows = da.from_array(X, chunks=(600, 4))
        got = interrupted(
            tmp_path / "run.ckpt",
            lambda **params: KMeans(9, **params).fit(rows),
            lambda path: gpukmeans.resume(path, rows),
        )
        got.labels_ = got.labels_.compute()
        assert_same(got, want)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and (any(client.processing().values()) or any(client.has_what().values())):
            gc.collect()
            time.sleep(0.01)
        assert not any(client.processing().values())
        assert not any(client.has_what().values())


def test_ctrl_c_on_the_command_line_leaves_no_part_of_a_file(tmp_path):
    signal.signal(signal.SIGINT, __main__._interrupted)
    path = tmp_path / "model.npz"
    with pytest.raises(KeyboardInterrupt), whole_file(path) as file:  # noqa: PT012 -- the signal comes within
        file.write(b"half")
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    assert os.listdir(tmp_path) == []
