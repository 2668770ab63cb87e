"""Which rows a candidate seed may be nearer to than their seeds are: products in the rows' own precision.

k-means++ finds for every candidate which rows it would improve, and by how much.  The products with all candidates are
taken at once, in float32 where the rows are stored so, with radii from certificates/seeds.py; after some steps most
rows are left out by a few leading components (see `Shadow`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F32, F64, I64, Index
from gpukmeans.backends.cpu.screens.components import LARGEST_TO_PROJECT, Components, leading_directions, lower_scores
from gpukmeans.backends.cpu.screens.full import product
from gpukmeans.certificates.rounding import LARGEST_NORM32, SQUARE_UNDERFLOW, UNIT32, UNIT64, ScoreRadius
from gpukmeans.certificates.scores import exact_in_float64, square_distance_radius
from gpukmeans.certificates.seeds import CandidateRadius, candidate_radius
from gpukmeans.exact.tie_break import WIDE
from gpukmeans.threads import Workers, parts_of, rows_in_block, rows_of, rows_to_fetch

#: Rows that a thread works on at a time: arrays of numbers per row fit its cache, and threads seldom meet.
PART = 8192
#: Whole numbers of up to 24 bits are exact in float32.
WHOLE32 = 2.0**24
#: Fewer columns are not worth a product of their own.
FEW_COLUMNS = 32
#: Components of a shadow.
COMPONENTS = 64
#: Proposals over whole rows after which a shadow is computed, which costs about as much as they did.
LOOKS = 12


class SeedScreen:
    """What every k-means++ run over the same rows needs of them."""

    def __init__(self, X: NDArray, largest_integer: float, pool: Workers, may_shadow: bool = True) -> None:
        self.X = X
        self._may_shadow = may_shadow
        self.shape, self.size = X.shape, X.size
        self.largest_integer = largest_integer
        n, d = X.shape
        #: Products that a distance is summed from.
        self.n_terms = d
        #: Whether squared distances are whole numbers that float64 holds, and this screen's products are so too.
        self.exact = exact_in_float64(d, largest_integer)
        self.squares = np.empty(n)

        def square(rows: slice) -> None:
            for part in parts_of(rows.stop - rows.start, rows_in_block(d)):
                x = self.fetch(rows, part).astype(np.float64, copy=False)
                np.vecdot(x, x, out=self.squares[rows][part])

        pool.map(square, parts_of(n, PART))
        #: Upper bounds of |x|; not zero, so that float32's flushed products stay within their radius.
        self.norms = np.sqrt(self.squares) * (1.0 + 2.0**-20) + d * 2.0**-60
        columns = int(min(d, WHOLE32 / max(1.0, largest_integer) ** 2)) if self.exact else d
        self._columns = max(1, columns)
        narrow = X.dtype != np.float64 and float(self.norms.max()) < LARGEST_NORM32
        #: Whether products are taken in float32.
        self.narrow = narrow and columns >= min(d, FEW_COLUMNS)
        self.looks = 0
        self._shadow: Shadow | None = None

    @property
    def radius(self) -> CandidateRadius:
        if self.exact:
            return CandidateRadius(0.0, 0.0, 0.0)
        return candidate_radius(self.X.shape[1], UNIT32 if self.narrow else UNIT64)

    def widen(self) -> None:
        """Take products in float64 from now on: float32's radius is too wide for these rows."""
        self.narrow = False
        self._shadow = None

    def shadow(self, pool: Workers) -> Shadow | None:
        """The rows' shadow, once it is likely to pay."""
        n, d = self.X.shape
        pays = self._may_shadow and self.looks >= LOOKS and d >= 4 * COMPONENTS and n >= PART
        if self._shadow is None and pays and self.narrow and float(self.norms.max()) < LARGEST_TO_PROJECT:
            self._shadow = Shadow(self, pool)
        return self._shadow if self._shadow is not None and self._shadow.sound else None

    def products(self, rows: Index, seeds: F64, largest_norm: float) -> NDArray:
        """-2 x.c of some rows and every seed, (n_rows, n_seeds); `largest_norm` bounds the seeds' norms."""
        n_rows = rows.stop - rows.start if isinstance(rows, slice) else len(rows)
        dtype = np.dtype(np.float32 if self.narrow else np.float64)
        table = (-2.0 * seeds).astype(dtype, copy=False).T
        if len(table) < WIDE:
            table = np.ascontiguousarray(table)
        d = len(table)
        # Partial sums of |x_f c_f| stay below |x||c|, so that whole numbers are not rounded on the way.
        split = self.exact and self.narrow and n_rows and float(self.norms[rows].max()) * largest_norm >= WHOLE32
        pieces = parts_of(d, self._columns)
        out = np.zeros((n_rows, len(seeds)), np.float64 if split else dtype)
        for part in parts_of(n_rows, rows_to_fetch(d)):
            block = self.fetch(rows, part).astype(dtype, copy=False)
            if split:
                for piece in pieces:
                    out[part] += block[:, piece] @ table[piece]
            else:
                product(block, table, out[part])
        return out

    def wide_rows(self, indices: NDArray[np.int64]) -> F64:
        """Some rows in float64, (n_rows, n_features)."""
        return self.X[indices].astype(np.float64)

    def wide_products(self, rows: Index, vector: F64) -> F64:
        """The float64 products of some rows with one vector, (n_rows,)."""
        n_rows = rows.stop - rows.start if isinstance(rows, slice) else len(rows)
        out = np.empty(n_rows)
        for part in parts_of(n_rows, rows_in_block(self.n_terms)):
            np.dot(self.fetch(rows, part).astype(np.float64, copy=False), vector, out=out[part])
        return out

    def from_differences(self, rows: I64, which: I64 | int, seeds: F64, seed_rows: I64) -> tuple[F64, F64]:
        """|x - seed|^2 from differences and its error, good to nearly every bit; zero for equal rows only."""
        difference = self.X[rows] - seeds[which]
        distance = np.vecdot(difference, difference)
        vanishing = np.flatnonzero(distance < 2.0**-900)
        error = square_distance_radius(self.n_terms) * distance
        error[vanishing] += np.where(difference[vanishing].any(axis=1), SQUARE_UNDERFLOW, 0.0)
        return distance, error

    def fetch(self, rows: Index, part: slice) -> NDArray:
        """A part of some rows, as stored."""
        if isinstance(rows, slice):
            return self.X[rows_of(rows, part)]
        return self.X.take(rows[part], axis=0)


class Shadow:
    """The rows in a few orthonormal directions, plus the norm of what these leave out.

    With x = Q p + e and c = Q g + f, |x - c|^2 is |p - g|^2 + |e - f|^2 for an orthonormal Q, and |e - f| is at least
    ||e| - |f||: a lower bound of every distance from a few numbers a row.  What rounding adds is bounded by
    `gpukmeans.certificates.components.projection_radius`.
    """

    def __init__(self, screen: SeedScreen, pool: Workers) -> None:
        n, d = screen.X.shape
        self._screen = screen
        sample = screen.X[np.linspace(0, n - 1, min(n, 2048)).astype(np.int64)].astype(np.float32)
        self._projection = projection = Components(n, leading_directions(sample, COMPONENTS))
        #: Whether the directions are orthonormal; NaN is not.
        self.sound = projection.defect < 2.0**-8

        def project(part: slice) -> None:
            for some in parts_of(part.stop - part.start, rows_to_fetch(d)):
                rows = rows_of(part, some)
                x = screen.X[rows].astype(np.float32, copy=False)
                projection.fill(rows, product(x, projection.basis), screen.norms[rows])

        pool.map(project, pool.share(n, PART, 1024))

    def of_seeds(self, seeds: F64) -> tuple[F32, ScoreRadius]:
        """The shadows of seeds, for `left`: a table (n_seeds, m + 2) and its radius."""
        return lower_scores(self._projection, seeds)

    def left(self, part: slice, seeds: F32, radius: ScoreRadius, closest: F64) -> NDArray[np.int64]:
        """The rows of a part to which a seed may be nearer than `closest`, upper bounds of squared distances."""
        screen = self._screen
        below = closest - screen.squares[part] * (1.0 - 2.0**-30)
        below += screen.norms[part] * radius.per_norm
        below += np.abs(below) * 2.0**-22 + radius.constant  # room for rounding to float32, too
        scores = product(self._projection.table[part], seeds.T)
        near = np.minimum.reduce(np.ascontiguousarray(scores.T), axis=0) < below.astype(np.float32)
        return np.flatnonzero(near) + part.start
