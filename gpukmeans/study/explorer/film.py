"""The film of a fit: its centers after some of the iterations, from the seeds to the end."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Values of the rows up to which the fit is gone through once more.
MOST_VALUES = 100_000_000


def frames(
    X: NDArray[Any], model: Any, parameters: dict[str, Any]
) -> tuple[list[int], list[NDArray[np.float64]]] | str:
    """Go through a fit once more, in ever longer parts.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    model : fitted KMeans
    parameters : dict
        The fit's own.

    Returns
    -------
    list of int and list of ndarray, or str
        Iterations (0: the seeds) and the centers after each; or why there are none.
    """
    import gpukmeans

    k = len(model.cluster_centers_)
    if (
        parameters["init"] in ("k-means||", "two-level")
        or len({record.init for record in model.fit_report_.iterations}) > 1
    ):
        return "The film needs a fit of one run from k-means++ (--init k-means++ --n-init 1)."
    if parameters["init"] == "random" and parameters["n_init"] != 1:
        return "The film needs a fit of one run (--n-init 1)."
    if X.size > MOST_VALUES:
        return f"The film is left out where the rows hold more than {MOST_VALUES:,} values."
    seed = model.random_state
    if parameters["init"] == "random":
        chosen = np.random.RandomState(seed).permutation(len(X))[:k]
    else:
        chosen = gpukmeans.kmeans_plusplus(X, k, random_state=seed)[1]
    centers = np.asarray(X[chosen], np.float64)
    at, seen = [0], [centers]
    last = int(model.n_iter_)
    while at[-1] < last:
        until = min(last, max(at[-1] + 1, round(1.5 * at[-1])))
        if until < last:
            part = gpukmeans.fit(
                X, k, init=centers, n_init=1, max_iter=until - at[-1], tol=0.0, precision=parameters["precision"],
                backend=parameters["backend"],
            )  # fmt: skip
            centers = np.asarray(part.cluster_centers_, np.float64)
        else:
            centers = np.asarray(model.cluster_centers_, np.float64)
        at.append(until)
        seen.append(centers)
    return at, seen
