"""What all pictures share: colours, a figure without pyplot, title and colour bar, and writing it to a file.

matplotlib is imported when a picture is made, never before, and only through its object-oriented interface: pyplot's
current figure, backend and settings stay as they are.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from gpukmeans.intake.kinds import on_host
from gpukmeans.writing import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gpukmeans.plots.picture import Picture


INK, MUTED, RULE, FRAME = "#1a1a1a", "#6b6b6b", "#c8c8c8", "#e07b00"


HEAD = 0.75  # inches above the picture for title and note


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


def add_title(figure: Figure, left: float, title: str, note: str) -> None:
    """Write title and note above the picture, `left` inches from the edge."""
    width, height = figure.get_size_inches()
    common: dict[str, Any] = {"ha": "left", "va": "top"}
    figure.text(left / width, 1 - 0.15 / height, title, fontsize=12, color=INK, **common)
    figure.text(left / width, 1 - 0.42 / height, note, fontsize=8.5, color=MUTED, **common)


def add_colour_bar(figure: Figure, image: Any, axes: Any, name: str) -> Any:
    """Fill `axes` with the colour bar of an image."""
    bar = figure.colorbar(image, cax=axes)
    bar.set_label(name, fontsize=9, color=INK)
    bar.ax.tick_params(labelsize=8, colors=INK, length=2)
    bar.outline.set_edgecolor(RULE)
    return bar


def by_majority(counts: np.ndarray) -> np.ndarray:
    """Sort clusters by most frequent class, then by size, largest first; empty ones last."""
    size = counts.sum(axis=1)
    return np.lexsort((-size, counts.argmax(axis=1), size == 0))


def checked_counts(counts: ArrayLike, classes: ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
    """Counts (n_clusters, n_classes) and the class of each column, or a ValueError."""
    table = on_host(counts)
    if table.ndim != 2 or table.size == 0:
        raise ValueError(f"counts has shape {table.shape}, expected (n_clusters, n_classes)")
    class_of = np.arange(table.shape[1]) if classes is None else on_host(classes)
    if class_of.shape != (table.shape[1],):
        raise ValueError(f"classes has shape {class_of.shape}, expected ({table.shape[1]},): a class for each column")
    return table, class_of
