"""Which classes lie in which clusters, and the names that clusters get from them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.metrics.cluster import contingency_matrix

from gpukmeans.intake.kinds import n_axes, on_host


def cluster_class_counts(
    labels: ArrayLike, y: ArrayLike, n_clusters: int | None = None
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Count the rows of each class in each cluster.

    Parameters
    ----------
    labels : array-like of shape (n_samples,), int
        Cluster of each row, 0 to ``n_clusters - 1``.
    y : array-like of shape (n_samples,)
        Class of each row, of any kind that sorts.
    n_clusters : int, optional
        Number of clusters; ``max(labels) + 1`` by default.

    Returns
    -------
    counts : ndarray of shape (n_clusters, n_classes), int64
        Clusters without rows have rows of zeros.
    classes : ndarray of shape (n_classes,)
        The class of each column, sorted.

    Raises
    ------
    ValueError
        Lengths differ, there are no rows, or a label is out of range.

    Examples
    --------
    >>> from gpukmeans.evaluation import cluster_class_counts
    >>> counts, classes = cluster_class_counts([0, 0, 2], [7, 8, 8])
    >>> counts
    array([[1, 1],
           [0, 0],
           [0, 1]])
    >>> classes
    array([7, 8])
    """
    clusters, n_clusters = checked_labels(labels, n_clusters)
    classes, y_index = np.unique(checked_classes(y, len(clusters)), return_inverse=True)
    counts = np.zeros((n_clusters, len(classes)), dtype=np.int64)
    counts[np.unique(clusters)] = contingency_matrix(clusters, y_index)  # scikit-learn's has no rows for empty ones
    return counts, classes


def majority_classes(counts: ArrayLike, classes: ArrayLike) -> NDArray[Any]:
    """Name each cluster after its most frequent class; of equally frequent ones, the first.

    Parameters
    ----------
    counts : array-like of shape (n_clusters, n_classes)
        From :func:`cluster_class_counts`.
    classes : array-like of shape (n_classes,)

    Returns
    -------
    ndarray of shape (n_clusters,)
        An empty cluster gets the first class; it has no rows that could be counted wrong.

    Examples
    --------
    >>> from gpukmeans.evaluation import majority_classes
    >>> majority_classes([[5, 1], [0, 4], [3, 0]], [7, 8])
    array([7, 8, 7])
    """
    return on_host(classes)[on_host(counts).argmax(axis=1)]


def cluster_names(counts: ArrayLike, classes: ArrayLike) -> list[str]:
    """Name each cluster after its most frequent class, and say where that is a weak majority.

    A majority is weak if the class has less than half of the rows, or the second has more than two thirds as many: such
    a cluster is named after both, "4 / 9 mixed".

    Parameters
    ----------
    counts : array-like of shape (n_clusters, n_classes)
        From :func:`cluster_class_counts`.
    classes : array-like of shape (n_classes,)

    Returns
    -------
    list of str, of length n_clusters
        "empty" for a cluster without rows.

    Examples
    --------
    >>> from gpukmeans.evaluation import cluster_names
    >>> cluster_names([[50, 1], [30, 40], [0, 0]], [4, 9])
    ['4', '9 / 4 mixed', 'empty']
    """
    table, names = on_host(counts), [str(name) for name in on_host(classes)]
    found = []
    for row in table:
        first, second = [*np.argsort(-row, kind="stable"), 0][:2]
        if not row[first]:
            found.append("empty")
        elif 2 * row[first] < row.sum() or (len(row) > 1 and 3 * row[second] > 2 * row[first]):
            found.append(f"{names[first]} / {names[second]} mixed")
        else:
            found.append(names[first])
    return found


def matched_classes(counts: ArrayLike) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pair clusters with classes, one to one, so that most rows lie in the class of their cluster.

    Parameters
    ----------
    counts : array-like of shape (n_clusters, n_classes)
        From :func:`cluster_class_counts`.

    Returns
    -------
    clusters, columns : ndarrays of shape (min(n_clusters, n_classes),)
        The pairs: cluster, and column of `counts`.

    Notes
    -----
    H. W. Kuhn, "The Hungarian method for the assignment problem", Naval Research Logistics Quarterly 2:83-97, 1955;
    solved by :func:`scipy.optimize.linear_sum_assignment`.

    Examples
    --------
    >>> from gpukmeans.evaluation import matched_classes
    >>> clusters, columns = matched_classes([[5, 1], [0, 4], [3, 0]])
    >>> clusters, columns
    (array([0, 1]), array([0, 1]))
    """
    return linear_sum_assignment(on_host(counts), maximize=True)


def checked_labels(labels: ArrayLike, n_clusters: int | None) -> tuple[NDArray[np.int64], int]:
    """Labels as int64 and the number of clusters, or a ValueError."""
    array = on_host(labels)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iu":
        raise ValueError(f"labels has shape {array.shape} and dtype {array.dtype}, expected (n_samples,) whole numbers")
    lowest, highest = int(array.min()), int(array.max())
    n_clusters = highest + 1 if n_clusters is None else n_clusters
    if lowest < 0 or highest >= n_clusters:
        raise ValueError(f"labels range from {lowest} to {highest}, expected 0 to n_clusters - 1 = {n_clusters - 1}")
    return array.astype(np.int64), n_clusters


def checked_classes(y: ArrayLike, n_samples: int) -> NDArray[Any]:
    """Classes as an array, one for each label, or a ValueError."""
    array = on_host(y)
    if array.shape != (n_samples,):
        raise ValueError(f"y has shape {array.shape}, expected ({n_samples},): one class for each label")
    return array


def model_given(model_or_labels: Any, X: ArrayLike, call: str) -> Any:
    """The model, or None where labels are given; a TypeError that shows the `call` where rows stand before labels."""
    if hasattr(model_or_labels, "predict"):
        return model_or_labels
    if n_axes(model_or_labels) >= 2 and n_axes(X) == 1:
        name = call.partition("(")[0]
        raise TypeError(f"{name} takes the labels, or a model, before the rows: gpukmeans.{call}")
    return None


def require_a_label_each(rows: Any, labels: NDArray[np.int64]) -> None:
    """Raise a ValueError unless there is a label for each row."""
    if rows.shape[0] != len(labels):
        raise ValueError(f"X has {rows.shape[0]} rows, but labels has {len(labels)}; they should be the same")


def rows_by_cluster(labels: NDArray[np.int64], n_clusters: int) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """The rows of each cluster that has any."""
    order = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=n_clusters)).tolist()
    for cluster, (start, stop) in enumerate(zip([0, *ends], ends, strict=False)):
        if stop > start:
            yield cluster, order[start:stop]
