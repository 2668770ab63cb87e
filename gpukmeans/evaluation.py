"""How well a clustering agrees with known classes, and how compact it is: the metric table.

The metrics are scikit-learn's; only what it lacks is written here: the naming of clusters after classes and the
accuracies that follow from it.  All is computed on the host: torch tensors and arrays on a device are copied there.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from sklearn import metrics
from sklearn.metrics.cluster import contingency_matrix
from sklearn.utils import check_random_state

from gpukmeans.arrays.on_device import host_copy

__all__ = ["Evaluation", "cluster_class_counts", "evaluate", "majority_classes", "matched_classes"]

_BLOCK_BYTES = 32 << 20  # of float64 rows in one block of the inertia


@dataclass(frozen=True)
class Evaluation:
    """The metrics of one clustering; those that need classes are None without them.

    Attributes
    ----------
    n_samples, n_clusters : int
    inertia : float
        Sum of squared distances of the rows to the center of their cluster, in squared units of the rows.
    silhouette : float or None
        Mean silhouette, -1 to 1, of the rows of a random sample within that sample; None if the sample holds fewer
        than two clusters or only clusters of one row.
    silhouette_sample_size : int
        Rows in that sample.
    homogeneity, completeness, v_measure : float or None
        0 to 1. Rosenberg and Hirschberg, EMNLP-CoNLL 2007.
    adjusted_rand : float or None
        -0.5 to 1, 0 for chance. Hubert and Arabie, Journal of Classification 2:193-218, 1985.
    nmi : float or None
        Mutual information over the arithmetic mean of the entropies, 0 to 1. (By definition the V-measure.)
    accuracy : float or None
        Share of rows in the class that is most frequent in their cluster (also called purity).
    matched_accuracy : float or None
        Share of rows in the class of their cluster when each class names at most one cluster, chosen best.
    sizes : tuple of int
        Rows per cluster.
    classes : tuple of int or None
        Most frequent class of each cluster, see :func:`majority_classes`.
    """

    n_samples: int
    n_clusters: int
    inertia: float
    silhouette: float | None
    silhouette_sample_size: int
    homogeneity: float | None
    completeness: float | None
    v_measure: float | None
    adjusted_rand: float | None
    nmi: float | None
    accuracy: float | None
    matched_accuracy: float | None
    sizes: tuple[int, ...]
    classes: tuple[int, ...] | None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a dict of plain Python values, ready for JSON."""
        return asdict(self)

    def rows(self) -> list[tuple[str, str]]:
        """Return name and formatted value of every metric that has a value, for printing."""
        sample = f"silhouette (random sample of {self.silhouette_sample_size:,} rows)"
        if self.silhouette_sample_size == self.n_samples:
            sample = "silhouette"
        named = [
            ("inertia", f"{self.inertia:.15g}"),
            ("homogeneity", self.homogeneity),
            ("completeness", self.completeness),
            ("V-measure (equal to NMI)", self.v_measure),
            ("adjusted Rand index", self.adjusted_rand),
            (sample, self.silhouette),
            ("accuracy by majority class", self.accuracy),
            ("accuracy with one cluster per class", self.matched_accuracy),
        ]
        return [
            (name, value if isinstance(value, str) else f"{value:.4f}") for name, value in named if value is not None
        ]

    def __str__(self) -> str:
        """Return the metric table, one metric a line."""
        rows = self.rows()
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


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
    clusters, n_clusters = _checked_labels(labels, n_clusters)
    classes, y_index = np.unique(_checked_classes(y, len(clusters)), return_inverse=True)
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
    return np.asarray(host_copy(classes))[np.asarray(host_copy(counts)).argmax(axis=1)]


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
    return linear_sum_assignment(np.asarray(host_copy(counts)), maximize=True)


def evaluate(
    X: ArrayLike,
    labels: ArrayLike,
    y: ArrayLike | None = None,
    *,
    n_clusters: int | None = None,
    inertia: float | None = None,
    silhouette_sample_size: int = 5000,
    random_state: int | np.random.RandomState | None = 0,
) -> Evaluation:
    """Compute the metric table of a clustering.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        The rows, in any real dtype.
    labels : array-like of shape (n_samples,), int
        Cluster of each row, 0 to ``n_clusters - 1``.
    y : array-like of shape (n_samples,), optional
        Class of each row.
    n_clusters : int, optional
        Number of clusters; ``max(labels) + 1`` by default.
    inertia : float, optional
        Of the fit, if known; otherwise computed in float64 from the mean of each cluster.
    silhouette_sample_size : int, default=5000
        Rows in the random sample for the silhouette, whose cost grows with the square; all rows if there are fewer.
    random_state : int, RandomState or None, default=0
        Draws that sample.

    Returns
    -------
    Evaluation

    Raises
    ------
    ValueError
        Lengths differ, there are no rows, a label is out of range, or the sample size is below 1.

    Examples
    --------
    >>> from gpukmeans.evaluation import evaluate
    >>> table = evaluate([[0], [1], [8], [9], [9]], [0, 0, 1, 1, 1], y=[7, 7, 8, 8, 7])
    >>> table.accuracy, table.sizes, table.classes
    (0.8, (2, 3), (7, 8))
    >>> round(table.inertia, 4)
    1.1667
    """
    X = np.asarray(host_copy(X))
    if X.ndim != 2:
        raise ValueError(f"X has shape {X.shape}, expected (n_samples, n_features)")
    clusters, n_clusters = _checked_labels(labels, n_clusters)
    if len(X) != len(clusters):
        raise ValueError(f"X has {len(X)} rows, but labels has {len(clusters)}; they should be the same")
    if silhouette_sample_size < 1:
        raise ValueError(f"silhouette_sample_size={silhouette_sample_size} should be at least 1")
    agreement: dict[str, Any] = dict.fromkeys(
        ("homogeneity", "completeness", "v_measure", "adjusted_rand", "nmi", "accuracy", "matched_accuracy", "classes")
    )
    if y is not None:
        agreement = _agreement(clusters, _checked_classes(y, len(clusters)), n_clusters)
    n_sampled = min(silhouette_sample_size, len(X))
    return Evaluation(
        n_samples=len(X),
        n_clusters=n_clusters,
        inertia=_inertia_about_means(X, clusters, n_clusters) if inertia is None else float(inertia),
        silhouette=_sampled_silhouette(X, clusters, n_sampled, random_state),
        silhouette_sample_size=n_sampled,
        sizes=tuple(np.bincount(clusters, minlength=n_clusters).tolist()),
        **agreement,
    )


def _agreement(clusters: NDArray[np.int64], y: NDArray[Any], n_clusters: int) -> dict[str, Any]:
    counts, classes = cluster_class_counts(clusters, y, n_clusters)
    homogeneity, completeness, v_measure = metrics.homogeneity_completeness_v_measure(y, clusters)
    return {
        "homogeneity": float(homogeneity),
        "completeness": float(completeness),
        "v_measure": float(v_measure),
        "adjusted_rand": float(metrics.adjusted_rand_score(y, clusters)),
        "nmi": float(metrics.normalized_mutual_info_score(y, clusters)),
        "accuracy": int(counts.max(axis=1).sum()) / len(y),
        "matched_accuracy": int(counts[matched_classes(counts)].sum()) / len(y),
        "classes": tuple(majority_classes(counts, classes).tolist()),
    }


def _sampled_silhouette(
    X: NDArray[Any], clusters: NDArray[np.int64], n_sampled: int, random_state: int | np.random.RandomState | None
) -> float | None:
    if n_sampled < len(X):
        sample = np.sort(check_random_state(random_state).choice(len(X), n_sampled, replace=False))
        X, clusters = X[sample], clusters[sample]
    if not 2 <= len(np.unique(clusters)) < len(clusters):  # where the silhouette is defined
        return None
    return float(metrics.silhouette_score(X.astype(np.float64), clusters))


def _inertia_about_means(X: NDArray[Any], clusters: NDArray[np.int64], n_clusters: int) -> float:
    """Sum the squared distances to the cluster means, in blocks, so that X is never copied whole to float64."""
    n_rows = max(1, _BLOCK_BYTES // (8 * max(1, X.shape[1])))
    blocks = [slice(start, start + n_rows) for start in range(0, len(X), n_rows)]
    sums = np.zeros((n_clusters, X.shape[1]))
    for block in blocks:
        np.add.at(sums, clusters[block], X[block].astype(np.float64))
    means = sums / np.maximum(np.bincount(clusters, minlength=n_clusters), 1)[:, None]
    return float(sum(np.square(X[block].astype(np.float64) - means[clusters[block]]).sum() for block in blocks))


def _checked_labels(labels: ArrayLike, n_clusters: int | None) -> tuple[NDArray[np.int64], int]:
    array = np.asarray(host_copy(labels))
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iu":
        raise ValueError(f"labels has shape {array.shape} and dtype {array.dtype}, expected (n_samples,) whole numbers")
    lowest, highest = int(array.min()), int(array.max())
    n_clusters = highest + 1 if n_clusters is None else n_clusters
    if lowest < 0 or highest >= n_clusters:
        raise ValueError(f"labels range from {lowest} to {highest}, expected 0 to n_clusters - 1 = {n_clusters - 1}")
    return array.astype(np.int64), n_clusters


def _checked_classes(y: ArrayLike, n_samples: int) -> NDArray[Any]:
    array = np.asarray(host_copy(y))
    if array.shape != (n_samples,):
        raise ValueError(f"y has shape {array.shape}, expected ({n_samples},): one class for each label")
    return array
