"""Several arrays in one piece of device memory: one allocation, one copy from the host and one fill for all of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gpukmeans.backends.cuda.device.seam import Shape, Spec

#: Arrays begin at multiples of it, as CUDA's own allocations do.
ALIGNMENT = 256


def padded(n_bytes: int) -> int:
    """What an array takes in a slab."""
    return -(-n_bytes // ALIGNMENT) * ALIGNMENT


def size_of(shape: Shape, dtype: DTypeLike) -> int:
    """Bytes of an array."""
    return math.prod(shape if isinstance(shape, tuple) else (shape,)) * np.dtype(dtype).itemsize


def carved(slab: Any, specs: Sequence[Spec]) -> Iterator[Any]:
    """Arrays of these shapes and dtypes, one after another in a device array of bytes."""
    start = 0
    for shape, dtype in specs:
        n_bytes = size_of(shape, dtype)
        yield slab[start : start + n_bytes].view(dtype).reshape(shape)
        start += padded(n_bytes)


def follow_one_another(arrays: Sequence[Any]) -> bool:
    """Whether whole arrays of a slab are given in their order with none in between: their padding is nobody's."""
    places = [int(array.data.ptr) for array in arrays]
    return all(
        there == here + padded(array.nbytes) for here, there, array in zip(places, places[1:], arrays, strict=False)
    )


def packed(pairs: Sequence[tuple[Any, NDArray | int]]) -> NDArray[np.uint8]:
    """Host arrays, or bytes that fill all of an array, as they lie in a slab behind the arrays beside them."""
    slab = np.zeros(sum(padded(array.nbytes) for array, _ in pairs), np.uint8)
    start = 0
    for array, value in pairs:
        byte = isinstance(value, int)
        slab[start : start + array.nbytes] = value if byte else np.ascontiguousarray(value).reshape(-1).view(np.uint8)
        start += padded(array.nbytes)
    return slab
