"""What a study does beside its one fit: compare clusterings, judge them on test images, lay the rows out in a map."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from gpukmeans.study.data import Loaded
from gpukmeans.study.explorer.extras import Extra, flow_between
from gpukmeans.study.options import Options
from gpukmeans.study.progress import timed

if TYPE_CHECKING:
    from gpukmeans.plots.picture import Picture

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
        self._swept: Any = None
        if options.sweep and max(options.sweep) > len(data.X):
            raise ValueError(f"--sweep has {max(options.sweep):,} clusters, more than the {len(data.X):,} rows")
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
            with timed(seconds, "compare"):
                self._compared = compare(
                    self._systems, data.X[rows], None if data.y is None else data.y[rows], random_state=options.seed,
                    progress=lambda name: stage(f"comparing {options.compare}: {name}"),
                )  # fmt: skip
            self._compared_rows, self._note = rows, note
        if options.train_test:
            with timed(seconds, "train_test"):
                self._judged = self._judge(stage)
        if options.sweep:
            from gpukmeans import KMeans, sweep

            with timed(seconds, "sweep"):
                self._swept = sweep(
                    data.X, options.sweep, estimator=KMeans(**options.parameters()), random_state=options.seed,
                    progress=lambda done, n: stage(f"numbers of clusters: {done} of {n}"),
                )  # fmt: skip
        compared, judged, swept = self._compared, self._judged, self._swept
        return {
            "compared": None if compared is None else compared.as_dict(),
            "compared_table": None if compared is None else "\n".join(filter(None, [note, repr(compared)])),
            "compared_note": note,
            "sweep": None if swept is None else swept.as_dict(),
            "sweep_table": None if swept is None else repr(swept),
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

    def pictures(self, points: NDArray[np.float64] | None) -> dict[str, Picture]:
        """Pictures of all that was done, by the names of their files; `points` are those of a map, if there is one."""
        from gpukmeans.plots import comparison_figure, sweep_figure, train_test_figure

        name, drawn = self._data.name, dict[str, Any]()
        if self._compared is not None:
            of_sample = None if points is None else points[self._compared_rows]
            title = f"{name}: {self._options.compare}" + (f", {self._note}" if self._note else "")
            drawn["comparison"] = comparison_figure(self._compared, points=of_sample, title=title)
        if self._swept is not None:
            drawn["sweep"] = sweep_figure(self._swept, title=f"{name}: numbers of clusters")
        if self._judged is not None:
            drawn["train-test"] = train_test_figure(self._judged, title=f"{name}: training and test images")
        return drawn

    def extras(self, model: Any, names: list[str] | None, pictures: dict[str, Picture], other: Any) -> list[Extra]:
        """Sections of the report.

        Parameters
        ----------
        model : fitted model
            That the report is about.
        names : list of str, or None
            Of its clusters.
        pictures : dict of str to Picture
            Those of `pictures`; without them the sections are tables.
        other : fitted model, or None
            That of the second best seed.
        """
        found = list[Extra]()

        def add(what: str, title: str, about: str, result: Any) -> None:
            png = pictures[what].encoded("png", 110) if what in pictures else b""
            found.append(Extra(title, about, png, [result.head, *result.rows()]))

        if self._swept is not None:
            at = self._swept.n_clusters.tolist()
            best = self._swept.recommended
            why = f"Other numbers of clusters, {at[0]} to {at[-1]}: the best silhouette has {best}."
            add("sweep", "How many clusters", why, self._swept)
            k = self._options.clusters
            goal = best if best != k else min((n for n in at if n > k), default=at[0])
            if goal != k:
                swept = self._swept.models[at.index(goal)]
                found.append(flow_between(model.labels_, names, f"{k} clusters", swept.labels_, f"{goal} clusters"))
        if other is not None:
            titles = [f"seed {one.random_state}" for one in (model, other)]
            found.append(flow_between(model.labels_, names, titles[0], other.labels_, titles[1]))
        if self._compared is not None:
            about = f"On {self._note or 'all rows'}."
            add("comparison", f"Other {self._options.compare}", about, self._compared)
        if self._judged is not None:
            about = f"Fitted to {self._judged.n_train:,} images, judged on {self._judged.n_test:,} others."
            add("train-test", "Training and test images", about, self._judged)
        return found
