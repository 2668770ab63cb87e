"""The one door for X: every estimator, function and method gets its rows from `receive`.

`receive` decides once where X lies, how it is stored, which backend reads it, what its weights are, what dtype the
centers have, and what kind of array the results become.  Everything behind it uses a `Given` and does not ask again:
only this folder examines the caller's arrays.

How rows are stored (`Given.form`):

| form | `Given.X` | read by |
|---|---|---|
| "dense" | ndarray, C-contiguous, uint8, float32 or float64 | every backend |
| "csr" | SciPy's CSR, canonical, float32 or float64 | backends with `reads_sparse` |
| "device" | `DeviceInput`, not read yet | backends with `reads_device` |
| "stream" | `Stream`, of `open_rows` | every backend, block by block |
| "stream" | `PartedStream`, of a Dask array or of `gpukmeans.distributed.fit` | workers, part by part |

A further source of rows is one more answer: `_form_of` recognises it, a check beside `check_rows` reads its shape and
dtype, and `Given.load` returns `Rows` over it, by a backend or by a class that adds up the exact sums of its blocks.
The engine and the estimators stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from gpukmeans.arrays.magnitude import rows_times_power, unit_exponent
from gpukmeans.arrays.on_device import DeviceInput, center_dtype, host_copy, host_view, on_device
from gpukmeans.arrays.sparse import is_sparse
from gpukmeans.arrays.types import F64
from gpukmeans.backends.choice import get_backend
from gpukmeans.backends.protocol import Backend, CsrRows, Feed, Rows
from gpukmeans.intake.checks import beyond_limits, check_rows, check_weights, check_width, refuse_path
from gpukmeans.intake.columns import Columns, narrow_rows, used_columns
from gpukmeans.intake.kinds import ArrayKind, check_places
from gpukmeans.intake.streams import OpenRows, Stream

Form = Literal["dense", "csr", "device", "stream"]


@dataclass(frozen=True)
class Given:
    """Rows that have been checked, and all that is known of them before they are loaded.

    Attributes
    ----------
    X : ndarray, CSR, DeviceInput or Stream of shape (n_samples, n_features)
    form : {"dense", "csr", "device", "stream"}
        How X is stored.
    sample_weight : ndarray of shape (n_samples,), float64, or None
        Checked, rounded as scikit-learn does; None if all are one.
    center_dtype : dtype
        float32 for float32 rows, else float64.
    backend : Backend
        Reads this form.
    kind : ArrayKind
        Of the caller's X, and so of results.
    columns : Columns or None
        Those of the caller's X that X has; None: all.
    """

    X: NDArray | CsrRows | DeviceInput | Stream
    form: Form
    sample_weight: F64 | None
    center_dtype: np.dtype
    backend: Backend
    kind: ArrayKind
    columns: Columns | None = None

    @property
    def n_samples(self) -> int:
        return self.X.shape[0]

    @property
    def n_features(self) -> int:
        return self.X.shape[1]

    def narrowed(self, centers: Any = None) -> tuple[Given, Any]:
        """The same without columns that neither rows in CSR nor centers use, if these are most; and centers likewise.

        Parameters
        ----------
        centers : ndarray of shape (n_clusters, n_features), str, callable or None
            A callable gets whole rows, so that nothing is left out then.
        """
        if self.form != "csr" or callable(centers):
            return self, centers
        given = centers if isinstance(centers, np.ndarray) else None
        columns = used_columns(self.X, given)
        if columns is None:
            return self, centers
        narrow = replace(self, X=narrow_rows(self.X, columns), columns=columns)
        return narrow, centers if given is None else columns.narrow(given)

    def widened(self, centers: NDArray) -> NDArray:
        """Centers in all columns of the caller's X."""
        return centers if self.columns is None else self.columns.widen(centers)

    @property
    def n_all_features(self) -> int:
        """Of the caller's X."""
        return self.n_features if self.columns is None else self.columns.n_features

    def exponent(self, near: NDArray | None = None) -> int:
        """The power of two that brings the rows, and centers `near` them, into range: `magnitude.unit_exponent`.

        0 for rows on a device, which are not read here.
        """
        if self.form == "device":
            return 0
        if isinstance(self.X, Stream):
            return self.X.exponent(near)
        values = cast(CsrRows, self.X).data if self.form == "csr" else cast(NDArray, self.X)
        return unit_exponent(values, near)

    def in_unit(self, exponent: int) -> Given:
        """The same with rows that are multiplied by 2**exponent: a copy, unless it is 0."""
        if not exponent:
            return self
        if isinstance(self.X, Stream):
            return replace(self, X=self.X.in_unit(exponent))
        return replace(self, X=rows_times_power(self.X, exponent))

    def load(self, *, sums: bool = True) -> Rows:
        """The rows on the backend, with their weights."""
        if isinstance(self.X, Stream):
            return self.X.rows(self.backend, self.sample_weight, sums=sums)
        return self.backend.load(self.X, self.sample_weight, sums=sums)

    def feed(self, batch_size: int) -> Feed:
        """Batches of the rows, without weights; see `Backend.feed`."""
        return self.backend.feed(self.X, batch_size)

    def of_unit_length(self) -> tuple[Given, F64]:
        """The same with rows of unit length, and the largest magnitude of each row; see `Backend.unit_rows`."""
        unit, largest = self.backend.unit_rows(self.X)
        return replace(self, X=unit), largest

    def host_rows(self) -> NDArray | CsrRows:
        """The rows on the host, for code of the caller: copied from their device if they lie on one."""
        if isinstance(self.X, Stream):
            raise ValueError("A callable init gets all rows, and these stream; pass a name or an array of centers.")
        return self.X.on_host() if isinstance(self.X, DeviceInput) else self.X

    def n_distinct(self) -> int:
        """How many distinct rows of positive weight there are (-0.0 equals 0.0)."""
        if isinstance(self.X, Stream):
            return self.X.n_distinct(self.sample_weight, distinct_rows)
        return n_distinct_rows(self.host_rows(), self.sample_weight)

    @property
    def bytes_read(self) -> int | None:
        """Bytes of rows that were read so far; None of rows in memory."""
        return self.X.bytes_read if isinstance(self.X, Stream) else None

    def give(self, values: Any) -> Any:
        """A result as an array of the caller's kind; see `ArrayKind.give`."""
        return self.kind.give(values, self.backend)


def receive(
    estimator: BaseEstimator,
    X: ArrayLike,
    sample_weight: ArrayLike | None = None,
    *,
    backend: str | Backend,
    reset: bool,
    n_clusters: int = 1,
    check_values: bool = False,
    fitted_dtype: np.dtype | None = None,
    weight_dtype: np.dtype | None = None,
    to_host: bool = False,
    streams: bool = False,
    **others: Any,
) -> Given:
    """Check rows and their weights, and choose the backend that reads them.

    Parameters
    ----------
    estimator : BaseEstimator
        Gets `n_features_in_` and `feature_names_in_`, or has its own compared with those of X.
    X : array-like, sparse matrix or array on a device
    sample_weight : array-like of shape (n_samples,), optional
    backend : {"auto", "numpy", "cupy"} or Backend
    reset : bool
        Whether X is to be fitted, and not compared with an earlier one.
    n_clusters : int, default=1
        X must have as many rows at least.
    check_values : bool, default=False
        Read all values on the host at once, even if the backend checks them when it loads them: for rows that are
        loaded in parts, or without sums.
    fitted_dtype : dtype, optional
        Of fitted centers: if it is float64, float32 rows are widened, so that the centers are not rounded.
    weight_dtype : dtype, optional
        To which weights are rounded; by default that of centers fitted to X.
    to_host : bool, default=False
        Copy rows on a device to the host; results go back there.
    streams : bool, default=False
        Whether rows of `open_rows` are taken, too, and Dask arrays and data frames stay on their workers.
    **others
        Arrays that must lie on the host or where X lies, by the names that an error calls them.

    Returns
    -------
    Given

    Raises
    ------
    ValueError, TypeError, gpukmeans.backends.BackendUnavailable
        As `gpukmeans.KMeans.fit`.
    """
    rows = host_copy(X) if to_host else X
    if streams:
        rows = _parted(rows)
    form, placed, chosen = _placed(rows, backend, sample_weight=sample_weight, **others)
    if isinstance(placed, OpenRows):
        if not streams:
            raise TypeError(
                f"{type(estimator).__name__} reads rows here and there, and these stream: KMeans takes them; "
                "MiniBatchKMeans.partial_fit takes the blocks of rows.blocks(), one after the other."
            )
        if sample_weight is None:
            sample_weight = placed.sample_weight
        checked: Any = placed.stream(n_clusters, others.get("init"))
        check_width(estimator, checked if placed.names is None else placed.names, reset=reset)
    else:
        # Centers that are refused may be some of the rows, whose message is the one that helps: these are read first.
        check_values = check_values or beyond_limits(others.get("init"))
        checked = check_rows(estimator, placed, reset=reset, backend=None if check_values else chosen)
    check_enough(checked.shape[0], n_clusters)
    own = center_dtype(checked.dtype)
    weight = check_weights(sample_weight, checked.shape[0], own if weight_dtype is None else weight_dtype)
    if isinstance(checked, Stream) and (reset or weight is not None):
        checked.survey(weight)
    if fitted_dtype == np.float64 and checked.dtype == np.float32:
        checked = checked.astype(np.float64)
    return Given(checked, form, weight, own, chosen, ArrayKind.of(X))


def n_distinct_rows(X: NDArray | CsrRows, sample_weight: F64 | None) -> int:
    """How many distinct rows of positive weight there are, dense or canonical CSR, on the host.

    Counted by a 64-bit hash of each row, so that one row in 10**9 might be missed.
    """
    found: set[int] = set()
    distinct_rows(X, sample_weight, found)
    return len(found)


def distinct_rows(X: NDArray | CsrRows, sample_weight: F64 | None, found: set[int]) -> None:
    """Add the hashes of rows of positive weight."""
    heavy = range(X.shape[0]) if sample_weight is None else np.flatnonzero(sample_weight > 0.0).tolist()
    if isinstance(X, np.ndarray):
        found.update(hash((X[i] + X.dtype.type(0)).tobytes()) for i in heavy)
        return
    for i in heavy:
        entries = slice(X.indptr[i], X.indptr[i + 1])
        there = X.data[entries] != 0.0
        found.add(hash((X.indices[entries][there].tobytes(), X.data[entries][there].tobytes())))


def check_enough(n_samples: int, n_clusters: int) -> None:
    """Raise unless there are as many rows as clusters."""
    if n_samples < n_clusters:
        raise ValueError(f"n_samples={n_samples} should be >= n_clusters={n_clusters}.")


def lies_on_device(X: ArrayLike) -> bool:
    """Whether X is an array on a CUDA device."""
    return not is_sparse(X) and on_device(X) is not None


def give_back(X: ArrayLike, values: Any, backend: str | Backend) -> Any:
    """A result as an array of X's kind; `backend` is used only if X lies on a device."""
    kind = ArrayKind.of(X)
    return kind.give(values, None if kind.device is None else _placed(X, backend)[2])


def _placed(X: ArrayLike, backend: str | Backend, **others: Any) -> tuple[Form, Any, Backend]:
    """How X is stored, X as `check_rows` reads it, and the backend that reads this form."""
    form, placed = _form_of(X)
    check_places(X, **others)
    device = placed.device if form == "device" else None
    if isinstance(placed, OpenRows):
        return form, placed, placed.chosen(backend)
    return form, placed, get_backend(backend, device, sparse=form == "csr")


def _parted(X: Any) -> Any:
    """A Dask array or data frame as parts; everything else as it is."""
    if not type(X).__module__.startswith("dask."):
        return X
    from gpukmeans.distributed.dask_parts import given_by_dask

    return given_by_dask(X)


def _form_of(X: ArrayLike) -> tuple[Form, Any]:
    refuse_path(X)
    if isinstance(X, OpenRows):
        return "stream", X
    if is_sparse(X):
        return "csr", X
    found = on_device(X)
    return ("dense", host_view(X)) if found is None else ("device", found)
