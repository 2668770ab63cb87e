"""MNIST's four arrays from elsewhere: Keras' server and OpenML."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_KERAS_BACKENDS = ("jax", "tensorflow", "torch", "openvino")  # Keras' NumPy backend needs jax, so is no lighter


def from_keras() -> dict[str, NDArray[np.uint8]]:
    """Fetch the four arrays through ``keras.datasets.mnist``.

    Raises
    ------
    ImportError
        Keras, or a backend for it, is not installed.
    ConnectionError
        Keras could not deliver the data.
    """
    with contextlib.redirect_stdout(sys.stderr):  # Keras reports its download on stdout, which belongs to results
        with keras_backend_chosen():
            try:
                mnist = importlib.import_module("keras.datasets.mnist")
            except ImportError as error:
                raise ImportError(
                    f"source='keras' needs Keras 3 and a working backend for it ({error}): "
                    'pip install "gpukmeans[mnist]", or choose another backend in KERAS_BACKEND'
                ) from error
        try:
            (x_train, y_train), (x_test, y_test) = mnist.load_data()
        except Exception as error:  # Keras raises a bare Exception when it cannot reach its server
            raise ConnectionError(
                f"keras.datasets.mnist could not deliver MNIST ({error!s:.200}); source='bundled' needs no network"
            ) from error
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


@contextlib.contextmanager
def keras_backend_chosen() -> Iterator[None]:
    """Name an installed backend while Keras is imported: its default, TensorFlow, is often absent."""
    if "keras" in sys.modules or "KERAS_BACKEND" in os.environ:
        yield
        return
    if importlib.util.find_spec("keras") is None:
        raise ImportError("source='keras' needs Keras 3, which is not installed: pip install \"gpukmeans[mnist]\"")
    backends = [backend for backend in _KERAS_BACKENDS if importlib.util.find_spec(backend) is not None]
    if not backends:
        raise ImportError(
            f"source='keras' needs a backend for Keras, one of {', '.join(_KERAS_BACKENDS)}; "
            'none is installed: pip install "gpukmeans[mnist]"'
        )
    config = Path(os.environ.get("KERAS_HOME", os.path.expanduser("~/.keras"))) / "keras.json"
    try:
        configured = json.loads(config.read_text())["backend"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        configured = None
    os.environ["KERAS_BACKEND"] = configured if configured in backends else backends[0]
    try:
        yield
    finally:
        del os.environ["KERAS_BACKEND"]


def from_openml() -> dict[str, NDArray[np.uint8]]:
    """Fetch the four arrays through :func:`sklearn.datasets.fetch_openml`, which keeps MNIST's order.

    Raises
    ------
    ConnectionError
        OpenML could not be reached.
    ValueError
        The table is no table of 70,000 images of whole grey values, each with a digit.
    """
    from sklearn.datasets import fetch_openml

    parser = "pandas" if importlib.util.find_spec("pandas") else "liac-arff"
    try:
        fetched: Any = fetch_openml("mnist_784", version=1, as_frame=False, parser=parser)
    except OSError as error:  # urllib's URLError among them
        raise ConnectionError(
            f"OpenML could not deliver mnist_784 ({error!s:.200}); source='bundled' needs no network"
        ) from error
    values = np.asarray(fetched.data)
    digits = np.asarray(fetched.target).astype(str)  # as which OpenML stores them
    is_table = values.shape == (70000, 784) and values.dtype.kind in "uif" and values.min() >= 0 and values.max() <= 255
    pixels = values.astype(np.uint8) if is_table else values
    if not is_table or not np.array_equal(pixels, values):
        raise ValueError(
            f"OpenML's mnist_784: data of shape {values.shape}, expected (70000, 784) whole numbers 0 to 255"
        )
    if digits.shape != (70000,) or not np.isin(digits, list("0123456789")).all():
        raise ValueError(f"OpenML's mnist_784: target of shape {digits.shape}, expected (70000,) digits 0 to 9")
    images, target = pixels.reshape(-1, 28, 28), digits.astype(np.uint8)
    return {
        "x_train": images[:60000],
        "y_train": target[:60000],
        "x_test": images[60000:],
        "y_test": target[60000:],
    }
