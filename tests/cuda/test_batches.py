"""Batches that are copied while the device is busy: each arrives whole, and no verb comes out of turn."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from gpukmeans import KMeans
from gpukmeans.backends.cuda.backend import CupyBackend
from gpukmeans.backends.cuda.device.seam import DeviceMemoryError
from gpukmeans.backends.cuda.device.stage import PinnedMemoryError
from gpukmeans.engine.batch_steps import Draws
from gpukmeans.exact.sums import Grid
from tests.emulator import EmulatorDevice
from tests.emulator.device import Stage
from tests.emulator.testing import skip_without_compiler


@pytest.fixture(autouse=True)
def _compiler():
    skip_without_compiler()


def rows(n=90, d=4):
    return np.random.default_rng(0).standard_normal((n, d)).astype(np.float32)


def feed(X, batch_size=20, **options):
    return CupyBackend(EmulatorDevice(**options)).feed(X, batch_size)


def test_batches_arrive_in_turn_while_the_next_is_on_its_way():
    X = rows()
    draws = Draws(np.random.RandomState(0), np.ones(len(X)), 20)
    with feed(X) as batches:
        assert batches.ahead
        sent = draws()
        batches.send(sent)
        for step in range(6):
            got = batches.receive()
            current, sent = sent, draws()
            batches.send(sent)
            if step % 2:  # taken back, and others sent in its place
                batches.drop()
                sent = draws()[: 20 - step]
                batches.send(sent)
            assert np.array_equal(got.take(np.arange(len(current))), X[current])
            assert np.array_equal(got.grid.scale, Grid.for_rows(X[current]).scale)
        other = batches.some(np.array([3, 3, 1]), np.ones(3))
        assert np.array_equal(other.take(np.arange(3)), X[[3, 3, 1]])
        assert other.grid is None


def test_rows_of_a_batch_end_with_the_next():
    """The stand-in fills what has been released with NaN: a use after its time cannot go unseen."""
    X = rows()
    with feed(X) as batches:
        batches.send(np.arange(20))
        first = batches.receive()
        batches.send(np.arange(20, 40))
        batches.receive()
        assert np.isnan(first.take(np.arange(20))).all()


def test_verbs_out_of_turn_are_caught():
    stage = EmulatorDevice().stage((2, 2), np.float32)
    with pytest.raises(AssertionError, match="nothing has been sent"):
        stage.receive()
    with pytest.raises(AssertionError, match="nothing has been received"):
        stage.release()
    stage.host()[:] = 1
    stage.send()
    stage.receive()
    stage.host()[:] = 2
    with pytest.raises(AssertionError, match="release comes first"):
        stage.send()


def test_an_error_of_the_gathering_thread_is_the_callers():
    X = rows()
    with feed(X) as batches:
        batches.send(np.arange(21))  # more than a batch has room for
        with pytest.raises(ValueError, match="output array"):
            batches.receive()


def test_no_room_for_two_batches_is_explained():
    with pytest.raises(DeviceMemoryError, match="two batches"):
        feed(rows(), 50, memory_limit=1000)


def test_rows_on_the_device_are_gathered_there():
    from gpukmeans.arrays.on_device import on_device

    X = rows()
    device = EmulatorDevice()
    given = on_device(device.upload(X))
    assert given is not None
    with CupyBackend(device).feed(given, 20) as batches:
        assert not batches.ahead
        batches.send(np.array([5, 5, 80]))
        assert np.array_equal(batches.receive().take(np.arange(3)), X[[5, 5, 80]])
        assert np.array_equal(batches.some(np.array([1])).take(np.arange(1)), X[[1]])
        batches.send(np.array([7]))
        batches.drop()
        batches.send(np.array([8]))
        assert np.array_equal(batches.receive().take(np.arange(1)), X[[8]])


@pytest.mark.parametrize("locked", [True, False], ids=["page-locked", "no page-locked memory"])
def test_blocks_travel_while_the_one_before_is_worked_on(monkeypatch, locked):
    """The second is on its way before the first is done with, and the third, whose stage is in use, is not."""
    events, begun, send, release = [], threading.Semaphore(0), Stage.send, Stage.release

    def note(name, verb):
        def noted(stage):
            verb(stage)
            events.append(name)
            begun.release()

        return noted

    def none(*_):
        raise PinnedMemoryError("the host has none")

    monkeypatch.setattr(Stage, "send", note("send", send))
    monkeypatch.setattr(Stage, "release", note("release", release))
    if not locked:
        monkeypatch.setattr(EmulatorDevice, "stage", none)
    X = rows(70)
    cut = [slice(start, min(70, start + 20)) for start in range(0, 70, 20)]
    for part, x, loaded in CupyBackend(EmulatorDevice()).load_in_turn(((part, X[part]) for part in cut), 20):
        if part == cut[0] and locked:
            assert begun.acquire(timeout=60)
            assert begun.acquire(timeout=60)
            assert events == ["send", "send"]
        every = np.arange(len(x))
        assert np.array_equal(loaded.take(every), X[part])
        run = loaded.start(X[:3])
        run.assign(move=False)
        assert np.array_equal(run.labels(), KMeans(3, init=X[:3], n_init=1, backend="numpy").fit(X[:3]).predict(x))
        events.append("labels")
    if locked:
        assert events.count("send") == events.count("release") == events.count("labels") == 4
