"""Clusterings into several numbers of clusters, and which number the data speak for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score
from sklearn.utils import check_random_state

from gpukmeans.arrays.types import F64
from gpukmeans.estimators.kmeans import KMeans
from gpukmeans.evaluation.rules import RULES
from gpukmeans.evaluation.silhouettes import mean_silhouettes
from gpukmeans.evaluation.spreads import Spreads
from gpukmeans.intake.checks import check_rows_on_host
from gpukmeans.intake.kinds import on_host
from gpukmeans.tables import html_table, text_table

#: Metrics of `sweep`, in the order of its table.
METRICS = ("inertia", "silhouette", "calinski_harabasz", "davies_bouldin", "gap", "stability")


@dataclass(frozen=True, repr=False)
class Sweep:
    """Clusterings into several numbers of clusters.

    Attributes
    ----------
    n_clusters : ndarray of shape (n_values,), int64
        The numbers of clusters, rising.
    values : mapping of str to ndarray of shape (n_values,), float64
        Each metric, the mean over the seeds; NaN where it is not defined.
    spread : mapping of str to ndarray of shape (n_values,), float64
        The standard deviation of each metric over the seeds; of the gap its standard error.
    models : tuple of fitted models
        For each number that of lowest inertia.
    recommended : int
        The number of clusters that the rule chooses.
    rule : str
        Its name, a key of `gpukmeans.evaluation.rules.RULES`.
    n_seeds : int
    n_sampled : int
        Rows of the random sample for the silhouette.
    """

    n_clusters: NDArray[np.int64]
    values: Mapping[str, F64]
    spread: Mapping[str, F64]
    models: tuple[Any, ...]
    recommended: int
    rule: str
    n_seeds: int
    n_sampled: int

    @property
    def best(self) -> Any:
        """The model with the recommended number of clusters."""
        return self.models[int(np.searchsorted(self.n_clusters, self.recommended))]

    @property
    def head(self) -> tuple[str, ...]:
        """The names of the columns of `rows`."""
        return ("n_clusters", *self.values)

    def rows(self) -> list[tuple[str, ...]]:
        """Formatted values, a row for each number of clusters; the recommended one has a star."""
        found = []
        for i, k in enumerate(self.n_clusters.tolist()):
            cells = (f"{values[i]:.6g}" for values in self.values.values())
            found.append((f"{k}{' *' if k == self.recommended else ''}", *cells))
        return found

    @property
    def _reason(self) -> str:
        rule = RULES[self.rule]
        return f"recommended: {self.recommended} clusters, {rule.about} ({rule.source})"

    def __repr__(self) -> str:
        """The table, and the recommended number with its reason."""
        return f"{text_table([self.head, *self.rows()])}\n{self._reason}"

    def _repr_html_(self) -> str:
        """The same, for notebooks."""
        return html_table(self.rows(), head=self.head, caption=self._reason)

    def as_dict(self) -> dict[str, Any]:
        """All but the models, as plain Python values, ready for JSON; None where a metric is not defined."""

        def plain(values: F64) -> list[float | None]:
            return [None if np.isnan(value) else value for value in values.tolist()]

        return {
            "n_clusters": self.n_clusters.tolist(),
            "values": {name: plain(values) for name, values in self.values.items()},
            "spread": {name: plain(values) for name, values in self.spread.items()},
            "recommended": self.recommended,
            "rule": self.rule,
            "n_seeds": self.n_seeds,
            "n_sampled": self.n_sampled,
        }


def sweep(
    X: ArrayLike,
    n_clusters: Iterable[int],
    *,
    estimator: Any = None,
    metrics: Sequence[str] | None = None,
    n_seeds: int = 1,
    random_state: int | np.random.RandomState | None = 0,
    rule: str = "silhouette",
    sample_size: int | None = 5000,
    n_references: int = 10,
    progress: Callable[[int, int], object] | None = None,
) -> Sweep:
    """Cluster rows into several numbers of clusters, and recommend one of them.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
    n_clusters : iterable of int
        The numbers of clusters, such as ``range(2, 21)``.
    estimator : estimator, optional
        Cloned for each fit, with its `n_clusters` and `random_state` set; by default ``KMeans()``.
    metrics : sequence of str, optional
        Of "inertia", "silhouette", "calinski_harabasz", "davies_bouldin", "gap" and "stability".  By default the first
        four, "stability" where there is more than one seed, and that of the rule.
    n_seeds : int, default=1
        Fits for each number of clusters; "stability" needs two.
    random_state : int, RandomState or None, default=0
        Of the first seed; an int r gives the seeds r, r + 1, ..., so that each model is that of its own fit.
    rule : {"silhouette", "calinski_harabasz", "davies_bouldin", "gap", "stability", "elbow"}, default="silhouette"
        Chooses the recommended number.  No rule knows what the clusters are for: look at several.
    sample_size : int or None, default=5000
        Rows in the random sample for the silhouette, whose cost grows with the square; None takes all rows.
    n_references : int, default=10
        Uniform reference data sets for the gap statistic: as many further fits for each number of clusters.
    progress : callable, optional
        Called with the fits done and their number.

    Returns
    -------
    Sweep
        :func:`gpukmeans.plots.sweep_figure` draws it.

    Raises
    ------
    ValueError
        A number, a metric or the rule is not allowed; the message says what is.

    Notes
    -----
    What does not depend on the number of clusters is computed once: the distances between the rows of the sample, the
    total sum of squares, the ranges of the reference data.  Distances are Euclidean; the other metrics are those of
    scikit-learn of the same names.

    Examples
    --------
    >>> import numpy as np, gpukmeans
    >>> X = np.array([[0], [1], [2], [20], [21], [22], [40], [41], [42]])
    >>> found = gpukmeans.sweep(X, range(2, 6))
    >>> found.recommended, sorted(found.best.cluster_centers_.ravel().tolist())
    (3, [1.0, 21.0, 41.0])
    """
    rows = check_rows_on_host(X, "sweep")
    numbers = _checked_numbers(n_clusters, rows.shape[0])
    names = _checked_metrics(metrics, rule, n_seeds)
    if n_seeds < 1 or n_references < 1 or (sample_size is not None and sample_size < 2):
        raise ValueError(
            f"n_seeds={n_seeds}, n_references={n_references} and sample_size={sample_size}; "
            "they should be at least 1, 1 and 2"
        )
    template = KMeans() if estimator is None else estimator
    random = check_random_state(random_state)
    if isinstance(random_state, (int, np.integer)):
        seeds = [int(random_state) + i for i in range(n_seeds)]
    else:
        seeds = random.randint(np.iinfo(np.int32).max, size=n_seeds).tolist()
    n_fits = len(numbers) * (n_seeds + (n_references if "gap" in names else 0))
    done = 0

    def fit(data: Any, k: int, seed: int) -> Any:
        nonlocal done
        model = clone(template).set_params(n_clusters=k, random_state=seed).fit(data)
        done += 1
        if progress is not None:
            progress(done, n_fits)
        return model

    fitted = [[fit(X, k, seed) for seed in seeds] for k in numbers.tolist()]
    labels = [[on_host(model.labels_) for model in models] for models in fitted]
    found: dict[str, F64] = {"inertia": np.array([[model.inertia_ for model in models] for models in fitted])}
    if {"calinski_harabasz", "davies_bouldin"} & set(names):
        spreads = Spreads(rows)
        both = np.array([[spreads.of(of_seed) for of_seed in of_k] for of_k in labels])
        found["calinski_harabasz"], found["davies_bouldin"] = both[..., 0], both[..., 1]
    n_sampled = min(rows.shape[0], sample_size or rows.shape[0])
    if "silhouette" in names:
        found["silhouette"] = _silhouettes(rows, labels, n_sampled, random)
    if "stability" in names:
        pairs = [[adjusted_rand_score(a, b) for a, b in combinations(of_k, 2)] for of_k in labels]
        found["stability"] = np.array(pairs)
    values = {name: found[name].mean(axis=1) for name in names if name != "gap"}
    spread = {name: found[name].std(axis=1) for name in names if name != "gap"}
    if "gap" in names:
        values["gap"], spread["gap"] = _gaps(rows, numbers, values["inertia"], fit, random, n_references)
    values = {name: values[name] for name in names}
    chosen = RULES[rule]
    measured = values[chosen.metric]
    if np.isnan(measured).all():
        raise ValueError(f"rule={rule!r}: {chosen.metric} is defined for none of n_clusters={numbers.tolist()}")
    models = tuple(of_k[int(np.argmin([model.inertia_ for model in of_k]))] for of_k in fitted)
    recommended = chosen.choose(numbers, measured, spread[chosen.metric])
    return Sweep(numbers, values, spread, models, recommended, rule, n_seeds, n_sampled)


def _checked_numbers(n_clusters: Iterable[int], n_samples: int) -> NDArray[np.int64]:
    if isinstance(n_clusters, (int, np.integer)):
        raise ValueError(f"n_clusters={n_clusters} should be several numbers, such as range(2, {int(n_clusters) + 1})")
    given = np.array(list(n_clusters))
    if given.ndim != 1 or not given.size or given.dtype.kind not in "iu" or not 1 <= given.min() <= given.max():
        raise ValueError(f"n_clusters={given.tolist()} should be whole numbers from 1")
    if given.max() > n_samples:
        raise ValueError(f"n_clusters={given.max()} is more than X has rows: {n_samples}")
    return np.unique(given).astype(np.int64)


def _checked_metrics(metrics: Sequence[str] | None, rule: str, n_seeds: int) -> list[str]:
    """The metrics to compute: the inertia always, and that of the rule."""
    if rule not in RULES:
        raise ValueError(f"rule={rule!r} should be one of {', '.join(map(repr, RULES))}")
    wanted = METRICS[:4] + METRICS[5:] * (n_seeds > 1) if metrics is None else tuple(metrics)
    unknown = sorted(set(wanted) - set(METRICS))
    if unknown:
        raise ValueError(f"metrics has {', '.join(map(repr, unknown))}; allowed are {', '.join(map(repr, METRICS))}")
    names = [name for name in METRICS if name in wanted or name in ("inertia", RULES[rule].metric)]
    if "stability" in names and n_seeds < 2:
        raise ValueError(f"stability compares seeds: n_seeds={n_seeds} should be at least 2")
    return names


def _silhouettes(
    rows: Any, labels: list[list[NDArray[np.integer]]], n_sampled: int, random: np.random.RandomState
) -> F64:
    """The mean silhouette of each clustering in one sample of the rows."""
    n = rows.shape[0]
    sample = np.arange(n) if n_sampled == n else np.sort(random.choice(n, n_sampled, replace=False))
    flat = [of_seed[sample] for of_k in labels for of_seed in of_k]
    defined = [2 <= len(np.unique(of_seed)) < n_sampled for of_seed in flat]
    found = np.full(len(flat), np.nan)
    found[defined] = mean_silhouettes(rows[sample], [f for f, d in zip(flat, defined, strict=True) if d])
    return found.reshape(len(labels), -1)


def _gaps(
    rows: Any,
    numbers: NDArray[np.int64],
    inertia: F64,
    fit: Callable[[Any, int, int], Any],
    random: np.random.RandomState,
    n_references: int,
) -> tuple[F64, F64]:
    """The gap statistic, its references uniform in the range of each feature, and its standard errors."""
    if sparse.issparse(rows):
        raise ValueError("the gap statistic draws dense reference data; it takes dense rows only")
    low, high = rows.min(axis=0).astype(np.float64), rows.max(axis=0).astype(np.float64)
    logs = np.empty((n_references, len(numbers)))
    for b in range(n_references):
        reference = random.uniform(low, high, rows.shape)
        for i, k in enumerate(numbers.tolist()):
            logs[b, i] = _log(fit(reference, k, b).inertia_)
    gap = logs.mean(axis=0) - np.array([_log(value) for value in inertia.tolist()])
    return gap, logs.std(axis=0) * np.sqrt(1.0 + 1.0 / n_references)


def _log(inertia: float) -> float:
    return float(np.log(max(inertia, np.finfo(np.float64).tiny)))
