"""The kernels that find the nearest centers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpukmeans.backends.cuda import screen_tiles, tuning
from gpukmeans.backends.cuda.device.seam import explained_memory_errors
from gpukmeans.certificates.rounding import SQUARE_UNDERFLOW
from gpukmeans.certificates.scores import square_distance_radius

if TYPE_CHECKING:
    from gpukmeans.backends.cuda.backend import CupyRows
    from gpukmeans.backends.cuda.workspace import Workspace


class FewCenters:
    """One launch for an assignment: kernels/nearest_of_few.cu."""

    def __init__(self, rows: CupyRows, n_clusters: int, exact: bool) -> None:
        self.rows, self._k, self._exact = rows, n_clusters, exact
        self._tiles = tuning.few_tiles(n_clusters)
        #: Groups of centers that have drifts of their own.
        self.n_groups = 0
        #: Centers that the arrays of halves have room for.
        self.n_padded = tuning.TILE_CENTERS * self._tiles

    def launch(self, work: Workspace) -> None:
        """Bring labels, limits and lists up to date with the centers."""
        rows, d = self.rows, self.rows.n_features
        args = (
            *(rows.X, rows.facts.norms, rows.facts.rests, rows.facts.scales, rows.facts.offsets),
            *(work.half_centers, work.half_squares, work.centers, work.drift, work.facts),
            *(np.int32(rows.n_samples), np.int32(self._k), np.int32(d), np.int32(tuning.n_steps(d, rows.dtype))),
            *(np.int32(self._exact), np.float64(square_distance_radius(d)), np.float64(SQUARE_UNDERFLOW)),
            *(work.labels, work.limits, work.moved_rows, work.moved_from, work.open_rows, work.control),
        )
        constants = tuning.few_constants(rows.dtype, d, rows.aligned, self._tiles)
        rows.launch("nearest_of_few", constants, (-(-rows.n_samples // tuning.FEW_ROWS), *work.shared), 128, args)


class ManyCenters:
    """Four launches: kernels/skip_rows.cu, nearest_of_many.cu, candidates.cu and resolve.cu."""

    def __init__(self, rows: CupyRows, n_clusters: int, exact: bool) -> None:
        self.rows, self._k, self._exact = rows, n_clusters, exact
        self.n_padded = -(-n_clusters // screen_tiles.CENTER_PADDING) * screen_tiles.CENTER_PADDING
        n, d, device = rows.n_samples, rows.n_features, rows.device
        self._vector = tuning.is_vector(rows.dtype, d, rows.aligned)
        self._tile = screen_tiles.many_tile(rows.dtype, n, d, self._vector, device.shared_bytes)
        self.n_groups = self._tile.n_groups
        self._n_slots = -(-n // screen_tiles.ROWS_PER_SLOT)
        slots, empty = screen_tiles.SLOTS, device.empty
        wanted = (12 + 4 * self.n_groups) * n + 4 * (slots + 1) * self._n_slots
        with explained_memory_errors(device, f"bounds and lists of {n} rows", wanted):
            #: Where `Workspace.limits` are numbers, what they compare with: bounds of each group of centers.
            self._lowers = empty((n, self.n_groups), np.float32)
            self._active, self._undecided = empty(n, np.int32), empty(n, np.int32)
            self._best = empty(n, np.float32)
            self._candidates, self._counts = empty((self._n_slots, slots), np.int32), empty(self._n_slots, np.int32)
            self._grid = min(-(-n // self._tile.BM) * 2, self._tile.blocks * device.multiprocessors)
            n_parts = max(1, self._grid // 2)
            self._part_firsts = empty(n_parts * self._tile.BM, np.uint64)
            self._part_seconds = empty(n_parts * self._tile.BM, np.uint32)
            self._part_groups = empty((n_parts * self._tile.BM, self.n_groups), np.uint32)
            self._part_tickets = empty(n_parts, np.int32)
        for array in (self._part_firsts, self._part_seconds, self._part_groups, self._part_tickets):
            device.fill(array, 0)

    def launch(self, work: Workspace) -> None:
        """Bring labels, limits and lists of a single run up to date with the centers."""
        rows, n, d, device = self.rows, self.rows.n_samples, self.rows.n_features, self.rows.device
        steps = tuning.n_steps(d, rows.dtype)
        shape = np.int32(self._k), np.int32(d), np.int32(steps)
        facts = rows.facts
        given: tuple[Any, ...] = (rows.X, facts.norms, facts.rests, np.float64(rows.half_scale), facts.offsets)
        given = (*given, work.half_centers, work.half_squares)
        moved, control = (work.moved_rows, work.moved_from), work.control

        args: tuple[Any, ...] = (work.labels, work.limits, self._lowers, work.drift)
        args = (*args, np.int32(n), np.int32(self._k), self._active, control)
        constants = screen_tiles.skip_constants(self.n_groups)
        rows.launch("skip_rows", constants, -(-n // screen_tiles.SKIP_ROWS), screen_tiles.SKIP_THREADS, args)

        tile = self._tile
        args = (
            *(*given, work.drift, work.facts, self._active, *shape, np.int32(self._exact)),
            *(work.labels, work.limits, self._lowers, *moved),
            *(self._undecided, self._best, np.int32(self._n_slots), self._counts),
            *(self._part_firsts, self._part_seconds, self._part_groups, self._part_tickets, control),
        )
        constants = tile.constants(rows.dtype, self._vector)
        rows.launch("nearest_of_many", constants, self._grid, tile.threads, args, tile.shared_bytes(steps))

        tile = screen_tiles.candidate_tile(rows.dtype)
        args = (
            *(*given, work.facts, self._undecided, self._best, *shape),
            *(np.int32(self._n_slots), self._candidates, self._counts, control),
        )
        constants = screen_tiles.candidate_constants(rows.dtype, self._vector)
        rows.launch("candidates", constants, device.multiprocessors, tile.threads, args, tile.shared_bytes(steps))

        args = (
            *(rows.X, work.centers, work.half_squares, work.facts),
            *(self._undecided, self._candidates, self._counts, np.int32(self._n_slots)),
            *(*shape[:2], np.float64(square_distance_radius(d)), np.float64(SQUARE_UNDERFLOW)),
            *(work.labels, *moved, work.open_rows, control),
        )
        grid = min(screen_tiles.RESOLVE_BLOCKS, -(-n // screen_tiles.RESOLVE_ROWS))
        rows.launch("resolve", screen_tiles.resolve_constants(rows.dtype), grid, screen_tiles.RESOLVE_THREADS, args)


def screen_for(rows: CupyRows, n_clusters: int, exact: bool) -> FewCenters | ManyCenters:
    """The kernels for so many centers; without `exact`, what these do not certify is left to their word."""
    return (FewCenters if n_clusters <= tuning.FEW_CENTERS else ManyCenters)(rows, n_clusters, exact)
