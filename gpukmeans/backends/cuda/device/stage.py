"""Copies to the device at the same time as launches: a part of the seam (seam.py)."""

from __future__ import annotations

import contextlib
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

_OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation; CuPy's errorMemoryAllocation cannot be read from Python


class Stage(Protocol):
    """Memory for one array on the host and on the device, copied at the same time as launches run.

    Calls repeat in the order `host`, `send`, `receive`, `release`.  The first two may come from another thread.
    """

    def host(self) -> NDArray:
        """The array on the host, to be written to: waits until the last copy has read it."""

    def send(self) -> None:
        """Start the copy, which waits for launches before the last `release`: they read the array on the device."""

    def receive(self) -> Any:
        """The array on the device; later launches come after the copy."""

    def release(self) -> None:
        """Called after the last launch that reads the array."""


class PinnedMemoryError(MemoryError):
    """The host has too little page-locked memory; the message gives the size wanted, and what to do."""


def page_locked(cupy: Any, n_bytes: int) -> NDArray[np.uint8] | None:
    """Page-locked memory of the host, (n_bytes,); None where there is too little."""
    try:
        memory = cupy.cuda.alloc_pinned_memory(n_bytes)
    except RuntimeError as error:  # CUDA's, which is no MemoryError
        if getattr(error, "status", None) != _OUT_OF_MEMORY:
            raise
        return None
    return np.frombuffer(memory, np.uint8, n_bytes)


class CupyStage:
    """Page-locked memory and an array on the device, with copies on a stream of their own."""

    def __init__(self, cupy: Any, device: Any, launches: Any, copies: Any, array: Any) -> None:
        self._device, self._launches, self._copies, self._array = device, launches, copies, array
        memory = page_locked(cupy, array.nbytes)
        if memory is None:
            raise PinnedMemoryError(
                f"The host has no {array.nbytes / 2**20:.1f} MiB of page-locked memory for a batch.  Pass a smaller "
                "batch_size, allow this process more locked memory (ulimit -l), or use backend='numpy'."
            )
        self._host = memory.view(array.dtype).reshape(array.shape)
        # The array's memory may be that of a freed array, which earlier launches still read.
        self._read: Any = launches.record()
        self._copied: Any = None

    def host(self) -> NDArray:
        if self._copied is not None:
            with self._device:
                self._copied.synchronize()
        return self._host

    def send(self) -> None:
        with self._device:
            self._copies.wait_event(self._read)
            self._array.set(self._host, stream=self._copies)
            self._copied = self._copies.record()

    def receive(self) -> Any:
        with self._device:
            self._launches.wait_event(self._copied)
        return self._array

    def release(self) -> None:
        with self._device:
            self._read = self._launches.record()

    def __del__(self) -> None:
        # Neither memory may be freed while a copy is in progress.  The stream of launches may be recording a graph.
        with contextlib.suppress(Exception):
            self.host()
