"""The IDX format of MNIST's authors, as far as unsigned bytes need it."""

from __future__ import annotations

import gzip
import math
import struct
from contextlib import ExitStack
from pathlib import Path
from typing import IO, cast

from gpukmeans.datasets.files import MOST_EXPANSION, Part, open_binary, shown, take, unreadable

_GZIP_MAGIC = b"\x1f\x8b"


def open_idx(path: Path, n_dimensions: int, files: ExitStack) -> Part:
    """Open an IDX file of unsigned bytes, plain or gzip-compressed (recognised by its content, not by its name).

    The format, all numbers big-endian: two zero bytes, the element type (8: unsigned byte), the number of
    dimensions, each dimension in four bytes, then the elements in C order [1]_.

    Parameters
    ----------
    path : Path
    n_dimensions : int
        How many dimensions the array should have.
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
        The file is no IDX file of unsigned bytes, is damaged, or is shorter or longer than its header says.

    References
    ----------
    .. [1] Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits", section "File
       formats".
    """
    where = shown(path)
    stream: IO[bytes] = files.enter_context(open_binary(path))
    length = path.stat().st_size
    compressed = take(stream, 2, path, where) == _GZIP_MAGIC
    stream.seek(0)
    if compressed:
        stream = cast(IO[bytes], files.enter_context(gzip.GzipFile(fileobj=stream)))
    start = take(stream, 4, path, where)
    if start[:3] != b"\0\0\x08" or len(start) < 4:
        raise unreadable(
            where,
            f"starts with the bytes {start.hex(' ') or '(none)'}; an IDX file of unsigned bytes "
            "starts with 00 00 08 and the number of dimensions",
        )
    if start[3] != n_dimensions:
        raise unreadable(where, f"{start[3]} dimensions, expected {n_dimensions}")
    sizes = take(stream, 4 * n_dimensions, path, where)
    n_header = 4 + 4 * n_dimensions
    if len(sizes) < n_header - 4:
        raise unreadable(
            where, f"{4 + len(sizes)} bytes long, but its header alone takes {n_header}; the file is cut short"
        )
    shape = struct.unpack(f">{n_dimensions}I", sizes)
    n_expected, n_found = math.prod(shape), length - n_header
    if compressed and n_expected > MOST_EXPANSION * length:
        raise unreadable(where, f"{n_expected} bytes for shape {shape} from {length} compressed ones, which cannot be")
    if not compressed and n_found != n_expected:
        raise unreadable(
            where,
            f"{n_found} data bytes after the header, expected {n_expected} for shape {shape}; "
            f"the file is {'cut short' if n_found < n_expected else 'too long'}",
        )
    return Part(path, where, stream, shape)
