"""The CUDA backend: raw kernels on a device, reached through device.py."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.backends import Drawn, Runs, tuning
from gpukmeans.backends.cupy_plusplus import plusplus
from gpukmeans.backends.cupy_run import CupyRun
from gpukmeans.backends.cupy_seeding import CupySeeding
from gpukmeans.backends.device import CupyDevice, Device, current_device, explained_memory_errors, probe
from gpukmeans.exact_sums import F64, I64, Grid

#: Row indices are int32 on the device.
MOST_SAMPLES = 2**31 - 1
#: kernels/move_sums.cu has a grid row for each of its blocks of features, and CUDA at most 65535 grid rows.
MOST_FEATURES = 65535 * tuning.MOVE_THREADS


class CupyBackend:
    """Runs on an NVIDIA GPU.

    Parameters
    ----------
    device : Device, optional
        The current CUDA device through CuPy by default.
    """

    name = "cupy"

    def __init__(self, device: Device | None = None) -> None:
        self._device: Device = current_device() if device is None else device

    def load(self, X: NDArray, sample_weight: F64 | None = None, grid: Grid | None = None) -> CupyRows:
        n, d = X.shape
        if X.dtype not in tuning.ROW_DTYPES:
            raise TypeError(f"Rows of dtype {X.dtype} cannot be loaded; uint8, float32 and float64 can.")
        if n > MOST_SAMPLES:
            raise ValueError(
                f"n_samples={n} should be at most {MOST_SAMPLES} on one device; split the rows or use backend='numpy'."
            )
        if d > MOST_FEATURES:
            raise ValueError(f"n_features={d} should be at most {MOST_FEATURES} on a GPU; use backend='numpy'.")
        launcher = Launcher(self._device)
        what = f"{n} rows of {d} {X.dtype} features"
        with explained_memory_errors(self._device, what, X.nbytes + 20 * n):
            return CupyRows(launcher, self._device.upload(np.ascontiguousarray(X)), sample_weight, grid)

    def describe(self) -> str:
        versions = probe().versions if isinstance(self._device, CupyDevice) else {}
        return ", ".join([self._device.name, *(f"{name} {version}" for name, version in versions.items())])


class Launcher:
    """Kernels by name; each file holds one kernel of the file's name."""

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


def stride_blocks(n_items: int, items_per_block: int) -> int:
    """Blocks of a grid-stride launch."""
    return min(tuning.STRIDE_BLOCKS, -(-n_items // items_per_block))


class CupyRows:
    """The rows of one fit on the device, as they are stored, and the buffers that its runs share."""

    def __init__(self, launcher: Launcher, X: Any, sample_weight: F64 | None, grid: Grid | None) -> None:
        self.launch = launcher
        self.device = device = launcher.device
        self.X = X
        self.grid = grid
        self.dtype = np.dtype(X.dtype)
        self.n_samples, self.n_features = X.shape
        self.center_dtype = tuning.center_dtype(self.dtype)
        self.host_weight = sample_weight
        self.weights = None if sample_weight is None else device.upload(np.ascontiguousarray(sample_weight))
        self.scale = None if grid is None else device.upload(grid.scale)
        self.norms = device.empty(self.n_samples, np.float32)
        self._largest = device.empty(1, np.float64)
        self._measure()
        # Shared by runs, which come one after the other:
        #: What one assignment counts: [rows open after the screen, rows open after resolve, rows moved].
        self.counters = device.empty(3, np.int32)
        self.new_labels = device.empty(self.n_samples, np.int32)
        self.undecided = device.empty(self.n_samples, np.int32)
        self.exact_rows = device.empty(self.n_samples, np.int32)

    def _measure(self) -> None:
        n, d = self.n_samples, self.n_features
        self.device.fill(self._largest, 0)
        args = (self.X, np.int64(n), np.int32(d), self.norms, self._largest)
        self.launch("row_facts", tuning.row_constants(self.dtype), stride_blocks(n, 8), 256, args)

    @functools.cached_property
    def largest_integer(self) -> float:
        """The largest magnitude if every value is a whole number, else infinity."""
        return float(self.device.download(self._largest)[0])

    @functools.cached_property
    def largest_norm(self) -> float:
        """An upper bound of the rows' norms."""
        return float(self.device.download(self.norms).max())

    @functools.cached_property
    def distances(self) -> Any:
        """(n_samples,) float64: scratch for `inertia` and `farthest`."""
        with explained_memory_errors(self.device, "the rows' distances", 8 * self.n_samples):
            return self.device.empty(self.n_samples, np.float64)

    def start(self, centers: NDArray, *, precision: str = "exact") -> CupyRun:
        return CupyRun(self, centers, precision)

    def runs_at_a_time(self, n_clusters: int) -> int:
        return 0  # not yet

    def start_many(self, centers: NDArray) -> Runs:
        raise NotImplementedError

    def plusplus(self, seeds: I64, draws: F64) -> Drawn:
        return plusplus(self, seeds, draws)

    def seeding(self) -> CupySeeding:
        return CupySeeding(self)

    def unweighted(self, grid: Grid) -> CupyRows:
        return CupyRows(self.launch, self.X, None, grid)

    def take(self, indices: NDArray[np.int64]) -> NDArray:
        if len(indices) == 0:
            return np.empty((0, self.n_features), self.dtype)
        return self.gather(self.device.upload(np.asarray(indices, np.int32)), 0, len(indices))

    def gather(self, indices: Any, start: int, count: int) -> NDArray:
        """Rows on the host, by a device array of their indices."""
        target = self.device.empty((count, self.n_features), self.dtype)
        args = (self.X, indices, np.int64(start), np.int64(count), np.int32(self.n_features), target)
        self.launch("gather_rows", tuning.row_constants(self.dtype), stride_blocks(count, 8), 256, args)
        return self.device.download(target)
