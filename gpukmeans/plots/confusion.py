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
    INK,
    LINE,
    MARGIN,
    RULE,
    Heading,
    add_colour_bar,
    by_majority,
    checked_counts,
    fitted,
    lines_of,
    new_picture,
    require_matplotlib,
    room,
    unnamed,
    width_of,
    write,
)

_MOST_COLUMNS = 30  # of the heat map, above which clusters of one class share a column
_WIDEST = 18.0  # inches of the map, above which its cells become smaller


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
        x_label = f"{class_name} given: the most frequent one in the cluster ({len(table):,} clusters)"
    else:
        order = by_majority(table)
        cells, column_class = table[order].T, majority[order]
        x_label = f"cluster, named after its most frequent {class_name}"
    n_rows, n_columns = cells.shape
    right_share = table.max(axis=1).sum() / max(1, table.sum())
    shares = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)

    widest = max(width_of(f"{number:,}", 8) for number in {int(cells.max()), int(cells.min())})
    room_for_all = min(_WIDEST / n_columns, _WIDEST / n_rows)
    cell_width, cell_height = min(max(0.56, widest + 0.12), max(room_for_all, 0.14)), min(0.46, max(room_for_all, 0.14))
    cell_height = max(cell_height, 1.5 / n_rows)  # beside a map of one class the colour bar still has room
    size = min(9.0, 0.8 * cell_height / LINE)  # of the names of classes, which must not overlap
    rows = [fitted(str(name), 2.2, size, 0.75 * size)[0][0] for name in class_of]
    columns = [fitted(str(class_of[index]), 1.6, size, 0.75 * size)[0][0] for index in column_class]
    across = all(width_of(name, size) < cell_width - 0.04 for name in columns)
    left = 0.5 + max(width_of(name, size) for name in rows)
    map_width, map_height = n_columns * cell_width, n_rows * cell_height
    figure_width = max(left + map_width + 1.15, 4.6)
    below = lines_of(x_label, figure_width - left - MARGIN, 9.5, 3)
    foot = size * LINE if across else max(width_of(name, size) for name in columns) + 0.05
    foot += 0.25 + len(below) * 9.5 * LINE
    notes = [f"framed: counted as right ({right_share:.1%} of {table.sum():,})", *unnamed(table, class_of, class_name)]
    heading = Heading(title, notes, figure_width)
    figure_height = heading.height + 0.08 + map_height + foot
    picture = new_picture(figure_width, figure_height)
    heading.draw(picture)

    bottom = figure_height - heading.height - 0.08 - map_height
    axes = room(picture, left, bottom, map_width, map_height)
    highest = max(0.1, math.ceil(10 * float(shares.max())) / 10)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=highest, aspect="auto", interpolation="nearest")
    if cell_width >= 0.3 and cell_height >= 0.14:
        for row in range(n_rows):
            for column in range(n_columns):
                number = cells[row, column]
                dark = shares[row, column] > 0.55 * highest
                colour = "white" if dark else INK if number else RULE
                (text,), number_size = fitted(f"{number:,}", cell_width - 0.04, min(8.0, size), 3.5)
                write(axes, column, row, text, ha="center", va="center", fontsize=number_size, color=colour)
    for column in range(n_columns):
        corner = (column - 0.47, column_class[column] - 0.47)
        axes.add_patch(Rectangle(corner, 0.94, 0.94, fill=False, edgecolor=FRAME, linewidth=1.8, zorder=4))
    axes.set_xticks(range(n_columns), columns, rotation=0 if across else 90)
    axes.set_yticks(range(n_rows), rows)
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_parse_math(False)
    # A long label centered under a narrow map would leave the picture.
    where: Literal["center", "left"] = "center" if n_columns > 4 and len(below) == 1 else "left"
    axes.set_xlabel("\n".join(below), fontsize=9.5, color=INK, labelpad=6, loc=where, parse_math=False)
    (beside,) = lines_of(f"true {class_name}", map_height, 9.5)
    axes.set_ylabel(beside, fontsize=9.5, color=INK, parse_math=False)
    axes.tick_params(length=0, labelsize=size, colors=INK)
    if cell_width > 0.2:
        axes.set_xticks(np.arange(n_columns + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(n_rows + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1)
        axes.tick_params(which="minor", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    bar_axes = room(picture, left + map_width + 0.2, bottom, 0.15, map_height)
    (beside,) = lines_of(f"share of the true {class_name}", map_height, 9)
    bar = add_colour_bar(picture, image, bar_axes, beside)
    bar.ax.yaxis.set_major_formatter("{x:.0%}")
    return picture
