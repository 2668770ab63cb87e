"""Standard output and standard error of a command: either may be closed, full, gone or limited to ASCII."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import TextIO


def require_stdout() -> TextIO:
    """Standard output, or an OSError if the process was started without (``>&-``)."""
    if sys.stdout is None:
        raise OSError(errno.EBADF, "standard output is closed")
    return sys.stdout


def emit(text: str) -> None:
    """Write text on standard output, now; characters that it cannot show are written as escapes.

    Raises
    ------
    OSError
        It could not be written; BrokenPipeError where the reader has gone, as in ``| head``.
    """
    stream = require_stdout()
    try:
        try:
            stream.write(text)
        except UnicodeEncodeError:
            stream.write(text.encode(stream.encoding, "backslashreplace").decode(stream.encoding))
        stream.flush()
    except OSError as error:
        discard(stream)
        raise OSError(error.errno, f"standard output: {error.strerror}") from None


def say(line: str) -> None:
    """Write a line on standard error, if there is any that takes it."""
    if sys.stderr is None:  # `print(file=None)` would write on standard output
        return
    try:
        print(" ".join(line.split()), file=sys.stderr, flush=True)
    except OSError:
        discard(sys.stderr)


def discard(stream: TextIO) -> None:
    """Lead a stream that has failed to the null device: what is left in its buffer would fail again at exit."""
    with contextlib.suppress(OSError, ValueError):  # a stream of the caller's that is no file
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
