"""A start from clusters of clusters, for many clusters: part of the rows is clustered, and each cluster once more.

How many centers each of the first clusters gets follows A. Gersho, "Asymptotically optimal block quantization", IEEE
Transactions on Information Theory 25 (1979): in proportion to the power d / (d + 2) of its inertia, where d is the
dimension that the rows fill.
"""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64, I64
from gpukmeans.backends.protocol import Rows, Run
from gpukmeans.engine.empty_clusters import fill_empty_clusters
from gpukmeans.engine.lloyd import Constraint

#: Draws of rows that are clustered, in multiples of n_clusters: with fewer, four iterations over all rows end higher.
SAMPLED = 35
#: Iterations of each of the small fits.
STEPS = 5


def two_level(
    rows: Rows,
    n_clusters: int,
    random_state: np.random.RandomState,
    sample_weight: F64 | None,
    constrain: Constraint | None = None,
) -> NDArray:
    """Centers of the clusters of about sqrt(n_clusters) clusters of a sample of the rows.

    The sample is of 35 n_clusters draws, in proportion to the weights, or of all rows if these are fewer.  It is
    clustered into sqrt(n_clusters) clusters by 5 iterations from random rows; each of these is clustered in the same
    way into its share of n_clusters, in proportion to inertia**(3/4).  Together that takes less time than an iteration
    over all rows where n_clusters is in the hundreds, and 4 iterations then end about as low as 20 from random rows.
    Where rows lie in as many clear clusters k-means++ ends lower, as it does below random rows.

    Parameters
    ----------
    rows : Rows
    n_clusters : int
    random_state : RandomState
    sample_weight : ndarray of shape (n_samples,), float64, or None
        The weights that `rows` were loaded with.
    constrain : callable, optional
        As of `gpukmeans.engine.lloyd.lloyd`: every step's centers are constrained.

    Returns
    -------
    ndarray of shape (n_clusters, n_features)
        In the center dtype of the rows; the same bits on every backend.

    Raises
    ------
    ValueError
        If fewer than `n_clusters` rows have a positive weight.
    """
    rows, weight = _sample(rows, n_clusters, random_state, sample_weight)
    run = _clustered(rows, round(n_clusters**0.5), random_state, weight, constrain)
    run.assign(move=False)
    labels, inertias = run.labels(), run.inertias()
    members = np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels, minlength=len(inertias)))[:-1])
    centers = []
    for some, share in zip(members, shares(n_clusters, inertias, [len(some) for some in members]), strict=True):
        if share:
            part = None if weight is None else weight[some]
            found = _clustered(rows.subset(some, part), share, random_state, part, constrain)
            centers.append(found.centers())
    return np.concatenate(centers)


def shares(total: int, inertias: F64, most: list[int]) -> list[int]:
    """Whole numbers that add up to `total`, each at most its own of `most`, in proportion to inertia**(3/4).

    One center after another goes to the cluster with the largest quotient of its power and one more than it has (V.
    D'Hondt's rule; of equal quotients to the one that has fewest), but the first ones to every cluster that has rows.
    Only roots and quotients are taken, which are rounded alike everywhere.

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans.engine.seeding.two_level import shares
    >>> shares(12, np.array([16.0, 1.0, 0.0, 16.0]), [50, 50, 50, 3])
    [7, 1, 1, 3]
    """
    root = np.sqrt(inertias)
    powers = (root * np.sqrt(root)).tolist()
    found = [min(1, m) for m in most]
    waiting = [(-p / 2.0, 1, j) for j, (p, m) in enumerate(zip(powers, most, strict=True)) if m > 1]
    heapq.heapify(waiting)
    for _ in range(total - sum(found)):
        j = waiting[0][2]
        found[j] += 1
        if found[j] < most[j]:
            heapq.heapreplace(waiting, (-powers[j] / (found[j] + 1.0), found[j], j))
        else:
            heapq.heappop(waiting)
    return found


def _sample(
    rows: Rows, n_clusters: int, random_state: np.random.RandomState, sample_weight: F64 | None
) -> tuple[Rows, F64 | None]:
    """Some rows, to be summed, and their weights: of rows drawn by weight, how often they were drawn."""
    n, size = rows.n_samples, SAMPLED * n_clusters
    if sample_weight is None:
        if n > size:
            return rows.subset(np.unique(random_state.randint(0, n, size))), None
        return (rows if rows.grid is not None else rows.subset(np.arange(n))), None
    p = sample_weight / sample_weight.sum()
    heavy = np.flatnonzero(p > 0.0)
    if len(heavy) < n_clusters:
        raise ValueError(
            f"sample_weight is positive for {len(heavy)} of the {n} rows that init='two-level' draws from; it should "
            f"be for n_clusters={n_clusters} at least. init='k-means++' can do with fewer; a larger init_size gives "
            "MiniBatchKMeans more rows to draw from."
        )
    if len(heavy) > size:
        drawn, counts = np.unique(random_state.choice(n, size, p=p), return_counts=True)
        if len(drawn) >= n_clusters:  # else few rows have nearly all of the weight
            weight = counts.astype(np.float64)
            return rows.subset(drawn, weight), weight
    weight = sample_weight[heavy]
    return (rows if len(heavy) == n and rows.grid is not None else rows.subset(heavy, weight)), weight


def _clustered(
    rows: Rows,
    n_clusters: int,
    random_state: np.random.RandomState,
    sample_weight: F64 | None,
    constrain: Constraint | None,
) -> Run:
    """A few iterations from random rows."""
    chosen: I64 = random_state.permutation(rows.n_samples)[:n_clusters]
    run = rows.start(rows.take(chosen).astype(rows.center_dtype))
    for _ in range(STEPS):
        run.assign()
        if (run.update().weights == 0).any():
            fill_empty_clusters(rows, run, sample_weight)
        if constrain is not None:
            run.set_centers(constrain(run.centers(), run.assigned_centers()))
    return run
