"""Centroids as images; those that are no images as a heat map of their features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpukmeans.intake.kinds import on_host
from gpukmeans.plots.features import feature_heatmap
from gpukmeans.plots.figure import (
    INK,
    LINE,
    MARGIN,
    MUTED,
    RULE,
    Heading,
    add_colour_bar,
    by_majority,
    checked_centers,
    checked_counts,
    fitted,
    named,
    new_picture,
    require_matplotlib,
    room,
    unnamed,
    write,
)

if TYPE_CHECKING:
    from gpukmeans.plots.picture import Picture

_MOST_IMAGES = 1024  # in the grid, above which the smallest clusters are left out
_FEW_IMAGES = 100  # which are drawn large
_THINNEST = 1 / 6  # height over width, or the other way round, of an image as it is drawn


def centroid_grid(
    centers: ArrayLike,
    *,
    image_shape: tuple[int, ...] | None = None,
    sizes: Sequence[int] | None = None,
    counts: ArrayLike | None = None,
    classes: ArrayLike | None = None,
    class_name: str = "digit",
    feature_names: ArrayLike | None = None,
    large: Literal["dark", "bright"] = "dark",
    title: str | None = None,
) -> Picture:
    """Draw the centroids as images, all on one scale; centers that are no images as a heat map of their features.

    With negative values zero is white, larger ones are red, smaller ones blue.  Of more than 1,024 clusters, the 1,024
    largest are drawn, and the picture says so.

    Parameters
    ----------
    centers : array-like of shape (n_clusters, n_features)
    image_shape : (int, int), (int, int, 3) or None, default=None
        Height and width in pixels, and 3 for red, green and blue.  None: the centers are no images.
    sizes : sequence of int of length n_clusters, optional
        Rows per cluster, written below each image.
    counts : array-like of shape (n_clusters, n_classes), optional
        From :func:`gpukmeans.evaluation.cluster_class_counts`. Each image is then named after the most frequent class
        of its cluster (see :func:`gpukmeans.evaluation.cluster_names`), with that class's share, and the images are
        sorted by it.
    classes : array-like of shape (n_classes,), optional
        The classes in `counts`' columns; ``0, 1, ...`` by default.
    class_name : str, default="digit"
        What a class is called.
    feature_names : array-like of shape (n_features,), optional
        For centers that are no images.
    large : {"dark", "bright"}, default="dark"
        How large values of grey images are drawn: dark, for ink on paper such as digits, or bright, for photographs.
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
        The shapes do not fit each other, or `large` is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans.plots import centroid_grid
    >>> picture = centroid_grid(np.eye(4), image_shape=(2, 2), sizes=[5, 6, 7, 8])
    >>> len(picture.axes[0].images)
    4
    """
    require_matplotlib()
    if large not in ("dark", "bright"):
        raise ValueError(f"large={large!r} should be 'dark' or 'bright'")
    if image_shape is None:
        return feature_heatmap(
            centers, feature_names=feature_names, sizes=sizes, counts=counts, classes=classes, class_name=class_name,
            title=title,
        )  # fmt: skip
    values = checked_centers(centers)
    n_clusters, shape = len(values), tuple(image_shape)
    if len(shape) not in (2, 3) or shape[2:] not in ((), (1,), (3,)):
        raise ValueError(f"image_shape={shape} should be (height, width), or (height, width, 3) for colours")
    if values.shape[1] != math.prod(shape):
        sides = " * ".join(map(str, shape))
        raise ValueError(f"centers has shape {values.shape}, expected (n_clusters, {sides})")
    names, notes, order = [""] * n_clusters, list[str](), list(range(n_clusters))
    below = None if sizes is None else [f"{size:,}" for size in on_host(sizes).tolist()]
    if counts is not None:
        table, class_of = checked_counts(counts, classes)
        if len(table) != n_clusters:
            raise ValueError(f"counts has {len(table)} rows, expected one for each of {n_clusters} centers")
        order = by_majority(table).tolist()
        names = named(table, class_of, class_name)
        shares = table.max(axis=1) / np.maximum(table.sum(axis=1), 1)
        sizes = table.sum(axis=1).tolist() if sizes is None else on_host(sizes).tolist()
        below = [f"{size:,}  ({share:.0%})" for size, share in zip(sizes, shares, strict=len(sizes) == n_clusters)]
        notes.append(f"below each: its most frequent {class_name}, its size and that {class_name}'s share of it")
        notes += unnamed(table, class_of, class_name)
    elif sizes is not None:
        notes.append("below each: its size")
    if sizes is not None and len(sizes) != n_clusters:
        raise ValueError(f"sizes has {len(sizes)} values, expected one for each of {n_clusters} centers")
    if n_clusters > _MOST_IMAGES:
        largest = np.argsort(np.zeros(n_clusters) if sizes is None else -np.asarray(sizes), kind="stable")
        shown = set(largest[:_MOST_IMAGES].tolist())
        order = [cluster for cluster in order if cluster in shown]
        notes.append(f"the {_MOST_IMAGES:,} largest of {n_clusters:,} clusters")

    images, scale, note = _on_one_scale(
        values.reshape(n_clusters, *shape[:2], *(shape[2:] if shape[2:] == (3,) else ())), large
    )
    notes += note
    small = len(order) > _FEW_IMAGES
    cell, gap, large_size, small_size = (0.7, 0.1, 6.5, 5.5) if small else (1.3, 0.14, 9.5, 8.0)
    ratio = min(max(shape[0] / shape[1], _THINNEST), 1 / _THINNEST)
    width, height = (cell, cell * ratio) if ratio <= 1 else (cell / ratio, cell)
    texts: dict[int, tuple[list[str], float]] = {}
    if counts is not None:
        texts = {
            cluster: fitted(names[cluster], cell + gap - 0.04, large_size, large_size - 3, 2, "bold")
            for cluster in order
        }
    name_height = max((len(lines) * large_size * LINE for lines, _ in texts.values()), default=0.0)
    label = 0.08 + name_height + (small_size * LINE if below else 0.0)
    n_columns = min(len(order), max(5, math.ceil(math.sqrt(len(order) * 1.6))))
    n_rows = math.ceil(len(order) / n_columns)
    grid_width, grid_height = n_columns * (cell + gap) - gap, n_rows * (height + label)
    bar = 0.95 if scale else 0.0
    figure_width = max(MARGIN + grid_width + bar + MARGIN, 5.0 if title else 0.0)
    heading = Heading(title, notes, figure_width)
    figure_height = max(grid_height, 1.1 if scale else 0.0) + heading.height + 0.12
    picture = new_picture(figure_width, figure_height)
    heading.draw(picture)

    bottom = figure_height - heading.height - grid_height
    axes = room(picture, MARGIN, bottom, grid_width, grid_height)
    image: Any = None
    frames = []
    for place, cluster in enumerate(order):
        row, column = divmod(place, n_columns)
        left = column * (cell + gap) + (cell - width) / 2
        low = grid_height - row * (height + label) - height
        image = axes.imshow(
            images[cluster], extent=(left, left + width, low, low + height), interpolation="nearest", aspect="auto",
            **scale,
        )  # fmt: skip
        frames.append([(left, low), (left + width, low), (left + width, low + height), (left, low + height)])
        middle, top = left + width / 2, low - 0.04
        lines, size = texts.get(cluster, ([], 0.0))
        for line in lines:
            write(axes, middle, top, line, ha="center", va="top", fontsize=size, fontweight="bold", color=INK)
            top -= large_size * LINE
        if below is not None:
            (text,), size = fitted(below[cluster], cell + gap - 0.04, small_size, 3.5)
            write(axes, middle, top, text, ha="center", va="top", fontsize=size, color=MUTED)
    from matplotlib.collections import PolyCollection

    axes.add_collection(PolyCollection(frames, facecolors="none", edgecolors=RULE, linewidths=0.8, clip_on=False))
    axes.set(xlim=(0, grid_width), ylim=(0, grid_height))
    axes.axis("off")
    if scale:
        bar_height = min(max(grid_height - label, 0.9), 3.2)
        bar_axes = room(
            picture, MARGIN + grid_width + 0.2, figure_height - heading.height - bar_height, 0.13, bar_height
        )
        add_colour_bar(picture, image, bar_axes, "mean pixel value")
    return picture


def _on_one_scale(images: NDArray[np.float64], large: str) -> tuple[NDArray[np.float64], dict[str, Any], list[str]]:
    """Images as they are drawn, the scale of their values (of colours none), and a note."""
    lowest, highest = float(images.min()), float(images.max())
    if images.ndim == 3:
        if lowest < 0.0:
            most = max(-lowest, highest)
            return images, {"cmap": "RdBu_r", "vmin": -most, "vmax": most}, []
        return images, {"cmap": "gray_r" if large == "dark" else "gray", "vmin": 0.0, "vmax": highest or 1.0}, []
    if lowest >= 0.0 and highest <= 255.0:
        return images / (1.0 if highest <= 1.0 else 255.0), {}, []
    return (images - lowest) / (highest - lowest), {}, [f"colours from {lowest:.4g} to {highest:.4g}"]
