"""The rows of one fit on the device, with their facts and weights: what runs and seeding launch kernels on."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.on_device import BFLOAT16, bfloat16_values, center_dtype, storage_dtype
from gpukmeans.arrays.types import F64
from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda.control import Scale
from gpukmeans.backends.cuda.device.seam import Device, explained_memory_errors
from gpukmeans.backends.cuda.device.structs import Struct
from gpukmeans.backends.cuda.facts import RowFacts, launch_column_facts, row_facts
from gpukmeans.exact.sums import Grid, weight_grid


class Launcher:
    """Launches kernels by name; each file holds one kernel of the file's name."""

    def __init__(self, device: Device) -> None:
        self.device = device

    def __call__(
        self,
        name: str,
        constants: tuning.Constants,
        grid: int | tuple[int, ...],
        block: int | tuple[int, ...],
        args: Sequence[Any],
        shared_mem: int = 0,
    ) -> None:
        self.device.kernel(name, name, constants)(grid, block, args, shared_mem=shared_mem)


class CupyTable:
    """What dense rows and rows in CSR have in common.

    Attributes
    ----------
    launch : Launcher
    device : Device
    dtype, center_dtype : dtype
        Of the rows as stored, and of their centers.
    host_weight, weights : ndarray and device array of shape (n_samples,), float64, or None
        For several problems the former is (n_problems, n_samples), the latter (n_problems * n_samples,).
    n_problems, n_samples, n_features : int
        `n_samples` of each problem.
    grid, weight_grid : Grid
        Of the sums and of the weights; `grid` is None for rows that are not to be summed.
    facts : RowFacts or SparseFacts
    half_scale : float
        A power of two: screens, limits and drifts use rows times this.
    largest_integer : float
        The largest magnitude if every value is a whole number, else infinity.
    """

    n_problems: int = 1
    n_samples: int
    n_features: int
    grid: Grid | None
    weight_grid: Any
    facts: Any
    half_scale: float
    largest_integer: float

    def __init__(self, launcher: Launcher, dtype: np.dtype, host_weight: F64 | None, weights: Any) -> None:
        self.launch = launcher
        self.device = launcher.device
        self.dtype = dtype
        self.center_dtype = center_dtype(dtype)
        self.host_weight, self.weights = host_weight, weights

    def struct(self, name: str, /, **values: Any) -> Struct:
        """A struct for kernels whose ROW and CENTER are those of these rows."""
        types = {"ROW": storage_dtype(self.dtype), "CENTER": self.center_dtype}
        return Struct(self.device, name, types, **values)

    @functools.cached_property
    def distances(self) -> Any:
        """(n_samples,) float64: scratch memory for one value of each row, shared by all runs."""
        with explained_memory_errors(self.device, "the rows' distances", 8 * self.n_samples):
            return self.device.empty(self.n_samples, np.float64)

    #: Whether the rows were loaded from a device, where results stay.
    stays = False

    def labels_for_caller(self, labels: Any) -> Any:
        """A copy of labels, (n_samples,), where the rows were loaded from: on the host."""
        return self.device.download(labels)

    def n_used_by_each(self, labels: Any, n_clusters: int) -> list[int]:
        """How many clusters have a row, for each run; labels are (n_runs, n_samples) on the device."""
        n_runs = len(labels)
        used = self.device.empty((n_runs, -(-n_clusters // 32)), np.uint32)
        self.device.fill(used, 0)
        launch_grid = (tuning.stride_blocks(self.n_samples, 256), -(-n_clusters // tuning.USED_CLUSTERS), n_runs)
        args = (labels, np.int64(self.n_samples), np.int32(n_clusters), used)
        self.launch("used_clusters", {}, launch_grid, 256, args)
        return np.unpackbits(self.device.download(used).view(np.uint8), axis=1).sum(axis=1).tolist()

    def take(self, indices: NDArray[np.int64]) -> NDArray:
        """Some rows, as stored, on the host (bfloat16 as float32)."""
        raise NotImplementedError


class CupyDenseTable(CupyTable):
    """Dense rows, as they are stored.

    The rows of several fits of one shape may follow one another (`gpukmeans.backends.problems.Problems`); then the
    third axis of each launch is the problem.

    Parameters
    ----------
    launcher : Launcher
    X : device array of shape (n_problems * n_samples, n_features)
        Elements as `dtype` says.
    dtype : dtype
    host_weight, weights
        See `CupyTable`.
    facts : RowFacts
    source : object, optional
        The caller's array, whose memory X may share; it is kept alive.  None if the rows come from the host.
    host : ndarray of shape (n_samples, n_features), optional
        The rows on the host, if they came from there and stay there.

    Attributes
    ----------
    half_scale : float
        How the rows of the first problem become halves (kernels/screen.cuh).
    largest : float
        The largest magnitude.
    aligned : bool
        Whether the rows begin at a multiple of 16 bytes.
    """

    def __init__(
        self,
        launcher: Launcher,
        X: Any,
        dtype: np.dtype,
        host_weight: F64 | None,
        weights: Any,
        facts: RowFacts,
        *,
        source: object = None,
        host: NDArray | None = None,
    ) -> None:
        super().__init__(launcher, dtype, host_weight, weights)
        self.X, self._host = X, host
        self._source, self.stays = source, source is not None
        self.n_problems = len(facts.table)
        self.n_samples, self.n_features = X.shape[0] // self.n_problems, X.shape[1]
        self.facts, self.grid = facts, facts.grid
        self.half_scale = float(facts.table[0, Scale.HALF_SCALE])
        self.largest_integer = float(facts.table[:, Scale.LARGEST_WHOLE].max())
        self.largest = float(facts.table[:, Scale.LARGEST_ANY].max())
        self.aligned = self.device.address(X) % 16 == 0

    @classmethod
    def read(
        cls,
        launcher: Launcher,
        X: Any,
        dtype: np.dtype,
        sample_weight: F64 | None,
        *,
        n_problems: int = 1,
        sums: bool = True,
        source: object = None,
        host: NDArray | None = None,
    ) -> CupyDenseTable:
        """The table of rows (n_problems * n_samples, n_features) on the device, whose facts are computed here."""
        device, n = launcher.device, X.shape[0] // n_problems
        weights = None
        if sample_weight is not None:
            weights = device.upload(np.ascontiguousarray(sample_weight).reshape(-1))
        scales = np.broadcast_to(_weight_grid(n, sample_weight).scale, n_problems)
        facts = row_facts(device, launcher, X, dtype, weights, scales, sums=sums)
        return cls(launcher, X, dtype, sample_weight, weights, facts, source=source, host=host)

    @functools.cached_property
    def columns(self) -> F64:
        """(n_problems, 3, n_features): `RowFacts.columns`, or without weights where these were not needed."""
        if self.facts.columns is not None:
            return self.facts.columns
        shape = (self.n_problems, 3, self.n_features)
        with explained_memory_errors(self.device, "sums of the features", 8 * math.prod(shape)):
            columns = self.device.empty(shape, np.float64)
            self.device.fill(columns, 0)
            launch_column_facts(self.launch, self.X, self.dtype, None, columns)
            return self.device.download(columns)

    @functools.cached_property
    def rows(self) -> Struct:
        """The rows as kernels take them, ``Rows`` of kernels/rows.cuh."""
        return self.struct("Rows", X=self.X, n=self.n_samples, d=self.n_features)

    def problem(self, number: int) -> CupyDenseTable:
        """The table of one problem; device arrays are the same memory."""
        n = self.n_samples
        part = slice(number * n, (number + 1) * n)
        weights = None if self.weights is None else self.weights[part]
        host_weight = None if self.host_weight is None else self.host_weight[number]
        facts = self.facts.of_problem(number, n)
        return CupyDenseTable(self.launch, self.X[part], self.dtype, host_weight, weights, facts, source=self._source)

    def unweighted(self) -> CupyDenseTable:
        """The same rows, not copied, without weights, to be summed."""
        with explained_memory_errors(self.device, f"{self.n_samples} rows without weights", 8 * self.n_samples):
            return CupyDenseTable.read(
                self.launch, self.X, self.dtype, None, n_problems=self.n_problems, source=self._source
            )

    def subset(self, indices: NDArray[np.int64], sample_weight: F64 | None, *, sums: bool) -> CupyDenseTable:
        """A copy of some rows on the device: see `gpukmeans.backends.Rows.subset`."""
        n_bytes = len(indices) * (self.n_features * self.X.dtype.itemsize + (8 if sample_weight is None else 16))
        with explained_memory_errors(self.device, f"a copy of {len(indices)} rows", n_bytes):
            X = self._gathered(self.device.upload(np.asarray(indices, np.int32)), 0, len(indices))
            return CupyDenseTable.read(self.launch, X, self.dtype, sample_weight, sums=sums)

    @functools.cached_property
    def weight_grid(self) -> Grid:
        """The grid of the weights; that of several problems has a scale for each, and two limbs if one needs them."""
        return _weight_grid(self.n_samples, self.host_weight)

    def labels_for_caller(self, labels: Any) -> Any:
        """A copy of labels, (n_samples,), where the rows were loaded from: on the host, or on the caller's device."""
        if not self.stays:
            return super().labels_for_caller(labels)
        with (
            explained_memory_errors(self.device, "the labels", labels.nbytes),
            self.device.for_caller(labels.shape, labels.dtype) as array,
        ):
            self.device.copy(array, labels)
        return array

    def take(self, indices: NDArray[np.int64]) -> NDArray:
        if self._host is not None:
            return self._host[indices]
        if len(indices) == 0:
            return np.empty((0, self.n_features), self.dtype)
        return self.gather(self.device.upload(np.asarray(indices, np.int32)), 0, len(indices))

    def gather(self, indices: Any, start: int, count: int) -> NDArray:
        """Rows on the host, by `count` elements of a device array of their indices, from element `start` on."""
        found = self.device.download(self._gathered(indices, start, count))
        return bfloat16_values(found) if self.dtype == BFLOAT16 else found

    def _gathered(self, indices: Any, start: int, count: int) -> Any:
        """The same on the device."""
        target = self.device.empty((count, self.n_features), self.X.dtype)
        args = (self.X, indices, np.int64(start), np.int64(count), np.int32(self.n_features), target)
        self.launch("gather_rows", tuning.row_constants(self.dtype), tuning.stride_blocks(count, 8), 256, args)
        return target


def _weight_grid(n_samples: int, sample_weight: F64 | None) -> Grid:
    """`weight_grid`; for weights of shape (n_problems, n_samples) that of each problem."""
    if sample_weight is None or sample_weight.ndim == 1:
        return weight_grid(n_samples, sample_weight)
    return Grid.for_rows(np.ascontiguousarray(sample_weight.T))
