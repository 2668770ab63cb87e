"""Which class went to which cluster, as a heat map."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from gpukmeans.plots.picture import Picture
from gpukmeans.plots.figure import (
    FRAME,
    HEAD,
    INK,
    RULE,
    add_colour_bar,
    add_title,
    by_majority,
    checked_counts,
    new_picture,
    require_matplotlib,
)

_MOST_COLUMNS = 30  # of the heat map, above which clusters of one class share a column


def confusion_heatmap(
    counts: ArrayLike,
    *,
    classes: ArrayLike | None = None,
    class_name: str = "digit",
    title: str | None = None,
) -> Picture:
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
    gpukmeans.plots.picture.Picture
        A figure of matplotlib that notebooks show and that has a method `save` for PNG, SVG and PDF.

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

    table, class_of = checked_counts(counts, classes)
    majority = table.argmax(axis=1)
    if len(table) > _MOST_COLUMNS:
        cells = np.zeros((table.shape[1], table.shape[1]), dtype=np.int64)
        np.add.at(cells, majority, table)
        cells, column_class = cells.T, np.arange(table.shape[1])
        x_label = f"{class_name} given: the most frequent one in the cluster ({len(table)} clusters)"
    else:
        order = by_majority(table)
        cells, column_class = table[order].T, majority[order]
        x_label = f"cluster, named after its most frequent {class_name}"
    n_rows, n_columns = cells.shape
    right_share = table.max(axis=1).sum() / max(1, table.sum())
    shares = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)

    cell_width, cell_height, left, right, top, bottom = 0.56, 0.46, 0.75, 1.15, HEAD if title else 0.2, 0.7
    figure_width, figure_height = n_columns * cell_width + left + right, n_rows * cell_height + top + bottom
    figure_width = max(figure_width, 4.6)
    figure = new_picture(figure_width, figure_height)
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
            colour = "white" if dark else INK if number else RULE
            axes.text(column, row, f"{number:,}", ha="center", va="center", fontsize=8, color=colour)
    for column in range(n_columns):
        corner = (column - 0.47, column_class[column] - 0.47)
        axes.add_patch(Rectangle(corner, 0.94, 0.94, fill=False, edgecolor=FRAME, linewidth=1.8, zorder=4))
    axes.set_xticks(range(n_columns), [str(class_of[index]) for index in column_class])
    axes.set_yticks(range(n_rows), [str(name) for name in class_of])
    # A long label centered under a narrow map would leave the picture.
    where: Literal["center", "left"] = "center" if n_columns > 4 else "left"
    axes.set_xlabel(x_label, fontsize=9.5, color=INK, labelpad=6, loc=where)
    axes.set_ylabel(f"true {class_name}", fontsize=9.5, color=INK)
    axes.tick_params(length=0, labelsize=9, colors=INK)
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
    bar = add_colour_bar(figure, image, bar_axes, f"share of the true {class_name}")
    bar.ax.yaxis.set_major_formatter("{x:.0%}")
    if title:
        add_title(figure, left, title, f"framed: counted as right ({right_share:.1%} of {table.sum():,})")
    return figure
