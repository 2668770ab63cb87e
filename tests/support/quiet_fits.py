"""KMeans fits that do not warn, and the methods whose results are arrays."""

from __future__ import annotations

import warnings

from sklearn.exceptions import ConvergenceWarning

from gpukmeans import KMeans

METHODS = ["predict", "transform", "fit_predict", "fit_transform"]


def fitted(X, backend="numpy", sample_weight=None, k=3, **params):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return KMeans(k, backend=backend, **{"random_state": 0, **params}).fit(X, sample_weight=sample_weight)
