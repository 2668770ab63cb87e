"""MiniBatchKMeans: scikit-learn's estimator for rows in batches, or for more rows than a fit needs."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval

from gpukmeans.arrays.types import F64, I64
from gpukmeans.backends.protocol import Backend, Rows
from gpukmeans.callers import warn_caller
from gpukmeans.engine.batch_starts import BatchStarts
from gpukmeans.engine.batch_steps import Draws, EarlyStopping, MovingCenters, go_on_from, take_steps
from gpukmeans.engine.records import FitReport, Iteration
from gpukmeans.engine.restarts import Init
from gpukmeans.engine.seeding.draws import probabilities
from gpukmeans.engine.tolerance import mean_variance
from gpukmeans.estimators.base import BaseKMeans
from gpukmeans.estimators.typed import validates_parameters
from gpukmeans.estimators.units import fit_in_range
from gpukmeans.estimators.watching import Callback, watching
from gpukmeans.intake.given import Given
from gpukmeans.intake.ranges import union, value_range
from gpukmeans.scale.checkpoints import active, refuse
from gpukmeans.threads import workers


class MiniBatchKMeans(BaseKMeans):
    """K-means by small random batches of rows, or by batches as they come (`partial_fit`).

    A drop-in for `sklearn.cluster.MiniBatchKMeans`: the same parameters and attributes and, for the same
    `random_state`, the same draws and in float64 the same clustering.  Labels within every batch are the true nearest
    centers and sums are exact, so that centers, labels and inertia are the same bits on every backend.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of clusters and of centers.
    init : {"k-means++", "k-means||", "two-level", "random"}, array-like of centers or callable, default="k-means++"
        Where to start.  Names draw among `init_size` random rows.  A callable gets ``(X, n_clusters, random_state)``
        with these rows as they are, on the host (CSR if X is sparse), and returns centers.
    max_iter : int, default=100
        Passes over the rows at most: a fit draws at most ``max_iter * n_samples`` rows.
    batch_size : int, default=1024
        Rows drawn for a step, with replacement, with a chance proportional to their weight.
    verbose : int, default=0
        Print the inertia of every batch.
    compute_labels : bool, default=True
        Label all rows in the end (in `partial_fit`: those of the batch) and take their inertia.
    random_state : int, RandomState or None, default=None
        For the draws of starts, of batches and of rows for light centers.
    tol : float, default=0.0
        A fit ends when the summed squared shift of the centers in a step is at most `tol` times the mean variance of
        the features.  0: never for that reason.
    max_no_improvement : int or None, default=10
        A fit ends after so many successive steps that do not lower the smoothed inertia.  None: never for that reason.
    init_size : int or None, default=None
        Random rows to start from; at least `n_clusters`.  None: three batches, or ``3 * n_clusters`` where these are
        fewer than the clusters.
    n_init : "auto" or int, default="auto"
        Starts, of which the one with the lowest inertia on `init_size` other rows is taken.  "auto": 3 for "random" and
        callables, else 1.
    reassignment_ratio : float, default=0.01
        Centers whose weight of rows so far is below this share of the heaviest one's are put on random rows of the
        batch, at least whenever ``10 * n_clusters`` rows have been drawn.  0: never.
    backend : {"auto", "numpy", "cupy"} or Backend, default="auto"
        Where to compute, see `gpukmeans.KMeans`.
    precision : {"exact", "fast"}, default="exact"
        "fast" takes the best rounded score of rows for which rounding leaves the nearest center open, so that results
        may differ between backends.
    callback : callable, default=None
        Called after every step of `fit` as ``callback(step, inertia, shift, n_rows)``: its number from 1 on, the
        inertia of its batch under the centers before they moved, the summed squared shift of the centers, and the
        rows of the batch, all of which are labelled anew.  If it returns True the fit ends there.
    progress : bool or callable, default=False
        True: a progress bar by tqdm over the steps of `fit` (``pip install 'gpukmeans[progress]'``).  A callable is
        called with the record of every step instead, a `gpukmeans.engine.records.Iteration`.

    Attributes
    ----------
    cluster_centers_ : ndarray of shape (n_clusters, n_features)
        The means of the rows that each center got; float32 for float32 data, float64 otherwise.  A torch tensor or
        CuPy array, as `labels_`, where X is one.
    labels_ : ndarray of shape (n_samples,), int32
        The index of the nearest center of each row, equal to ``predict(X)``: of all rows after `fit`, of the batch
        after `partial_fit`.  Set only with `compute_labels`.
    inertia_ : float
        Summed squared distance of the same rows to their centers, times their weights.  Without `compute_labels`, after
        `fit`: the smoothed inertia per row of the batches, times the summed weights.
    n_iter_ : int
        Passes over the rows, rounded up: rows drawn by `fit`, divided by `n_samples`.
    n_steps_ : int
        Batches that the centers have moved by, of `fit` and of all later calls of `partial_fit`.
    n_features_in_ : int
        Features of the fitted rows; other methods accept rows with as many only.
    feature_names_in_ : ndarray of str of shape (n_features_in_,)
        The column names of X; set only if X is a data frame whose names are all strings.
    data_range_ : tuple of two floats, or None
        The smallest and largest value of the fitted rows (of more than 2**22: of evenly spaced rows).  `predict`
        warns of rows that have nothing to do with it.
    backend_ : str
        The name of the backend that ran: "numpy", "cupy", or that of the Backend object given.
    fit_report_ : gpukmeans.engine.records.FitReport
        Of `fit`: the seconds of its stages "seed", "steps" and "labels", and a record of each step.

    See Also
    --------
    KMeans : over all rows in each iteration.

    Notes
    -----
    Rows may be uint8, float32 or float64 (see `gpukmeans.KMeans`, also for arrays on a device).  For float32 rows,
    centers are stored in float32, while sums, weights and the arithmetic of a step are float64.  scikit-learn rounds
    these to float32, too, and may decide otherwise.  If not all light clusters may be replaced in a step, those of
    equal weight are taken in the order of their index.

    Sparse rows (CSR) end in the bits of the dense rows; only rows that become centers are made dense.  Dense and sparse
    batches may alternate in calls of `partial_fit`.

    X may be a `numpy.memmap`: `fit` reads it once to check that all values are finite, then batch by batch, and once
    more for the labels.  For a GPU, rows in the host's memory are gathered and copied batch by batch, while the GPU
    works; only the labels of all rows in the end (`compute_labels`) need GPU memory for all rows.

    D. Sculley, "Web-scale k-means clustering" (2010); scikit-learn's `MiniBatchKMeans` for the interface, the stopping
    rules and the replacement of centers.

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans import MiniBatchKMeans
    >>> X = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> model = MiniBatchKMeans(n_clusters=2, random_state=0).fit(X)
    >>> model.predict([[0, 0], [12, 3]]).tolist()
    [1, 0]
    >>> stream = MiniBatchKMeans(n_clusters=2, random_state=0)
    >>> for batch in (X[:4], X[2:]):
    ...     stream = stream.partial_fit(batch)
    >>> stream.n_steps_, stream.labels_.tolist()
    (2, [0, 1, 1, 1])
    """

    _parameter_constraints: ClassVar[dict] = {
        **BaseKMeans._parameter_constraints,
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "compute_labels": ["boolean"],
        "max_no_improvement": [Interval(Integral, 0, None, closed="left"), None],
        "init_size": [Interval(Integral, 1, None, closed="left"), None],
        "reassignment_ratio": [Interval(Real, 0, None, closed="left")],
        "callback": [callable, None],
        "progress": ["boolean", callable],
    }

    inertia_: float
    n_iter_: int
    n_steps_: int
    _sums_records = True

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Init = "k-means++",
        max_iter: int = 100,
        batch_size: int = 1024,
        verbose: int = 0,
        compute_labels: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 0.0,
        max_no_improvement: int | None = 10,
        init_size: int | None = None,
        n_init: int | Literal["auto"] = "auto",
        reassignment_ratio: float = 0.01,
        backend: str | Backend = "auto",
        precision: Literal["exact", "fast"] = "exact",
        callback: Callback | None = None,
        progress: bool | Callable[[Iteration], object] = False,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.verbose = verbose
        self.compute_labels = compute_labels
        self.random_state = random_state
        self.tol = tol
        self.max_no_improvement = max_no_improvement
        self.init_size = init_size
        self.n_init = n_init
        self.reassignment_ratio = reassignment_ratio
        self.backend = backend
        self.precision = precision
        self.callback = callback
        self.progress = progress

    @validates_parameters
    def fit(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> Self:
        """Find the clusters of X by random batches of its rows.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            uint8, float32 or float64 rows are read in place; others are converted to float64.  Or an array on a CUDA
            device, or CSR.
        y : ignored
        sample_weight : array-like of shape (n_samples,), default=None
            Not negative, not all zero: the chances of the rows to be drawn.

        Returns
        -------
        self : MiniBatchKMeans

        Raises
        ------
        ValueError, TypeError, MemoryError, gpukmeans.backends.BackendUnavailable
            As `gpukmeans.KMeans.fit`.
        """
        with self._all_or_nothing():
            given = self._receive(X, sample_weight, check_values=True, init=self.init)  # hardly any batch has all rows
            fit_in_range(self, given, MiniBatchKMeans._fit)
        return self

    def _fit(self, given: Given) -> None:
        backend, weight, dtype, n_samples = given.backend, given.sample_weight, given.center_dtype, given.n_samples
        init, n_init = self._starts(given.n_features, dtype, default_n_init=3)
        self._set_sizes(n_samples)
        if not self._draws_starts():
            given, init = given.narrowed(init)
        random_state = check_random_state(self.random_state)
        report = FitReport(backend.describe(), dict.fromkeys(("seed", "steps", "labels"), 0.0))
        n_steps = self.max_iter * n_samples // self._batch_size
        calls_users = callable(init) or self._draws_starts() or self.callback is not None or callable(self.progress)
        with (
            nullcontext() if calls_users else workers(0),  # users' code may need BLAS on all cores
            given.feed(self._batch_size) as feed,
            watching(self.callback, self.progress, type(self).__name__, n_samples, n_steps) as watch,
        ):
            started = time.perf_counter()
            tol = float(self.tol) * mean_variance(backend.load(given.X), given.n_all_features) if self.tol > 0 else 0.0
            stopping = EarlyStopping(
                n_samples, self._batch_size, n_steps, tol, self.max_no_improvement, bool(self.verbose)
            )
            begun = go_on_from(active(), (self.n_clusters, given.n_features), dtype, stopping)
            if begun is None:
                starts = self._batch_starts(given, feed.some, partial(given.load, sums=False), init, random_state)
                centers = starts.best(n_init, self.precision, verbose=bool(self.verbose))
                begun = random_state, MovingCenters(centers, np.zeros(self.n_clusters)), []
            random_state, moving, past = begun
            report.stages["seed"] = time.perf_counter() - started
            started = time.perf_counter()
            report.iterations = take_steps(
                feed,
                Draws(random_state, probabilities(n_samples, weight, dtype), self._batch_size),
                moving,
                stopping,
                reassignment_ratio=self.reassignment_ratio,
                precision=self.precision,
                inertia=not self.compute_labels,
                watch=watch,
                past=past,
            )
            report.stages["steps"] = time.perf_counter() - started
        self._keep(moving, given)
        self.n_steps_ = report.iterations[-1].iteration
        self.n_iter_ = int(np.ceil(self.n_steps_ * self._batch_size / n_samples))
        started = time.perf_counter()
        if self.compute_labels:
            self._label(given.load(sums=False), moving.centers, given)
        else:
            self.inertia_ = stopping.mean_inertia() * (n_samples if weight is None else float(weight.sum()))
        report.stages["labels"] = time.perf_counter() - started
        self.fit_report_ = report

    @validates_parameters
    def partial_fit(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> Self:
        """Move the centers by one batch; the first one, which must have `n_clusters` rows, gives them their start.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            As for `fit`.
        y : ignored
        sample_weight : array-like of shape (n_samples,), default=None
            Not negative, not all zero.

        Returns
        -------
        self : MiniBatchKMeans

        Raises
        ------
        ValueError, TypeError, MemoryError, gpukmeans.backends.BackendUnavailable
            As `gpukmeans.KMeans.fit`.  The estimator is then as it was before.
        """
        refuse("MiniBatchKMeans.partial_fit")
        random_state = self.__dict__.get("_random_state") or check_random_state(self.random_state)
        state = random_state.get_state()
        try:
            with self._all_or_nothing():
                self._random_state = random_state
                go_on = hasattr(self, "cluster_centers_")
                if go_on:
                    dtype = self._fitted_dtype()
                    given = self._receive_again(X, sample_weight, weight_dtype=dtype, init=self.init)
                    self.data_range_ = union(getattr(self, "data_range_", None), value_range(given))
                else:
                    given = self._receive(X, sample_weight, init=self.init)
                fit_in_range(self, given, MiniBatchKMeans._partial_fit, go_on=go_on)
                return self
        except BaseException:
            random_state.set_state(state)
            raise

    def _partial_fit(self, given: Given) -> None:
        n_samples = given.n_samples
        if hasattr(self, "cluster_centers_"):
            given, centers = given.narrowed(self._host_centers(given.n_features))
            rows = given.load()
            moving = MovingCenters(centers, self._counts, self._n_since_last_reassign)
        else:
            init, _ = self._starts(given.n_features, given.center_dtype, default_n_init=3)
            if not self._draws_starts():
                given, init = given.narrowed(init)
            rows = given.load()
            self._set_sizes(n_samples)
            some = partial(rows.subset, sums=False)
            starts = self._batch_starts(given, some, lambda: rows, init, self._random_state)
            moving = MovingCenters(starts.draw(), np.zeros(self.n_clusters))
        due = moving.due(self._batch_size)
        moving.move(rows.batch_sums(moving.centers, precision=self.precision, inertia=False))
        few = moving.few(self.reassignment_ratio, n_samples) if due else np.zeros(0, np.intp)
        moving.replace(few, rows, self._random_state, verbose=bool(self.verbose))
        self._keep(moving, given)
        if self.compute_labels:
            self._label(rows, moving.centers, given)
        self.n_steps_ = getattr(self, "n_steps_", 0) + 1

    def _set_sizes(self, n_samples: int) -> None:
        """Rows of a batch, and to start from."""
        self._batch_size = min(self.batch_size, n_samples)
        self._init_size = 3 * self._batch_size if self.init_size is None else self.init_size
        if self._init_size < self.n_clusters:
            if self.init_size is not None:
                warn_caller(
                    f"init_size={self.init_size} should be larger than n_clusters={self.n_clusters}: "
                    "min(3 * n_clusters, n_samples) is taken instead.",
                    RuntimeWarning,
                )
            self._init_size = 3 * self.n_clusters
        self._init_size = min(self._init_size, n_samples)

    def _batch_starts(
        self,
        given: Given,
        some: Callable[[I64, F64 | None], Rows],
        everything: Callable[[], Rows],
        init: Init,
        random_state: np.random.RandomState,
    ) -> BatchStarts:
        def drawn(X: Any, n_clusters: int, random_state: np.random.RandomState) -> Any:
            return self._drawn_start(X, given.sample_weight, init, random_state, init_size=self._init_size)

        overridden = self._draws_starts()
        return BatchStarts(
            given.backend,
            given.n_samples,
            given.sample_weight,
            given.X if given.form == "csr" else None,
            some,
            everything,
            drawn if overridden else init,
            self.n_clusters,
            self._init_size,
            random_state,
            given.center_dtype,
            overridden,
        )

    def _keep(self, moving: MovingCenters, given: Given) -> None:
        """Set the centers as they are now, and the state from which `partial_fit` continues."""
        self.cluster_centers_ = given.give(given.widened(moving.centers))
        self._counts = moving.counts
        self._n_since_last_reassign = moving.n_since
        self._n_features_out = self.n_clusters
        self.backend_ = given.backend.name

    def _label(self, rows: Rows, centers: NDArray, given: Given) -> None:
        """Set the labels of rows and their inertia."""
        run = rows.start(centers, precision=self.precision)
        run.assign(move=False)
        self.labels_ = given.give(run.labels_for_caller())
        self.inertia_ = run.inertia()
