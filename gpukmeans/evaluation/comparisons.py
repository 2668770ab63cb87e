"""Several clusterings of the same rows in one table: starts of k-means, reductions, or algorithms."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from gpukmeans.estimators.kmeans import KMeans
from gpukmeans.evaluation.metrics import METRICS, Metric
from gpukmeans.evaluation.table import Evaluation, evaluate
from gpukmeans.intake.checks import check_rows_on_host
from gpukmeans.intake.kinds import on_host
from gpukmeans.tables import Table


@dataclass(frozen=True)
class Compared:
    """One clustering of a `Comparison`.

    Attributes
    ----------
    name : str
    seconds : float
        Of the fit, by the wall clock: once, so no benchmark.
    n_noise : int
        Rows that belong to no cluster (label -1), as HDBSCAN leaves them; the metrics are those of the others.
    evaluation : Evaluation or None
        None if all rows are noise.
    labels : ndarray of shape (n_samples,), int64
    model : fitted estimator
    """

    name: str
    seconds: float
    n_noise: int
    evaluation: Evaluation | None
    labels: NDArray[np.int64]
    model: Any


@dataclass(frozen=True, repr=False)
class Comparison(Table):
    """Clusterings of the same rows, in the order given.

    Attributes
    ----------
    entries : tuple of Compared
    """

    entries: tuple[Compared, ...]

    def __getitem__(self, name: str) -> Compared:
        """The entry of a name."""
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise KeyError(f"{name!r}; there are {', '.join(entry.name for entry in self.entries)}")

    @property
    def _shown(self) -> list[Metric]:
        evaluations = [e.evaluation for e in self.entries if e.evaluation is not None]
        return [m for m in METRICS if m.title and any(of.values[m.name] is not None for of in evaluations)]

    @property
    def head(self) -> tuple[str, ...]:
        """The names of the columns of `rows`."""
        noise = ("noise",) if any(entry.n_noise for entry in self.entries) else ()
        return ("", "seconds", "clusters", *noise, *(metric.column for metric in self._shown))

    def rows(self) -> list[tuple[str, ...]]:
        """Formatted values, one row for each clustering."""
        found = []
        for entry in self.entries:
            row = [entry.name, f"{entry.seconds:.3f}", f"{len(np.unique(entry.labels[entry.labels >= 0])):,}"]
            if "noise" in self.head:
                row.append(f"{entry.n_noise:,}")
            for metric in self._shown:
                value = None if entry.evaluation is None else entry.evaluation.values[metric.name]
                row.append("-" if value is None else f"{value:.6g}" if metric.in_square_units else f"{value:.4f}")
            found.append(tuple(row))
        return found

    def as_dict(self) -> list[dict[str, Any]]:
        """All but labels and models, as plain Python values, ready for JSON."""
        return [
            {
                "name": entry.name,
                "seconds": entry.seconds,
                "n_noise": entry.n_noise,
                "metrics": None if entry.evaluation is None else entry.evaluation.as_dict(),
            }
            for entry in self.entries
        ]


def compare(
    estimators: Mapping[str, Any],
    X: ArrayLike,
    y: ArrayLike | None = None,
    *,
    silhouette_sample_size: int = 5000,
    random_state: int | np.random.RandomState | None = 0,
    progress: Callable[[str], object] | None = None,
) -> Comparison:
    """Fit several estimators to the same rows, and compare time and metrics.

    Parameters
    ----------
    estimators : mapping of str to estimator
        Each is cloned and fitted by its `fit_predict`: those of this package and of scikit-learn, pipelines too.
        `starts`, `reductions` and `algorithms` make such mappings.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
    y : array-like of shape (n_samples,), optional
        Class of each row.
    silhouette_sample_size, random_state
        As of :func:`gpukmeans.evaluate`.
    progress : callable, optional
        Called with the name of each before its fit.

    Returns
    -------
    Comparison
        :func:`gpukmeans.plots.comparison_figure` draws it.

    Raises
    ------
    ValueError
        There is no estimator, or labels are no whole numbers from -1; and what the estimators raise.

    Notes
    -----
    Inertia is about the means of the clusters for every estimator, so that it can be compared.  Metrics of clusterings
    with noise are of the rows that are left, and so look better than they are.

    Examples
    --------
    >>> import gpukmeans
    >>> from gpukmeans.evaluation import compare, starts
    >>> X, y = gpukmeans.load_digits(return_X_y=True)
    >>> found = compare(starts(X, 10, random_state=0), X, y)
    >>> [entry.name for entry in found.entries]
    ['k-means++', 'random', 'PCA']
    >>> round(found["k-means++"].evaluation.accuracy, 2)
    0.78
    """
    if not estimators:
        raise ValueError("estimators is empty; give a mapping of names to estimators, such as starts(X, 10)")
    rows = check_rows_on_host(X, "compare")
    classes = None if y is None else on_host(y)
    entries = []
    for name, estimator in estimators.items():
        if progress is not None:
            progress(name)
        model = clone(estimator)
        started = time.perf_counter()
        labels = on_host(model.fit_predict(X)).astype(np.int64)
        seconds = time.perf_counter() - started
        if labels.min() < -1:
            raise ValueError(
                f"{name}: a label is {labels.min()}; labels should be whole numbers from 0, or -1 for noise"
            )
        kept = labels >= 0
        evaluation = None
        if kept.any():
            evaluation = evaluate(
                labels[kept], rows if kept.all() else rows[kept], None if classes is None else classes[kept],
                silhouette_sample_size=silhouette_sample_size, random_state=random_state,
            )  # fmt: skip
        entries.append(Compared(name, seconds, int((~kept).sum()), evaluation, labels, model))
    return Comparison(tuple(entries))


def starts(
    X: ArrayLike, n_clusters: int, *, random_state: int | None = 0, n_init: int = 4, **parameters: Any
) -> dict[str, KMeans]:
    """K-means from three kinds of start, as in scikit-learn's example on handwritten digits.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Dense; the components of a principal component analysis of them are one of the starts.
    n_clusters : int
        At most the smaller of n_samples and n_features.
    random_state : int or None, default=0
    n_init : int, default=4
        Of the two random starts.
    **parameters
        Of every `gpukmeans.KMeans`.

    Returns
    -------
    dict
        For `compare`: "k-means++", "random" and "PCA", the last from one start.

    Raises
    ------
    ValueError
        `n_clusters` is too large for the components.

    Examples
    --------
    >>> from gpukmeans.evaluation import starts
    >>> list(starts([[0.0, 1.0], [2.0, 1.0], [5.0, 7.0]], 2))
    ['k-means++', 'random', 'PCA']
    """
    from sklearn.decomposition import PCA

    rows = check_rows_on_host(X, "starts").astype(np.float64)
    most = min(rows.shape)
    if not 1 <= n_clusters <= most:
        raise ValueError(f"n_clusters={n_clusters} should be from 1 to {most}: there are as many principal components")
    components = PCA(n_clusters, random_state=random_state).fit(rows).components_
    common: dict[str, Any] = {"n_clusters": n_clusters, "random_state": random_state, **parameters}
    return {
        "k-means++": KMeans(init="k-means++", n_init=n_init, **common),
        "random": KMeans(init="random", n_init=n_init, **common),
        "PCA": KMeans(init=components, n_init=1, **common),
    }


def reductions(
    n_clusters: int, n_components: Iterable[int] = (2, 10, 20, 50), *, random_state: int | None = 0, **parameters: Any
) -> dict[str, Any]:
    """K-means of all features, and of their leading principal components, for `compare`.

    The time of each includes that of `sklearn.decomposition.PCA`; inertia and metrics are those of its clusters in the
    space of all features.

    Parameters
    ----------
    n_clusters : int
    n_components : iterable of int, default=(2, 10, 20, 50)
        Numbers of components, each at most the smaller of n_samples and n_features.
    random_state : int or None, default=0
        Of both steps.
    **parameters
        Of every `gpukmeans.KMeans`.

    Returns
    -------
    dict
        "all features", "PCA 2", "PCA 10", ...; all but the first are pipelines.

    Examples
    --------
    >>> import gpukmeans
    >>> from gpukmeans.evaluation import compare, reductions
    >>> X, y = gpukmeans.load_digits(return_X_y=True)
    >>> found = compare(reductions(10, [2, 20]), X, y)
    >>> [(entry.name, round(entry.evaluation.accuracy, 1)) for entry in found.entries]
    [('all features', 0.7), ('PCA 2', 0.6), ('PCA 20', 0.9)]
    """
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline

    kmeans = KMeans(n_clusters, random_state=random_state, **parameters)
    reduced = {f"PCA {n}": make_pipeline(PCA(n, random_state=random_state), clone(kmeans)) for n in n_components}
    return {"all features": kmeans, **reduced}


def algorithms(n_clusters: int, *, random_state: int | None = 0) -> dict[str, Any]:
    """The four estimators of this package, and scikit-learn's other kinds of clustering, for `compare`.

    Gaussian mixtures, agglomerative (Ward) and spectral clustering and HDBSCAN take time, and the last three memory,
    that grow with the square of the rows or faster: give some thousand rows at most.

    Parameters
    ----------
    n_clusters : int
        Of all but HDBSCAN, which finds its own number.
    random_state : int or None, default=0

    Returns
    -------
    dict

    Examples
    --------
    >>> from gpukmeans.evaluation import algorithms
    >>> list(algorithms(3))[:4]
    ['k-means', 'mini-batch k-means', 'bisecting k-means', 'spherical k-means']
    """
    from sklearn.cluster import HDBSCAN, AgglomerativeClustering, SpectralClustering
    from sklearn.mixture import GaussianMixture

    from gpukmeans.estimators.bisecting import BisectingKMeans
    from gpukmeans.estimators.minibatch import MiniBatchKMeans
    from gpukmeans.estimators.spherical import SphericalKMeans

    k: dict[str, Any] = {"n_clusters": n_clusters, "random_state": random_state}
    return {
        "k-means": KMeans(**k),
        "mini-batch k-means": MiniBatchKMeans(**k),
        "bisecting k-means": BisectingKMeans(**k),
        "spherical k-means": SphericalKMeans(**k),
        "Gaussian mixture": GaussianMixture(n_clusters, covariance_type="diag", random_state=random_state),
        "agglomerative (Ward)": AgglomerativeClustering(n_clusters),
        "spectral": SpectralClustering(n_clusters, random_state=random_state, affinity="nearest_neighbors"),
        "HDBSCAN": HDBSCAN(copy=True),
    }
