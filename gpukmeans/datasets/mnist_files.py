"""Reading and checking MNIST's four arrays: NumPy's npz in Keras' layout, and the authors' IDX format."""

from __future__ import annotations

import hashlib
import math
import stat
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.scale.files import Part, free_memory, open_binary, path_error, shown, take, unreadable
from gpukmeans.scale.idx import open_idx
from gpukmeans.scale.npy import open_npz

LAYOUT: dict[str, tuple[tuple[int, ...], str]] = {
    "x_train": ((60000, 28, 28), "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757"),
    "y_train": ((60000,), "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13"),
    "x_test": ((10000, 28, 28), "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161"),
    "y_test": ((10000,), "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5"),
}
"""Name -> (shape, SHA-256 of the array's bytes in C order); every array is uint8."""

IDX_STEMS = {
    "x_train": ("train-images-idx3-ubyte", "train-images.idx3-ubyte"),
    "y_train": ("train-labels-idx1-ubyte", "train-labels.idx1-ubyte"),
    "x_test": ("t10k-images-idx3-ubyte", "t10k-images.idx3-ubyte"),
    "y_test": ("t10k-labels-idx1-ubyte", "t10k-labels.idx1-ubyte"),
}
"""Name -> the file names in use: the authors' own, and what common unpackers make of it; also with .gz."""

# What comes of the images beside them: digits as uint8, as int64 and sorted; a feature's name and its place in a list.
_BYTES_A_DIGIT, _BYTES_A_NAME = 33, 100


@dataclass(frozen=True)
class Images:
    """Labelled images, those for training first.

    Attributes
    ----------
    images : ndarray of shape (n_images, height, width), uint8, C-contiguous
    digits : ndarray of shape (n_images,), uint8
    n_train : int
    """

    images: NDArray[np.uint8]
    digits: NDArray[np.uint8]
    n_train: int

    def __getitem__(self, name: str) -> NDArray[np.uint8]:
        """One of the four arrays of `LAYOUT`, as a view."""
        whole = self.images if name.startswith("x") else self.digits
        return whole[: self.n_train] if name.endswith("train") else whole[self.n_train :]


def read_path(path: Path, *, checksum: bool, max_bytes: int | None = None) -> Images:
    """Read the four arrays from an npz file, a folder of IDX files, or the folder of the one IDX file named.

    Parameters
    ----------
    path : Path
    checksum : bool
        Whether shapes and bytes must be MNIST's own.
    max_bytes : int, optional
        The most memory to take; half of what is free by default.

    Returns
    -------
    Images

    Raises
    ------
    OSError
        Nothing is there, one of the four IDX files is missing, or a file cannot be read.
    ValueError
        A file is broken, holds other arrays, needs more memory, or is neither npz nor IDX.
    """
    with ExitStack() as files:
        parts = _open_parts(path, files)
        where = {name: shown(part.path) for name, part in parts.items()}
        check_shapes({name: part.shape for name, part in parts.items()}, where, checksum=checksum)
        images, digits = _allocate(parts, free_memory() // 2 if max_bytes is None else max_bytes)
        data = Images(images, digits, parts["x_train"].shape[0])
        for name, part in parts.items():
            part.read(data[name])
    if checksum:
        check_contents(data, where)
    return data


def joined(arrays: Mapping[str, NDArray[Any]], source: str, *, checksum: bool) -> Images:
    """Check four arrays that come from no file of the user's, and join them.

    Parameters
    ----------
    arrays : mapping
        ``x_train``, ``y_train``, ``x_test``, ``y_test``.
    source : str
        Begins every message.
    checksum : bool
        Whether shapes and bytes must be MNIST's own.

    Raises
    ------
    ValueError
        An array has another dtype, shape or content than expected.
    """
    where = dict.fromkeys(LAYOUT, source)
    for name in LAYOUT:
        if arrays[name].dtype != np.uint8:
            raise unreadable(source, f"{name} has dtype {arrays[name].dtype}, expected uint8")
    check_shapes({name: arrays[name].shape for name in LAYOUT}, where, checksum=checksum)
    data = Images(
        np.concatenate([arrays["x_train"], arrays["x_test"]]),
        np.concatenate([arrays["y_train"], arrays["y_test"]]),
        len(arrays["x_train"]),
    )
    if checksum:
        check_contents(data, where)
    return data


def _open_parts(path: Path, files: ExitStack) -> dict[str, Part]:
    where = shown(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{where}: no such file or folder; expected an npz file with the arrays {', '.join(LAYOUT)}, "
            "or a folder with the four IDX files"
        ) from None
    except OSError as error:
        raise path_error(path, error) from None
    except ValueError as error:  # a null character, or one that no file name can hold
        raise unreadable(ascii(where), f"no possible path ({error})") from None
    if stat.S_ISDIR(mode):
        return _open_idx_folder(path, files)
    if not stat.S_ISREG(mode):
        raise OSError(f"{where}: neither a file nor a folder, but a device, a pipe or a socket")
    with open_binary(path) as file:
        magic = take(file, 4, path, where)
    if magic[:2] == b"PK" or path.suffix.lower() == ".npz":
        return open_npz(path, LAYOUT, files)
    if any(path.name.removesuffix(".gz") in stems for stems in IDX_STEMS.values()):
        return _open_idx_folder(path.parent, files)
    raise unreadable(
        where,
        "neither an npz file nor one of MNIST's IDX files; expected a name that ends in .npz "
        f"or {IDX_STEMS['x_train'][0]} and the like (each may end in .gz)",
    )


def _open_idx_folder(folder: Path, files: ExitStack) -> dict[str, Part]:
    found = {}
    for name, stems in IDX_STEMS.items():
        candidates = [folder / (stem + suffix) for stem in stems for suffix in ("", ".gz")]
        found[name] = next((candidate for candidate in candidates if candidate.is_file()), None)
        if found[name] is None:
            raise FileNotFoundError(
                f"{shown(folder)}: no file {stems[0]} (plain or .gz); the four IDX files are needed"
            )
    return {name: open_idx(file, len(LAYOUT[name][0]), files) for name, file in found.items() if file}


def _allocate(parts: Mapping[str, Part], max_bytes: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Make room for all images and all digits, if all that comes of them takes no more than `max_bytes`."""
    n_images = parts["x_train"].shape[0] + parts["x_test"].shape[0]
    height, width = parts["x_train"].shape[1:]
    reordered = max((math.prod(part.shape) for part in parts.values() if part.fortran_order), default=0)
    needed = n_images * (height * width + _BYTES_A_DIGIT) + height * width * _BYTES_A_NAME + reordered
    allowed = f"more than max_bytes={max_bytes:,}"
    if needed <= max_bytes:
        try:
            return np.empty((n_images, height, width), np.uint8), np.empty(n_images, np.uint8)
        except (MemoryError, ValueError):  # the latter: more than any array can hold
            allowed = "which cannot be had"
    raise unreadable(
        shown(parts["x_train"].path), f"{n_images} images of {height} x {width} pixels take {needed:,} bytes, {allowed}"
    )


def check_shapes(shapes: Mapping[str, tuple[int, ...]], where: Mapping[str, str], *, checksum: bool) -> None:
    """Check that the shapes are MNIST's (``checksum``), or at least those of labelled images.

    Parameters
    ----------
    shapes, where : mapping
        Of ``x_train``, ``y_train``, ``x_test``, ``y_test``; `where` begins every message.
    checksum : bool

    Raises
    ------
    ValueError
    """
    for name, (shape, _) in LAYOUT.items():
        if checksum and shapes[name] != shape:
            raise unreadable(where[name], f"{name} has shape {shapes[name]}, expected {shape}")
        if len(shapes[name]) != len(shape):
            raise unreadable(where[name], f"{name} has shape {shapes[name]}, expected {len(shape)} dimensions")
        if 0 in shapes[name][1:]:
            raise unreadable(where[name], f"{name} has shape {shapes[name]}, images without pixels")
    for part in ("train", "test"):
        images, digits = f"x_{part}", f"y_{part}"
        if shapes[images][0] != shapes[digits][0]:
            raise unreadable(
                where[images],
                f"{shapes[images][0]} images in {images}, "
                f"but {shapes[digits][0]} labels in {digits}{_elsewhere(digits, images, where)}",
            )
    if shapes["x_train"][1:] != shapes["x_test"][1:]:
        raise unreadable(
            where["x_train"],
            f"images of {shapes['x_train'][1:]} pixels in x_train, "
            f"but of {shapes['x_test'][1:]} in x_test{_elsewhere('x_test', 'x_train', where)}",
        )


def _elsewhere(name: str, other: str, where: Mapping[str, str]) -> str:
    """The file of an array, if it is not that of the other one."""
    return "" if where[name] == where[other] else f" ({Path(where[name]).name})"


def check_contents(data: Images, where: Mapping[str, str]) -> None:
    """Check that the arrays hold MNIST's own bytes.

    Raises
    ------
    ValueError
    """
    for name, (_, sha256) in LAYOUT.items():
        if hashlib.sha256(data[name].data).hexdigest() != sha256:
            raise unreadable(
                where[name],
                f"{name} does not hold MNIST's bytes (their SHA-256 begins with {sha256[:8]}); "
                "the file is damaged, or holds other images (load those with checksum=False)",
            )
