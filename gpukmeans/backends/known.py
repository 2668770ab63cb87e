"""What an earlier fit knows of the first rows: labels, bounds and sums, for a run that starts from its centers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64, I64


@dataclass(frozen=True)
class Known:
    """Facts about the first `n_known` rows, beside the centers that the run starts from.

    Attributes
    ----------
    labels, second : ndarray of shape (n_known,), int32
        The true nearest center of each row, and another one.
    near, rest : ndarray of shape (n_known,), float64
        Lower bounds of |x - c_second| and of the smallest distance to any other center, minus |x - c_label|; minus
        infinity where there is none.
    sums : tuple of ndarray, or None
        The exact sums and weights of the clusters of these rows, as `gpukmeans.backends.Run.sums` returns them, on the
        grids of all rows; None: to be found.
    """

    labels: NDArray[np.int32]
    second: NDArray[np.int32]
    near: F64
    rest: F64
    sums: tuple[I64, I64] | None
