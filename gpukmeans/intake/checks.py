"""Checks of rows, weights and centers: each returns them in the form that the engine reads, or raises.

An error says what was given and what is allowed.  given.py calls these for all estimators and functions.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import assert_all_finite, check_array
from sklearn.utils.validation import _check_feature_names, _check_n_features, _check_sample_weight, validate_data

from gpukmeans.arrays.arrow import from_arrow
from gpukmeans.arrays.limits import LARGEST_VALUE, refuse_values, refuse_weights
from gpukmeans.arrays.on_device import ROW_DTYPE_NAMES, ROW_DTYPES, DeviceInput, host_copy
from gpukmeans.arrays.sparse import canonical, is_sparse, scipy_rows
from gpukmeans.arrays.types import F64
from gpukmeans.backends.protocol import Backend
from gpukmeans.threads import SMALL, blocks, workers

#: Dtypes of rows on the host that are read without conversion.
_AS_THEY_ARE = (np.dtype(np.float64), np.dtype(np.float32), np.dtype(np.uint8))


def check_rows(
    estimator: BaseEstimator,
    X: ArrayLike | DeviceInput,
    *,
    reset: bool,
    backend: Backend | None = None,
) -> NDArray | DeviceInput:
    """X as C-contiguous uint8, float32 or float64 rows (never a copy if it is), finite and not too large.

    A sparse X becomes CSR: float32 or float64, indices rising and not repeated.

    Values are not read here if `backend` checks them itself, nor if they lie on a device.
    """
    X = from_arrow(X)
    if isinstance(X, DeviceInput):
        return _check_device_rows(estimator, X, reset=reset)
    if str(getattr(X, "dtype", "")) == "torch.bfloat16":
        raise TypeError(
            "X is a bfloat16 tensor on the host, where NumPy has no such numbers: pass X.double() (the same "
            "clustering) or X.float(), or move X to a CUDA device, where bfloat16 rows are read as stored."
        )
    if is_sparse(X):
        return _check_sparse_rows(estimator, X, reset=reset)
    if type(X) is np.ndarray and X.ndim == 2 and X.dtype in _AS_THEY_ARE and X.size:
        check_width(estimator, X, reset=reset)
        checked = np.ascontiguousarray(X)
    else:
        checked = _converted(estimator, X, reset=reset)
    if (backend is None or not backend.checks_values(checked.dtype)) and not _surely_allowed(checked):
        assert_all_finite(checked, estimator_name=type(estimator).__name__, input_name="X")
        _check_magnitude(checked, "X")
    return checked


def check_width(estimator: BaseEstimator, X: Any, *, reset: bool) -> None:
    """Compare the number of features of rows that are not read here with that of the fitted ones, or keep it."""
    if reset or "feature_names_in_" in vars(estimator):
        _check_feature_names(estimator, X, reset=reset)
    _check_n_features(estimator, X, reset=reset)


def _converted(estimator: BaseEstimator, X: Any, *, reset: bool) -> NDArray:
    """Rows that are no plain array, or are of another dtype or layout, as `check_rows` returns them, unread."""
    if isinstance(X, np.ndarray) and not X.dtype.isnative:  # whose float32 is none to `check_array`
        X = X.astype(X.dtype.newbyteorder("="))
    checked = check_array(
        X,
        dtype=[np.float64, np.float32, np.uint8],
        order="C",
        ensure_all_finite=False,
        allow_nd=True,
        estimator=estimator,
        input_name="X",
    )
    _refuse_images(type(estimator).__name__, checked.shape)
    validate_data(estimator, X, reset=reset, skip_check_array=True)  # n_features_in_ and feature names
    return checked


def _check_sparse_rows(estimator: BaseEstimator, X: Any, *, reset: bool) -> Any:
    """`check_rows` of sparse rows; other formats than CSR are converted as scikit-learn does."""
    checked = check_array(
        canonical(scipy_rows(X)),
        accept_sparse="csr",
        dtype=[np.float64, np.float32],
        order="C",
        estimator=estimator,
        input_name="X",
    )
    validate_data(estimator, X, reset=reset, skip_check_array=True)  # n_features_in_ and feature names
    checked = canonical(checked)
    if checked.nnz:
        _check_magnitude(checked.data, "X")
    return checked


def _check_device_rows(estimator: BaseEstimator, X: DeviceInput, *, reset: bool) -> DeviceInput:
    """The checks of scikit-learn for an array except those of its values, which the backend reads."""
    _refuse_images(type(estimator).__name__, X.shape)
    if len(X.shape) != 2:
        raise ValueError(
            f"Expected 2D array, got {len(X.shape)}D array instead: X has shape {X.shape}. Reshape your data either "
            "using array.reshape(-1, 1) if your data has a single feature or array.reshape(1, -1) if it contains a "
            "single sample."
        )
    if X.dtype not in ROW_DTYPES:
        raise TypeError(
            f"Rows of dtype {X.dtype} on a device cannot be read; {ROW_DTYPE_NAMES} can. Convert them there, with "
            "X.astype('float32') in CuPy or X.float() in torch."
        )
    for count, what in zip(X.shape, ("sample", "feature"), strict=True):
        if count == 0:
            raise ValueError(
                f"Found array with 0 {what}(s) (shape={X.shape}) while a minimum of 1 is required by "
                f"{type(estimator).__name__}."
            )
    validate_data(estimator, X, reset=reset, skip_check_array=True)  # n_features_in_ and feature names
    return X


def _refuse_images(reader: str, shape: tuple[int, ...]) -> None:
    if len(shape) > 2:
        raise ValueError(
            f"Found array with dim {len(shape)}, while dim <= 2 is required by {reader}: X has shape "
            f"{shape}. If its first axis counts images or other samples, pass X.reshape(len(X), -1)."
        )


def refuse_path(X: object, name: str = "X") -> None:
    """Raise a TypeError that says what reads files, if X is the path of one."""
    if isinstance(X, str | bytes | os.PathLike):
        raise TypeError(
            f"{name} is a path or text, {X!r:.200}; rows are needed, an array of shape (n_samples, n_features). Read "
            "the file first: gpukmeans.read_table(path).X reads tables, arrays and folders of pictures, "
            "gpukmeans.load_mnist MNIST."
        )


def _surely_allowed(X: NDArray) -> bool:
    """Whether sums of squares, on all cores, rule out values that are not allowed; if not, slower checks are needed."""
    if X.dtype == np.uint8:
        return True

    limit = LARGEST_VALUE**2 if X.dtype == np.float64 else np.inf

    def square(part: slice) -> float:
        values = X[part].reshape(-1)
        return float(np.dot(values, values))

    if X.size < SMALL:
        with np.errstate(over="ignore", invalid="ignore"):
            return square(slice(None)) < limit
    with workers(X.size) as pool, np.errstate(over="ignore", invalid="ignore"):
        return all(some < limit for some in pool.map(square, blocks(X.shape[0], X.shape[1], X.itemsize)))


def check_rows_on_host(X: ArrayLike, reader: str) -> Any:
    """X for `reader`, a function that is no estimator: a finite 2-D array in its own dtype, or canonical CSR."""
    refuse_path(X)
    if is_sparse(X):
        checked = check_array(canonical(scipy_rows(X)), accept_sparse="csr", estimator=reader, input_name="X")
        return canonical(checked)
    checked = check_array(from_arrow(host_copy(X)), allow_nd=True, estimator=reader, input_name="X")
    _refuse_images(reader, checked.shape)
    return checked


def check_weights(sample_weight: ArrayLike | None, n_samples: int, dtype: np.dtype) -> F64 | None:
    """Weights in float64 (rounded to `dtype` first, as scikit-learn does), or None where all are equal to one.

    Weights on a device, and torch tensors, are copied to the host.
    """
    if sample_weight is None:
        return None
    rows = np.broadcast_to(np.uint8(0), (n_samples, 1))  # only their number matters
    weight = _check_sample_weight(host_copy(sample_weight), rows, dtype=dtype, ensure_non_negative=True)
    refuse_weights(float(weight.max()))
    return None if (weight == 1).all() else weight.astype(np.float64)


def check_weights_on_host(sample_weight: ArrayLike, n_samples: int) -> F64 | None:
    """Weights for a function that is no estimator, as `check_weights` returns them, not rounded."""
    return check_weights(sample_weight, n_samples, np.dtype(np.float64))


def lone_as_one(weight: F64 | None) -> F64 | None:
    """Weights for a fit: if a single row has one, it counts as 1.

    The mean of one row is that row, which ``w x / w`` is only to rounding; and the inertia is 0 for any weight.
    """
    return weight if weight is None or np.count_nonzero(weight) != 1 else np.sign(weight)


def check_centers(centers: object, n_clusters: int, n_features: int, dtype: np.dtype) -> NDArray:
    """A copy of initial centers in `dtype`, on the host, finite, of the right shape and not too large."""
    checked = check_array(from_arrow(host_copy(centers)), dtype=dtype, copy=True, order="C", input_name="init")
    if checked.shape[0] != n_clusters:
        raise ValueError(
            f"The shape of the initial centers {checked.shape} does not match the number of clusters {n_clusters}."
        )
    if checked.shape[1] != n_features:
        raise ValueError(
            f"The shape of the initial centers {checked.shape} does not match "
            f"the number of features of the data {n_features}."
        )
    _check_magnitude(checked, "init")
    return checked


def beyond_limits(centers: object) -> bool:
    """Whether an array of initial centers, if it is one, has values that `check_centers` refuses."""
    values = host_copy(centers)
    is_float = isinstance(values, np.ndarray) and values.dtype.kind == "f"
    return is_float and not (np.abs(values.astype(np.float64)) <= LARGEST_VALUE).all()


def check_fitted_centers(centers: NDArray, n_features: int) -> NDArray:
    """`cluster_centers_` as the engine reads them; raises for what users may have written there."""
    if centers.dtype not in (np.float32, np.float64):
        if centers.dtype.kind not in "fiub":
            raise ValueError(f"cluster_centers_ has dtype {centers.dtype}; it should be float32 or float64.")
        centers = centers.astype(np.float64)
    if centers.ndim != 2 or centers.shape[1] != n_features:
        raise ValueError(
            f"cluster_centers_ has shape {centers.shape}; it should be (n_clusters, {n_features}) for rows such as X."
        )
    largest = max(float(centers.max()), -float(centers.min()))
    if not np.isfinite(largest):
        what = "NaN" if np.isnan(largest) else "infinity"
        raise ValueError(f"cluster_centers_ contains {what}; centers that are set by hand should be finite.")
    refuse_values(largest, centers.dtype, "cluster_centers_")
    return centers


def _check_magnitude(values: NDArray, name: str) -> None:
    if values.dtype != np.float64:
        return
    refuse_values(max(float(values.max()), -float(values.min())), values.dtype, name)
