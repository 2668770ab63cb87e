"""The form in which labelled images are returned."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

Labelled = tuple[NDArray[np.uint8], NDArray[np.int64]]


def bunch(
    images: NDArray[np.uint8], target: NDArray[np.int64], n_train: int, descr: str, return_X_y: bool
) -> Bunch | Labelled:
    """Images and their classes as a Bunch, or as ``(data, target)``."""
    n_images, height, width = images.shape
    data = images.reshape(n_images, height * width)
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        images=images,
        n_train=n_train,
        feature_names=[f"pixel_{row}_{column}" for row in range(height) for column in range(width)],
        target_names=np.unique(target),
        frame=None,
        DESCR=descr,
    )
