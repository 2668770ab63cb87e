"""BisectingKMeans: scikit-learn's divisive clustering, every split an exact k-means of two clusters."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from numbers import Integral
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from gpukmeans.arrays.magnitude import times_power
from gpukmeans.backends.protocol import Backend
from gpukmeans.callers import warn_caller
from gpukmeans.estimators.base import BaseKMeans
from gpukmeans.estimators.splits import Cluster, Splitter, Tree
from gpukmeans.estimators.typed import Labels, validates_parameters
from gpukmeans.estimators.units import fit_in_range
from gpukmeans.exact.sums import exact_total
from gpukmeans.intake.given import Given
from gpukmeans.threads import workers


class BisectingKMeans(BaseKMeans):
    """Bisecting k-means: split one cluster in two by k-means until there are `n_clusters`.

    A drop-in for `sklearn.cluster.BisectingKMeans`: the same parameters, attributes and, for the same `random_state`,
    the same clustering that scikit-learn finds in float64.  In every split each label is the true nearest of the two
    centers as stored (ties: the first of them), and labels, centers and inertia are the same bits on every backend.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of clusters, of which each split makes one more.
    init : {"k-means++", "random"} or callable, default="random"
        Where each split starts.  A callable gets ``(X, 2, random_state)``, with the rows of the cluster, from which
        the mean of all rows is subtracted (but not from sparse ones), and returns two centers in those coordinates.
    n_init : int, default=1
        Runs of k-means in each split; the one with the lowest inertia is kept.
    random_state : int, RandomState or None, default=None
        For the draws of `init`.
    max_iter : int, default=300
        Iterations of one run at most.
    verbose : int, default=0
        Print the inertia of every iteration (which costs a pass over the rows each) and the centers of every split.
    tol : float, default=1e-4
        A run ends when the summed squared shift of its two centers is at most `tol`: absolute, as in scikit-learn's
        class of this name, and unlike that of `KMeans`.
    copy_x : bool, default=True
        Accepted for compatibility.  X is never modified.
    algorithm : {"lloyd", "elkan"}, default="lloyd"
        Accepted for compatibility: the result is the same.
    bisecting_strategy : {"biggest_inertia", "largest_cluster"}, default="biggest_inertia"
        Split the cluster of the largest inertia, or that of the most rows; of equal ones the first.
    backend : {"auto", "numpy", "cupy"} or Backend, default="auto"
        Where to compute: see `gpukmeans.KMeans`.
    precision : {"exact", "fast"}, default="exact"
        "fast" takes the best rounded score of rows for which rounding leaves the nearer center open.

    Attributes
    ----------
    cluster_centers_ : ndarray of shape (n_clusters, n_features)
        The means of the clusters, as their splits ended; float32 for float32 data, float64 otherwise.
    labels_ : ndarray of shape (n_samples,), int32
        The cluster of each row, equal to ``predict(X)``.  By the splits: a row's own center need not be the nearest of
        all.  This and `cluster_centers_` are torch tensors or CuPy arrays where X is one.
    inertia_ : float
        Summed squared distance of the rows to the centers of their own clusters, times their weights.
    n_features_in_ : int
        Features of the fitted rows; other methods accept rows with as many only.
    feature_names_in_ : ndarray of str of shape (n_features_in_,)
        The column names of X; set only if X is a data frame whose names are all strings.
    data_range_ : tuple of two floats, or None
        The smallest and largest value of the fitted rows (of more than 2**22: of evenly spaced rows).  `predict`
        warns of rows that have nothing to do with it.
    backend_ : str
        The name of the backend that ran: "numpy", "cupy", or that of the Backend object given.

    See Also
    --------
    KMeans : all clusters at once.
    SphericalKMeans : by the angle between rows.

    Notes
    -----
    `predict` follows the splits, so ``predict(X)`` equals ``labels_``; `score` and `transform` use all centers, as
    scikit-learn's do.  Rows may be as for `KMeans`, sparse ones too; on a CUDA device the rows of a cluster are
    gathered there, which takes as much memory again as they have.

    Exact ties between the two centers of a split go to the first; in scikit-learn rounding decides them.  A cluster
    with fewer than two rows of positive weight cannot be split: scikit-learn's ``init="random"`` fails; here a copy of
    its center becomes an empty cluster, and a warning reports the number of clusters that have rows.

    M. Steinbach, G. Karypis and V. Kumar, "A comparison of document clustering techniques", KDD Workshop on Text
    Mining, 2000; scikit-learn's `BisectingKMeans` for the interface.

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans import BisectingKMeans
    >>> X = np.array([[1, 1], [10, 1], [3, 1], [10, 0], [2, 1], [10, 2], [10, 8], [10, 9], [10, 10]])
    >>> model = BisectingKMeans(n_clusters=3, random_state=0).fit(X)
    >>> model.labels_
    array([0, 2, 0, 2, 0, 2, 1, 1, 1], dtype=int32)
    >>> model.predict([[0, 0], [12, 3]])
    array([0, 2], dtype=int32)
    >>> model.cluster_centers_
    array([[ 2.,  1.],
           [10.,  9.],
           [10.,  1.]])
    """

    tol_is_absolute = True

    _parameter_constraints: ClassVar[dict] = {
        **BaseKMeans._parameter_constraints,
        "init": [StrOptions({"k-means++", "random"}), callable],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "copy_x": ["boolean"],
        "algorithm": [StrOptions({"lloyd", "elkan"})],
        "bisecting_strategy": [StrOptions({"biggest_inertia", "largest_cluster"})],
    }

    n_init: int
    inertia_: float
    _tree: dict[str, NDArray]

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: str | Callable[..., ArrayLike] = "random",
        n_init: int = 1,
        random_state: int | np.random.RandomState | None = None,
        max_iter: int = 300,
        verbose: int = 0,
        tol: float = 1e-4,
        copy_x: bool = True,
        algorithm: Literal["lloyd", "elkan"] = "lloyd",
        bisecting_strategy: Literal["biggest_inertia", "largest_cluster"] = "biggest_inertia",
        backend: str | Backend = "auto",
        precision: Literal["exact", "fast"] = "exact",
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.random_state = random_state
        self.max_iter = max_iter
        self.verbose = verbose
        self.tol = tol
        self.copy_x = copy_x
        self.algorithm = algorithm
        self.bisecting_strategy = bisecting_strategy
        self.backend = backend
        self.precision = precision

    @validates_parameters
    def fit(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> Self:
        """Find the clusters of X.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            As for `gpukmeans.KMeans.fit`.
        y : ignored
        sample_weight : array-like of shape (n_samples,), default=None
            Not negative, not all zero.  None weighs all rows equally.

        Returns
        -------
        self : BisectingKMeans

        Raises
        ------
        ValueError, TypeError, MemoryError, gpukmeans.backends.BackendUnavailable
            As `gpukmeans.KMeans.fit` does.
        """
        with self._all_or_nothing():
            fit_in_range(self, self._receive(X, sample_weight), BisectingKMeans._fit)
        return self

    def _fit(self, given: Given) -> None:
        if not (callable(self.init) or self._draws_starts() or self.verbose):  # users would see the columns
            given, _ = given.narrowed()
        splitter = Splitter(self, given, given.load(), check_random_state(self.random_state))
        with nullcontext() if splitter.calls_users else workers(0):
            tree, clusters = self._grow(splitter)
            if splitter.keep is not None:
                splitter.keep.end(splitter.state)

        self.backend_ = given.backend.name
        labels = np.empty(given.n_samples, np.int32)
        for label, cluster in enumerate(clusters):
            labels[cluster.rows] = label
            tree.label[cluster.node] = label
        nodes = list(tree.centers)
        tree.centers = dict(zip(nodes, given.widened(np.stack([tree.centers[node] for node in nodes])), strict=True))
        self._tree = tree.arrays()
        self.labels_ = given.give(labels)
        self.cluster_centers_ = given.give(np.stack([tree.centers[cluster.node] for cluster in clusters]))
        self._n_features_out = self.n_clusters
        self.inertia_ = exact_total(np.array([cluster.inertia for cluster in clusters]))
        n_distinct = sum(len(cluster.rows) > 0 for cluster in clusters)
        if n_distinct < self.n_clusters:
            warn_caller(
                f"Only {n_distinct} of n_clusters={self.n_clusters} clusters have rows: there was nothing left to "
                "split. Possibly due to duplicate points in X. "
                f"There are {given.n_distinct()} distinct rows of positive weight.",
                ConvergenceWarning,
            )

    def _grow(self, splitter: Splitter) -> tuple[Tree, list[Cluster]]:
        """Split until there are enough clusters, which are returned from left to right."""
        n_samples = splitter.rows.n_samples
        tree, clusters = Tree(), [Cluster(0, np.arange(n_samples), 0.0)]
        for _ in range(self.n_clusters - 1):
            if self.bisecting_strategy == "biggest_inertia":
                worst = int(np.argmax([cluster.inertia for cluster in clusters]))
            else:
                worst = int(np.argmax([len(cluster.rows) for cluster in clusters]))
            split = clusters[worst]
            found = splitter.split(split.rows)
            if found is None:  # it cannot be split
                if split.node == 0:
                    split.inertia = splitter.one_cluster(tree)
                twin = tree.centers[split.node]
                centers, inertias = np.stack([twin, twin]), np.array([split.inertia, 0.0])
                parts = [split.rows, split.rows[:0]]
            else:
                labels, centers, inertias = found
                parts = [split.rows[labels == side] for side in (0, 1)]
            nodes = tree.grow(split.node, centers)
            clusters[worst : worst + 1] = map(Cluster, nodes, parts, inertias.tolist())
        if self.n_clusters == 1:
            clusters[0].inertia = splitter.one_cluster(tree)
        return tree, clusters

    def predict(self, X: ArrayLike) -> Labels:
        """The cluster of each row, found by following the splits: at each, the nearer center (ties: the first).

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        labels : ndarray of shape (n_samples,), int32
            Or a torch tensor or CuPy array, as X is.
        """
        check_is_fitted(self)
        if len(self._tree["label"]) == 1:
            return super().predict(X)
        given = self._in_range(self._receive_again(X))
        return given.give(self._by_splits(given))

    def _by_splits(self, given: Given) -> NDArray[np.int32]:
        centers, first_child, label = (self._tree[name] for name in ("centers", "first_child", "label"))
        given, centers = given.narrowed(centers)
        exponent = given.exponent(centers)
        given, centers = given.in_unit(exponent), times_power(centers, exponent)
        rows = given.load(sums=False)
        labels = np.empty(rows.n_samples, np.int32)
        waiting = [(0, np.arange(rows.n_samples))]
        while waiting:
            node, some = waiting.pop()
            if label[node] >= 0:
                labels[some] = label[node]
            elif len(some):
                first = int(first_child[node])
                part = rows if len(some) == rows.n_samples else rows.subset(some, sums=False)
                run = part.start(centers[first : first + 2], precision=self.precision)
                run.assign(move=False)
                side = run.labels()
                waiting += [(first + i, some[side == i]) for i in (0, 1)]
        return labels

    def _label_again(self, given: Given) -> None:
        labels = self._by_splits(given)
        self.labels_ = given.give(labels)
        given, centers, exponent = self._beside_centers(given)
        weight = np.ones(given.n_samples) if given.sample_weight is None else given.sample_weight
        rows, inertias = given.load(sums=False), [0.0]
        for cluster in np.unique(labels[weight > 0.0]):
            some = np.flatnonzero(labels == cluster)
            run = rows.subset(some, weight[some], sums=False).start(centers[cluster : cluster + 1])
            run.assign(move=False)
            inertias.append(run.inertia())
        self.inertia_ = times_power(exact_total(np.array(inertias)), -2 * exponent)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
