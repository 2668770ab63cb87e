"""The 70,000 MNIST images, from several sources."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from gpukmeans.datasets.labelled import Labelled, bunch
from gpukmeans.datasets.mnist_download import from_keras, from_openml
from gpukmeans.datasets.mnist_files import check_arrays, read_npz, read_path

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
    return bunch(images, target, len(arrays["x_train"]), descr, return_X_y)
