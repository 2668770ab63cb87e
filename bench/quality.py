"""How good a result is, judged in float64 from the centers as stored, not from what the system says."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from bench.systems import Outcome

WORK_AT_MOST = 3e11  # multiplications: seconds on a few cores
BLOCK = 1 << 25  # scores held at once


@dataclass(frozen=True)
class Quality:
    """The verdict on one outcome.

    Attributes
    ----------
    inertia : float
        Sum over the judged rows of the squared distance to the truly nearest of the system's centers (float64).
    wrong_labels : int or None
        Judged rows whose label is provably not a nearest center: the gap exceeds the error of both float64 distances.
    rows : int
        How many rows were judged.
    """

    inertia: float
    wrong_labels: int | None
    rows: int

    def as_dict(self) -> dict[str, float | int | None]:
        """For JSON."""
        return asdict(self)


def judge(X: NDArray, outcome: Outcome, work_at_most: float = WORK_AT_MOST) -> Quality | None:
    """Judge labels and centers; None where there are no finite centers to judge by.

    Parameters
    ----------
    X : ndarray, or csr_array, of shape (n_samples, n_features)
    outcome : Outcome
    work_at_most : float
        Judge evenly spaced rows where n_rows * n_clusters * n_features would exceed it.
    """
    if outcome.centers is None or not np.isfinite(outcome.centers).all():
        return None
    centers = np.asarray(outcome.centers, dtype=np.float64)
    work = X.shape[0] * centers.size
    step = max(1, int(np.ceil(work / work_at_most)))
    rows = X[::step]
    labels = None if outcome.labels is None else np.asarray(outcome.labels)[::step]
    if labels is not None and len(labels) and (labels.min() < 0 or labels.max() >= len(centers)):
        raise ValueError(f"labels run from {labels.min()} to {labels.max()}, but there are {len(centers)} centers")
    offset = centers.mean(axis=0)
    shifted = centers - offset
    square = (shifted * shifted).sum(axis=1)
    inertia, wrong = 0.0, 0
    block = max(1, BLOCK // max(centers.shape))
    for begin in range(0, rows.shape[0], block):
        x = rows[begin : begin + block].astype(np.float64)
        if issparse(x):
            x = x.toarray()
        best = (square - 2 * ((x - offset) @ shifted.T)).argmin(axis=1)
        best_distance = _distances(x, centers, best)
        if labels is not None:
            given = labels[begin : begin + block]
            odd = np.flatnonzero(given != best)
            distance = _distances(x[odd], centers, given[odd])
            # 2 (d + 3) roundings bound the relative error of the difference of two such sums.
            slack = 2 * (x.shape[1] + 3) * np.finfo(np.float64).eps * np.maximum(distance, best_distance[odd])
            wrong += int((distance - best_distance[odd] > slack).sum())
            best_distance[odd] = np.minimum(best_distance[odd], distance)
        inertia += float(best_distance.sum())
    return Quality(inertia, None if labels is None else wrong, rows.shape[0])


def _distances(x: NDArray, centers: NDArray, labels: NDArray) -> NDArray:
    difference = x - centers[labels]
    return np.einsum("ij,ij->i", difference, difference)
