"""The kernels that find the nearest centers of dense rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpukmeans.backends.cuda import screen_tiles, tuning
from gpukmeans.backends.cuda.device.seam import explained_memory_errors
from gpukmeans.backends.cuda.table import CupyDenseTable
from gpukmeans.backends.cuda.workspace import Workspace
from gpukmeans.certificates.rounding import SQUARE_UNDERFLOW
from gpukmeans.certificates.scores import square_distance_radius


class FewCenters:
    """One launch for an assignment: kernels/nearest_of_few.cu."""

    def __init__(self, table: CupyDenseTable, n_clusters: int, exact: bool) -> None:
        self._table, self._k, self._exact = table, n_clusters, exact
        self._tiles = tuning.few_tiles(n_clusters)
        self.n_groups = 0
        self.n_padded = tuning.TILE_CENTERS * self._tiles

    def launch(self, work: Workspace) -> None:
        """See `Screen.launch`."""
        table, d = self._table, self._table.n_features
        args = (
            *(table.X, table.facts.norms, table.facts.rests, table.facts.scales, table.facts.offsets),
            *(work.half_centers, work.half_squares, work.centers, work.drift, work.facts),
            *(np.int32(table.n_samples), np.int32(self._k), np.int32(d), np.int32(tuning.n_steps(d, table.dtype))),
            *(np.int32(self._exact), np.float64(square_distance_radius(d)), np.float64(SQUARE_UNDERFLOW)),
            *(work.labels, work.limits, work.moved_rows, work.moved_from, work.open_rows, work.control),
        )
        constants = tuning.few_constants(table.dtype, d, table.aligned, self._tiles)
        table.launch("nearest_of_few", constants, (-(-table.n_samples // tuning.FEW_ROWS), *work.shared), 128, args)


class ManyCenters:
    """Four launches: kernels/skip_rows.cu, nearest_of_many.cu, candidates.cu and resolve.cu."""

    def __init__(self, table: CupyDenseTable, n_clusters: int, exact: bool) -> None:
        self._table, self._k, self._exact = table, n_clusters, exact
        self.n_padded = -(-n_clusters // screen_tiles.CENTER_PADDING) * screen_tiles.CENTER_PADDING
        n, d, device = table.n_samples, table.n_features, table.device
        self._vector = tuning.is_vector(table.dtype, d, table.aligned)
        self._tile = screen_tiles.many_tile(table.dtype, n, d, self._vector, device.shared_bytes)
        self.n_groups = self._tile.n_groups
        self._n_slots = -(-n // screen_tiles.ROWS_PER_SLOT)
        slots, empty = screen_tiles.SLOTS, device.empty
        wanted = (12 + 4 * self.n_groups) * n + 4 * (slots + 1) * self._n_slots
        with explained_memory_errors(device, f"bounds and lists of {n} rows", wanted):
            #: Lower bounds for each group of centers: `Workspace.limits` that are not NaN are compared with them.
            self._lowers = empty((n, self.n_groups), np.float32)
            self._active, self._undecided = empty(n, np.int32), empty(n, np.int32)
            self._best = empty(n, np.float32)
            self._candidates, self._counts = empty((self._n_slots, slots), np.int32), empty(self._n_slots, np.int32)
            self._launch_grid = min(-(-n // self._tile.BM) * 2, self._tile.blocks * device.multiprocessors)
            n_parts = max(1, self._launch_grid // 2)
            self._part_firsts = empty(n_parts * self._tile.BM, np.uint64)
            self._part_seconds = empty(n_parts * self._tile.BM, np.uint32)
            self._part_groups = empty((n_parts * self._tile.BM, self.n_groups), np.uint32)
            self._part_tickets = empty(n_parts, np.int32)
        for array in (self._part_firsts, self._part_seconds, self._part_groups, self._part_tickets):
            device.fill(array, 0)

    def launch(self, work: Workspace) -> None:
        """See `Screen.launch`; for a single run."""
        table, n, d, device = self._table, self._table.n_samples, self._table.n_features, self._table.device
        steps = tuning.n_steps(d, table.dtype)
        shape = np.int32(self._k), np.int32(d), np.int32(steps)
        facts = table.facts
        given: tuple[Any, ...] = (table.X, facts.norms, facts.rests, np.float64(table.half_scale), facts.offsets)
        given = (*given, work.half_centers, work.half_squares)
        moved, control = (work.moved_rows, work.moved_from), work.control

        args: tuple[Any, ...] = (work.labels, work.limits, self._lowers, work.drift)
        args = (*args, np.int32(n), np.int32(self._k), self._active, control)
        constants = screen_tiles.skip_constants(self.n_groups)
        table.launch("skip_rows", constants, -(-n // screen_tiles.SKIP_ROWS), screen_tiles.SKIP_THREADS, args)

        tile = self._tile
        args = (
            *(*given, work.drift, work.facts, self._active, *shape, np.int32(self._exact)),
            *(work.labels, work.limits, self._lowers, *moved),
            *(self._undecided, self._best, np.int32(self._n_slots), self._counts),
            *(self._part_firsts, self._part_seconds, self._part_groups, self._part_tickets, control),
        )
        constants = tile.constants(table.dtype, self._vector)
        table.launch("nearest_of_many", constants, self._launch_grid, tile.threads, args, tile.shared_bytes(steps))

        tile = screen_tiles.candidate_tile(table.dtype)
        args = (
            *(*given, work.facts, self._undecided, self._best, *shape),
            *(np.int32(self._n_slots), self._candidates, self._counts, control),
        )
        constants = screen_tiles.candidate_constants(table.dtype, self._vector)
        table.launch("candidates", constants, device.multiprocessors, tile.threads, args, tile.shared_bytes(steps))

        args = (
            *(table.X, work.centers, work.half_squares, work.facts),
            *(self._undecided, self._candidates, self._counts, np.int32(self._n_slots)),
            *(*shape[:2], np.float64(square_distance_radius(d)), np.float64(SQUARE_UNDERFLOW)),
            *(work.labels, *moved, work.open_rows, control),
        )
        launch_grid = min(screen_tiles.RESOLVE_BLOCKS, -(-n // screen_tiles.RESOLVE_ROWS))
        table.launch(
            "resolve", screen_tiles.resolve_constants(table.dtype), launch_grid, screen_tiles.RESOLVE_THREADS, args
        )


def screen_for(table: CupyDenseTable, n_clusters: int, exact: bool) -> FewCenters | ManyCenters:
    """The kernels for `n_clusters` centers; without `exact`, uncertified rows take the best screened label."""
    return (FewCenters if n_clusters <= tuning.FEW_CENTERS else ManyCenters)(table, n_clusters, exact)
