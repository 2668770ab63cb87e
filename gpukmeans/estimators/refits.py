"""`keep_state` and `refit`: new rows in an old model, at little more than the time that the new ones take."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from gpukmeans.arrays.types import F64, I64
from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.backends.cpu.rows import NumpyRows, grid_of
from gpukmeans.backends.cpu.run import NumpyRun
from gpukmeans.backends.cpu.sums import DenseSums
from gpukmeans.backends.known import Known
from gpukmeans.backends.protocol import Rows
from gpukmeans.engine.tolerance import Tolerance, mean_variance
from gpukmeans.estimators.kmeans import KMeans
from gpukmeans.exact.sums import Extremes, Grid, weight_grid
from gpukmeans.intake.given import Given, receive
from gpukmeans.intake.kinds import on_host
from gpukmeans.scale.archives import Format, read_archive, write_archive
from gpukmeans.scale.files import shown, unreadable
from gpukmeans.threads import blocks, workers

FORMAT = Format("gpukmeans state", 1, "gpukmeans_state", "`save`")
#: Rows, evenly spaced, that a state recognises the old ones by.
SAMPLED = 4096


@dataclass(frozen=True)
class State:
    """What is known of the rows of a model beside its centers; made by `keep_state`.

    Attributes
    ----------
    arrays : dict of str to ndarray
        The centers; labels, second best centers and bounds of the rows; sums of the clusters and their grids; extremes
        and moments of the rows.
    sample : str
        SHA-256 of some of the rows, and of all weights.
    """

    arrays: dict[str, NDArray]
    sample: str

    @property
    def n_samples(self) -> int:
        return len(self.arrays["labels"])

    def __repr__(self) -> str:
        n_bytes = sum(array.nbytes for array in self.arrays.values())
        return f"<State of {self.n_samples:,} rows, {len(self.arrays['centers']):,} clusters, {n_bytes:,} bytes>"

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the state into an npz file without pickle.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        write_archive(path, FORMAT, {"sample": self.sample}, self.arrays)
        return Path(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a state that `save` has written.

        Raises
        ------
        OSError
            The file cannot be read.
        ValueError
            It is damaged, or holds something else.
        """
        head, arrays = read_archive(Path(path), FORMAT)
        n, (k, d) = len(arrays.get("labels", ())), arrays.get("centers", np.empty((0, 0))).shape
        wanted = {"second": (n,), "near": (n,), "rest": (n,), "column_sums": (d,), "squares": (1,), "scale": (d,)}
        wanted |= {"weight_scale": (1,), "limbs": (4,), "largest": (d,), "smallest": (1,)}
        labels = [arrays.get(name, np.full(1, -1)) for name in ("labels", "second")]
        right = all(name in arrays and arrays[name].shape == shape for name, shape in wanted.items())
        right = right and "sums" in arrays and "weights" in arrays and arrays["sums"].shape[1:] == (k, d)
        if not right or any(of.dtype != np.int32 or of.min(initial=0) < 0 or of.max(initial=0) >= k for of in labels):
            raise unreadable(shown(path), "not as `save` writes it; the file was altered")
        return cls(arrays, head["sample"])

    # ---- for a fit ---------------------------------------------------------------------------------------------------

    def begin(self, given: Given, centers: Any) -> tuple[Rows, Known | None]:
        """The rows of a fit that starts from `centers`, and what is known of the first; None where it cannot be used.

        Raises
        ------
        ValueError
            The first rows or weights are others.
        """
        a, n = self.arrays, self.n_samples
        weight, X = given.sample_weight, cast(NDArray, given.X)
        if centers.dtype != a["centers"].dtype or not np.array_equal(centers, a["centers"]) or not centers.any():
            return given.load(), None  # in another unit, or dtype; centers that are all zero do not tell the unit
        if given.form != "dense" or (weight is not None and np.count_nonzero(weight) == 1):
            return given.load(), None
        if given.n_samples < n or sample_of(X, weight, n) != self.sample:
            raise ValueError(
                f"The first {n:,} rows of X, or their weights, are not those of the state: give the old rows first, as "
                "they were, then the new ones; or leave the state out."
            )
        backend = given.backend
        if type(backend) is NumpyBackend:
            rows: Rows = _loaded(backend, X, weight, Extremes(n, a["largest"], float(a["smallest"][0])))
        else:
            rows = given.load()
        assert rows.grid is not None
        sums = self._sums_on(rows.grid, weight_grid(given.n_samples, weight), X[:n], weight)
        return rows, Known(a["labels"], a["second"], a["near"], a["rest"], sums)

    def _sums_on(self, grid: Grid, weights_on: Grid, X: NDArray, sample_weight: F64 | None) -> tuple[I64, I64] | None:
        """The sums of the old rows on these grids; columns whose scale is another one are summed anew.  None: all."""
        a, limbs = self.arrays, [grid.bits, grid.n_limbs, weights_on.bits, weights_on.n_limbs]
        if limbs != a["limbs"].tolist() or not np.array_equal(weights_on.scale, a["weight_scale"]):
            return None
        wider = np.flatnonzero(grid.scale != a["scale"])
        if 4 * len(wider) > len(grid.scale):
            return None
        sums, n = a["sums"].copy(), self.n_samples
        if len(wider):
            columns = np.ascontiguousarray(X[:, wider])
            weight = None if sample_weight is None else sample_weight[:n]
            anew = DenseSums(columns, weight, grid.of_columns(wider), len(a["centers"]), weights_on)
            with workers(columns.size) as pool:
                anew.add(np.arange(n), np.full(n, -1, np.int32), a["labels"], pool)
            sums[:, :, wider] = anew.sums
        return sums, a["weights"]

    def tolerance(self, given: Given, tol: float) -> float | Tolerance:
        """`gpukmeans.engine.tolerance.scaled_tolerance` of all rows, from bounds of their variance."""
        X = cast(NDArray, given.X)
        n, d = X.shape
        sums, squares = moments(X[self.n_samples :])
        sums, squares = sums + self.arrays["column_sums"], float(squares + self.arrays["squares"][0])
        inertia = squares - float(np.square(sums).sum()) / n
        # With q the sum of squares: float64 sums of n terms err by n u q, three of them; distances by (d + 3) u, their
        # sum by less; and a mean rounded to float32 adds n |m|^2 2**-48, at most 2**-48 q.
        radius = squares * ((8 * n + 4 * d + 64) * 2.0**-53 + 2.0**-44)
        bounds = max(0.0, inertia - radius) / (n * d), (inertia + radius) / (n * d)
        return Tolerance(tol, *bounds, lambda: mean_variance(given.backend.load(X)))


def _loaded(backend: NumpyBackend, X: NDArray, sample_weight: F64 | None, seen: Extremes) -> NumpyRows:
    """Rows whose extremes, or those of the first of them, are known: they are not read for these again."""
    return NumpyRows(backend.switches, X, sample_weight, grid=grid_of(X, sample_weight, seen))


def keep_state(model: KMeans, X: ArrayLike, sample_weight: ArrayLike | None = None) -> State:
    """What `refit` goes on from when rows are added to those of a fitted model: labels, bounds and sums.

    One pass over the rows, on the CPU.  The state is no part of the model, nor of its pickles: keep it in memory, or
    `State.save` it.

    Parameters
    ----------
    model : KMeans
        Fitted.
    X : array-like of shape (n_samples, n_features)
        The rows of the fit, dense and on the host.
    sample_weight : array-like of shape (n_samples,), default=None
        Their weights.

    Returns
    -------
    State
        24 bytes a row.

    Raises
    ------
    sklearn.exceptions.NotFittedError
    TypeError
        The model is no `KMeans`, or X is sparse, on a device or streams.
    ValueError
        X is no such array, or has another dtype than the rows of the fit, or values far from one.

    See Also
    --------
    gpukmeans.refit : has an example.
    """
    check_model(model)
    given = receive(model, X, sample_weight, backend="numpy", reset=False)
    if given.form != "dense":
        raise TypeError("keep_state takes dense rows on the host; refit without a state takes any.")
    centers = np.ascontiguousarray(on_host(model.cluster_centers_))
    if centers.dtype != given.center_dtype:
        raise ValueError(
            f"Centers of X are {given.center_dtype}, and those of the model {centers.dtype}: give the rows of the fit "
            "in its dtype."
        )
    if given.exponent(centers):
        raise ValueError("X has values far from one, in whose unit no state is kept; refit without a state takes any.")
    stored = cast(NDArray, given.X)
    with workers(stored.size) as pool:
        seen = Extremes.of(stored, given.sample_weight, pool)
    rows = _loaded(NumpyBackend(sort=False), stored, given.sample_weight, seen)  # sorted rows have no bounds
    known = cast(NumpyRun, rows.start(centers)).known()
    assert known.sums is not None
    assert rows.grid is not None
    weights_on = weight_grid(given.n_samples, given.sample_weight)
    limbs = [rows.grid.bits, rows.grid.n_limbs, weights_on.bits, weights_on.n_limbs]
    column_sums, squares = moments(stored)
    arrays = {
        "centers": centers,
        "labels": known.labels,
        "second": known.second,
        "near": known.near,
        "rest": known.rest,
        "sums": known.sums[0],
        "weights": known.sums[1],
        "column_sums": column_sums,
        "squares": np.array([squares]),
        "largest": seen.largest,
        "smallest": np.array([seen.smallest]),
        "scale": rows.grid.scale,
        "weight_scale": weights_on.scale,
        "limbs": np.array(limbs),
    }
    return State(arrays, sample_of(stored, given.sample_weight, given.n_samples))


def refit(
    model: KMeans,
    X_all: ArrayLike,
    *,
    n_old: int,
    state: State | None = None,
    sample_weight: ArrayLike | None = None,
) -> KMeans:
    """Fit old and new rows from the centers of a model of the old ones.

    The result has the bits of ``KMeans(init=model.cluster_centers_, n_init=1, ...).fit(X_all)``, with the other
    parameters of the model.  With a state the old rows are looked at only where centers move.

    Parameters
    ----------
    model : KMeans
        Fitted to the old rows; not changed.
    X_all : array-like of shape (n_samples, n_features)
        The old rows first, in the same order, then the new ones.
    n_old : int
        How many are old.
    state : State, optional
        Of `keep_state`.  None: the same fit without short cuts; so are fits on a GPU and of sparse rows.
    sample_weight : array-like of shape (n_samples,), default=None
        Of all rows; with a state the first are those of the state.

    Returns
    -------
    KMeans
        A new model.

    Raises
    ------
    sklearn.exceptions.NotFittedError
    TypeError
        The model is no `KMeans`.
    ValueError
        `n_old` is not the number of rows of the state, or the state is of other rows, weights or centers.

    Notes
    -----
    That the first rows are those of the state is checked by all weights and by 4,096 rows, evenly spaced.  Others must
    not have changed: their labels and sums are taken as they were.

    Examples
    --------
    >>> import numpy as np
    >>> import gpukmeans
    >>> X = np.random.default_rng(0).standard_normal((1000, 3))
    >>> model = gpukmeans.fit(X[:900], 4, random_state=0)
    >>> state = gpukmeans.keep_state(model, X[:900])
    >>> again = gpukmeans.refit(model, X, n_old=900, state=state)
    >>> plain = gpukmeans.fit(X, 4, init=model.cluster_centers_, n_init=1)
    >>> again.inertia_ == plain.inertia_, bool((again.labels_ == plain.labels_).all())
    (True, True)
    """
    check_model(model)
    if state is not None and n_old != state.n_samples:
        raise ValueError(f"n_old={n_old:,}, and the state is of {state.n_samples:,} rows.")
    if state is not None and not np.array_equal(on_host(model.cluster_centers_), state.arrays["centers"]):
        raise ValueError("The state is of other centers than the model has: keep the state of this model.")
    twin: Any = clone(model).set_params(init=model.cluster_centers_, n_init=1)
    if state is not None:
        twin._state = state
    try:
        return twin.fit(X_all, sample_weight=sample_weight)
    finally:
        vars(twin).pop("_state", None)


def check_model(model: object) -> None:
    """Raise unless it is a fitted `KMeans`."""
    if type(model) is not KMeans:
        raise TypeError(f"{type(model).__name__}: keep_state and refit take a gpukmeans.KMeans.")
    check_is_fitted(model)


def moments(X: NDArray) -> tuple[F64, float]:
    """The sum of each column, (n_features,), and of all squares, in float64."""
    sums, squares = np.zeros(X.shape[1]), 0.0
    for part in blocks(*X.shape):
        block = X[part].astype(np.float64)
        sums += block.sum(axis=0)
        squares += float(np.vdot(block, block))
    return sums, squares


def sample_of(X: NDArray, sample_weight: F64 | None, n_rows: int) -> str:
    """SHA-256 of some of the first `n_rows` rows, and of all their weights."""
    rows = X[: n_rows : max(1, n_rows // SAMPLED)]
    weight = np.ones(n_rows) if sample_weight is None else sample_weight[:n_rows]
    found = hashlib.sha256(f"{n_rows} {X.shape[1]} {X.dtype.str}".encode())
    for array in (rows, weight):
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()
