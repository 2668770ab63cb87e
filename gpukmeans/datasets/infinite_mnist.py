"""Infinite MNIST: small deformations of the 60,000 training images, made when they are asked for.

G. Loosli, S. Canu and L. Bottou, "Training invariant support vector machines using selective sampling" (2007): an image
is deformed to first order, by a smooth displacement field times its gradient.  Here everything is integers, so that row
i is the same on every machine, in every block and thread.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.datasets.mnist import load_mnist
from gpukmeans.threads import parts_of

#: Training images; the test images stay unseen.
N_IMAGES, SIDE = 60_000, 28
#: Displacement fields of a seed, in units of 1/32 pixel.
N_FIELDS, UNITS = 1024, 32
#: The largest displacements, in pixels: elastic ones mostly stay below, turns reach theirs at the edge, and a field is
#: shifted as a whole.
ELASTIC, TURN, SHIFT = 1.0, 1.0, 0.75
#: A box of so many pixels on either side, three times, is about a Gaussian of 4.5 pixels.
BOX, SMOOTHINGS = 4, 3
#: Rows that are made at a time: they stay in a core's cache.
TOGETHER = 256


class InfiniteMnist:
    """Rows of infinite MNIST; made by `make_infinite_mnist`.

    Attributes
    ----------
    shape : tuple of int
        (n_samples, 784).
    dtype : dtype
        uint8.
    target : ndarray of shape (n_samples,), uint8
        The digit of each row.
    """

    ndim = 2
    dtype = np.dtype(np.uint8)
    #: For `open_rows`: single rows cost no more than those of a range, and a pickle makes the same rows anywhere.
    gathers = True

    def __init__(self, n_samples: int, seed: int) -> None:
        self.shape = (n_samples, SIDE * SIDE)
        self.seed = seed

    def __reduce__(self) -> tuple[Any, ...]:
        """Without the images that rows are made of: they are everywhere."""
        return InfiniteMnist, (self.shape[0], self.seed)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<infinite MNIST: {self.shape[0]:,} rows, seed {self.seed}>"

    @cached_property
    def _data(self) -> tuple[NDArray[np.uint8], NDArray[Any]]:
        X, y = load_mnist(return_X_y=True)
        return X[:N_IMAGES], y[:N_IMAGES].astype(np.uint8)

    @cached_property
    def _fields(self) -> NDArray[np.int8]:
        """(2, N_FIELDS, 784): displacements along x and y."""
        return _fields(self.seed)

    @property
    def target(self) -> NDArray[np.uint8]:
        return np.resize(self._data[1], self.shape[0])

    def __getitem__(self, index: slice | NDArray[np.integer]) -> NDArray[np.uint8]:
        """Some rows, (n_rows, 784), by a slice or by their indices."""
        rows = np.arange(*index.indices(len(self))) if isinstance(index, slice) else np.asarray(index, np.int64)
        if len(rows) and not -len(self) <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows {rows.min():,} to {rows.max():,} of {len(self):,}")
        rows = np.where(rows < 0, rows + len(self), rows)
        out = np.empty((len(rows), self.shape[1]), np.uint8)
        for part in parts_of(len(rows), TOGETHER):
            self._make(rows[part], out[part])
        return out

    def _make(self, rows: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        images = self._data[0][rows % N_IMAGES].reshape(-1, SIDE, SIDE)
        pixels = images.astype(np.int16)
        drawn = _mixed(rows.astype(np.uint64) ^ _mixed(np.array([self.seed], np.uint64)))
        field = (drawn & np.uint64(N_FIELDS - 1)).astype(np.intp)
        most = int(SHIFT * UNITS)
        change = np.zeros((len(rows), SIDE, SIDE), np.int16)
        for axis, low in ((0, 16), (1, 32)):
            shift = (((drawn >> np.uint64(low)) & np.uint64(0xFFFF)) % np.uint64(2 * most + 1)).astype(np.int16) - most
            slope = np.zeros_like(pixels)  # half of the difference of the neighbours
            inner, behind, ahead = ((slice(None), slice(1, -1)), (slice(None), slice(2, None)), slice(None, -2))
            if axis:  # along y, the rows of the image
                np.subtract(pixels[behind], pixels[:, ahead], out=slope[inner])
            else:
                np.subtract(pixels[:, :, 2:], pixels[:, :, :-2], out=slope[:, :, 1:-1])
            slope >>= 1
            moved = self._fields[axis][field].astype(np.int16)
            moved += shift[:, None]
            slope *= moved.reshape(slope.shape)
            change += slope
        change >>= UNITS.bit_length() - 1
        change[rows < N_IMAGES] = 0  # the images themselves
        pixels += change
        np.clip(pixels, 0, 255, out=pixels)
        out[:] = pixels.reshape(out.shape)


def make_infinite_mnist(n_samples: int, seed: int = 0) -> InfiniteMnist:
    """Deformed images of digits, as many as wanted, made when they are asked for.

    Row i shows training image ``i % 60000`` of MNIST, deformed by a small shift, turn, change of size and elastic
    deformation that depend on `seed` and i alone; the first 60,000 rows are the images themselves.  No row comes from
    the 10,000 test images.

    Parameters
    ----------
    n_samples : int
        8,100,000 is the size of MNIST8M.
    seed : int, default=0
        Not negative.

    Returns
    -------
    InfiniteMnist
        It has a shape and a dtype (uint8), gives rows by ``[start:stop]`` or by indices, and digits as `target`;
        `gpukmeans.open_rows` takes it.

    Raises
    ------
    ValueError
        If a number is not allowed.

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans.datasets import make_infinite_mnist
    >>> rows = make_infinite_mnist(8_100_000, seed=1)
    >>> some = rows[4_000_000:4_000_100]
    >>> some.shape, some.dtype.name, np.array_equal(rows[[4_000_007]], some[7:8])
    ((100, 784), 'uint8', True)
    """
    if int(n_samples) != n_samples or not 0 < n_samples < 1 << 48:
        raise ValueError(f"n_samples={n_samples!r} should be a whole number from 1 to 2**48.")
    if int(seed) != seed or not 0 <= seed < 1 << 32:
        raise ValueError(f"seed={seed!r} should be a whole number from 0 to 2**32 - 1.")
    return InfiniteMnist(int(n_samples), int(seed))


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Numbers that look random, a fixed one for each (the finalizer of SplitMix64, G. Steele et al. 2014)."""
    mixed = values * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0xD1B54A32D192ED03)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


def _fields(seed: int) -> NDArray[np.int8]:
    """Displacement fields, (2, N_FIELDS, 784), in whole units: turns and changes of size, and smoothed noise."""
    pad = BOX * SMOOTHINGS
    size = SIDE + 2 * pad
    index = np.arange(2 * N_FIELDS * (size * size + 4), dtype=np.uint64) + (np.uint64(seed) << np.uint64(32))
    noise = ((_mixed(index) >> np.uint64(40)) & np.uint64(0xFFFF)).astype(np.int64) - (1 << 15)
    affine = noise[: 8 * N_FIELDS].reshape(2, N_FIELDS, 4, 1)
    smooth = noise[8 * N_FIELDS :].reshape(2, N_FIELDS, size, size)
    width = 2 * BOX + 1
    for axis in (2, 3):
        for _ in range(SMOOTHINGS):
            sums = np.cumsum(smooth, axis=axis)
            sums = np.concatenate([np.zeros_like(np.take(sums, [0], axis)), sums], axis)
            n = sums.shape[axis]
            smooth = np.take(sums, np.arange(width, n), axis) - np.take(sums, np.arange(n - width), axis)
    flat = smooth.reshape(2, N_FIELDS, SIDE * SIDE)
    elastic = flat * int(ELASTIC * UNITS) // np.abs(flat).max(axis=2, keepdims=True)
    place = 2 * np.arange(SIDE) - (SIDE - 1)  # in half pixels from the middle
    x, y = np.tile(place, SIDE), np.repeat(place, SIDE)
    reach = int(TURN * UNITS)
    linear = (affine[:, :, 0] * x + affine[:, :, 1] * y) * reach // ((SIDE - 1) << 16)
    return (elastic + linear).astype(np.int8)
