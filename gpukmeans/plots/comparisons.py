"""Clusterings of the same rows beside each other: time, agreement, and maps."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import adjusted_rand_score

from gpukmeans.evaluation.classes import matched_classes
from gpukmeans.plots.figure import (
    INK,
    MARGIN,
    MUTED,
    RULE,
    Heading,
    fitted,
    new_picture,
    plain_axes,
    require_matplotlib,
    room,
    width_of,
    write,
)
from gpukmeans.plots.points import HUES, checked_points, draw_clusters

if TYPE_CHECKING:
    from gpukmeans.evaluation.comparisons import Comparison
    from gpukmeans.plots.picture import Picture

_ROW, _PANEL, _MAP = 0.38, 2.1, 2.0  # inches: of a clustering's row, a panel of bars, a map
_NAME = 8.5


def comparison_figure(comparison: Comparison, *, points: ArrayLike | None = None, title: str | None = None) -> Picture:
    """Draw the time of each clustering, its metrics, how well it agrees with each of the others, and a map of each.

    Agreement is the adjusted Rand index of the rows that are noise in neither: 1 for the same clusters, 0 for chance.

    Parameters
    ----------
    comparison : Comparison
        From :func:`gpukmeans.evaluation.compare`.
    points : array-like of shape (n_samples, 2), optional
        Coordinates of the rows, as of :func:`gpukmeans.evaluation.layout`; without them there are no maps.  Clusters of
        each map have the colours of those of the first one that they match.
    title : str, optional
        Above the picture.

    Returns
    -------
    gpukmeans.plots.picture.Picture
        A figure of matplotlib that notebooks show and that has a method `save` for PNG, SVG and PDF.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError
        There is not a point for each row.

    Examples
    --------
    >>> import gpukmeans
    >>> from gpukmeans.evaluation import compare, starts
    >>> from gpukmeans.plots import comparison_figure
    >>> X, y = gpukmeans.load_digits(return_X_y=True)
    >>> picture = comparison_figure(compare(starts(X, 10), X, y))
    >>> len(picture.axes)
    4
    """
    require_matplotlib()
    entries = comparison.entries
    names = [fitted(entry.name, 1.8, _NAME, 7.0)[0][0] for entry in entries]
    panels: list[tuple[str, list[float | None]]] = [("seconds of the fit", [entry.seconds for entry in entries])]
    for what, metric in (("adjusted Rand, classes", "adjusted_rand"), ("silhouette", "silhouette")):
        values = [None if e.evaluation is None else e.evaluation.values[metric] for e in entries]
        if any(value is not None for value in values):
            panels.append((what, values))
    n, n_rows = len(entries), len(entries[0].labels)
    label = max(width_of(name, _NAME) for name in names) + 0.1
    between = max(n * _ROW, 1.9)  # the side of the table of agreements
    width = MARGIN + label + len(panels) * _PANEL + 0.2 + between + MARGIN
    n_columns = max(1, int((width - MARGIN) / (_MAP + MARGIN)))
    maps = -(-n // n_columns) if points is not None else 0
    map_height = _MAP + 0.3
    noisy = [f"{entry.n_noise:,} rows are noise for {entry.name}" for entry in entries if entry.n_noise]
    notes = [f"{n_rows:,} rows; each was fitted once", *(["metrics leave noise out"] if noisy else []), *noisy]
    heading = Heading(title or "Clusterings compared", notes, width)
    above, below = 0.3, 0.35 + (0.25 if n > 1 else 0.0)
    picture = new_picture(width, heading.height + above + between + below + maps * map_height + MARGIN)
    heading.draw(picture)

    base = MARGIN + maps * map_height + below
    left = MARGIN + label
    for place, (what, values) in enumerate(panels):
        axes = room(picture, left, base, _PANEL - 0.55, between)
        for i, value in enumerate(values):
            if value is not None:
                axes.barh(i, value, height=0.65, color=HUES[0])
                beside = {"ha": "left"} if value >= 0 else {"ha": "right"}
                write(axes, value, i, f" {value:.3g} ", va="center", fontsize=7.0, color=MUTED, **beside)
        axes.set(ylim=(n - 0.5, -0.5), yticks=range(n))
        plain_axes(axes, what)
        axes.axvline(0.0, color=RULE, linewidth=0.8)
        axes.spines["left"].set_visible(False)
        axes.set_yticks(range(n), names if place == 0 else [""] * n, fontsize=_NAME)
        axes.tick_params(axis="y", length=0)
        axes.margins(x=0.12)
        axes.locator_params(axis="x", nbins=3)
        left += _PANEL
    left += 0.2
    _draw_agreements(picture, room(picture, left, base, between, between), [entry.labels for entry in entries])

    if points is not None:
        on_page = _MAP * checked_points(points, n_rows)
        area = float(np.clip(6_000 / n_rows, 0.3, 10.0))
        for i, entry in enumerate(entries):
            row, column = divmod(i, n_columns)
            bottom = MARGIN + (maps - 1 - row) * map_height
            axes = room(picture, MARGIN + column * (_MAP + MARGIN), bottom, _MAP, _MAP)
            draw_clusters(axes, on_page, _recoloured(entry.labels, entries[0].labels), area)
            axes.set(xlim=(0, _MAP), ylim=(0, _MAP), xticks=[], yticks=[])
            axes.spines[:].set_color(RULE)
            (name,), size = fitted(entry.name, _MAP, 9.0, 7.0)
            write(axes, 0.0, _MAP + 0.05, name, ha="left", va="bottom", fontsize=size, color=INK)
    return picture


def _draw_agreements(picture: Picture, axes: Any, labelings: list[NDArray[np.int64]]) -> None:
    """The adjusted Rand index of each pair, rows in the order of the bars beside."""
    n = len(labelings)
    table = np.eye(n)
    for i, j in combinations(range(n), 2):
        both = (labelings[i] >= 0) & (labelings[j] >= 0)
        value = adjusted_rand_score(labelings[i][both], labelings[j][both]) if both.any() else np.nan
        table[i, j] = table[j, i] = value
    axes.imshow(table, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto", interpolation="nearest")
    cell = axes.get_position().width * picture.get_figwidth() / n
    for i, j in np.ndindex(n, n):
        text = "-" if np.isnan(table[i, j]) else f"{table[i, j]:.2f}"
        (text,), size = fitted(text, cell - 0.04, 7.5, 3.5)
        write(axes, j, i, text, ha="center", va="center", fontsize=size, color="white" if table[i, j] > 0.6 else INK)
    plain_axes(axes, "adjusted Rand, each with each", "in the order of the rows" if n > 1 else "")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _recoloured(labels: NDArray[np.int64], first: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels with the numbers of the clusters of the first clustering that they match, others behind; -1 stays."""
    counts = np.zeros((max(0, labels.max()) + 1, max(0, first.max()) + 1), np.int64)
    both = (labels >= 0) & (first >= 0)
    np.add.at(counts, (labels[both], first[both]), 1)
    number = np.full(len(counts), -1)
    clusters, matches = matched_classes(counts)
    number[clusters] = matches
    rest = np.flatnonzero(number < 0)
    number[rest] = counts.shape[1] + np.arange(len(rest))
    return np.where(labels < 0, -1, number[labels])
