"""Pictures of a clustering: its centroids as images, and which class went to which cluster.

matplotlib is imported when a picture is made, never before, and only through its object-oriented interface: pyplot's
current figure, backend and settings stay as they are.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from gpukmeans.arrays.on_device import host_copy
from gpukmeans.evaluation import majority_classes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["centroid_grid", "confusion_heatmap", "require_matplotlib", "save_png"]

_INK, _MUTED, _RULE, _FRAME = "#1a1a1a", "#6b6b6b", "#c8c8c8", "#e07b00"
_HEAD = 0.75  # inches above the picture for title and note
_MOST_COLUMNS = 30  # of the heat map, above which clusters of one class share a column
_MOST_IMAGES = 100  # in the grid, above which the smallest clusters are left out


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


def centroid_grid(
    centers: ArrayLike,
    *,
    image_shape: tuple[int, int],
    sizes: Sequence[int] | None = None,
    counts: ArrayLike | None = None,
    classes: ArrayLike | None = None,
    class_name: str = "digit",
    title: str | None = None,
) -> Figure:
    """Draw the centroids as images, dark where their pixels are large, all on one scale.

    Of more than 100 clusters, the 100 largest are drawn, and the picture says so.

    Parameters
    ----------
    centers : array-like of shape (n_clusters, height * width)
    image_shape : (int, int)
        Height and width in pixels.
    sizes : sequence of int of length n_clusters, optional
        Rows per cluster, written below each image.
    counts : array-like of shape (n_clusters, n_classes), optional
        From :func:`gpukmeans.evaluation.cluster_class_counts`. Each image is then named after the most frequent class
        of its cluster, with that class's share, and the images are sorted by it.
    classes : array-like of shape (n_classes,), optional
        The classes in `counts`' columns; ``0, 1, ...`` by default.
    class_name : str, default="digit"
        What a class is called.
    title : str, optional
        Above the grid.

    Returns
    -------
    matplotlib.figure.Figure
        With an Agg canvas; see :func:`save_png`.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError
        The shapes do not fit each other.

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans.plots import centroid_grid
    >>> figure = centroid_grid(np.eye(4), image_shape=(2, 2), sizes=[5, 6, 7, 8])
    >>> len(figure.axes)  # four images and the colour bar
    5
    """
    require_matplotlib()
    centers = np.asarray(host_copy(centers), dtype=np.float64)
    sizes = None if sizes is None else np.asarray(host_copy(sizes)).tolist()
    height, width = image_shape
    if centers.ndim != 2 or centers.shape[0] == 0 or centers.shape[1] != height * width:
        raise ValueError(f"centers has shape {centers.shape}, expected (n_clusters, {height} * {width})")
    n_clusters = len(centers)
    names, notes, order = [""] * n_clusters, list[str](), list(range(n_clusters))
    if counts is not None:
        table, class_of = _checked_counts(counts, classes)
        if len(table) != n_clusters:
            raise ValueError(f"counts has {len(table)} rows, expected one for each of {n_clusters} centers")
        order = _by_majority(table).tolist()
        names = [f"{class_name} {name}" for name in majority_classes(table, class_of)]
        shares = table.max(axis=1) / np.maximum(table.sum(axis=1), 1)
        sizes = table.sum(axis=1).tolist() if sizes is None else sizes
        notes.append(f"below each: its most frequent {class_name}, its size and that {class_name}'s share of it")
    elif sizes is not None:
        notes.append("below each: its size")
    if sizes is not None and len(sizes) != n_clusters:
        raise ValueError(f"sizes has {len(sizes)} values, expected one for each of {n_clusters} centers")

    if n_clusters > _MOST_IMAGES:
        largest = np.argsort(np.zeros(n_clusters) if sizes is None else -np.asarray(sizes), kind="stable")
        shown = set(largest[:_MOST_IMAGES].tolist())
        order = [cluster for cluster in order if cluster in shown]
        notes.append(f"the {_MOST_IMAGES} largest of {n_clusters:,} clusters")

    n_columns = min(len(order), max(5, math.ceil(math.sqrt(len(order) * 1.6))))
    n_rows = math.ceil(len(order) / n_columns)
    cell, head, foot, bar = 1.3, _HEAD if title else 0.12, 0.12, 0.95
    label = 0.48 if sizes is not None or counts is not None else 0.08
    figure_width, figure_height = n_columns * (cell + 0.14) + bar + 0.14, n_rows * (cell + label) + head + foot
    figure_width = max(figure_width, 5.0 if title else 0.0)
    figure = _figure(figure_width, figure_height)

    lowest, highest = min(0.0, float(centers.min())), float(centers.max())
    image = None
    for place, cluster in enumerate(order):
        row, column = divmod(place, n_columns)
        left = 0.14 + column * (cell + 0.14)
        bottom = figure_height - head - (row + 1) * (cell + label) + label
        axes = figure.add_axes((left / figure_width, bottom / figure_height, cell / figure_width, cell / figure_height))
        image = axes.imshow(
            centers[cluster].reshape(height, width), cmap="gray_r", vmin=lowest, vmax=highest, interpolation="nearest"
        )
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(color=_RULE, linewidth=0.8)
        below = -0.045
        if names[cluster]:
            axes.text(
                0.5, below, names[cluster], transform=axes.transAxes, ha="center", va="top",
                fontsize=9.5, fontweight="bold", color=_INK,
            )  # fmt: skip
            below -= 0.15
        if sizes is not None:
            note = f"{sizes[cluster]:,}" + (f"  ({shares[cluster]:.0%})" if counts is not None else "")
            axes.text(
                0.5, below, note, transform=axes.transAxes, ha="center", va="top", fontsize=8, color=_MUTED
            )  # fmt: skip

    bar_height = min(n_rows * (cell + label) - label, 3.2)
    bar_bottom = figure_height - head - bar_height
    bar_left = 0.14 + n_columns * (cell + 0.14) + 0.06
    bar_axes = figure.add_axes(
        (bar_left / figure_width, bar_bottom / figure_height, 0.13 / figure_width, bar_height / figure_height)
    )
    _colour_bar(figure, image, bar_axes, "mean pixel value")
    if title:
        _title(figure, 0.14, title, "; ".join(notes))
    return figure


def confusion_heatmap(
    counts: ArrayLike,
    *,
    classes: ArrayLike | None = None,
    class_name: str = "digit",
    title: str | None = None,
) -> Figure:
    """Draw how the rows of each class spread over the clusters.

    A column is a cluster, named after its most frequent class and sorted by it; with more than 30 clusters, a column
    holds all clusters of one such class. A row is a true class. Cells hold numbers of rows; their colour is the share
    of the true class, and those counted as right have a frame.

    Parameters
    ----------
    counts : array-like of shape (n_clusters, n_classes)
        From :func:`gpukmeans.evaluation.cluster_class_counts`.
    classes : array-like of shape (n_classes,), optional
        The classes in `counts`' columns; ``0, 1, ...`` by default.
    class_name : str, default="digit"
        What a class is called.
    title : str, optional
        Above the map.

    Returns
    -------
    matplotlib.figure.Figure
        With an Agg canvas; see :func:`save_png`.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError
        The shapes do not fit each other.

    Examples
    --------
    >>> from gpukmeans.plots import confusion_heatmap
    >>> figure = confusion_heatmap([[5, 1], [0, 4], [3, 0]], classes=[7, 8])
    >>> [label.get_text() for label in figure.axes[0].get_xticklabels()]
    ['7', '7', '8']
    """
    require_matplotlib()
    from matplotlib.patches import Rectangle

    table, class_of = _checked_counts(counts, classes)
    majority = table.argmax(axis=1)
    if len(table) > _MOST_COLUMNS:
        cells = np.zeros((table.shape[1], table.shape[1]), dtype=np.int64)
        np.add.at(cells, majority, table)
        cells, column_class = cells.T, np.arange(table.shape[1])
        x_label = f"{class_name} given: the most frequent one in the cluster ({len(table)} clusters)"
    else:
        order = _by_majority(table)
        cells, column_class = table[order].T, majority[order]
        x_label = f"cluster, named after its most frequent {class_name}"
    n_rows, n_columns = cells.shape
    right_share = table.max(axis=1).sum() / max(1, table.sum())
    shares = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)

    cell_width, cell_height, left, right, top, bottom = 0.56, 0.46, 0.75, 1.15, _HEAD if title else 0.2, 0.7
    figure_width, figure_height = n_columns * cell_width + left + right, n_rows * cell_height + top + bottom
    figure_width = max(figure_width, 4.6)
    figure = _figure(figure_width, figure_height)
    map_width, map_height = n_columns * cell_width, n_rows * cell_height
    axes = figure.add_axes(
        (left / figure_width, bottom / figure_height, map_width / figure_width, map_height / figure_height)
    )
    highest = max(0.1, math.ceil(10 * float(shares.max())) / 10)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=highest, aspect="auto", interpolation="nearest")
    for row in range(n_rows):
        for column in range(n_columns):
            number = cells[row, column]
            dark = shares[row, column] > 0.55 * highest
            colour = "white" if dark else _INK if number else _RULE
            axes.text(column, row, f"{number:,}", ha="center", va="center", fontsize=8, color=colour)
    for column in range(n_columns):
        corner = (column - 0.47, column_class[column] - 0.47)
        axes.add_patch(Rectangle(corner, 0.94, 0.94, fill=False, edgecolor=_FRAME, linewidth=1.8, zorder=4))
    axes.set_xticks(range(n_columns), [str(class_of[index]) for index in column_class])
    axes.set_yticks(range(n_rows), [str(name) for name in class_of])
    # A long label centered under a narrow map would leave the picture.
    where: Literal["center", "left"] = "center" if n_columns > 4 else "left"
    axes.set_xlabel(x_label, fontsize=9.5, color=_INK, labelpad=6, loc=where)
    axes.set_ylabel(f"true {class_name}", fontsize=9.5, color=_INK)
    axes.tick_params(length=0, labelsize=9, colors=_INK)
    axes.set_xticks(np.arange(n_columns + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(n_rows + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1)
    axes.tick_params(which="minor", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)

    bar_axes = figure.add_axes(
        (
            (left + map_width + 0.2) / figure_width,
            bottom / figure_height,
            0.15 / figure_width,
            map_height / figure_height,
        )
    )
    bar = _colour_bar(figure, image, bar_axes, f"share of the true {class_name}")
    bar.ax.yaxis.set_major_formatter("{x:.0%}")
    if title:
        _title(figure, left, title, f"framed: counted as right ({right_share:.1%} of {table.sum():,})")
    return figure


def save_png(figure: Figure, path: str | os.PathLike[str], *, dpi: int = 150) -> Path:
    """Write a figure as a PNG, whole or not at all.

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
    path = Path(path)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_bytes(buffer.getvalue())
        os.replace(partial, path)
    except BaseException:  # Ctrl-C included
        partial.unlink(missing_ok=True)
        raise
    return path


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _title(figure: Figure, left: float, title: str, note: str) -> None:
    width, height = figure.get_size_inches()
    common: dict[str, Any] = {"ha": "left", "va": "top"}
    figure.text(left / width, 1 - 0.15 / height, title, fontsize=12, color=_INK, **common)
    figure.text(left / width, 1 - 0.42 / height, note, fontsize=8.5, color=_MUTED, **common)


def _colour_bar(figure: Figure, image: Any, axes: Any, name: str) -> Any:
    bar = figure.colorbar(image, cax=axes)
    bar.set_label(name, fontsize=9, color=_INK)
    bar.ax.tick_params(labelsize=8, colors=_INK, length=2)
    bar.outline.set_edgecolor(_RULE)
    return bar


def _by_majority(counts: np.ndarray) -> np.ndarray:
    """Sort clusters by most frequent class, then by size, largest first; empty ones last."""
    size = counts.sum(axis=1)
    return np.lexsort((-size, counts.argmax(axis=1), size == 0))


def _checked_counts(counts: ArrayLike, classes: ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
    table = np.asarray(host_copy(counts))
    if table.ndim != 2 or table.size == 0:
        raise ValueError(f"counts has shape {table.shape}, expected (n_clusters, n_classes)")
    class_of = np.arange(table.shape[1]) if classes is None else np.asarray(host_copy(classes))
    if class_of.shape != (table.shape[1],):
        raise ValueError(f"classes has shape {class_of.shape}, expected ({table.shape[1]},): a class for each column")
    return table, class_of
