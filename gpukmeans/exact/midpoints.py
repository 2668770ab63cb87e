"""The nearest center of numbers on a line: exact midpoints, each rounded to the first number beyond it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64, I64


class Boundaries(NamedTuple):
    """Where the numbers of a dtype change their nearest center.

    Attributes
    ----------
    ids : ndarray of shape (n_distinct,), int64
        The centers in rising order; of equal ones the lowest index.
    firsts : ndarray of shape (n_distinct - 1,)
        A number x is nearer to ``ids[j + 1]`` than to ``ids[j]``, or as near and its index is lower, if and only if
        ``x >= firsts[j]``.  In rising order; equal ones leave a center between them without numbers.
    """

    ids: I64
    firsts: NDArray


def boundaries(centers: NDArray, dtype: np.dtype) -> Boundaries:
    """The boundaries between centers on a line, for numbers of `dtype`.

    Parameters
    ----------
    centers : ndarray of shape (n_clusters,), float32 or float64
        Finite; sums of two do not overflow.
    dtype : float32 or float64

    Notes
    -----
    x is nearer to the left one of two centers a < b if 2 x < a + b, all exact: a + b is s + e by D. E. Knuth's sum of
    two numbers with its error ("The Art of Computer Programming" 2, 4.2.2).  Let t be s / 2 rounded to `dtype`.  As
    rounding keeps order, the sign of (a + b) / 2 - t is that of s - 2 t, or that of e where this is zero; with both
    zero t lies halfway, and the lower index decides.

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans.exact.midpoints import boundaries
    >>> boundaries(np.array([3.0, 1.0, 3.0]), np.dtype(np.float64))
    Boundaries(ids=array([1, 0]), firsts=array([2.]))
    """
    wide = centers.astype(np.float64)
    ids = np.argsort(wide, kind="stable")
    in_order = wide[ids]
    left, right = in_order[:-1], in_order[1:]
    apart = left < right
    if not apart.all():
        ids = ids[np.concatenate([[True], apart])]
        in_order = wide[ids]
        left, right = in_order[:-1], in_order[1:]
    total, error = two_sum(left, right)
    firsts = (0.5 * total).astype(dtype)
    side = np.sign(total - 2.0 * firsts.astype(np.float64))
    side = np.where(side, side, error)
    to_the_left = (side > 0.0) | ((side == 0.0) & (ids[:-1] < ids[1:]))
    if to_the_left.any():
        firsts = np.where(to_the_left, np.nextafter(firsts, dtype.type(np.inf)), firsts)
    return Boundaries(ids, firsts)


def two_sum(a: F64, b: F64) -> tuple[F64, F64]:
    """Two float64 arrays, the rounded sum first, whose sum is exactly a + b, if nothing overflows.

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans.exact.midpoints import two_sum
    >>> total, error = two_sum(np.array([1.0]), np.array([2.0**-60]))
    >>> float(total[0]), float(error[0]) == 2.0**-60
    (1.0, True)
    """
    total = a + b
    of_b = total - a
    return total, (a - (total - of_b)) + (b - of_b)
