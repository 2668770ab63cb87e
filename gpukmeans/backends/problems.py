"""Several problems of one shape on a backend: the protocols that `gpukmeans.fit_many` uses.

Only backends whose `fits_many` is true implement these; others fit one problem after another.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.on_device import DeviceInput
from gpukmeans.arrays.types import F64, I64
from gpukmeans.backends.protocol import Backend, Drawn, Rows, Runs


class Problems(Protocol):
    """The rows of several problems of one shape, resident where the backend computes.

    Runs are those of the first problem, then those of the second, and so on, as many for each.
    """

    n_samples: int  # of each problem
    n_features: int
    center_dtype: np.dtype

    def problem(self, number: int) -> Rows:
        """One of them, not copied."""

    def variances(self) -> F64:
        """`gpukmeans.engine.tolerance.mean_variance` of each problem, (n_problems,), weights left out."""

    def plusplus(self, seeds: I64, draws: F64) -> Drawn:
        """As `Rows.plusplus`; row indices count within a problem."""

    def take(self, indices: NDArray[np.int64]) -> NDArray:
        """As `Rows.take`; row indices count through all problems."""

    def start_many(self, centers: NDArray) -> Runs:
        """New runs from `centers` (n_runs, n_clusters, n_features)."""


class BatchBackend(Backend, Protocol):
    """A backend that fits several problems of one shape together, besides what every `Backend` does."""

    def problems_at_a_time(
        self, shape: tuple[int, int], dtype: np.dtype, n_clusters: int, n_runs: int, *, weighted: bool
    ) -> int:
        """How many problems with so many runs each are to be loaded together; at most 1: each alone."""

    def load_many(self, X: NDArray | DeviceInput, sample_weight: F64 | None = None) -> Problems:
        """As `Backend.load`, of (n_problems, n_samples, n_features) rows and (n_problems, n_samples) weights.

        Raises a `ProblemError` where the rows of a problem are not allowed.
        """


class ProblemError(Exception):
    """The error of one of several problems that were loaded together.

    Attributes
    ----------
    number : int
        Which of these, from 0.
    error : ValueError
        What `Backend.load` raises for this problem alone.
    """

    def __init__(self, number: int, error: ValueError) -> None:
        super().__init__(f"problem {number}: {error}")
        self.number, self.error = number, error
