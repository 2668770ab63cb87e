"""SphericalKMeans: k-means by the angle between rows, for text and embeddings."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from gpukmeans.arrays.limits import refuse_values
from gpukmeans.arrays.on_device import center_dtype
from gpukmeans.arrays.types import F64, I64
from gpukmeans.backends.protocol import Backend, DeviceRows, Run
from gpukmeans.callers import warn_caller
from gpukmeans.engine.records import FitReport, Iteration
from gpukmeans.engine.restarts import Init, Restarts
from gpukmeans.engine.tolerance import scaled_tolerance
from gpukmeans.estimators.base import BaseKMeans
from gpukmeans.estimators.typed import Floats, Labels, validates_parameters
from gpukmeans.estimators.watching import Callback, watching
from gpukmeans.exact.sums import exact_total
from gpukmeans.exact.unit_rows import unit_centers, unit_rows
from gpukmeans.intake.checks import check_centers, lone_as_one
from gpukmeans.intake.given import Given, receive
from gpukmeans.intake.kinds import on_host


class SphericalKMeans(BaseKMeans):
    """Spherical k-means: clusters of rows that point the same way, whatever their lengths.

    Rows are scaled to unit length; a center is the mean of its rows, scaled to unit length; each row belongs to the
    center at the smallest angle.  Labels, centers, inertia and n_iter are the same bits on every backend.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of clusters and of centers.  As many rows of X at least must not be zero.
    init : {"k-means++", "k-means||", "two-level", "random"}, array-like of centers or callable, default="k-means++"
        Where to start, among the rows of unit length.  Given centers are scaled to unit length.  A callable gets
        ``(X, n_clusters, random_state)``, X with rows of unit length (CSR if X is sparse), and returns centers of any
        length but zero.
    n_init : "auto" or int, default="auto"
        Restarts; the one with the lowest inertia is kept.  "auto": 10 for "random" and callables, else 1.
    max_iter : int, default=300
        Iterations of one run at most.
    tol : float, default=1e-4
        A run ends when the summed squared shift of the centers is at most `tol` times the mean variance of the
        features of the rows of unit length, or when no label changes.
    verbose : int, default=0
        Print every iteration; the inertia printed is the sum of squared distances, twice that of `inertia_`.
    random_state : int, RandomState or None, default=None
        For the draws of `init`.
    backend : {"auto", "numpy", "cupy"} or Backend, default="auto"
        Where to compute: see `gpukmeans.KMeans`.
    precision : {"exact", "fast"}, default="exact"
        "fast" takes the best rounded score of rows for which rounding leaves the nearest center open.
    callback : callable, default=None
        Called after every iteration as ``callback(iteration, inertia, shift, n_moved)``, with an inertia as `inertia_`
        is; ends the fit by returning True.  See `gpukmeans.KMeans`.
    progress : bool or callable, default=False
        True: a progress bar by tqdm.  A callable is called with the record of every iteration: see `gpukmeans.KMeans`.

    Attributes
    ----------
    cluster_centers_ : ndarray of shape (n_clusters, n_features)
        The directions of the clusters, of unit length up to rounding; float32 for float32 data, float64 otherwise.
    labels_ : ndarray of shape (n_samples,), int32
        The index of the center at the smallest angle to each row; equal to ``predict(X)``.  This and
        `cluster_centers_` are torch tensors or CuPy arrays where X is one.
    inertia_ : float
        The sum over the rows of weight times 1 - cos(row, center): half the squared distances between rows and centers
        of unit length, summed exactly; no digits cancel.
    n_iter_ : int
        Iterations of the best restart; at most `max_iter`.
    n_features_in_ : int
        Features of the fitted rows; other methods accept rows with as many only.
    feature_names_in_ : ndarray of str of shape (n_features_in_,)
        The column names of X; set only if X is a data frame whose names are all strings.
    data_range_ : tuple of two floats, or None
        The smallest and largest value of the fitted rows (of more than 2**22: of evenly spaced rows).
    backend_ : str
        The name of the backend that ran: "numpy", "cupy", or that of the Backend object given.
    fit_report_ : gpukmeans.engine.records.FitReport
        Seconds per stage, and a record of each iteration of each restart.

    See Also
    --------
    KMeans : by the distances between rows.
    gpukmeans.exact.unit_rows.unit_rows : how rows are scaled.

    Notes
    -----
    What is exact: each label is the true nearest (ties: the lowest index) of the centers as stored, among rows of unit
    length as rounded (see `gpukmeans.exact.unit_rows`).  Both have length one up to a unit in the last place or so,
    thus the nearest center is the one of the largest cosine wherever two cosines differ by more than that rounding.

    A row of zeros (such as a document without any counted term) has no direction: its cosine to every center counts as
    0, a tie, which gives it label 0.  It takes no part in the fit and adds its whole weight to the inertia.  A cluster
    whose rows cancel out keeps the center that it had.  Empty clusters get the row farthest from its own center, as in
    `KMeans`.

    Rows may be as for `KMeans`.  A copy of unit length is made of them (of sparse rows a copy of their values), in
    float32 for float32 rows and float64 otherwise, where they lie; a GPU computes the centers' lengths on the host, an
    exchange of the centers for each iteration.

    I. S. Dhillon and D. S. Modha, "Concept decompositions for large sparse text data using clustering", Machine
    Learning 42 (2001).

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans import SphericalKMeans
    >>> X = np.array([[1.0, 0.1], [50.0, 1.0], [0.1, 3.0], [0.0, 0.2], [0.0, 0.0]])
    >>> model = SphericalKMeans(n_clusters=2, random_state=0).fit(X)
    >>> model.labels_
    array([1, 1, 0, 0, 0], dtype=int32)
    >>> model.predict([[9.0, 1.0], [900.0, 100.0], [1.0, 2.0]])
    array([1, 1, 0], dtype=int32)
    >>> model.cluster_centers_.round(3)
    array([[0.017, 1.   ],
           [0.998, 0.06 ]])
    """

    _parameter_constraints: ClassVar[dict] = {
        **BaseKMeans._parameter_constraints,
        "callback": [callable, None],
        "progress": ["boolean", callable],
    }

    inertia_: float
    n_iter_: int

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Init = "k-means++",
        n_init: int | Literal["auto"] = "auto",
        max_iter: int = 300,
        tol: float = 1e-4,
        verbose: int = 0,
        random_state: int | np.random.RandomState | None = None,
        backend: str | Backend = "auto",
        precision: Literal["exact", "fast"] = "exact",
        callback: Callback | None = None,
        progress: bool | Callable[[Iteration], object] = False,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.verbose = verbose
        self.random_state = random_state
        self.backend = backend
        self.precision = precision
        self.callback = callback
        self.progress = progress

    @validates_parameters
    def fit(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> Self:
        """Find the clusters of X.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            As for `gpukmeans.KMeans.fit`; at least `n_clusters` rows must not be zero.
        y : ignored
        sample_weight : array-like of shape (n_samples,), default=None
            Not negative, not all zero.  None weighs all rows equally.

        Returns
        -------
        self : SphericalKMeans

        Raises
        ------
        ValueError, TypeError, MemoryError, gpukmeans.backends.BackendUnavailable
            As `gpukmeans.KMeans.fit` does; ValueError, too, if too many rows or an initial center are zero.
        """
        with self._all_or_nothing():
            return self._fit(X, sample_weight)

    def _fit(self, X: ArrayLike, sample_weight: ArrayLike | None) -> Self:
        started = time.perf_counter()
        found = self._directions(self._receive(X, sample_weight, check_values=True, init=self.init), fitting=True)
        given, heading, lost = found.unit, found.heading, 0.0
        weight = given.sample_weight
        if weight is not None and self.callback is None and not self.verbose:  # see KMeans
            weight = lone_as_one(weight if heading is None else np.where(found.largest > 0.0, weight, 0.0))
            given = replace(given, sample_weight=weight)
        random_state = check_random_state(self.random_state)
        init, n_init = self._starts(given.n_features, given.center_dtype, default_n_init=10)
        if callable(self.init) or self._draws_starts():
            init = partial(self._directed_init, init, weight if heading is None or weight is None else weight[heading])
        elif not isinstance(init, str):
            init = _directed(np.asarray(init), "init")
        given, init = given.narrowed(init)
        backend = given.backend
        report = FitReport(backend.describe())
        if heading is None:
            rows, host_rows = given.load(), given.host_rows
        else:
            lost = found.weight_without_direction()
            weight = None if weight is None else weight[heading]
            rows = backend.load(given.X, sums=False).subset(heading, weight)
            host_rows = partial(_some_rows, given, heading)
        plain = rows if weight is None else rows.unweighted()
        tol = scaled_tolerance(plain, float(self.tol), given.n_all_features) if self.tol > 0 else 0.0
        report.stages["load"] = time.perf_counter() - started

        restarts = Restarts(
            host_rows,
            backend,
            rows,
            weight,
            init,
            self.n_clusters,
            n_init,
            random_state,
            given.center_dtype,
            report,
            centered=False,
            constrain=unit_centers,
        )
        called = self.callback
        callback = None if called is None else lambda i, inertia, *others: called(i, 0.5 * inertia + lost, *others)
        with watching(callback, self.progress, type(self).__name__, rows.n_samples) as watch:
            best = restarts.best(
                max_iter=self.max_iter, tol=tol, precision=self.precision, watch=watch, verbose=bool(self.verbose)
            )
        n_distinct = rows.n_used(best.labels, self.n_clusters)
        if n_distinct < self.n_clusters:
            warn_caller(
                f"Number of distinct clusters ({n_distinct}) found smaller than n_clusters ({self.n_clusters}). "
                "Possibly due to rows of X that point the same way. "
                f"There are {given.n_distinct()} distinct directions of positive weight.",
                ConvergenceWarning,
            )
        labels = best.labels
        if heading is not None:
            labels = np.zeros(given.n_samples, np.int32)
            labels[heading] = on_host(best.labels)
        self.cluster_centers_ = given.give(given.widened(best.centers))
        self._n_features_out = self.n_clusters
        self.labels_ = given.give(labels)
        self.inertia_ = 0.5 * best.inertia + lost
        self.n_iter_ = best.n_iter
        self.backend_ = backend.name
        self.fit_report_ = report
        return self

    def predict(self, X: ArrayLike) -> Labels:
        """The index of the center at the smallest angle to each row (ties, and rows of zeros: the lowest index).

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        labels : ndarray of shape (n_samples,), int32
            Or a torch tensor or CuPy array, as X is.
        """
        check_is_fitted(self)
        run, found = self._assigned(X, None)
        if found.heading is None:
            return found.unit.give(run.labels_for_caller())
        labels = np.zeros(len(found.largest), np.int32)
        labels[found.heading] = run.labels()[found.heading]
        return found.unit.give(labels)

    def score(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> float:
        """Minus the inertia of X under the fitted centers, as `inertia_` is defined: the higher, the better.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : ignored
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        float
        """
        check_is_fitted(self)
        run, found = self._assigned(X, sample_weight)
        return -(0.5 * run.inertia() + found.weight_without_direction())

    def transform(self, X: ArrayLike) -> Floats:
        """1 - cosine of each row and every center; 1 for rows of zeros.

        Half the squared distances of the rows of unit length, from differences where these are near, so that small
        angles keep their digits.  ``transform(X).argmin(axis=1)`` is `predict(X)`.  Computed on the CPU, to float
        rounding (unlike labels, centers and inertia, not to the same bits everywhere); rows on a device are brought to
        the host.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        distances : ndarray of shape (n_samples, n_clusters)
            From 0 to 2.  Or a torch tensor or CuPy array, as X is, unless `set_output` requests data frames.
        """
        check_is_fitted(self)
        fitted = self._fitted_dtype()
        given = receive(self, X, backend="numpy", reset=False, check_values=True, fitted_dtype=fitted, to_host=True)
        found = self._directions(given, fitting=False)
        unit, centers = found.unit.narrowed(self._host_centers(given.n_features))
        distances = cast(DeviceRows, unit.load(sums=False)).center_distances(centers)
        np.multiply(distances, distances, out=distances)
        distances *= 0.5
        distances[found.largest == 0.0] = 1.0
        return self._given_back(X, np.minimum(distances, 2.0, out=distances))

    def _host_centers(self, n_features: int) -> NDArray:
        """Of unit length, also where users have written others to the attribute."""
        centers = super()._host_centers(n_features)
        wide = centers.astype(np.float64)
        off = np.abs(np.vecdot(wide, wide) - 1.0) > 2.0**-16
        if not off.any():
            return centers
        return np.where(off[:, None], _directed(centers, "cluster_centers_"), centers)

    # ---- rows of unit length -----------------------------------------------------------------------------------

    def _directions(self, given: Given, *, fitting: bool) -> _Directions:
        """The rows of unit length."""
        unit, largest = given.of_unit_length()
        refuse_values(float(largest.max()), given.X.dtype)
        heading = None if largest.all() else np.flatnonzero(largest)
        if fitting and heading is not None:
            if len(heading) < self.n_clusters:
                raise ValueError(
                    f"Only {len(heading)} of {given.n_samples} rows of X have a direction, the others are zero; "
                    f"n_clusters={self.n_clusters} should be at most that."
                )
            if given.sample_weight is not None and not given.sample_weight[heading].any():
                raise ValueError("sample_weight is zero for all rows but those that are zero and have no direction.")
        return _Directions(unit, largest, heading)

    def _assigned(self, X: ArrayLike, sample_weight: ArrayLike | None) -> tuple[Run, _Directions]:
        """The rows at their nearest centers; rows of zeros are given some label, without weight."""
        found = self._directions(self._receive_again(X, sample_weight, check_values=True), fitting=False)
        given, centers = found.unit.narrowed(self._host_centers(found.unit.n_features))
        weight = given.sample_weight
        if found.heading is not None:
            weight = np.where(found.largest == 0.0, 0.0, 1.0 if weight is None else weight)
        run = given.backend.load(given.X, weight, sums=False).start(centers, precision=self.precision)
        run.assign(move=False)
        return run, found

    def _directed_init(
        self, init: Init, sample_weight: F64 | None, X: Any, n_clusters: int, random_state: np.random.RandomState
    ) -> NDArray:
        """What a callable `init`, or a subclass, returns for rows and their weights, of unit length."""
        if self._draws_starts():
            centers = self._drawn_start(X, sample_weight, init, random_state)
        else:
            assert callable(init)
            centers = init(X, n_clusters, random_state=random_state)
        dtype = center_dtype(X.dtype)
        return _directed(check_centers(centers, n_clusters, X.shape[1], dtype), "the centers of init")


class _Directions(NamedTuple):
    unit: Given  # the rows of unit length
    largest: F64  # magnitude of each row
    heading: I64 | None  # rows that are not zero; None: all

    def weight_without_direction(self) -> float:
        """Of all rows of zeros together."""
        if self.heading is None:
            return 0.0
        zero, weight = self.largest == 0.0, self.unit.sample_weight
        return exact_total(np.ones(int(zero.sum())) if weight is None else weight[zero])


def _some_rows(given: Given, indices: I64) -> Any:
    return given.host_rows()[indices]


def _directed(centers: NDArray, name: str) -> NDArray:
    """Centers of unit length; raises where one has no direction."""
    unit, largest = unit_rows(centers)
    if not largest.all():
        raise ValueError(
            f"Row {int(largest.argmin())} of {name} is zero, which is no direction: give every center at least one "
            "value that is not zero."
        )
    return unit
