"""The kernels that find the nearest centers of dense rows."""

from __future__ import annotations

import numpy as np

from gpukmeans.backends.cuda import screen_tiles, tuning
from gpukmeans.backends.cuda.device.seam import Spec, explained_memory_errors
from gpukmeans.backends.cuda.device.structs import Struct
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

    def bind(self, work: Workspace) -> None:
        """See `Screen.bind`."""
        table = self._table
        limits = table.struct("Limits", drift_so_far=work.drift, limits=work.limits, n=table.n_samples)
        operands, centers, stored = _operands(table, work), _centers(table, work), _stored_centers(table, work)
        self._args = (operands, centers, stored, limits, np.int32(self._exact), work.moves, work.open_rows)
        self._launch_grid = (-(-table.n_samples // tuning.FEW_ROWS), *work.shared)

    def launch(self) -> None:
        """See `Screen.launch`."""
        table = self._table
        constants = tuning.few_constants(table.dtype, table.n_features, table.aligned, self._tiles)
        table.launch("nearest_of_few", constants, self._launch_grid, tuning.FEW_ROWS, self._args)


class FewCentersOfBytes:
    """The same for rows of bytes: kernels/nearest_of_few_bytes.cu."""

    n_groups, n_padded = 0, tuning.LIMB_CENTERS

    def __init__(self, table: CupyDenseTable, exact: bool) -> None:
        self._table, self._exact = table, exact

    def bind(self, work: Workspace) -> None:
        """See `Screen.bind`."""
        table, facts = self._table, self._table.facts
        rows = {"X": table.X, "norms": facts.norms, "d": table.n_features}
        operands = table.struct("Bytes", limbs=work.half_centers, starts=work.starts, **rows)
        limits = table.struct("Limits", drift_so_far=work.drift, limits=work.limits, n=table.n_samples)
        centers, stored = _centers(table, work), _stored_centers(table, work)
        self._args = (operands, centers, stored, limits, np.int32(self._exact), work.moves, work.open_rows)
        self._launch_grid = (-(-table.n_samples // tuning.FEW_ROWS), *work.shared)

    def launch(self) -> None:
        """See `Screen.launch`."""
        constants = tuning.row_center_constants(self._table.dtype)
        self._table.launch("nearest_of_few_bytes", constants, self._launch_grid, tuning.FEW_ROWS, self._args)


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
        slots = screen_tiles.SLOTS
        wanted = (12 + 4 * self.n_groups) * n + 4 * (slots + 1) * self._n_slots
        with explained_memory_errors(device, f"bounds and lists of {n} rows", wanted):
            self._launch_grid = min(-(-n // self._tile.BM) * 2, self._tile.blocks * device.multiprocessors)
            n_parts = max(1, self._launch_grid // 2)
            names, of_parts = ("firsts", "seconds", "groups", "tickets"), n_parts * self._tile.BM
            specs: list[Spec] = [(of_parts, np.uint64), (of_parts, np.uint32), ((of_parts, self.n_groups), np.uint32)]
            specs += [(n_parts, np.int32), ((n, self.n_groups), np.float32), (n, np.int32), (n, np.int32)]
            specs += [(n, np.float32), ((self._n_slots, slots), np.int32), (self._n_slots, np.int32)]
            arrays = device.arrays(*specs)
            #: Lower bounds for each group of centers: `Workspace.limits` that are not NaN are compared with them.
            self._lowers = arrays[4]
            self._active, self._undecided, self._best, self._candidates, self._counts = arrays[5:]
            self._parts = table.struct("Parts", **dict(zip(names, arrays, strict=False)))
        device.fills(arrays[: len(names)], 0)

    def bind(self, work: Workspace) -> None:
        """See `Screen.bind`; for a single run."""
        table, moves, control = self._table, work.moves, work.control
        operands, centers, stored = _operands(table, work), _centers(table, work), _stored_centers(table, work)
        limits = table.struct(
            "GroupLimits",
            drift_so_far=work.drift,
            uppers=work.limits,
            lowers=self._lowers,
            active_rows=self._active,
        )
        undecided = table.struct("Undecided", rows=self._undecided, counts=self._counts, n_slots=self._n_slots)
        self._skip_args = (work.labels, np.int32(table.n_samples), np.int32(self._k), limits, control)
        self._screen_args = (
            operands,
            centers,
            limits,
            np.int32(self._exact),
            moves,
            undecided,
            self._best,
            self._parts,
        )
        self._candidate_args = (operands, centers, undecided, self._best, self._candidates, control)
        self._resolve_args = (
            *(table.X, np.int32(table.n_features), centers, stored),
            *(undecided, self._candidates, moves, work.open_rows),
        )

    def launch(self) -> None:
        """See `Screen.launch`."""
        table, n, launch = self._table, self._table.n_samples, self._table.launch
        steps = tuning.n_steps(table.n_features, table.dtype)
        blocks, constants = -(-n // screen_tiles.SKIP_ROWS), screen_tiles.skip_constants(self.n_groups)
        launch("skip_rows", constants, blocks, screen_tiles.SKIP_THREADS, self._skip_args)

        tile = self._tile
        constants, shared = tile.constants(table.dtype, self._vector), tile.shared_bytes(steps)
        launch("nearest_of_many", constants, self._launch_grid, tile.threads, self._screen_args, shared)

        tile = screen_tiles.candidate_tile(table.dtype)
        constants, shared = screen_tiles.candidate_constants(table.dtype, self._vector), tile.shared_bytes(steps)
        launch("candidates", constants, table.device.multiprocessors, tile.threads, self._candidate_args, shared)

        blocks, constants = -(-n // screen_tiles.RESOLVE_ROWS), screen_tiles.resolve_constants(table.dtype)
        blocks = min(screen_tiles.RESOLVE_BLOCKS, blocks)
        launch("resolve", constants, blocks, screen_tiles.RESOLVE_THREADS, self._resolve_args)


def _operands(table: CupyDenseTable, work: Workspace) -> Struct:
    facts, d = table.facts, table.n_features
    return table.struct(
        "Operands",
        X=table.X,
        norms=facts.norms,
        rests=facts.rests,
        scales=facts.scales,
        offsets=facts.offsets,
        half_centers=work.half_centers,
        d=d,
        n_steps=tuning.n_steps(d, table.dtype),
    )


def _centers(table: CupyDenseTable, work: Workspace) -> Struct:
    return table.struct("Centers", half_squares=work.half_squares, facts=work.facts, k=work.n_clusters)


def _stored_centers(table: CupyDenseTable, work: Workspace) -> Struct:
    radius = square_distance_radius(table.n_features)
    return table.struct("StoredCenters", C=work.centers, radius=radius, underflow=SQUARE_UNDERFLOW)


def screen_for(table: CupyDenseTable, n_clusters: int, exact: bool) -> FewCenters | FewCentersOfBytes | ManyCenters:
    """The kernels for `n_clusters` centers; without `exact`, uncertified rows take the best screened label."""
    if tuning.takes_limbs(table.X.shape, table.dtype, table.aligned, n_clusters, table.device.capability):
        return FewCentersOfBytes(table, exact)
    return (FewCenters if n_clusters <= tuning.FEW_CENTERS else ManyCenters)(table, n_clusters, exact)
