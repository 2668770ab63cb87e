"""Clusters named after known classes: a classifier, and how often it is right."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpukmeans.evaluation.classes import (
    checked_classes,
    cluster_class_counts,
    cluster_names,
    majority_classes,
    matched_classes,
)
from gpukmeans.intake.kinds import on_host
from gpukmeans.tables import html_table


class Accuracy(NamedTuple):
    """How often named clusters have the class of a row.

    Attributes
    ----------
    majority : float
        Share of the rows whose class is the most frequent one of their cluster, among the rows that named it.
    one_to_one : float
        The same if every class names at most one cluster, and each cluster at most one class, chosen best for the rows
        that named them; rows of other clusters count as wrong.
    n_samples : int
        The rows that were looked at.
    """

    majority: float
    one_to_one: float
    n_samples: int

    def __str__(self) -> str:
        """Both, in words."""
        return (
            f"{self.majority:.4f} by majority class, {self.one_to_one:.4f} with one cluster per class, of "
            f"{self.n_samples:,} rows"
        )


class ClusterNames:
    """Clusters of a model and the classes that they are named after; see :func:`name_clusters`.

    Attributes
    ----------
    model : fitted model
    counts : ndarray of shape (n_clusters, n_classes), int64
        Rows of each class in each cluster.
    classes : ndarray of shape (n_classes,)
        All classes, sorted.
    names : list of str
        Of each cluster: its most frequent class, "4 / 9 mixed" where that is a weak majority (see
        :func:`cluster_names`), "empty" where it has no rows.
    unnamed : list
        Classes that are the most frequent of no cluster, so that `predict` never returns them.
    accuracy : Accuracy
        Of the rows that named the clusters.
    """

    def __init__(self, model: Any, counts: NDArray[np.int64], classes: NDArray[Any]) -> None:
        self.model = model
        self.counts = counts
        self.classes = classes
        self.names = cluster_names(counts, classes)
        self._class_of = majority_classes(counts, classes)
        filled = np.flatnonzero(counts.any(axis=1))
        self.unnamed: list[Any] = np.setdiff1d(classes, self._class_of[filled]).tolist()
        centers = on_host(model.cluster_centers_).astype(np.float64)
        for empty in np.flatnonzero(~counts.any(axis=1)).tolist():  # new rows there are those of the nearest cluster
            nearest = filled[np.square(centers[filled] - centers[empty]).sum(axis=1).argmin()]
            self._class_of[empty] = self._class_of[nearest]
        self._matched = dict(zip(*(pair.tolist() for pair in matched_classes(counts)), strict=True))
        self.accuracy = self._judged(counts, classes)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The class of each row: the most frequent one of its cluster.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
            In the dtype of the classes, on the host.  A cluster without rows counts as the one nearest to it.
        """
        return self._class_of[on_host(self.model.predict(X))]

    def score(self, X: ArrayLike, y: ArrayLike) -> Accuracy:
        """How often the names are right for other rows, such as those of a test.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
            Their classes; some may be new.

        Returns
        -------
        Accuracy
        """
        return self._judged(*cluster_class_counts(self.model.predict(X), y, len(self.counts)))

    def _judged(self, counts: NDArray[np.int64], classes: NDArray[Any]) -> Accuracy:
        total = int(counts.sum())
        majority = int(counts[self._class_of[:, None] == classes].sum())
        one_to_one = sum(
            int(counts[cluster][classes == self.classes[column]].sum()) for cluster, column in self._matched.items()
        )
        return Accuracy(majority / total, one_to_one / total, total)

    def _rows(self) -> list[tuple[str, str, str, str]]:
        sizes, largest = self.counts.sum(axis=1), self.counts.max(axis=1)
        shares = [f"{large / size:.1%}" if size else "-" for large, size in zip(largest, sizes, strict=True)]
        return [
            (str(cluster), name, f"{size:,}", share)
            for cluster, (name, size, share) in enumerate(zip(self.names, sizes.tolist(), shares, strict=True))
        ]

    def _notes(self) -> str:
        unnamed = f"; no cluster is named {', '.join(map(str, self.unnamed))}" if self.unnamed else ""
        return f"accuracy on the rows that named them: {self.accuracy}{unnamed}"

    def __repr__(self) -> str:
        """One line a cluster, of the first ten, and the accuracy."""
        rows = [f"{cluster:>5}  {name}, {size} rows, {share}" for cluster, name, size, share in self._rows()]
        more = [f"  ... {len(rows) - 10:,} more"] if len(rows) > 10 else []
        return "\n".join([f"Names of {len(rows):,} clusters", *rows[:10], *more, self._notes()])

    def _repr_html_(self) -> str:
        """The same as a table, of all clusters."""
        return html_table(self._rows(), ("cluster", "name", "rows", "share of its class"), self._notes())


def name_clusters(model: Any, X: ArrayLike, y: ArrayLike) -> ClusterNames:
    """Name the clusters of a fitted model after the classes of rows.

    Parameters
    ----------
    model : fitted model
        With `predict` and `cluster_centers_`.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Mostly the rows of the fit, or those of them whose class is known.
    y : array-like of shape (n_samples,)
        The class of each row, of any kind that sorts.

    Returns
    -------
    ClusterNames
        Its `predict` returns classes, `score` judges other rows, `accuracy` is that of these.

    Raises
    ------
    ValueError
        X and y have different lengths.

    See Also
    --------
    gpukmeans.evaluate : all metrics of a clustering.

    Examples
    --------
    >>> import gpukmeans
    >>> X, y = [[0.0], [1.0], [1.5], [9.0], [10.0], [11.0]], ["a", "a", "b", "c", "c", "c"]
    >>> model = gpukmeans.fit(X, 2, random_state=0)
    >>> names = gpukmeans.name_clusters(model, X, y)
    >>> sorted(names.names), names.predict([[0.0], [12.0]]).tolist(), names.unnamed
    (['a', 'c'], ['a', 'c'], ['b'])
    >>> print(names.accuracy)
    0.8333 by majority class, 0.8333 with one cluster per class, of 6 rows
    """
    labels = on_host(model.predict(X))
    return ClusterNames(
        model, *cluster_class_counts(labels, checked_classes(y, len(labels)), len(on_host(model.cluster_centers_)))
    )
