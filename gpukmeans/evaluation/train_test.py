"""Clusterings of training rows, judged on rows that took no part in them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.utils import check_random_state

from gpukmeans.estimators.kmeans import KMeans
from gpukmeans.estimators.minibatch import MiniBatchKMeans
from gpukmeans.evaluation.classes import checked_classes
from gpukmeans.evaluation.metrics import has_contrast
from gpukmeans.evaluation.naming import Accuracy, name_clusters
from gpukmeans.evaluation.silhouettes import mean_silhouettes
from gpukmeans.intake.checks import check_rows_on_host
from gpukmeans.intake.kinds import on_host
from gpukmeans.tables import Table


@dataclass(frozen=True)
class Judged:
    """One clustering of a `TrainTest`.

    Attributes
    ----------
    name : str
        Of the estimator.
    n_clusters : int
    seconds : float
        Of the fit, by the wall clock: once, so no benchmark.
    train_inertia, test_inertia : float
        A row of each part: the mean squared distance to the nearest center.
    train, test : Accuracy
        Of the clusters' names, which come from the training rows: on these, and on the test rows.
    silhouette : float or None
        The mean in a sample of the training rows; None where it is not defined.
    model : fitted estimator
    """

    name: str
    n_clusters: int
    seconds: float
    train_inertia: float
    test_inertia: float
    train: Accuracy
    test: Accuracy
    silhouette: float | None
    model: Any

    def as_dict(self) -> dict[str, Any]:
        """All but the model, as plain Python values."""
        numbers = ("name", "n_clusters", "seconds", "train_inertia", "test_inertia", "silhouette")
        accuracies = {"train": self.train._asdict(), "test": self.test._asdict()}
        return {name: getattr(self, name) for name in numbers} | accuracies


@dataclass(frozen=True, repr=False)
class TrainTest(Table):
    """Clusterings of training rows, judged on test rows: each estimator at each number of clusters.

    Attributes
    ----------
    entries : tuple of Judged
        By estimator, then by number of clusters, rising.
    n_train, n_test, n_sampled : int
        Rows of each part, and of the sample of the training rows for the silhouette.
    """

    entries: tuple[Judged, ...]
    n_train: int
    n_test: int
    n_sampled: int

    @property
    def head(self) -> tuple[str, ...]:
        """The names of the columns of `rows`."""
        inertia, accuracy = ("inertia/row", "test"), ("accuracy", "test", "one-to-one", "test")
        return ("", "clusters", "seconds", *inertia, *accuracy, "silhouette")

    def rows(self) -> list[tuple[str, ...]]:
        """Formatted values, one row for each clustering; "test" is what stands to its left, of the test rows."""
        return [
            (
                entry.name, f"{entry.n_clusters:,}", f"{entry.seconds:.2f}",
                f"{entry.train_inertia:.6g}", f"{entry.test_inertia:.6g}",
                f"{entry.train.majority:.4f}", f"{entry.test.majority:.4f}",
                f"{entry.train.one_to_one:.4f}", f"{entry.test.one_to_one:.4f}",
                "-" if entry.silhouette is None else f"{entry.silhouette:.4f}",
            )
            for entry in self.entries
        ]  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """All but the models, as plain Python values, ready for JSON."""
        sizes = {"n_train": self.n_train, "n_test": self.n_test, "n_sampled": self.n_sampled}
        return sizes | {"entries": [entry.as_dict() for entry in self.entries]}


def train_test(
    X_train: ArrayLike,
    y_train: ArrayLike,
    X_test: ArrayLike,
    y_test: ArrayLike,
    n_clusters: int | Iterable[int],
    *,
    estimators: Mapping[str, Any] | None = None,
    silhouette_sample_size: int = 5000,
    random_state: int | None = 0,
    progress: Callable[[str], object] | None = None,
) -> TrainTest:
    """Fit to training rows, name the clusters after their classes, and judge the names on test rows.

    Parameters
    ----------
    X_train, X_test : {array-like, sparse matrix} of shape (n_samples, n_features)
    y_train, y_test : array-like of shape (n_samples,)
        Class of each row.
    n_clusters : int or iterable of int
        One number of clusters, or several.
    estimators : mapping of str to estimator, optional
        Each is cloned for each fit, with its `n_clusters` and `random_state` set; by default
        ``{"k-means": KMeans(), "mini-batch k-means": MiniBatchKMeans()}``.
    silhouette_sample_size : int, default=5000
        Training rows in the random sample for the silhouette, whose cost grows with the square.
    random_state : int or None, default=0
        Of each fit, and of the sample.
    progress : callable, optional
        Called with what is fitted next.

    Returns
    -------
    TrainTest
        :func:`gpukmeans.plots.train_test_figure` draws it.

    Raises
    ------
    ValueError
        There is no estimator or no number of clusters, lengths differ, and what the estimators raise.

    See Also
    --------
    gpukmeans.name_clusters : the same for one model.

    Examples
    --------
    >>> import gpukmeans
    >>> from gpukmeans.evaluation import train_test
    >>> X, y = gpukmeans.load_digits(return_X_y=True)
    >>> found = train_test(X[:1500], y[:1500], X[1500:], y[1500:], [10, 64])
    >>> [(entry.name, entry.n_clusters, round(entry.test.majority, 2)) for entry in found.entries[:2]]
    [('k-means', 10, 0.72), ('k-means', 64, 0.9)]
    """
    train, test = check_rows_on_host(X_train, "train_test"), check_rows_on_host(X_test, "train_test")
    classes, test_classes = checked_classes(y_train, train.shape[0]), checked_classes(y_test, test.shape[0])
    numbers = sorted({n_clusters} if isinstance(n_clusters, (int, np.integer)) else set(n_clusters))
    systems = {"k-means": KMeans(), "mini-batch k-means": MiniBatchKMeans()} if estimators is None else estimators
    if not systems or not numbers:
        raise ValueError(f"{len(systems)} estimators and {len(numbers)} numbers of clusters; give at least one of each")
    if silhouette_sample_size < 2:
        raise ValueError(f"silhouette_sample_size={silhouette_sample_size} should be at least 2")
    n = train.shape[0]
    n_sampled = min(n, silhouette_sample_size)
    sample = np.sort(check_random_state(random_state).choice(n, n_sampled, replace=False))
    entries, sampled = list[Judged](), []
    for name, estimator in systems.items():
        for k in numbers:
            if progress is not None:
                progress(f"{name}, {k:,} clusters")
            model = clone(estimator).set_params(n_clusters=k, random_state=random_state)
            started = time.perf_counter()
            model.fit(X_train)
            seconds = time.perf_counter() - started
            names = name_clusters(model, X_train, classes)
            inertia, of_test = (-model.score(X) / rows.shape[0] for X, rows in ((X_train, train), (X_test, test)))
            sampled.append(on_host(model.predict(train[sample])))
            entries.append(
                Judged(
                    name, k, seconds, inertia, of_test, names.accuracy, names.score(X_test, test_classes), None, model
                )
            )
    defined = [i for i, labels in enumerate(sampled) if has_contrast(labels)]
    silhouettes = dict(zip(defined, mean_silhouettes(train[sample], [sampled[i] for i in defined]), strict=True))
    judged = tuple(replace(entry, silhouette=silhouettes.get(i)) for i, entry in enumerate(entries))
    return TrainTest(judged, n, test.shape[0], n_sampled)
