"""The metrics of several numbers of clusters, as lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpukmeans.plots.figure import FRAME, INK, RULE, Heading, new_picture, plain_axes, require_matplotlib, room

if TYPE_CHECKING:
    from gpukmeans.evaluation.sweeps import Sweep
    from gpukmeans.plots.picture import Picture

#: What each metric is called in the picture, and which way is better.
_TITLES = {
    "inertia": "inertia (elbow)",
    "silhouette": "silhouette (high is good)",
    "calinski_harabasz": "Calinski-Harabasz (high is good)",
    "davies_bouldin": "Davies-Bouldin (low is good)",
    "gap": "gap statistic",
    "stability": "stability between seeds (high is good)",
}
_COLUMNS = 3
_WIDTH, _HEIGHT = 3.3, 2.5  # of a panel, in inches


def sweep_figure(sweep: Sweep, *, title: str | None = None) -> Picture:
    """Draw every metric of a sweep against the number of clusters.

    Bands are one standard deviation between seeds to either side, for the gap a standard error; a vertical line marks
    the recommended number.

    Parameters
    ----------
    sweep : Sweep
        From :func:`gpukmeans.sweep`.
    title : str, optional
        Above the panels.

    Returns
    -------
    gpukmeans.plots.picture.Picture
        A figure of matplotlib that notebooks show and that has a method `save` for PNG, SVG and PDF.

    Raises
    ------
    ImportError
        matplotlib is not installed.

    Examples
    --------
    >>> import gpukmeans
    >>> from gpukmeans.plots import sweep_figure
    >>> found = gpukmeans.sweep([[0], [1], [9], [10]], [2, 3])
    >>> len(sweep_figure(found).axes)
    4
    """
    require_matplotlib()
    names = list(sweep.values)
    n_columns = min(_COLUMNS, len(names))
    n_rows = -(-len(names) // n_columns)
    width = n_columns * _WIDTH
    note = f"recommended by {sweep.rule}: {sweep.recommended}; {sweep.n_seeds} seed{'s' * (sweep.n_seeds > 1)}"
    heading = Heading(title or "How many clusters?", [note], width)
    figure = new_picture(width, n_rows * _HEIGHT + heading.height)
    heading.draw(figure)
    for i, name in enumerate(names):
        row, column = divmod(i, n_columns)
        bottom = (n_rows - 1 - row) * _HEIGHT + 0.5
        axes = room(figure, column * _WIDTH + 0.75, bottom, _WIDTH - 0.95, _HEIGHT - 0.95)
        values, spread = sweep.values[name], sweep.spread[name]
        axes.axvline(sweep.recommended, color=FRAME, linewidth=1.2)
        axes.fill_between(sweep.n_clusters, values - spread, values + spread, color=RULE, linewidth=0)
        axes.plot(sweep.n_clusters, values, color=INK, linewidth=1.2, marker="o", markersize=3)
        last = row == n_rows - 1 or i + n_columns >= len(names)
        plain_axes(axes, _TITLES[name], "number of clusters" if last else "")
        axes.locator_params(axis="x", integer=True)
        axes.ticklabel_format(axis="y", style="plain" if abs(values).max() < 1e5 else "sci", scilimits=(0, 0))
    return figure
