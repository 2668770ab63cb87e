"""Scores of sparse rows with rigorous radii: products of CSR with all centers at once.

Sparse rows cannot be shifted, so the scores are those about the origin: |c|^2 - 2 x.c.  Only stored entries are
multiplied, and the radii grow with their number, not with the features' (gpukmeans/certificates/sparse.py).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64, Index
from gpukmeans.backends.csr.table import SparseTable
from gpukmeans.certificates.lowest import lowest_scores
from gpukmeans.certificates.rounding import LARGEST_NORM32, SMALLEST_NORM32, UNIT32, UNIT64
from gpukmeans.certificates.sparse import sparse_score_radius
from gpukmeans.certificates.verdicts import Screened, verdict_within

#: Columns whose squares are added up before they go on, so that |c|^2 of many features has few roundings.
SQUARE_BLOCK = 256


class SparseRowScreen:
    """What screens need of the rows: norms, and a float32 copy of the entries."""

    measured = True

    def __init__(self, table: SparseTable) -> None:
        self.table = table
        self.squares = table.squares()
        self.norms = np.sqrt(self.squares) * (1.0 + 2.0**-20)
        self._narrow: SparseTable | None = table if table.dtype == np.float32 else None

    def as_type(self, dtype: np.dtype) -> SparseTable:
        """The rows in float32, or as stored."""
        if dtype == np.float64:
            return self.table
        if self._narrow is None:
            with np.errstate(over="ignore"):
                self._narrow = self.table.with_data(self.table.X.data.astype(np.float32))
        return self._narrow


class SparseFullScreen:
    """Scores |c|^2 - 2 x.c in float32 or float64, their radii, and the verdicts that follow.

    Parameters
    ----------
    rows : SparseRowScreen
    centers : ndarray of shape (n_clusters, n_features)
    dtype : {float32, float64}
    exact : bool, default=False
        Whether scores in float64 carry no error.
    columns : ndarray of int, optional
        The features in which the rows to score have entries; None: any.
    """

    def __init__(
        self,
        rows: SparseRowScreen,
        centers: NDArray,
        dtype: np.dtype,
        *,
        exact: bool = False,
        columns: NDArray[np.integer] | None = None,
    ) -> None:
        self.rows = rows
        self._table = rows.as_type(dtype)
        self._unit = UNIT32 if dtype == np.float32 else UNIT64
        self._exact = exact
        squares = block_squares(centers)
        self.largest = float(np.sqrt(squares.max())) * (1.0 + 2.0**-20)
        with np.errstate(over="ignore"):
            if columns is None:
                self._minus_two = np.ascontiguousarray(centers.T, dtype)
                self._minus_two *= dtype.type(-2.0)
            else:
                self._minus_two = np.zeros(centers.shape[::-1], dtype)
                self._minus_two[columns] = dtype.type(-2.0) * centers[:, columns].T.astype(dtype)
            self._squares = squares.astype(dtype)

    @property
    def in_range(self) -> bool:
        """Whether float32 reaches from the smallest to the largest of these scores."""
        return SMALLEST_NORM32 <= self.largest < LARGEST_NORM32 and bool((self.rows.norms < LARGEST_NORM32).all())

    def scores(self, rows: Index) -> NDArray:
        """(n_rows, n_centers)"""
        scores = self._table.rows(rows) @ self._minus_two
        scores += self._squares
        return scores

    def radii(self, rows: Index) -> F64:
        """Bounds of the error of each row's scores."""
        counts = self.rows.table.counts[rows]
        if self._exact:
            return np.zeros(len(counts))
        roundings = square_roundings(self.rows.table.shape[1])
        return sparse_score_radius(counts, self.rows.norms[rows], self.largest, roundings, self._unit)

    def labels(self, rows: Index) -> tuple[NDArray[np.integer], NDArray[np.bool_]]:
        """The best center, and whether it is certified."""
        with np.errstate(over="ignore", invalid="ignore"):
            lowest = lowest_scores(self.scores(rows), count=2)
            gap = lowest.second_score.astype(np.float64) - lowest.best_score
            return lowest.best, gap > 2.0 * self.radii(rows)

    def judge(self, rows: Index, scores: NDArray) -> Screened:
        """The verdict on rows whose scores are known (and lost hereby)."""
        lowest = lowest_scores(scores)
        return verdict_within(self.rows.norms[rows], lowest, lowest.best_score.astype(np.float64), self.radii(rows))

    def candidates(self, rows: Index) -> NDArray[np.bool_]:
        """The centers that may be nearest, (n_rows, n_centers)."""
        return self.candidates_and_best(rows)[0]

    def candidates_and_best(self, rows: Index) -> tuple[NDArray[np.bool_], NDArray[np.integer]]:
        """The centers that may be nearest, (n_rows, n_centers), and the one with the lowest score, (n_rows,)."""
        with np.errstate(over="ignore", invalid="ignore"):
            scores = self.scores(rows)
            best = scores.argmin(axis=1)
            reach = scores[np.arange(len(best)), best].astype(np.float64) + 2.0 * self.radii(rows)
            return ~(scores > reach[:, None]), best


def block_squares(centers: NDArray) -> F64:
    """|c|^2 of each center in float64, with `square_roundings` roundings of a term at most."""
    k, d = centers.shape
    even = d - d % SQUARE_BLOCK
    wide = centers.astype(np.float64)
    blocks = wide[:, :even].reshape(k, -1, SQUARE_BLOCK)
    rest = wide[:, even:]
    return np.vecdot(blocks, blocks).sum(axis=1) + np.vecdot(rest, rest)


def square_roundings(n_features: int) -> int:
    """Each square rounds once, and in sums of a block, of the blocks, and of both parts: in whatever order they go."""
    return min(n_features, SQUARE_BLOCK) + n_features // SQUARE_BLOCK + 2
