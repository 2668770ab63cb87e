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

    Raises
    ------
    ValueError
        If all weights are zero: those of some rows out of many may be.
    """
    weight = np.ones(n_samples, dtype) if sample_weight is None else sample_weight.astype(dtype)
    total = weight.sum()
    if not total:
        raise ValueError(
            f"sample_weight is zero for all {n_samples} rows that the centers are drawn from. Leave out rows without "
            "weight, or give MiniBatchKMeans, which starts from a random part of the rows, a larger init_size."
        )
    return weight / total


def random_rows(rows: Rows, n_clusters: int, random_state: np.random.RandomState, p: NDArray) -> NDArray[np.int64]:
    """Indices of `n_clusters` different rows drawn with probabilities `p`: scikit-learn's ``init="random"``.

    Raises
    ------
    ValueError
        If fewer rows can be drawn.
    """
    n_heavy = np.count_nonzero(p)
    if n_heavy < n_clusters:
        raise ValueError(
            f"sample_weight is positive for {n_heavy} of the {len(p)} rows that init='random' draws from; it should be "
            f"for n_clusters={n_clusters} at least. init='k-means++' can do with fewer; a larger init_size gives "
            "MiniBatchKMeans more rows to draw from."
        )
    return random_state.choice(rows.n_samples, size=n_clusters, replace=False, p=p).astype(np.int64)
