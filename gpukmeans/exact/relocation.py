"""Empty clusters get the rows farthest from their centers, as in scikit-learn: the arithmetic, from exact sums."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64, I64
from gpukmeans.exact.sums import Grid, cluster_means


class Far(NamedTuple):
    """Rows with a weight that are far from their centers, the farthest first."""

    values: NDArray  # (n_rows, n_features)
    labels: NDArray[np.int32]  # (n_rows,)
    weights: F64 | None  # (n_rows,); None: all one


def relocated(
    sums: I64, weight_sums: I64, grid: Grid, weights_on: Grid, far: Far, before: NDArray
) -> tuple[NDArray, int]:
    """New centers where clusters are empty: each of these gets the next row of `far` that lies apart from its center.

    The row is subtracted from the mean of the cluster that it leaves.  Rows as near to their center as the rounding of
    a mean allows are not given away: a cluster of such a row would be empty again, or empty another.  Clusters that get
    no row are put on the center of the heaviest cluster.

    Parameters
    ----------
    sums : ndarray of shape (n_limbs, n_clusters, n_features), int64
        Overwritten, like `weight_sums`.
    weight_sums : ndarray of shape (n_weight_limbs, n_clusters), int64
    grid, weights_on : Grid
        Of the sums and of the weights.
    far : Far
        As many rows as there are empty clusters, or all rows that have a weight.
    before : ndarray of shape (n_clusters, n_features)
        The centers that the labels belong to.

    Returns
    -------
    centers : ndarray of shape (n_clusters, n_features)
    n_relocated : int
        How many clusters were given a row.
    """
    empty = np.flatnonzero(weights_on.value(weight_sums[:, :, None])[:, 0] == 0)
    values, labels = far.values[: len(empty)], far.labels[: len(empty)]
    apart = np.flatnonzero(_apart(values, before[labels], grid))
    for cluster, i in zip(empty, apart, strict=False):
        weight = np.ones(1) if far.weights is None else far.weights[i : i + 1]
        share = _limbs(grid, values[i].astype(np.float64) * weight)
        weight_share = _limbs(weights_on, weight)[:, 0]
        sums[:, labels[i]] -= share
        sums[:, cluster] = share
        weight_sums[:, labels[i]] -= weight_share
        weight_sums[:, cluster] = weight_share
    weights = weights_on.value(weight_sums[:, :, None])[:, 0]
    centers = cluster_means(sums, weights, grid, before.dtype)
    centers[weights == 0] = centers[weights.argmax()]
    return centers, len(apart)


def _apart(values: NDArray, centers: NDArray, grid: Grid) -> NDArray[np.bool_]:
    """Which rows differ from their centers by more than the mean of rows equal to them may.

    Such a mean is within two units of the grid (of which values that need one limb are multiples), one rounding of the
    row's products with their weights, one of the quotient and one to the dtype of the centers.
    """
    rounding = np.finfo(centers.dtype).eps
    wide = values.astype(np.float64)
    unit = 0.0 if grid.n_limbs == 1 else 2.0**-grid.bits / grid.scale
    return (np.abs(wide - centers) > 2.0 * (rounding * np.abs(wide) + unit)).any(axis=1)


def _limbs(grid: Grid, values: F64) -> I64:
    """All limbs of values on a grid, (n_limbs, n_columns)."""
    return np.stack([limb.astype(np.int64) for limb in grid.limbs(values)])
