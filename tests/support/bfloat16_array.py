"""A stand-in for an array of bfloat16 on a device, as CuPy and JAX have them."""

from __future__ import annotations


class BFloat16Array:
    """Has the dtype of ml_dtypes, whose name alone is read, and a view as integers."""

    class dtype:
        def __str__(self):
            return "bfloat16"

    dtype = dtype()

    def __init__(self, bits):
        self.bits, self.shape = bits, bits.shape

    def __dlpack_device__(self):
        return self.bits.__dlpack_device__()

    def view(self, dtype):
        return self.bits.view(dtype)
