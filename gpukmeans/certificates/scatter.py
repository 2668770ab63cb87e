"""Bounds of the inertia of one cluster, from sums about one of the rows.

Notation as in rounding.py.
"""

from __future__ import annotations

import numpy as np

from gpukmeans.arrays.types import F64
from gpukmeans.certificates.rounding import SQUARE_UNDERFLOW, TOTAL_UNDERFLOW, UNIT64, gamma


def scatter_bounds(
    sums: F64, squares: F64, n_samples: int, largest: float, center_dtype: np.dtype
) -> tuple[float, float]:
    """A lower and an upper bound of the inertia, as it is computed, of one cluster of all rows without weights.

    Parameters
    ----------
    sums, squares : ndarray of shape (n_features,), float64
        Of x - p and of its square over the rows x, where p is any number of each feature, by kernels/column_facts.cu.
    n_samples : int
    largest : float
        The largest magnitude of a value.
    center_dtype : dtype
        What the center is rounded to.

    Notes
    -----
    Let S and Q be the two sums of a feature and m = n_samples + n_features + 16.  Each is off by gamma(m) of the sum of
    its magnitudes, which is at most sqrt(n_samples Q) for S.  So the scatter Q - S^2 / n_samples is off by at most
    (3 gamma(m) + gamma(m)^2) Q and few roundings of its own: by 4 gamma(m) of the sum of all Q.  The inertia
    adds n_samples |c - mean|^2 to the scatter, where c is off the mean by 2**-34 (the grid) and two roundings of
    `largest` in each feature, and it is rounded itself by less than gamma(2 m) and, of tiny squares, by
    `TOTAL_UNDERFLOW` a row.
    """
    n, d = float(n_samples), float(len(sums))
    m = n + d + 16.0
    total = float((squares - sums * sums / n).sum())
    slack = 4.0 * gamma(m, UNIT64) * (1.0 + gamma(m, UNIT64)) * float(squares.sum())
    slack += SQUARE_UNDERFLOW + n * TOTAL_UNDERFLOW
    kind = np.finfo(center_dtype)
    off = n * d * (largest * (2.0**-34 + 2.0 * float(kind.eps)) + float(kind.tiny)) ** 2
    rounding = 2.0 * gamma(2.0 * m, UNIT64)
    return max(0.0, (total - slack) * (1.0 - rounding)), (total + slack + off) * (1.0 + rounding)
