"""Rows in CSR without the columns that nobody uses: millions of hashed features of which a table has some thousands.

Centers are dense, so that each array of them, and each pass over one, takes what their columns take.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import I64
from gpukmeans.exact.warp_order import WARP, packed_columns


class Columns(NamedTuple):
    """Which columns are kept, and where.

    A column stays in its lane of the warp order and behind those before it there, so that sums over the columns keep
    their bits: what is left out adds zeros.
    """

    n_features: int  # before
    width: int  # after
    kept: I64  # columns
    places: I64  # of these among the `width` columns; the others of these are empty

    def narrow(self, centers: NDArray) -> NDArray:
        """Centers in the kept columns."""
        narrow = np.zeros((len(centers), self.width), centers.dtype)
        narrow[:, self.places] = centers[:, self.kept]
        return narrow

    def widen(self, centers: NDArray) -> NDArray:
        """Centers in all columns, zero in those that were left out."""
        wide = np.zeros((len(centers), self.n_features), centers.dtype)
        wide[:, self.kept] = centers[:, self.places]
        return wide


def used_columns(X: Any, centers: NDArray | None) -> Columns | None:
    """The columns that rows in CSR store or that a center has a value in; None if they are too many to pay.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import sparse
    >>> from gpukmeans.intake.columns import used_columns
    >>> X = sparse.csr_array((np.ones(2), np.array([5, 900]), np.array([0, 1, 2])), shape=(2, 1000))
    >>> columns = used_columns(X, None)
    >>> columns.width, columns.kept.tolist(), columns.places.tolist()
    (32, [5, 900], [5, 4])
    """
    n_features = X.shape[1]
    if 2 * X.nnz + WARP >= n_features:
        return None
    used = np.zeros(n_features, bool)
    used[X.indices[: X.nnz]] = True
    if centers is not None:
        for center in centers:
            used |= center != 0.0
    kept = np.flatnonzero(used)
    places, n_steps = packed_columns(kept)
    width = WARP * n_steps
    if 2 * width >= n_features:
        return None
    return Columns(n_features, width, kept, places)


def narrow_rows(X: Any, columns: Columns) -> Any:
    """Rows in CSR in the kept columns, their indices rising."""
    place = np.zeros(columns.n_features, np.int32)
    place[columns.kept] = columns.places
    n = X.nnz
    narrow = type(X)((X.data[:n].copy(), place[X.indices[:n]], X.indptr.copy()), shape=(X.shape[0], columns.width))
    narrow.sort_indices()
    return narrow
