"""Small tables as text and as HTML, for representations."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from html import escape


def text_table(rows: Iterable[Sequence[str]], align: str = ">") -> str:
    """A line for each row, with columns of even width.

    `align` has "<" or ">" for each column, the last of them for all that follow.

    Examples
    --------
    >>> from gpukmeans.tables import text_table
    >>> print(text_table([("name", "rows"), ("a", "12")], "<>"))
    name  rows
    a       12
    """
    table = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    align = align.ljust(len(widths), align[-1])
    lines = ("  ".join(f"{c:{side}{w}}" for c, side, w in zip(row, align, widths, strict=False)) for row in table)
    return "\n".join(line.rstrip() for line in lines)


def html_table(rows: Iterable[Sequence[str]], head: Sequence[str] = (), caption: str = "") -> str:
    """A table whose first column names its rows; all texts are escaped.

    Examples
    --------
    >>> from gpukmeans.tables import html_table
    >>> html_table([("k < 3", "1.5")])
    '<table><tbody><tr><th scope="row">k &lt; 3</th><td>1.5</td></tr></tbody></table>'
    """
    top = f"<caption>{escape(caption)}</caption>" if caption else ""
    if head:
        names = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
        top += f"<thead><tr>{names}</tr></thead>"
    body = ""
    for first, *rest in rows:
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in rest)
        body += f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>'
    return f"<table>{top}<tbody>{body}</tbody></table>"


class Table:
    """What shows itself as a table whose first column names its rows: as text, and as HTML in notebooks."""

    _align = "<>"  # of the columns of text, see `text_table`

    @property
    @abstractmethod
    def head(self) -> tuple[str, ...]:
        """The names of the columns of `rows`."""

    @abstractmethod
    def rows(self) -> list[tuple[str, ...]]:
        """Formatted values."""

    def __repr__(self) -> str:
        """The table."""
        return text_table([self.head, *self.rows()], self._align)

    def _repr_html_(self) -> str:
        """The same, for notebooks."""
        return html_table(self.rows(), head=self.head)
