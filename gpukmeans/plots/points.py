"""Rows as points of a plane, coloured by cluster, class or a number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpukmeans.arrays.types import F64
from gpukmeans.evaluation.classes import checked_labels
from gpukmeans.intake.kinds import on_host
from gpukmeans.plots.figure import (
    INK,
    LINE,
    MARGIN,
    RULE,
    Heading,
    add_colour_bar,
    fitted,
    new_picture,
    require_matplotlib,
    room,
    width_of,
    write,
)

if TYPE_CHECKING:
    from gpukmeans.plots.picture import Picture

#: Ten hues that differ in lightness, too, and ten marks: a hundred clusters look different.
HUES = (
    "#1f77b4", "#e07b00", "#2ca02c", "#d62728", "#7b4fb5", "#8c564b", "#e377c2", "#4d4d4d", "#a8a800", "#00a5b8",
)  # fmt: skip
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")

_SIDE = 7.0  # inches, of the map


def cluster_style(cluster: int) -> tuple[str, str]:
    """Colour and mark of a cluster; those of the first hundred differ.

    Examples
    --------
    >>> from gpukmeans.plots.points import cluster_style
    >>> cluster_style(0), cluster_style(10)
    (('#1f77b4', 'o'), ('#1f77b4', 's'))
    """
    return HUES[cluster % len(HUES)], MARKS[cluster // len(HUES) % len(MARKS)]


def checked_points(points: ArrayLike, n_samples: int) -> F64:
    """Points (n_samples, 2), finite, in the unit square, with a margin of 3 %."""
    xy = np.asarray(on_host(points), dtype=np.float64)
    if xy.shape != (n_samples, 2):
        raise ValueError(f"points has shape {xy.shape}, expected ({n_samples}, 2): a point for each label")
    if not np.isfinite(xy).all():
        raise ValueError("points contain NaN or infinity")
    low, high = xy.min(axis=0), xy.max(axis=0)
    return ((xy - low) / np.where(high > low, high - low, 1.0) + 0.03) / 1.06


def draw_clusters(axes: Any, on_page: F64, labels: NDArray[np.int64], area: float) -> list[int]:
    """Draw points in the style of their cluster, small clusters last; returns the clusters, the largest first."""
    sizes = np.bincount(labels + 1)
    order = [int(cluster) for cluster in np.argsort(-sizes, kind="stable") - 1 if sizes[cluster + 1]]
    for cluster in order:
        colour, mark = cluster_style(cluster) if cluster >= 0 else (RULE, "o")
        some = on_page[labels == cluster]
        axes.scatter(*some.T, s=area, c=colour, marker=mark, alpha=0.7, linewidths=0, rasterized=len(labels) > 5000)
    return [cluster for cluster in order if cluster >= 0]


def point_map(
    points: ArrayLike,
    labels: ArrayLike,
    *,
    values: ArrayLike | None = None,
    values_name: str = "margin",
    names: Sequence[str] | None = None,
    title: str | None = None,
) -> Picture:
    """Draw rows as points of a plane, coloured by cluster, by class or by a number, with names at their middles.

    Parameters
    ----------
    points : array-like of shape (n_samples, 2)
        Two coordinates of each row, such as two features, or those of :func:`gpukmeans.evaluation.layout`.
    labels : array-like of shape (n_samples,)
        Cluster of each row, whole numbers from 0, or -1 for noise, which is grey and has no name; or the class of each
        row, of any other kind that sorts.
    values : array-like of shape (n_samples,), optional
        A number of each row, such as its margin, that gives the colour instead; low ones are drawn last.
    values_name : str, default="margin"
        What it is called.
    names : sequence of str, optional
        Of the clusters, such as ``name_clusters(...).names``; their numbers, or the classes, by default.  Where names
        would lie on each other, that of the larger cluster is written, and the picture says how many are not.
    title : str, optional
        Above the map.

    Returns
    -------
    gpukmeans.plots.picture.Picture

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError
        The shapes do not fit each other, or a coordinate or value is not finite.

    Examples
    --------
    >>> from gpukmeans.plots import point_map
    >>> picture = point_map([[0, 0], [0, 1], [9, 9]], [0, 0, 1], names=["low", "high"])
    >>> [text.get_text() for text in picture.axes[0].texts]
    ['low', 'high']
    """
    require_matplotlib()
    from matplotlib.patheffects import withStroke

    given = on_host(labels)
    what = "clusters"
    if given.ndim == 1 and given.size and (given.dtype.kind not in "iu" or given.min() < -1):
        what, (classes, given) = "classes", np.unique(given, return_inverse=True)
        names = [str(name) for name in classes] if names is None else names
    clusters, n_clusters = checked_labels(given.astype(np.int64) + 1 if given.dtype.kind in "iu" else given, None)
    clusters, n_clusters = clusters - 1, n_clusters - 1
    on_page = _SIDE * checked_points(points, len(clusters))
    if names is not None and len(names) < n_clusters:
        raise ValueError(f"names has {len(names)} entries, expected one for each of {n_clusters} {what}")
    numbers = None if values is None else np.asarray(on_host(values), dtype=np.float64)
    if numbers is not None and (numbers.shape != clusters.shape or not np.isfinite(numbers).all()):
        raise ValueError(f"values has shape {numbers.shape}, expected ({len(clusters)},): a finite number for each row")

    bar = 0.95 if numbers is not None else 0.0
    width = _SIDE + 2 * MARGIN + bar
    n_noise, n_filled = int((clusters < 0).sum()), len(np.unique(clusters[clusters >= 0]))
    notes = [f"{len(clusters):,} rows in {n_filled:,} {what}"]
    if n_noise:
        notes.append(f"{n_noise:,} of them noise (grey)")
    placed = _placed_names(on_page, clusters, names)
    if lost := n_filled - len(placed):
        notes.append(f"{lost:,} name{' is' if lost == 1 else 's are'} left out, where larger {what} have theirs")
    heading = Heading(title, notes, width)
    picture = new_picture(width, _SIDE + heading.height + MARGIN)
    heading.draw(picture)
    axes = room(picture, MARGIN, MARGIN, _SIDE, _SIDE)
    area = float(np.clip(60_000 / len(clusters), 2.0, 30.0))
    if numbers is None:
        draw_clusters(axes, on_page, clusters, area)
    else:
        order = np.argsort(-numbers, kind="stable")
        points_drawn = axes.scatter(
            *on_page[order].T, s=area, c=numbers[order], cmap="viridis_r", vmax=float(np.quantile(numbers, 0.99)),
            alpha=0.7, linewidths=0, rasterized=len(clusters) > 5000,
        )  # fmt: skip
        add_colour_bar(picture, points_drawn, room(picture, MARGIN + _SIDE + 0.2, MARGIN, 0.13, 3.2), values_name)
    for text, x, y, size in placed:
        written = write(axes, x, y, text, ha="center", va="center", fontsize=size, fontweight="bold", color=INK)
        written.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
    axes.set(xlim=(0, _SIDE), ylim=(0, _SIDE), xticks=[], yticks=[])
    return picture


def _placed_names(
    on_page: F64, clusters: NDArray[np.int64], names: Sequence[str] | None
) -> list[tuple[str, float, float, float]]:
    """Names, each at the point nearest to the median, with their size; none lies on that of a larger cluster."""
    free: list[tuple[float, float, float, float]] = []
    placed: list[tuple[str, float, float, float]] = []
    sizes = np.bincount(clusters[clusters >= 0])
    for cluster in (int(c) for c in np.argsort(-sizes, kind="stable") if sizes[c]):
        (text,), size = fitted(str(cluster if names is None else names[cluster]), 1.4, 9.0, 7.0, weight="bold")
        half = np.array([width_of(text, size) * 0.58, size * LINE * 0.55])  # bold is wider
        some = on_page[clusters == cluster]
        middle = some[np.square(some - np.median(some, axis=0)).sum(axis=1).argmin()]  # a point, also of an arc
        x, y = np.clip(middle, half, _SIDE - half).tolist()
        box = (x - half[0], y - half[1], x + half[0], y + half[1])
        if all(box[2] <= b[0] or b[2] <= box[0] or box[3] <= b[1] or b[3] <= box[1] for b in free):
            free.append(box)
            placed.append((text, x, y, size))
    return placed
