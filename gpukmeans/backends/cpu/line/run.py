"""One run of Lloyd's algorithm on a line: binary searches for the boundaries, differences of prefix sums for the means.

An iteration takes k log n steps instead of n.  Its results are those of `gpukmeans.backends.cpu.run.NumpyRun`: the
boundaries are exact, ties included, and the sums are the same integers.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64, I64
from gpukmeans.backends.cpu.line.rows import SortedRows
from gpukmeans.backends.cpu.own import OwnDistances, check_precision
from gpukmeans.backends.protocol import Assigned, Step, Updated
from gpukmeans.exact.midpoints import boundaries
from gpukmeans.exact.sums import cluster_means, exact_totals
from gpukmeans.exact.warp_order import center_shift_square

#: Steps whose shifts are summed together.
TOGETHER = 256


class LineRun(OwnDistances):
    """Centers and boundaries of one run; labels are made where they are asked for.

    Parameters
    ----------
    line : SortedRows
    centers : ndarray of shape (n_clusters, 1)
    precision : {"exact", "fast"}
        Without effect: the boundaries are exact at no cost.
    """

    def __init__(self, line: SortedRows, centers: NDArray, precision: str) -> None:
        check_precision(precision)
        self._line, self._table = line, line.table
        self._centers = self._assigned = np.array(centers, self._table.center_dtype, order="C")
        self._ids: I64 = np.zeros(0, np.int64)
        self._firsts: NDArray = np.zeros(0, line.dtype)
        self._ends: tuple[I64, I64] | None = None  # of every cluster in rising order, after an assignment that moves
        self._known_labels: NDArray[np.int32] | None = None

    def assign(self, *, move: bool = True) -> Assigned:
        self._table.refuse_infinities(slice(None))
        before = self._ends
        self._assigned = self._centers
        self._ids, self._firsts = boundaries(self._centers[:, 0], self._line.dtype)
        self._known_labels = None
        n = self._table.n_samples
        if not move and before is None:
            return Assigned(n, n_certified=n, n_resolved=0, n_exact=0)
        cuts = self._line.cuts(self._firsts)
        starts, stops = np.zeros((2, len(self._centers)), np.int64)
        starts[self._ids], stops[self._ids] = cuts[:-1], cuts[1:]
        self._ends = starts, stops
        n_moved = n
        if before is not None:
            common = np.minimum(stops, before[1]) - np.maximum(starts, before[0])
            n_moved -= int(np.maximum(common, 0).sum())
        return Assigned(n_moved, n_certified=n, n_resolved=0, n_exact=0)

    def update(self) -> Updated:
        sums, limbs = self.sums()
        weights = self._line.weight_grid.value(limbs[:, :, None])[:, 0]
        assert self._table.grid is not None
        before, self._weights = self._centers, weights
        self._centers = cluster_means(sums, weights, self._table.grid, before.dtype)
        return Updated(weights, center_shift_square(self._centers, before))

    def advance(self, limit: int, tol: float) -> list[Step]:
        steps: list[Step] = []
        shifts: list[F64] = []
        ended = False
        while not ended and len(steps) < min(limit, TOGETHER):
            started = time.perf_counter()
            assigned = self.assign()
            updated = self.update()
            n_empty = len(updated.weights) - int(np.count_nonzero(updated.weights))
            shifts.append(updated.shift_square)
            ended = assigned.n_moved == 0 or n_empty > 0
            # Sums within 2**-20 of the exact one; only a shift about as small as `tol` must be known.
            if not ended and float(updated.shift_square.sum()) <= 2.0 * tol:
                ended = bool(_totals(shifts[-1:])[0] <= tol)
            steps.append(Step(assigned, float("nan"), n_empty, time.perf_counter() - started))
        totals = _totals(shifts)
        if steps[-1].n_empty:
            totals[-1] = float("nan")
        return [step._replace(shift=shift) for step, shift in zip(steps, totals.tolist(), strict=True)]

    def weights(self) -> F64:
        return self._weights

    def sums(self) -> tuple[I64, I64]:
        if self._table.grid is None:
            raise ValueError("These rows were loaded without a grid: they can be labelled (move=False), not summed.")
        if self._ends is None:
            raise ValueError("Sums follow an assignment that moves rows.")
        starts, stops = self._ends
        of_rows, of_weights = self._line.sums, self._line.weights
        return (of_rows[:, stops] - of_rows[:, starts])[:, :, None], of_weights[:, stops] - of_weights[:, starts]

    def set_centers(self, centers: NDArray) -> None:
        self._centers = np.array(centers, self._table.center_dtype, order="C")

    @property
    def _labels(self) -> NDArray[np.int32]:
        if self._known_labels is None:
            if not len(self._ids):
                return np.full(self._table.n_samples, -1, np.int32)
            self._known_labels = self._line.labels(self._ids, self._firsts)
        return self._known_labels


def _totals(shifts: list[F64]) -> F64:
    """`exact_total` of each."""
    return exact_totals(np.nan_to_num(np.stack(shifts, axis=1)))
