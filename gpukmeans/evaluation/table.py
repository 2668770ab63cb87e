"""The metric table of a clustering."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gpukmeans.estimators.spherical import SphericalKMeans
from gpukmeans.evaluation.classes import (
    checked_classes,
    checked_labels,
    majority_classes,
    model_given,
    require_a_label_each,
)
from gpukmeans.evaluation.metrics import METRICS, Clustering, Metric
from gpukmeans.intake.checks import check_rows_on_host, check_weights_on_host
from gpukmeans.intake.kinds import on_host
from gpukmeans.tables import html_table


@dataclass(frozen=True, repr=False)
class Evaluation:
    """The metrics of one clustering; those that need classes are None without them.

    Attributes
    ----------
    n_samples, n_clusters : int
    silhouette_sample_size : int
        Rows in the random sample for the silhouette.
    sizes : tuple of int
        Rows per cluster.
    classes : tuple of int or None
        Most frequent class of each cluster, see :func:`majority_classes`.
    values : mapping of str to float or None
        Every metric by its name; each is an attribute, too:
    """

    n_samples: int
    n_clusters: int
    silhouette_sample_size: int
    sizes: tuple[int, ...]
    classes: tuple[Any, ...] | None
    values: Mapping[str, float | None]

    def __getattr__(self, name: str) -> float | None:
        values = self.__dict__.get("values", {})
        if name in values:
            return values[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}; metrics: {', '.join(values)}")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.values})

    def as_dict(self) -> dict[str, Any]:
        """Return all as a dict of plain Python values, ready for JSON."""
        return {
            "n_samples": self.n_samples,
            "n_clusters": self.n_clusters,
            **self.values,
            "silhouette_sample_size": self.silhouette_sample_size,
            "sizes": self.sizes,
            "classes": self.classes,
        }

    def rows(self, units: str = "") -> list[tuple[str, str]]:
        """Return title and formatted value of every metric that has a value and a title, for printing.

        Parameters
        ----------
        units : str, default=""
            What the rows are measured in; metrics in squared units then name them.
        """
        sampled = self.silhouette_sample_size < self.n_samples
        sample = f" (random sample of {self.silhouette_sample_size:,} rows)" if sampled else ""
        found = []
        for metric in METRICS:
            value = self.values[metric.name]
            if metric.title is None or value is None:
                continue
            title = metric.title.format(sample=sample)
            if metric.in_square_units and units:
                title = f"{title}, squared {units}"
            found.append((title, f"{value:{metric.spec}}"))
        return found

    def __str__(self) -> str:
        """Return the metric table, one metric a line."""
        rows = self.rows()
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)

    def __repr__(self) -> str:
        """Rows, clusters and the metric table."""
        return f"Evaluation of {self.n_samples:,} rows in {self.n_clusters:,} clusters\n{self}"

    def _repr_html_(self) -> str:
        """The same, for notebooks."""
        return html_table(self.rows(), caption=f"{self.n_samples:,} rows in {self.n_clusters:,} clusters")


def _documented() -> str:
    """One entry for each metric, in the form of the class's docstring."""
    indent = " " * 8
    entries = [
        f"    {metric.name} : float or None\n"
        + textwrap.fill(metric.about, 112, initial_indent=indent, subsequent_indent=indent)
        for metric in METRICS
    ]
    return "\n".join(entries)


Evaluation.__doc__ = f"{(Evaluation.__doc__ or '').rstrip()}\n{_documented()}\n    "


def evaluate(
    model_or_labels: Any,
    X: ArrayLike,
    y: ArrayLike | None = None,
    *,
    sample_weight: ArrayLike | None = None,
    n_clusters: int | None = None,
    inertia: float | None = None,
    silhouette_sample_size: int = 5000,
    random_state: int | np.random.RandomState | None = 0,
) -> Evaluation:
    """Compute the metric table of a clustering.

    Parameters
    ----------
    model_or_labels : fitted model, or array-like of shape (n_samples,), int
        The cluster of each row, 0 to ``n_clusters - 1``; of a model ``model.predict(X)``.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        The rows, in any real dtype; sparse ones stay sparse.  Of a model they need not be the fitted ones.
    y : array-like of shape (n_samples,), optional
        Class of each row.
    sample_weight : array-like of shape (n_samples,), optional
        Not negative, not all zero.  Metrics that are not defined for weighted rows are then None: the adjusted Rand
        index and the silhouette.
    n_clusters : int, optional
        Number of clusters; by default that of the model's centers, or ``max(labels) + 1``.
    inertia : float, optional
        If known; otherwise computed in float64, from the centers of a model, or the mean of each cluster of labels.
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
        X is not a finite 2-D array of real numbers, lengths differ, there are no rows, a label is out of range, or the
        sample size is below 1.
    TypeError
        X is a path, or stands where the labels should.

    Examples
    --------
    >>> import gpukmeans
    >>> X, y = [[0], [1], [8], [9], [9]], [7, 7, 8, 8, 7]
    >>> table = gpukmeans.evaluate([0, 0, 1, 1, 1], X, y)
    >>> table.accuracy, table.sizes, table.classes
    (0.8, (2, 3), (7, 8))
    >>> model = gpukmeans.fit(X, 2, random_state=0)
    >>> round(gpukmeans.evaluate(model, X).inertia, 4)
    1.1667
    """
    model = model_given(model_or_labels, X, f"evaluate(labels, X{'' if y is None else ', y'})")
    rows = check_rows_on_host(X, "evaluate")
    centers = None
    if model is not None:
        labels = model.predict(X)
        if hasattr(model, "cluster_centers_"):
            centers = on_host(model.cluster_centers_)
            n_clusters = len(centers) if n_clusters is None else n_clusters
        if isinstance(model, SphericalKMeans) and inertia is None:  # which is not one of distances
            inertia = -model.score(X, sample_weight=sample_weight)
    else:
        labels = model_or_labels
    clusters, n_clusters = checked_labels(labels, n_clusters)
    n_samples = rows.shape[0]
    require_a_label_each(rows, clusters)
    if silhouette_sample_size < 1:
        raise ValueError(f"silhouette_sample_size={silhouette_sample_size} should be at least 1")
    n_sampled = min(silhouette_sample_size, n_samples)
    classes_of = None if y is None else checked_classes(y, len(clusters))
    weight = None if sample_weight is None else check_weights_on_host(sample_weight, n_samples)
    known = None if inertia is None else float(inertia)
    clustering = Clustering(
        rows, clusters, classes_of, n_clusters, n_sampled, random_state, known, sample_weight=weight, centers=centers
    )
    names = None
    if classes_of is not None:
        names = tuple(majority_classes(clustering.counts, clustering.classes).tolist())

    def defined(metric: Metric) -> bool:
        return not (metric.needs_classes and y is None) and (metric.takes_weights or weight is None)

    return Evaluation(
        n_samples=n_samples,
        n_clusters=n_clusters,
        silhouette_sample_size=n_sampled,
        sizes=tuple(np.bincount(clusters, minlength=n_clusters).tolist()),
        classes=names,
        values={metric.name: metric.compute(clustering) if defined(metric) else None for metric in METRICS},
    )
