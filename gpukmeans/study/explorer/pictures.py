"""Rows as pictures of few bytes: thumbnails of 4 bits a value, and whole ones of 8 bits."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpukmeans.scale.recipe import in_own_units

#: The longer side of a thumbnail, in pixels.
SIDE = 14
#: Values of rows that are shrunk at a time.
_TOGETHER = 1 << 23


class Greys(NamedTuple):
    """The range of values that pictures show; what lies beyond is shown as its end."""

    lowest: float
    highest: float

    def of(self, values: NDArray[Any], levels: int) -> NDArray[np.uint8]:
        """Values as 0 to `levels`."""
        span = self.highest - self.lowest or 1.0
        return np.rint(np.clip((values - self.lowest) / span, 0.0, 1.0) * levels).astype(np.uint8)


class Pictures:
    """Rows that are images.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Rows as they were clustered.
    shape : tuple of int
        (height, width) or (height, width, 3).
    recipe : dict
        What was done to the rows before, which is undone here.
    """

    def __init__(self, X: NDArray[Any], shape: tuple[int, ...], recipe: dict[str, Any]) -> None:
        self.X, self.recipe = X, recipe
        self.shape = (*shape, 1) if len(shape) == 2 else shape
        ends = in_own_units(np.stack([X.min(axis=0), X.max(axis=0)]), recipe)
        self.greys = Greys(float(ends.min()), float(ends.max()))
        longest = max(shape[:2])
        height, width = (max(1, round(side * min(1.0, SIDE / longest))) for side in shape[:2])
        self.thumb_shape = (height, width, self.shape[2])

    def whole(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Rows or centers at full size, 0 to 255: (n, features)."""
        return self.greys.of(in_own_units(values, self.recipe), 255)

    def small(self, values: NDArray[Any], levels: int) -> NDArray[np.uint8]:
        """Rows or centers in the size of thumbnails, 0 to `levels`: (n, features of a thumbnail)."""
        images = in_own_units(values, self.recipe).reshape(-1, *self.shape)
        for axis, side in ((1, self.thumb_shape[0]), (2, self.thumb_shape[1])):
            images = np.tensordot(images, _shrinking(images.shape[axis], side), (axis, 1))
            images = np.moveaxis(images, -1, axis)
        return self.greys.of(images.reshape(len(images), -1), levels)

    def thumbnails(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Rows of thumbnails of 4 bits a value, two in a byte, the first in the upper half: (n, bytes)."""
        n_values = int(np.prod(self.thumb_shape))
        out = np.empty((len(rows), (n_values + 1) // 2), np.uint8)
        step = max(1, _TOGETHER // self.X.shape[1])
        for start in range(0, len(rows), step):
            values = self.small(self.X[rows[start : start + step]], 15)
            if n_values % 2:
                values = np.pad(values, ((0, 0), (0, 1)))
            out[start : start + step] = values[:, ::2] << 4 | values[:, 1::2]
        return out


def _shrinking(size: int, side: int) -> NDArray[np.float64]:
    """The matrix (side, size) that averages `size` pixels to `side` by area."""
    edges = np.linspace(0.0, size, side + 1)
    pixels = np.arange(size)
    shared = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.clip(shared, 0.0, None) * (side / size)
