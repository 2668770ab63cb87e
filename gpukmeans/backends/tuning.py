"""Which tile a kernel runs with, by the shape of the work.

The rules are sound rather than measured: they follow from register, shared-memory and occupancy arithmetic.  Where a
measurement on a GPU beats a rule, a row names the GPU, the shape and the gain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: What kernels call the element types.
C_TYPES: dict[np.dtype, str] = {
    np.dtype(np.uint8): "unsigned char",
    np.dtype(np.float32): "float",
    np.dtype(np.float64): "double",
}
ROW_DTYPES: tuple[np.dtype, ...] = tuple(C_TYPES)
CENTER_DTYPES: tuple[np.dtype, ...] = (np.dtype(np.float32), np.dtype(np.float64))

#: Shared memory that every architecture gives a block without asking.
SHARED_BYTES = 48 * 1024
#: Threads of a block of kernels/move_sums.cu.
MOVE_THREADS = 128
#: Rows that each group of its threads looks after: enough to pay for the flush, few enough to fill a device.
MOVE_ROWS = 256
#: Rows of a block of kernels/relabel.cu.
RELABEL_ROWS = 2048
#: Rows of a block of k-means++ potentials: a row for each thread of kernels/seed_*.cu.
SEEDING_BLOCK = 256
#: Seeds that one launch adds: it must end within the seconds that a display's driver allows.
SEEDS_TOGETHER = 32
#: Candidates of a draw whose gains are taken at once; kernels/seed_gain.cu has a bit for each.
MOST_TRIALS = 16
#: Steps of k-means++ from which on rows are left out by the triangle inequality: few seeds keep few rows apart.
SEEDS_TO_SKIP = 32
#: Blocks of a grid-stride launch: several times what the largest device holds at once.
STRIDE_BLOCKS = 4096

Constants = dict[str, int | str]


def center_dtype(row_dtype: np.dtype) -> np.dtype:
    """float32 for float32 rows, float64 for uint8 and float64 rows."""
    return np.dtype(np.float32 if row_dtype == np.float32 else np.float64)


@dataclass(frozen=True)
class ScreenTile:
    """The tile of kernels/nearest_center.cu: a block owns BM rows by BN centers by BK features, a thread TM by TN."""

    BM: int
    BN: int
    BK: int
    TM: int
    TN: int

    @property
    def threads(self) -> int:
        return (self.BM // self.TM) * (self.BN // self.TN)

    def constants(self) -> Constants:
        return {"BM": self.BM, "BN": self.BN, "BK": self.BK, "TM": self.TM, "TN": self.TN}


#: By center tile.  The widest reads 12 float4 from shared memory for 128 multiply-adds and keeps 32 sums in registers.
#: All fit 128 registers a thread, which leaves room for 16 warps on a multiprocessor.
_SCREEN_TILES = {
    8: ScreenTile(BM=128, BN=8, BK=16, TM=4, TN=2),
    16: ScreenTile(BM=128, BN=16, BK=16, TM=4, TN=4),
    32: ScreenTile(BM=128, BN=32, BK=16, TM=4, TN=4),
    64: ScreenTile(BM=128, BN=64, BK=16, TM=8, TN=4),
}
#: float64 rows wait for their turn in twice the registers.
_SCREEN_TILES_64 = {**_SCREEN_TILES, 16: ScreenTile(BM=128, BN=16, BK=16, TM=4, TN=2)}


def _screen_tiles(row_dtype: np.dtype) -> dict[int, ScreenTile]:
    return _SCREEN_TILES_64 if row_dtype == np.float64 else _SCREEN_TILES


def screen_tile(row_dtype: np.dtype, n_clusters: int) -> ScreenTile:
    """The smallest tile that holds all centers, or the widest."""
    tiles = _screen_tiles(row_dtype)
    return next((tile for width, tile in tiles.items() if n_clusters <= width), tiles[max(tiles)])


def screen_constants(row_dtype: np.dtype, tile: ScreenTile, n_features: int) -> Constants:
    """For kernels/nearest_center.cu."""
    return {"ROW": C_TYPES[row_dtype], "VECTOR": int(n_features % 4 == 0), **tile.constants()}


def row_constants(row_dtype: np.dtype) -> Constants:
    """For a kernel that reads rows."""
    return {"ROW": C_TYPES[row_dtype]}


def center_constants(dtype: np.dtype) -> Constants:
    """For a kernel that reads centers."""
    return {"CENTER": C_TYPES[dtype]}


def row_center_constants(row_dtype: np.dtype) -> Constants:
    """For a kernel that reads both."""
    return {**row_constants(row_dtype), **center_constants(center_dtype(row_dtype))}


def seeding_lanes(n_features: int) -> int:
    """Lanes that share a row in k-means++: few for short rows, and enough to read long ones in whole sectors."""
    return 2 if n_features <= 32 else 8


def distance_constants(row_dtype: np.dtype, n_features: int, *, wide: bool) -> Constants:
    """For kernels that take distances to seeds, in float64 (`wide`) or in float32."""
    lanes = seeding_lanes(n_features)
    vector = int(lanes == 8 and n_features % 4 == 0)
    return {**row_constants(row_dtype), "LANES": lanes, "VECTOR": vector, "WIDE": int(wide)}


def wide_distances(row_dtype: np.dtype) -> bool:
    """Whether distances that are kept need float64: sums of squares of bytes are exact in float32."""
    return row_dtype != np.uint8


def gain_constants(row_dtype: np.dtype, n_features: int, n_trials: int, *, wide: bool) -> Constants:
    """For kernels/seed_gain.cu: a row is read once for four or eight candidates."""
    together = 4 if wide or n_trials <= 4 else 8
    return {**distance_constants(row_dtype, n_features, wide=wide), "TOGETHER": together}


@dataclass(frozen=True)
class MoveShape:
    """How kernels/move_sums.cu is launched."""

    features: int  # of a block; the other threads are further groups on the same features
    rows: int  # of a block
    shared_bytes: int  # 0: straight to global atomics

    @property
    def block(self) -> tuple[int, int]:
        return self.features, MOVE_THREADS // self.features


def move_shape(n_features: int, n_clusters: int, n_limbs: int) -> MoveShape:
    """Columns of a block: a power of two that wastes few threads; shared sums where all clusters fit."""
    features = MOVE_THREADS
    while features > 8 and features // 2 >= n_features:
        features //= 2
    shared = 8 * n_limbs * n_clusters * MOVE_THREADS
    rows = MOVE_ROWS * (MOVE_THREADS // features)
    # moved_row, moved_from, moved_to and n_listed are static
    return MoveShape(features, rows, shared if shared + 12 * MOVE_THREADS + 8 <= SHARED_BYTES else 0)


def move_constants(row_dtype: np.dtype, n_limbs: int, shape: MoveShape) -> Constants:
    """For kernels/move_sums.cu."""
    return {"ROW": C_TYPES[row_dtype], "LIMBS": n_limbs, "SHARED": int(shape.shared_bytes > 0)}


def relabel_shared_bytes(n_clusters: int, n_weight_limbs: int, weighted: bool) -> int:
    """Shared memory of kernels/relabel.cu; 0: straight to global atomics."""
    shared = n_weight_limbs * n_clusters * (8 if weighted else 4)
    return shared if shared <= SHARED_BYTES else 0


def relabel_constants(n_weight_limbs: int, weighted: bool, shared_bytes: int) -> Constants:
    """For kernels/relabel.cu."""
    return {"WEIGHTED": int(weighted), "LIMBS": n_weight_limbs, "SHARED": int(shared_bytes > 0)}


def variants() -> list[tuple[str, Constants]]:
    """Every kernel with every set of constants that the backend may ask for."""
    found: list[tuple[str, Constants]] = []
    for row in ROW_DTYPES:
        for kernel in ("row_facts", "gather_rows", "seed_reach", "seed_choose"):
            found.append((kernel, row_constants(row)))
        found += _seeding_variants(row)
        for kernel in ("resolve", "row_distance"):
            found.append((kernel, row_center_constants(row)))
        for tile in _screen_tiles(row).values():
            found += [("nearest_center", screen_constants(row, tile, d)) for d in (1, 4)]
        for n_limbs in (1, 2):
            for shape in (MoveShape(MOVE_THREADS, MOVE_ROWS, 0), MoveShape(MOVE_THREADS, MOVE_ROWS, 1)):
                found.append(("move_sums", move_constants(row, n_limbs, shape)))
    for dtype in CENTER_DTYPES:
        found += [(kernel, center_constants(dtype)) for kernel in ("finish", "center_facts")]
    for shared in (0, 1):
        found.append(("relabel", relabel_constants(1, False, shared)))
        found += [("relabel", relabel_constants(n_limbs, True, shared)) for n_limbs in (1, 2)]
    found += [(kernel, {}) for kernel in ("seed_locate", "exact_total", "scatter_labels")]
    return found


def _seeding_variants(row: np.dtype) -> list[tuple[str, Constants]]:
    kept = wide_distances(row)
    found: list[tuple[str, Constants]] = []
    for d in (32, 33, 36):  # short rows, long ones, and long ones in steps of four elements
        found += [(kernel, distance_constants(row, d, wide=kept)) for kernel in ("seed_add", "seed_accept")]
        if row != np.float64:
            found += [("seed_gain", gain_constants(row, d, n_trials, wide=False)) for n_trials in (4, 8)]
        if kept:
            found.append(("seed_gain", gain_constants(row, d, 1, wide=True)))
    return found
