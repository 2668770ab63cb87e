"""Verdicts: the best center of each row by its scores, whether it is certain, and for how long.

A verdict contains the best center, the second best, and lower bounds of two *gaps*: by how much the second best and all
others are farther than the best.  While both gaps, less the drift of the centers, are positive, the label stays and is
not computed again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64
from gpukmeans.certificates.drift import GAP_SLACK
from gpukmeans.certificates.lowest import Lowest
from gpukmeans.certificates.rounding import ScoreRadius


@dataclass(frozen=True)
class Screened:
    """The verdict of a screen on some rows.

    Attributes
    ----------
    best, second : ndarray of int
        The centers with the lowest scores.
    certain : ndarray of bool
        Whether the best center is certified to be the nearest.
    near, rest : ndarray of float64
        Lower bounds of |x - c_second| and of the smallest distance to any other center, minus |x - c_best|.
    """

    best: NDArray[np.integer]
    second: NDArray[np.integer]
    certain: NDArray[np.bool_]
    near: F64
    rest: F64


def verdict(norms: F64, lowest: Lowest, upper: NDArray, radius: ScoreRadius) -> Screened:
    """The verdict on rows, from an upper score of the best center and lower scores of the others.

    Parameters
    ----------
    norms : ndarray of shape (n_rows,), float64
        Upper bounds of |x_i|, one for all distances: sqrt(|x|^2 + b) - sqrt(|x|^2 + a) falls as |x|^2 grows.
    lowest : Lowest
        Computed scores; those of the second and third best are lower bounds, up to the radius.
    upper : ndarray of shape (n_rows,)
        The computed score of the best center, an upper bound up to the radius.
    radius : ScoreRadius
        Of all these scores.
    """
    error = norms * radius.per_norm
    error += radius.constant
    return verdict_within(norms, lowest, upper, error)


def verdict_within(norms: F64, lowest: Lowest, upper: NDArray, error: F64) -> Screened:
    """`verdict` with the radius of each row, `error`, (n_rows,), which is overwritten."""
    nearest = upper + error
    second = lowest.second_score - error
    certain = second > nearest
    squares = norms * norms
    nearest += squares
    nearest = np.sqrt(np.maximum(nearest, 0.0, out=nearest), out=nearest)
    nearest *= 1.0 + GAP_SLACK
    error -= squares
    near, rest = (_farther(scores, error, nearest) for scores in (lowest.second_score, lowest.third_score))
    return Screened(lowest.best, lowest.second, certain, near, rest)


def _farther(scores: NDArray, less: F64, nearest: F64) -> F64:
    """Lower bounds of ``sqrt(scores - less) - nearest``."""
    distance = scores - less
    distance = np.sqrt(np.maximum(distance, 0.0, out=distance), out=distance)
    distance *= 1.0 - GAP_SLACK
    distance -= nearest
    return distance
