"""The lowest scores of rows, found center by center where there are few: NumPy's `argmin` takes long for short rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpukmeans.certificates.verdicts import Lowest
from gpukmeans.certificates.verdicts import lowest_scores as lowest_of_many
from gpukmeans.threads import parts_of

#: Centers up to which this pays, rows for each center from which, and scores that are turned at a time.
FEW, ROWS, TURNED = 30, 48, 1 << 17


def lowest_scores(scores: NDArray, count: int = 3) -> Lowest:
    """As `gpukmeans.certificates.verdicts.lowest_scores`, but of equal second scores any may come second.

    Of scores that are not all numbers the centers mean nothing, as there.
    """
    n, k = scores.shape
    if not 1 < k <= FEW or n < ROWS * k:
        return lowest_of_many(scores, count)
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
