"""One run of Lloyd's algorithm on the device."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans import tie_break
from gpukmeans.backends import Assigned, Updated, tuning
from gpukmeans.backends.device import explained_memory_errors
from gpukmeans.certificates import (
    SLACK,
    SMALLEST_NORM32,
    SQUARE_UNDERFLOW,
    exact_in_float64,
    score_radius,
    square_distance_radius,
)
from gpukmeans.exact_sums import I64, Grid, farthest_rows, weight_grid

if TYPE_CHECKING:
    from gpukmeans.backends.cupy_backend import CupyRows

#: Scores are trusted where |x| |c| and |c|^2 stay below this: float32 ends at 3.4e38.
LARGEST_SCORE = 1e37
#: Bytes of rows that come to the host at a time to be decided exactly.
EXACT_BYTES = 1 << 26


class CupyRun:
    """Centers, labels and exact sums on the device.

    An iteration is six launches and two small downloads: `assign` brings back three counters, `update` four numbers for
    each center.  The centers themselves come to the host only when asked for, or when two of them may be equal.
    """

    def __init__(self, rows: CupyRows, centers: NDArray, precision: str) -> None:
        if precision not in ("exact", "fast"):
            raise ValueError(f"precision={precision!r} should be 'exact' or 'fast'.")
        self._rows = rows
        self._launch, self._device = rows.launch, rows.device
        self._exact = precision == "exact"
        self._k = k = len(centers)
        n, d = rows.n_samples, rows.n_features
        self._weight_grid = weight_grid(n, rows.host_weight)
        limbs = 0 if rows.grid is None else rows.grid.n_limbs
        wide = rows.center_dtype == np.float64
        wanted = 4 * n + k * d * (8 * limbs + 2 * rows.center_dtype.itemsize + 4 * wide)
        with explained_memory_errors(self._device, f"{k} clusters of {n} rows", wanted):
            empty = self._device.empty
            self._labels = empty(n, np.int32)
            #: The centers, and a place for new ones: those of the last assignment must outlive an update.
            self._centers, self._other_centers = (empty((k, d), rows.center_dtype) for _ in range(2))
            #: The centers as the screen reads them.
            self._narrow_centers = empty((k, d), np.float32) if wide else None
            self._screen_squares = empty(k, np.float32)
            self._alive = empty(k, np.int32)
            #: Per center: weight, |new - old|^2, |c|^2, largest magnitude of whole numbers.
            self._summary = empty((4, k), np.float64)
            self._sums = empty((limbs, k, d), np.int64) if limbs else None
            self._weights = empty((self._weight_grid.n_limbs, k), np.int64) if limbs else None
        self._device.fill(self._labels, 0xFF)  # -1
        if limbs:
            self._device.fill(self._sums, 0)
            self._device.fill(self._weights, 0)
        self._alive_host = np.empty(0, np.int32)
        self._assigned: Any = None
        self.set_centers(centers)

    # ---- centers -----------------------------------------------------------------------------------------------

    def set_centers(self, centers: NDArray) -> None:
        host = np.array(centers, self._rows.center_dtype, order="C")
        if self._centers is self._assigned:
            self._centers, self._other_centers = self._other_centers, self._centers
        self._device.write(self._centers, host)
        self._centers_host: NDArray | None = host
        self._describe_centers()
        self._facts: NDArray | None = None

    def centers(self) -> NDArray:
        if self._centers_host is None:
            self._centers_host = self._device.download(self._centers)
        return self._centers_host

    def assigned_centers(self) -> NDArray:
        return self._device.download(self._assigned)

    def _describe_centers(self) -> None:
        row = self._summary
        shape = (np.int32(self._k), np.int32(self._rows.n_features))
        args = (self._centers, *shape, self._narrow_centers, self._screen_squares)
        constants = tuning.center_constants(self._rows.center_dtype)
        facts = (row[2:3].reshape(self._k), row[3:4].reshape(self._k))
        self._launch("center_facts", constants, -(-self._k // 4), 128, (*args, *facts))

    def _look_at_centers(self) -> tuple[NDArray, float]:
        """|c_j|^2 (an upper bound of the largest |c|), and the largest whole number in them (or infinity)."""
        if self._facts is None:
            self._facts = self._device.download(self._summary)[2:]
        squares, largest = self._facts
        if not np.isfinite(squares).all():
            raise ValueError("A center is not finite: give empty clusters a center before the next assignment.")
        return squares, float(largest.max())

    def _living(self, squares: NDArray) -> NDArray[np.int32]:
        """Indices of the centers that no equal one stands before; the screen is told of the others."""
        if len(np.unique(squares)) == self._k:
            alive = np.arange(self._k, dtype=np.int32)
        else:  # equal centers have equal squares; only these few cases need the centers themselves
            first = tie_break.first_of_equal_rows(self.centers())
            is_first = first == np.arange(self._k)
            alive = np.flatnonzero(is_first).astype(np.int32)
            if len(alive) < self._k:
                with np.errstate(over="ignore"):
                    masked = np.where(is_first, squares, np.inf).astype(np.float32)
                self._device.write(self._screen_squares, masked)
        if not np.array_equal(alive, self._alive_host):
            self._device.write(self._alive, np.pad(alive, (0, self._k - len(alive))))
            self._alive_host = alive
        return alive

    # ---- assign ------------------------------------------------------------------------------------------------

    def assign(self, *, move: bool = True) -> Assigned:
        rows = self._rows
        if move and rows.grid is None:
            raise ValueError("These rows were loaded without a grid: they can be labelled (move=False), not summed.")
        squares, largest = self._look_at_centers()
        alive = self._living(squares)
        whole = exact_in_float64(rows.n_features, largest)
        whole = whole and exact_in_float64(rows.n_features, rows.largest_integer)
        self._device.fill(rows.counters, 0)
        self._assigned = self._centers
        certify = self._exact
        if len(alive) == 1:
            self._device.fill(rows.new_labels, 0)  # the first center is always alive
        else:
            largest_norm = math.sqrt(float(squares.max())) * (1.0 + 2.0**-20)
            norm_limit = self._screen(largest_norm)
            # Scores outside float32's range are no word to leave a row to.
            certify = certify or rows.largest_norm > norm_limit or largest_norm < SMALLEST_NORM32
            if certify:
                self._resolve(len(alive), whole)
        self._follow(move)
        n_undecided, n_open, n_moved = self._device.download(rows.counters).tolist()
        n_exact = 0
        if n_open:
            n_exact = self._decide_exactly(n_open, alive, whole)
            self._follow(move)
            n_moved = int(self._device.download(rows.counters)[2])
        return Assigned(
            n_moved=n_moved,
            n_certified=rows.n_samples - n_undecided,
            n_resolved=n_undecided - n_exact if certify else 0,
            n_exact=n_exact,
            n_uncertain=0 if certify else n_undecided,
        )

    def _screen(self, largest_center_norm: float) -> float:
        """Label every row by float32 scores; returns the norm up to which these do not overflow."""
        rows, d = self._rows, self._rows.n_features
        if rows.dtype not in tuning.SCREEN_DTYPES:
            rows.leave_all_open()
            return 0.0
        radius = score_radius(d, largest_center_norm)
        norm_limit = LARGEST_SCORE / max(1.0, largest_center_norm)
        if largest_center_norm**2 > LARGEST_SCORE:
            norm_limit = 0.0
        tile = tuning.screen_tile(rows.dtype, self._k)
        centers = self._centers if self._narrow_centers is None else self._narrow_centers
        args = (
            *(rows.X, rows.norms, centers, self._screen_squares),
            *(np.int64(rows.n_samples), np.int32(self._k), np.int32(d)),
            *(_float32_above(radius.per_norm), _float32_above(radius.constant), np.float32(norm_limit)),
            *(rows.new_labels, rows.undecided, rows.counters),
        )
        constants = tuning.screen_constants(rows.dtype, tile, d)
        self._launch("nearest_center", constants, -(-rows.n_samples // tile.BM), tile.threads, args)
        return norm_limit

    def _resolve(self, n_alive: int, whole: bool) -> None:
        rows, d = self._rows, self._rows.n_features
        radius, underflow = (0.0, 0.0) if whole else (square_distance_radius(d), SQUARE_UNDERFLOW)
        args = (
            *(rows.X, self._centers, self._alive, np.int32(n_alive), np.int32(d)),
            *(np.float64(radius), np.float64(underflow), np.int32(whole)),
            *(rows.undecided, self._labels, rows.new_labels, rows.exact_rows, rows.counters),
        )
        grid = min(1024, -(-rows.n_samples // 4))
        self._launch("resolve", tuning.row_center_constants(rows.dtype), grid, 128, args)

    def _decide_exactly(self, n_open: int, alive: NDArray[np.int32], whole: bool) -> int:
        """Rows that float64 distances leave open: to the host, a few at a time.  Returns how many needed exactness."""
        rows = self._rows
        step = max(1, EXACT_BYTES // (rows.n_features * rows.dtype.itemsize))
        n_exact = 0
        for start in range(0, n_open, step):
            count = min(step, n_open - start)
            values = rows.gather(rows.exact_rows, start, count)
            labels, n = tie_break.resolve(values, self.centers(), alive.astype(np.int64), whole)
            n_exact += n
            part, decided = rows.exact_rows[start : start + count], self._device.upload(labels)
            self._launch("scatter_labels", {}, -(-count // 256), 256, (part, decided, np.int64(count), rows.new_labels))
        return n_exact

    def _follow(self, move: bool) -> None:
        """Bring sums, weights and labels to the new labels."""
        rows, n, k = self._rows, self._rows.n_samples, self._k
        if move:
            self._move_sums()
        grid = self._weight_grid
        weighted = rows.weights is not None
        shared = tuning.relabel_shared_bytes(k, grid.n_limbs, weighted) if move else 0
        args = (
            *(rows.weights, np.float64(grid.scale[0]), np.float64(2.0**grid.bits)),
            *(np.int64(n), np.int32(k), np.int32(tuning.RELABEL_ROWS)),
            *(rows.new_labels, self._labels, self._weights if move else None, rows.counters),
        )
        constants = tuning.relabel_constants(grid.n_limbs, weighted, shared)
        self._launch("relabel", constants, -(-n // tuning.RELABEL_ROWS), 256, args, shared)

    def _move_sums(self) -> None:
        rows, d, k = self._rows, self._rows.n_features, self._k
        grid = rows.grid
        assert grid is not None
        shape = tuning.move_shape(d, k, grid.n_limbs)
        args = (
            *(rows.X, rows.weights, rows.scale, np.float64(2.0**grid.bits)),
            *(np.int64(rows.n_samples), np.int32(k), np.int32(d), np.int32(shape.rows)),
            *(self._labels, rows.new_labels, self._sums),
        )
        constants = tuning.move_constants(rows.dtype, grid.n_limbs, shape)
        blocks = (-(-rows.n_samples // shape.rows), -(-d // shape.features))
        self._launch("move_sums", constants, blocks, shape.block, args, shape.shared_bytes)

    # ---- update ------------------------------------------------------------------------------------------------

    def update(self) -> Updated:
        rows, k = self._rows, self._k
        grid, weight = self._need_grid(), self._weight_grid
        self._centers, self._other_centers = self._other_centers, self._centers
        args = (
            *(self._sums, self._weights, rows.scale),
            *(np.int32(grid.n_limbs), np.float64(2.0**-grid.bits)),
            *(np.int32(weight.n_limbs), np.float64(weight.scale[0]), np.float64(2.0**-weight.bits)),
            *(np.int32(k), np.int32(rows.n_features), self._other_centers, self._centers),
            *(self._summary[0:1].reshape(k), self._summary[1:2].reshape(k)),
        )
        self._launch("finish", tuning.center_constants(rows.center_dtype), -(-k // 4), 128, args)
        self._describe_centers()
        summary = self._device.download(self._summary)
        self._facts = summary[2:]
        self._centers_host = None
        return Updated(summary[0], summary[1])

    def sums(self) -> tuple[I64, I64]:
        self._need_grid()
        return self._device.download(self._sums), self._device.download(self._weights)

    def _need_grid(self) -> Grid:
        if self._rows.grid is None:
            raise ValueError("These rows were loaded without a grid: they can be labelled, not summed.")
        return self._rows.grid

    # ---- results -----------------------------------------------------------------------------------------------

    def labels(self) -> NDArray[np.int32]:
        return self._device.download(self._labels)

    def farthest(self, count: int) -> NDArray[np.int64]:
        self._own_distances(self._assigned, None)
        return farthest_rows(self._device.download(self._rows.distances), count)

    def inertia(self) -> float:
        n = self._rows.n_samples
        largest = self._own_distances(self._centers, self._rows.weights)
        grid = Grid.for_largest(float(self._device.download(largest)[0]), n)
        total = self._device.empty((2, 1), np.int64)
        self._device.fill(total, 0)
        args = (self._rows.distances, np.int64(n), np.float64(grid.scale[0]), np.float64(2.0**grid.bits), total)
        self._launch("exact_total", {}, min(512, -(-n // 256)), 256, args)
        return float(grid.value(self._device.download(total))[0])

    def _own_distances(self, centers: Any, weights: Any) -> Any:
        """Fill `distances`; returns the largest, on the device."""
        rows = self._rows
        largest = self._device.empty(1, np.float64)
        self._device.fill(largest, 0)
        args = (rows.X, centers, self._labels, weights, np.int64(rows.n_samples), np.int32(rows.n_features))
        grid = min(tuning.STRIDE_BLOCKS, -(-rows.n_samples // 8))
        constants = tuning.row_center_constants(rows.dtype)
        self._launch("row_distance", constants, grid, 256, (*args, rows.distances, largest))
        return largest


def _float32_above(value: float) -> np.float32:
    """A float32 that is at least `value` by 2**-20: room also for the arithmetic that the screen does with it."""
    with np.errstate(over="ignore"):
        return np.float32(value * SLACK)
