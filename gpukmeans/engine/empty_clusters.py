"""The relocation of empty clusters onto the rows farthest from their centers, as in scikit-learn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64, I64
from gpukmeans.backends.protocol import Rows, Run
from gpukmeans.exact.sums import Grid, cluster_means, weight_grid
from gpukmeans.exact.warp_order import center_shift_square


def fill_empty_clusters(rows: Rows, run: Run, sample_weight: F64 | None) -> tuple[int, F64]:
    """Give each empty cluster the row farthest from its own center, as scikit-learn does.

    The row is subtracted from the mean of the cluster that it leaves; the labels and sums of the run stay as they are
    until the next assignment moves rows.  Rows without weight, and rows as near to their center as the rounding of a
    mean allows, are not given away: a cluster of such a row would be empty again, or empty another.  Clusters that get
    no row are put on the center of the heaviest cluster.

    Parameters
    ----------
    rows : Rows
    run : Run
        After an update; its centers are replaced.
    sample_weight : ndarray of shape (n_samples,), float64, or None
        The weights that `rows` were loaded with.

    Returns
    -------
    n_relocated : int
        How many clusters were given a row.
    shifts : ndarray of shape (n_clusters,), float64
        The squared shift of each center since the last assignment.
    """
    grid = rows.grid
    assert grid is not None
    empty = np.flatnonzero(run.weights() == 0)
    sums, weight_sums = run.sums()
    weights_on = weight_grid(rows.n_samples, sample_weight)
    labels = run.labels()
    before = run.assigned_centers()
    n_light = 0 if sample_weight is None else int(np.count_nonzero(sample_weight == 0.0))
    far = run.farthest(min(rows.n_samples, len(empty) + n_light))
    if sample_weight is not None:
        far = far[sample_weight[far] > 0.0]
    far = far[: len(empty)]
    values = rows.take(far)
    apart = _apart(values, before[labels[far]], grid)
    far, values = far[apart], values[apart]
    for cluster, i, x in zip(empty, far, values, strict=False):
        weight = np.ones(1) if sample_weight is None else sample_weight[i : i + 1]
        share = _limbs(grid, x.astype(np.float64) * weight)
        weight_share = _limbs(weights_on, weight)[:, 0]
        sums[:, labels[i]] -= share
        sums[:, cluster] = share
        weight_sums[:, labels[i]] -= weight_share
        weight_sums[:, cluster] = weight_share
    weights = weights_on.value(weight_sums[:, :, None])[:, 0]
    centers = cluster_means(sums, weights, grid, before.dtype)
    centers[weights == 0] = centers[weights.argmax()]
    run.set_centers(centers)
    return len(far), center_shift_square(centers, before)


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
