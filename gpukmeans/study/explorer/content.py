"""What the page shows of a clustering: plain values, and arrays of one entry a row."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpukmeans.evaluation import Evaluation, Margins, cluster_names
from gpukmeans.evaluation.member_rows import members_of
from gpukmeans.study.data import Loaded
from gpukmeans.study.explorer.extras import Extra
from gpukmeans.study.explorer.film import frames
from gpukmeans.study.explorer.page import Arrays
from gpukmeans.study.explorer.pictures import Pictures
from gpukmeans.study.options import Options

#: Rows that the page holds; of more, a random sample.
MOST_ROWS = 200_000
#: Rows that are shown at full size, or with their features.
MOST_SHOWN = 2_000
#: Of each kind in a cluster.
MOST_MEMBERS = 24
#: Rows between two clusters.
MOST_CALLS = 40
#: Classes of a table of clusters and classes.
MOST_CLASSES = 100
#: Features in a table: those in which the centers differ most.
MOST_FEATURES = 64
#: Bytes of all thumbnails, and of the film.
MOST_THUMBNAILS, MOST_FILM = 16_000_000, 1_500_000
#: Characters of a name.
MOST_TEXT = 120
#: Points of the silhouettes of a cluster.
PROFILE = 60
NO_CLASS = 65_535


@dataclass(frozen=True)
class Outcome:
    """A clustering and what was found out about it.

    Attributes
    ----------
    data : Loaded
    model : fitted KMeans
    parameters : dict
        Those of the fit.
    margins : Margins
    evaluation : Evaluation
    units : str
        Of the rows.
    counts, classes : ndarray or None
        As of `gpukmeans.evaluation.cluster_class_counts`.
    silhouettes : ndarray of shape (n_samples,), or None
        None where there are none.
    silhouette_kind : {"simplified", "exact"}
    seconds : dict
        Stage -> seconds.
    warnings : list of str
    extras : sequence of Extra
    """

    data: Loaded
    model: Any
    parameters: dict[str, Any]
    margins: Margins
    evaluation: Evaluation
    units: str
    counts: NDArray[np.int64] | None
    classes: NDArray[Any] | None
    silhouettes: NDArray[np.float64] | None
    silhouette_kind: str
    seconds: dict[str, float]
    warnings: list[str] = field(default_factory=list)
    extras: Sequence[Extra] = ()


def plane(X: NDArray[Any]) -> NDArray[np.float64]:
    """Coordinates of rows on a map: their two principal components."""
    from sklearn.decomposition import PCA

    if len(X) == 1:
        return np.zeros((1, 2))
    n = min(2, *X.shape)
    few = X.shape[1] <= 1_000
    values = np.asarray(X, np.float32 if X.dtype == np.uint8 else np.float64)
    with np.errstate(invalid="ignore"):  # the share of variance that is told where there is none
        found = PCA(n, svd_solver="covariance_eigh" if few else "auto", random_state=0).fit_transform(values)
    return np.pad(np.asarray(found, np.float64), ((0, 0), (0, 2 - n)))


def placed(options: Options, data: Loaded) -> tuple[NDArray[np.float64], str]:
    """Where rows lie on the map that the options ask for, and what that is called; see `made`."""
    if options.map != "neighbours":
        return plane(data.X), ""
    from gpukmeans.evaluation import layout

    return layout(data.X, method="neighbours", random_state=options.seed), "UMAP, which keeps near ones together"


def silhouettes_of(data: Loaded, model: Any, found: Margins, kind: str) -> NDArray[np.float64] | None:
    """The silhouette of each row, None where it is not defined."""
    n_used = len(np.unique(model.labels_))
    if not 2 <= n_used < len(data.X):
        return None
    if kind == "exact":
        from gpukmeans.evaluation import silhouette

        return silhouette(model, data.X).samples
    other = found.distance + found.margin
    largest = np.maximum(other, found.distance)
    values = np.divide(found.margin, largest, out=np.zeros_like(largest), where=largest > 0)
    return np.where(np.bincount(model.labels_)[model.labels_] > 1, values, 0.0)


def made(
    outcome: Outcome,
    *,
    points: ArrayLike | None = None,
    points_name: str = "",
    film: bool = True,
    thumbnails: bool = True,
) -> tuple[dict[str, Any], Arrays]:
    """Everything that the page shows.

    Parameters
    ----------
    outcome : Outcome
    points : array-like of shape (n_samples, 2), optional
        Where rows lie on the map; by default :func:`plane`.
    points_name : str
        What these are, as "two principal components".
    film : bool
        Whether the fit is gone through once more for its film.
    thumbnails : bool
        Whether a reader needs thumbnails, or has those of an earlier page of the same rows.

    Returns
    -------
    dict, dict of str to ndarray
        For `gpukmeans.study.explorer.page.document`.

    Raises
    ------
    ValueError
        `points` are not finite, or not of that shape.
    """
    data, model, found = outcome.data, outcome.model, outcome.margins
    X, labels = data.X, np.asarray(model.labels_, np.int64)
    k, n = len(model.cluster_centers_), len(X)
    where = plane(X) if points is None else np.asarray(points, np.float64)
    if where.shape != (n, 2) or not np.isfinite(where).all():
        raise ValueError(f"points have shape {where.shape}; expected finite numbers of shape ({n}, 2)")

    per_kind = max(1, min(MOST_MEMBERS, (MOST_SHOWN - MOST_CALLS) // (3 * k)))
    members = members_of(labels, found, k, per_kind)
    calls = np.argsort(found.margin, kind="stable")[:MOST_CALLS] if k > 1 else np.empty(0, np.int64)
    kinds = {kind: [getattr(of, kind) for of in members] for kind in ("typical", "doubtful", "farthest")}
    wanted = np.concatenate([*kinds["typical"], calls, *kinds["doubtful"], *kinds["farthest"]])
    shown = np.sort(wanted[np.sort(np.unique(wanted, return_index=True)[1])][:MOST_SHOWN])
    kept = np.arange(n)
    if n > MOST_ROWS:
        kept = np.union1d(np.random.RandomState(0).permutation(n)[: MOST_ROWS - len(shown)], shown)

    def places(rows: NDArray[Any]) -> list[int]:
        return np.searchsorted(kept, rows[np.isin(rows, shown)]).tolist()

    arrays = _rows(outcome, where, kept)
    arrays["shown"] = np.searchsorted(kept, shown).astype(np.uint32)
    content: dict[str, Any] = {
        "title": f"{_short(data.name)} in {k:,} cluster{'s' * (k > 1)}",
        "name": _short(data.name),
        "source": _short(data.source),
        "rows": "rows" if data.image_shape is None else "images",
        "n": n,
        "k": k,
        "features": X.shape[1],
        "units": outcome.units,
        "className": _short(data.class_name),
        "mapName": points_name or "two principal components",
        "notes": [_short(note, 400) for note in data.notes],
        "warnings": [_short(text, 400) for text in outcome.warnings],
        "sizes": np.bincount(labels, minlength=k).tolist(),
        "radii": _finite(np.bincount(labels, found.distance, k) / np.maximum(np.bincount(labels, minlength=k), 1)),
        "members": {kind: [places(rows) for rows in lists] for kind, lists in kinds.items()},
        "calls": places(calls),
        "metrics": outcome.evaluation.rows(outcome.units),
        "facts": _facts(outcome),
        "iterations": [record.n_moved for record in _records(model)],
        "extras": [_extra(extra) for extra in outcome.extras],
        "ids": data.ids is not None,
        "image": None,
    }
    content |= _classes(outcome)
    content["silhouette"] = _silhouette(outcome, labels, k, arrays)
    pictures = None if data.image_shape is None else Pictures(X, data.image_shape, data.preprocessing)
    if pictures is None:
        content |= _features(outcome, shown, arrays)
    else:
        content |= _images(pictures, model, shown, kept if thumbnails else kept[:0], arrays)
        content["image"]["large"] = data.large
    content["film"] = _film(outcome, pictures, arrays) if film else "No film was made."
    return content, arrays


def _rows(outcome: Outcome, where: NDArray[np.float64], kept: NDArray[np.int64]) -> Arrays:
    """What is known of every row that the page holds."""
    data, found = outcome.data, outcome.margins
    lowest = where.min(axis=0)
    span = float((where.max(axis=0) - lowest).max()) or 1.0
    on_map = np.rint((where[kept] - lowest) / span * 65_535).astype(np.uint16)
    with np.errstate(over="ignore"):  # beyond float32: infinity
        lengths = [values[kept].astype(np.float32) for values in (found.distance, found.margin)]
    arrays = {
        "x": on_map[:, 0],
        "y": 65_535 - on_map[:, 1],  # a screen's axis goes down
        "label": np.asarray(outcome.model.labels_)[kept].astype(np.uint16),
        "second": np.where(found.second < 0, NO_CLASS, found.second)[kept].astype(np.uint16),
        "distance": lengths[0],
        "margin": lengths[1],
        "row": data.rows[kept].astype(np.uint32),
    }
    if data.ids is not None:
        texts = "\n".join(_short(value).replace("\n", " ") for value in data.ids[kept])
        arrays["ids"] = np.frombuffer(texts.encode("utf-8", "backslashreplace"), np.uint8)
    if outcome.classes is not None and data.y is not None:
        index = np.unique(np.asarray(data.y), return_inverse=True)[1][kept]
        arrays["class"] = index.astype(np.uint16)
    return arrays


def _classes(outcome: Outcome) -> dict[str, Any]:
    counts, classes = outcome.counts, outcome.classes
    if counts is None or classes is None:
        return {"classes": None, "counts": None, "names": None}
    return {
        "classes": [_short(value) for value in classes],
        "counts": counts.tolist() if len(classes) <= MOST_CLASSES else None,
        "names": [_short(name) for name in cluster_names(counts, classes)],
    }


def _silhouette(outcome: Outcome, labels: NDArray[np.int64], k: int, arrays: Arrays) -> dict[str, Any] | None:
    values = outcome.silhouettes
    if values is None:
        return None
    profile = np.full((k, PROFILE), np.nan, np.float32)
    for cluster in np.unique(labels).tolist():
        profile[cluster] = np.quantile(values[labels == cluster], np.linspace(1.0, 0.0, PROFILE))
    arrays["profile"] = profile
    sizes = np.bincount(labels, minlength=k)
    with np.errstate(invalid="ignore"):
        means = np.bincount(labels, values, k) / sizes
    return {"kind": outcome.silhouette_kind, "mean": float(values.mean()), "means": _finite(means)}


def _images(
    pictures: Pictures, model: Any, shown: NDArray[np.int64], kept: NDArray[np.int64], arrays: Arrays
) -> dict[str, Any]:
    height, width, channels = pictures.shape
    small = pictures.thumb_shape
    arrays["pixels"] = pictures.whole(pictures.X[shown])
    arrays["centers"] = pictures.whole(model.cluster_centers_)
    n_thumbs = min(len(kept), MOST_THUMBNAILS // ((int(np.prod(small)) + 1) // 2))
    if 0 < n_thumbs == len(kept):
        arrays["thumbnails"] = pictures.thumbnails(kept)
    greys = pictures.greys
    image = {"height": height, "width": width, "channels": channels, "lowest": greys.lowest, "highest": greys.highest}
    return {"image": image | {"smallHeight": small[0], "smallWidth": small[1]}}


def _features(outcome: Outcome, shown: NDArray[np.int64], arrays: Arrays) -> dict[str, Any]:
    """The features in which the centers differ most, of the centers and of the rows that are shown."""
    data = outcome.data
    centers = np.asarray(outcome.model.cluster_centers_, np.float64)
    spread = data.X.std(axis=0, dtype=np.float64)
    apart = np.divide(np.ptp(centers, axis=0), spread, out=np.zeros_like(spread), where=spread > 0)
    chosen = np.sort(np.argsort(-apart, kind="stable")[:MOST_FEATURES])
    arrays["centers"] = data.in_own_units(centers)[:, chosen]
    arrays["features"] = data.in_own_units(data.X[shown])[:, chosen]
    means = data.in_own_units(data.X.mean(axis=0, dtype=np.float64)[None])[0, chosen]
    deviations = data.in_own_units(data.X.mean(axis=0, dtype=np.float64)[None] + spread)[0, chosen] - means
    return {
        "featureNames": [_short(data.feature_names[j]) for j in chosen],
        "featureMeans": means.tolist(),
        "featureDeviations": deviations.tolist(),
    }


def _film(outcome: Outcome, pictures: Pictures | None, arrays: Arrays) -> dict[str, Any] | str:
    if pictures is None:
        return ""
    found = frames(outcome.data.X, outcome.model, outcome.parameters)
    if isinstance(found, str):
        return found
    at, centers = found
    k = max(1, min(len(centers[0]), MOST_FILM // (len(at) * int(np.prod(pictures.thumb_shape)))))
    arrays["film"] = np.stack([pictures.small(frame[:k], 255) for frame in centers])
    return {"at": at, "k": k}


def _records(model: Any) -> Sequence[Any]:
    """What is known of each iteration; a bisecting model has many fits and no records."""
    return model.fit_report_.iterations if hasattr(model, "fit_report_") else ()


def _facts(outcome: Outcome) -> list[tuple[str, str]]:
    model, parameters = outcome.model, outcome.parameters
    return [
        ("estimator", type(model).__name__),
        ("backend", model.backend_),
        ("iterations", f"{len(_records(model)):,}"),
        *(
            (name.replace("_", " "), str(parameters[name]))
            for name in ("init", "n_init", "max_iter", "tol", "precision")
        ),
        ("seed", str(model.random_state)),
        *((f"seconds of {stage}", f"{value:.2f}") for stage, value in outcome.seconds.items()),
    ]


def _extra(extra: Extra) -> dict[str, Any]:
    return {
        "title": _short(extra.title),
        "about": _short(extra.about, 1000),
        "picture": base64.b64encode(extra.picture).decode("ascii"),
        "table": [[_short(cell) for cell in line] for line in extra.table],
        "flow": extra.flow,
    }


def _short(value: Any, most: int = MOST_TEXT) -> str:
    text = str(value).encode("utf-8", "backslashreplace").decode("utf-8")
    return text if len(text) <= most else text[: most - 1] + "…"


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _finite(values: NDArray[np.float64]) -> list[float | None]:
    return [_number(value) for value in values.tolist()]
