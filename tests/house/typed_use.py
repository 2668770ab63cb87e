"""What mypy sees of the package: read by it, never run.  An ignored error that is not found is one itself."""

from __future__ import annotations

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import gpukmeans

X: Any = None
Labels = NDArray[np.int32]
Floats = NDArray[np.floating[Any]]


def a_caller() -> None:
    assert_type(gpukmeans.fit(X, 3, random_state=0, init="random"), gpukmeans.KMeans)
    gpukmeans.fit(X, 3, n_clustres=3)  # type: ignore[call-arg]
    gpukmeans.fit(X, 3, max_iter="many")  # type: ignore[arg-type]
    gpukmeans.fit_many(X, 3, tolerance=0.0)  # type: ignore[call-arg]
    gpukmeans.k_means(X, 3, n_int=2)  # type: ignore[call-arg]
    gpukmeans.KMeans(3, random_sate=0)  # type: ignore[call-arg]
    for model in (gpukmeans.KMeans(3), gpukmeans.SphericalKMeans(3)):
        assert_type(model.labels_, Labels)
        assert_type(model.cluster_centers_, Floats)
        assert_type(model.inertia_, float)
    assert_type(gpukmeans.KMeans(3).fit(X), gpukmeans.KMeans)
    assert_type(gpukmeans.MiniBatchKMeans(3).fit(X).partial_fit(X), gpukmeans.MiniBatchKMeans)
    assert_type(gpukmeans.BisectingKMeans(3).fit(X).predict(X), Labels)
    assert_type(gpukmeans.SphericalKMeans(3).fit(X).predict(X), Labels)
    assert_type(gpukmeans.KMeans(3).fit_predict(X), Labels)
    assert_type(gpukmeans.KMeans(3).fit(X).transform(X), Floats)
    gpukmeans.load_model(3)  # type: ignore[arg-type]
