"""What all estimators share: where to compute, which starts, and everything that follows a fit."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.validation import check_is_fitted

from gpukmeans.arrays.on_device import DeviceInput, center_dtype, dtype_of, host_copy, host_view, on_device
from gpukmeans.arrays.sparse import is_sparse
from gpukmeans.backends.choice import get_backend
from gpukmeans.backends.protocol import Backend, Rows, RowsThere
from gpukmeans.engine.restarts import Init
from gpukmeans.engine.seeding.starts import draw_rows
from gpukmeans.intake.checks import check_centers, check_rows, check_weights
from gpukmeans.intake.kinds import ArrayKind, check_places


class BaseKMeans(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):
    """Parameters and methods that `KMeans` and its relatives have in common; not an estimator by itself.

    A subclass has a `fit` that leaves `cluster_centers_`, `labels_` and `_n_features_out`, and names its parameters,
    among them `backend` and `precision`, in its own constructor.

    Arrays in, arrays out: what a method returns is what its X is, and fitted attributes are what the X of the fit was
    (see `gpukmeans.intake.kinds`).
    """

    _parameter_constraints: ClassVar[dict] = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "init": [StrOptions({"k-means++", "k-means||", "random"}), callable, "array-like"],
        "n_init": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
        "backend": [StrOptions({"auto", "numpy", "cupy"}), HasMethods(["load", "minds", "describe"])],
        "precision": [StrOptions({"exact", "fast"})],
    }

    n_clusters: int
    init: Init
    n_init: int | str
    backend: str | Backend
    precision: str
    cluster_centers_: Any
    labels_: Any
    backend_: str

    def predict(self, X: ArrayLike) -> Any:
        """The index of the nearest center of each row (ties: the lowest index).

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            On the host or on a device, wherever the model was fitted; the centers are brought there.

        Returns
        -------
        labels : ndarray of shape (n_samples,), int32
            Or a torch tensor or CuPy array, as X is.
        """
        check_is_fitted(self)
        run = self._rows(X).start(self._host_centers(), precision=self.precision)
        run.assign(move=False)
        return ArrayKind.of(X).give(run.labels_there())

    def score(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> float:
        """Minus the inertia of X under the fitted centers: the higher, the better.

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
        run = self._rows(X, sample_weight).start(self._host_centers(), precision=self.precision)
        run.assign(move=False)
        return -run.inertia()

    def transform(self, X: ArrayLike) -> Any:
        """The distances of each row to every center.

        Rows on the host: by `sklearn.metrics.pairwise.euclidean_distances` on the CPU, to float rounding (unlike
        labels, centers and inertia, not to the same bits everywhere).  Rows on a device: there, from differences in
        float64, each rounded once from a sum whose order is fixed.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        distances : ndarray of shape (n_samples, n_clusters)
            Or a torch tensor or CuPy array, as X is, unless `set_output` asks for data frames.  float32 if rows and
            centers are, else float64.
        """
        check_is_fitted(self)
        if is_sparse(X) or on_device(X) is None:
            given = X if is_sparse(X) else host_view(X)
            checked = check_rows(self, given, reset=False)
            distances = euclidean_distances(checked, self._host_centers())
        else:
            backend, given = self._place(X)
            rows = backend.load(check_rows(self, given, reset=False, backend=backend), sums=False)
            distances = cast(RowsThere, rows).center_distances(self._host_centers())
        return self._given_back(X, distances)

    def _given_back(self, X: ArrayLike, transformed: Any) -> Any:
        """What `transform` returns for X: an array of the same kind, unless `set_output` asks for data frames."""
        if _get_output_config("transform", self)["dense"] != "default":
            return host_copy(transformed)
        kind = ArrayKind.of(X)
        return kind.give(transformed, None if kind.device is None else self._place(X)[0])

    def fit(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> Self:
        """Find the clusters of X."""
        raise NotImplementedError

    def fit_predict(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> Any:
        """``fit(X, sample_weight=sample_weight).labels_``."""
        return self.fit(X, sample_weight=sample_weight).labels_

    def fit_transform(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> Any:
        """``fit(X, sample_weight=sample_weight).transform(X)``."""
        return self.fit(X, sample_weight=sample_weight).transform(X)

    # ---- for subclasses ----------------------------------------------------------------------------------------

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Within, what fails leaves the estimator as it was before."""
        before = self.__dict__.copy()
        try:
            yield
        except BaseException as error:
            self.__dict__ = before
            if isinstance(error, KeyboardInterrupt):
                name, was = (
                    type(self).__name__,
                    "as fitted before" if hasattr(self, "cluster_centers_") else "not fitted",
                )
                error.add_note(
                    f"The fit of {name} was interrupted; the estimator is {was}. Stop a fit early by `callback`."
                )
            raise

    def _place(self, X: ArrayLike, **others: Any) -> tuple[Backend, ArrayLike | DeviceInput]:
        """The backend for X, and X; what is known of it if it lies on a device.

        `others` (sample_weight=..., init=...) must lie on the host or there, too.
        """
        sparse = is_sparse(X)
        check_places(X, **others)
        if sparse:
            return get_backend(self.backend, sparse=True), X
        found = on_device(X)
        if found is None:
            return get_backend(self.backend), host_view(X)
        return get_backend(self.backend, found.device), found

    def _host_centers(self) -> NDArray:
        """`cluster_centers_` on the host, wherever they lie: small, and read anew, since anybody may write there."""
        return np.asarray(host_copy(self.cluster_centers_))

    def _rows(self, X: ArrayLike, sample_weight: ArrayLike | None = None) -> Rows:
        """New rows on a backend, to be labelled by the fitted centers."""
        backend, given = self._place(X, sample_weight=sample_weight)
        checked = check_rows(self, given, reset=False, backend=backend)
        weight = check_weights(sample_weight, checked.shape[0], center_dtype(checked.dtype))  # rounded as by `fit`
        if dtype_of(self.cluster_centers_) == np.float64 and checked.dtype == np.float32:
            checked = checked.astype(np.float64)  # so that the centers are not rounded to float32
        return backend.load(checked, weight, sums=False)

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
        """Where a run starts, for those who call scikit-learn's private method of this name; the norms are not read."""
        k = self.n_clusters if n_centroids is None else n_centroids
        if init_size is not None and init_size < X.shape[0]:
            drawn = random_state.randint(0, X.shape[0], init_size)
            X, sample_weight = X[drawn], sample_weight[drawn]
        dtype = center_dtype(X.dtype)
        if callable(init):
            return check_centers(init(X, k, random_state=random_state), k, X.shape[1], dtype)
        if not isinstance(init, str):
            return np.asarray(init)
        backend, given = self._place(X, sample_weight=sample_weight)
        checked = check_rows(copy.copy(self), given, reset=True)
        weight = check_weights(sample_weight, X.shape[0], dtype)
        load = partial(backend.load, sums=False)
        rows = load(checked, weight)
        return rows.take(draw_rows(init, rows, k, random_state, weight, dtype, load)).astype(dtype)

    def _check_enough(self, n_samples: int) -> None:
        if n_samples < self.n_clusters:
            raise ValueError(f"n_samples={n_samples} should be >= n_clusters={self.n_clusters}.")

    def _starts(self, n_features: int, dtype: np.dtype, default_n_init: int) -> tuple[Init, int]:
        """`init` (checked, if it holds centers) and the number of restarts; `default_n_init` for "random".

        The number stays in `_n_init`, where scikit-learn has it, too.
        """
        given = not callable(self.init) and not isinstance(self.init, str)
        init = check_centers(self.init, self.n_clusters, n_features, dtype) if given else self.init
        if self.n_init == "auto":
            self._n_init = 1 if given or init in ("k-means++", "k-means||") else default_n_init
        else:
            self._n_init = int(self.n_init)
        if given and self._n_init != 1:
            warnings.warn(
                "Explicit initial center position passed: performing only one init in "
                f"{type(self).__name__} instead of n_init={self._n_init}.",
                RuntimeWarning,
                stacklevel=5,
            )
            self._n_init = 1
        return init, self._n_init

    def __getstate__(self) -> dict[str, Any]:
        """For pickles, which are read where there may be neither a GPU nor torch: with NumPy arrays."""
        return {name: host_copy(value) for name, value in super().__getstate__().items()}

    def __copy__(self) -> Self:
        """With the same arrays."""
        return self._with(self.__dict__.copy())

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """With copies of the arrays, where those lie."""
        return self._with(copy.deepcopy(self.__dict__, memo))

    def _with(self, attributes: dict[str, Any]) -> Self:
        twin = type(self).__new__(type(self))
        twin.__dict__ = attributes
        return twin

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.sparse = True
        return tags
