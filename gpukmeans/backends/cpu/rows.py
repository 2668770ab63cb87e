"""The rows of the NumPy backend, dense: how runs and seedings begin."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.limits import ALGORITHM
from gpukmeans.arrays.types import F64, I64
from gpukmeans.backends.cpu.batches import Picked, batch_sums, gathered
from gpukmeans.backends.cpu.distances import dense_distances, settle_open
from gpukmeans.backends.cpu.distinct import distinct_table
from gpukmeans.backends.cpu.line.rows import SortedRows
from gpukmeans.backends.cpu.line.run import LineRun
from gpukmeans.backends.cpu.line.seeding import LineSeeding, serves
from gpukmeans.backends.cpu.lockstep.draws import plusplus_of_few
from gpukmeans.backends.cpu.lockstep.runs import NumpyRuns, SmallRows, runs_at_a_time
from gpukmeans.backends.cpu.run import NumpyRun
from gpukmeans.backends.cpu.seeding.steps import NumpySeeding
from gpukmeans.backends.cpu.table import DenseTable, Switches
from gpukmeans.backends.defaults import RowsDefaults
from gpukmeans.backends.known import Known
from gpukmeans.backends.protocol import BatchSums, Drawn
from gpukmeans.exact.sums import Extremes, Grid
from gpukmeans.threads import parts_of, workers


class NumpyRows(RowsDefaults):
    """Rows in an array.

    Parameters
    ----------
    switches : Switches
    X : ndarray of shape (n_samples, n_features), uint8, float32 or float64
        C-contiguous; not copied.
    sample_weight : ndarray of shape (n_samples,), float64, or None
    sums : bool
        Whether the rows are to be summed.  If so, a ValueError is raised where X is not finite.
    grid : Grid or None
        The grid of rows that are to be summed, and known to be finite; None: found here.
    """

    def __init__(
        self,
        switches: Switches,
        X: NDArray,
        sample_weight: F64 | None = None,
        *,
        sums: bool = True,
        grid: Grid | None = None,
    ) -> None:
        self.table = DenseTable(switches, X, sample_weight, (grid or grid_of(X, sample_weight)) if sums else None)
        self.n_samples, self.n_features = X.shape
        self.grid = self.table.grid
        self.center_dtype = self.table.center_dtype

    def start(self, centers: NDArray, *, precision: str = "exact") -> NumpyRun | LineRun:
        if self._on_a_line:
            return LineRun(self._sorted, centers, precision)
        return NumpyRun(self._distinct, centers, precision)

    @property
    def _on_a_line(self) -> bool:
        return self.n_features == 1 and self.table.switches.sort and isinstance(self.table.X, np.ndarray)

    @cached_property
    def _distinct(self) -> DenseTable:
        return distinct_table(self.table) if self.table.switches.sort else self.table

    @cached_property
    def _sorted(self) -> SortedRows:
        return SortedRows(self.table)

    def start_from(self, centers: NDArray, known: Known, *, precision: str = "exact") -> NumpyRun | LineRun:
        if self._on_a_line:
            return LineRun(self._sorted, centers, precision)  # which looks at no row
        return NumpyRun(self.table, centers, precision).take_known(known)

    def take(self, indices: NDArray[np.int64]) -> NDArray:
        return self.table.X[indices]

    def unweighted(self) -> NumpyRows:
        return NumpyRows(self.table.switches, self.table.X)

    def subset(self, indices: NDArray[np.int64], sample_weight: F64 | None = None, *, sums: bool = True) -> NumpyRows:
        return NumpyRows(self.table.switches, gathered(self.table.X, indices), sample_weight, sums=sums)

    def batch(self, indices: I64, grid: Grid | None) -> NumpyRows:
        """Some rows without weights, to be summed on a grid that is known to serve them; None: on their own."""
        if grid is not None:
            return PickedRows(self.table, indices, grid)
        return NumpyRows(self.table.switches, gathered(self.table.X, indices))

    def batch_sums(self, centers: NDArray, *, precision: str = "exact", inertia: bool = True) -> BatchSums:
        return batch_sums(Picked(self.table, None, self.grid), centers, precision, inertia)

    def seeding(self) -> NumpySeeding | LineSeeding:
        if self._on_a_line and serves(self._sorted):
            return LineSeeding(self._sorted)
        return NumpySeeding(self.table.seed_screen, self.table.sample_weight)

    def center_distances(self, centers: NDArray) -> NDArray:
        """See `gpukmeans.backends.protocol.DeviceRows`."""
        distances = np.empty((self.n_samples, len(centers)), self.center_dtype)
        with workers(self.table.size) as pool:
            open_rows, finite = dense_distances(self.table.X, centers, distances, pool)
        if not finite:
            self.table.refuse_infinities(slice(None))
        settle_open(self, open_rows, centers, distances)
        return distances

    # ---- small problems, whose runs advance together ---------------------------------------------------------------

    def runs_at_a_time(self, n_clusters: int, n_runs: int) -> int:
        if not self.table.switches.lockstep:
            return 0
        return runs_at_a_time(self.n_samples, self.n_features, n_clusters)

    def start_many(self, centers: NDArray) -> NumpyRuns:
        if self.grid is None:
            raise ValueError("These rows were loaded without a grid: they cannot be summed.")
        return NumpyRuns(self._small, self.grid, np.array(centers, self.center_dtype, order="C"))

    def plusplus(self, seeds: I64, draws: F64) -> Drawn:
        """Small problems only; a run that was left open once is finished by the engine."""
        n_runs, n_steps, _ = draws.shape
        together = self.runs_at_a_time(n_steps + 1, len(seeds)) if seeds.shape[1] == 1 else 0
        if not together or not n_steps:
            return Drawn.nothing(seeds, n_steps)
        parts = [plusplus_of_few(self._small, seeds[p, 0], draws[p]) for p in parts_of(n_runs, together)]
        return Drawn(np.concatenate([part.rows for part in parts]), np.concatenate([part.n_certain for part in parts]))

    def scatter_bounds(self) -> tuple[float, float] | None:
        if self.runs_at_a_time(1, 1):
            return self._small.scatter_bounds(self.center_dtype)
        if self.grid is None or self.table.sample_weight is not None:
            return None
        largest = 2.0**self.grid.bits / float(self.grid.scale.min())  # of all values
        return 0.0, 2.0 * largest * largest * self.n_samples * self.n_features  # twice: room for rounding

    @cached_property
    def _small(self) -> SmallRows:
        return SmallRows(self.table.X, self.table.sample_weight, self.table.largest_integer)


class PickedRows(NumpyRows):
    """A mini-batch, which is gathered block by block while it is summed, or as a whole where more is asked for."""

    def __init__(self, source: DenseTable, indices: I64, grid: Grid) -> None:
        self._picked, self.grid = Picked(source, indices, grid), grid
        self.n_samples, self.n_features, self.center_dtype = len(indices), source.n_features, source.center_dtype

    @property
    def table(self) -> DenseTable:  # type: ignore[override]
        return self._picked.table

    def take(self, indices: I64) -> NDArray:
        return self._picked.rows(indices)

    def batch_sums(self, centers: NDArray, *, precision: str = "exact", inertia: bool = True) -> BatchSums:
        return batch_sums(self._picked, centers, precision, inertia)


def grid_of(X: NDArray, sample_weight: F64 | None, known: Extremes | None = None) -> Grid:
    """The grid for the rows of X, times their weights; raises as scikit-learn does if a row is not finite."""
    try:
        return Grid.for_rows(X, sample_weight, known)
    except FloatingPointError:
        from sklearn.utils import assert_all_finite

        assert_all_finite(X, estimator_name=ALGORITHM, input_name="X")
        raise
