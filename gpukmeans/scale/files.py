"""What readers of arrays in files share: short errors that name the file, memory within a limit, parts still unread."""

from __future__ import annotations

import gzip
import math
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

MOST_CHARACTERS = 300
"""Of a message, whatever a path or a file holds."""
MOST_EXPANSION = 1032
"""Bytes that one byte of deflate can stand for: 258 for every two bits."""
CHUNK = 1 << 16
"""Bytes read at a time."""

_PATH_CHARACTERS = 120
_UNTOLD = 1 << 32  # bytes taken as free where the system does not tell


def shown(path: os.PathLike[str] | str) -> str:
    """A path for a message: its end, if it is long."""
    text = os.fspath(path)
    return text if len(text) <= _PATH_CHARACTERS else "..." + text[3 - _PATH_CHARACTERS :]


def clipped(message: str) -> str:
    """A message of at most `MOST_CHARACTERS`."""
    return message if len(message) <= MOST_CHARACTERS else message[: MOST_CHARACTERS - 3] + "..."


def unreadable(where: str, why: str) -> ValueError:
    """The error of a file that holds something else than it should."""
    return ValueError(clipped(printable(f"{where}: {why}")))


def printable(text: str) -> str:
    """A text from a file without what would act on a terminal: control characters as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def path_error(path: Path, error: OSError) -> OSError:
    """The same error of the system, with the path shown in short."""
    return OSError(error.errno, error.strerror or clipped(str(error)), shown(path))


def read_error(path: Path, error: OSError) -> OSError | ValueError:
    """The same of pyarrow, whose errors for damaged files are an OSError without a number."""
    if error.errno is None:
        return unreadable(shown(path), f"damaged or cut short: {clipped(str(error))}")
    return path_error(path, error)


def open_binary(path: Path) -> IO[bytes]:
    """Open a file for reading; an OSError names it in short."""
    try:
        return open(path, "rb")
    except OSError as error:
        raise path_error(path, error) from None


def require_regular(path: Path) -> None:
    """Raise an OSError unless the path is that of a file: reading a device or a pipe might never end."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise path_error(path, error) from None
    except ValueError as error:  # a null character, or one that no file name can hold
        raise unreadable(ascii(shown(path)), f"no possible path ({error})") from None
    if not stat.S_ISREG(mode):
        raise OSError(f"{shown(path)}: not a file, but a folder, a device, a pipe or a socket")


def take(stream: IO[bytes], n_bytes: int, path: Path, where: str) -> bytes:
    """Read up to `n_bytes` of a file or of a compressed stream in it.

    Raises
    ------
    ValueError
        The stream is damaged or cut short.
    OSError
        The file cannot be read.
    """
    try:
        return stream.read(n_bytes)
    except (zlib.error, zipfile.BadZipFile, gzip.BadGzipFile, EOFError) as error:
        raise unreadable(where, f"damaged or cut short ({error})") from None
    except OSError as error:
        raise path_error(path, error) from None


UINT8 = np.dtype(np.uint8)


@dataclass(frozen=True)
class Part:
    """One array in a file: its header is read and checked, its elements come next in the stream.

    Attributes
    ----------
    path : Path
    where : str
        The file, and which array in it; begins every message.
    stream : binary file
    shape : tuple of int
    fortran_order : bool
        Whether the first index varies fastest in the file.
    dtype : dtype
        As stored, in either byte order.
    """

    path: Path
    where: str
    stream: IO[bytes]
    shape: tuple[int, ...]
    fortran_order: bool = False
    dtype: np.dtype = UINT8

    @property
    def n_bytes(self) -> int:
        """Of all elements."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self, out: NDArray[Any]) -> None:
        """Read the elements into a C-contiguous array of this shape, and find the end of the stream behind them.

        Parameters
        ----------
        out : ndarray
            Of `dtype` in the machine's byte order.

        Raises
        ------
        ValueError
            The stream is damaged, shorter or longer.
        OSError
            The file cannot be read.
        """
        flat = np.empty(out.size, out.dtype) if self.fortran_order else out.reshape(-1)
        self._fill(flat, 0)
        self._find_end()
        if self.fortran_order:
            out[:] = flat.reshape(self.shape[::-1]).T

    def blocks(self, n_rows: int) -> Iterator[NDArray[Any]]:
        """The elements in blocks of `n_rows` along the first axis; errors as of `read`.

        An array in Fortran order has to be read whole first.
        """
        native = self.dtype.newbyteorder("=")
        if self.fortran_order:
            whole = np.empty(self.shape, native)
            self.read(whole)
            yield from (whole[start : start + n_rows] for start in range(0, len(whole), n_rows))
            return
        for start in range(0, self.shape[0], n_rows):
            block = np.empty((min(n_rows, self.shape[0] - start), *self.shape[1:]), native)
            self._fill(block.reshape(-1), start * (self.n_bytes // self.shape[0]))
            yield block
        self._find_end()

    def _fill(self, flat: NDArray[Any], n_before: int) -> None:
        """Read elements, of which `n_before` bytes have been read before."""
        data, n_read = flat.view(np.uint8), 0
        while n_read < data.size:
            chunk = take(self.stream, min(CHUNK, data.size - n_read), self.path, self.where)
            if not chunk:
                raise unreadable(
                    self.where,
                    f"{n_before + n_read} data bytes after the header, expected {self.n_bytes} for shape "
                    f"{self.shape}; the file is cut short",
                )
            data[n_read : n_read + len(chunk)] = np.frombuffer(chunk, np.uint8)
            n_read += len(chunk)
        if not self.dtype.isnative:
            flat.byteswap(inplace=True)

    def _find_end(self) -> None:
        """Reading to the end checks the checksum, too."""
        if take(self.stream, 1, self.path, self.where):
            raise unreadable(
                self.where,
                f"more than {self.n_bytes} data bytes after the header, expected {self.n_bytes} for shape "
                f"{self.shape}; the file is too long",
            )


def free_memory() -> int:
    """Bytes of memory that the system, or the container that the process is in, has left."""
    left = [_UNTOLD]
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                left = [1024 * int(line.split()[1])]
    except OSError:
        names = getattr(os, "sysconf_names", {})
        pages = next((name for name in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES") if name in names), None)
        if pages:
            left = [os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")]
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            left.append(int(Path("/sys/fs/cgroup", limit).read_text()) - int(Path("/sys/fs/cgroup", used).read_text()))
        except (OSError, ValueError):  # there is no such limit
            continue
    return max(min(left), 0)
