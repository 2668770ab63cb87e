"""KMeans: scikit-learn's estimator API over the gpukmeans engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal, Self, Unpack

import numpy as np
from numpy.typing import ArrayLike
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import StrOptions

from gpukmeans.backends.protocol import Backend
from gpukmeans.callers import warn_caller
from gpukmeans.engine.records import FitReport, Iteration, LloydResult
from gpukmeans.engine.restarts import Init, Restarts
from gpukmeans.engine.tolerance import Tolerance, scaled_tolerance
from gpukmeans.estimators.base import BaseKMeans
from gpukmeans.estimators.typed import AnyRows, KMeansParameters, validates_parameters
from gpukmeans.estimators.units import fit_in_range
from gpukmeans.estimators.watching import Callback, watching
from gpukmeans.intake.checks import lone_as_one
from gpukmeans.intake.given import Given
from gpukmeans.intake.kinds import ArrayKind


class KMeans(BaseKMeans):
    """Exact k-means, on an NVIDIA GPU where there is one, on the CPU where there is none.

    A drop-in for `sklearn.cluster.KMeans`: the same parameters, attributes and, for the same `random_state`, the same
    clustering that scikit-learn finds in float64.  Each label is the true nearest center of the centers as stored
    (ties: the lowest index), and labels, centers, inertia and n_iter are the same bits on every backend.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of clusters and of centers.  X must have as many rows at least.
    init : {"k-means++", "k-means||", "two-level", "random"}, array-like of centers or callable, default="k-means++"
        Where to start.  "k-means||" (see `gpukmeans.engine.seeding.parallel.kmeans_parallel`) takes few passes
        over the rows, however many clusters there are.  "two-level" clusters clusters of a sample of the rows (see
        `gpukmeans.engine.seeding.two_level.two_level`): for hundreds of clusters of rows without gaps a start in a
        fraction of the time of k-means++, after which a `max_iter` of 4 ends about where 20 from random rows do.
        Centers are (n_clusters, n_features).  A callable gets ``(X, n_clusters, random_state)``, X centered on its mean
        as scikit-learn gives it, and returns centers in those coordinates.
    n_init : "auto" or int, default="auto"
        Restarts; the one with the lowest inertia is kept.  "auto": 10 for "random" and callables, else 1.
    max_iter : int, default=300
        Iterations of one run at most.
    tol : float, default=1e-4
        A run ends when the summed squared shift of the centers is at most `tol` times the mean variance of the
        features.  With 0 it ends when no label changes: no rounding noise keeps it going.
    verbose : int, default=0
        Print the inertia of every iteration (which costs a pass over the rows each).
    random_state : int, RandomState or None, default=None
        For the draws of `init`.
    copy_x : bool, default=True
        Accepted for compatibility.  X is never modified.
    algorithm : {"lloyd", "elkan"}, default="lloyd"
        Accepted for compatibility: the result is the same.  Which distances are computed depends on the data.
    backend : {"auto", "numpy", "cupy"} or Backend, default="auto"
        Where to compute.  "auto" takes CuPy where an NVIDIA GPU is usable, else NumPy; see `backend_`.  Rows on a
        device are clustered on that device.
    precision : {"exact", "fast"}, default="exact"
        "fast" takes the best rounded score of rows for which rounding leaves the nearest center open, so that labels
        may differ between backends.  "exact" decides these rows exactly.
    callback : callable, default=None
        Called after every iteration as ``callback(iteration, inertia, shift, n_moved)``: its number from 1 on in every
        restart, the inertia of its labels (a pass over the rows), the summed squared shift of the centers that
        followed, and how many rows changed their label.  If it returns True the fit ends there, with the best restart
        so far.
    progress : bool or callable, default=False
        True: a progress bar by tqdm (``pip install 'gpukmeans[progress]'``).  A callable is called with the record of
        every iteration instead, a `gpukmeans.engine.records.Iteration`; this needs no pass over the rows.

    Attributes
    ----------
    cluster_centers_ : ndarray, torch.Tensor or cupy.ndarray of shape (n_clusters, n_features)
        The means of the clusters; float32 for float32 data, float64 otherwise.  An array of the kind of X, where X
        lies: see the notes.
    labels_ : ndarray, torch.Tensor or cupy.ndarray of shape (n_samples,), int32
        The index of the nearest center of each row; equal to ``predict(X)``.  An array of the kind of X.
    inertia_ : float
        Summed squared distance of the rows to their centers, times their weights, in the squared units of X.
    n_iter_ : int
        Iterations of the best restart; at most `max_iter`.
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
        Seconds per stage, and a record of each iteration of each restart.

    See Also
    --------
    MiniBatchKMeans : by small random batches, or by batches as they arrive.
    BisectingKMeans : by splitting one cluster after another.
    SphericalKMeans : by the angle between rows.
    gpukmeans.fit_many : many independent problems in one call.
    gpukmeans.k_means : the same fit as a function.

    Notes
    -----
    Rows may be uint8, float32 or float64 and are read as they are; any other dtype is converted to float64.

    Rows on a CUDA device (a CuPy array, a torch tensor, a JAX array, anything with DLPack or the CUDA array interface)
    are clustered there, where they lie.  Rows in float16 and bfloat16 are read as stored and end in the bits of the
    same values in float64.  Nothing is copied if the array is C-contiguous; another layout, and float32 rows for
    centers in float64, take one copy on the device.

    Arrays in, arrays out.  torch tensors give torch tensors on the same device (on the host nothing is copied),
    CuPy arrays and those of other libraries on a device give CuPy arrays there, everything else, JAX arrays included,
    gives NumPy arrays.  Fitted attributes are of the kind of the X of `fit`, results of a method of the kind of its own
    X: a model that was fitted on a device takes NumPy rows, and the other way round; each call copies the centers to
    where it needs them.  Labels are copied to the host only if a cluster runs empty or ``init="k-means||"`` seeds.
    Weights and initial centers may lie on the host, for any X, or on X's own device, from where they are brought to the
    host; so are rows for a callable `init`.  Pickles hold NumPy arrays, so that they can be read where there is no GPU.

    Values up to 2**480 in magnitude.  Cluster sums are exact to 2**-72 of each feature's largest magnitude (for
    more than 2**26 rows a little less).

    Sparse rows (SciPy's CSR matrices and arrays; other formats, and pandas frames whose columns are all sparse, are
    converted to CSR) end in the bits of the dense rows, which are never built, on the CPU and on the GPU.  They are
    float32 or float64 (integers are converted) and lie on the host when they are given.  A callable `init` gets the CSR
    itself, not centered, as scikit-learn gives it.  Centers are dense, and "k-means||" holds about ten times as many
    dense rows as clusters.

    S. P. Lloyd, "Least squares quantization in PCM" (1982); D. Arthur and S. Vassilvitskii, "k-means++: the advantages
    of careful seeding" (2007); scikit-learn's `KMeans` for the interface.

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans import KMeans
    >>> X = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> model = KMeans(n_clusters=2, random_state=0).fit(X)
    >>> model.labels_
    array([1, 1, 1, 0, 0, 0], dtype=int32)
    >>> model.predict([[0, 0], [12, 3]])
    array([1, 0], dtype=int32)
    >>> model.cluster_centers_
    array([[10.,  2.],
           [ 1.,  2.]])
    """

    _parameter_constraints: ClassVar[dict] = {
        **BaseKMeans._parameter_constraints,
        "copy_x": ["boolean"],
        "algorithm": [StrOptions({"lloyd", "elkan"})],
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
        copy_x: bool = True,
        algorithm: Literal["lloyd", "elkan"] = "lloyd",
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
        self.copy_x = copy_x
        self.algorithm = algorithm
        self.backend = backend
        self.precision = precision
        self.callback = callback
        self.progress = progress

    @validates_parameters
    def fit(self, X: AnyRows, y: object = None, sample_weight: ArrayLike | None = None) -> Self:
        """Find the clusters of X.

        Parameters
        ----------
        X : {array-like, sparse matrix, OpenRows} of shape (n_samples, n_features)
            uint8, float32 or float64 rows are read in place; others are converted to float64.  Or an array on a CUDA
            device, see the notes, or rows that stream, of `gpukmeans.open_rows`.
        y : ignored
        sample_weight : array-like of shape (n_samples,), default=None
            Not negative, not all zero.  None weighs all rows equally.

        Returns
        -------
        self : KMeans

        Raises
        ------
        ValueError
            If X is not a finite 2-D array with at least `n_clusters` rows, or a parameter or weight is not allowed, or
            X lies on a device that the backend does not compute on, or `sample_weight` or `init` on one that X does
            not lie on.
        TypeError
            If X lies on a device and is not uint8, float16, bfloat16, float32 or float64, or is a bfloat16 tensor on
            the host.
        gpukmeans.backends.BackendUnavailable
            If ``backend="cupy"`` cannot be used on this machine, or X lies on a device and CuPy cannot be used.
        MemoryError
            If the rows do not fit on the GPU.
        OSError
            If rows that stream cannot be read.
        """
        with self._all_or_nothing():
            given = self._receive(X, sample_weight, init=self.init, streams=not self._draws_starts())
            fit_in_range(self, given, KMeans._fit)
        return self

    def _fit(self, given: Given) -> None:
        random_state = check_random_state(self.random_state)
        init, n_init = self._starts(given.n_features, given.center_dtype, default_n_init=10)
        self._check_algorithm()
        if self._draws_starts():
            init = partial(self._centered_start, given, init)
        given, init = given.narrowed(init)
        if self.callback is None and not self.verbose:  # which would be told an inertia without the weight
            given = replace(given, sample_weight=lone_as_one(given.sample_weight))
        backend, weight = given.backend, given.sample_weight
        report = FitReport(backend.describe())
        started = time.perf_counter()
        state = vars(self).get("_state")
        rows, known = (given.load(), None) if state is None else state.begin(given, init)
        tol: float | Tolerance = 0.0
        if state is not None and known is not None:
            tol = state.tolerance(given, float(self.tol))
        elif self.tol > 0:
            plain = rows if weight is None else rows.unweighted()
            tol = scaled_tolerance(plain, float(self.tol), given.n_all_features)
        report.stages["load"] = time.perf_counter() - started

        restarts = Restarts(
            given.host_rows,
            backend,
            rows,
            weight,
            init,
            self.n_clusters,
            n_init,
            random_state,
            given.center_dtype,
            report,
            centered=given.form != "csr",  # to center sparse rows would fill them
            known=known,
        )
        with watching(self.callback, self.progress, type(self).__name__, given.n_samples) as watch:
            best = restarts.best(
                max_iter=self.max_iter,
                tol=tol,
                precision=self.precision,
                watch=watch,
                verbose=bool(self.verbose),
            )
        best.centers = given.widened(best.centers)
        n_used = rows.n_used(best.labels, self.n_clusters)
        report.bytes_read = given.bytes_read
        self._take(best, n_used, given.n_distinct, given.kind, backend, report)

    def _centered_start(
        self, given: Given, init: Init, X: Any, n_clusters: int, random_state: np.random.RandomState
    ) -> Any:
        """The start of a subclass for rows less their mean, from which initial centers are moved likewise."""
        if given.form != "csr" and not callable(init) and not isinstance(init, str):
            init = np.asarray(init) - given.host_rows().mean(axis=0, dtype=given.center_dtype)
        return self._drawn_start(X, given.sample_weight, init, random_state)

    def _check_algorithm(self) -> None:
        if self.algorithm == "elkan" and self.n_clusters == 1:
            warn_caller(
                "algorithm='elkan' doesn't make sense for a single cluster. Using 'lloyd' instead.", RuntimeWarning
            )

    def _take(
        self,
        best: LloydResult,
        n_used: int,
        n_distinct: Callable[[], int],
        kind: ArrayKind,
        backend: Backend,
        report: FitReport,
    ) -> None:
        """Set the fitted attributes; `n_used` clusters have a row, and `n_distinct()` counts the rows that differ."""
        if n_used < self.n_clusters:
            warn_caller(
                f"Number of distinct clusters ({n_used}) found smaller than n_clusters ({self.n_clusters}). "
                f"Possibly due to duplicate points in X. There are {n_distinct()} distinct rows of positive weight.",
                ConvergenceWarning,
            )
        self.cluster_centers_ = kind.give(best.centers, backend)
        self._n_features_out = self.n_clusters
        self.labels_ = kind.give(best.labels, backend)
        self.inertia_ = best.inertia
        self.n_iter_ = best.n_iter
        self.backend_ = backend.name
        self.fit_report_ = report


def fit(
    X: AnyRows, n_clusters: int = 8, *, sample_weight: ArrayLike | None = None, **params: Unpack[KMeansParameters]
) -> KMeans:
    """Cluster the rows of X: ``KMeans(n_clusters, **params).fit(X)``.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        uint8, float32 or float64 rows are read in place; others are converted to float64.  A CuPy array or another
        array on a CUDA device is clustered there, in place.  Fitted arrays are as X is: see the notes of `KMeans`.
    n_clusters : int, default=8
        Number of clusters and of centers.
    sample_weight : array-like of shape (n_samples,), default=None
        Not negative, not all zero.  None weighs all rows equally.
    **params
        Parameters of `KMeans`: init, n_init, max_iter, tol, random_state, backend, precision and so on.

    Returns
    -------
    KMeans
        Fitted: see `labels_`, `cluster_centers_`, `inertia_`, `n_iter_`, `backend_`.

    See Also
    --------
    KMeans : the estimator.
    gpukmeans.k_means : the same with scikit-learn's signature and results.
    gpukmeans.fit_many : many independent problems in one call.

    Examples
    --------
    >>> import gpukmeans
    >>> model = gpukmeans.fit([[0.0], [1.0], [9.0], [10.0]], 2, random_state=0)
    >>> sorted(model.cluster_centers_.ravel().tolist())
    [0.5, 9.5]
    """
    return KMeans(n_clusters, **params).fit(X, sample_weight=sample_weight)
