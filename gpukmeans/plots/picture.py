"""A matplotlib figure that notebooks show, and that writes itself into files; imported when a picture is made."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from gpukmeans.writing import whole_file

_METADATA = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}


class Picture(Figure):
    """A white figure that pyplot does not manage.

    As the last value of a notebook's cell it is shown.

    Parameters
    ----------
    width, height : float
        In inches.
    """

    def __init__(self, width: float = 6.4, height: float = 4.8) -> None:
        super().__init__(figsize=(width, height), facecolor="white")
        FigureCanvasAgg(self)

    def save(self, path: str | os.PathLike[str], *, dpi: int = 150) -> Path:
        """Write the picture, whole or not at all; equal pictures have equal files.

        Parameters
        ----------
        path : path
            Ends in .png, .svg or .pdf; replaced if it exists.
        dpi : int, default=150
            Pixels per inch of a PNG.

        Returns
        -------
        pathlib.Path
            `path`.

        Raises
        ------
        ValueError
            The path ends otherwise.
        OSError
            The file cannot be written.
        """
        path = Path(path)
        form = path.suffix.lower().removeprefix(".")
        if form not in _METADATA:
            raise ValueError(f"{path.name!r} ends in {path.suffix!r}; pictures are written as .png, .svg or .pdf")
        content = self.encoded(form, dpi)
        with whole_file(path) as file:
            file.write(content)
        return path

    def encoded(self, form: str, dpi: int) -> bytes:
        """The content of a file of this form, "png", "svg" or "pdf"."""
        out = io.BytesIO()
        with matplotlib.rc_context({"svg.hashsalt": "gpukmeans"}), _any_letters():  # else names in an SVG are random
            self.savefig(out, format=form, dpi=dpi, facecolor="white", metadata=_METADATA[form])
        return out.getvalue()

    def _repr_png_(self) -> bytes:
        """What Jupyter shows."""
        return self.encoded("png", 110)


_DPI = 100


@cache
def _measure() -> RendererAgg:
    return RendererAgg(1, 1, _DPI)


@cache
def text_width(text: str, size: float, weight: str = "normal") -> float:
    """The width of one line of text, in inches."""
    with _any_letters():
        return _measure().get_text_width_height_descent(text, FontProperties(size=size, weight=weight), False)[0] / _DPI


@contextmanager
def _any_letters() -> Iterator[None]:
    """Letters that no font has are drawn as boxes, without a warning for each, which would name a line in here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from", UserWarning)
        yield
