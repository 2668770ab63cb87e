"""The silhouette of every row, without the table of all distances.

P. J. Rousseeuw, "Silhouettes: a graphical aid to the interpretation and validation of cluster analysis", Journal of
Computational and Applied Mathematics 20:53-65, 1987.  The simplified silhouette takes the distance to a cluster's
center in place of the mean distance to its rows: E. R. Hruschka, R. J. G. B. Campello and L. N. de Castro, "Evolving
clusters in gene-expression data", Information Sciences 176:1898-1927, 2006.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from gpukmeans.arrays.magnitude import rows_times_power, unit_exponent
from gpukmeans.arrays.types import F64
from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.estimators.watching import require_tqdm
from gpukmeans.evaluation.classes import checked_labels, model_given, require_a_label_each
from gpukmeans.evaluation.spreads import cluster_means
from gpukmeans.exact.tie_break import all_integers
from gpukmeans.intake.checks import check_rows_on_host
from gpukmeans.intake.kinds import on_host
from gpukmeans.tables import html_table
from gpukmeans.threads import parts_of, workers

#: Rows of a block: a table of their distances to another block's fits a core's cache.
BLOCK = 512
#: Values of a block of rows in CSR that is made dense.
DENSE = 1 << 22
#: Below this share of |x|^2 + |y|^2 a squared distance is taken from the difference: cancellation would show.
CANCELLED = 2.0**-20
#: Whole numbers up to here are exact in float32.
WHOLE32 = 2.0**24


@dataclass(frozen=True, repr=False)
class Silhouette:
    """Silhouettes, -1 (nearer to another cluster) to 1 (far from all others); 0 in a cluster of one row.

    Attributes
    ----------
    samples : ndarray of shape (n_samples,), float64
        Of each row.
    clusters : ndarray of shape (n_used,), int64
        The clusters that have rows, rising.
    per_cluster : ndarray of shape (n_used,), float64
        The mean of the rows of each of these.
    kind : {"exact", "simplified"}
        By the distances to all rows, or to the centers.
    """

    samples: F64
    clusters: NDArray[np.int64]
    per_cluster: F64
    kind: str

    @property
    def mean(self) -> float:
        """The mean of all rows, as `sklearn.metrics.silhouette_score`."""
        return float(self.samples.mean())

    @property
    def _title(self) -> str:
        simplified = "simplified " if self.kind == "simplified" else ""
        return f"{simplified}silhouette of {len(self.samples):,} rows: mean {self.mean:.4f}"

    def __repr__(self) -> str:
        """The mean, and the best and worst cluster."""
        low, high = int(self.per_cluster.argmin()), int(self.per_cluster.argmax())
        return (
            f"{self._title}; clusters from {self.per_cluster[low]:.4f} (cluster {self.clusters[low]}) "
            f"to {self.per_cluster[high]:.4f} (cluster {self.clusters[high]})"
        )

    def _repr_html_(self) -> str:
        """A row for each cluster, for notebooks."""
        rows = [(f"cluster {c}", f"{s:.4f}") for c, s in zip(self.clusters, self.per_cluster, strict=True)]
        return html_table(rows, caption=self._title)


def silhouette(
    model_or_labels: Any,
    X: ArrayLike,
    *,
    kind: Literal["exact", "simplified"] = "exact",
    progress: bool | Callable[[int, int], object] = False,
) -> Silhouette:
    """Compute the silhouette of every row.

    Parameters
    ----------
    model_or_labels : fitted model, or array-like of shape (n_samples,), int
        The cluster of each row; of a model ``model.predict(X)``.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        The rows, in any real dtype.  Distances are Euclidean.
    kind : {"exact", "simplified"}, default="exact"
        "exact" takes n_samples**2 / 2 distances: about n_samples**2 * n_features multiplications and additions.
        "simplified" takes n_samples * n_clusters distances to the centers of the model, or to the means of the
        clusters of labels; it is another measure, and often larger.
    progress : bool or callable, default=False
        True shows a tqdm bar over the pairs of rows (extra ``progress``), whose total is the cost; a callable gets the
        pairs done and their total after every few blocks.

    Returns
    -------
    Silhouette

    Raises
    ------
    ValueError
        X is not a finite 2-D array of real numbers, lengths differ, there are fewer than two clusters with rows, or as
        many as rows; `kind` is unknown.
    ImportError
        If a bar is requested and tqdm is not installed.

    Notes
    -----
    The exact values are those of `sklearn.metrics.silhouette_samples`, but for rounding.  Squared distances are
    |x|^2 + |y|^2 - 2 x.y about the middle of the values, and from differences where that cancels; of whole numbers of
    which float32 holds all products (bytes up to 1,024 features among them) they are exact.  The result does not depend
    on the number of threads.

    Memory: X once more, ordered by cluster, and 8 bytes for each row and cluster.

    Examples
    --------
    >>> import gpukmeans
    >>> X = [[0], [1], [8], [9], [9]]
    >>> found = gpukmeans.silhouette([0, 0, 1, 1, 1], X)
    >>> found.samples.round(3).tolist(), round(found.mean, 3)
    ([0.885, 0.87, 0.867, 0.941, 0.941], 0.901)
    >>> round(gpukmeans.silhouette([0, 0, 1, 1, 1], X, kind="simplified").mean, 3)
    0.942
    """
    if kind not in ("exact", "simplified"):
        raise ValueError(f"kind={kind!r} should be 'exact' or 'simplified'")
    model = model_given(model_or_labels, X, "silhouette(labels, X)")
    rows = check_rows_on_host(X, "silhouette")
    labels, _ = checked_labels(model_or_labels if model is None else model.predict(X), None)
    n_samples = rows.shape[0]
    require_a_label_each(rows, labels)
    clusters, place, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if not 2 <= len(clusters) < n_samples:
        raise ValueError(
            f"{len(clusters)} clusters have rows; the silhouette of {n_samples} rows needs 2 to {n_samples - 1}"
        )
    exponent = unit_exponent(rows.data if sparse.issparse(rows) else rows)
    if exponent:  # distances would overflow, or vanish; no silhouette depends on their unit
        rows = rows_times_power(rows, exponent)
    if kind == "exact":
        with _reporter(progress, n_samples) as report:
            a, b = _mean_distances(rows, place, sizes, report)
    else:
        a, b = _center_distances(rows, X, place, sizes, clusters, model)
    samples = _values(a, b, sizes[place])
    return Silhouette(samples, clusters, np.bincount(place, samples) / sizes, kind)


@contextmanager
def _reporter(progress: bool | Callable[[int, int], object], n_samples: int) -> Iterator[Callable[[int], object]]:
    """A function that is told of pairs of rows that are done."""
    total, done = n_samples * (n_samples + 1) // 2, 0
    if not progress:
        yield lambda _: None
        return
    if callable(progress):
        tell = progress

        def count(pairs: int) -> None:
            nonlocal done
            done += pairs
            tell(done, total)

        yield count
        return
    with require_tqdm()(total=total, desc="silhouette", unit=" pairs", unit_scale=True) as bar:
        yield bar.update


# ---- distances to all rows -------------------------------------------------------------------------------------------


class _Ordered:
    """Rows ordered by cluster, in blocks about the middle of their values; without constant features."""

    def __init__(self, rows: Any, place: NDArray[np.intp]) -> None:
        self.order = np.argsort(place, kind="stable")
        self.place = place[self.order]
        self.sparse = sparse.issparse(rows)
        if not self.sparse and not (varying := rows.min(axis=0) < rows.max(axis=0)).all():
            rows = rows[:, varying if varying.any() else slice(1)]
        self.X = rows[self.order]
        n, d = rows.shape
        self.shape = n, d
        self.middle = 0.0
        self.dtype: type[np.floating] = np.float64
        if not self.sparse:
            low, high = float(rows.min()), float(rows.max())
            self.middle = float(np.rint((low + high) / 2.0)) if np.isfinite(high - low) else 0.0
            reach = max(high - self.middle, self.middle - low)
            if d * reach * reach <= WHOLE32 and all_integers(rows):
                self.dtype = np.float32
        step = BLOCK if not self.sparse else max(1, min(BLOCK, DENSE // d))
        self.parts = parts_of(n, step)
        self.squares = np.concatenate([self._squares(part) for part in self.parts])

    def block(self, part: slice) -> Any:
        if self.sparse:
            return self.X[part].astype(np.float64)
        return np.subtract(self.X[part], self.middle, dtype=self.dtype)

    def _squares(self, part: slice) -> F64:
        x = self.block(part)
        if self.sparse:
            return np.asarray(x.multiply(x).sum(axis=1), np.float64).reshape(-1)
        x = x.astype(np.float64)
        return np.vecdot(x, x)

    def distances(self, x: Any, rows: slice, columns: slice) -> F64:
        """The distances of the block `rows`, given as `x`, to the block `columns`."""
        y = self.block(columns)
        products = np.asarray(x @ y.toarray().T) if self.sparse else x @ y.T
        out = products.astype(np.float64, copy=False)
        out *= -2.0
        out += self.squares[columns]
        out += self.squares[rows, None]
        if self.dtype == np.float64:
            limit = CANCELLED * (self.squares[rows] + self.squares[columns].max())
            near = np.flatnonzero(out.min(axis=1) < limit)
            i, j = np.nonzero(out[near] < limit[near, None])
            i = near[i]
            for part in parts_of(len(i), max(1, DENSE // self.shape[1])):
                difference = self._dense(x, i[part]) - self._dense(y, j[part])
                out[i[part], j[part]] = np.vecdot(difference, difference)
        return np.sqrt(out, out=out)

    def _dense(self, x: Any, index: NDArray[np.intp]) -> F64:
        return x[index].toarray() if self.sparse else x[index]


def _add_up(
    ordered: _Ordered,
    reduce: Callable[[F64, slice, slice], tuple[F64, F64]],
    add: Callable[[slice, slice, F64], None],
    report: Callable[[int], object] = lambda _: None,
) -> None:
    """Compute the distances of all pairs of blocks once, and add up what is made of them, in one order.

    Parameters
    ----------
    ordered : _Ordered
    reduce : callable
        ``reduce(distances, part, other)`` returns the sums for the rows of `part`, and those for the rows of `other`.
    add : callable
        ``add(part, other, sums)`` adds such sums of the distances of the rows `part` to the rows `other`.
    report : callable
        Told the pairs of rows that are done.
    """
    n, parts = len(ordered.place), ordered.parts
    with workers(n * max(n, ordered.shape[1])) as pool:
        for i, part in enumerate(parts):
            x = ordered.block(part)

            def compare(other: slice, x: Any = x, part: slice = part) -> tuple[F64, F64]:
                return reduce(ordered.distances(x, part, other), part, other)

            for other, (to_other, from_other) in zip(parts[i:], pool.map(compare, parts[i:]), strict=True):
                add(part, other, to_other)
                if other != part:
                    add(other, part, from_other)
            height = part.stop - part.start
            report(height * (height + 1) // 2 + height * (n - part.stop))


def _mean_distances(
    rows: Any, place: NDArray[np.intp], sizes: NDArray[np.intp], report: Callable[[int], object]
) -> tuple[F64, F64]:
    """The mean distance of every row to the others of its cluster, and the smallest to the rows of another."""
    ordered = _Ordered(rows, place)
    sums = np.zeros((len(place), len(sizes)))

    def starts(part: slice) -> NDArray[np.intp]:
        """Where the clusters of a block begin."""
        return np.flatnonzero(np.diff(ordered.place[part], prepend=-1))

    def reduce(distances: F64, part: slice, other: slice) -> tuple[F64, F64]:
        return np.add.reduceat(distances, starts(other), axis=1), _sums_of_runs(distances, starts(part)).T

    def add(part: slice, other: slice, found: F64) -> None:
        first, last = ordered.place[other][[0, -1]].tolist()  # between them all clusters, as each has rows
        sums[part, first : last + 1] += found

    _add_up(ordered, reduce, add, report)
    a, b = _own_and_next(sums, ordered.place, sizes)
    back = np.empty_like(ordered.order)
    back[ordered.order] = np.arange(len(place))
    return a[back], b[back]


def _own_and_next(sums: F64, place: NDArray[np.intp], sizes: NDArray[np.intp]) -> tuple[F64, F64]:
    """Mean distances from the sums of those to each cluster, which are overwritten: see `_mean_distances`."""
    of_row = np.arange(len(place))
    a = sums[of_row, place] / np.maximum(sizes[place] - 1, 1)
    sums /= sizes
    sums[of_row, place] = np.inf
    return a, sums.min(axis=1)


def mean_silhouettes(X: Any, labelings: Sequence[NDArray[np.integer]]) -> list[float]:
    """The mean silhouettes of several clusterings of the same rows, whose distances are computed once for all.

    Parameters
    ----------
    X : ndarray or CSR of shape (n_samples, n_features)
        Finite.
    labelings : sequence of ndarrays of shape (n_samples,), int
        Each with two clusters at least, and a cluster of two rows.

    Notes
    -----
    The sums of the distances to all clusters of all clusterings are products with a table that marks them.

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans.evaluation.silhouettes import mean_silhouettes
    >>> X = np.array([[0.0], [1.0], [8.0], [9.0]])
    >>> [round(m, 3) for m in mean_silhouettes(X, [np.array([0, 0, 1, 1]), np.array([0, 1, 1, 2])])]
    [0.875, -0.429]
    """
    exponent = unit_exponent(X.data if sparse.issparse(X) else X)
    if exponent:
        X = rows_times_power(X, exponent)
    used = [np.unique(labels, return_inverse=True, return_counts=True)[1:] for labels in labelings]
    ends = np.cumsum([len(sizes) for _, sizes in used], dtype=np.intp).tolist()
    n = X.shape[0]
    marks = np.zeros((n, sum(len(sizes) for _, sizes in used)))
    for (place, sizes), end in zip(used, ends, strict=True):
        marks[np.arange(n), end - len(sizes) + place] = 1.0
    sums = np.zeros_like(marks)
    ordered = _Ordered(X, np.zeros(n, np.intp))  # in the given order

    def reduce(distances: F64, part: slice, other: slice) -> tuple[F64, F64]:
        return distances @ marks[other], distances.T @ marks[part]

    def add(part: slice, other: slice, found: F64) -> None:
        sums[part] += found

    _add_up(ordered, reduce, add)
    found = []
    for (place, sizes), end in zip(used, ends, strict=True):
        a, b = _own_and_next(sums[:, end - len(sizes) : end], place, sizes)
        found.append(float(_values(a, b, sizes[place]).mean()))
    return found


def _values(a: F64, b: F64, size: NDArray[np.intp]) -> F64:
    """The silhouettes of rows from their mean distances, and the sizes of their clusters."""
    larger = np.maximum(a, b)
    return np.divide(b - a, larger, out=np.zeros(len(a)), where=(larger > 0.0) & (size > 1))


def _sums_of_runs(table: F64, starts: NDArray[np.intp]) -> F64:
    """``np.add.reduceat(table, starts, axis=0)``, which takes ten times as long for few long runs."""
    if len(starts) > 16:
        return np.add.reduceat(table, starts, axis=0)
    ends = [*starts[1:].tolist(), len(table)]
    return np.stack([table[start:end].sum(axis=0) for start, end in zip(starts.tolist(), ends, strict=True)])


# ---- distances to centers --------------------------------------------------------------------------------------------


def _center_distances(
    rows: Any,
    X: Any,
    place: NDArray[np.intp],
    sizes: NDArray[np.intp],
    clusters: NDArray[np.int64],
    model: Any,
) -> tuple[F64, F64]:
    """The distance of every row to its center, and the smallest to another that has rows."""
    if model is not None and hasattr(model, "transform"):
        distances = np.asarray(on_host(model.transform(X)), np.float64)[:, clusters]
    else:
        rows = rows.astype(np.float64) if sparse.issparse(rows) else np.ascontiguousarray(rows, np.float64)
        means = cluster_means(rows, place, sizes)
        distances = NumpyBackend().load(rows, sums=False).center_distances(means)
    of_row = np.arange(len(place))
    a = distances[of_row, place]
    distances[of_row, place] = np.inf
    return a, distances.min(axis=1)
