"""How the tensor cores of a device add, measured: their table (certificates/halves.py) is trusted where both agree.

One launch of kernels/tensor_rounding.cu adds vectors made for it, and its sums are compared with those of every model.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64
from gpukmeans.backends.cuda.device.seam import Device
from gpukmeans.certificates.halves import TENSOR_CORES, WORST_TENSOR_CORES, TensorCores, tensor_units

#: Models that are compared, those of the table first.
MODELS = list(
    dict.fromkeys(
        [*TENSOR_CORES.values(), WORST_TENSOR_CORES]
        + [TensorCores(products, guard) for products in (1, 2, 4, 8, 16) for guard in range(5)]
    )
)
#: What adds in no way that is known is taken to add every product by itself, and to cut twice each time.
UNKNOWN = TensorCores(1, 0)
_DEPTH = 16  # products of a vector: those of one tensor product


@functools.cache
def vectors() -> tuple[F64, F64, F64]:
    """Factors (n, 16) and (n, 16), which are halves, and starts (n,), which are float32.

    - Beside a start of one, some products of 2**-(23 + g), of either sign: each is kept if there are g guard bits, and
      2**g of them change the sum by a unit, if they are added at once.
    - Products and starts of very different sizes, of one size, and those that cancel.
    """
    counts, guards = np.arange(1, _DEPTH + 1), np.arange(6)
    few = np.arange(_DEPTH) < np.repeat(counts, len(guards))[:, None]
    a = np.where(few, 2.0**-12, 0.0)
    b = np.broadcast_to(2.0 ** -(11.0 + np.tile(guards, len(counts)))[:, None], a.shape)
    rng = np.random.default_rng(0)
    c, d = rng.integers(-2047, 2048, (2, 192, _DEPTH)) / 2048.0
    starts = rng.standard_normal(192)
    c[:64], d[:64] = (np.ldexp(t[:64], rng.integers(-6, 5, (64, _DEPTH))) for t in (c, d))
    starts[:64] = np.ldexp(starts[:64], rng.integers(-24, 8, 64))
    starts[64:128] = -(c[64:128] * d[64:128]).sum(axis=1)
    first = np.concatenate([a, -a, c]).astype(np.float16).astype(np.float64)
    second = np.concatenate([b, b, d]).astype(np.float16).astype(np.float64)
    ones = np.ones(2 * len(a))
    return first, second, np.concatenate([ones, starts]).astype(np.float32).astype(np.float64)


def model_sums(cores: TensorCores, starts: F64, a: F64, b: F64) -> NDArray[np.float32]:
    """``starts + (a * b).sum(axis=-1)`` as tensor cores add: `TensorCores` says how.

    Factors are halves and broadcast against each other; starts are float32, in float64.  The unit of an addition is set
    by its largest addend, a product standing for the product of its factors' powers of two.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        products = a * b
        plain = starts + products.sum(axis=-1)
    finite = np.isfinite(plain)
    sums, products = np.where(finite, starts, 0.0), np.where(finite[..., None], products, 0.0)
    exponents = _exponents(a) + _exponents(b)
    for first in range(0, products.shape[-1], cores.products):
        block = slice(first, first + cores.products)
        largest = np.maximum(exponents[..., block].max(axis=-1), np.maximum(_exponents(sums), -133))
        unit = np.exp2(largest - 23.0 - cores.guard_bits)
        units = np.trunc(sums / unit) + np.trunc(products[..., block] / unit[..., None]).sum(axis=-1)
        sums = _cut_to_float32(units * unit).astype(np.float64)
    with np.errstate(over="ignore"):
        return np.where(finite, sums, plain).astype(np.float32)


def _exponents(values: F64) -> NDArray[np.int32]:
    return np.where(values == 0.0, -10_000, np.frexp(values)[1] - 1)


def _cut_to_float32(values: F64) -> NDArray[np.float32]:
    near = values.astype(np.float32)
    return np.where(abs(near.astype(np.float64)) > abs(values), np.nextafter(near, np.float32(0)), near)


def device_sums(device: Device) -> NDArray[np.float32]:
    """The sums of `vectors` by a device."""
    a, b, starts = vectors()
    factors = [device.upload(t.astype(np.float16).view(np.uint16)) for t in (a, b)]
    sums = device.empty(len(starts), np.float32)
    launch = device.kernel("tensor_rounding", "tensor_rounding", {})
    launch(len(starts) // 8, 32, (*factors, device.upload(starts.astype(np.float32)), sums))
    return device.download(sums)


def measured(sums: NDArray[np.float32]) -> TensorCores | None:
    """The model that gives these sums of `vectors`, bit for bit; None if there is none."""
    a, b, starts = vectors()
    return next((cores for cores in MODELS if np.array_equal(model_sums(cores, starts, a, b), sums)), None)


def trusted(known: TensorCores, found: TensorCores | None) -> TensorCores:
    """What certificates may rely on: the table's entry where it was measured, else the worst known, or worse."""
    if found == known:
        return known
    if found is None:
        return UNKNOWN
    return max(found, WORST_TENSOR_CORES, key=tensor_units)
