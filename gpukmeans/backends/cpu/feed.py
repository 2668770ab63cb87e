"""Mini-batches of rows in memory on the CPU, whose grids are known without a look at each."""

from __future__ import annotations

from gpukmeans.backends.cpu.rows import NumpyRows, grid_of
from gpukmeans.backends.defaults import SubsetFeed
from gpukmeans.exact.sums import Grid

#: Share of the rows that have been handed out when it pays to read all of them for their grid.
READ_FROM = 0.25


class NumpyFeed(SubsetFeed):
    """Batches on the grid of all rows, once it is known, where it has one limb.

    Then all sums of rows are exact on it as they are on the grid of a batch alone, so that they are rounded alike.
    If a batch needs two limbs, so do all rows, and each batch keeps a grid of its own.
    """

    _rows: NumpyRows

    def __init__(self, rows: NumpyRows) -> None:
        super().__init__(rows)
        self._grid: Grid | None = None
        self._one_limb, self._n_handed_out = True, 0

    def receive(self) -> NumpyRows:
        indices = self._sent.pop(0)
        if self._grid is None and self._one_limb and self._n_handed_out >= READ_FROM * self._rows.n_samples:
            grid = grid_of(self._rows.table.X, None)
            self._one_limb = grid.n_limbs == 1
            self._grid = grid if self._one_limb else None
        batch = self._rows.batch(indices, self._grid)
        assert batch.grid is not None
        self._one_limb &= batch.grid.n_limbs == 1
        self._n_handed_out += batch.n_samples
        return batch
