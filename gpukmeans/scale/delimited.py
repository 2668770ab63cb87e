"""Tables in text: CSV, TSV and their relatives, read by pyarrow; their start tells what separates their values.

pyarrow parses in every step: the start once for each possible separator, then all of the file in blocks, with the types
of the columns said beforehand, so that no number further down changes them.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.scale.files import UINT8, clipped, read_error, shown, unreadable
from gpukmeans.scale.idx import GZIP_MAGIC
from gpukmeans.scale.sources import Block, Column, ReadingOptions, require

#: Bytes at the start from which separators, names and types are found out; more if a line is longer.
START, LONGEST_LINE = 1 << 16, 1 << 26
DELIMITERS = (",", ";", "\t", "|", " ")
#: Of a table in text; wider ones take pyarrow some KB a column.
MOST_COLUMNS = 100_000
#: Besides pyarrow's own, which are '', NA, N/A, NaN, NULL, #N/A and their like.
MISSING = ("?", "None", "none", "-", ".")
#: Names of a column that numbers or names the rows: index, key, PassengerId, user_id.
_ID_NAME = re.compile(r"(?i:|idx|index|row|row_?id|uuid|guid|key|unnamed: 0|(.*[^a-z0-9])?id)|.*(Id|ID)")
#: Names of a column that names the rows if it counts them.
_COUNTER_NAME = re.compile(r"(?i:#|nr|no|num|number|nummer|n°|lfd\.? ?nr|s\.? ?no|serial|serial no|count|counter)\.?")
#: Of text in a block: pyarrow holds some ten blocks, and each costs a call for every column.
_BYTES_AT_ONCE, _BYTES_A_COLUMN = 1 << 18, 1 << 10
_SHOWN_CHARACTERS = 40
#: So many texts of which no two are equal name their rows; so many numbers from 0 or 1 on count them.
_MANY = 20


@dataclass(frozen=True)
class _Dialect:
    """How a table separates its values, and what its start holds.

    `first` are the values of the first line.
    """

    delimiter: str
    decimal: str
    encoding: str
    first: list[str]
    n_lines: int


@dataclass(frozen=True)
class TextRows:
    """Rows of a table in text; a `Source`."""

    path: Path
    where: str
    columns: list[Column]
    n_expected: int
    notes: list[str]
    dialect: _Dialect
    has_header: bool
    booleans: set[str]
    block_bytes: int
    n_rows: None = None
    image_shape: None = None

    def row_dtype(self, numbers: Sequence[str]) -> np.dtype:
        return UINT8  # whose blocks are float64

    def blocks(self, numbers: Sequence[str], others: Sequence[str]) -> Iterator[Block]:
        import pyarrow as pa
        import pyarrow.csv as pc

        types = dict.fromkeys(numbers, pa.float64()) | dict.fromkeys(self.booleans & set(numbers), pa.bool_())
        convert = pc.ConvertOptions(
            column_types=types | dict.fromkeys(others, pa.string()),
            include_columns=[*numbers, *others],
            null_values=[*pc.ConvertOptions().null_values, *MISSING],
            decimal_point=self.dialect.decimal,
        )
        read = pc.ReadOptions(
            use_threads=False,  # then errors name the row
            block_size=self.block_bytes,
            encoding=self.dialect.encoding,
            column_names=[column.name for column in self.columns],
            skip_rows_after_names=int(self.has_header),
        )
        try:
            with (
                _stream(self.path) as stream,
                pc.open_csv(stream, read, _parsing(self.dialect.delimiter), convert) as reader,
            ):
                for batch in reader:
                    yield Block(
                        matrix(batch.columns[: len(numbers)]), [texts(c) for c in batch.columns[len(numbers) :]]
                    )
        except (pa.ArrowInvalid, UnicodeDecodeError) as error:
            raise self._explained(str(error), [*numbers, *others]) from None
        except OSError as error:
            raise read_error(self.path, error) from None

    def _explained(self, error: str, names: Sequence[str]) -> ValueError:
        """What pyarrow says, in the words of the file's columns and lines."""
        found = re.search(r"In CSV column #(\d+): (?:Row #(\d+): )?.*invalid value '(.*)'", error, re.DOTALL)
        if found:
            place, row, value = found.groups()
            line = f" in line {row}" if row else ""
            return unreadable(
                self.where,
                f"column {self.columns[int(place)].name!r:.80} holds {value!r:.60}{line}, which is no number; "
                "leave the column out with drop, or say what it is with label, id or one_hot",
            )
        if "UTF8" in error or "utf-8" in error:
            return unreadable(self.where, "texts that are not UTF-8 further down; save the table as UTF-8")
        return unreadable(self.where, f"no table with {self.dialect.delimiter!r} between its values: {clipped(error)}")


def open_text(path: Path, options: ReadingOptions) -> TextRows:
    """The rows of a table in text, plain or gzip-compressed; the start is read to find out how it is written.

    Raises
    ------
    ValueError
        It is no text, or no table.
    """
    require("pyarrow", "files", "tables in text")
    where = shown(path)
    start, whole = _start_of(path, where)
    encoding = _encoding(start, where)
    dialect = _dialect(start, where, encoding, options)
    first = dialect.first
    has_header = _is_header(first) if options.header is None else options.header
    values = _parsed(start, encoding, dialect.delimiter, dialect.decimal, int(has_header))
    names = (
        _distinct([" ".join(name.split()) for name in first])
        if has_header
        else [f"column_{i}" for i in range(len(first))]
    )
    columns = [column_of(name, values.column(i)) for i, name in enumerate(names)]
    notes = [f"values separated by {_named(dialect.delimiter)}" if len(names) > 1 else "one column"]
    if dialect.decimal == ",":
        notes.append("decimal commas")
    if encoding != "utf8":
        notes.append(f"encoded as {encoding}")
    notes.append("names in the first line" if has_header else "no line of names: columns are column_0, column_1, ...")
    length, n_lines = path.stat().st_size, dialect.n_lines
    expected = n_lines if whole else int(1.02 * length * n_lines / len(start)) + 1
    longest = max(len(line) for line in start.splitlines()) if start else 0
    return TextRows(
        path, where, columns, expected, notes, dialect, has_header,
        {name for name, column in zip(names, values.columns, strict=True) if str(column.type) == "bool"},
        max(_BYTES_AT_ONCE, 4 * longest, min(_BYTES_A_COLUMN * len(names), 1 << 20)),
    )  # fmt: skip


def matrix(columns: Sequence[Any]) -> NDArray[np.float64]:
    """Columns of numbers, side by side, in float64, NaN for nulls."""
    out = np.empty((len(columns[0]) if columns else 0, len(columns)))
    for place, column in enumerate(columns):
        if str(column.type) == "bool":
            column = column.cast("uint8")
        out[:, place] = column.to_numpy(zero_copy_only=False)
    return out


def texts(column: Any) -> NDArray[Any]:
    """A column of texts, '' for nulls."""
    return np.array([value or "" for value in column.to_pylist()], np.dtypes.StringDType())


def _stream(path: Path) -> Any:
    import pyarrow as pa

    with open(path, "rb") as file:
        packed = file.read(2) == GZIP_MAGIC
    return pa.input_stream(str(path), compression="gzip" if packed else None)


def _start_of(path: Path, where: str) -> tuple[bytes, bool]:
    """The first lines, and whether these are all."""
    data, wanted = b"", START
    try:
        with _stream(path) as stream:
            while True:
                data += stream.read(wanted - len(data))
                if len(data) < wanted:
                    break
                if (end := max(data.rfind(b"\n"), data.rfind(b"\r"))) > 0 and data.count(b"\n", 0, end) > 1:
                    return data[: end + 1], False
                if wanted >= LONGEST_LINE:
                    raise unreadable(where, f"no second line within {wanted:,} bytes; this is no table in text")
                wanted *= 4
    except OSError as error:
        raise read_error(path, error) from None
    if not data.strip():
        raise unreadable(where, "an empty file; a table, an array or a folder of pictures is needed")
    return data, True


def _encoding(start: bytes, where: str) -> str:
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    if b"\0" in start:
        raise unreadable(
            where, "neither text nor one of the formats npy, npz, IDX, Parquet, Arrow, PNG or JPEG in a folder"
        )
    try:
        start.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.end < len(start) - 4:
            return "cp1252"
    return "utf8"


def _parsing(delimiter: str) -> Any:
    import pyarrow.csv as pc

    return pc.ParseOptions(delimiter=delimiter, newlines_in_values=True)


def _parsed(start: bytes, encoding: str, delimiter: str, decimal: str, skip: int = 0, types: Any = None) -> Any:
    import pyarrow.csv as pc

    return pc.read_csv(
        io.BytesIO(start),
        pc.ReadOptions(
            use_threads=False, autogenerate_column_names=True, encoding=encoding, block_size=max(len(start), 1),
            skip_rows_after_names=skip,
        ),
        _parsing(delimiter),
        pc.ConvertOptions(
            decimal_point=decimal, null_values=[*pc.ConvertOptions().null_values, *MISSING], column_types=types,
        ),
    )  # fmt: skip


def _dialect(start: bytes, where: str, encoding: str, options: ReadingOptions) -> _Dialect:
    """The separators by which most of the columns are numbers, of equally good ones those that give most columns."""
    import pyarrow as pa

    line = start[: max(start.find(b"\n"), 0) or len(start)]
    if (n := max(line.count(delimiter.encode()) for delimiter in DELIMITERS)) > MOST_COLUMNS:
        raise unreadable(
            where, f"some {n:,} columns in the first line; tables in text are read with {MOST_COLUMNS:,} at most"
        )
    best: tuple[float, int, int, int] | None = None
    found, why, one_number = None, "", False
    there = [delimiter for delimiter in DELIMITERS if delimiter.encode() in line] or [","]
    delimiters = there if options.delimiter is None else [options.delimiter]
    decimals = (".", ",") if b"," in start else (".",)
    for order, delimiter in enumerate(delimiters):
        for decimal in decimals if options.decimal is None else (options.decimal,):
            if decimal == delimiter:
                continue
            try:
                table = _parsed(start, encoding, delimiter, decimal, skip=1)
                names = _parsed(
                    start, encoding, delimiter, decimal, 0, {f"f{i}": pa.string() for i in range(table.num_columns)}
                )
            except (pa.ArrowInvalid, UnicodeDecodeError, ValueError, KeyError) as error:
                why = why or clipped(str(error))
                continue
            n = table.num_columns
            n_numbers = sum(is_number(column.type) for column in table.columns)
            one_number |= n == n_numbers == 1
            score = (n_numbers / n if n > 1 else 0.0, n, n_numbers, -order)
            if best is None or score > best:
                best = score
                first = [column[0].as_py() or "" for column in names.columns]
                found = _Dialect(delimiter, decimal, encoding, first, names.num_rows)
    if found is None or (why and best is not None and best[1] == 1 and not one_number):
        raise unreadable(where, f"no table: its lines differ in their number of values ({why})")
    return found


def _is_header(first: Sequence[str]) -> bool:
    """Whether the first line has names: it holds no number, or counts the columns as pandas does."""
    named = [name for name in first if name.strip()]
    numeric = [name for name in named if re.fullmatch(r"\s*[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?\s*", name)]
    if numeric == named and [name.strip() for name in named] == [str(i) for i in range(len(named))]:
        return len(named) > 1
    return bool(named) and not numeric


def column_of(name: str, values: Any) -> Column:
    """What a column is, from some of its values as an Arrow array.

    It is taken for the names of the rows if it is called so, or is text, and no two of these values are equal; or if it
    counts the rows and is called so.
    """
    kind = str(values.type)
    is_text = kind in ("string", "large_string", "string_view") or kind.startswith("dictionary<values=string")
    differ = len(values) > 1 and values.null_count == 0 and len(values.unique()) == len(values)
    if is_text:
        some = next((value for value in values.to_pylist() if value), "")
        named = differ and (_ID_NAME.fullmatch(name.strip()) or len(values) >= _MANY)
        shown_value = some if len(some) <= _SHOWN_CHARACTERS else some[:_SHOWN_CHARACTERS] + "..."
        return Column(name, "text", f"text such as {shown_value!r}", "id" if named else None)
    if is_number(values.type):
        if not differ or "int" not in kind:
            return Column(name)
        counter = len(values) >= _MANY and _counts(np.asarray(values))
        named = _ID_NAME.fullmatch(name.strip()) or (counter and _COUNTER_NAME.fullmatch(name.strip()))
        return Column(name, use="id" if named else "counter" if counter else None)
    return Column(name, "other", f"values of type {kind}")


def _counts(values: NDArray[Any]) -> bool:
    return values[0] in (0, 1) and np.array_equal(values, np.arange(values[0], values[0] + len(values)))


def is_number(kind: Any) -> bool:
    """Whether values of an Arrow type are read as numbers."""
    return str(kind).startswith(("int", "uint", "double", "float", "halffloat", "decimal", "bool", "null"))


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, where one that is there before gets .1, .2, ... as in pandas."""
    found: dict[str, None] = {}
    for name in names:
        candidate, n = name, 0
        while candidate in found:
            n += 1
            candidate = f"{name}.{n}"
        found[candidate] = None
    return list(found)


def _named(delimiter: str) -> str:
    return {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "spaces"}.get(delimiter, repr(delimiter))
