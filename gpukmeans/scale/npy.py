"""NumPy's npy and npz formats as far as numbers and texts need them: npz is a zip of npy members, stored or deflated.

``numpy.load`` is not used: it allocates what a header claims before it looks at the data, and raises a dozen kinds of
exceptions, which its documentation does not list, for damaged files.
"""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import numpy as np

from gpukmeans.scale.files import MOST_EXPANSION, Part, open_binary, path_error, shown, take, unreadable

_MOST_AT_ONCE = 1 << 17  # bytes that zipfile may read at once: an archive's table of contents, its comment
_MOST_HEADER = 10_000  # bytes, NumPy's own limit
_ENCRYPTED_OR_PATCHED = 0x1 | 0x20 | 0x40  # bits of a member's flags
_NPY = b"\x93NUMPY"
_NUMBER = re.compile("[<>|=]?(b1|[iu][1248]|f[248])")
_TEXT = re.compile(r"[<>=]?U[1-9]\d{0,3}")
UINT8 = (np.dtype(np.uint8),)
NUMBERS = tuple(np.dtype(order + kind) for kind in "?bBhHiIqQefd" for order in "<>")
_NOT_A_ZIP = (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError)  # the last two: a later version, a name

# White space is removed before; Python 2 wrote whole numbers as 28L.
_ITEM = rb"'(descr|fortran_order|shape)':('[^'\\]*'|\[[^{}]*\]|True|False|\((?:\d{1,19}L?,)+(?:\d{1,19}L?)?\))"
_HEADER = re.compile(rb"\{%s,%s,%s,?\}" % (_ITEM, _ITEM, _ITEM))


class _LimitedReader(io.BufferedReader):
    """Refuses to read much at once, which zipfile does where a damaged archive claims a long table of contents."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self.path = path
        self.length = self.seek(0, io.SEEK_END)
        self.seek(0)

    def read(self, size: int | None = -1) -> bytes:
        left = max(self.length - self.tell(), 0)
        if min(left if size is None or size < 0 else size, left) > _MOST_AT_ONCE:
            raise unreadable(shown(self.path), f"its table of contents is longer than {_MOST_AT_ONCE:,} bytes")
        return super().read(size)


def open_npy(path: Path, files: ExitStack) -> Part:
    """Open an npy file of numbers; parameters, result and errors are those of `open_npz`."""
    where = shown(path)
    stream = files.enter_context(open_binary(path))
    return _part(stream, path, where, path.stat().st_size, NUMBERS, False)


def open_npz(
    path: Path,
    names: Collection[str] | None,
    files: ExitStack,
    dtypes: Sequence[np.dtype] = UINT8,
    *,
    texts: bool = False,
) -> dict[str, Part]:
    """Open arrays in an npz file.

    Parameters
    ----------
    path : Path
    names : collection of str or None
        The arrays; None: all.
    files : ExitStack
        Closes the file.
    dtypes : sequence of dtype, default=(uint8,)
        Those allowed, of numbers or bool.
    texts : bool, default=False
        Whether texts are allowed, too.

    Returns
    -------
    dict
        Name -> :class:`Part`, its elements unread; each takes at most 1,032 times the bytes that it has in the file.

    Raises
    ------
    OSError
        The file cannot be opened or read.
    ValueError
        The file is no readable npz, or an array is missing, damaged or of another type.
    """
    where = shown(path)
    try:
        file = files.enter_context(_LimitedReader(path))
        if file.read(6) == _NPY:
            wanted = f" with the arrays {', '.join(names)}" if names is not None else ""
            raise unreadable(where, f"a single array, not an npz file{wanted}")
        archive = files.enter_context(zipfile.ZipFile(file))
    except _NOT_A_ZIP as error:
        raise unreadable(where, f"not a readable npz file ({error}); it may be cut short or no npz at all") from None
    except OSError as error:
        raise path_error(path, error) from None
    held = [member.filename.removesuffix(".npy") for member in archive.infolist()]
    names = list(dict.fromkeys(held)) if names is None else names
    if missing := [name for name in names if name not in held]:
        listed = ", ".join(held[:9]) + ", ..." * (len(held) > 9) or "nothing"
        raise unreadable(where, f"no array {', '.join(missing)}; it holds {listed}, expected {', '.join(names)}")
    if twice := [name for name in names if held.count(name) > 1]:
        raise unreadable(where, f"more than one array {', '.join(twice)}")
    members = {name: archive.infolist()[held.index(name)] for name in names}
    return {
        name: _open_member(archive, member, path, f"{where}: {name}", files, dtypes, texts)
        for name, member in members.items()
    }


def _open_member(
    archive: zipfile.ZipFile,
    member: zipfile.ZipInfo,
    path: Path,
    where: str,
    files: ExitStack,
    dtypes: Sequence[np.dtype],
    texts: bool,
) -> Part:
    """Open a member; all that the archive says of it is checked before the first byte is decompressed."""
    length = path.stat().st_size
    if member.flag_bits & _ENCRYPTED_OR_PATCHED:
        raise unreadable(where, "encrypted or patched, which no npz file is; the file is damaged")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise unreadable(
            where, f"compressed by method {member.compress_type}, expected 0 or 8 (numpy.savez, savez_compressed)"
        )
    expansion = MOST_EXPANSION if member.compress_type == zipfile.ZIP_DEFLATED else 1
    if member.file_size > expansion * member.compress_size:
        raise unreadable(
            where, f"{member.file_size} bytes from {member.compress_size} compressed ones, which cannot be; damaged"
        )
    if not 0 <= member.header_offset <= length - member.compress_size:
        raise unreadable(
            where,
            f"{member.compress_size} bytes at {member.header_offset} of a file of {length}; the file is cut short",
        )
    try:
        stream = files.enter_context(archive.open(member))
    except _NOT_A_ZIP as error:
        raise unreadable(where, f"damaged or cut short ({error})") from None
    except OSError as error:
        raise path_error(path, error) from None
    return _part(stream, path, where, member.file_size, dtypes, texts)


def _part(stream: IO[bytes], path: Path, where: str, length: int, dtypes: Sequence[np.dtype], texts: bool) -> Part:
    """The array whose header and data, `length` bytes, come next in the stream."""
    shape, fortran_order, dtype, n_header = _read_header(stream, path, where, dtypes, texts)
    n_found, n_expected = length - n_header, math.prod(shape) * dtype.itemsize
    if n_found != n_expected:
        raise unreadable(where, f"{n_found} data bytes after the header, expected {n_expected} for shape {shape}")
    return Part(path, where, stream, shape, fortran_order, dtype)


def _read_header(
    stream: IO[bytes], path: Path, where: str, dtypes: Sequence[np.dtype], texts: bool
) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Read the header of an npy file: shape, whether in Fortran order, dtype, and bytes until the data."""
    start = take(stream, 8, path, where)
    if start[:6] != _NPY or start[6:] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise unreadable(
            where, f"starts with {start!r}, expected the start of an npy file of version 1, 2 or 3: {_NPY!r}"
        )
    size = take(stream, 2 if start[6] == 1 else 4, path, where)
    n_text = int.from_bytes(size, "little")
    if n_text > _MOST_HEADER:
        raise unreadable(where, f"a header of {n_text} bytes, expected at most {_MOST_HEADER}")
    text = take(stream, n_text, path, where)
    found = _HEADER.fullmatch(b"".join(text.split())) if len(text) == n_text else None
    fields = dict(zip(found.groups()[::2], found.groups()[1::2], strict=True)) if found else {}
    kind, order, shape = (fields.get(name, b"") for name in (b"descr", b"fortran_order", b"shape"))
    descr = kind.decode("latin1")
    dtype = np.dtype(descr[1:-1]) if _NUMBER.fullmatch(descr[1:-1]) else None
    if texts and _TEXT.fullmatch(descr[1:-1]):
        dtype = np.dtype(descr[1:-1])
    elif descr[:1] in ("'", "[") and (dtype is None or dtype not in dtypes):  # None equals float64
        expected = "numbers" + " or texts" * texts if dtypes is NUMBERS else ", ".join(each.name for each in dtypes)
        why = "; objects come in pickles, which can run code and are never read" if descr[-2:-1] == "O" else ""
        raise unreadable(where, f"dtype {descr:.120}, expected {expected}{why}")
    if dtype is None or order not in (b"True", b"False") or not shape:
        raise unreadable(
            where,
            f"its header is {text!r:.100}, expected a dtype, an order and a shape of whole numbers: "
            "{'descr': '|u1', 'fortran_order': False, 'shape': (60000,), }",
        )
    sizes = tuple(int(size.rstrip(b"L")) for size in shape[1:-1].split(b",") if size)
    return sizes, order == b"True", dtype, len(start) + len(size) + n_text
