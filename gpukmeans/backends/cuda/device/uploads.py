"""Copies of large host arrays to the device: through page-locked memory, filled in threads while earlier parts travel.

The driver copies ordinary memory by one thread; page-locked memory goes at the speed of the link.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.backends.cuda.device.stage import page_locked
from gpukmeans.threads import n_threads, parts_of

#: Bytes of a part, and the most of them that are page-locked at a time: all that an upload takes beside its arrays.
PART_BYTES, MOST_PARTS = 4 << 20, 4
#: An array of fewer parts is not worth the threads.
LEAST_PARTS = 4


def upload_in_parts(cupy: Any, device: Any, stream: Any, array: Any, host: NDArray) -> bool:
    """Copy a C-contiguous host array into a device array; False, and nothing done, where it should be copied at once.

    Parameters
    ----------
    cupy : module
    device, stream
        CuPy's; the copies come after all that the stream has to do, and are done when this returns.
    array : device array
    host : ndarray
        Of the same shape and dtype.
    """
    parts = parts_of(host.nbytes, PART_BYTES)
    if len(parts) < LEAST_PARTS:
        return False
    n_buffers = min(MOST_PARTS, n_threads() + 1)
    buffers = page_locked(cupy, n_buffers * PART_BYTES)
    if buffers is None:
        return False
    buffers = buffers.reshape(n_buffers, PART_BYTES)
    source, target = host.reshape(-1).view(np.uint8), array.reshape(-1).view(np.uint8)
    copied: list[Any] = [None] * len(parts)

    def fill(number: int) -> NDArray[np.uint8]:
        """A part in page-locked memory, once its last user has travelled."""
        if number >= n_buffers:
            with device:
                copied[number - n_buffers].synchronize()
        part = source[parts[number]]
        buffer = buffers[number % n_buffers][: len(part)]
        buffer[...] = part
        return buffer

    try:
        with ThreadPoolExecutor(n_buffers, thread_name_prefix="gpukmeans-upload") as threads:
            filled = [threads.submit(fill, number) for number in range(min(n_buffers, len(parts)))]
            for number, part in enumerate(parts):
                buffer = filled[number].result()
                with device:
                    target[part].set(buffer, stream=stream)
                    copied[number] = stream.record()
                if number + n_buffers < len(parts):
                    filled.append(threads.submit(fill, number + n_buffers))
    finally:
        stream.synchronize()  # the page-locked memory is free from here on
    return True
