"""`partial`: one step of Lloyd's algorithm over some of the rows, for engines that keep rows in many places."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpukmeans.arrays.limits import refuse_values
from gpukmeans.backends.choice import get_backend
from gpukmeans.backends.protocol import Backend
from gpukmeans.scale.facts import SumGrids, stored_rows, stored_weights
from gpukmeans.scale.partials import Partial, block_partial


def partial(
    block: Any,
    centers: ArrayLike,
    grid: SumGrids,
    *,
    offset: int,
    labels: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    backend: str | Backend = "auto",
) -> Partial:
    """What a block of rows adds to one step of Lloyd's algorithm, in exact integers.

    Partials of all blocks add up (``+``), in any order and grouping, to the same bits as a fit of all rows in memory:
    ``new_centers()`` are the centers after its next iteration.  Blocks may lie in any process, on any machine and
    backend; `Partial.save` and pickles carry partials, which are as large as a few tables of centers.

    Parameters
    ----------
    block : array-like or sparse matrix of shape (n_rows, n_features)
        Of the same dtype in all blocks; see `Facts.of`.
    centers : array-like of shape (n_clusters, n_features)
        The same for all blocks.
    grid : SumGrids
        From the facts of all blocks: ``(a + b + ...).grid()``.
    offset : int
        The place of the block's first row among all rows.
    labels : array-like of shape (n_rows,), int32, optional
        Those of the step before: `Partial.labels` of this block.  None: all rows count as moved.
    sample_weight : array-like of shape (n_rows,), optional
        Of all blocks or of none.
    backend : {"auto", "numpy", "cupy"} or Backend, default="auto"
        Where the nearest centers are found.

    Returns
    -------
    Partial

    Raises
    ------
    ValueError
        The block, offset, weights or centers do not fit the grid, or hold what is not finite.
    TypeError
        The grid is none.
    gpukmeans.backends.BackendUnavailable
        If ``backend="cupy"`` cannot be used on this machine.

    See Also
    --------
    Facts : the first pass, which the grid comes from.

    Examples
    --------
    >>> import numpy as np
    >>> import gpukmeans
    >>> X = np.array([[0.0], [1.0], [9.0], [10.0]])
    >>> grid = gpukmeans.Facts.of(X).grid()
    >>> parts = [gpukmeans.partial(X[i : i + 2], [[0.0], [9.0]], grid, offset=i) for i in (0, 2)]
    >>> both = parts[1] + parts[0]
    >>> both.new_centers().ravel().tolist(), both.inertia()
    ([0.5, 9.5], 2.0)
    """
    if not isinstance(grid, SumGrids):
        raise TypeError(f"grid is of type {type(grid).__name__}; it should be (a + b + ...).grid() of the facts.")
    X, start = stored_rows(block), np.array(centers, grid.center_dtype)
    n_rows, n_features = X.shape
    if start.ndim != 2 or not len(start):
        raise ValueError(f"centers has shape {start.shape}; it should be (n_clusters, n_features), at least (1, 1).")
    if not isinstance(offset, Integral) or not 0 <= offset <= grid.n_samples - n_rows:
        raise ValueError(
            f"offset={offset!r} is no place for {n_rows:,} of {grid.n_samples:,} rows: it should be the number of rows "
            f"before this block, at most {grid.n_samples - n_rows:,}."
        )
    if X.dtype != grid.dtype or not n_features == len(grid.largest) == start.shape[1]:
        raise ValueError(
            f"a block of {X.dtype} rows of {n_features} features and centers of {start.shape[1]} do not fit a grid for "
            f"{grid.dtype} rows of {len(grid.largest)}: the grid should come from the facts of these very blocks."
        )
    if (sample_weight is not None) != grid.weighted:
        raise ValueError(
            f"the facts that the grid comes from are {'with' if grid.weighted else 'without'} weights, and this block "
            f"has {'none' if sample_weight is None else 'some'}: give them to all facts and partials, or to none."
        )
    values = X if isinstance(X, np.ndarray) else X.data
    largest = max(float(values.max()), -float(values.min())) if values.size and values.dtype != np.uint8 else 0.0
    refuse_values(largest, values.dtype, "block")
    refuse_values(float(np.abs(start).max()), start.dtype, "centers")
    before = None if labels is None else np.asarray(labels)
    if before is not None and before.shape != (n_rows,):
        raise ValueError(f"labels has shape {before.shape}; it should be ({n_rows},), one for each row of the block.")
    weight = None if sample_weight is None else stored_weights(sample_weight, n_rows, grid.center_dtype)
    chosen = get_backend(backend, sparse=not isinstance(X, np.ndarray))

    def labelled(rows: Any, at: NDArray) -> NDArray[np.int32]:
        return nearest(chosen, rows, at)

    return block_partial(X, start, grid, labelled, offset=int(offset), before=before, sample_weight=weight)


def nearest(backend: Backend, X: Any, centers: NDArray) -> NDArray[np.int32]:
    """The true nearest center of each row, ties to the lowest index."""
    if not X.shape[0]:
        return np.empty(0, np.int32)
    run = backend.load(X, sums=False).start(centers)
    run.assign(move=False)
    return run.labels()
