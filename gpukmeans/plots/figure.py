"""What all pictures share: colours, a figure without pyplot, title and colour bar, and writing it to a file.

matplotlib is imported when a picture is made, never before, and only through its object-oriented interface: pyplot's
current figure, backend and settings stay as they are.
"""

from __future__ import annotations

import io
import os
from bisect import bisect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from gpukmeans.evaluation.classes import cluster_names
from gpukmeans.intake.kinds import on_host
from gpukmeans.writing import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gpukmeans.plots.picture import Picture


INK, MUTED, RULE, FRAME = "#1a1a1a", "#6b6b6b", "#c8c8c8", "#e07b00"

#: Inches around pictures, and from one line of text to the next per point of its size.
MARGIN, LINE = 0.14, 1.25 / 72


def require_matplotlib() -> None:
    """Check that pictures can be made.

    Raises
    ------
    ImportError
        matplotlib is not installed; the message says how to install it.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError(f'pictures need matplotlib ({error}): pip install "gpukmeans[plots]"') from error


def save_png(figure: Figure, path: str | os.PathLike[str], *, dpi: int = 150) -> Path:
    """Write any figure of matplotlib as a PNG, whole or not at all; pictures of this package have a method `save`.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    path : path
        Replaced if it exists.
    dpi : int, default=150
        Pixels per inch.

    Returns
    -------
    pathlib.Path
        `path`.

    Examples
    --------
    >>> import tempfile
    >>> from gpukmeans.plots import confusion_heatmap, save_png
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_png(confusion_heatmap([[5, 1], [0, 4]]), folder + "/confusion.png")
    ...     path.read_bytes()[:4]
    b'\\x89PNG'
    """
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    with whole_file(path) as file:
        file.write(content.getvalue())
    return Path(path)


def new_picture(width: float, height: float) -> Picture:
    """A white picture of this size in inches."""
    from gpukmeans.plots.picture import Picture

    return Picture(width, height)


def room(picture: Picture, left: float, bottom: float, width: float, height: float) -> Any:
    """Axes at a place in inches."""
    w, h = picture.get_size_inches()
    return picture.add_axes((left / w, bottom / h, width / w, height / h))


def plain_axes(axes: Any, title: str, below: str = "") -> None:
    """Axes with a title to the left, two thin lines, and a name below."""
    axes.set_title(title, fontsize=9, color=INK, loc="left")
    axes.tick_params(labelsize=8, colors=INK, length=2)
    axes.yaxis.get_offset_text().set_fontsize(8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(RULE)
    if below:
        axes.set_xlabel(below, fontsize=8.5, color=MUTED)


def write(where: Any, x: float, y: float, text: str, **how: Any) -> Any:
    """Put text somewhere as it is: a dollar sign begins no formula."""
    return where.text(x, y, text, parse_math=False, **how)


def width_of(text: str, size: float) -> float:
    """Of a line of text, in inches."""
    from gpukmeans.plots.picture import text_width

    return text_width(text, size)


def lines_of(text: str, width: float, size: float, most: int = 1, weight: str = "normal") -> list[str]:
    """Text in lines of at most `width` inches; what does not fit into `most` lines ends in an ellipsis."""
    from gpukmeans.plots.picture import text_width

    def fits(part: str) -> bool:
        return text_width(part, size, weight) <= width

    def most_of(part: str, end: str = "") -> int:
        """The largest number of characters that fit."""
        return bisect(range(1, len(part) + 1), False, key=lambda n: not fits(part[:n] + end))

    words, lines = text.split(), [""]
    while words:
        longer = f"{lines[-1]} {words[0]}".strip()
        if fits(longer):
            lines[-1] = longer
            words.pop(0)
        elif len(lines) == most:
            rest = " ".join([*filter(None, [lines[-1]]), *words])
            lines[-1] = f"{rest[: most_of(rest, '…')].rstrip()}…"
            break
        elif lines[-1]:
            lines.append("")
        else:  # a word longer than a line
            cut = max(1, most_of(words[0]))
            lines[-1], words[0] = words[0][:cut], words[0][cut:]
            lines.append("")
    return lines


def fitted(
    text: str, width: float, size: float, smallest: float, most: int = 1, weight: str = "normal"
) -> tuple[list[str], float]:
    """`lines_of` in the largest size, down to the smallest, in which nothing is left out."""
    while size > smallest and "…" in "".join(lines_of(text, width, size, most, weight)):
        size -= 0.5
    return lines_of(text, width, size, most, weight), size


class Heading:
    """Title and note above a picture, in as many lines as they need.

    Parameters
    ----------
    title : str or None
        None: nothing is written.
    notes : list of str
    width : float
        Of the picture, in inches.
    left : float, default=MARGIN
        From the edge.
    """

    def __init__(self, title: str | None, notes: list[str], width: float, left: float = MARGIN) -> None:
        self.left = left
        fits = max(1.0, width - left - MARGIN)
        self._lines = []
        if title:
            self._lines = [(line, 12.0, INK) for line in lines_of(title, fits, 12, 3)]
            self._lines += [(line, 8.5, MUTED) for line in lines_of("; ".join(notes), fits, 8.5, 6) if line]
        self.height = sum(size * LINE for _, size, _ in self._lines) + (0.3 if title else 0.12)

    def draw(self, picture: Picture) -> None:
        """Write it."""
        width, height = picture.get_size_inches()
        top = height - 0.14
        for line, size, colour in self._lines:
            write(picture, self.left / width, top / height, line, fontsize=size, color=colour, ha="left", va="top")
            top -= size * LINE


def add_colour_bar(picture: Picture, image: Any, axes: Any, name: str) -> Any:
    """Fill `axes` with the colour bar of an image."""
    bar = picture.colorbar(image, cax=axes)
    bar.set_label(name, fontsize=9, color=INK)
    bar.ax.tick_params(labelsize=8, colors=INK, length=2)
    bar.outline.set_edgecolor(RULE)
    return bar


def named(table: np.ndarray, class_of: np.ndarray, class_name: str) -> list[str]:
    """The name of each cluster; that of a number begins with what a class is called, "digit 4"."""
    front = f"{class_name} " if class_of.dtype.kind in "iuf" else ""
    return [name if name == "empty" else f"{front}{name}" for name in cluster_names(table, class_of)]


def unnamed(table: np.ndarray, class_of: np.ndarray, class_name: str) -> list[str]:
    """A note on classes that are the most frequent of no cluster; none if there is no such class."""
    filled = table.any(axis=1)
    lost = np.setdiff1d(np.arange(table.shape[1]), table.argmax(axis=1)[filled])
    if not len(lost):
        return []
    shown = ", ".join(map(str, class_of[lost[:20]]))
    front = f"{class_name} " if class_of.dtype.kind in "iuf" else ""
    return [f"no cluster is named {front}{shown}" + (f" and {len(lost) - 20} more" if len(lost) > 20 else "")]


def by_majority(counts: np.ndarray) -> np.ndarray:
    """Sort clusters by most frequent class, then by size, largest first; empty ones last."""
    size = counts.sum(axis=1)
    return np.lexsort((-size, counts.argmax(axis=1), size == 0))


def checked_counts(counts: ArrayLike, classes: ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
    """Counts (n_clusters, n_classes) and the class of each column, or a ValueError."""
    table = on_host(counts)
    if table.dtype.kind not in "iuf":
        raise ValueError(f"counts has dtype {table.dtype}, expected numbers of rows")
    if table.ndim != 2 or table.size == 0:
        raise ValueError(f"counts has shape {table.shape}, expected (n_clusters, n_classes)")
    class_of = np.arange(table.shape[1]) if classes is None else on_host(classes)
    if class_of.shape != (table.shape[1],):
        raise ValueError(f"classes has shape {class_of.shape}, expected ({table.shape[1]},): a class for each column")
    return table, class_of


def checked_centers(centers: ArrayLike) -> np.ndarray:
    """Centers (n_clusters, n_features) in float64, finite and real, or a ValueError."""
    values = on_host(centers)
    if np.iscomplexobj(values):
        raise ValueError("centers are complex, and pictures show real numbers: pass centers.real or abs(centers)")
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"centers has shape {values.shape}, expected (n_clusters, n_features)")
    if not np.isfinite(values).all():
        raise ValueError("centers contain NaN or infinity")
    return values
