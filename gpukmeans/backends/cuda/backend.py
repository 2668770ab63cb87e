"""The CUDA backend: raw kernels on a device, reached through device.py."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.on_device import (
    BFLOAT16,
    ROW_DTYPE_NAMES,
    ROW_DTYPES,
    DeviceInput,
    bfloat16_values,
    center_dtype,
    dtype_name,
)
from gpukmeans.arrays.types import F64, I64
from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda.batches import HostFeed, ResidentFeed
from gpukmeans.backends.cuda.control import Scale
from gpukmeans.backends.cuda.device.cupy_device import CupyDevice, current_device
from gpukmeans.backends.cuda.device.probe import probe
from gpukmeans.backends.cuda.device.seam import Device, explained_memory_errors
from gpukmeans.backends.cuda.facts import RowFacts, row_facts
from gpukmeans.backends.cuda.rows import DeviceRows, Launcher
from gpukmeans.backends.cuda.runs import CupyRuns, variances
from gpukmeans.backends.cuda.seeding.plusplus import plusplus
from gpukmeans.backends.cuda.seeding.steps import CupySeeding
from gpukmeans.backends.cuda.sparse.rows import CupySparseRows, SparseSource
from gpukmeans.backends.cuda.workspace import DenseWorkspace, Workspace
from gpukmeans.backends.defaults import BackendDefaults
from gpukmeans.backends.protocol import CsrRows, Drawn
from gpukmeans.exact.sums import Grid, weight_grid
from gpukmeans.exact.unit_rows import unit_rows

#: Row indices are int32 on the device.
MOST_SAMPLES = 2**31 - 1
#: kernels/column_largest.cu has a grid row for each of its blocks of columns, and CUDA at most 65535 grid rows.
MOST_FEATURES = 65535 * tuning.COLUMN_THREADS


class CupyBackend(BackendDefaults):
    """Runs on an NVIDIA GPU.

    Parameters
    ----------
    device : Device, optional
        The current CUDA device through CuPy by default.
    """

    name = "cupy"
    reads_sparse = True
    reads_device = True
    fits_many = True

    def __init__(self, device: Device | None = None) -> None:
        self._device: Device = current_device() if device is None else device

    def load(
        self, X: NDArray | DeviceInput | CsrRows, sample_weight: F64 | None = None, *, sums: bool = True
    ) -> CupyRows | CupySparseRows:
        if isinstance(X, np.ndarray | DeviceInput):
            return self._load_dense(X, sample_weight, sums=sums)
        _check_count(X.shape[0])
        return CupySparseRows(Launcher(self._device), X, sample_weight, sums=sums)

    def _load_dense(self, X: NDArray | DeviceInput, sample_weight: F64 | None = None, *, sums: bool = True) -> CupyRows:
        n, d = X.shape
        if X.dtype not in ROW_DTYPES:
            raise TypeError(f"Rows of dtype {dtype_name(X.dtype)} cannot be loaded; {ROW_DTYPE_NAMES} can.")
        _check_count(n)
        if d > MOST_FEATURES:
            raise ValueError(f"n_features={d} should be at most {MOST_FEATURES} on a GPU; use backend='numpy'.")
        what = f"{n} rows of {d} {dtype_name(X.dtype)} features"
        with explained_memory_errors(self._device, what, n * d * X.dtype.itemsize):
            array = self._adopted(X) if isinstance(X, DeviceInput) else self._device.upload(np.ascontiguousarray(X))
        with explained_memory_errors(self._device, f"what is kept of {what}", (8 if sample_weight is None else 16) * n):
            source = X if isinstance(X, DeviceInput) else None
            return CupyRows.read(Launcher(self._device), array, X.dtype, sample_weight, sums=sums, source=source)

    def problems_at_a_time(
        self, shape: tuple[int, int], dtype: np.dtype, n_clusters: int, n_runs: int, *, weighted: bool
    ) -> int:
        room = min(tuning.BATCH_BYTES, self._device.memory()[0] // 4)
        return tuning.problems_at_a_time(shape, dtype, n_clusters, n_runs, room, weighted=weighted)

    def load_many(self, X: NDArray | DeviceInput, sample_weight: F64 | None = None) -> CupyRows:
        n_problems, n, d = X.shape
        what = f"{n_problems} problems of {n} rows of {d} {dtype_name(X.dtype)} features"
        with explained_memory_errors(self._device, what, n_problems * n * (d * X.dtype.itemsize + 8)):
            array = self._adopted(X) if isinstance(X, DeviceInput) else self._device.upload(np.ascontiguousarray(X))
            source = X if isinstance(X, DeviceInput) else None
            array = array.reshape((n_problems * n, d))
            launcher = Launcher(self._device)
            return CupyRows.read(launcher, array, X.dtype, sample_weight, n_problems=n_problems, source=source)

    def _adopted(self, X: DeviceInput) -> Any:
        """The caller's array as ours, in place if it is C-contiguous."""
        if X.device != self._device.index:
            raise ValueError(
                f"X lies on CUDA device {X.device}, but this backend computes on CUDA device {self._device.index}: "
                "pass backend='auto' or 'cupy', which go where X lies, or move X."
            )
        return self._device.adopt(X.array, None if X.dtype == BFLOAT16 else X.dtype)

    def hand_out(self, values: NDArray) -> Any:
        with (
            explained_memory_errors(self._device, "what a fit returns", values.nbytes),
            self._device.for_caller(values.shape, values.dtype) as array,
        ):
            self._device.write(array, values)
        return array

    def unit_rows(self, X: NDArray | DeviceInput | CsrRows) -> tuple[Any, F64]:
        if not isinstance(X, DeviceInput):
            return unit_rows(X)
        n, d = X.shape
        constants, dtype = tuning.row_center_constants(X.dtype), center_dtype(X.dtype)
        with explained_memory_errors(self._device, f"{n} rows of unit length", n * (d * dtype.itemsize + 8)):
            array, largest = self._adopted(X), self._device.empty(n, np.float64)
            with self._device.for_caller((n, d), dtype) as unit:
                args = (array, np.int64(n), np.int32(d), unit, largest)
                Launcher(self._device)("unit_rows", constants, tuning.stride_blocks(n, 8), 256, args)
        return DeviceInput(unit, (n, d), dtype, X.device), self._device.download(largest)

    def feed(self, X: NDArray | DeviceInput | CsrRows, batch_size: int) -> ResidentFeed | HostFeed:
        if isinstance(X, DeviceInput):
            return ResidentFeed(self._load_dense(X, sums=False))
        launch = Launcher(self._device)
        if not isinstance(X, np.ndarray):
            return ResidentFeed(SparseSource(launch, X))
        return HostFeed(
            self._device, X, batch_size, lambda batch: CupyRows.read(launch, batch, X.dtype, None), self._load_dense
        )

    def minds(self, dtype: np.dtype) -> bool:
        """Every value is read while rows are loaded."""
        return True

    def describe(self) -> str:
        versions = probe().versions if isinstance(self._device, CupyDevice) else {}
        return ", ".join([self._device.name, *(f"{name} {version}" for name, version in versions.items())])


def _check_count(n_samples: int) -> None:
    if n_samples > MOST_SAMPLES:
        raise ValueError(
            f"n_samples={n_samples} should be at most {MOST_SAMPLES} on one device; split the rows or use "
            "backend='numpy'."
        )


class CupyRows(DeviceRows):
    """Dense rows, as they are stored.

    Or those of several fits of one shape, one after another (`gpukmeans.backends.Problems`): then kernels take every
    problem as a third axis of the grid.
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
    ) -> None:
        super().__init__(launcher, dtype, host_weight, weights)
        self.X = X
        self._source = source  # whose memory X may be
        self.n_problems = len(facts.table)
        self.n_samples, self.n_features = X.shape[0] // self.n_problems, X.shape[1]
        self.facts, self.grid = facts, facts.grid
        #: How the rows of the first problem become halves (kernels/screen.cuh).
        self.half_scale = float(facts.table[0, Scale.HALF_SCALE])
        #: The largest magnitude if every value is a whole number, else infinity; and the largest magnitude.
        self.largest_integer = float(facts.table[:, Scale.LARGEST_WHOLE].max())
        self.largest = float(facts.largest.max())
        #: Whether the rows begin where 16 bytes can be read at once.
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
    ) -> CupyRows:
        """Find out what is to be known of rows (n_problems * n_samples, n_features) on the device."""
        device, n = launcher.device, X.shape[0] // n_problems
        weights = None
        if sample_weight is not None:
            weights = device.upload(np.ascontiguousarray(sample_weight).reshape(-1))
        scales = np.broadcast_to(_weight_grid(n, sample_weight).scale, n_problems)
        facts = row_facts(device, launcher, X, dtype, weights, scales, sums=sums)
        return cls(launcher, X, dtype, sample_weight, weights, facts, source=source)

    def problem(self, number: int) -> CupyRows:
        if self.n_problems == 1:
            return self
        n = self.n_samples
        part = slice(number * n, (number + 1) * n)
        weights = None if self.weights is None else self.weights[part]
        host_weight = None if self.host_weight is None else self.host_weight[number]
        facts = self.facts.of_problem(number, n)
        return CupyRows(self.launch, self.X[part], self.dtype, host_weight, weights, facts, source=self._source)

    @functools.cached_property
    def weight_grid(self) -> Grid:
        """The grid of the weights; that of several problems has a scale for each, and two limbs if one needs them."""
        return _weight_grid(self.n_samples, self.host_weight)

    def _new_workspace(self, n_clusters: int, n_runs: int, exact: bool) -> Workspace:
        return DenseWorkspace(self, n_clusters, n_runs, exact)

    def runs_at_a_time(self, n_clusters: int, n_runs: int) -> int:
        return tuning.runs_at_a_time(self.n_samples, n_clusters) if n_runs > 1 else 0

    def start_many(self, centers: NDArray) -> CupyRuns:
        return CupyRuns(self, centers)

    def plusplus(self, seeds: I64, draws: F64) -> Drawn:
        return plusplus(self, seeds, draws)

    def seeding(self) -> CupySeeding:
        return CupySeeding(self)

    def unweighted(self) -> CupyRows:
        with explained_memory_errors(self.device, f"{self.n_samples} rows without weights", 8 * self.n_samples):
            return CupyRows.read(self.launch, self.X, self.dtype, None, n_problems=self.n_problems, source=self._source)

    def variances(self) -> F64:
        return variances(self if self.weights is None else self.unweighted())

    def labels_there(self, labels: Any) -> Any:
        """A copy of labels, (n_samples,), for the caller, where the rows were loaded from."""
        if self._source is None:
            return super().labels_there(labels)
        with (
            explained_memory_errors(self.device, "the labels", labels.nbytes),
            self.device.for_caller(labels.shape, labels.dtype) as array,
        ):
            self.device.copy(array, labels)
        return array

    def center_distances(self, centers: NDArray) -> Any:
        constants = tuning.transform_constants(self.dtype, wide=centers.dtype != np.float32)
        dtype = np.dtype(np.float32 if constants["CENTER"] == "float" else np.float64)
        n, k = self.n_samples, len(centers)
        with (
            explained_memory_errors(self.device, f"{n} x {k} distances", n * k * dtype.itemsize),
            self.device.for_caller((n, k), dtype) as distances,
        ):
            there = self.device.upload(np.ascontiguousarray(centers, dtype))
            step = max(1, tuning.DISTANCE_TERMS // (k * self.n_features))
            for start in range(0, n, step):
                X, part = self.X[start : start + step], distances[start : start + step]
                args = (X, there, np.int64(len(X)), np.int32(self.n_features), np.int32(k), part)
                self.launch("center_distances", constants, tuning.stride_blocks(len(X), 8), 256, args)
        return distances

    def subset(self, indices: NDArray[np.int64], sample_weight: F64 | None = None, *, sums: bool = True) -> CupyRows:
        n_bytes = len(indices) * (self.n_features * self.X.dtype.itemsize + (8 if sample_weight is None else 16))
        with explained_memory_errors(self.device, f"a copy of {len(indices)} rows", n_bytes):
            X = self._gathered(self.device.upload(np.asarray(indices, np.int32)), 0, len(indices))
            return CupyRows.read(self.launch, X, self.dtype, sample_weight, sums=sums)

    def take(self, indices: NDArray[np.int64]) -> NDArray:
        if len(indices) == 0:
            return np.empty((0, self.n_features), self.dtype)
        return self.gather(self.device.upload(np.asarray(indices, np.int32)), 0, len(indices))

    def gather(self, indices: Any, start: int, count: int) -> NDArray:
        """Rows on the host, by a device array of their indices."""
        found = self.device.download(self._gathered(indices, start, count))
        return bfloat16_values(found) if self.dtype == BFLOAT16 else found

    def _gathered(self, indices: Any, start: int, count: int) -> Any:
        """The same on the device."""
        target = self.device.empty((count, self.n_features), self.X.dtype)
        args = (self.X, indices, np.int64(start), np.int64(count), np.int32(self.n_features), target)
        self.launch("gather_rows", tuning.row_constants(self.dtype), tuning.stride_blocks(count, 8), 256, args)
        return target


def _weight_grid(n_samples: int, sample_weight: F64 | None) -> Grid:
    """`weight_grid`, of each problem where there are several: weights of shape (n_problems, n_samples)."""
    if sample_weight is None or sample_weight.ndim == 1:
        return weight_grid(n_samples, sample_weight)
    return Grid.for_rows(np.ascontiguousarray(sample_weight.T))
