"""The starts of mini-batch k-means: centers drawn among some random rows, as in scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64, I64
from gpukmeans.backends.protocol import Backend, CsrRows, Rows
from gpukmeans.engine.restarts import Init
from gpukmeans.engine.seeding.starts import find_starts
from gpukmeans.intake.checks import check_centers


@dataclass
class BatchStarts:
    """Draws starts, one a call.

    Attributes
    ----------
    backend : Backend
    n_samples : int
        The number of all rows.
    sample_weight : ndarray of shape (n_samples,), float64, or None
    csr : CSR of shape (n_samples, n_features), or None
        The rows, if they are in CSR; a callable `init` then gets some of them in CSR.
    some : callable
        ``some(indices, weights)`` returns some of the rows on the backend.
    everything : callable
        ``everything()`` returns all rows on the backend, with their weights.
    init : {"k-means++", "k-means||", "two-level", "random"}, ndarray of shape (n_clusters, n_features) or callable
    n_clusters : int
    init_size : int
        The number of random rows to draw among; if it is `n_samples`, these are all rows, once each.
    random_state : RandomState
    dtype : dtype
        Of the centers.
    whole : bool, default=False
        Whether a callable `init` gets all rows, and draws by itself.
    """

    backend: Backend
    n_samples: int
    sample_weight: F64 | None
    csr: CsrRows | None
    some: Callable[[I64, F64 | None], Rows]
    everything: Callable[[], Rows]
    init: Init
    n_clusters: int
    init_size: int
    random_state: np.random.RandomState
    dtype: np.dtype
    whole: bool = False

    def draw(self) -> NDArray:
        """The centers of the next start, (n_clusters, n_features).

        Rows to draw among are drawn even for given centers, so that `random_state` advances as in scikit-learn.
        """
        indices = None
        if self.init_size < self.n_samples and not self.whole:
            indices = self.random_state.randint(0, self.n_samples, self.init_size)
        if not isinstance(self.init, str) and not callable(self.init):
            return np.asarray(self.init)
        weight = self._weights(indices)
        rows = self.everything() if indices is None else self.some(indices, weight)
        if callable(self.init):
            if self.csr is not None:
                values = self.csr if indices is None else self.csr[indices]
            else:
                values = rows.take(np.arange(rows.n_samples)).astype(self.dtype, copy=False)
            returned = self.init(values, self.n_clusters, random_state=self.random_state)
            return check_centers(returned, self.n_clusters, values.shape[1], self.dtype)
        load = partial(self.backend.load, sums=False)
        return find_starts(self.init, rows, self.n_clusters, self.random_state, weight, self.dtype, load)

    def best(self, n_init: int, precision: str, *, verbose: bool) -> NDArray:
        """Of `n_init` starts the one with the lowest inertia on `init_size` random rows; of equal ones the first."""
        drawn = self.random_state.randint(0, self.n_samples, self.init_size)
        judges: Rows | None = None
        best, lowest = None, float("nan")
        for i in range(n_init):
            if verbose:
                print(f"Init {i + 1}/{n_init} with method {self.init!s}")
            centers = self.draw()
            if n_init == 1 and not verbose:
                return centers
            judges = judges or self.some(drawn, self._weights(drawn))
            run = judges.start(centers, precision=precision)
            run.assign(move=False)
            inertia = run.inertia()
            if verbose:
                print(f"Inertia for init {i + 1}/{n_init}: {inertia}")
            if not lowest <= inertia:
                best, lowest = centers, inertia
        assert best is not None
        return best

    def _weights(self, indices: I64 | None) -> F64 | None:
        return self.sample_weight if indices is None or self.sample_weight is None else self.sample_weight[indices]
