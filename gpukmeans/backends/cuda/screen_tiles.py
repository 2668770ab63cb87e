"""The tiles of the screens of many centers: kernels/score_tiles.cuh.

The rules follow from arithmetic, none is measured.  Per product of 16 rows, 8 centers and 16 columns (2048
multiply-adds; an H100's multiprocessor does one in a clock at best, and 0.6 of that by mma.sync):

- A warp that owns 64 rows by 64 centers reads 128 bytes of fragments from shared memory, which gives 128 a clock; 32
  by 64 would read 192.
- A block of BM rows that stay in shared memory takes 4096 / BM bytes of centers from the second-level cache, 16 for 256
  rows and 32 for 128.  Rows that are brought in again for every tile of centers add 2048 itemsize / BN: 16 for float16
  and 256 centers.  At 0.6 products a clock, 48 bytes each are 29 a clock and multiprocessor: more than that cache can
  be relied on for, so rows stay in shared memory where they fit.
- Two blocks on a multiprocessor alternate: one uses the tensor cores while the other compares its sums or fetches rows.
  With few columns sums are compared often (one comparison a sum and n_steps / 128 products).
- Bounds of 16 groups of centers leave fewer rows to screen than those of 8, and take 32 bytes more of every row in
  every iteration: little beside the columns of wide tiles.  4 LANE_GROUPS WARPS_N of them are free, but for registers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gpukmeans.arrays.on_device import ROW_DTYPES
from gpukmeans.backends.cuda.tuning import (
    Constants,
    n_steps,
    row_center_constants,
    row_constants,
    run_length,
)

#: half_squares are padded with -infinity to a multiple of this, which is a multiple of the width of each tile.
CENTER_PADDING = 256
#: Most candidates of a row; a row with more is compared with all centers.
SLOTS = 8
#: One row of this many can have candidates at a time; rows beyond are compared with all centers.
ROWS_PER_SLOT = 8
#: Threads and rows of a block of kernels/resolve.cu, and the most blocks: some for each multiprocessor of any device.
RESOLVE_THREADS, RESOLVE_ROWS, RESOLVE_BLOCKS = 128, 4, 1024
#: Threads, and rows of a block, of kernels/skip_rows.cu.
SKIP_THREADS, SKIP_ROWS = 256, 2048
#: Rows from which on a tile has 256 of them: enough tiles for each multiprocessor.
MANY_ROWS = 1 << 17

_STAGES = 3
_BLOCK_RESERVED_BYTES = 1024  # of shared memory in each block are the system's (compute capability 8 and later)


@dataclass(frozen=True)
class ScoreTile:
    """A block computes the scores of BM rows and BN centers; see kernels/score_tiles.cuh for the other constants."""

    BM: int
    BN: int
    WARPS_M: int
    WARPS_N: int
    CHUNK: int
    PANEL_STEPS: int = 0  # 0: rows stay in shared memory
    LANE_GROUPS: int = 1  # groups of centers for which a lane keeps bounds

    @property
    def n_groups(self) -> int:
        """Groups of centers with bounds of their own: center j is of group ``j % (2 n_groups) // 2``."""
        return 4 * self.WARPS_N * self.LANE_GROUPS

    @property
    def threads(self) -> int:
        return 32 * self.WARPS_M * self.WARPS_N

    @property
    def blocks(self) -> int:
        """Blocks that a multiprocessor is meant to hold."""
        return 256 // self.threads

    def shared_bytes(self, n_steps: int) -> int:
        """Dynamic shared memory of a block."""
        ring = _STAGES * (32 * self.BN * self.CHUNK + 4 * self.BN)
        return ring + 16 * self.BM + 32 * self.BM * (2 * self.PANEL_STEPS or n_steps)

    def fits(self, n_steps: int, shared_bytes: int) -> bool:
        """Whether `blocks` blocks fit a multiprocessor; `shared_bytes` is the most that one block can have."""
        return (
            self.blocks * (self.shared_bytes(n_steps) + _BLOCK_RESERVED_BYTES) <= shared_bytes + _BLOCK_RESERVED_BYTES
        )

    def constants(self, row_dtype: np.dtype, vector: bool) -> Constants:
        """For kernels/nearest_of_many.cu; `vector`: rows start at multiples of 16 bytes and consist of whole runs."""
        tile = {"BM": self.BM, "BN": self.BN, "WARPS_M": self.WARPS_M, "WARPS_N": self.WARPS_N}
        return {
            **row_constants(row_dtype),
            **tile,
            "VECTOR": int(vector),
            "CHUNK": self.CHUNK,
            "PANEL_STEPS": self.PANEL_STEPS,
            "LANE_GROUPS": self.LANE_GROUPS,
        }


_TALL = ScoreTile(BM=256, BN=64, WARPS_M=4, WARPS_N=1, CHUNK=1, LANE_GROUPS=2)
_SQUARE = ScoreTile(BM=128, BN=128, WARPS_M=2, WARPS_N=2, CHUNK=2)
_WIDE = ScoreTile(BM=128, BN=256, WARPS_M=2, WARPS_N=4, CHUNK=1)


def _panel_steps(row_dtype: np.dtype) -> int:
    """PANEL_STEPS: whole runs, few enough for a thread to hold its share of the next panel in about 16 registers."""
    return 1 if row_dtype == np.float64 else max(2, run_length(row_dtype) // 4)


def candidate_tile(row_dtype: np.dtype) -> ScoreTile:
    """The tile of kernels/candidates.cu: narrow, so that several blocks share the centers where rows are few."""
    return ScoreTile(BM=128, BN=128, WARPS_M=2, WARPS_N=4, CHUNK=1, PANEL_STEPS=_panel_steps(row_dtype))


def streamed_tile(row_dtype: np.dtype, vector: bool) -> ScoreTile:
    """A tile that reads the rows again for each tile of centers: it fits every architecture, for any n_features."""
    tile = candidate_tile(row_dtype)
    return replace(tile, BN=256) if vector else tile  # without vectors each element in flight takes a register


def _resident_tiles(vector: bool) -> tuple[ScoreTile, ...]:
    return (_TALL, _SQUARE, _WIDE) if vector else (_SQUARE,)  # reading single elements costs more than a shape gains


def many_tile(row_dtype: np.dtype, n_samples: int, n_features: int, vector: bool, shared_bytes: int) -> ScoreTile:
    """The tile of kernels/nearest_of_many.cu: the first whose rows fit shared memory, or a streamed one.

    Parameters
    ----------
    row_dtype : dtype
        One of `ROW_DTYPES`.
    n_samples, n_features : int
    vector : bool
        See `tuning.is_vector`.
    shared_bytes : int
        What a block can have on the device (``Device.shared_bytes``).
    """
    steps = n_steps(n_features, row_dtype)
    for tile in _resident_tiles(vector):
        if tile.fits(steps, shared_bytes) and not (tile is _TALL and n_samples < MANY_ROWS):
            return tile
    return streamed_tile(row_dtype, vector)


def skip_constants(n_groups: int) -> Constants:
    """For kernels/skip_rows.cu."""
    return {"N_GROUPS": n_groups}


def candidate_constants(row_dtype: np.dtype, vector: bool) -> Constants:
    """For kernels/candidates.cu."""
    return {**candidate_tile(row_dtype).constants(row_dtype, vector), "SLOTS": SLOTS}


def resolve_constants(row_dtype: np.dtype) -> Constants:
    """For kernels/resolve.cu."""
    return {**row_center_constants(row_dtype), "SLOTS": SLOTS}


def variants() -> list[tuple[str, Constants]]:
    """The screens of many centers, with every set of constants that the backend may ask for."""
    found: list[tuple[str, Constants]] = []
    n_groups = set()
    for row in ROW_DTYPES:
        found.append(("resolve", resolve_constants(row)))
        for vector in (False, True):
            found.append(("candidates", candidate_constants(row, vector)))
            for tile in (*_resident_tiles(vector), streamed_tile(row, vector)):
                found.append(("nearest_of_many", tile.constants(row, vector)))
                n_groups.add(tile.n_groups)
    found += [("skip_rows", skip_constants(groups)) for groups in sorted(n_groups)]
    return found
