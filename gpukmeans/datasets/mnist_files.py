"""Reading and checking MNIST's four arrays: NumPy's npz in Keras' layout, and the authors' IDX format."""

from __future__ import annotations

import gzip
import hashlib
import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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

_GZIP_MAGIC = b"\x1f\x8b"
_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError, NotImplementedError)


def read_path(path: Path) -> dict[str, NDArray[np.uint8]]:
    """Read the four arrays from an npz file, a folder of IDX files, or the folder of the one IDX file named.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict
        ``x_train``, ``y_train``, ``x_test``, ``y_test``, in whatever shapes and dtypes the files hold.

    Raises
    ------
    FileNotFoundError
        Nothing is there, or one of the four IDX files is missing.
    ValueError
        The file is broken, or neither npz nor IDX.
    """
    if path.is_dir():
        return _read_idx_folder(path)
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: no such file or folder; expected an npz file with the arrays {', '.join(LAYOUT)}, "
            "or a folder with the four IDX files"
        )
    with open(path, "rb") as file:
        magic = file.read(4)
    if magic[:2] == b"PK" or path.suffix.lower() == ".npz":
        return read_npz(path)
    if any(path.name.removesuffix(".gz") in stems for stems in IDX_STEMS.values()):
        return _read_idx_folder(path.parent)
    raise ValueError(
        f"{path}: neither an npz file nor one of MNIST's IDX files; expected a name that ends in .npz "
        f"or is one of {', '.join(stems[0] for stems in IDX_STEMS.values())} (each may end in .gz)"
    )


def read_npz(path: Path) -> dict[str, NDArray[np.uint8]]:
    """Read the four arrays from an npz file in the layout of ``keras.datasets.mnist``.

    Raises
    ------
    ValueError
        The file is no readable npz, or an array is missing or damaged; the message names file and array.
    """
    try:
        archive = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise
    except _UNREADABLE as error:
        raise ValueError(f"{path}: not a readable npz file ({error}); it may be cut short or no npz at all") from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise ValueError(f"{path}: a single array, not an npz file with the arrays {', '.join(LAYOUT)}")
    with archive:
        missing = [name for name in LAYOUT if name not in archive.files]
        if missing:
            raise ValueError(
                f"{path}: no array {', '.join(missing)}; it holds {', '.join(archive.files) or 'nothing'}, "
                f"expected {', '.join(LAYOUT)}"
            )
        arrays = {}
        for name in LAYOUT:
            try:
                arrays[name] = archive[name]
            except _UNREADABLE as error:
                raise ValueError(f"{path}: the array {name} cannot be read ({error}); the file is damaged") from error
    return arrays


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes, plain or gzip-compressed (recognised by its content, not by its name).

    The format, all numbers big-endian: two zero bytes, the element type (8: unsigned byte), the number of
    dimensions, each dimension in four bytes, then the elements in C order [1]_.

    Raises
    ------
    ValueError
        The file is no IDX file of unsigned bytes, is damaged, or is shorter or longer than its header says.

    References
    ----------
    .. [1] Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits", section "File
       formats".
    """
    raw = path.read_bytes()
    if raw[:2] == _GZIP_MAGIC:
        try:
            raw = gzip.decompress(raw)
        except _UNREADABLE as error:
            raise ValueError(f"{path}: not a readable gzip file ({error}); it may be cut short") from error
    if len(raw) < 4 or raw[:3] != b"\0\0\x08" or not raw[3]:
        raise ValueError(
            f"{path}: starts with the bytes {raw[:4].hex(' ') or '(none)'}; an IDX file of unsigned bytes "
            "starts with 00 00 08 and the number of dimensions"
        )
    start = 4 + 4 * raw[3]
    if len(raw) < start:
        raise ValueError(f"{path}: {len(raw)} bytes long, but its header alone takes {start}; the file is cut short")
    shape = tuple(int(size) for size in np.frombuffer(raw, dtype=">u4", count=raw[3], offset=4))
    n_expected, n_found = math.prod(shape), len(raw) - start
    if n_found != n_expected:
        raise ValueError(
            f"{path}: {n_found} data bytes after the header, expected {n_expected} for shape {shape}; "
            f"the file is {'cut short' if n_found < n_expected else 'too long'}"
        )
    return np.frombuffer(raw, dtype=np.uint8, offset=start).reshape(shape)


def _read_idx_folder(folder: Path) -> dict[str, NDArray[np.uint8]]:
    files = {}
    for name, stems in IDX_STEMS.items():
        candidates = [folder / (stem + suffix) for stem in stems for suffix in ("", ".gz")]
        found = next((candidate for candidate in candidates if candidate.is_file()), None)
        if found is None:
            raise FileNotFoundError(f"{folder}: no file {stems[0]} (plain or .gz); the four IDX files are needed")
        files[name] = found
    return {name: read_idx(file) for name, file in files.items()}


def check_arrays(arrays: Mapping[str, NDArray[np.uint8]], where: str, *, checksum: bool) -> None:
    """Check that the four arrays are MNIST's (``checksum``), or at least labelled uint8 images.

    Parameters
    ----------
    arrays : mapping
        ``x_train``, ``y_train``, ``x_test``, ``y_test``.
    where : str
        What the arrays came from; begins every message.
    checksum : bool
        Whether shapes and bytes must be MNIST's own.

    Raises
    ------
    ValueError
        An array has another dtype, shape or content than expected.
    """
    for name, (shape, sha256) in LAYOUT.items():
        array = arrays[name]
        if array.dtype != np.uint8:
            raise ValueError(f"{where}: {name} has dtype {array.dtype}, expected uint8")
        if checksum and array.shape != shape:
            raise ValueError(f"{where}: {name} has shape {array.shape}, expected {shape}")
        if array.ndim != len(shape):
            raise ValueError(f"{where}: {name} has shape {array.shape}, expected {len(shape)} dimensions")
        if checksum and (found := hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()) != sha256:
            raise ValueError(
                f"{where}: {name} does not hold MNIST's bytes: SHA-256 {found}, expected {sha256}; "
                "the file is damaged, or holds other images (load those with checksum=False)"
            )
    for part in ("train", "test"):
        images, digits = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if len(images) != len(digits):
            raise ValueError(f"{where}: {len(images)} images in x_{part}, but {len(digits)} labels in y_{part}")
    if arrays["x_train"].shape[1:] != arrays["x_test"].shape[1:]:
        raise ValueError(
            f"{where}: images of {arrays['x_train'].shape[1:]} pixels in x_train, "
            f"but of {arrays['x_test'].shape[1:]} in x_test"
        )
