"""Rules that choose a number of clusters, each with its source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64


class Rule(NamedTuple):
    """How a number of clusters is chosen: by which metric, and where it is described."""

    metric: str
    about: str
    source: str
    choose: Callable[[NDArray[np.int64], F64, F64], int]


def _first_best(sign: float) -> Callable[[NDArray[np.int64], F64, F64], int]:
    def choose(k: NDArray[np.int64], values: F64, _: F64) -> int:
        return int(k[np.nanargmax(sign * values)])

    return choose


def _elbow(k: NDArray[np.int64], inertia: F64, _: F64) -> int:
    """The point farthest below the straight line between the ends, both axes from 0 to 1."""
    x = (k - k[0]) / max(1, k[-1] - k[0])
    y = (inertia - inertia[-1]) / (inertia[0] - inertia[-1] or 1.0)
    return int(k[np.argmax(1.0 - x - y)])


def _gap(k: NDArray[np.int64], gap: F64, error: F64) -> int:
    enough = np.flatnonzero(gap[:-1] >= gap[1:] - error[1:])
    return int(k[enough[0]] if len(enough) else k[np.argmax(gap)])


RULES: Mapping[str, Rule] = {
    "silhouette": Rule(
        "silhouette",
        "the largest mean silhouette",
        "Rousseeuw, Journal of Computational and Applied Mathematics 20:53-65, 1987",
        _first_best(1.0),
    ),
    "calinski_harabasz": Rule(
        "calinski_harabasz",
        "the largest ratio of the spread between clusters to that within",
        "Calinski and Harabasz, Communications in Statistics 3:1-27, 1974",
        _first_best(1.0),
    ),
    "davies_bouldin": Rule(
        "davies_bouldin",
        "the smallest mean likeness of a cluster to its nearest one",
        "Davies and Bouldin, IEEE Transactions on Pattern Analysis and Machine Intelligence 1:224-227, 1979",
        _first_best(-1.0),
    ),
    "gap": Rule(
        "gap",
        "the smallest number whose gap is within a standard error of the next one's",
        "Tibshirani, Walther and Hastie, Journal of the Royal Statistical Society B 63:411-423, 2001",
        _gap,
    ),
    "stability": Rule(
        "stability",
        "the largest number of those with the largest mean adjusted Rand index between seeds",
        "Ben-Hur, Elisseeff and Guyon, Pacific Symposium on Biocomputing 7:6-17, 2002",
        lambda k, values, _: int(k[np.flatnonzero(values == values.max())[-1]]),
    ),
    "elbow": Rule(
        "inertia",
        "where the inertia is farthest below the line between its ends",
        "Satopaa, Albrecht, Irwin and Raghavan, ICDCS Workshops 166-171, 2011",
        _elbow,
    ),
}
