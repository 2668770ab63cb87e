"""The centers to start from, by the name of a way to find them: the one place with all names."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64
from gpukmeans.backends.protocol import Rows
from gpukmeans.engine.lloyd import Constraint
from gpukmeans.engine.seeding.draws import probabilities, random_rows
from gpukmeans.engine.seeding.parallel import kmeans_parallel
from gpukmeans.engine.seeding.plusplus import kmeans_plusplus
from gpukmeans.engine.seeding.two_level import two_level


def find_starts(
    init: str,
    rows: Rows,
    n_clusters: int,
    random_state: np.random.RandomState,
    sample_weight: F64 | None,
    dtype: np.dtype,
    load: Callable[[NDArray, F64], Rows],
    constrain: Constraint | None = None,
) -> NDArray:
    """Centers to start from, (n_clusters, n_features), of `dtype`: rows that `draw_rows` draws, or of "two-level".

    Parameters are those of `draw_rows` and `gpukmeans.engine.seeding.two_level.two_level`.
    """
    if init == "two-level":
        return two_level(rows, n_clusters, random_state, sample_weight, constrain).astype(dtype)
    return rows.take(draw_rows(init, rows, n_clusters, random_state, sample_weight, dtype, load)).astype(dtype)


def draw_rows(
    init: str,
    rows: Rows,
    n_clusters: int,
    random_state: np.random.RandomState,
    sample_weight: F64 | None,
    dtype: np.dtype,
    load: Callable[[NDArray, F64], Rows],
) -> NDArray[np.int64]:
    """Indices of `n_clusters` rows to start from.

    Parameters
    ----------
    init : {"k-means++", "k-means||", "random"}
        As of `gpukmeans.KMeans`.
    rows : Rows
    n_clusters : int
    random_state : RandomState
    sample_weight : ndarray of shape (n_samples,), float64, or None
        The weights that `rows` were loaded with.
    dtype : dtype
        Of the centers: see `gpukmeans.engine.seeding.draws.probabilities`.
    load : callable
        ``load(X, sample_weight)`` returns rows on the backend of `rows`.
    """
    if init == "k-means||":
        return kmeans_parallel(rows, n_clusters, random_state, dtype, sample_weight, load)
    p = probabilities(rows.n_samples, sample_weight, dtype)
    if init == "random":
        return random_rows(rows, n_clusters, random_state, p)
    return kmeans_plusplus(rows, n_clusters, random_state, p, sample_weight)
