"""kmeans_1d: the best clusters of numbers on a line."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval

from gpukmeans.arrays.magnitude import times_power
from gpukmeans.arrays.types import F64
from gpukmeans.backends.cpu.line.rows import SortedRows
from gpukmeans.backends.cpu.table import DenseTable, Switches
from gpukmeans.callers import warn_caller
from gpukmeans.engine.optimal_line import optimal_cuts
from gpukmeans.estimators.kmeans import KMeans
from gpukmeans.estimators.typed import validates
from gpukmeans.exact.midpoints import boundaries
from gpukmeans.exact.segments import Segments
from gpukmeans.exact.sums import Grid, cluster_means, exact_total
from gpukmeans.intake.given import receive


@dataclass(frozen=True)
class LineClusters:
    """The clusters that `kmeans_1d` finds, in rising order.

    Attributes
    ----------
    labels : ndarray of shape (n_samples,), int32
        The cluster of each number: clusters are numbered from the lowest to the highest.
    centers : ndarray of shape (n_clusters,), float64
        Their means, rising; fewer than asked for if there are not so many distinct numbers of positive weight.
    inertia : float
        Summed squared distance of the numbers to the centers of their labels, times their weights.
    """

    labels: NDArray[np.int32]
    centers: F64
    inertia: float


@validates(
    {"n_clusters": [Interval(Integral, 1, None, closed="left")], "sample_weight": ["array-like", None]}, nested=False
)
def kmeans_1d(x: ArrayLike, n_clusters: int, *, sample_weight: ArrayLike | None = None) -> LineClusters:
    """The clusters of numbers on a line with the lowest inertia of all: the global optimum, not one that a start finds.

    Parameters
    ----------
    x : array-like of shape (n_samples,) or (n_samples, 1)
        Finite numbers, in any order; read as float64.  On the host, or on a device, from where they are copied.
    n_clusters : int
        Number of clusters, at most n_samples.
    sample_weight : array-like of shape (n_samples,), default=None
        Not negative, not all zero.  None weighs all numbers equally.

    Returns
    -------
    LineClusters
        With `labels`, `centers` and `inertia`.  Of several partitions of equal inertia, that whose last boundary lies
        leftmost, then the last but one, and so on.

    Raises
    ------
    ValueError
        If x is not one column of finite numbers, at least `n_clusters` of them, or a weight is not allowed.

    Warns
    -----
    ConvergenceWarning
        If there are fewer distinct numbers of positive weight than `n_clusters`: each is then a cluster.

    See Also
    --------
    KMeans : any number of features; a local optimum.  ``KMeans(k, init=found.centers[:, None])`` takes this one on.

    Notes
    -----
    Dynamic programming over the places of the boundaries: H. Wang and M. Song, "Ckmeans.1d.dp: optimal k-means
    clustering in one dimension by dynamic programming", The R Journal 3 (2011); A. Gronlund, K. G. Larsen,
    A. Mathiasen, J. S. Nielsen, S. Schneider and M. Song, "Fast exact k-means, k-medians and Bregman divergence
    clustering in 1D", arXiv:1701.07204 (2017).

    Costs carry twice the precision of float64 and proved errors; partitions that these leave open are compared in whole
    numbers of unlimited size.  So no offset and no range of the numbers loses the optimum.  It is made for few
    clusters; with hundreds it takes long (see LIMITS.md).

    Equal numbers are in one cluster.  A number without weight gets the nearest center.  Centers are rounded: with
    weights the exact means, once; without on the grid of `KMeans`, for its bits.  A number that lies within this
    rounding of the middle between two of them stays in the cluster of the optimal partition.

    Examples
    --------
    >>> import gpukmeans
    >>> found = gpukmeans.kmeans_1d([1e9 + 1, 1e9 + 9, 1e9 + 2, 1e9 + 8, 1e9 + 30], 3)
    >>> found.labels
    array([0, 1, 0, 1, 2], dtype=int32)
    >>> (found.centers - 1e9).tolist(), found.inertia
    ([1.5, 8.5, 30.0], 1.0)
    """
    column = np.asarray(x).reshape(-1, 1) if np.ndim(x) == 1 else x
    given = receive(
        type("kmeans_1d", (KMeans,), {})(n_clusters),  # errors name the function
        column,
        sample_weight,
        backend="numpy",
        reset=True,
        n_clusters=n_clusters,
        check_values=True,
        to_host=True,
        weight_dtype=np.dtype(np.float64),
    )
    if given.form == "csr" or given.n_all_features != 1:
        raise ValueError(
            f"x of {given.n_all_features} features should be one column of numbers, dense: give it in the shape "
            "(n_samples,) or (n_samples, 1), or use gpukmeans.KMeans for more features."
        )
    exponent = given.exponent()
    values = np.asarray(given.in_unit(exponent).X, np.float64)
    weight = given.sample_weight
    segments = _segments(values[:, 0], weight)
    n_distinct = len(segments.x)
    if n_distinct < n_clusters:
        warn_caller(
            f"Number of distinct numbers of positive weight ({n_distinct}) found smaller than n_clusters "
            f"({n_clusters}): each is a cluster.",
            ConvergenceWarning,
        )
    cuts = optimal_cuts(segments, min(n_clusters, n_distinct))
    means = None if weight is None else segments.exact_means(cuts)
    return _clusters(values, weight, segments.x[cuts[1:-1]], means, exponent)


def _segments(x: F64, weight: F64 | None) -> Segments:
    """The numbers of positive weight in rising order."""
    if weight is None:
        distinct, counts = np.unique(x, return_counts=True)
        return Segments(distinct, counts.astype(np.float64))
    order = np.argsort(x)
    order = order[weight[order] > 0.0]
    return Segments(x[order], weight[order])


def _clusters(values: F64, weight: F64 | None, firsts: F64, means: F64 | None, exponent: int) -> LineClusters:
    """The clusters between the numbers `firsts`, each the first of a cluster; values are times 2**exponent.

    Without weights the means are taken on the grid of all numbers, for the bits of `KMeans`.
    """
    grid = Grid.for_rows(values, weight)
    line = SortedRows(DenseTable(Switches(), values, weight, grid))
    ids = np.arange(len(firsts) + 1)
    if means is None:
        cuts = line.cuts(firsts)
        sums, counts = np.diff(line.sums[:, cuts])[:, :, None], np.diff(line.weights[0, cuts])
        means = cluster_means(sums, counts.astype(np.float64), grid, np.dtype(np.float64))[:, 0]
    labels = line.labels(ids, firsts)
    if weight is not None:
        light = np.flatnonzero(weight == 0.0)
        nearest = boundaries(means, np.dtype(np.float64))
        labels[light] = nearest.ids[nearest.firsts.searchsorted(values[light, 0], "right")]
    terms = line.table.own_distances(labels, means[:, None])
    inertia = exact_total(terms if weight is None else terms * weight)
    return LineClusters(labels, times_power(means, -exponent), times_power(inertia, -2 * exponent))
