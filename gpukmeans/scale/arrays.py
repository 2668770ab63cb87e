"""Rows in npy, npz and IDX files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.scale.files import Part, shown, unreadable
from gpukmeans.scale.idx import open_idx
from gpukmeans.scale.npy import NUMBERS, open_npy, open_npz
from gpukmeans.scale.sources import BLOCK_BYTES, Block, Column, ReadingOptions, require_names, row_dtype_of

#: Arrays of an npz file that are taken for the rows, the first that is there, and for their classes and names.
ROWS = ("X", "x", "data", "images", "features", "embeddings", "x_train", "arr_0")
LABELS = ("y", "target", "labels", "label", "y_train")
IDS = ("ids", "id", "names")

Opened = Callable[[ExitStack], tuple[Part, dict[str, Part]]]


@dataclass(frozen=True)
class ArrayRows:
    """Rows in an array of two or more dimensions, and arrays of one beside it; a `Source`."""

    where: str
    columns: list[Column]
    n_rows: int
    dtype: np.dtype
    image_shape: tuple[int, ...] | None
    notes: list[str]
    n_features: int
    opened: Opened
    max_bytes: int

    @property
    def n_expected(self) -> int:
        return self.n_rows

    def row_dtype(self, numbers: Sequence[str]) -> np.dtype:
        return self.dtype

    def blocks(self, numbers: Sequence[str], others: Sequence[str]) -> Iterator[Block]:
        place = {column.name: index for index, column in enumerate(self.columns)}
        chosen = [place[name] for name in numbers]
        whole = chosen == list(range(self.n_features))
        with ExitStack() as files:
            part, beside = self.opened(files)
            whole_parts = [beside[name] for name in others if name in beside] + [part] * part.fortran_order
            if (needed := sum(each.n_bytes for each in whole_parts)) > self.max_bytes:
                why = ", being in Fortran order," * part.fortran_order
                raise unreadable(
                    self.where, f"arrays that{why} are read whole take {needed:,} bytes, more than "
                    f"max_bytes={self.max_bytes:,}"
                )  # fmt: skip
            arrays = {name: _whole(beside[name]) for name in others if name in beside}
            start = 0
            for rows in part.blocks(max(1, BLOCK_BYTES // max(1, self.n_features * part.dtype.itemsize))):
                flat = rows.reshape(len(rows), self.n_features)
                stop = start + len(flat)
                yield Block(
                    (flat if whole else flat[:, chosen]).astype(self.dtype, copy=False),
                    [arrays[name][start:stop] if name in arrays else flat[:, place[name]] for name in others],
                )
                start = stop


def open_array(path: Path, options: ReadingOptions) -> ArrayRows:
    """The rows of an npy file."""
    return _source(path, options, lambda files: (open_npy(path, files), {}))


def open_archive(path: Path, options: ReadingOptions) -> ArrayRows:
    """The rows of an npz file, and classes and names that lie beside them."""
    where = shown(path)
    if path.suffix.lower() in (".xlsx", ".ods", ".xlsm"):
        raise unreadable(where, "a spreadsheet, which is not read; save it as CSV")
    with ExitStack() as files:
        shapes = {name: part.shape for name, part in _members(path, files).items()}
    name = options.array
    if name is None:
        candidates = [name for name in shapes if len(shapes[name]) > 1]
        name = next((name for name in ROWS if name in candidates), candidates[0] if len(candidates) == 1 else None)
    listed = ", ".join(f"{name:.40} {shape}" for name, shape in list(shapes.items())[:9]) + ", ..." * (len(shapes) > 9)
    if name is None or name not in shapes:
        raise unreadable(
            where, f"holds {listed or 'nothing'}; name the array of the rows X, or give its name as columns='NAME'"
        )
    beside = [
        other for other, shape in shapes.items() if other != name and shape == shapes[name][:1]
    ]  # of other lengths: not about these rows
    notes = [f"rows: the array {name!r:.80}"] if len(shapes) > 1 else []

    def opened(files: ExitStack) -> tuple[Part, dict[str, Part]]:
        parts = _members(path, files)
        return parts[name], {other: parts[other] for other in beside}

    return _source(path, options, opened, notes)


def _members(path: Path, files: ExitStack) -> dict[str, Part]:
    return open_npz(path, None, files, NUMBERS, texts=True)


def open_idx_rows(path: Path, options: ReadingOptions) -> ArrayRows:
    """The rows of an IDX file, and their classes if they lie beside it under the name that MNIST's authors use."""
    name = path.name.replace("images", "labels").replace("idx3", "idx1")
    labels = path.with_name(name) if name != path.name and path.with_name(name).is_file() else None

    def opened(files: ExitStack) -> tuple[Part, dict[str, Part]]:
        return open_idx(path, None, files), {} if labels is None else {labels.name: open_idx(labels, None, files)}

    return _source(path, options, opened)


def _source(path: Path, options: ReadingOptions, opened: Opened, notes: Sequence[str] = ()) -> ArrayRows:
    where = shown(path)
    with ExitStack() as files:
        part, beside = opened(files)
    if len(part.shape) < 2:
        raise unreadable(
            where, f"an array of shape {part.shape}; rows need two dimensions: save X.reshape(-1, 1) or X.T"
        )
    if part.dtype.kind == "U":
        raise unreadable(where, f"an array of texts ({part.dtype}); rows are numbers")
    n_rows, n_features = part.shape[0], math.prod(part.shape[1:])
    if not n_rows or not n_features:
        raise unreadable(where, f"an array of shape {part.shape}, which has no values")
    require_names(where, n_features, options.max_bytes)
    if wrong := [name for name, other in beside.items() if other.shape != (n_rows,)]:
        raise unreadable(where, f"{n_rows:,} rows, but {wrong[0]} has the shape {beside[wrong[0]].shape}")
    shape = part.shape[1:] if len(part.shape) == 3 or (len(part.shape) == 4 and part.shape[3] == 3) else None
    if shape is None:
        names = [f"feature_{index}" for index in range(n_features)]
    else:
        names = ["pixel_" + "_".join(map(str, place)) for place in np.ndindex(*shape)]
    columns = [Column(name) for name in names]
    for name in beside:
        use = "label" if name in LABELS or "idx1" in name else "id" if name in IDS else None
        columns.append(Column(name, "beside", "an array beside the rows", use))  # type: ignore[arg-type]
    return ArrayRows(
        where, columns, n_rows, row_dtype_of(part.dtype), shape, list(notes), n_features, opened, options.max_bytes
    )


def _whole(part: Part) -> NDArray[Any]:
    values = np.empty(part.shape, part.dtype.newbyteorder("="))
    part.read(values)
    if values.dtype.kind != "U":
        return values
    try:
        return values.astype(np.dtypes.StringDType())
    except (TypeError, ValueError) as error:
        raise unreadable(part.where, f"texts that are none ({error})") from None
