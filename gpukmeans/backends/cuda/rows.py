"""What rows on a device have in common, whether they are stored dense or in CSR: kernels by name, and workspaces."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.on_device import center_dtype
from gpukmeans.arrays.types import F64
from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda.device.seam import Device, explained_memory_errors
from gpukmeans.backends.cuda.run import CupyRun
from gpukmeans.backends.cuda.workspace import Workspace
from gpukmeans.backends.defaults import RowsDefaults
from gpukmeans.backends.protocol import BatchSums
from gpukmeans.exact import batch_inertia
from gpukmeans.exact.sums import Grid


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


class DeviceRows(RowsDefaults):
    """The rows of one fit on the device, and the buffers that its runs share.

    Attributes
    ----------
    host_weight, weights : ndarray and device array of shape (n_samples,), float64, or None
        Of several problems the former is (n_problems, n_samples), the latter has no axis of the problems.
    facts : RowFacts or SparseFacts
    half_scale : float
        A power of two: screens, limits and drifts are about rows times this.
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
        self._idle: list[Workspace] = []

    @functools.cached_property
    def distances(self) -> Any:
        """(n_samples,) float64: scratch for `inertia` and `farthest`."""
        with explained_memory_errors(self.device, "the rows' distances", 8 * self.n_samples):
            return self.device.empty(self.n_samples, np.float64)

    def workspace(self, n_clusters: int, n_runs: int, exact: bool) -> Workspace:
        """What runs need; what an earlier one of the same kind has left, if there is one."""
        wanted = (n_clusters, n_runs, exact)
        fitting = [work for work in self._idle if (work.n_clusters, work.n_runs, work.exact) == wanted]
        self._idle = fitting[1:]  # others give their memory back
        work = fitting[0] if fitting else self._new_workspace(*wanted)
        work.attach(self)
        return work

    def _new_workspace(self, n_clusters: int, n_runs: int, exact: bool) -> Workspace:
        raise NotImplementedError

    def leave(self, work: Workspace) -> None:
        """A run has ended."""
        work.attach(None)
        self._idle.append(work)

    def start(self, centers: NDArray, *, precision: str = "exact") -> CupyRun:
        return CupyRun(self, centers, precision)

    def labels_there(self, labels: Any) -> Any:
        """A copy of labels, (n_samples,), for the caller, where the rows were loaded from: on the host."""
        return self.device.download(labels)

    def n_used(self, labels: Any, n_clusters: int) -> int:
        if isinstance(labels, np.ndarray):
            return int(np.count_nonzero(np.bincount(labels, minlength=n_clusters)))
        return self.n_used_by_each(labels.reshape(1, -1), n_clusters)[0]

    def n_used_by_each(self, labels: Any, n_clusters: int) -> list[int]:
        """`n_used` of several runs, labels (n_runs, n_samples) on the device."""
        n_runs = len(labels)
        used = self.device.empty((n_runs, -(-n_clusters // 32)), np.uint32)
        self.device.fill(used, 0)
        grid = (tuning.stride_blocks(self.n_samples, 256), -(-n_clusters // tuning.USED_CLUSTERS), n_runs)
        args = (labels, np.int64(self.n_samples), np.int32(n_clusters), used)
        self.launch("used_clusters", {}, grid, 256, args)
        return np.unpackbits(self.device.download(used).view(np.uint8), axis=1).sum(axis=1).tolist()

    def batch_sums(self, centers: NDArray, *, precision: str = "exact", inertia: bool = True) -> BatchSums:
        run = self.start(centers, precision=precision)
        run.assign()
        sums, weights = run.batch_sums()
        if not inertia:
            return BatchSums(sums, weights, float("nan"))
        found = batch_inertia.from_distances(run.inertia(), self.n_features)
        if found is None:
            found = self._batch_inertia(centers, run.labels(), weights)
        return BatchSums(sums, weights, found)

    def _batch_inertia(self, centers: NDArray, labels: NDArray[np.int32], weights: F64) -> float:
        """Of an assignment whose distances leave it open."""
        return batch_inertia.in_whole_numbers(self.take(np.arange(self.n_samples)), centers, labels)

    def take(self, indices: NDArray[np.int64]) -> NDArray:
        raise NotImplementedError
