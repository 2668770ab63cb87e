"""Arrays that take minutes to compute, kept in the user's cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.writing import whole_file


def cache_folder() -> Path:
    """The folder of this package in the user's cache: below ``XDG_CACHE_HOME`` if that is set."""
    if "XDG_CACHE_HOME" in os.environ:
        return Path(os.environ["XDG_CACHE_HOME"]) / "gpukmeans"
    if sys.platform == "win32" and "LOCALAPPDATA" in os.environ:
        return Path(os.environ["LOCALAPPDATA"]) / "gpukmeans" / "cache"
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "gpukmeans"


def key_of(arrays: Iterable[NDArray[Any]], **parameters: Any) -> str:
    """A checksum of arrays' shapes, dtypes and bytes, and of parameters that JSON can hold."""
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode())
    for array in arrays:
        digest.update(f"{array.shape} {array.dtype.str}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def cached(name: str, shape: tuple[int, ...], make: Callable[[], NDArray[np.float64]]) -> NDArray[np.float64]:
    """The array kept under a name; made, and kept if the folder can be written to, where there is none.

    A file holds the bytes of the array and their SHA-256; one that is damaged counts as none.
    """
    path, n_bytes = cache_folder() / f"{name}.float64", 8 * math.prod(shape)
    with contextlib.suppress(OSError):
        with open(path, "rb") as file:
            content = file.read(n_bytes + 33)
        if hashlib.sha256(content[:n_bytes]).digest() == content[n_bytes:]:
            return np.frombuffer(content[:n_bytes], "<f8").astype(np.float64).reshape(shape)
    made = np.ascontiguousarray(make(), dtype="<f8")
    with contextlib.suppress(OSError):  # a full or read-only disk: the array is made again next time
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            file.write(made.data)
            file.write(hashlib.sha256(made.data).digest())
    return made.astype(np.float64, copy=False)
