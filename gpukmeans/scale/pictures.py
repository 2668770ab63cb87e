"""A folder of pictures: PNG and JPEG, each a row of its pixels, in the order of their names; decoded by Pillow."""

from __future__ import annotations

import math
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.scale.files import UINT8, clipped, path_error, shown, unreadable
from gpukmeans.scale.sources import BLOCK_BYTES, Block, Column, ReadingOptions, require, require_names

ENDINGS = (".png", ".jpg", ".jpeg")
MOST_FILES = 1_000_000
_GREY = {"1", "L", "LA", "I;16", "I;16B", "I;16L", "I"}


@dataclass(frozen=True)
class Pictures:
    """The pictures below a folder; a `Source`.

    Beside the pixels there are the columns "file", the path in the folder, and "folder", the name of the folder that a
    picture lies in.
    """

    path: Path
    where: str
    files: list[str]
    columns: list[Column]
    image_shape: tuple[int, ...]
    mode: str
    resized: bool
    mode_given: bool
    notes: list[str]

    @property
    def n_rows(self) -> int:
        return len(self.files)

    @property
    def n_expected(self) -> int:
        return len(self.files)

    def row_dtype(self, numbers: Sequence[str]) -> np.dtype:
        return UINT8

    def blocks(self, numbers: Sequence[str], others: Sequence[str]) -> Iterator[Block]:
        n_features = int(np.prod(self.image_shape))
        place = {column.name: index for index, column in enumerate(self.columns)}
        chosen = [place[name] for name in numbers]
        n_rows = max(1, BLOCK_BYTES // n_features)
        for start in range(0, len(self.files), n_rows):
            files = self.files[start : start + n_rows]
            pixels = np.empty((len(files), n_features), np.uint8)
            for row, file in zip(pixels, files, strict=True):
                row[:] = self._pixels(file)
            folders = [Path(self.path.absolute().name, file).parent.name for file in files]
            beside = {"file": _as_text(files), "folder": _as_text(folders)}
            yield Block(
                pixels if chosen == list(range(n_features)) else pixels[:, chosen],
                [beside[name] if name in beside else pixels[:, place[name]] for name in others],
            )

    def _pixels(self, file: str) -> NDArray[np.uint8]:
        picture = _decoded(self.path, file)
        grey = picture.mode in _GREY
        if not self.mode_given and grey != (self.mode == "L"):
            raise unreadable(
                shown(self.path / file),
                f"{'grey' if grey else 'in colour'}, while {self.files[0]} is not; give image_mode='L' (grey) or 'RGB'",
            )
        height, width = self.image_shape[:2]
        if picture.size != (width, height) and not self.resized:
            raise unreadable(
                shown(self.path / file),
                f"{picture.size[1]} x {picture.size[0]} pixels, while {self.files[0]} has {height} x {width}; give "
                f"image_size=({height}, {width}), or another size to which all are brought",
            )
        picture = _plain(picture).convert(self.mode)
        if picture.size != (width, height):
            from PIL import Image

            picture = picture.resize((width, height), Image.Resampling.BILINEAR)  # averages where it makes smaller
        return np.asarray(picture, np.uint8).reshape(-1)


def open_pictures(path: Path, options: ReadingOptions) -> Pictures:
    """The pictures below a folder, in all its folders.

    Raises
    ------
    OSError
        The folder cannot be read, or what is called a picture is no file.
    ValueError
        There are no pictures, or too many; a link leads out of the folder; a picture is damaged.
    """
    require("PIL.Image", "images", "pictures")
    where = shown(path)
    files, n_others = _files(path)
    if not files:
        raise unreadable(
            where, f"a folder without PNG or JPEG files ({n_others:,} others); the path of a file is needed"
        )
    first = _decoded(path, files[0])
    mode = options.image_mode or ("L" if first.mode in _GREY else "RGB")
    height, width = options.image_size or (first.size[1], first.size[0])
    shape: tuple[int, ...] = (height, width) if mode == "L" else (height, width, 3)
    require_names(where, math.prod(shape), options.max_bytes)
    columns = [Column("pixel_" + "_".join(map(str, place))) for place in np.ndindex(*shape)]
    several = len({os.path.dirname(file) for file in files}) > 1
    columns += [Column("file", "beside", "names", "id")]
    columns += [Column("folder", "beside", "names of folders", "classes" if several else None)]
    notes = [f"{len(files):,} pictures, {'grey' if mode == 'L' else 'in colour'}, {height} x {width} pixels"]
    if n_others:
        notes.append(f"other files left out: {n_others:,}")
    return Pictures(
        path, where, files, columns, shape, mode, options.image_size is not None, options.image_mode is not None, notes
    )


def _as_text(names: list[str]) -> NDArray[Any]:
    """Names of files, where bytes that are no UTF-8 are written as escapes."""
    return np.array([os.fsencode(name).decode("utf-8", "backslashreplace") for name in names], np.dtypes.StringDType())


def _files(folder: Path) -> tuple[list[str], int]:
    """The paths of the pictures in the folder, sorted, and how many other files there are."""
    root = os.path.realpath(folder)
    found, n_others, waiting = list[str](), 0, [""]
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(os.path.join(root, below)) as entries:
                for entry in entries:
                    name = os.path.join(below, entry.name)
                    if entry.name.startswith("."):
                        continue  # thumbnails and the like
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(name)
                    elif not entry.name.lower().endswith(ENDINGS):
                        n_others += 1
                    elif entry.is_symlink() and not os.path.realpath(entry.path).startswith(root + os.sep):
                        raise unreadable(
                            shown(folder / name), "a link that leads out of the folder; put a copy in its place"
                        )
                    else:
                        found.append(name)
                    if len(found) > MOST_FILES:
                        raise unreadable(shown(folder), f"more than {MOST_FILES:,} pictures; give a part of them")
        except OSError as error:
            raise path_error(folder / below, error) from None
    return sorted(found), n_others


def _opened(folder: Path, file: str) -> IO[bytes]:
    """A file that is one, whatever takes its place meanwhile: no device, no pipe."""
    path = os.path.realpath(folder / file)
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise path_error(folder / file, error) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{shown(folder / file)}: not a file, but a folder, a device, a pipe or a socket")
    return os.fdopen(descriptor, "rb")


def _decoded(folder: Path, file: str) -> Any:
    """A picture, upright; Pillow's limit of pixels is an error."""
    from PIL import Image, ImageOps

    where = shown(folder / file)
    with _opened(folder, file) as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            picture = Image.open(stream, formats=("PNG", "JPEG"))
            picture.load()
            return ImageOps.exif_transpose(picture)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            raise unreadable(where, f"more than {Image.MAX_IMAGE_PIXELS:,} pixels; make the picture smaller") from None
        except MemoryError:
            raise
        except Exception as error:  # Pillow's plugins raise a dozen kinds for damaged files
            raise unreadable(where, f"no readable PNG or JPEG ({clipped(str(error))})") from None


def _plain(picture: Any) -> Any:
    """Without transparency, on white, and in 8 bits."""
    from PIL import Image

    if picture.mode.startswith("I"):
        deep = np.asarray(picture, np.int64)
        return Image.fromarray((deep >> 8).clip(0, 255).astype(np.uint8))
    if picture.mode in ("LA", "RGBA", "PA") or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        white.alpha_composite(rgba)
        return white.convert("L" if picture.mode == "LA" else "RGB")
    return picture
