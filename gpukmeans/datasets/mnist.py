"""The 70,000 MNIST images, from several sources."""

from __future__ import annotations

import os
from importlib.resources import as_file, files
from numbers import Integral
from pathlib import Path
from typing import Literal, overload

import numpy as np
from sklearn.utils import Bunch

from gpukmeans.datasets.labelled import Labelled, bunch
from gpukmeans.datasets.mnist_download import from_keras, from_openml
from gpukmeans.datasets.mnist_files import joined, read_path
from gpukmeans.scale.files import shown

_MNIST_DESCR = """\
MNIST: 70,000 handwritten digits, 28 x 28 pixels, grey values 0 (paper) to 255 (ink); the 60,000 training
images come first, then the 10,000 test images, each in the authors' order. By Yann LeCun, Corinna Cortes and
Christopher J. C. Burges, from NIST's special databases 1 and 3.
Licence: Creative Commons Attribution-Share Alike 3.0, https://creativecommons.org/licenses/by-sa/3.0/.
Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document recognition",
Proceedings of the IEEE 86(11):2278-2324, 1998."""


@overload
def load_mnist(
    source: str | os.PathLike[str] = ...,
    *,
    return_X_y: Literal[True],
    checksum: bool = ...,
    max_bytes: int | None = ...,
) -> Labelled: ...


@overload
def load_mnist(
    source: str | os.PathLike[str] = ...,
    *,
    return_X_y: Literal[False] = ...,
    checksum: bool = ...,
    max_bytes: int | None = ...,
) -> Bunch: ...


def load_mnist(
    source: str | os.PathLike[str] = "bundled",
    *,
    return_X_y: bool = False,
    checksum: bool = True,
    max_bytes: int | None = None,
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
    max_bytes : int, optional
        The most memory to take for what comes from a file, besides buffers of a few MB; half of what is free by
        default. Headers are checked against the file's length and this limit before memory is taken.

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
    OSError
        The path, or one of the four IDX files, does not exist or cannot be read.
    ValueError
        A file is damaged, cut short, needs more than `max_bytes`, or holds something else; the message names it and
        says what was expected.
    TypeError
        `source` is no text and no path.
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
    allowed = "should be 'bundled', 'keras', 'openml' or the path of a file or folder"
    if word is None and not isinstance(source, os.PathLike):
        raise TypeError(f"source={source!r:.120} {allowed}")
    if max_bytes is not None and not (isinstance(max_bytes, Integral) and max_bytes > 0):
        raise ValueError(f"max_bytes={max_bytes!r:.120} should be a whole number, at least 1, or None")
    where = {"keras": "keras.datasets.mnist", "openml": "OpenML's mnist_784"}.get(word or "", "")
    if word == "keras":
        data = joined(from_keras(), where, checksum=checksum)
    elif word == "openml":
        data = joined(from_openml(), where, checksum=checksum)
    elif word == "bundled":
        with as_file(files("gpukmeans") / "data" / "mnist.npz") as path:
            where, data = shown(path), read_path(path, checksum=checksum, max_bytes=max_bytes)
    else:
        path = Path(os.path.expanduser(source))
        is_path = word is None or any(mark in word for mark in (os.sep, "/", ".")) or os.path.exists(word)
        if not is_path:
            raise ValueError(f"source={word!r:.120} {allowed}")
        where, data = shown(path), read_path(path, checksum=checksum, max_bytes=max_bytes)
    descr = _MNIST_DESCR if checksum else f"Images in MNIST's layout from {where}; not compared with MNIST's checksums."
    return bunch(data.images, data.digits.astype(np.int64), data.n_train, descr, return_X_y)
