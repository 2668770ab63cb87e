"""The lowest scores of rows, found center by center where there are few: NumPy's `argmin` takes long for short rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpukmeans.threads import parts_of

#: Centers up to which this pays, rows for each center from which, and scores that are turned at a time.
FEW, ROWS, TURNED = 30, 48, 1 << 17


@dataclass(frozen=True)
class Lowest:
    """The three lowest scores of each row and the centers of two of them; infinite where there are too few centers.

    Attributes
    ----------
    best, second : ndarray of shape (n_rows,), int
        The centers with the lowest and the second lowest score; of equal lowest ones `best` has the lowest index.
    best_score, second_score, third_score : ndarray of shape (n_rows,), float32 or float64
    """

    best: NDArray[np.integer]
    best_score: NDArray
    second_score: NDArray
    second: NDArray[np.integer]
    third_score: NDArray


def lowest_scores(scores: NDArray, count: int = 3) -> Lowest:
    """The two or three lowest of each row of `scores`, (n_rows, n_centers), which may be overwritten.

    Of equal second scores any may come second; of scores that are not all numbers the centers mean nothing.  With
    ``count=2``, `second` repeats `best` and `third_score` repeats `second_score`: neither is computed.
    """
    n, k = scores.shape
    if not 1 < k <= FEW or n < ROWS * k:
        return _of_many_centers(scores, count)
    best, second = np.empty(n, np.intp), np.empty(n, np.intp) if count == 3 else None
    values = np.empty((count, n), scores.dtype)
    descending = np.arange(k, 0, -1, dtype=np.int8)[:, None]
    for part in parts_of(n, max(1, TURNED // k)):
        turned = np.ascontiguousarray(scores[part].T)
        first, runner_up, *third = values[:, part]
        _lowest_values(turned, first, runner_up, *third)
        np.subtract(k, _largest_where(turned == first, descending), out=best[part])
        if second is not None:
            np.subtract(_largest_where(turned == runner_up, descending[::-1]), 1, out=second[part])
    return Lowest(best, values[0], values[1], best if second is None else second, values[-1])


def _of_many_centers(scores: NDArray, count: int) -> Lowest:
    """As `lowest_scores`, row by row; of equal scores the lower index comes first."""
    n, k = scores.shape
    scores = np.ascontiguousarray(scores)
    flat, starts = scores.reshape(-1), np.arange(0, n * k, k)
    found = []
    for _ in range(count):
        index = scores.argmin(axis=1)
        at = starts + index
        found.append((index, flat.take(at)))
        flat[at] = np.inf
    (best, first), (second, runner_up) = found[:2]
    if count == 2:
        return Lowest(best, first, runner_up, best, runner_up)
    return Lowest(best, first, runner_up, second, found[2][1])


def _lowest_values(turned: NDArray, first: NDArray, second: NDArray, third: NDArray | None = None) -> None:
    """The lowest values of each column of `turned`, into the other arrays."""
    first[:] = turned[0]
    second.fill(np.inf)
    room = np.empty_like(first)
    if third is not None:
        third.fill(np.inf)
        more = np.empty_like(first)
    for row in turned[1:]:
        np.maximum(first, row, out=room)
        np.minimum(first, row, out=first)
        if third is not None:
            np.maximum(second, room, out=more)
            np.minimum(third, more, out=third)
        np.minimum(second, room, out=second)


def _largest_where(hits: NDArray[np.bool_], numbers: NDArray[np.int8]) -> NDArray[np.int8]:
    """The largest number whose hit is true, of each column; 1 if none is."""
    return np.maximum.reduce(np.multiply(hits, numbers), axis=0, initial=1)
