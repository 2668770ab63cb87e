"""Which tile the screens of many centers run with: kernels/score_tiles.cuh.

The rules follow from arithmetic, none is measured.  Per product of 16 rows, 8 centers and 16 columns (2048
multiply-adds; one a clock is an H100's peak, and mma.sync reaches about 0.6):

- A warp that owns 64 rows by 64 centers reads 128 bytes of fragments from shared memory, of the 128 a clock that there
  are; 32 by 64 would read 192.
- A block of BM rows that stay in shared memory takes 4096 / BM bytes of centers from the second-level cache: 16 for
  256 rows, 32 for 128, of the 24 to 32 a clock and multiprocessor that an H100's cache gives.  Rows that are brought
  in again for every tile of centers add 16 itemsize 16 / BN: 16 BM = 128 by BN = 256 in float16.
- Two blocks on a multiprocessor take turns at the tensor cores while the other looks at its sums or fetches rows: with
  few columns the sums are looked at often (about 2 operations a sum, half the rate of others, for 2 d operations).
"""

from __future__ import annotations

from dataclasses import dataclass

Constants = dict[str, int | str]

#: Bytes of an element, by what kernels call the type.
ROW_TYPES: dict[str, int] = {"unsigned char": 1, "Half": 2, "BFloat16": 2, "float": 4, "double": 8}
#: Columns of a step: of one product of the tensor cores.
STEP_COLUMNS = 16
#: half_squares are padded with -infinity to a multiple of so many centers: of every tile's width.
CENTER_PADDING = 256
#: Candidates that a row can have before all centers are.
SLOTS = 8
#: Threads, and rows of a block, of kernels/skip_rows.cu.
SKIP_THREADS, SKIP_ROWS = 256, 2048
#: Rows from which on 256 of them make a tile: enough tiles for every multiprocessor.
MANY_ROWS = 1 << 17

_STAGES = 3
_BLOCK_RESERVED_BYTES = 1024  # of shared memory, that the system takes of every block (compute capability 8 and later)


def run_length(row_type: str) -> int:
    """Neighbouring columns that a lane takes at a time: 16 bytes, at least 4 columns."""
    return max(4, 16 // ROW_TYPES[row_type])


def n_steps(row_type: str, n_features: int) -> int:
    """Products of 16 columns that cover a row: whole groups of four runs."""
    group = 4 * run_length(row_type)
    return -(-n_features // group) * (group // STEP_COLUMNS)


def is_vector(row_type: str, n_features: int) -> bool:
    """Whether rows start at multiples of 16 bytes, if the first does, and consist of whole runs."""
    return n_features % run_length(row_type) == 0


@dataclass(frozen=True)
class ScoreTile:
    """A block owns BM rows by BN centers; see kernels/score_tiles.cuh for the other constants."""

    BM: int
    BN: int
    WARPS_M: int
    WARPS_N: int
    CHUNK: int
    PANEL_STEPS: int = 0  # 0: rows stay in shared memory

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
        return self.blocks * (self.shared_bytes(n_steps) + _BLOCK_RESERVED_BYTES) <= shared_bytes + _BLOCK_RESERVED_BYTES

    def constants(self, row_type: str, vector: bool) -> Constants:
        """For kernels/nearest_of_many.cu."""
        return {
            "ROW": row_type,
            "VECTOR": int(vector),
            **{"BM": self.BM, "BN": self.BN, "WARPS_M": self.WARPS_M, "WARPS_N": self.WARPS_N},
            **{"CHUNK": self.CHUNK, "PANEL_STEPS": self.PANEL_STEPS},
        }


_TALL = ScoreTile(BM=256, BN=64, WARPS_M=4, WARPS_N=1, CHUNK=2)
_SQUARE = ScoreTile(BM=128, BN=128, WARPS_M=2, WARPS_N=2, CHUNK=2)
_WIDE = ScoreTile(BM=128, BN=256, WARPS_M=2, WARPS_N=4, CHUNK=1)


def _panel_steps(row_type: str) -> int:
    """At least a run, and two runs or so of every thread at a time in its registers."""
    return 1 if row_type == "double" else max(2, run_length(row_type) // 4)


def streamed_tile(row_type: str) -> ScoreTile:
    """Rows are brought in again for every tile of centers: fits every architecture, whatever n_features."""
    return ScoreTile(BM=128, BN=256, WARPS_M=2, WARPS_N=4, CHUNK=1, PANEL_STEPS=_panel_steps(row_type))


def candidate_tile(row_type: str) -> ScoreTile:
    """For kernels/candidates.cu: narrow, so that the centers of few rows can be shared out."""
    return ScoreTile(BM=128, BN=128, WARPS_M=2, WARPS_N=4, CHUNK=1, PANEL_STEPS=_panel_steps(row_type))


def _resident_tiles(vector: bool) -> tuple[ScoreTile, ...]:
    return (_TALL, _SQUARE, _WIDE) if vector else (_SQUARE,)  # scalar loads cost more than a tile's shape gains


def many_tile(row_type: str, n_samples: int, n_features: int, shared_bytes: int) -> ScoreTile:
    """The tile of kernels/nearest_of_many.cu: the first whose rows find room in shared memory.

    Parameters
    ----------
    row_type : str
        A key of ROW_TYPES.
    n_samples, n_features : int
    shared_bytes : int
        What a block can have on the device (``Device.shared_bytes``).
    """
    steps = n_steps(row_type, n_features)
    for tile in _resident_tiles(is_vector(row_type, n_features)):
        if tile.fits(steps, shared_bytes) and not (tile is _TALL and n_samples < MANY_ROWS):
            return tile
    return streamed_tile(row_type)


def candidate_constants(row_type: str, vector: bool) -> Constants:
    """For kernels/candidates.cu."""
    return {**candidate_tile(row_type).constants(row_type, vector), "SLOTS": SLOTS}


def resolve_constants(row_type: str) -> Constants:
    """For kernels/resolve.cu: centers are float32 for float32 rows, else float64."""
    return {"ROW": row_type, "CENTER": "float" if row_type == "float" else "double", "SLOTS": SLOTS}


def variants() -> list[tuple[str, Constants]]:
    """The screens of many centers, with every set of constants that the backend may ask for."""
    found: list[tuple[str, Constants]] = [("skip_rows", {})]
    for row_type in ROW_TYPES:
        found.append(("resolve", resolve_constants(row_type)))
        for vector in (False, True):
            found.append(("candidates", candidate_constants(row_type, vector)))
            for tile in (*_resident_tiles(vector), streamed_tile(row_type)):
                found.append(("nearest_of_many", tile.constants(row_type, vector)))
    return found
