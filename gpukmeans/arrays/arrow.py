"""Arrow arrays of vectors and tensors as NumPy arrays.  pyarrow is not imported here."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from gpukmeans.arrays.limits import refuse_nan


def from_arrow(X: Any) -> Any:
    """A FixedSizeList or tensor array of pyarrow, chunked or not, as a NumPy array; any other object as it is.

    NumPy by itself makes arrays of objects of them.

    Raises
    ------
    ValueError
        If a whole row is null.  (A null within a row becomes NaN.)
    """
    pyarrow = sys.modules.get("pyarrow")
    if pyarrow is None or not isinstance(X, pyarrow.Array | pyarrow.ChunkedArray):
        return X
    if isinstance(X, pyarrow.ChunkedArray):
        X = X.combine_chunks()
    if X.null_count and (pyarrow.types.is_fixed_size_list(X.type) or isinstance(X, pyarrow.ExtensionArray)):
        refuse_nan()
    if hasattr(X, "to_numpy_ndarray"):
        return X.to_numpy_ndarray()
    shape = [len(X)]
    while pyarrow.types.is_fixed_size_list(X.type):
        shape.append(X.type.list_size)
        X = X.flatten()
        if X.null_count and pyarrow.types.is_fixed_size_list(X.type):
            refuse_nan()
    return X if len(shape) == 1 else np.asarray(X.to_numpy(zero_copy_only=False)).reshape(shape)
