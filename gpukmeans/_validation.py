"""Rows, weights and centers as the engine wants them, or an error that says what was given and what is allowed."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import assert_all_finite, check_array
from sklearn.utils.validation import _check_sample_weight, validate_data

from gpukmeans.backends import Backend
from gpukmeans.exact_sums import F64, blocks, refuse_values
from gpukmeans.threads import workers

#: The largest weight lies between these, so that no weighted square over- or underflows for ordinary rows.
WEIGHT_RANGE = (2.0**-400, 2.0**50)


def check_rows(estimator: BaseEstimator, X: ArrayLike, *, reset: bool, backend: Backend | None = None) -> NDArray:
    """X as C-contiguous uint8, float32 or float64 rows (never a copy if it is), finite and not too large.

    Values are not read here where the backend minds them itself.
    """
    dtypes = [np.float64, np.float32, np.uint8]
    checked = validate_data(estimator, X, reset=reset, dtype=dtypes, order="C", copy=False, ensure_all_finite=False)
    if backend is None or not backend.minds(checked.dtype):
        if not _surely_finite(checked):
            assert_all_finite(checked, input_name="X")
        _check_magnitude(checked, "X")
    return checked


def _surely_finite(X: NDArray) -> bool:
    """Whether a sum of squares stays finite, on all cores: scikit-learn's own check is left the rare other cases."""
    if X.dtype == np.uint8:
        return True

    def square(part: slice) -> float:
        values = X[part].reshape(-1)
        return float(np.dot(values, values))

    with workers(X.size) as pool, np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(pool.map(square, blocks(X.shape[0], X.shape[1], X.itemsize))).all())


def check_weights(sample_weight: ArrayLike | None, X: NDArray, dtype: np.dtype) -> F64 | None:
    """Weights in float64 (rounded to `dtype` first, as scikit-learn does), or None where all are equal to one."""
    if sample_weight is None:
        return None
    weight = _check_sample_weight(sample_weight, X, dtype=dtype, ensure_non_negative=True)
    if not weight.any():
        raise ValueError("sample_weight is zero everywhere; at least one row needs a positive weight.")
    lowest, highest = WEIGHT_RANGE
    if not lowest <= weight.max() <= highest:
        raise ValueError(
            f"The largest sample_weight is {weight.max():.3g}; it should lie between {lowest:.3g} and {highest:.3g}. "
            "Scale the weights, which changes no cluster."
        )
    return None if (weight == 1).all() else weight.astype(np.float64)


def check_centers(centers: object, n_clusters: int, n_features: int, dtype: np.dtype) -> NDArray:
    """A copy of initial centers in `dtype`, finite, of the right shape and not too large."""
    checked = check_array(centers, dtype=dtype, copy=True, order="C")
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


def _check_magnitude(values: NDArray, name: str) -> None:
    if values.dtype != np.float64:
        return
    refuse_values(max(float(values.max()), -float(values.min())), values.dtype, name)
