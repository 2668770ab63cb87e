"""The same clustering by scikit-learn, for comparison."""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.study.options import Options


def check_against_sklearn(options: Options, X: NDArray[Any]) -> dict[str, Any]:
    """Fit once more, and with scikit-learn in float64, both from the same rows and until no label changes.

    float32 rows are compared as float64, so that both round their centers alike.

    Returns
    -------
    dict
        Iterations, inertia and seconds of both, and by how much the results differ.
    """
    import sklearn
    from sklearn.cluster import KMeans, kmeans_plusplus

    import gpukmeans

    X64 = X.astype(np.float64, copy=False)
    if options.init == "random":
        seeds = np.random.RandomState(options.seed).permutation(len(X))[: options.clusters]
    else:
        seeds = kmeans_plusplus(X64, options.clusters, random_state=options.seed)[1]
    start = X64[seeds]
    rows = X64 if X.dtype == np.float32 else X

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the run itself has given any warning already
        started = time.perf_counter()
        ours = gpukmeans.fit(
            rows, options.clusters, init=start, n_init=1, max_iter=options.max_iter, tol=0,
            backend=options.backend, precision=options.precision,
        )  # fmt: skip
        our_seconds = time.perf_counter() - started
        started = time.perf_counter()
        theirs = KMeans(
            options.clusters, init=start, n_init=1, max_iter=options.max_iter, tol=0, copy_x=rows is X64
        ).fit(X64)  # fmt: skip
        their_seconds = time.perf_counter() - started
    n_different = int(np.count_nonzero(ours.labels_ != theirs.labels_))
    return {
        "sklearn": sklearn.__version__,
        "agrees": n_different == 0 and ours.n_iter_ == theirs.n_iter_,
        "n_different_labels": n_different,
        "relative_inertia_difference": abs(ours.inertia_ - theirs.inertia_) / (theirs.inertia_ or 1.0),
        "relative_center_difference": float(
            np.abs(ours.cluster_centers_ - theirs.cluster_centers_).max()
            / (np.abs(theirs.cluster_centers_).max() or 1.0)
        ),
        "n_iter": [int(ours.n_iter_), int(theirs.n_iter_)],
        "inertia": [float(ours.inertia_), float(theirs.inertia_)],
        "seconds": [our_seconds, their_seconds],
    }
