"""The metrics of a clustering: one row a metric in `METRICS`, and nothing anywhere else.

A new metric is a new row.  It then is an attribute of `Evaluation`, an entry of its JSON and of that of
``gpukmeans mnist --json``, a line of every printed table, and a line of `Evaluation`'s documentation.

The metrics are scikit-learn's; only what it lacks is written here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn import metrics
from sklearn.utils import check_random_state

from gpukmeans.backends.csr.table import SparseTable, own_square_distances
from gpukmeans.evaluation.classes import cluster_class_counts, matched_classes
from gpukmeans.evaluation.silhouettes import silhouette
from gpukmeans.threads import workers

#: Bytes of float64 rows in one block of the inertia.
BLOCK_BYTES = 32 << 20


@dataclass
class Clustering:
    """What a metric is computed from, on the host.

    Attributes
    ----------
    X : ndarray or CSR of shape (n_samples, n_features)
        In the caller's dtype: a metric that adds or multiplies converts to float64 first.
    labels : ndarray of shape (n_samples,), int64
    y : ndarray of shape (n_samples,), or None
        Classes, where they are known.
    n_clusters : int
    n_sampled : int
        Rows in the random sample of metrics whose cost grows with the square.
    random_state : int, RandomState or None
        Draws that sample.
    known_inertia : float or None
        Of the fit.
    sample_weight : ndarray of shape (n_samples,), float64, or None
        None: all are one.
    centers : ndarray of shape (n_clusters, n_features), or None
        That the inertia is about; None: the means of the clusters.
    """

    X: Any
    labels: NDArray[np.int64]
    y: Any
    n_clusters: int
    n_sampled: int
    random_state: int | np.random.RandomState | None
    known_inertia: float | None
    sample_weight: NDArray[np.float64] | None = None
    centers: NDArray | None = None

    @cached_property
    def _counted(self) -> tuple[NDArray[Any], NDArray[Any]]:
        counts, classes = cluster_class_counts(self.labels, self.y, self.n_clusters)
        if self.sample_weight is None:
            return counts, classes
        weighed = np.zeros(counts.shape)
        np.add.at(weighed, (self.labels, np.searchsorted(classes, self.y)), self.sample_weight)
        return weighed, classes

    @property
    def total(self) -> float:
        """The number of rows, or their weight."""
        return len(self.labels) if self.sample_weight is None else float(self.sample_weight.sum())

    @property
    def counts(self) -> NDArray[Any]:
        """Rows of each class in each cluster, or their weight, (n_clusters, n_classes)."""
        return self._counted[0]

    @property
    def classes(self) -> NDArray[Any]:
        """The class of each column of `counts`, (n_classes,)."""
        return self._counted[1]

    @cached_property
    def entropies(self) -> tuple[float, float, float]:
        """Homogeneity, completeness and V-measure."""
        if self.sample_weight is not None:
            return _weighted_entropies(self.counts / self.total)
        return metrics.homogeneity_completeness_v_measure(self.y, self.labels)


class Metric(NamedTuple):
    """One metric.

    Attributes
    ----------
    name : str
        The attribute of `Evaluation`, and the key in JSON.
    title : str or None
        What printed tables call it; None: not printed.  {sample} stands for the size of the random sample.
    compute : callable
        Called with a `Clustering`; returns a float, or None where the metric is not defined.
    about : str
        Range, meaning and source, for the documentation.
    needs_classes : bool, default=True
        Without classes the metric is None and `compute` is not called; False for a metric of rows and labels only.
    spec : str, default=".4f"
        How printed tables format it.
    takes_weights : bool, default=True
        Whether it is defined for weighted rows; otherwise it is None for these.
    in_square_units : bool, default=False
        Whether it is in squared units of the rows, which printed tables may name.
    short : str or None, default=None
        What a column of a wide table is called; None: `name`.
    """

    name: str
    title: str | None
    compute: Callable[[Clustering], float | None]
    about: str
    needs_classes: bool = True
    spec: str = ".4f"
    takes_weights: bool = True
    in_square_units: bool = False
    short: str | None = None

    @property
    def column(self) -> str:
        """What a column of a wide table is called."""
        return self.short or self.name


def has_contrast(labels: NDArray[np.int64]) -> bool:
    """Whether there are two clusters, and one has two rows: else metrics that contrast clusters are not defined."""
    return 2 <= len(np.unique(labels)) < len(labels)


def _inertia(c: Clustering) -> float:
    if c.known_inertia is not None:
        return c.known_inertia
    return _inertia_about(c.X, c.labels, c.n_clusters, c.centers, c.sample_weight)


def _weighted_entropies(p: NDArray[np.float64]) -> tuple[float, float, float]:
    """Homogeneity, completeness and V-measure of joint probabilities (n_clusters, n_classes), by their definition."""

    def entropy(q: NDArray[np.float64]) -> float:
        return float(-(q[q > 0.0] * np.log(q[q > 0.0])).sum())

    of_clusters, of_classes, joint = entropy(p.sum(axis=1)), entropy(p.sum(axis=0)), entropy(p.ravel())
    shared = max(0.0, of_clusters + of_classes - joint)
    homogeneity = shared / of_classes if of_classes else 1.0
    completeness = shared / of_clusters if of_clusters else 1.0
    both = homogeneity + completeness
    return homogeneity, completeness, 2.0 * homogeneity * completeness / both if both else 0.0


def _silhouette(c: Clustering) -> float | None:
    X, labels = c.X, c.labels
    if c.n_sampled < len(labels):
        sample = np.sort(check_random_state(c.random_state).choice(len(labels), c.n_sampled, replace=False))
        X, labels = X[sample], labels[sample]
    if not has_contrast(labels):
        return None
    return silhouette(labels, X).mean


def _inertia_about(
    X: Any,
    clusters: NDArray[np.int64],
    n_clusters: int,
    centers: NDArray | None,
    weight: NDArray[np.float64] | None,
) -> float:
    """Sum the squared distances to centers or means, without a copy of X in float64, or dense, as a whole."""
    weights = np.ones(len(clusters)) if weight is None else weight
    sizes = np.bincount(clusters, weights, minlength=n_clusters)[:, None]
    sizes = np.where(sizes > 0.0, sizes, 1.0)
    if sparse.issparse(X):
        starts = np.arange(len(clusters) + 1)
        members = sparse.csr_array((weights, clusters, starts), shape=(len(clusters), n_clusters))
        means = (members.T @ X).toarray() / sizes if centers is None else centers
        with workers(X.nnz) as pool:
            return float((weights * own_square_distances(SparseTable(X), clusters.astype(np.int32), means, pool)).sum())
    n_rows = max(1, BLOCK_BYTES // (8 * max(1, X.shape[1])))
    blocks = [slice(start, start + n_rows) for start in range(0, len(X), n_rows)]
    if centers is None:
        sums = np.zeros((n_clusters, X.shape[1]))
        for block in blocks:
            np.add.at(sums, clusters[block], weights[block, None] * X[block])
        centers = sums / sizes
    squares = (np.square(X[block].astype(np.float64) - centers[clusters[block]]).sum(axis=1) for block in blocks)
    return float(sum(weights[block] @ square for block, square in zip(blocks, squares, strict=True)))


#: In the order of printed tables.
METRICS: tuple[Metric, ...] = (
    Metric(
        "inertia",
        "inertia",
        _inertia,
        "Sum of squared distances of the rows to the center of their cluster, in squared units of the rows.",
        needs_classes=False,
        spec=".15g",
        in_square_units=True,
    ),
    Metric(
        "homogeneity",
        "homogeneity",
        lambda c: float(c.entropies[0]),
        "0 to 1: whether clusters hold rows of one class only. Rosenberg and Hirschberg, EMNLP-CoNLL 2007.",
        short="homog.",
    ),
    Metric(
        "completeness",
        "completeness",
        lambda c: float(c.entropies[1]),
        "0 to 1: whether the rows of a class lie in one cluster. Rosenberg and Hirschberg, EMNLP-CoNLL 2007.",
        short="compl.",
    ),
    Metric(
        "v_measure",
        "V-measure (equal to NMI)",
        lambda c: float(c.entropies[2]),
        "0 to 1: the harmonic mean of these two. Rosenberg and Hirschberg, EMNLP-CoNLL 2007.",
        short="V",
    ),
    Metric(
        "adjusted_rand",
        "adjusted Rand index",
        lambda c: float(metrics.adjusted_rand_score(c.y, c.labels)),
        "-0.5 to 1, 0 for chance. Hubert and Arabie, Journal of Classification 2:193-218, 1985.",
        takes_weights=False,
        short="ARI",
    ),
    Metric(
        "adjusted_mutual_information",
        "adjusted mutual information",
        lambda c: float(metrics.adjusted_mutual_info_score(c.y, c.labels)),
        "At most 1, 0 on average for chance. Vinh, Epps and Bailey, Journal of Machine Learning Research 11:2837-2854, "
        "2010.",
        takes_weights=False,
        short="AMI",
    ),
    Metric(
        "nmi",
        None,
        lambda c: (
            c.entropies[2]
            if c.sample_weight is not None
            else float(metrics.normalized_mutual_info_score(c.y, c.labels))
        ),
        "Mutual information over the arithmetic mean of the entropies, 0 to 1. (By definition the V-measure.)",
    ),
    Metric(
        "silhouette",
        "silhouette{sample}",
        _silhouette,
        "Mean silhouette, -1 to 1, of the rows of a random sample within that sample; None if the sample holds fewer "
        "than two clusters or only clusters of one row.",
        needs_classes=False,
        takes_weights=False,
    ),
    Metric(
        "accuracy",
        "accuracy by majority class",
        lambda c: float(c.counts.max(axis=1).sum()) / c.total,
        "Share of rows in the class that is most frequent in their cluster (also called purity).",
    ),
    Metric(
        "matched_accuracy",
        "accuracy with one cluster per class",
        lambda c: float(c.counts[matched_classes(c.counts)].sum()) / c.total,
        "Share of rows in the class of their cluster when each class names at most one cluster, chosen best.",
        short="matched",
    ),
)
