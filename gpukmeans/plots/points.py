"""Rows as points of a plane, coloured by cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from gpukmeans.evaluation.classes import checked_labels
from gpukmeans.intake.kinds import on_host
from gpukmeans.plots.figure import (
    INK,
    LINE,
    MARGIN,
    Heading,
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


def point_map(
    points: ArrayLike,
    labels: ArrayLike,
    *,
    names: Sequence[str] | None = None,
    title: str | None = None,
) -> Picture:
    """Draw rows as points of a plane, coloured and marked by cluster, with the name of each cluster at its middle.

    Parameters
    ----------
    points : array-like of shape (n_samples, 2)
        Two coordinates of each row, such as two features or two principal components.
    labels : array-like of shape (n_samples,), int
        Cluster of each row.
    names : sequence of str, optional
        Of the clusters, such as ``name_clusters(...).names``; their numbers by default.  Where names would lie on each
        other, that of the larger cluster is written, and the picture says how many are not.
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
        The shapes do not fit each other, or a coordinate is not finite.

    Examples
    --------
    >>> from gpukmeans.plots import point_map
    >>> picture = point_map([[0, 0], [0, 1], [9, 9]], [0, 0, 1], names=["low", "high"])
    >>> [text.get_text() for text in picture.axes[0].texts]
    ['low', 'high']
    """
    require_matplotlib()
    from matplotlib.patheffects import withStroke

    xy = np.asarray(on_host(points), dtype=np.float64)
    clusters, n_clusters = checked_labels(labels, None)
    if xy.shape != (len(clusters), 2):
        raise ValueError(f"points has shape {xy.shape}, expected ({len(clusters)}, 2): a point for each label")
    if not np.isfinite(xy).all():
        raise ValueError("points contain NaN or infinity")
    if names is not None and len(names) < n_clusters:
        raise ValueError(f"names has {len(names)} entries, expected one for each of {n_clusters} clusters")
    sizes = np.bincount(clusters, minlength=n_clusters)
    low, high = xy.min(axis=0), xy.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    low, span = low - 0.03 * span, 1.06 * span
    sides = np.array([_SIDE, _SIDE])

    free: list[tuple[float, float, float, float]] = []
    placed: list[tuple[str, float, float, float]] = []
    filled = [int(cluster) for cluster in np.argsort(-sizes, kind="stable") if sizes[cluster]]
    for cluster in filled:
        (text,), size = fitted(str(cluster if names is None else names[cluster]), 1.4, 9.0, 7.0, weight="bold")
        half = np.array([width_of(text, size) * 0.58, size * LINE * 0.55])  # bold is wider
        middle = (np.median(xy[clusters == cluster], axis=0) - low) / span * sides
        x, y = np.clip(middle, half, sides - half).tolist()
        box = (x - half[0], y - half[1], x + half[0], y + half[1])
        if all(box[2] <= b[0] or b[2] <= box[0] or box[3] <= b[1] or b[3] <= box[1] for b in free):
            free.append(box)
            placed.append((text, x, y, size))
    notes = [f"{len(clusters):,} rows in {len(filled):,} clusters"]
    if lost := len(filled) - len(placed):
        notes.append(f"{lost:,} name{' is' if lost == 1 else 's are'} left out, where larger clusters have theirs")
    heading = Heading(title, notes, _SIDE + 2 * MARGIN)
    picture = new_picture(_SIDE + 2 * MARGIN, _SIDE + heading.height + MARGIN)
    heading.draw(picture)
    axes = room(picture, MARGIN, MARGIN, _SIDE, _SIDE)
    area = float(np.clip(60_000 / len(clusters), 2.0, 30.0))
    on_page = (xy - low) / span * sides
    for cluster in filled:
        colour, mark = cluster_style(cluster)
        some = on_page[clusters == cluster]
        axes.scatter(*some.T, s=area, c=colour, marker=mark, alpha=0.7, linewidths=0, rasterized=len(clusters) > 5000)
    for text, x, y, size in placed:
        written = write(axes, x, y, text, ha="center", va="center", fontsize=size, fontweight="bold", color=INK)
        written.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
    axes.set(xlim=(0, _SIDE), ylim=(0, _SIDE), xticks=[], yticks=[])
    return picture
