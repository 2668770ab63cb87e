"""Which rows stand for a cluster, which might as well be in another, and which lie far out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpukmeans.arrays.types import F64
from gpukmeans.evaluation.classes import rows_by_cluster
from gpukmeans.evaluation.margins import Margins, margins
from gpukmeans.intake.kinds import on_host
from gpukmeans.tables import html_table, text_table


@dataclass(frozen=True, repr=False)
class ClusterMembers:
    """Rows of one cluster.  Of equal ones the lowest index comes first.

    Attributes
    ----------
    cluster, size : int
    typical : ndarray of int64
        The rows nearest to the center, nearest first.
    doubtful : ndarray of int64
        The rows of the smallest margins, smallest first; none where there is no other cluster.
    farthest : ndarray of int64
        The rows farthest from the center, farthest first.
    """

    cluster: int
    size: int
    typical: NDArray[np.int64]
    doubtful: NDArray[np.int64]
    farthest: NDArray[np.int64]


class Members(Sequence[ClusterMembers]):
    """The members of every cluster, by its number.

    Attributes
    ----------
    labels : ndarray of shape (n_samples,), int64
    margins : Margins
        Distance, second nearest center and margin of every row.
    """

    def __init__(self, clusters: list[ClusterMembers], labels: NDArray[np.int64], found: Margins) -> None:
        self._clusters, self.labels, self.margins = clusters, labels, found

    def __getitem__(self, index: Any) -> Any:
        return self._clusters[index]

    def __len__(self) -> int:
        return len(self._clusters)

    def _rows(self) -> list[tuple[str, ...]]:
        def told(rows: NDArray[np.int64], values: F64) -> str:
            return ", ".join(f"{row} ({values[row]:.4g})" for row in rows[:3].tolist())

        distance, margin = self.margins.distance, self.margins.margin
        return [
            (
                str(of.cluster),
                f"{of.size:,}",
                told(of.typical, distance),
                told(of.doubtful, margin),
                told(of.farthest, distance),
            )
            for of in self
        ]

    _HEAD = ("cluster", "rows", "typical (distance)", "doubtful (margin)", "farthest (distance)")

    def __repr__(self) -> str:
        """Up to three rows of each kind, for each cluster."""
        return text_table([self._HEAD, *self._rows()], "<")

    def _repr_html_(self) -> str:
        """The same, for notebooks."""
        return html_table(self._rows(), head=self._HEAD)


def members(model: Any, X: ArrayLike, *, n: int = 10) -> Members:
    """Find the most typical, the most doubtful and the farthest rows of each cluster.

    Parameters
    ----------
    model : fitted model
        With `cluster_centers_`; the clusters are those of ``model.predict(X)``.
    X : array-like of shape (n_samples, n_features)
        Dense rows; they need not be the fitted ones.
    n : int, default=10
        Rows of each kind, or all where a cluster has fewer.

    Returns
    -------
    Members
        One `ClusterMembers` for each cluster.

    Raises
    ------
    ValueError
        X does not fit the model, or `n` is below 1.

    Notes
    -----
    Distances are Euclidean, also those of `SphericalKMeans`; a bisecting model may give a row another cluster than that
    of the nearest center, and its margin then is negative.  See :func:`gpukmeans.evaluation.margins`.

    Examples
    --------
    >>> import gpukmeans
    >>> X = [[0.0], [1.0], [4.0], [9.0], [10.0]]
    >>> model = gpukmeans.fit(X, 2, init=[[1.0], [9.0]])
    >>> first = gpukmeans.members(model, X, n=2)[0]
    >>> first.typical.tolist(), first.doubtful.tolist(), first.farthest.tolist()
    ([1, 0], [2, 0], [2, 0])
    """
    if n < 1:
        raise ValueError(f"n={n} should be at least 1")
    labels = on_host(model.predict(X)).astype(np.int64)
    centers = on_host(model.cluster_centers_)
    return members_of(labels, margins(X, labels, centers), len(centers), n)


def members_of(labels: NDArray[np.int64], found: Margins, n_clusters: int, n: int) -> Members:
    """The same where the margins are known already."""
    clusters = []
    of_clusters = dict(rows_by_cluster(labels, n_clusters))
    for cluster in range(n_clusters):
        rows = of_clusters.get(cluster, np.empty(0, np.intp))
        distance, margin = found.distance[rows], found.margin[rows]
        clusters.append(
            ClusterMembers(
                cluster,
                len(rows),
                _first(rows, distance, n),
                _first(rows, margin, n) if n_clusters > 1 else rows[:0],
                _first(rows, -distance, n),
            )
        )
    return Members(clusters, labels, found)


def _first(rows: NDArray[np.intp], values: F64, n: int) -> NDArray[np.int64]:
    """The rows of the `n` smallest values, in rising order."""
    return rows[np.argsort(values, kind="stable")[:n]].astype(np.int64)
