"""Training and test rows against the number of clusters, as lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gpukmeans.plots.figure import INK, Heading, fitted, new_picture, plain_axes, require_matplotlib, room
from gpukmeans.plots.points import HUES

if TYPE_CHECKING:
    from gpukmeans.evaluation.train_test import Judged, TrainTest
    from gpukmeans.plots.picture import Picture

#: Title of each panel, and what it shows: of the training rows, and of the test rows if these have it.
_PANELS: tuple[tuple[str, Callable[[Judged], float | None], Callable[[Judged], float | None] | None], ...] = (
    ("accuracy by majority class", lambda e: e.train.majority, lambda e: e.test.majority),
    ("inertia of a row", lambda e: e.train_inertia, lambda e: e.test_inertia),
    ("silhouette (high is good)", lambda e: e.silhouette, None),
    ("seconds of the fit", lambda e: e.seconds, None),
)
_WIDTH, _HEIGHT = 3.6, 2.7  # of a panel, in inches
_LEGEND = 0.3


def train_test_figure(found: TrainTest, *, title: str | None = None) -> Picture:
    """Draw accuracy, inertia, silhouette and time against the number of clusters, of training and of test rows.

    Parameters
    ----------
    found : TrainTest
        From :func:`gpukmeans.evaluation.train_test`.
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
    >>> from gpukmeans.evaluation import train_test
    >>> from gpukmeans.plots import train_test_figure
    >>> found = train_test([[0], [1], [8], [9]], [0, 0, 1, 1], [[2], [7]], [0, 1], [2, 3])
    >>> len(train_test_figure(found).axes)
    4
    """
    require_matplotlib()
    from matplotlib.lines import Line2D

    systems = list(dict.fromkeys(entry.name for entry in found.entries))
    numbers = sorted({entry.n_clusters for entry in found.entries})
    beside = (numbers[-1] / numbers[0]) ** 0.05 if len(numbers) > 1 else 2.0
    ticks = numbers[:1]
    for k in numbers[1:]:
        if k / ticks[-1] >= (numbers[-1] / numbers[0]) ** (1 / 10):  # a tenth of the axis
            ticks.append(k)
    note = f"fitted to {found.n_train:,} training rows, judged on {found.n_test:,} test rows (hollow, dashed)"
    width = 2 * _WIDTH
    heading = Heading(title or "Training and test rows", [note], width)
    legend_rows = -(-len(systems) // 3)
    figure = new_picture(width, 2 * _HEIGHT + heading.height + legend_rows * _LEGEND)
    heading.draw(figure)
    for i, (name, of_train, of_test) in enumerate(_PANELS):
        row, column = divmod(i, 2)
        axes = room(figure, column * _WIDTH + 0.75, (1 - row) * _HEIGHT + 0.5, _WIDTH - 0.95, _HEIGHT - 0.9)
        for j, system in enumerate(systems):
            entries = [entry for entry in found.entries if entry.name == system]
            for value, how in ((of_train, {"mfc": None}), (of_test, {"mfc": "white", "ls": "--"})):
                if value is None:
                    continue
                points = [(entry.n_clusters, v) for entry in entries if (v := value(entry)) is not None]
                if points:
                    axes.plot(*zip(*points, strict=True), color=HUES[j % 10], lw=1.2, marker="o", ms=3.5, **how)
        plain_axes(axes, name, "number of clusters" if row else "")
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [f"{k}" for k in ticks])
        axes.minorticks_off()
        axes.set_xlim(numbers[0] / beside, numbers[-1] * beside)
    handles = [Line2D([], [], color=HUES[j % 10], marker="o", ms=3.5, lw=1.2) for j in range(len(systems))]
    names = [fitted(name, width / 3 - 0.6, 8.5, 7.0)[0][0] for name in systems]
    legend = figure.legend(
        handles, names, loc="upper left", bbox_to_anchor=(0.02, 1 - (heading.height - 0.1) / figure.get_figheight()),
        ncols=3, fontsize=8.5, frameon=False, labelcolor=INK,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure
