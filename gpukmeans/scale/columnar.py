"""Tables in columns, read by pyarrow in batches: Parquet, and Arrow's files (Feather is one) and streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.scale.delimited import column_of, is_number, texts
from gpukmeans.scale.files import clipped, read_error, shown, unreadable
from gpukmeans.scale.sources import BLOCK_BYTES, Block, Column, ReadingOptions, require, require_names, row_dtype_of

_ROWS_LOOKED_AT = 1000
_TEXTS = ("string", "large_string", "string_view")
Batches = Callable[[list[str] | None], Iterator[Any]]


@dataclass(frozen=True)
class ColumnarRows:
    """Rows of a table in columns; a `Source`.

    A column of lists of one length (embeddings, pixels) counts as many columns, NAME_0, NAME_1, ...
    """

    path: Path
    where: str
    columns: list[Column]
    places: dict[str, tuple[str, int]]
    n_rows: int | None
    dtypes: dict[str, np.dtype]
    batches: Batches
    n_expected: int
    notes: tuple[str, ...] = ()
    image_shape: None = None

    def row_dtype(self, numbers: Sequence[str]) -> np.dtype:
        found = {self.dtypes[self.places[name][0]] for name in numbers}
        return found.pop() if len(found) == 1 else np.dtype(np.float64)

    def blocks(self, numbers: Sequence[str], others: Sequence[str]) -> Iterator[Block]:
        needed = list(dict.fromkeys(self.places[name][0] for name in [*numbers, *others]))
        with _named_errors(self.path):
            for batch in self.batches(needed):
                held = {name: batch.column(name) for name in needed}
                yield Block(self._matrix(held, numbers, batch.num_rows), [_plain(held[name]) for name in others])

    def _matrix(self, held: dict[str, Any], numbers: Sequence[str], n_rows: int) -> NDArray[Any]:
        dtype = self.row_dtype(numbers)
        out = np.empty((n_rows, len(numbers)), np.float64 if dtype == np.uint8 else dtype)
        lists: dict[str, NDArray[Any]] = {}
        for place, number in enumerate(numbers):
            name, index = self.places[number]
            if index < 0:
                out[:, place] = _numbers(held[name])
                continue
            if name not in lists:
                width = sum(owner == name for owner, _ in self.places.values())
                lists[name] = _flat(held[name], width, f"{self.where}: column {name!r:.80}")
            out[:, place] = lists[name][:, index]
        return out


def open_parquet(path: Path, options: ReadingOptions) -> ColumnarRows:
    """The rows of a Parquet file, which is read a row group after the other.

    Raises
    ------
    ValueError
        The file is damaged, or a row group takes more memory than `options.max_bytes`.
    """
    require("pyarrow", "files", "Parquet files")
    import pyarrow.parquet as pq

    where = shown(path)

    def opened() -> Any:
        return pq.ParquetFile(path, memory_map=False, pre_buffer=False)

    def batches(names: list[str] | None) -> Iterator[Any]:
        with opened() as file:
            kept = None if names is None else set(names)
            meta = file.metadata
            for group in range(meta.num_row_groups):
                row_group = meta.row_group(group)
                chunks = [row_group.column(i) for i in range(row_group.num_columns)]
                size = sum(
                    chunk.total_uncompressed_size
                    for chunk in chunks
                    if kept is None or chunk.path_in_schema.split(".")[0] in kept
                )
                if size > options.max_bytes:
                    raise unreadable(
                        where,
                        f"row group {group} takes {size:,} bytes, more than max_bytes={options.max_bytes:,}; write the "
                        "file with a smaller row_group_size, read fewer columns, or allow more",
                    )
                n_rows = max(1, row_group.num_rows)
                at_once = max(1, min(n_rows, BLOCK_BYTES * n_rows // max(size, 1)))
                found = file.iter_batches(at_once, row_groups=[group], columns=names, use_threads=False)
                yield from _checked(found, names)

    with _named_errors(path):
        return _source(path, where, options, batches, lambda: _rows_and_schema(opened))


def _rows_and_schema(opened: Callable[[], Any]) -> tuple[int, Any]:
    with opened() as file:
        return file.metadata.num_rows, file.schema_arrow


def open_arrow(path: Path, options: ReadingOptions) -> ColumnarRows:
    """The rows of an Arrow file or stream; what a batch holds is checked before it is used."""
    pa = require("pyarrow", "files", "Arrow files")
    where = shown(path)
    with open(path, "rb") as file:
        is_file = file.read(6) == b"ARROW1"

    def batches(names: list[str] | None) -> Iterator[Any]:
        read = pa.ipc.IpcReadOptions(use_threads=False)
        with pa.OSFile(str(path), "rb") as file:
            if is_file:
                with pa.ipc.open_file(file, options=read) as reader:
                    found = (reader.get_batch(i) for i in range(reader.num_record_batches))
                    yield from _checked(found, names)
            else:
                with pa.ipc.open_stream(file, options=read) as reader:
                    yield from _checked(reader, names)

    def rows_and_schema() -> tuple[None, Any]:
        with pa.OSFile(str(path), "rb") as file:
            return None, (pa.ipc.open_file(file) if is_file else pa.ipc.open_stream(file)).schema

    with _named_errors(path):
        return _source(path, where, options, batches, rows_and_schema)


def _checked(batches: Any, names: list[str] | None) -> Iterator[Any]:
    """Batches in pieces; offsets and indices of a damaged one would lead outside its memory."""
    for batch in batches:
        some = batch if names is None else batch.select(names)
        some.validate(full=True)
        n_rows = max(1, BLOCK_BYTES * max(1, some.num_rows) // max(1, some.nbytes))
        for start in range(0, some.num_rows, n_rows):
            yield some.slice(start, n_rows)


def _source(
    path: Path,
    where: str,
    options: ReadingOptions,
    batches: Batches,
    describe: Callable[[], tuple[int | None, Any]],
) -> ColumnarRows:
    import pyarrow as pa

    n_rows, schema = describe()
    if len(set(schema.names)) < len(schema.names):
        twice = next(name for name in schema.names if schema.names.count(name) > 1)
        raise unreadable(where, f"two columns have the name {twice!r:.80}; rename one")
    start = next(batches(None), None)
    start = pa.RecordBatch.from_pylist([], schema) if start is None else start.slice(0, _ROWS_LOOKED_AT)
    columns, places, dtypes = list[Column](), dict[str, tuple[str, int]](), dict[str, np.dtype]()
    for field in schema:
        values = start.column(field.name)
        width = _list_width(values)
        if width is None:
            columns.append(column_of(field.name, values))
            places[field.name] = field.name, -1
            if columns[-1].kind == "number":
                dtypes[field.name] = _row_dtype(field.type)
            continue
        dtypes[field.name] = _row_dtype(field.type.value_type)
        require_names(where, width, options.max_bytes)
        for index in range(width):
            name = f"{field.name}_{index}"
            if name in schema.names:
                raise unreadable(
                    where, f"a column {name!r:.80} beside a column {field.name!r:.80} of lists; rename one"
                )
            columns.append(Column(name))
            places[name] = field.name, index
    expected = (
        n_rows if n_rows is not None else max(1, path.stat().st_size // max(1, start.nbytes // max(1, len(start))))
    )
    return ColumnarRows(path, where, columns, places, n_rows, dtypes, batches, expected)


def _row_dtype(kind: Any) -> np.dtype:
    """uint8, whose blocks are float64 in case a value is missing, for whole numbers: rows decide whether they fit."""
    text = str(kind)
    if text.startswith(("int", "uint", "bool")):
        return np.dtype(np.uint8)
    return row_dtype_of(np.dtype(np.float32) if text == "float" else np.dtype(np.float64))


def _list_width(values: Any) -> int | None:
    """The length of all lists of a column of lists of numbers; None for other columns."""
    kind = str(values.type)
    if not kind.startswith(("list<", "large_list<", "fixed_size_list<")) or not is_number(values.type.value_type):
        return None
    lengths = {len(value) for value in values[:100].to_pylist() if value is not None}
    return lengths.pop() if len(lengths) == 1 else None


def _flat(values: Any, width: int, where: str) -> NDArray[Any]:
    """A column of lists as rows."""
    import pyarrow.compute as pc

    if values.null_count or not pc.all(pc.equal(pc.list_value_length(values), width)).as_py():
        raise unreadable(where, f"lists that are not all of {width:,} numbers, as the first are")
    return _numbers(values.flatten()).reshape(len(values), width)


def _numbers(values: Any) -> NDArray[Any]:
    """Numbers, NaN for nulls."""
    kind = str(values.type)
    if kind == "bool":
        values = values.cast("uint8")
    elif kind.startswith(("decimal", "halffloat", "null")):
        values = values.cast("float64") if kind != "halffloat" else values.cast("float32")
    return values.to_numpy(zero_copy_only=False)


def _plain(values: Any) -> NDArray[Any]:
    """A column as it is: numbers, or texts."""
    if str(values.type).startswith("dictionary"):
        values = values.dictionary_decode()
    if is_number(values.type):
        return _numbers(values)
    return texts(values if str(values.type) in _TEXTS else values.cast("string"))


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """What pyarrow raises for damaged files becomes a ValueError that names the file."""
    import pyarrow as pa

    where = shown(path)
    try:
        yield
    except ValueError as error:
        if isinstance(error, pa.ArrowInvalid) or not str(error).startswith(where):
            raise unreadable(where, f"damaged, or no such table: {clipped(str(error))}") from None
        raise
    except (pa.ArrowException, MemoryError, NotImplementedError) as error:
        raise unreadable(where, f"damaged, or no such table: {clipped(str(error))}") from None
    except OSError as error:
        raise read_error(path, error) from None
