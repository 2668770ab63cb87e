"""Random draws of rows that depend on their weights alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64
from gpukmeans.backends.protocol import Rows


def probabilities(n_samples: int, sample_weight: F64 | None, dtype: np.dtype) -> NDArray:
    """The probability of each row to be drawn first: its share of all weights.

    Computed in `dtype`, that of the centers, as in scikit-learn, so that the same rows are drawn.

    Returns
    -------
    ndarray of shape (n_samples,), of `dtype`
    """
    weight = np.ones(n_samples, dtype) if sample_weight is None else sample_weight.astype(dtype)
    return weight / weight.sum()


def random_rows(rows: Rows, n_clusters: int, random_state: np.random.RandomState, p: NDArray) -> NDArray[np.int64]:
    """Indices of `n_clusters` different rows drawn with probabilities `p`: scikit-learn's ``init="random"``."""
    return random_state.choice(rows.n_samples, size=n_clusters, replace=False, p=p).astype(np.int64)
