"""`open_rows`: rows that are read block by block, for fits of more rows than the memory holds."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpukmeans.arrays.sparse import canonical, is_sparse
from gpukmeans.intake.streams import OpenRows
from gpukmeans.scale.files import shown, unreadable
from gpukmeans.scale.npy import open_npy
from gpukmeans.scale.readers import (
    CalledRows,
    IteratedRows,
    Reader,
    SlicedRows,
    TableRows,
    Unchanged,
    open_npy_rows,
)
from gpukmeans.scale.reading import as_place, column_of
from gpukmeans.scale.sources import ReadingOptions, is_archive, open_source
from gpukmeans.scale.stores import open_hdf5, open_zarr

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
_ROW_DTYPES = ("uint8", "float32", "float64")
#: What a reader of tables may take of its own, beside blocks.
_TABLE_BYTES = 1 << 28


def n_bytes(limit: int | str | None, name: str = "memory_limit") -> int | None:
    """A number of bytes from a number, or from a text such as "4GB" or "512 MiB".

    Examples
    --------
    >>> from gpukmeans.intake.opened import n_bytes
    >>> n_bytes("4GB"), n_bytes("1 MiB"), n_bytes(100)
    (4000000000, 1048576, 100)
    """
    if limit is None:
        return None
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?\s*", str(limit).upper())
    if found is None or found[2] not in _UNITS or not float(found[1]):
        raise ValueError(f"{name}={limit!r} is no number of bytes; give one such as 4000000000 or '4GB'.")
    return int(float(found[1]) * _UNITS[found[2]])


def open_rows(
    source: Any,
    *,
    columns: Sequence[str | int] | str | None = None,
    n_samples: int | None = None,
    n_features: int | None = None,
    dtype: str | np.dtype | type | None = None,
    sample_weight: ArrayLike | str | os.PathLike[str] | None = None,
    memory_limit: int | str | None = None,
    device_memory_limit: int | str | None = None,
) -> OpenRows:
    """Rows that are read block by block, whenever they are needed: `KMeans.fit` takes them in the place of X.

    Labels, centers, inertia and n_iter are the same bits as of the same rows in memory, for the same `random_state`.

    Parameters
    ----------
    source : path, array, callable or iterable
        A file: npy, Parquet, Arrow, CSV and whatever else `read_table` reads, an HDF5 file, the folder of a Zarr 3
        array (``pip install 'gpukmeans[stores]'`` for the latter two).  Or a `numpy.memmap`, an h5py dataset, a Zarr or
        Dask array, CSR.  Or a callable ``source(start, stop)`` that returns these rows, with `n_samples`.  Or an
        iterable of blocks that begins anew each time, no generator.  Blocks are dense or CSR.
        `gpukmeans.datasets.make_infinite_mnist` makes rows, too.
    columns : sequence of str or int, or str, optional
        Which columns are features, by name or place; of HDF5 the name of the dataset, of npz that of the
        array.  None: all, but those that `read_table` takes for ids or labels.
    n_samples, n_features : int, optional
        The shape, where the source does not tell; else it must be that.
    dtype : {"uint8", "float32", "float64"}, optional
        How the rows are kept; by default as a fit reads them: uint8 and float32 as they are, else float64.  float32
        rounds what is wider; uint8 takes whole numbers from 0 to 255 alone.
    sample_weight : array-like of shape (n_samples,), str or Path, optional
        The weights, or the name of their column, which is then no feature, or the `pathlib.Path` of their npy file.
    memory_limit : int or str, optional
        Bytes that a fit may take beside what the process holds: 4000000000 or "4GB".  If so much is not enough, the
        error before the first pass tells how much is.
    device_memory_limit : int or str, optional
        Bytes of a GPU that a block may take.

    Returns
    -------
    OpenRows

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError, TypeError
        The source has no rows of numbers, cannot be walked again, or an option does not fit it.
    ImportError
        A package that reads the file is not installed.

    See Also
    --------
    read_table : the rows of a file as one array, with labels, categories and missing values.

    Examples
    --------
    >>> import numpy as np
    >>> import gpukmeans
    >>> rows = gpukmeans.open_rows(lambda start, stop: np.arange(start, stop)[:, None] % 7.0, n_samples=100)
    >>> model = gpukmeans.KMeans(2, random_state=0).fit(rows)
    >>> model.labels_[:8].tolist(), model.fit_report_.bytes_read > 0
    ([1, 1, 1, 0, 0, 0, 0, 1], True)
    """
    wanted = None if dtype is None else np.dtype(dtype)
    if wanted is not None and wanted.name not in _ROW_DTYPES:
        raise ValueError(f"dtype={dtype!r} should be one of {', '.join(_ROW_DTYPES)}, which rows are kept in.")
    limits = n_bytes(memory_limit), n_bytes(device_memory_limit, "device_memory_limit")
    weights = sample_weight if isinstance(sample_weight, str) else None
    if isinstance(sample_weight, os.PathLike):
        sample_weight = _weights_of(Path(sample_weight))
    reader = _reader_of(source, columns, n_samples, n_features, weights)
    if weights is not None and not isinstance(reader, TableRows):
        raise ValueError(
            f"sample_weight={weights!r:.80} names a column, and {reader.where} has no names; pass the weights as an "
            "array."
        )
    for name, given, found in (
        ("n_samples", n_samples, reader.n_rows),
        ("n_features", n_features, reader.n_features),
    ):
        if given is not None and found is not None and given != found:
            raise ValueError(f"{name}={given:,}, but {reader.where} has {found:,}.")
    again = {"columns": columns, "n_samples": n_samples, "n_features": n_features, "dtype": wanted}
    opened_by = source, again | {"sample_weight": weights}
    return OpenRows(reader, wanted, None if weights is not None else sample_weight, *limits, opened_by)


def _weights_of(path: Path) -> NDArray:
    """The numbers of an npy file of one dimension."""
    with ExitStack() as files:
        part = open_npy(path, files)
        if len(part.shape) != 1:
            raise unreadable(shown(path), f"an array of shape {part.shape}; weights are (n_samples,)")
        values = np.empty(part.shape, part.dtype.newbyteorder("="))
        part.read(values)
    return values


def _reader_of(source: Any, columns: Any, n_samples: int | None, n_features: int | None, weights: str | None) -> Reader:
    module = type(source).__module__.partition(".")[0]
    if isinstance(source, str | os.PathLike):
        return _of_path(Path(source), os.fspath(source), columns, weights)
    if columns is not None and (is_sparse(source) or module == "dask"):
        raise ValueError(f"open_rows of a {type(source).__name__} takes no columns; hand on source[:, columns].")
    if is_sparse(source):
        rows = canonical(source.tocsr())
        return _named(CalledRows(lambda start, stop: rows[start:stop], rows.shape[0], rows.shape[1]), "the CSR matrix")
    if module == "dask":
        chunked = source.rechunk({1: -1})
        blocks = _DaskBlocks(chunked)
        return IteratedRows(blocks, "the Dask array")
    if isinstance(getattr(source, "dtype", None), np.dtype) and hasattr(source, "shape"):
        mapped = isinstance(source, np.memmap) and source.mode == "r" and isinstance(source.filename, str | Path)
        check = Unchanged(source.filename) if mapped else None
        return SlicedRows(source, f"the {type(source).__name__}", _places("open_rows", columns), check)
    if hasattr(source, "__array__"):  # a frame, for one
        return SlicedRows(np.asarray(source), f"the {type(source).__name__}", _places("open_rows", columns))
    if columns is not None:
        raise ValueError(f"open_rows of a {type(source).__name__} takes no columns; hand on those wanted alone.")
    if callable(source):
        if not isinstance(n_samples, int | np.integer) or n_samples < 1:
            raise ValueError(
                f"open_rows of a callable(start, stop) needs n_samples, the number of its rows, not {n_samples!r:.80}."
            )
        return CalledRows(source, n_samples, n_features)
    if isinstance(source, Iterable):
        reader = IteratedRows(source)
        if iter(source) is source:
            next(reader.walk())  # raises
        return reader
    raise TypeError(
        f"open_rows of a {type(source).__name__}; a path, an array that is sliced, a callable(start, stop) or an "
        "iterable of blocks is needed."
    )


def _named(reader: CalledRows, where: str) -> CalledRows:
    reader.where = where
    return reader


class _DaskBlocks:
    """The blocks of a Dask array, computed one after the other."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __iter__(self) -> Iterator[Any]:
        for number in range(self._array.numblocks[0]):
            yield self._array.blocks[number].compute()


def _of_path(path: Path, text: str, columns: Any, weights: str | None) -> Reader:
    if not text:
        raise ValueError("open_rows of '', which should be the path of a file.")
    if "://" in text:
        raise ValueError(f"{text!r:.120} is an address, and only files of this machine are read; copy it here first.")
    places = None if columns is None or isinstance(columns, str) else list(columns)
    by_place = places is None or None not in map(as_place, places)
    if (path / "zarr.json").is_file():
        return open_zarr(path, _places(path, columns))
    if (path / ".zarray").is_file():
        raise unreadable(shown(path), "an array of Zarr 2, which is not read; write it anew with zarr_format=3")
    if path.is_file():
        with open(path, "rb") as file:
            start = file.read(8)
        if start[:4] == b"\x89HDF":
            return open_hdf5(path, columns if isinstance(columns, str) else None, _places(path, places))
        if start[:6] == b"\x93NUMPY" and weights is None and by_place and not isinstance(columns, str):
            found = open_npy_rows(path, _places(path, places))
            if found is not None:
                return found
    name = columns if isinstance(columns, str) and is_archive(path) else None
    if name is None and isinstance(columns, str):
        places = [columns]
    table = open_source(path, ReadingOptions(_TABLE_BYTES, array=name))
    names = [c.name for c in table.columns]
    if weights is not None and weights not in names:
        raise unreadable(table.where, f"no column {weights!r:.80} for sample_weight")
    if places is None:
        taken = {next((c.name for c in table.columns if c.use == use), None) for use in ("label", "id")} | {weights}
        chosen = [c.name for c in table.columns if c.kind != "beside" and c.name not in taken]
    else:
        chosen = [column_of(names, c) or c for c in places]
    kinds = {c.name: c for c in table.columns}
    for one in chosen:
        if one not in kinds:
            raise unreadable(table.where, f"no column {one!r:.80}, by name or by place from 0, of {len(names)}")
        if kinds[one].kind not in ("number", "beside"):
            raise unreadable(
                table.where, f"column {one!r:.80} holds {kinds[one].holds}, no numbers; name the features as columns"
            )
    return TableRows(table, path, chosen, weights)


def _places(path: str | Path, places: Any) -> list[int] | None:
    if places is None:
        return None
    found = [] if isinstance(places, str) else [place for place in map(as_place, places) if place is not None]
    if isinstance(places, str) or len(found) < len(places):
        raise ValueError(f"{shown(path)}: columns of an array are given by their places, not by {places!r:.80}.")
    return found
