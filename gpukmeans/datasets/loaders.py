"""Data to cluster: MNIST from several sources, 8 x 8 digits, and rows that are hard to label exactly."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray
from sklearn.utils import Bunch

from gpukmeans.datasets.mnist_download import from_keras, from_openml
from gpukmeans.datasets.mnist_files import check_arrays, read_npz, read_path

__all__ = ["exact_ties", "load_digits", "load_mnist", "near_ties"]

Labelled = tuple[NDArray[np.uint8], NDArray[np.int64]]

_MNIST_DESCR = """\
MNIST: 70,000 handwritten digits, 28 x 28 pixels, grey values 0 (paper) to 255 (ink); the 60,000 training
images come first, then the 10,000 test images, each in the authors' order. By Yann LeCun, Corinna Cortes and
Christopher J. C. Burges, from NIST's special databases 1 and 3.
Licence: Creative Commons Attribution-Share Alike 3.0, https://creativecommons.org/licenses/by-sa/3.0/.
Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document recognition",
Proceedings of the IEEE 86(11):2278-2324, 1998."""


@overload
def load_mnist(
    source: str | os.PathLike[str] = ..., *, return_X_y: Literal[True], checksum: bool = ...
) -> Labelled: ...
@overload
def load_mnist(
    source: str | os.PathLike[str] = ..., *, return_X_y: Literal[False] = ..., checksum: bool = ...
) -> Bunch: ...
def load_mnist(
    source: str | os.PathLike[str] = "bundled", *, return_X_y: bool = False, checksum: bool = True
) -> Bunch | Labelled:
    """Load the 70,000 MNIST images, training images first.

    Every source gives the same bits: the arrays are compared with MNIST's checksums (0.2 s).

    Parameters
    ----------
    source : {"bundled", "keras", "openml"} or path, default="bundled"
        - ``"bundled"``: the file that comes with gpukmeans; needs no network.
        - ``"keras"``: ``keras.datasets.mnist``, downloaded (11 MB) or from Keras' own cache. Keras deletes a
          file in its cache whose hash it does not know. A Keras backend must be installed; the one in
          ``KERAS_BACKEND`` or ``keras.json`` is used, else the first of jax, tensorflow, torch and openvino
          that is installed.
        - ``"openml"``: :func:`sklearn.datasets.fetch_openml`, downloaded or from scikit-learn's cache
          (minutes and several GB of memory without pandas, less with it).
        - a path: an npz file with the arrays ``x_train``, ``y_train``, ``x_test``, ``y_test``, or a folder
          with the four IDX files (plain or .gz, under their usual names), or any one of these four files.

        A file of yours named like one of the words is reached as ``"./keras"`` or as a :class:`pathlib.Path`.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a :class:`~sklearn.utils.Bunch`.
    checksum : bool, default=True
        Insist on MNIST's own bytes. ``False`` loads other data in the same layout (Fashion-MNIST, part of
        MNIST) from a path: uint8 images of any one size, any number of them.

    Returns
    -------
    dataset : :class:`~sklearn.utils.Bunch`
        With the attributes

        - ``data`` : ndarray of shape (70000, 784), uint8, grey values 0 to 255, C-contiguous
        - ``target`` : ndarray of shape (70000,), int64, the digits 0 to 9
        - ``images`` : ndarray of shape (70000, 28, 28), uint8, a view of ``data``
        - ``n_train`` : int, the number of leading rows that are training images (60000)
        - ``feature_names`` : list of str, ``"pixel_<row>_<column>"``
        - ``target_names`` : ndarray of shape (10,), int64
        - ``frame`` : None
        - ``DESCR`` : str, description, authors and licence
    (data, target) : tuple if ``return_X_y`` is True

    Raises
    ------
    FileNotFoundError
        The path, or one of the four IDX files, does not exist.
    ValueError
        A file is damaged, cut short, or holds something else; the message names it and says what was
        expected.
    ImportError
        ``source="keras"`` without Keras or without a backend for it.
    ConnectionError
        Keras or OpenML could not deliver the data.

    Notes
    -----
    Y. LeCun, C. Cortes and C. J. C. Burges publish MNIST under the Creative Commons Attribution-Share Alike
    3.0 licence; see ``gpukmeans/data/LICENSE.md``.

    Examples
    --------
    >>> from gpukmeans import load_mnist
    >>> mnist = load_mnist()
    >>> mnist.data.shape, mnist.data.dtype, mnist.n_train
    ((70000, 784), dtype('uint8'), 60000)
    >>> X, y = load_mnist(return_X_y=True)
    >>> y[:5]
    array([5, 0, 4, 1, 9])
    """
    word = source if isinstance(source, str) else None
    if word is None and not isinstance(source, os.PathLike):
        raise TypeError(f"source={source!r} should be 'bundled', 'keras', 'openml' or a path")
    arrays: Mapping[str, NDArray[np.uint8]]
    if word == "bundled":
        with as_file(files("gpukmeans") / "data" / "mnist.npz") as path:
            where = f"{path} (part of gpukmeans; reinstall it to repair the file)"
            try:
                arrays = read_npz(path)
            except FileNotFoundError:
                raise FileNotFoundError(f"{where}: no such file") from None
    elif word == "keras":
        where, arrays = "keras.datasets.mnist", from_keras()
    elif word == "openml":
        where, arrays = "OpenML's mnist_784", from_openml()
    else:
        path = Path(source).expanduser()
        if word is not None and not path.exists() and not any(mark in word for mark in (os.sep, "/", ".")):
            raise ValueError(
                f"source={source!r} should be 'bundled', 'keras', 'openml' or the path of a file or folder"
            )
        where, arrays = str(path), read_path(path)
    check_arrays(arrays, where, checksum=checksum)
    images = np.concatenate([arrays["x_train"], arrays["x_test"]])
    target = np.concatenate([arrays["y_train"], arrays["y_test"]]).astype(np.int64)
    descr = _MNIST_DESCR if checksum else f"Images in MNIST's layout from {where}; not compared with MNIST's checksums."
    return _bunch(images, target, len(arrays["x_train"]), descr, return_X_y)


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
    return _bunch(
        digits.images.astype(np.uint8),
        digits.target.astype(np.int64),
        len(digits.target),
        digits.DESCR,
        return_X_y,
    )


def _bunch(
    images: NDArray[np.uint8], target: NDArray[np.int64], n_train: int, descr: str, return_X_y: bool
) -> Bunch | Labelled:
    n_images, height, width = images.shape
    data = images.reshape(n_images, height * width)
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        images=images,
        n_train=n_train,
        feature_names=[f"pixel_{row}_{column}" for row in range(height) for column in range(width)],
        target_names=np.unique(target),
        frame=None,
        DESCR=descr,
    )


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
