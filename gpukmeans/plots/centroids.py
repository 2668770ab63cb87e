"""Centroids as images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from gpukmeans.evaluation.classes import majority_classes
from gpukmeans.intake.kinds import on_host

if TYPE_CHECKING:
    from gpukmeans.plots.picture import Picture
from gpukmeans.plots.figure import (
    HEAD,
    INK,
    MUTED,
    RULE,
    add_colour_bar,
    add_title,
    by_majority,
    checked_counts,
    new_picture,
    require_matplotlib,
)

_MOST_IMAGES = 100  # in the grid, above which the smallest clusters are left out


def centroid_grid(
    centers: ArrayLike,
    *,
    image_shape: tuple[int, int],
    sizes: Sequence[int] | None = None,
    counts: ArrayLike | None = None,
    classes: ArrayLike | None = None,
    class_name: str = "digit",
    title: str | None = None,
) -> Picture:
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
    >>> import numpy as np
    >>> from gpukmeans.plots import centroid_grid
    >>> figure = centroid_grid(np.eye(4), image_shape=(2, 2), sizes=[5, 6, 7, 8])
    >>> len(figure.axes)  # four images and the colour bar
    5
    """
    require_matplotlib()
    centers = on_host(centers)
    if np.iscomplexobj(centers):
        raise ValueError("centers are complex, and pictures show real numbers: pass centers.real or abs(centers)")
    centers = np.asarray(centers, dtype=np.float64)
    sizes = None if sizes is None else on_host(sizes).tolist()
    height, width = image_shape
    if centers.ndim != 2 or centers.shape[0] == 0 or centers.shape[1] != height * width:
        raise ValueError(f"centers has shape {centers.shape}, expected (n_clusters, {height} * {width})")
    n_clusters = len(centers)
    names, notes, order = [""] * n_clusters, list[str](), list(range(n_clusters))
    if counts is not None:
        table, class_of = checked_counts(counts, classes)
        if len(table) != n_clusters:
            raise ValueError(f"counts has {len(table)} rows, expected one for each of {n_clusters} centers")
        order = by_majority(table).tolist()
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
    cell, head, foot, bar = 1.3, HEAD if title else 0.12, 0.12, 0.95
    label = 0.48 if sizes is not None or counts is not None else 0.08
    figure_width, figure_height = n_columns * (cell + 0.14) + bar + 0.14, n_rows * (cell + label) + head + foot
    figure_width = max(figure_width, 5.0 if title else 0.0)
    figure = new_picture(figure_width, figure_height)

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
            spine.set(color=RULE, linewidth=0.8)
        below = -0.045
        if names[cluster]:
            axes.text(
                0.5, below, names[cluster], transform=axes.transAxes, ha="center", va="top",
                fontsize=9.5, fontweight="bold", color=INK,
            )  # fmt: skip
            below -= 0.15
        if sizes is not None:
            note = f"{sizes[cluster]:,}" + (f"  ({shares[cluster]:.0%})" if counts is not None else "")
            axes.text(
                0.5, below, note, transform=axes.transAxes, ha="center", va="top", fontsize=8, color=MUTED
            )  # fmt: skip

    bar_height = min(n_rows * (cell + label) - label, 3.2)
    bar_bottom = figure_height - head - bar_height
    bar_left = 0.14 + n_columns * (cell + 0.14) + 0.06
    bar_axes = figure.add_axes(
        (bar_left / figure_width, bar_bottom / figure_height, 0.13 / figure_width, bar_height / figure_height)
    )
    add_colour_bar(figure, image, bar_axes, "mean pixel value")
    if title:
        add_title(figure, 0.14, title, "; ".join(notes))
    return figure
