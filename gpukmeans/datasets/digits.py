"""scikit-learn's 1,797 digits of 8 x 8 pixels."""

from __future__ import annotations

from typing import Literal, overload

import numpy as np
from sklearn.utils import Bunch

from gpukmeans.datasets.labelled import Labelled, bunch


@overload
def load_digits(*, return_X_y: Literal[True]) -> Labelled: ...


@overload
def load_digits(*, return_X_y: Literal[False] = ...) -> Bunch: ...


def load_digits(*, return_X_y: bool = False) -> Bunch | Labelled:
    """Load scikit-learn's 1,797 handwritten digits of 8 x 8 pixels, in the form of :func:`load_mnist`.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a :class:`~sklearn.utils.Bunch`.

    Returns
    -------
    dataset : :class:`~sklearn.utils.Bunch`
        ``data`` (1797, 64) uint8 with values 0 to 16, ``target`` (1797,) int64, ``images`` (1797, 8, 8)
        uint8, ``n_train`` 1797 (there is no test part), ``feature_names``, ``target_names``, ``frame`` and
        ``DESCR``.
    (data, target) : tuple if ``return_X_y`` is True

    See Also
    --------
    sklearn.datasets.load_digits : the same values as float64.

    Examples
    --------
    >>> from gpukmeans.datasets import load_digits
    >>> digits = load_digits()
    >>> digits.data.shape, digits.data.dtype, int(digits.data.max())
    ((1797, 64), dtype('uint8'), 16)
    """
    from sklearn import datasets

    digits = datasets.load_digits()
    return bunch(
        digits.images.astype(np.uint8),
        digits.target.astype(np.int64),
        len(digits.target),
        digits.DESCR,
        return_X_y,
    )
