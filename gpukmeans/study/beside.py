"""What a study does beside its one fit: compare clusterings, judge them on test images, lay the rows out in a map."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from gpukmeans.study.data import Loaded
from gpukmeans.study.options import Options

#: Rows of the sample on which algorithms are compared, whose cost grows with the square, and starts their silhouettes.
_SAMPLE = 5000


class Beside:
    """What the options ask for beside the fit.

    Parameters
    ----------
    options : Options
    data : Loaded

    Raises
    ------
    ValueError
        What is asked for cannot be done with these rows.
    """

    def __init__(self, options: Options, data: Loaded) -> None:
        self._options, self._data = options, data
        self._compared: Any = None
        self._judged: Any = None
        self._systems = self._systems_of(options.compare) if options.compare else None

    def _systems_of(self, what: str) -> dict[str, Any]:
        from gpukmeans.evaluation import algorithms, reductions, starts

        options, X = self._options, self._data.X
        k: dict[str, Any] = {"n_clusters": options.clusters, "random_state": options.seed}
        if what == "algorithms":
            return algorithms(**k)
        k |= {name: getattr(options, name) for name in ("max_iter", "tol", "precision", "backend")}
        if what == "starts":
            return starts(X, **k)
        most = min(X.shape)
        return reductions(n_components=[n for n in (2, 5, 10, 20, 50, 100) if n < most], **k)

    def run(self, seconds: dict[str, float], stage: Callable[[str], object]) -> dict[str, Any]:
        """Do it; returns entries of the outcome."""
        options, data = self._options, self._data
        note = None
        if self._systems is not None:
            from gpukmeans.evaluation import compare

            rows: Any = slice(None)
            if options.compare == "algorithms" and len(data.X) > _SAMPLE:
                rows = np.sort(check_random_state(options.seed).choice(len(data.X), _SAMPLE, replace=False))
                note = f"a random sample of {_SAMPLE:,} of {len(data.X):,} rows"
            started = time.perf_counter()
            self._compared = compare(
                self._systems, data.X[rows], None if data.y is None else data.y[rows], random_state=options.seed,
                progress=lambda name: stage(f"comparing {options.compare}: {name}"),
            )  # fmt: skip
            self._compared_rows, self._note = rows, note
            seconds["compare"] = time.perf_counter() - started
        if options.train_test:
            started = time.perf_counter()
            self._judged = self._judge(stage)
            seconds["train_test"] = time.perf_counter() - started
        compared, judged = self._compared, self._judged
        return {
            "compared": None if compared is None else compared.as_dict(),
            "compared_table": None if compared is None else "\n".join(filter(None, [note, repr(compared)])),
            "compared_note": note,
            "train_test": None if judged is None else judged.as_dict(),
            "train_test_table": None if judged is None else repr(judged),
        }

    def _judge(self, stage: Callable[[str], object]) -> Any:
        from gpukmeans import KMeans, MiniBatchKMeans
        from gpukmeans.evaluation import train_test

        options, X, y, n = self._options, self._data.X, np.asarray(self._data.y), self._data.n_train
        given = options.parameters()
        of_batches = {name: given[name] for name in ("init", "n_init", "precision", "backend")}
        return train_test(
            X[:n], y[:n], X[n:], y[n:], options.train_test or (), random_state=options.seed,
            estimators={"k-means": KMeans(**given), "mini-batch k-means": MiniBatchKMeans(**of_batches)},
            progress=lambda name: stage(f"fitting to the training images: {name}"),
        )  # fmt: skip

    def draw(self, model: Any, names: list[str] | None, stage: Callable[[str], object]) -> dict[str, str]:
        """Draw it; returns what -> path."""
        from gpukmeans.evaluation import layout
        from gpukmeans.plots import comparison_figure, point_map, train_test_figure

        options, data = self._options, self._data
        pictures, points = {}, None
        if options.map:
            stage(f"laying {len(data.X):,} rows out in a plane")
            points = layout(data.X, method=options.map, random_state=options.seed)
            pictures["map"] = point_map(points, model.labels_, names=names, title=f"{data.name}: clusters")
        if self._compared is not None:
            of_sample = None if points is None else points[self._compared_rows]
            title = f"{data.name}: {options.compare}" + (f", {self._note}" if self._note else "")
            pictures["comparison"] = comparison_figure(self._compared, points=of_sample, title=title)
        if self._judged is not None:
            pictures["train-test"] = train_test_figure(self._judged, title=f"{data.name}: training and test images")
        return {what: str(picture.save(options.folder / f"{what}.png")) for what, picture in pictures.items()}
