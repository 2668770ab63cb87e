"""Compile-time constants and launch shapes of the kernels, by dtype and shape of the rows.

The rules follow from register, shared-memory and occupancy arithmetic, not from measurements.  A rule that follows
from a measurement names the GPU, the shape and the gain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpukmeans.arrays.on_device import BFLOAT16, ROW_DTYPES, center_dtype

#: Names of the element types in kernels.
C_TYPES: dict[np.dtype, str] = {
    np.dtype(np.uint8): "unsigned char",
    np.dtype(np.float16): "Half",
    BFLOAT16: "BFloat16",
    np.dtype(np.float32): "float",
    np.dtype(np.float64): "double",
}

#: Neighbouring elements of a row that a thread reads at a time: to add them up (kernels/move_sums.cu), and for a step
#: of a tensor product (kernels/screen.cuh).
QUAD = 4
#: Columns of a tensor product; those of the rows' halves are padded to whole ones.
STEP_COLUMNS = 16
#: Centers of a tensor product.
TILE_CENTERS = 8
#: Numbers of tiles that kernels/nearest_of_few.cu is compiled for.
FEW_TILES = (2, 4, 8)
#: Most centers of kernels/nearest_of_few.cu: with more, its sums do not fit the registers.
FEW_CENTERS = TILE_CENTERS * max(FEW_TILES)
#: Most centers of kernels/nearest_of_few_bytes.cu, whose sums of three limbs fill the registers that leave five blocks
#: on a multiprocessor; 0: bytes become halves, too.  For 32 rows and 64 columns its loop has 52 (sm_80) and 56 (sm_90)
#: instructions where that of nearest_of_few.cu has 216, no more registers and the same labels, and hardly a row is left
#: to float64 (MNIST, k=10: 0 of 14,000 where halves leave 40); counted, not measured.
LIMB_CENTERS = 16
#: Its widest rows (more could overflow 32 bits), and most bytes of all rows (it counts them by 16 in 32 bits).
LIMB_FEATURES, LIMB_BYTES = 1 << 16, 1 << 36
#: Columns of a group of its fragments, and bytes of the limbs of all centers in a column.
LIMB_GROUP, LIMB_ROWS = 64, 48
#: Compute capabilities whose tensor cores multiply bytes much more slowly than halves.  B300 does 0.15e15 operations a
#: second on bytes beside 2.25e15 on halves, GB300 0.165e15 beside 2.5e15, where B200 has 4.5e15 and 2.25e15 (NVIDIA's
#: figures as compared at verda.com/blog/gb300-nvl72-architecture; of a board of eight 2e15 beside 36e15, with sparsity,
#: at fibermall.com/blog/?p=17161).  Measured on a GB300: 0.157e15 (PyTorch's issue 187094, 8192 x 4096 x 4096 in 1.75
#: ms).  At that rate the products for MNIST and 16 centers take 35 us, its bytes 7 us.
SLOW_BYTES = ((10, 3),)
#: Threads of a block of kernels/move_sums.cu, and the most blocks side by side: four for each multiprocessor of the
#: largest devices.  Each sorts and adds up to 256 rows at a time.
MOVE_THREADS = 256
MOVE_BLOCKS = 512
#: Rows of a block of kernels/nearest_of_few.cu.  Warps hide each other's loads, 16 to 20 of them on a multiprocessor:
#: to load a group while the one before is multiplied takes 2 % (bytes) to 90 % (float32, 64 centers) more instructions
#: (sm_90; counted, not measured).
FEW_ROWS = 128
#: Threads of a block of kernels/column_facts.cu, and rows of each group of them.
COLUMN_THREADS = 128
COLUMN_ROWS = 256
#: Rows of the sample whose means and spread scale the halves (kernels/column_means.cu).
SAMPLE_ROWS = 1024
#: Rows of a block of k-means++ potentials: a row for each thread of kernels/seed_*.cu.
SEEDING_BLOCK = 256
#: Seeds that one launch adds: it must end within the seconds that a display's driver allows.
SEEDS_TOGETHER = 32
#: Squares of differences that one launch of kernels/center_distances.cu adds, likewise.
DISTANCE_TERMS = 1 << 36
#: Candidates of a draw whose gains are computed at once; kernels/seed_gain.cu has a bit for each.
MOST_TRIALS = 16
#: Seeds from which on k-means++ skips rows by the triangle inequality: with few seeds it skips few rows.
SEEDS_TO_SKIP = 32
#: Rows that kernels/sparse_seed.cu takes as seeds or candidates at a time.
SPARSE_TOGETHER = 8
#: Rows of a block of kernels/sparse_nearest.cu.
SPARSE_ROWS = 128
#: Element types of rows in CSR.
SPARSE_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
#: CLUSTERS of kernels/used_clusters.cu.
USED_CLUSTERS = 1 << 17
#: Blocks of a grid-stride launch: several times what the largest device holds at once.
STRIDE_BLOCKS = 4096

#: Rows of all restarts of a problem together: enough to keep a device busy, few enough for their labels and lists to
#: take little memory.  And most restarts side by side.
ROWS_TOGETHER = 1 << 18
RUNS_TOGETHER = 16
#: Bytes of the problems that are solved together.  Most problems end long before the last one, which then uses the
#: device alone: the more problems share a batch, the less this costs, so the limit is memory, not a number.
BATCH_BYTES = 1 << 30
#: Most blocks along the second and the third axis of a grid.
GRID_ROWS = 65535

Constants = dict[str, int | str]


def run_length(row_dtype: np.dtype) -> int:
    """Neighbouring columns that a lane takes of a row at a time: RUN of kernels/screen.cuh."""
    return QUAD if row_dtype.itemsize >= QUAD else 16 // row_dtype.itemsize


def n_steps(n_features: int, row_dtype: np.dtype) -> int:
    """Tensor products along a row: whole groups of four runs."""
    group = 4 * run_length(row_dtype)
    return -(-n_features // group) * (group // STEP_COLUMNS)


def few_tiles(n_clusters: int) -> int:
    """Tiles of centers of kernels/nearest_of_few.cu: the fewest that hold all."""
    return next(tiles for tiles in FEW_TILES if n_clusters <= TILE_CENTERS * tiles)


def takes_limbs(
    shape: tuple[int, int], row_dtype: np.dtype, aligned: bool, n_clusters: int, capability: tuple[int, int]
) -> bool:
    """Whether kernels/nearest_of_few_bytes.cu assigns the rows, and not nearest_of_few.cu; `shape`: of all rows."""
    n, d = shape
    fits = n_clusters <= LIMB_CENTERS and d <= LIMB_FEATURES and n * d <= LIMB_BYTES
    return row_dtype == np.uint8 and fits and is_vector(row_dtype, d, aligned) and capability not in SLOW_BYTES


def limb_bytes(n_features: int) -> int:
    """Bytes of the limbs of a run's centers."""
    return -(-n_features // LIMB_GROUP) * LIMB_GROUP * LIMB_ROWS


def is_vector(row_dtype: np.dtype, n_features: int, aligned: bool) -> bool:
    """Whether all rows start at multiples of 16 bytes and consist of whole runs; `aligned`: the first one does."""
    return aligned and n_features % run_length(row_dtype) == 0


def stride_blocks(n_items: int, items_per_block: int) -> int:
    """Blocks of a grid-stride launch."""
    return min(STRIDE_BLOCKS, -(-n_items // items_per_block))


def runs_at_a_time(n_samples: int, n_clusters: int) -> int:
    """How many runs advance together; 0 if one fills the device, or if there are more than `FEW_CENTERS` centers."""
    most = min(RUNS_TOGETHER, ROWS_TOGETHER // n_samples)
    return most if most > 1 and n_clusters <= FEW_CENTERS else 0


def problems_at_a_time(
    shape: tuple[int, int], row_dtype: np.dtype, n_clusters: int, n_runs: int, room: int, *, weighted: bool
) -> int:
    """How many problems of `shape` (n_samples, n_features) advance together in `room` bytes, with all of their runs.

    0 where runs do not advance together (`runs_at_a_time`); more centers than those of the few-center
    kernel keep a device busy from a few thousand rows on.
    """
    n, d = shape
    if not runs_at_a_time(n, n_clusters):
        return 0
    # For a row its values, norms and weight; for a feature its sums, mean, scales and offset.
    rows = n * (d * row_dtype.itemsize + (16 if weighted else 8)) + 52 * d
    # For a row labels, limits and lists, distances, and k-means++; for a cluster centers and sums; the screen's copy.
    per_run = n * (20 + 8 + 14) + 16 * MOST_TRIALS * -(-n // SEEDING_BLOCK)
    copy = 16 * STEP_COLUMNS * n_steps(d, row_dtype) * few_tiles(n_clusters)
    if row_dtype == np.uint8 and n_clusters <= LIMB_CENTERS:
        copy = max(copy, limb_bytes(d))
    per_run += n_clusters * (40 * d + 80) + copy + 4096
    most = min(room // (rows + n_runs * per_run), GRID_ROWS // n_runs, (2**31 - 1) // (n + FEW_ROWS))
    return int(most)


def few_constants(row_dtype: np.dtype, n_features: int, aligned: bool, tiles: int) -> Constants:
    """For kernels/nearest_of_few.cu; `aligned`: the rows begin at a multiple of 16 bytes."""
    vector = is_vector(row_dtype, n_features, aligned)
    return {**row_center_constants(row_dtype), "VECTOR": int(vector), "TILES": tiles}


def row_constants(row_dtype: np.dtype) -> Constants:
    """For a kernel that reads rows."""
    return {"ROW": C_TYPES[row_dtype]}


def center_constants(dtype: np.dtype) -> Constants:
    """For a kernel that reads centers."""
    return {"CENTER": C_TYPES[dtype]}


def row_center_constants(row_dtype: np.dtype) -> Constants:
    """For a kernel that reads both."""
    return {**row_constants(row_dtype), **center_constants(center_dtype(row_dtype))}


def transform_constants(row_dtype: np.dtype, *, wide: bool) -> Constants:
    """For kernels/center_distances.cu; `wide`: the centers are float64."""
    narrow = row_dtype == np.float32 and not wide
    return {**row_constants(row_dtype), **center_constants(np.dtype(np.float32 if narrow else np.float64))}


def seeding_lanes(n_features: int) -> int:
    """Lanes that share a row in k-means++: few for short rows, and enough to read long ones in whole sectors."""
    return 2 if n_features <= 32 else 8


def distance_constants(row_dtype: np.dtype, n_features: int, aligned: bool, *, wide: bool) -> Constants:
    """For kernels that take distances to seeds, in float64 (`wide`) or in float32."""
    lanes = seeding_lanes(n_features)
    vector = int(aligned and lanes == 8 and n_features % 4 == 0)
    return {**row_constants(row_dtype), "LANES": lanes, "VECTOR": vector, "WIDE": int(wide)}


def wide_distances(row_dtype: np.dtype) -> bool:
    """Whether distances to the closest seed need float64: sums of squares of bytes are exact in float32."""
    return row_dtype != np.uint8


def gain_constants(row_dtype: np.dtype, n_features: int, aligned: bool, n_trials: int, *, wide: bool) -> Constants:
    """For kernels/seed_gain.cu: a row is read once for four or eight candidates."""
    together = 4 if wide or n_trials <= 4 else 8
    return {**distance_constants(row_dtype, n_features, aligned, wide=wide), "TOGETHER": together}


@dataclass(frozen=True)
class MoveShape:
    """How kernels/move_sums.cu is launched."""

    block: tuple[int, int]  # quads of columns, and groups of threads that share the rows
    grid: tuple[int, int]


def move_shape(n_samples: int, n_features: int) -> MoveShape:
    """The launch shape: the width is a power of two of quads that leaves few threads idle; one quad is the weights."""
    quads = -(-n_features // QUAD) + 1
    width = 1 << min(MOVE_THREADS.bit_length() - 1, (quads - 1).bit_length())
    return MoveShape((width, MOVE_THREADS // width), (min(MOVE_BLOCKS, -(-n_samples // 8)), -(-quads // width)))


def column_shape(n_features: int) -> tuple[tuple[int, int], int]:
    """The block (columns, groups) of kernels/column_facts.cu, and its rows: narrow if features are few."""
    features = COLUMN_THREADS
    while features // 2 >= n_features:
        features //= 2
    groups = COLUMN_THREADS // features
    return (features, groups), COLUMN_ROWS * groups


def move_constants(row_dtype: np.dtype, n_features: int, aligned: bool, n_limbs: int, weighted: bool) -> Constants:
    """For kernels/move_sums.cu; `n_limbs`: of the rows' grid or of the weights', whichever has more."""
    vector = aligned and n_features % QUAD == 0
    own = row_dtype == np.uint8 and not weighted
    constants: Constants = {"ROW": C_TYPES[row_dtype], "WEIGHTED": int(weighted), "LIMBS": n_limbs}
    return {**constants, "OWN_LIMBS": int(own), "VECTOR": int(vector)}


def update_constants(row_dtype: np.dtype, *, given: bool) -> Constants:
    """For kernels/update_centers.cu; `given`: the centers are given, and only their facts are computed."""
    return {**row_center_constants(row_dtype), "GIVEN": int(given)}


def limb_update_constants(row_dtype: np.dtype, *, given: bool) -> Constants:
    """For kernels/update_centers.cu where kernels/nearest_of_few_bytes.cu assigns the rows."""
    return {**update_constants(row_dtype, given=given), "FIXED": 1}


def sparse_lanes(n_clusters: int) -> tuple[int, int]:
    """LANES and EACH of kernels/sparse_nearest.cu: as few as hold all centers, and at most 32 times 4."""
    lanes = next((lanes for lanes in (8, 16) if n_clusters <= lanes), 32)
    return lanes, next((each for each in (1, 2) if n_clusters <= lanes * each), 4)


def sparse_nearest_constants(row_dtype: np.dtype, n_clusters: int) -> Constants:
    """For kernels/sparse_nearest.cu."""
    lanes, each = sparse_lanes(n_clusters)
    return {**row_center_constants(row_dtype), "LANES": lanes, "EACH": each}


def sparse_move_constants(row_dtype: np.dtype, n_limbs: int, weighted: bool) -> Constants:
    """For kernels/sparse_move_sums.cu; `n_limbs` as for `move_constants`."""
    return {**row_constants(row_dtype), "LIMBS": n_limbs, "WEIGHTED": int(weighted)}


def sparse_update_constants(row_dtype: np.dtype, *, given: bool) -> Constants:
    """For kernels/update_centers.cu where rows are in CSR."""
    return {**update_constants(row_dtype, given=given), "SPARSE": 1}


def sparse_seed_constants(row_dtype: np.dtype, *, keep: bool) -> Constants:
    """For kernels/sparse_seed.cu; `keep`: the rows become seeds."""
    return {**row_constants(row_dtype), "KEEP": int(keep)}


def hash_slots(n_clusters: int) -> int:
    """Slots of the hash table of centers: a power of two, at least four for each center."""
    return 1 << (4 * n_clusters - 1).bit_length()


def variants() -> list[tuple[str, Constants]]:
    """Every kernel with every set of constants that the backend may ask for."""
    found: list[tuple[str, Constants]] = []
    for row in ROW_DTYPES:
        for kernel in ("column_facts", "column_means", "row_facts", "gather_rows", "seed_reach", "seed_choose"):
            found.append((kernel, row_constants(row)))
        found += _seeding_variants(row)
        found += [(kernel, row_center_constants(row)) for kernel in ("row_distance", "unit_rows")]
        widths = (True, False) if row == np.float32 else (True,)
        found += [("center_distances", transform_constants(row, wide=wide)) for wide in widths]
        found += [("update_centers", update_constants(row, given=given)) for given in (False, True)]
        for n_features in (1, 16):
            found += [("nearest_of_few", few_constants(row, n_features, True, tiles)) for tiles in FEW_TILES]
            shapes = [(1, False), (1, True), (2, True), *([] if row == np.uint8 else [(2, False)])]
            found += [("move_sums", move_constants(row, n_features, True, *shape)) for shape in shapes]
    byte = np.dtype(np.uint8)
    found.append(("nearest_of_few_bytes", row_center_constants(byte)))
    found += [("update_centers", limb_update_constants(byte, given=given)) for given in (False, True)]
    for row in SPARSE_DTYPES:
        found += _sparse_variants(row)
    found += [
        (kernel, {}) for kernel in ("seed_locate", "exact_total", "settle_rows", "tensor_rounding", "used_clusters")
    ]
    return found


def _sparse_variants(row: np.dtype) -> list[tuple[str, Constants]]:
    found: list[tuple[str, Constants]] = [("sparse_lookup", row_constants(row))]
    found.append(("sparse_row_distance", row_center_constants(row)))
    found += [("sparse_nearest", sparse_nearest_constants(row, k)) for k in (8, 16, 32, 64, 128)]
    shapes = [(n_limbs, weighted) for n_limbs in (1, 2) for weighted in (False, True)]
    found += [("sparse_move_sums", sparse_move_constants(row, *shape)) for shape in shapes]
    found += [("update_centers", sparse_update_constants(row, given=given)) for given in (False, True)]
    return found + [("sparse_seed", sparse_seed_constants(row, keep=keep)) for keep in (False, True)]


def _seeding_variants(row: np.dtype) -> list[tuple[str, Constants]]:
    kept = wide_distances(row)
    found: list[tuple[str, Constants]] = []
    for d in (32, 33, 36):  # short rows, long ones, and long ones in steps of four elements
        found += [(kernel, distance_constants(row, d, True, wide=kept)) for kernel in ("seed_add", "seed_accept")]
        if row != np.float64:
            found += [("seed_gain", gain_constants(row, d, True, n_trials, wide=False)) for n_trials in (4, 8)]
        if kept:
            found.append(("seed_gain", gain_constants(row, d, True, 1, wide=True)))
    return found
