"""The one fit at a time of `gpukmeans explore`: started, watched, cancelled, and its results."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.study.data import Loaded
from gpukmeans.study.explorer import content as contents
from gpukmeans.study.explorer.page import Arrays
from gpukmeans.study.options import Options

MOST_CLUSTERS = 1024
#: Values of the rows up to which a film is made: it takes another fit.
MOST_FILMED = 4_000_000
ALGORITHMS = ("k-means", "mini-batch", "bisecting", "spherical")
INITS = ("k-means++", "k-means||", "two-level", "random")
BACKENDS = ("auto", "numpy", "cupy")


class Busy(Exception):
    """A fit is running already."""


class _Cancelled(Exception):
    """Ends a fit from its callback."""


class Session:
    """Data, and the newest fit of them.

    Parameters
    ----------
    options : Options
        Of every fit, but for what a request may say.
    data : Loaded
    """

    def __init__(self, options: Options, data: Loaded) -> None:
        self.options, self.data = options, data
        self.points, self.points_name = contents.placed(options, data)
        self._lock = threading.Lock()
        self._cancel = threading.Event()
        self._thread: threading.Thread | None = None
        self.told: dict[str, Any] = {"running": False, "text": "", "error": "", "version": 0}
        self.kept: Arrays = {}  # what all pages share
        self.result: tuple[Any, contents.Outcome, dict[str, Any], Arrays] | None = None

    def checked(self, asked: Any) -> dict[str, Any]:
        """What a request asks for, or a ValueError that says what is allowed."""
        if not isinstance(asked, dict) or not set(asked) <= {"clusters", "init", "seed", "algorithm", "backend"}:
            raise ValueError("expected an object of clusters, init, seed, algorithm and backend")
        most = min(len(self.data.X), MOST_CLUSTERS)
        ranges = {"clusters": (self.options.clusters, 1, most), "seed": (self.options.seed, 0, 2**32 - 1)}
        chosen: dict[str, Any] = {}
        for name, (default, lowest, highest) in ranges.items():
            value = chosen[name] = asked.get(name, min(default, highest))
            if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
                raise ValueError(f"{name} should be a whole number from {lowest:,} to {highest:,}")
        for name, allowed in (("init", INITS), ("algorithm", ALGORITHMS), ("backend", BACKENDS)):
            chosen[name] = asked.get(name, getattr(self.options, name, allowed[0]))
            if chosen[name] not in allowed:
                raise ValueError(f"{name} should be one of {', '.join(allowed)}")
        return chosen

    def start(self, asked: Any) -> None:
        """Begin a fit in the background.

        Raises
        ------
        ValueError
            The request is wrong.
        Busy
            Another fit is running.
        """
        chosen = self.checked(asked)
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                raise Busy("a fit is running; cancel it, or wait")
            self._cancel.clear()
            self.told |= {"running": True, "text": "starting", "error": ""}
            self._thread = threading.Thread(target=self._run, args=(chosen,), daemon=True)
            self._thread.start()

    def cancel(self) -> None:
        """End the fit that runs, if there is one, after its iteration."""
        self._cancel.set()

    def wait(self) -> None:
        """Until no fit runs."""
        if self._thread is not None:
            self._thread.join()

    def _run(self, chosen: dict[str, Any]) -> None:
        try:
            self.fit(chosen)
        except _Cancelled:
            self.told |= {"error": "cancelled"}
        except Exception as error:
            self.told |= {"error": str(error) or type(error).__name__}
        finally:
            self.told |= {"running": False, "text": ""}

    def fit(self, chosen: dict[str, Any]) -> None:
        """Fit, and keep what the page shows of it."""
        from gpukmeans.evaluation import cluster_class_counts, evaluate, margins

        data = self.data
        options = replace(
            self.options, clusters=chosen["clusters"], seed=chosen["seed"], init=chosen["init"],
            backend=chosen["backend"],
        )  # fmt: skip
        model = _estimator(options, chosen["algorithm"], self._watch).fit(data.X)
        if chosen["algorithm"] != "bisecting":
            model.set_params(progress=False)  # what draws it cannot be saved
        model.preprocessing_ = data.preprocessing
        labels = np.asarray(model.labels_, np.int64)
        self._stage("comparing with the other centers")
        X = _unit(data.X) if chosen["algorithm"] == "spherical" else data.X
        found = margins(X, labels, model.cluster_centers_)
        table = evaluate(
            labels, data.X, data.y, n_clusters=options.clusters, inertia=model.inertia_, random_state=options.seed
        )
        counts = classes = None
        if data.y is not None:
            counts, classes = cluster_class_counts(labels, data.y, options.clusters)
        self._stage("putting the page together")
        shown = replace(data, X=X) if X is not data.X else data
        outcome = contents.Outcome(
            shown, model, {name: getattr(model, name) for name in options.parameters()}, found, table, data.unit,
            counts, classes, contents.silhouettes_of(shown, model, found, options.silhouette), options.silhouette,
            model.fit_report_.stages if hasattr(model, "fit_report_") else {},
        )  # fmt: skip
        again = self.result is not None and len(data.X) <= contents.MOST_ROWS
        film = chosen["algorithm"] == "k-means" and data.X.size <= MOST_FILMED
        content, arrays = contents.made(
            outcome, points=self.points, points_name=self.points_name, film=film, thumbnails=not again
        )
        self.kept |= {name: arrays[name] for name in ("thumbnails",) if name in arrays}
        self._stage("done")
        content["live"] = chosen | {"most": min(len(data.X), MOST_CLUSTERS)}
        self.result = (model, outcome, content, arrays | self.kept)
        self.told |= {"version": self.told["version"] + 1}

    def _watch(self, record: Any) -> None:
        self._stage(f"iteration {record.iteration}: {record.n_moved:,} moved")

    def _stage(self, text: str) -> None:
        if self._cancel.is_set():
            raise _Cancelled
        self.told |= {"text": text}


def _estimator(options: Options, algorithm: str, progress: Any) -> Any:
    """The estimator that a request asks for; each has its own default of what was not asked for on the command line."""
    import gpukmeans

    if algorithm == "k-means":
        return gpukmeans.KMeans(options.clusters, **options.parameters(), progress=progress)
    given = {name: getattr(options, name) for name in ("init", "precision", "backend")}
    given |= {name: value for name, value in options.parameters().items() if value != getattr(Options, name, value)}
    given["random_state"] = options.seed
    if algorithm == "bisecting":  # tells no progress
        return gpukmeans.BisectingKMeans(options.clusters, **given)
    kind = gpukmeans.MiniBatchKMeans if algorithm == "mini-batch" else gpukmeans.SphericalKMeans
    return kind(options.clusters, **given, progress=progress)


def _unit(X: NDArray[Any]) -> NDArray[np.float64]:
    """Rows of length 1, which spherical clusters are made of."""
    wide = np.asarray(X, np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.divide(wide, lengths, out=np.zeros_like(wide), where=lengths > 0)
