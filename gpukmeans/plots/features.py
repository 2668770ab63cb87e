"""Centers that are no images: a heat map of their features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from gpukmeans.intake.kinds import on_host
from gpukmeans.plots.figure import (
    INK,
    LINE,
    MARGIN,
    MUTED,
    Heading,
    add_colour_bar,
    by_majority,
    checked_centers,
    checked_counts,
    fitted,
    named,
    new_picture,
    room,
    unnamed,
    width_of,
    write,
)

if TYPE_CHECKING:
    from gpukmeans.plots.picture import Picture

_MOST_FEATURES = 60  # rows, above which those are left out that differ least
_MOST_DEVIATIONS = 3.0  # of the colours


def feature_heatmap(
    centers: ArrayLike,
    *,
    feature_names: ArrayLike | None = None,
    sizes: Sequence[int] | None = None,
    counts: ArrayLike | None = None,
    classes: ArrayLike | None = None,
    class_name: str = "class",
    title: str | None = None,
) -> Picture:
    """Draw centers as a heat map: a column is a cluster, a row a feature.

    A colour is the difference of a center from the mean of all centers in that feature, in standard deviations of the
    centers: red above, blue below.  Numbers are values in the feature's own unit, where there is room for them.

    Parameters
    ----------
    centers : array-like of shape (n_clusters, n_features)
        Of more than 60 features, those are drawn whose centers have the largest variance.
    feature_names : array-like of shape (n_features,), optional
        ``model.feature_names_in_``, for one.
    sizes, counts, classes, class_name, title
        As of :func:`centroid_grid`.

    Returns
    -------
    gpukmeans.plots.picture.Picture

    Raises
    ------
    ValueError
        The shapes do not fit each other.

    Examples
    --------
    >>> from gpukmeans.plots import feature_heatmap
    >>> picture = feature_heatmap([[170.0, 70.0], [180.0, 60.0]], feature_names=["height", "weight"])
    >>> picture.axes[0].images[0].get_array().tolist()
    [[-1.0, 1.0], [1.0, -1.0]]
    """
    values = checked_centers(centers)
    n_clusters, n_features = values.shape
    texts = (
        [f"feature {i}" for i in range(n_features)]
        if feature_names is None
        else [str(name) for name in on_host(feature_names)]
    )
    if len(texts) != n_features:
        raise ValueError(f"feature_names has {len(texts)} names, expected one for each of {n_features} features")
    if sizes is not None and len(sizes) != n_clusters:
        raise ValueError(f"sizes has {len(sizes)} values, expected one for each of {n_clusters} centers")
    order, names, notes = np.arange(n_clusters), [str(cluster) for cluster in range(n_clusters)], list[str]()
    if counts is not None:
        table, class_of = checked_counts(counts, classes)
        if len(table) != n_clusters:
            raise ValueError(f"counts has {len(table)} rows, expected one for each of {n_clusters} centers")
        order, names = by_majority(table), named(table, class_of, class_name)
        notes += unnamed(table, class_of, class_name)
    elif sizes is not None:
        names = [f"{name}: {size:,}" for name, size in zip(names, on_host(sizes).tolist(), strict=True)]
        notes.append("below each: its number and its size")
    variance = values.var(axis=0)
    features = np.arange(n_features)
    if n_features > _MOST_FEATURES:
        features = np.sort(np.argsort(-variance, kind="stable")[:_MOST_FEATURES])
        notes.append(f"the {_MOST_FEATURES} features of {n_features:,} whose centers differ most")
    spread = np.where(variance > 0.0, np.sqrt(variance), 1.0)
    shown = ((values - values.mean(axis=0)) / spread)[np.ix_(order, features)].T

    names_of_rows = [fitted(texts[i], 2.2, 8.5, 6.5)[0][0] for i in features]
    left = MARGIN + 0.08 + max(width_of(name, 8.5) for name in names_of_rows)
    cell, high = min(max(18.0 / n_clusters, 0.02), 0.62), 0.3 if len(features) <= 30 else 0.2
    columns = [fitted(names[cluster], 1.6, 8.5, 6.5)[0][0] for cluster in order] if cell >= 0.16 else []
    across = all(width_of(name, 8.5) < cell - 0.05 for name in columns)
    foot = 0.4 + (0.0 if not columns else 8.5 * LINE if across else max(width_of(name, 8.5) for name in columns) + 0.05)
    map_width, map_height = n_clusters * cell, len(features) * high
    width = max(left + map_width + 0.95, 4.6)
    heading = Heading(title, notes, width)
    height = heading.height + max(map_height, 1.3) + foot
    picture = new_picture(width, height)
    heading.draw(picture)
    bottom = height - heading.height - map_height
    axes = room(picture, left, bottom, map_width, map_height)
    most = min(max(float(np.abs(shown).max()), 1.0), _MOST_DEVIATIONS)
    image = axes.imshow(shown, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto", interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
    for row, name in enumerate(names_of_rows):
        write(axes, -0.5 - 0.08 / cell, row, name, ha="right", va="center", fontsize=8.5, color=INK)
    for column, name in enumerate(columns):
        how: dict[str, Any] = {"ha": "center", "va": "top", "rotation": 0 if across else 90}
        write(axes, column, len(features) - 0.5 + 0.06 / high, name, fontsize=8.5, color=INK, **how)
    below = f"{n_clusters:,} clusters" if n_clusters > 1 else "1 cluster"
    write(picture, left / width, 0.12 / height, below, fontsize=8.5, color=MUTED, ha="left", va="bottom")
    numbers = values[np.ix_(order, features)].T
    if cell >= 0.45 and high >= 0.3:
        for (row, column), number in np.ndenumerate(numbers):
            colour = "white" if abs(shown[row, column]) > 0.65 * most else INK
            (text,), size = fitted(_short(number), cell - 0.06, 8.0, 4.5)
            write(axes, column, row, text, ha="center", va="center", fontsize=size, color=colour)
    bar_height = min(max(map_height, 1.3), 3.2)
    bar_axes = room(picture, left + map_width + 0.2, height - heading.height - bar_height, 0.13, bar_height)
    add_colour_bar(picture, image, bar_axes, "deviations" if bar_height < 2.0 else "standard deviations of the centers")
    return picture


def _short(number: float) -> str:
    """Three digits, and no exponent where that is as short."""
    if 1000.0 <= abs(number) < 999_999.5:
        return f"{number:,.0f}"
    mantissa, _, exponent = f"{number:.3g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa
