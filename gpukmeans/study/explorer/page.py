"""The page: HTML, CSS, JavaScript and the content of a study in one file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import zlib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.writing import whole_file

#: In the order in which they are put together into one script.
SCRIPTS = (
    "basics.js",
    "study.js",
    "pictures.js",
    "points.js",
    "map.js",
    "gestures.js",
    "names.js",
    "clusters.js",
    "confusion.js",
    "charts.js",
    "flow.js",
    "film.js",
    "sections.js",
    "drawing.js",
    "live.js",
    "main.js",
)
#: What the map is drawn from at once, before the script, and not deflated: browsers inflate in the background only.
FIRST = ("x", "y", "label")
#: Values that may be long, and stand behind the script with all other arrays.
LATER = ("extras", "members", "calls")
Arrays = dict[str, NDArray[Any]]


@cache
def _asset(name: str) -> str:
    return files("gpukmeans.study.explorer").joinpath("assets", name).read_text(encoding="utf-8")


@cache
def script() -> str:
    """The page's whole JavaScript, in a scope of its own."""
    return "(() => {\n'use strict';\n" + "\n".join(_asset(name) for name in SCRIPTS) + "\n})();\n"


def embedded(value: Any) -> str:
    """JSON that may stand in a script element: `<`, `>` and `&` are escaped, so that no text ends it.

    Examples
    --------
    >>> from gpukmeans.study.explorer.page import embedded
    >>> embedded({"name": "</script>"})
    '{"name":"\\\\u003c/script\\\\u003e"}'
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def packed(array: NDArray[Any], *, deflated: bool = True) -> dict[str, Any]:
    """An array as JSON holds it: dtype, shape, whether its bytes are deflated, and these in base64.

    Bytes of wide numbers are put together by their place in the number if they are deflated, which is then better.
    """
    plain = np.ascontiguousarray(array)
    plain = plain.astype(plain.dtype.newbyteorder("<"), copy=False)
    content = plain.tobytes()
    if deflated:
        planes = plain.reshape(-1).view(np.uint8).reshape(plain.size, plain.itemsize).T
        content = zlib.compress(planes.tobytes(), 6)
    return {
        "dtype": plain.dtype.name,
        "shape": list(plain.shape),
        "deflated": deflated,
        "bytes": base64.b64encode(content).decode("ascii"),
    }


def document(content: dict[str, Any], arrays: Arrays, *, live: bool = False) -> str:
    """The whole page.

    Parameters
    ----------
    content : dict
        Plain values, as of `gpukmeans.study.explorer.content`.
    arrays : dict of str to ndarray
    live : bool
        Whether a server of `gpukmeans explore` is asked; else the page's policy allows no request at all.

    Returns
    -------
    str
    """
    code, style = script(), _asset("page.css")
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src '{_digest(code)}'",
            f"style-src '{_digest(style)}'",
            "img-src data: blob:",
            f"connect-src {chr(39)}{'self' if live else 'none'}{chr(39)}",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    parts: dict[bool, list[str]] = {True: [], False: []}  # before the script, behind it
    for first, about in parts.items():
        values = {name: value for name, value in content.items() if (name not in LATER) == first}
        about.append(f'<script type="application/json" class="content">{embedded(values)}</script>')
    for name, array in arrays.items():
        first = name in FIRST
        kind = f'type="application/json" class="array" data-name="{html.escape(name)}"'
        parts[first].append(f"<script {kind}>{embedded(packed(array, deflated=not first))}</script>")
    replaced = {
        "{policy}": html.escape(policy),
        "{title}": html.escape(content["title"]),
        "{style}": style,
        "{first}": "\n".join(parts[True]),
        "{script}": code,
        "{rest}": "\n".join(parts[False]),
    }
    pieces, rest = [], _asset("page.html")
    for mark, text in replaced.items():  # in the order of the page, so that nothing in a text is taken for a mark
        before, rest = rest.split(mark)
        pieces += [before, text]
    return "".join([*pieces, rest])


def _digest(text: str) -> str:
    """A source of a Content-Security-Policy: the hash of an element's text."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"


def write_page(path: Path, content: dict[str, Any], arrays: Arrays) -> Path:
    """Write the page, whole or not at all."""
    with whole_file(path) as file:
        file.write(document(content, arrays).encode("utf-8", "backslashreplace"))
    return path
