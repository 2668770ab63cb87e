"""Rows that lie on a CUDA device already: how they are recognised, and what is known of them before they are read."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Stands for bfloat16, which NumPy lacks, wherever a dtype names what rows are made of.  Such rows lie on a device in
#: arrays of 16-bit integers; on the host they are float32, which holds every value.
BFLOAT16 = np.dtype([("bfloat16", np.uint16)])


def dtype_name(dtype: np.dtype) -> str:
    """As messages call it."""
    return "bfloat16" if dtype == BFLOAT16 else str(dtype)


def bfloat16_values(bits: NDArray) -> NDArray[np.float32]:
    """The values of bfloat16 numbers, given as 16-bit integers of either sign.

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans.device_arrays import bfloat16_values
    >>> bfloat16_values(np.array([0x3F80, 0x3FC0, 0xC000], np.uint16)).tolist()
    [1.0, 1.5, -2.0]
    """
    return (bits.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
