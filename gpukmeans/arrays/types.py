"""Names of array types, for annotations."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
#: Some rows: a slice, or their indices.
Index = slice | NDArray[np.int64]


class Limit(Protocol):
    """A tolerance: a float, or what is compared as one and computed if need be."""

    def __float__(self) -> float: ...

    def __ge__(self, shift: float, /) -> bool: ...
