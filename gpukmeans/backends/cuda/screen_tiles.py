"""Which tile the screens of many centers run with: kernels/score_tiles.cuh.

The rules follow from arithmetic, none is measured.  Per product of 16 rows, 8 centers and 16 columns (2048
multiply-adds; an H100's multiprocessor does one in a clock at best, and 0.6 of that by mma.sync):

- A warp that owns 64 rows by 64 centers reads 128 bytes of fragments from shared memory, which gives 128 a clock; 32
  by 64 would read 192.
- A block of BM rows that stay in shared memory takes 4096 / BM bytes of centers from the second-level cache, 16 for 256
  rows and 32 for 128.  Rows that are brought in again for every tile of centers add 2048 itemsize / BN: 16 for float16
  and 256 centers.  At 0.6 products a clock, 48 bytes each are 29 a clock and multiprocessor: more than that cache can
  be relied on for, so rows stay where they find room.
- Two blocks on a multiprocessor take turns at the tensor cores, while the other looks at its sums or fetches rows: with
  few columns sums are looked at often (one comparison a sum and n_steps / 128 products).
- Bounds of 16 groups of centers leave fewer rows to look at than those of 8, and take 32 bytes more of every row in
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

#: half_squares are padded with -infinity to a multiple of so many centers: of every tile's width.
CENTER_PADDING = 256
#: Candidates that a row can have before all centers are.
SLOTS = 8
#: One row of so many can have candidates at a time; those beyond are compared with all centers.
ROWS_PER_SLOT = 8
#: Threads and rows of a block of kernels/resolve.cu, and the most blocks: some for each multiprocessor of any device.
RESOLVE_THREADS, RESOLVE_ROWS, RESOLVE_BLOCKS = 128, 4, 1024
#: Threads, and rows of a block, of kernels/skip_rows.cu.
SKIP_THREADS, SKIP_ROWS = 256, 2048
#: Rows from which on 256 of them make a tile: enough tiles for every multiprocessor.
MANY_ROWS = 1 << 17

_STAGES = 3
_BLOCK_RESERVED_BYTES = 1024  # of shared memory, that the system takes of every block (compute capability 8 and later)


@dataclass(frozen=True)
class ScoreTile:
    """A block owns BM rows by BN centers; see kernels/score_tiles.cuh for the other constants."""

    BM: int
    BN: int
    WARPS_M: int
    WARPS_N: int
    CHUNK: int
    PANEL_STEPS: int = 0  # 0: rows stay in shared memory
    LANE_GROUPS: int = 1  # of centers, that a lane keeps bounds of

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
        """Whether so many blocks find room; `shared_bytes` is what one block can have."""
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


_TALL = ScoreTile(BM=256, BN=64, WARPS_M=4, WARPS_N=1, CHUNK=2, LANE_GROUPS=2)
_SQUARE = ScoreTile(BM=128, BN=128, WARPS_M=2, WARPS_N=2, CHUNK=2)
_WIDE = ScoreTile(BM=128, BN=256, WARPS_M=2, WARPS_N=4, CHUNK=1)


def _panel_steps(row_dtype: np.dtype) -> int:
    """Whole runs, few enough for a thread to hold its share of the next panel in some 16 registers."""
    return 1 if row_dtype == np.float64 else max(2, run_length(row_dtype) // 4)


def candidate_tile(row_dtype: np.dtype) -> ScoreTile:
    """Of kernels/candidates.cu: narrow, so that the centers can be shared out where rows are few."""
    return ScoreTile(BM=128, BN=128, WARPS_M=2, WARPS_N=4, CHUNK=1, PANEL_STEPS=_panel_steps(row_dtype))


def streamed_tile(row_dtype: np.dtype, vector: bool) -> ScoreTile:
    """Rows are brought in again for every tile of centers: fits every architecture, whatever n_features."""
    tile = candidate_tile(row_dtype)
    return replace(tile, BN=256) if vector else tile  # single elements on their way take a register each


def _resident_tiles(vector: bool) -> tuple[ScoreTile, ...]:
    return (_TALL, _SQUARE, _WIDE) if vector else (_SQUARE,)  # reading single elements costs more than a shape gains


def many_tile(row_dtype: np.dtype, n_samples: int, n_features: int, vector: bool, shared_bytes: int) -> ScoreTile:
    """The tile of kernels/nearest_of_many.cu: the first whose rows find room in shared memory, or a streamed one.

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
