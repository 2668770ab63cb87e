"""Small tables as HTML, for the representations that notebooks show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


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
