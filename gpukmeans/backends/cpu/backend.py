"""The NumPy backend: the fallback without a GPU, and the reference for every other backend.

Where to find what, in this folder:

rows, table         the rows of a fit: how runs and seedings begin; what is kept of the rows
run                 one run of Lloyd's algorithm: skip, screen, resolve, move
screens/bounds      which rows to skip: drift bounds and the watch list
screens/full        float32 scores of whole rows, with their radii
screens/components  scores of a few leading components, anchored to those of whole rows
screens/groups      many centers: bounds of groups of them; screens/grouping makes the groups
batches             mini-batches: a single assignment of few rows
distinct            rows that repeat: each distinct one once
own                 what follows from the distance of every row to its own center
sums                exact sums of the clusters
seeding/            k-means++ and k-means||: steps of a run, and the screen that all restarts share
lockstep/           small problems, all restarts together: runs, steps, and the draws of their seeds
line/               rows of one feature, sorted once: rows, run and seeding
sparse/             rows in CSR: rows, table, sums and seeding; gpukmeans/backends/csr has their scores and exact labels
"""

from __future__ import annotations

import platform

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.on_device import DeviceInput
from gpukmeans.arrays.types import F64
from gpukmeans.backends.cpu.feed import NumpyFeed
from gpukmeans.backends.cpu.rows import NumpyRows
from gpukmeans.backends.cpu.sparse.rows import SparseRows
from gpukmeans.backends.cpu.table import Switches
from gpukmeans.backends.defaults import BackendDefaults, SubsetFeed
from gpukmeans.backends.protocol import CsrRows


class NumpyBackend(BackendDefaults):
    """Runs on the CPU with NumPy, SciPy's sparse products and BLAS.

    Parameters
    ----------
    skip : bool, default=True
        Keep drift bounds, of groups of centers where there are many, and look only at rows that these cannot settle.
    screen : bool, default=True
        Settle rows by float32 scores where their error radius allows it; without, float64 distances settle all.
    project : bool, default=True
        Screen by a few leading components first, where a sample says that it pays.
    lockstep : bool, default=True
        Let the restarts of small problems advance together (which takes none of the short cuts above, nor needs them;
        without one of these it is off, too).
    sort : bool, default=True
        Sort rows of one feature once, and search for the boundaries between centers; look at equal rows once (without
        one of the first three switches this is off, too).

    Notes
    -----
    The switches are for experiments: they change the time of a fit and none of its bits.
    """

    name = "numpy"
    reads_sparse = True

    def __init__(
        self,
        *,
        skip: bool = True,
        screen: bool = True,
        project: bool = True,
        lockstep: bool = True,
        sort: bool = True,
    ) -> None:
        plain = skip and screen and project
        self.switches = Switches(skip, screen, project, lockstep and plain, sort and plain)

    def __getstate__(self) -> dict[str, bool]:
        """For pickles: the parameters."""
        return self.switches._asdict()

    def __setstate__(self, state: dict[str, bool]) -> None:
        """From a pickle."""
        self.switches = Switches(**state)

    def load(
        self, X: NDArray | DeviceInput | CsrRows, sample_weight: F64 | None = None, *, sums: bool = True
    ) -> NumpyRows | SparseRows:
        if isinstance(X, np.ndarray):
            return NumpyRows(self.switches, X, sample_weight, sums=sums)
        return SparseRows(self.switches, X, sample_weight, sums=sums)

    def feed(self, X: NDArray | DeviceInput | CsrRows, batch_size: int) -> SubsetFeed:
        rows = self.load(X, sums=False)
        return NumpyFeed(rows) if isinstance(rows, NumpyRows) else SubsetFeed(rows)

    def checks_values(self, dtype: np.dtype) -> bool:
        """float32 rows that are not finite show in their grid, and in the float64 distances that are left to them."""
        return dtype == np.float32

    def describe(self) -> str:
        return f"NumPy {np.__version__} on {platform.machine()}"
