"""Rows that are hard to label exactly: near a tie, or on one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


def near_ties(
    n_samples: int, n_clusters: int, n_features: int, seed: int = 0, dtype: DTypeLike = np.float32
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Make rows that lie almost exactly half way between near-duplicate centers.

    The centers come in pairs, the two of a pair apart by one rounding step up to its square root's worth of
    digits; each row lies close to the plane half way between the centers of one pair. The nearest center is
    well defined, but distances computed in `dtype` are off by more than they differ, so that plain arithmetic
    gets up to half of the labels wrong. All coordinates are near 8, where ``|c|^2 - 2 x.c`` loses most.

    Parameters
    ----------
    n_samples, n_clusters, n_features : int
        Shapes to make, all at least 1. With an odd `n_clusters` one center stands alone.
    seed : int, default=0
        For :func:`numpy.random.default_rng`.
    dtype : float32 or float64, default=float32
        Of the rows and of the centers.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features), `dtype`
    centers : ndarray of shape (n_clusters, n_features), `dtype`

    Raises
    ------
    ValueError
        A shape is below 1, or `dtype` is neither float32 nor float64.

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans.datasets import near_ties
    >>> X, C = near_ties(1000, 10, 32)
    >>> def nearest(X, C):
    ...     return ((C * C).sum(axis=1) - 2 * X @ C.T).argmin(axis=1)
    >>> wrong = nearest(X, C) != nearest(X.astype(np.longdouble), C.astype(np.longdouble))
    >>> bool(wrong.mean() > 0.1)
    True
    """
    _require_positive(n_samples=n_samples, n_clusters=n_clusters, n_features=n_features)
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"dtype={dtype} should be float32 or float64")
    rng = np.random.default_rng(seed)
    n_pairs = (n_clusters + 1) // 2
    base = 8 + rng.standard_normal((n_pairs, n_features))
    eps = float(np.finfo(dtype).eps)
    size = 8 * eps * np.exp(rng.uniform(0, -np.log(eps) / 2, (n_pairs, 1)))
    step = size * rng.choice([-1.0, 1.0], (n_pairs, n_features))
    pairs = np.stack([base, base + step], axis=1).astype(dtype)

    pair = rng.integers(n_clusters // 2 or 1, size=n_samples)  # a lone last center draws no rows
    first, second = pairs[pair, 0].astype(np.float64), pairs[pair, 1].astype(np.float64)
    apart = second - first
    aside = 0.1 * rng.standard_normal((n_samples, n_features))
    length_sq = np.maximum((apart * apart).sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    aside -= apart * ((aside * apart).sum(axis=1, keepdims=True) / length_sq)
    along = rng.uniform(0.49, 0.51, (n_samples, 1))
    rows = (first + along * apart + aside).astype(dtype)

    centers = pairs.reshape(2 * n_pairs, n_features)[:n_clusters]
    return rows, np.ascontiguousarray(rng.permutation(centers))


def exact_ties(
    n_samples: int, n_clusters: int, n_features: int, seed: int = 0, dtype: DTypeLike = np.uint8
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Make whole-numbered rows exactly half way between centers, and centers that are equal.

    The centers come in pairs ``b - e`` and ``b + e``; in every fourth pair ``e`` is zero and the two are
    duplicates. Each row is ``b`` of a random pair, moved in features where ``e`` is zero: equally far from
    both. Values are whole numbers 0 to 255, so integer arithmetic gives the true distances, and the lowest
    index is the right label.

    Parameters
    ----------
    n_samples, n_clusters, n_features : int
        Shapes to make, all at least 1. With an odd `n_clusters` one center stands alone.
    seed : int, default=0
        For :func:`numpy.random.default_rng`.
    dtype : dtype, default=uint8
        Of the rows and of the centers; must hold 0 to 255.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features), `dtype`
    centers : ndarray of shape (n_clusters, n_features), `dtype`

    Raises
    ------
    ValueError
        A shape is below 1.

    Examples
    --------
    >>> from gpukmeans.datasets import exact_ties
    >>> X, C = exact_ties(1000, 6, 32)
    >>> distances = ((X[:, None].astype(int) - C.astype(int)) ** 2).sum(axis=2)
    >>> smallest = distances.min(axis=1, keepdims=True)
    >>> bool(((distances == smallest).sum(axis=1) == 2).all())
    True
    """
    _require_positive(n_samples=n_samples, n_clusters=n_clusters, n_features=n_features)
    rng = np.random.default_rng(seed)
    n_pairs = (n_clusters + 1) // 2
    base = rng.integers(8, 248, (n_pairs, n_features))
    step = rng.integers(1, 5, (n_pairs, n_features))
    step[:, 1::2] = 0  # the rows move here
    step[3::4] = 0  # duplicates
    pairs = np.stack([base - step, base + step], axis=1)

    pair = rng.integers(n_clusters // 2 or 1, size=n_samples)
    rows = base[pair]
    rows[:, 1::2] += rng.integers(-8, 8, (n_samples, n_features // 2))

    centers = pairs.reshape(2 * n_pairs, n_features)[:n_clusters]
    return rows.astype(dtype), np.ascontiguousarray(rng.permutation(centers).astype(dtype))


def _require_positive(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name}={size} should be at least 1")
