"""The CUDA backend: kernels/*.cu on a device that `device/seam.py` describes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.on_device import (
    BFLOAT16,
    ROW_DTYPE_NAMES,
    ROW_DTYPES,
    DeviceInput,
    center_dtype,
    dtype_name,
)
from gpukmeans.arrays.types import F64
from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda.batches import HostFeed, in_turn
from gpukmeans.backends.cuda.device.cupy_device import CupyDevice, current_device
from gpukmeans.backends.cuda.device.probe import probe
from gpukmeans.backends.cuda.device.seam import Device, explained_memory_errors
from gpukmeans.backends.cuda.rows import CupyRows
from gpukmeans.backends.cuda.sparse.rows import CupySparseRows, SparseSource
from gpukmeans.backends.cuda.sparse.table import CupySparseTable
from gpukmeans.backends.cuda.table import CupyDenseTable, Launcher
from gpukmeans.backends.defaults import BackendDefaults, SubsetFeed
from gpukmeans.backends.protocol import CsrRows, Rows
from gpukmeans.exact.unit_rows import unit_rows

#: Row indices are int32 on the device.
MOST_SAMPLES = 2**31 - 1
#: kernels/column_facts.cu has a grid row for each of its blocks of columns, and CUDA at most 65535 grid rows.
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
        return CupySparseRows(CupySparseTable(Launcher(self._device.own_order()), X, sample_weight, sums=sums))

    def _load_dense(self, X: NDArray | DeviceInput, sample_weight: F64 | None = None, *, sums: bool = True) -> CupyRows:
        n, d = X.shape
        if X.dtype not in ROW_DTYPES:
            raise TypeError(f"Rows of dtype {dtype_name(X.dtype)} cannot be loaded; {ROW_DTYPE_NAMES} can.")
        _check_count(n)
        if d > MOST_FEATURES:
            raise ValueError(f"n_features={d} should be at most {MOST_FEATURES} on a GPU; use backend='numpy'.")
        device = self._device.own_order()
        what = f"{n} rows of {d} {dtype_name(X.dtype)} features"
        with explained_memory_errors(device, what, n * d * X.dtype.itemsize):
            array = _adopted(device, X) if isinstance(X, DeviceInput) else device.upload(np.ascontiguousarray(X))
        with explained_memory_errors(device, f"what is kept of {what}", (8 if sample_weight is None else 16) * n):
            source = X if isinstance(X, DeviceInput) else None
            host = X if isinstance(X, np.ndarray) else None
            launch = Launcher(device)
            table = CupyDenseTable.read(launch, array, X.dtype, sample_weight, sums=sums, source=source, host=host)
            return CupyRows(table)

    def problems_at_a_time(
        self, shape: tuple[int, int], dtype: np.dtype, n_clusters: int, n_runs: int, *, weighted: bool
    ) -> int:
        room = min(tuning.BATCH_BYTES, self._device.memory()[0] // 4)
        return tuning.problems_at_a_time(shape, dtype, n_clusters, n_runs, room, weighted=weighted)

    def load_many(self, X: NDArray | DeviceInput, sample_weight: F64 | None = None) -> CupyRows:
        n_problems, n, d = X.shape
        device = self._device.own_order()
        what = f"{n_problems} problems of {n} rows of {d} {dtype_name(X.dtype)} features"
        with explained_memory_errors(device, what, n_problems * n * (d * X.dtype.itemsize + 8)):
            array = _adopted(device, X) if isinstance(X, DeviceInput) else device.upload(np.ascontiguousarray(X))
            source = X if isinstance(X, DeviceInput) else None
            array = array.reshape((n_problems * n, d))
            launcher = Launcher(device)
            table = CupyDenseTable.read(launcher, array, X.dtype, sample_weight, n_problems=n_problems, source=source)
            return CupyRows(table)

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
            array, largest = _adopted(self._device, X), self._device.empty(n, np.float64)
            with self._device.for_caller((n, d), dtype) as unit:
                args = (array, np.int64(n), np.int32(d), unit, largest)
                Launcher(self._device)("unit_rows", constants, tuning.stride_blocks(n, 8), 256, args)
        return DeviceInput(unit, (n, d), dtype, X.device), self._device.download(largest)

    def feed(self, X: NDArray | DeviceInput | CsrRows, batch_size: int) -> SubsetFeed | HostFeed:
        if isinstance(X, DeviceInput):
            return SubsetFeed(self._load_dense(X, sums=False))
        device = self._device.own_order()
        launch = Launcher(device)
        if not isinstance(X, np.ndarray):
            return SubsetFeed(SparseSource(launch, X))

        def rows_of(batch: Any) -> CupyRows:
            return CupyRows(CupyDenseTable.read(launch, batch, X.dtype, None))

        return HostFeed(device, X, batch_size, rows_of, self._load_dense)

    def load_in_turn(self, blocks: Iterable[tuple[slice, Any]], most: int) -> Iterator[tuple[slice, Any, Rows]]:
        device = self._device.own_order()
        launch = Launcher(device)

        def rows_of(array: Any, X: NDArray) -> CupyRows:
            return CupyRows(CupyDenseTable.read(launch, array, X.dtype, None, sums=False, host=X))

        return in_turn(device, blocks, most, rows_of, lambda X: self.load(X, sums=False))

    def checks_values(self, dtype: np.dtype) -> bool:
        """True: `load` reads every value."""
        return True

    def describe(self) -> str:
        versions = probe().versions if isinstance(self._device, CupyDevice) else {}
        return ", ".join([self._device.name, *(f"{name} {version}" for name, version in versions.items())])


def _adopted(device: Device, X: DeviceInput) -> Any:
    """The caller's array as a device array: the same memory if it is C-contiguous, else a copy."""
    if X.device != device.index:
        raise ValueError(
            f"X lies on CUDA device {X.device}, but this backend computes on CUDA device {device.index}: "
            "pass backend='auto' or 'cupy', which go where X lies, or move X."
        )
    return device.adopt(X.array, None if X.dtype == BFLOAT16 else X.dtype)


def _check_count(n_samples: int) -> None:
    if n_samples > MOST_SAMPLES:
        raise ValueError(
            f"n_samples={n_samples} should be at most {MOST_SAMPLES} on one device; split the rows or use "
            "backend='numpy'."
        )
