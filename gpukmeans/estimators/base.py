"""The base class of all estimators: common parameters, starts, and the methods that follow a fit."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from math import nan
from numbers import Integral, Real
from time import perf_counter
from typing import Any, ClassVar, Self, cast
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.extmath import row_norms
from sklearn.utils.validation import check_is_fitted

from gpukmeans.arrays.magnitude import times_power
from gpukmeans.arrays.on_device import center_dtype, dtype_of
from gpukmeans.backends.choice import NAMES
from gpukmeans.backends.cpu.distances import times_power_in_order
from gpukmeans.backends.protocol import Backend, DeviceRows, Run, members
from gpukmeans.callers import warn_caller
from gpukmeans.engine.records import FitReport
from gpukmeans.engine.restarts import Init
from gpukmeans.engine.seeding.starts import find_starts
from gpukmeans.estimators.keeping import Kept
from gpukmeans.estimators.typed import AnyRows, Floats, Labels
from gpukmeans.intake.checks import check_centers, check_fitted_centers
from gpukmeans.intake.given import Given, give_back, lies_on_device, receive
from gpukmeans.intake.kinds import on_host
from gpukmeans.intake.ranges import Range, another_range, value_range
from gpukmeans.logs import logger
from gpukmeans.scale.checkpoints import active


class BackendObject(HasMethods):
    """An object with at least one name of the `Backend` protocol; `get_backend` then reports those that it lacks."""

    def __init__(self) -> None:
        super().__init__(list(members(Backend)))

    def is_satisfied_by(self, val: object) -> bool:
        return not isinstance(val, str | type) and any(hasattr(val, name) for name in self.methods)

    def __str__(self) -> str:
        return "a gpukmeans.backends.Backend"


class BackendName(StrOptions):
    """The name of a backend; the message for another one says which is that of a GPU."""

    def __init__(self) -> None:
        super().__init__(set(NAMES))

    def __str__(self) -> str:
        return f"{super().__str__()} ('cupy' computes on an NVIDIA GPU)"


#: The constraint on the parameter `backend`, for all estimators and functions.
BACKEND_CONSTRAINT = [BackendName(), BackendObject()]


#: Private methods of scikit-learn's classes that decide on results there.  Fits here call none of them, so that a
#: subclass that overrides one is refused.
NEVER_CALLED = (
    "_transform",
    "_check_test_data",
    "_check_params_vs_input",
    "_validate_center_shape",
    "_kmeans_single",
    "_mini_batch_convergence",
    "_random_reassign",
    "_bisect",
    "_inertia_per_cluster",
    "_predict_recursive",
)


#: The models that have warned of rows of another range, and the range that they were fitted to.
_warned: WeakKeyDictionary[BaseEstimator, Range] = WeakKeyDictionary()


class BaseKMeans(Kept, ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):
    """Parameters and methods that `KMeans` and its relatives have in common; not an estimator by itself.

    A subclass has a `fit` that sets `cluster_centers_`, `labels_` and `_n_features_out`, and names its parameters,
    among them `backend` and `precision`, in its own constructor.

    Arrays in, arrays out: a method returns arrays of the kind of its X, and fitted attributes are of the kind of the X
    of the fit (see `gpukmeans.intake.kinds`).
    """

    _parameter_constraints: ClassVar[dict] = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "init": [StrOptions({"k-means++", "k-means||", "two-level", "random"}), callable, "array-like"],
        "n_init": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
        "backend": BACKEND_CONSTRAINT,
        "precision": [StrOptions({"exact", "fast"})],
    }

    #: Whether `tol` is compared with shifts as it is, and not relative to the variance of the rows.
    tol_is_absolute: ClassVar[bool] = False

    n_clusters: int
    init: Init
    n_init: int | str
    backend: str | Backend
    precision: str
    cluster_centers_: Floats
    labels_: Labels
    inertia_: float
    backend_: str
    data_range_: Range | None
    fit_report_: FitReport

    def predict(self, X: AnyRows) -> Labels:
        """The index of the nearest center of each row (ties: the lowest index).

        Parameters
        ----------
        X : {array-like, sparse matrix, OpenRows} of shape (n_samples, n_features)
            On the host or on a device, wherever the model was fitted; the centers are brought there.

        Returns
        -------
        labels : ndarray of shape (n_samples,), int32
            Or a torch tensor or CuPy array, as X is.
        """
        check_is_fitted(self)
        run, given, _ = self._at_centers(self._in_range(self._receive_again(X, streams=True)))
        return given.give(run.labels_for_caller())

    def score(self, X: AnyRows, y: object = None, sample_weight: ArrayLike | None = None) -> float:
        """Minus the inertia of X under the fitted centers: the higher, the better.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : ignored
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        float
            Not above 0, in the squared units of X.
        """
        check_is_fitted(self)
        run, _, exponent = self._at_centers(self._receive_again(X, sample_weight, streams=True))
        return -times_power(run.inertia(), -2 * exponent)

    def transform(self, X: AnyRows) -> Floats:
        """The distances of each row to every center.

        ``transform(X).argmin(axis=1)`` are the true nearest centers (ties: the lowest index), so `predict(X)`: where
        rounding would have it otherwise, distances to other centers are raised by what rounding took from them.

        Rows on the host: on the CPU, to float rounding (unlike labels, centers and inertia, not to the same bits
        everywhere), wherever the rows lie: differences are taken where squared norms would cancel.  Rows on a device:
        there, from differences in float64, each rounded once from a sum whose order is fixed.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        distances : ndarray of shape (n_samples, n_clusters)
            Or a torch tensor or CuPy array, as X is, unless `set_output` requests data frames.  float32 if rows and
            centers are, else float64.
        """
        check_is_fitted(self)
        backend = self.backend if lies_on_device(X) else "numpy"
        given = receive(self, X, backend=backend, reset=False, fitted_dtype=self._fitted_dtype(), streams=True)
        given, centers, exponent = self._beside_centers(given)
        distances = cast(DeviceRows, given.load(sums=False)).center_distances(centers)
        if exponent and hasattr(distances, "map_blocks"):  # a Dask array
            distances = distances.map_blocks(times_power_in_order, -exponent, meta=distances)
        elif exponent:
            distances = times_power_in_order(distances, -exponent)
        return self._given_back(X, distances)

    def _given_back(self, X: ArrayLike, transformed: Any) -> Any:
        """The result of `transform` for X: an array of the same kind, unless `set_output` requests data frames."""
        if _get_output_config("transform", self)["dense"] != "default":
            return on_host(transformed)
        return give_back(X, transformed, self.backend)

    def fit(self, X: AnyRows, y: object = None, sample_weight: ArrayLike | None = None) -> Self:
        """Find the clusters of X."""
        raise NotImplementedError

    def fit_predict(self, X: AnyRows, y: object = None, sample_weight: ArrayLike | None = None) -> Labels:
        """``fit(X, sample_weight=sample_weight).labels_``."""
        return self.fit(X, sample_weight=sample_weight).labels_

    def fit_transform(self, X: AnyRows, y: object = None, sample_weight: ArrayLike | None = None) -> Floats:
        """``fit(X, sample_weight=sample_weight).transform(X)``."""
        return self.fit(X, sample_weight=sample_weight).transform(X)

    # ---- for subclasses ----------------------------------------------------------------------------------------

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """If the body raises, restore the estimator's attributes."""
        before, started = self.__dict__.copy(), perf_counter()
        try:
            yield
            logger.info(
                "%s: %d clusters, inertia %g, in %.3f s on %s", type(self).__name__, self.n_clusters,
                getattr(self, "inertia_", nan), perf_counter() - started, self.backend_,
            )  # fmt: skip
        except BaseException as error:
            self.__dict__ = before
            if isinstance(error, KeyboardInterrupt):
                state = "as fitted before" if hasattr(self, "cluster_centers_") else "not fitted"
                error.add_note(
                    f"The fit of {type(self).__name__} was interrupted; the estimator is {state}. Stop a fit early by "
                    "`callback`."
                )
            raise

    def _receive(self, X: AnyRows, sample_weight: ArrayLike | None, **options: Any) -> Given:
        """The rows of a fit; `options` of `gpukmeans.intake.given.receive`."""
        for name in NEVER_CALLED:
            if hasattr(self, name):
                raise TypeError(
                    f"{type(self).__name__} has a method {name}, which scikit-learn's class calls and gpukmeans' does "
                    "not: override a public method or `_init_centroids` instead, or give it another name."
                )
        given = receive(self, X, sample_weight, backend=self.backend, reset=True, n_clusters=self.n_clusters, **options)
        self.data_range_ = value_range(given)
        kept = active()
        if kept is not None:
            from gpukmeans.estimators.resuming import begin

            begin(kept, self, given)
        logger.debug(
            "%s: %d rows of %d features, %s %s, from %g to %g, backend %s", type(self).__name__, given.n_samples,
            given.n_features, given.form, given.X.dtype, *(self.data_range_ or (nan, nan)), given.backend.name,
        )  # fmt: skip
        return given

    def _receive_again(self, X: AnyRows, sample_weight: ArrayLike | None = None, **options: Any) -> Given:
        """Rows for the fitted centers; their weights are rounded as those of a fit of X."""
        fitted = self._fitted_dtype()
        return receive(self, X, sample_weight, backend=self.backend, reset=False, fitted_dtype=fitted, **options)

    def _in_range(self, given: Given) -> Given:
        """The same rows; warns, once for a fit, if they have nothing to do with the range of the fitted ones."""
        fitted = getattr(self, "data_range_", None)
        found = another_range(given, fitted)
        if found is not None and fitted is not None and _warned.get(self) != fitted:
            _warned[self] = fitted
            warn_caller(
                f"X ranges from {found[0]:.6g} to {found[1]:.6g}, the rows of the fit from {fitted[0]:.6g} to "
                f"{fitted[1]:.6g}: if it is in another unit, such as pixels / 255, its labels mean nothing. Scale X as "
                "the fitted rows were.",
                UserWarning,
            )
        return given

    def _beside_centers(self, given: Given) -> tuple[Given, NDArray, int]:
        """Rows and the fitted centers without unused columns, times a power of two that brings them into range.

        Returns
        -------
        given : Given
        centers : ndarray of shape (n_clusters, n_features)
        exponent : int
            Of the power.
        """
        given, centers = given.narrowed(self._host_centers(given.n_features))
        exponent = given.exponent(centers)
        return given.in_unit(exponent), times_power(centers, exponent) if exponent else centers, exponent

    def _at_centers(self, given: Given) -> tuple[Run, Given, int]:
        """Rows at the nearest of the fitted centers; they, and the exponent, are as `_beside_centers` returns them."""
        given, centers, exponent = self._beside_centers(given)
        run = given.load(sums=False).start(centers, precision=self.precision)
        run.assign(move=False)
        return run, given, exponent

    def _label_again(self, given: Given) -> None:
        """Set the labels and the inertia of the fitted rows anew, where the centers were rounded after the fit."""
        run, given, exponent = self._at_centers(given)
        self.labels_ = given.give(run.labels_for_caller())
        self.inertia_ = times_power(run.inertia(), -2 * exponent)

    def _fitted_dtype(self) -> np.dtype:
        """Of the fitted centers."""
        centers = self.cluster_centers_
        return center_dtype(dtype_of(centers if hasattr(centers, "dtype") else on_host(centers)))

    def _host_centers(self, n_features: int) -> NDArray:
        """`cluster_centers_` on the host, read for each call and checked, since users may write to the attribute."""
        return check_fitted_centers(on_host(self.cluster_centers_), n_features)

    def _init_centroids(
        self,
        X: Any,
        x_squared_norms: object,
        init: Init,
        random_state: np.random.RandomState,
        sample_weight: NDArray,
        init_size: int | None = None,
        n_centroids: int | None = None,
    ) -> NDArray:
        """The start of a run, for code that calls or overrides scikit-learn's private method; norms are not read."""
        k = self.n_clusters if n_centroids is None else n_centroids
        if init_size is not None and init_size < X.shape[0]:
            drawn = random_state.randint(0, X.shape[0], init_size)
            X, sample_weight = X[drawn], sample_weight[drawn]
        if not callable(init) and not isinstance(init, str):
            return np.asarray(init)
        given = receive(copy.copy(self), X, sample_weight, backend=self.backend, reset=True, check_values=True)
        dtype = given.center_dtype
        if callable(init):
            return check_centers(init(X, k, random_state=random_state), k, X.shape[1], dtype)
        rows = given.load(sums=False)
        load = partial(given.backend.load, sums=False)
        return find_starts(init, rows, k, random_state, given.sample_weight, dtype, load)

    def _draws_starts(self) -> bool:
        """Whether a subclass overrides `_init_centroids`: fits then take each start from it, as scikit-learn's do."""
        return type(self)._init_centroids is not BaseKMeans._init_centroids

    def _drawn_start(
        self, X: Any, sample_weight: NDArray | None, init: Init, random_state: np.random.RandomState, **sizes: int
    ) -> Any:
        """What the `_init_centroids` of a subclass returns for these rows on the host, and their weights."""
        weight = np.ones(X.shape[0]) if sample_weight is None else sample_weight
        return self._init_centroids(
            X,
            x_squared_norms=row_norms(X, squared=True),
            init=init,
            random_state=random_state,
            sample_weight=weight.astype(X.dtype),
            **sizes,
        )

    def _starts(self, n_features: int, dtype: np.dtype, default_n_init: int) -> tuple[Init, int]:
        """`init` (checked, if it holds centers) and the number of restarts; `default_n_init` for "random".

        The number is kept in `_n_init`, as in scikit-learn.
        """
        given = not callable(self.init) and not isinstance(self.init, str)
        init = check_centers(self.init, self.n_clusters, n_features, dtype) if given else self.init
        if self.n_init == "auto":
            self._n_init = 1 if given or init in ("k-means++", "k-means||", "two-level") else default_n_init
        else:
            self._n_init = int(self.n_init)
        if given and self._n_init != 1:
            warn_caller(
                "Explicit initial center position passed: performing only one init in "
                f"{type(self).__name__} instead of n_init={self._n_init}.",
                RuntimeWarning,
            )
            self._n_init = 1
        return init, self._n_init

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.sparse = True
        return tags
