"""Sparse rows: recognised, and converted to the form that the engine reads.

That form is SciPy's CSR with the column indices of each row rising and none repeated.  The caller's matrix is not
changed.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray


def is_sparse(X: object) -> bool:
    """Whether X is one of SciPy's sparse matrices or arrays, or a pandas frame whose columns are all sparse.

    Raises
    ------
    TypeError
        If it is one of CuPy's, which lie on a device.
    """
    if type(X).__module__.startswith("cupyx.scipy.sparse"):
        raise TypeError(
            "X is a sparse matrix on a CUDA device; sparse rows are taken from the host only: pass X.get(), which "
            "backend='auto' and 'cupy' cluster on the GPU all the same, or X.toarray() (dense rows on the device)."
        )
    scipy_sparse = sys.modules.get("scipy.sparse")  # loaded if there is such a matrix
    return (scipy_sparse is not None and scipy_sparse.issparse(X)) or _is_sparse_frame(X)


def _is_sparse_frame(X: Any) -> bool:
    pandas = sys.modules.get("pandas")
    if pandas is None or not isinstance(X, pandas.DataFrame) or not len(X.columns):
        return False
    return all(isinstance(dtype, pandas.SparseDtype) for dtype in X.dtypes)


def scipy_rows(X: Any) -> Any:
    """A pandas frame of sparse columns as one of SciPy's matrices, in its own dtype; other sparse rows as they are.

    Raises
    ------
    ValueError
        If a column of the frame leaves out another value than 0.
    """
    if not _is_sparse_frame(X):
        return X
    for name, dtype in zip(X.columns, X.dtypes, strict=True):
        if dtype.fill_value != 0:
            raise ValueError(
                f"Column {name!r} of X is sparse and leaves out the value {dtype.fill_value!r}; it should leave out 0, "
                "as DataFrame.sparse.from_spmatrix and get_dummies make it. Pass X.sparse.to_dense() for dense rows."
            )
    return X.sparse.to_coo()


def canonical(X: Any) -> Any:
    """CSR with rising, unrepeated indices: X itself if it is in that form, else a copy.

    X in another format than CSR is returned as it is.

    Entries given more than once are added up in the order in which they are stored and in their own dtype, as
    ``X.toarray()`` does.  SciPy's flags of sorted indices are not trusted.

    Raises
    ------
    ValueError
        If X is not two-dimensional, an index lies outside the matrix, or the arrays of X do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import sparse
    >>> from gpukmeans.arrays.sparse import canonical
    >>> X = sparse.csr_array((np.array([1.0, 2.0, 4.0]), np.array([1, 0, 1]), np.array([0, 3])), shape=(1, 2))
    >>> canonical(X).data.tolist(), canonical(X).indices.tolist(), X.data.tolist()
    ([2.0, 5.0], [0, 1], [1.0, 2.0, 4.0])
    """
    if X.format != "csr":
        return X
    if X.ndim != 2:
        raise ValueError(
            f"Expected 2D array, got {X.ndim}D sparse array instead: X has shape {X.shape}. Reshape your data with "
            "X.reshape(1, -1) if it contains a single sample."
        )
    read = type(X)((X.data, X.indices, X.indptr), shape=X.shape, copy=False)  # checks set flags of this one, not of X
    read.check_format(full_check=True)
    if read.has_canonical_format:
        return X
    n_entries = int(X.indptr[-1])
    counts = np.diff(X.indptr)
    rows = np.repeat(np.arange(X.shape[0]), counts)
    indices, data = X.indices[:n_entries], X.data[:n_entries]
    order = np.lexsort((indices, rows))  # stable: repeated entries keep their order
    rows, indices, data = rows[order], indices[order], data[order]
    first = np.ones(n_entries, bool)
    first[1:] = (np.diff(rows) != 0) | (np.diff(indices) != 0)
    sums = np.zeros(int(first.sum()), data.dtype)
    np.add.at(sums, np.cumsum(first) - 1, data)
    starts: NDArray = np.zeros(X.shape[0] + 1, X.indptr.dtype)
    np.cumsum(np.bincount(rows[first], minlength=X.shape[0]), out=starts[1:])
    return type(X)((sums, indices[first], starts), shape=X.shape)
