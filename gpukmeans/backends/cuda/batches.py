"""Mini-batches and blocks of rows for the device: gathered on it, or copied from the host while the device computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64, I64
from gpukmeans.backends.cuda.device.seam import Device, explained_memory_errors
from gpukmeans.backends.cuda.device.stage import PinnedMemoryError, Stage
from gpukmeans.backends.protocol import Rows


class HostFeed:
    """Batches of rows in the host's memory, or in a memory-mapped file; the device holds two batches at most.

    A separate thread gathers a batch into page-locked memory and starts its copy, while the device works on the batch
    before.

    Parameters
    ----------
    device : Device
    X : ndarray of shape (n_samples, n_features)
    batch_size : int
    rows_of : callable
        The rows of a batch that is on the device.
    load : callable
        `Backend.load` for dense rows.
    """

    ahead = True

    def __init__(
        self,
        device: Device,
        X: NDArray,
        batch_size: int,
        rows_of: Callable[[Any], Rows],
        load: Callable[..., Rows],
    ) -> None:
        shape = (batch_size, X.shape[1])
        with explained_memory_errors(device, "two batches", 2 * batch_size * X.shape[1] * X.itemsize):
            self._free = [device.stage(shape, X.dtype) for _ in range(2)]
        self._X, self._rows_of, self._load = X, rows_of, load
        self._sent: list[tuple[Stage, int, Future[None]]] = []
        self._current: Stage | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gpukmeans-feed")

    def __enter__(self) -> HostFeed:
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.shutdown()  # waits for the last gather, which writes to a stage's memory

    def send(self, indices: I64) -> None:
        stage = self._free.pop()
        self._sent.append((stage, len(indices), self._thread.submit(self._fill, stage, indices)))

    def _fill(self, stage: Stage, indices: I64) -> None:
        np.take(self._X, indices, axis=0, out=stage.host()[: len(indices)], mode="clip")  # the other modes copy twice
        stage.send()

    def receive(self) -> Rows:
        if self._current is not None:
            self._current.release()
            self._free.append(self._current)
        self._current, count, filled = self._sent.pop(0)
        filled.result()
        return self._rows_of(self._current.receive()[:count])

    def drop(self) -> None:
        for stage, _, filled in self._sent:
            filled.result()
            self._free.append(stage)
        self._sent.clear()

    def some(self, indices: I64, sample_weight: F64 | None = None) -> Rows:
        return self._load(self._X[indices], sample_weight, sums=False)


def in_turn(
    device: Device,
    blocks: Iterable[tuple[slice, Any]],
    most: int,
    rows_of: Callable[[Any, NDArray], Rows],
    load: Callable[[Any], Rows],
) -> Iterator[tuple[slice, Any, Rows]]:
    """Blocks on the device, one after the other: the next is read and copied while the caller works on one.

    Parameters
    ----------
    device : Device
    blocks : iterable of (slice, ndarray or CSR)
        Of one width and dtype.
    most : int
        Rows of a block, at most.
    rows_of : callable
        The rows of a dense block that is on the device; they are used no more when the next is asked for.
    load : callable
        Of a block that is not dense, or where the host has no page-locked memory.
    """
    coming = iter(blocks)
    first = next(coming, None)
    stages: list[Stage] = []
    if first is not None and isinstance(first[1], np.ndarray):
        shape, dtype = (most, first[1].shape[1]), first[1].dtype
        with suppress(PinnedMemoryError), explained_memory_errors(device, "two blocks", 2 * most * first[1][:1].nbytes):
            stages = [device.stage(shape, dtype) for _ in range(2)]
    if len(stages) < 2:
        for part, X in () if first is None else chain([first], coming):
            yield part, X, load(X)
        return

    def send(stage: Stage, block: tuple[slice, Any] | None = None) -> tuple[slice, Any] | None:
        block = block or next(coming, None)
        if block is not None:
            stage.host()[: len(block[1])] = block[1]
            stage.send()
        return block

    with ThreadPoolExecutor(1, thread_name_prefix="gpukmeans-blocks") as thread:
        sent = thread.submit(send, stages[0], first)
        while (block := sent.result()) is not None:
            here, other = stages
            sent = thread.submit(send, other)
            part, X = block
            yield part, X, rows_of(here.receive()[: len(X)], X)
            here.release()
            stages = [other, here]
