"""The NumPy backend: the fallback without a GPU, and the reference for every other backend.

This module holds the rows; where to find the rest:

numpy_run           one run of Lloyd's algorithm: skip, screen, resolve, move
numpy_bounds        which rows to skip: drift bounds and the watch list
numpy_screen        float32 scores of whole rows, with their radii
numpy_projection    scores of a few leading components, anchored to those of whole rows
numpy_groups        many centers: bounds of groups of them; numpy_grouping makes the groups
numpy_batches       mini-batches: a single assignment of few rows
numpy_sums          exact sums of the clusters
numpy_seeding       k-means++ and k-means||; numpy_seed_screen is what all restarts share of the rows
numpy_sparse        rows in CSR, with numpy_sparse_* for their runs, screens, exact labels, sums and seeding
numpy_lockstep      small problems, all restarts together; numpy_runs assigns and sums, numpy_draws seeds them
"""

from __future__ import annotations

import platform

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.on_device import DeviceInput, center_dtype
from gpukmeans.arrays.types import F64
from gpukmeans.backends.cpu.batches import batch_sums, gathered
from gpukmeans.backends.cpu.lockstep.rows import LockstepRows
from gpukmeans.backends.cpu.run import NumpyRun
from gpukmeans.backends.cpu.screens.components import Projection, choose_basis
from gpukmeans.backends.cpu.screens.full import RowScreen
from gpukmeans.backends.cpu.seeding.screen import SeedScreen
from gpukmeans.backends.cpu.seeding.steps import NumpySeeding
from gpukmeans.backends.cpu.sparse.rows import SparseRows
from gpukmeans.backends.defaults import BackendDefaults
from gpukmeans.backends.protocol import BatchSums, CsrRows
from gpukmeans.exact.sums import Grid
from gpukmeans.exact.tie_break import largest_integer
from gpukmeans.threads import workers


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

    Notes
    -----
    The switches are for experiments: they change the time of a fit and none of its bits.
    """

    name = "numpy"
    reads_sparse = True

    def __init__(self, *, skip: bool = True, screen: bool = True, project: bool = True, lockstep: bool = True) -> None:
        self.skip = skip
        self.screen = screen
        self.project = project
        self.lockstep = lockstep and skip and screen and project

    def load(
        self, X: NDArray | DeviceInput | CsrRows, sample_weight: F64 | None = None, *, sums: bool = True
    ) -> NumpyRows | SparseRows:
        if isinstance(X, np.ndarray):
            return self.load_dense(X, sample_weight, sums=sums)
        return SparseRows(self, X, sample_weight, sums=sums)

    def load_dense(self, X: NDArray, sample_weight: F64 | None = None, *, sums: bool = True) -> NumpyRows:
        """`load` of rows in an array."""
        return NumpyRows(self, X, sample_weight, _grid_of(X, sample_weight) if sums else None)

    def minds(self, dtype: np.dtype) -> bool:
        """float32 rows that are not finite show in their grid, and in the float64 distances that are left to them."""
        return dtype == np.float32

    def describe(self) -> str:
        return f"NumPy {np.__version__} on {platform.machine()}"


def _grid_of(X: NDArray, sample_weight: F64 | None) -> Grid:
    """The grid for the rows of X, times their weights; raises as scikit-learn does if a row is not finite."""
    try:
        return Grid.for_rows(X, sample_weight)
    except FloatingPointError:
        from sklearn.utils import assert_all_finite

        assert_all_finite(X, input_name="X")
        raise


class NumpyRows(LockstepRows):
    """Rows as the caller's array holds them, never copied whole, and what the screens keep of them."""

    def __init__(self, options: NumpyBackend, X: NDArray, sample_weight: F64 | None, grid: Grid | None) -> None:
        super().__init__(options.lockstep)
        self.options = options
        self.X = X
        self.sample_weight = sample_weight
        self.grid = grid
        self.n_samples, self.n_features = X.shape
        self.center_dtype = center_dtype(X.dtype)
        self._largest_integer: float | None = None
        self._seed_screen: SeedScreen | None = None
        self._screen: RowScreen | None = None
        self._projection: Projection | None = None
        self._basis_tried = False

    def start(self, centers: NDArray, *, precision: str = "exact") -> NumpyRun:
        if precision not in ("exact", "fast"):
            raise ValueError(f"precision={precision!r} should be 'exact' or 'fast'.")
        return NumpyRun(self, np.array(centers, self.center_dtype, order="C"), precision)

    def take(self, indices: NDArray[np.int64]) -> NDArray:
        return self.X[indices]

    def unweighted(self) -> NumpyRows:
        return NumpyRows(self.options, self.X, None, _grid_of(self.X, None))

    def subset(self, indices: NDArray[np.int64], sample_weight: F64 | None = None, *, sums: bool = True) -> NumpyRows:
        return self.options.load_dense(gathered(self.X, indices), sample_weight, sums=sums)

    def batch_sums(self, centers: NDArray, *, precision: str = "exact", inertia: bool = True) -> BatchSums:
        return batch_sums(self, centers, precision, inertia)

    def seeding(self) -> NumpySeeding:
        if self._seed_screen is None:  # made once for all restarts
            with workers(self.X.size) as pool:
                self._seed_screen = SeedScreen(self.X, self.largest_integer(), pool)
        return NumpySeeding(self._seed_screen, self.sample_weight)

    def screen(self) -> RowScreen:
        if self._screen is None:
            self._screen = RowScreen(self.X)
        return self._screen

    def projection(self, before: NDArray, centers: NDArray) -> Projection | None:
        """The projection of the rows, if it pays for centers such as these two; to be filled by the first to use it."""
        if not self._basis_tried:
            self._basis_tried = True
            screen = self.screen()
            basis = choose_basis(screen, before, centers) if self.options.project else None
            if basis is not None:
                self._projection = Projection(self.n_samples, basis)
        return self._projection

    def largest_integer(self) -> float:
        """The largest magnitude if every value is a whole number, else infinity."""
        if self._largest_integer is None:
            self._largest_integer = largest_integer(self.X)
        return self._largest_integer
