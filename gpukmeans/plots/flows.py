"""Where the rows of each cluster go in another clustering, as bands between two columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64
from gpukmeans.plots.figure import (
    INK,
    LINE,
    MARGIN,
    MUTED,
    Heading,
    fitted,
    new_picture,
    require_matplotlib,
    room,
    width_of,
    write,
)
from gpukmeans.plots.points import HUES

if TYPE_CHECKING:
    from gpukmeans.evaluation.flows import Flow
    from gpukmeans.plots.picture import Picture

_BAR, _BETWEEN = 0.18, 4.6  # inches: the width of a column, and of the bands
_LEAST, _MOST = 4.0, 14.0  # height of the columns
_NAME, _WIDEST = 8.5, 1.7  # of a name: points, and inches


def flow_figure(
    flow: Flow,
    *,
    before: str = "before",
    after: str = "after",
    names_before: Sequence[str] | None = None,
    names_after: Sequence[str] | None = None,
    title: str | None = None,
) -> Picture:
    """Draw two clusterings as columns, whose clusters are as high as they have rows, and the rows as bands between.

    Bands have the colour of their cluster before; those between clusters that belong together are darker.

    Parameters
    ----------
    flow : Flow
        From :func:`gpukmeans.evaluation.flow`.
    before, after : str
        What the clusterings are called.
    names_before, names_after : sequence of str, optional
        Of the clusters, such as ``name_clusters(...).names``; their numbers by default.  Clusters too low for a name
        have none, and the picture says how many.
    title : str, optional
        Above the diagram.

    Returns
    -------
    gpukmeans.plots.picture.Picture
        A figure of matplotlib that notebooks show and that has a method `save` for PNG, SVG and PDF.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError
        There are fewer names than clusters.

    Examples
    --------
    >>> from gpukmeans.evaluation import flow
    >>> from gpukmeans.plots import flow_figure
    >>> picture = flow_figure(flow([0, 0, 0, 1, 1, 1], [2, 2, 0, 0, 1, 1]), before="seed 0", after="seed 1")
    >>> [text.get_text() for text in picture.axes[0].texts]
    ['seed 0', '0', '1', 'seed 1', '2', '0', '1']
    """
    require_matplotlib()
    from matplotlib.collections import PolyCollection

    counts = flow.counts
    sizes, sizes_after = counts.sum(axis=1), counts.sum(axis=0)
    most = max(np.count_nonzero(sizes), np.count_nonzero(sizes_after))
    height = float(np.clip(0.34 * most, _LEAST, _MOST))
    gap = min(0.08, 0.25 * height / most)
    one = _column(names_before, sizes, flow.order_before, height, gap)
    other = _column(names_after, sizes_after, flow.order_after, height, gap)
    label = max(width_of(text, _NAME) for text in (*one.texts.values(), *other.texts.values())) + 0.1
    width = 2 * (MARGIN + label + _BAR) + _BETWEEN
    notes = [f"{flow.stayed:.1%} of {sizes.sum():,} rows stay in the cluster that matches theirs (dark bands)"]
    notes.append(f"adjusted Rand index {flow.adjusted_rand:.3f}")
    if left_out := sum(len(column.edges) - len(column.texts) for column in (one, other)):
        notes.append(f"{left_out} name{' is' if left_out == 1 else 's are'} left out for lack of room")
    heading = Heading(title, notes, width)
    picture = new_picture(width, height + heading.height + 0.3 + MARGIN)
    heading.draw(picture)
    axes = room(picture, 0, MARGIN, width, height + 0.3)
    axes.set(xlim=(0, width), ylim=(0, height + 0.3))
    axes.axis("off")

    colours = {i: HUES[i % len(HUES)] for i in range(len(counts))}
    colours_after = {j: colours[i] for i, j in flow.matches.tolist()}
    left = MARGIN + label + _BAR  # where the bands begin
    for column, colour, edge, sign, name in (
        (one, colours, left, -1, before),
        (other, colours_after, left + _BETWEEN, 1, after),
    ):
        aside, inside = ("right", "left") if sign < 0 else ("left", "right")
        (head,), size = fitted(name, _BETWEEN / 2, 9.5, 7.0)
        write(axes, edge, height + 0.1, head, ha=inside, fontsize=size, color=MUTED)
        for j, (high, low) in column.edges.items():
            axes.fill_between([edge, edge + sign * _BAR], low, high, color=colour.get(j, MUTED), linewidth=0)
        for j, text in column.texts.items():
            at, (_, size) = edge + sign * (_BAR + 0.06), fitted(text, _WIDEST, _NAME, 7.0)
            write(axes, at, sum(column.edges[j]) / 2, text, ha=aside, va="center", fontsize=size, color=INK)

    matched = set(map(tuple, flow.matches.tolist()))
    ease = np.linspace(0.0, 1.0, 40)
    bend, x = ease**2 * (3.0 - 2.0 * ease), left + ease * _BETWEEN
    starts = {i: high for i, (high, _) in one.edges.items()}  # where the next band of each cluster begins
    ends = {j: high for j, (high, _) in other.edges.items()}
    bands: dict[tuple[int, bool], list[F64]] = {}
    for i in one.edges:
        for j in other.edges:
            a, b = starts[i], ends[j]
            starts[i], ends[j] = a - counts[i, j] * one.scale, b - counts[i, j] * other.scale
            upper, lower = a + (b - a) * bend, starts[i] + (ends[j] - starts[i]) * bend
            outline = np.concatenate([np.stack([x, upper], axis=1), np.stack([x, lower], axis=1)[::-1]])
            if counts[i, j]:
                bands.setdefault((i, (i, j) in matched), []).append(outline)
    for (i, dark), outlines in bands.items():
        shade = 0.7 if dark else 0.3
        axes.add_collection(PolyCollection(outlines, facecolors=colours[i], alpha=shade, linewidths=0))
    return picture


class _Column(NamedTuple):
    """The clusters of one side from the top down: upper and lower edge, inches a row, and names that have room."""

    edges: dict[int, tuple[float, float]]
    scale: float
    texts: dict[int, str]


def _column(
    names: Sequence[str] | None, sizes: NDArray[np.int64], order: NDArray[np.int64], height: float, gap: float
) -> _Column:
    """Both columns have the same height, whatever their gaps."""
    if names is not None and len(names) < len(sizes):
        raise ValueError(f"{len(names)} names; expected one for each of {len(sizes)} clusters")
    filled = [int(j) for j in order if sizes[j]]
    scale = (height - gap * (len(filled) - 1)) / int(sizes.sum())
    edges, texts, top, free = {}, {}, height, np.inf
    for j in filled:
        edges[j] = (top, top - float(sizes[j]) * scale)
        middle, top = sum(edges[j]) / 2, edges[j][1] - gap
        if middle <= free:
            texts[j] = fitted(str(j if names is None else names[j]), _WIDEST, _NAME, 7.0)[0][0]
            free = middle - _NAME * LINE
    return _Column(edges, scale, texts)
