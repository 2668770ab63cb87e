"""The relocation of empty clusters onto the rows farthest from their centers, as in scikit-learn."""

from __future__ import annotations

import numpy as np

from gpukmeans.arrays.types import F64
from gpukmeans.backends.protocol import Rows, Run
from gpukmeans.exact.relocation import Far, relocated
from gpukmeans.exact.sums import weight_grid
from gpukmeans.exact.warp_order import center_shift_square


def fill_empty_clusters(rows: Rows, run: Run, sample_weight: F64 | None) -> tuple[int, F64]:
    """Give each empty cluster the row farthest from its own center, as `gpukmeans.exact.relocation.relocated` does.

    The labels and sums of the run stay as they are until the next assignment moves rows.  Rows without weight are not
    given away.

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
    assert rows.grid is not None
    n_empty = int((run.weights() == 0).sum())
    labels, before = run.labels(), run.assigned_centers()
    n_light = 0 if sample_weight is None else int(np.count_nonzero(sample_weight == 0.0))
    far = run.farthest(min(rows.n_samples, n_empty + n_light))
    if sample_weight is not None:
        far = far[sample_weight[far] > 0.0]
    far = far[:n_empty]
    chosen = Far(rows.take(far), labels[far], None if sample_weight is None else sample_weight[far])
    weights_on = weight_grid(rows.n_samples, sample_weight)
    centers, n_relocated = relocated(*run.sums(), rows.grid, weights_on, chosen, before)
    run.set_centers(centers)
    return n_relocated, center_shift_square(centers, before)
