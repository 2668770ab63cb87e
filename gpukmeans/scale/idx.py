"""The IDX format of MNIST's authors."""

from __future__ import annotations

import gzip
import math
import struct
from contextlib import ExitStack
from pathlib import Path
from typing import IO, cast

import numpy as np

from gpukmeans.scale.files import MOST_EXPANSION, Part, open_binary, shown, take, unreadable

GZIP_MAGIC = b"\x1f\x8b"
#: What the third byte says of the elements.
TYPES = {8: "u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def open_idx(path: Path, n_dimensions: int | None, files: ExitStack) -> Part:
    """Open an IDX file, plain or gzip-compressed (recognised by its content, not by its name).

    The format, all numbers big-endian: two zero bytes, the element type (8: unsigned byte, ...), the number of
    dimensions, each dimension in four bytes, then the elements in C order [1]_.

    Parameters
    ----------
    path : Path
    n_dimensions : int or None
        How many dimensions the array should have, of unsigned bytes; None: any, of any type.
    files : ExitStack
        Closes the file.

    Returns
    -------
    Part
        Its elements are unread; a compressed file has at most 1,032 of them for each of its bytes.

    Raises
    ------
    OSError
        The file cannot be opened or read.
    ValueError
        The file is no such IDX file, is damaged, or is shorter or longer than its header says.

    References
    ----------
    .. [1] Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits", section "File
       formats".
    """
    where = shown(path)
    stream: IO[bytes] = files.enter_context(open_binary(path))
    length = path.stat().st_size
    compressed = take(stream, 2, path, where) == GZIP_MAGIC
    stream.seek(0)
    if compressed:
        stream = cast(IO[bytes], files.enter_context(gzip.GzipFile(fileobj=stream)))
    start = take(stream, 4, path, where)
    bytes_only = n_dimensions is not None
    known = len(start) == 4 and start[:2] == b"\0\0" and start[2] in ([8] if bytes_only else TYPES)
    if not known or not start[3]:
        raise unreadable(
            where,
            f"starts with the bytes {start.hex(' ') or '(none)'}; an IDX file{' of unsigned bytes' * bytes_only} "
            f"starts with 00 00 {'08' if bytes_only else 'the type of its elements'} and the number of dimensions",
        )
    if n_dimensions is None:
        n_dimensions = start[3]
    if start[3] != n_dimensions:
        raise unreadable(where, f"{start[3]} dimensions, expected {n_dimensions}")
    sizes = take(stream, 4 * n_dimensions, path, where)
    n_header = 4 + 4 * n_dimensions
    if len(sizes) < n_header - 4:
        raise unreadable(
            where, f"{4 + len(sizes)} bytes long, but its header alone takes {n_header}; the file is cut short"
        )
    shape = struct.unpack(f">{n_dimensions}I", sizes)
    dtype = np.dtype(TYPES[start[2]])
    n_expected, n_found = math.prod(shape) * dtype.itemsize, length - n_header
    if compressed and n_expected > MOST_EXPANSION * length:
        raise unreadable(where, f"{n_expected} bytes for shape {shape} from {length} compressed ones, which cannot be")
    if not compressed and n_found != n_expected:
        raise unreadable(
            where,
            f"{n_found} data bytes after the header, expected {n_expected} for shape {shape}; "
            f"the file is {'cut short' if n_found < n_expected else 'too long'}",
        )
    return Part(path, where, stream, shape, dtype=dtype)
