"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

#: Bodies of `tidied` that are running.
n_untidy = 0


@contextmanager
def tidied() -> Iterator[None]:
    """A context that has files to mend or remove where Ctrl-C is raised in it, so that no process may end at once."""
    global n_untidy
    n_untidy += 1
    try:
        yield
    finally:
        n_untidy -= 1


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A new file that takes the place of `path` once it is complete.

    It is written beside `path` under a name of its own, synced and renamed, so that a reader, or a machine that loses
    power, sees the old file or the new one.  Where `path` is a link, the link is replaced and its target is left alone.

    Parameters
    ----------
    path : path

    Yields
    ------
    file : binary file, open for writing
        If the body raises, it is deleted, and what `path` was is untouched.

    Raises
    ------
    OSError
        The folder does not exist or cannot be written to, the disk is full, or `path` is a folder.
    """
    path = Path(path)
    if path.is_dir() and not path.is_symlink():
        raise IsADirectoryError(f"{path} is a folder; the path of a file is needed")
    partial = path.with_name(f"{_part_of(path)}{secrets.token_hex(8)}.part")
    with tidied():
        try:
            opened = open(partial, "xb")  # noqa: SIM115  ("x" neither follows a link nor opens what is there)
        except OSError as error:
            error.filename = os.fspath(path)  # the name that the caller knows
            raise
        with opened as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                file.close()
                os.replace(partial, path)
            except BaseException:  # Ctrl-C included
                with contextlib.suppress(OSError):  # of a full disk: what is left in the buffer
                    file.close()
                partial.unlink(missing_ok=True)
                raise
    with contextlib.suppress(OSError):  # Windows opens no folders
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_parts(path: Path) -> None:
    """Remove what writers of `path` that were killed have left beside it; no other process may be writing it."""
    with contextlib.suppress(OSError):
        for name in os.listdir(path.parent):
            if re.fullmatch(re.escape(_part_of(path)) + r"[0-9a-f]{16}\.part", name):
                path.with_name(name).unlink()


def _part_of(path: Path) -> str:
    return f".{path.name[:200]}."
