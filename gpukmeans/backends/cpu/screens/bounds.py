"""Which rows must be looked at: drift bounds, kept so that most iterations do not even read them all.

Every row has a *key* per bound: its gap (certificates/verdicts.py) at the last look, plus how far its centers
had drifted by then.  The row needs no look while the key exceeds how far they have drifted now.  So nothing is written
to rows that are skipped; and rows whose keys are far off are left out of a *watch list*, which is all that
is read until the centers have drifted by that much.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64, Index
from gpukmeans.certificates.drift import gap_after_move
from gpukmeans.certificates.scores import square_distance_radius
from gpukmeans.certificates.verdicts import Screened
from gpukmeans.exact.warp_order import center_shift_square
from gpukmeans.threads import Workers, parts_of

#: Drifts that are added up before all rows are looked at anew.
MOST_STEPS = 4096
#: Room for the roundings of keys and of MOST_STEPS additions, relative to the drift that they hold.
ROUNDING = 2.0**-36
#: Share of the rows up to which a watch list is worth having.
WATCHED_SHARE = 0.5
#: Rows whose keys are compared at a time.
SCAN_ROWS = 1 << 16


class DriftBounds:
    """Two bounds a row (G. Hamerly, SDM 2010; J. Drake and G. Hamerly, OPT 2012): the second best center, and the rest.

    Notes
    -----
    With a the own center, s the second best, and D_j the summed drift of center j, the gap to s shrinks by at most the
    growth of D_a + D_s, and the gap to the rest by at most the growth of R_a, the sum over the iterations of the own
    drift and the largest drift of another center.  A key is fl(gap + D) for the D of its time, at most
    (gap + D) (1 + 2u).  A row is skipped if its key exceeds today's D times 1 + ROUNDING.  At most MOST_STEPS = 2**12
    rounded additions make up a D, each off by at most u D, 2**-41 D in all, and ROUNDING covers that and the 2u of the
    key; GAP_SLACK, taken off the fresh gap, pays for 2u of the gap.

    Rows beyond the watch list had keys above D (1 + ROUNDING) + tau when it was made, and no threshold has grown by
    more than tau since.
    """

    def __init__(self, n_rows: int, n_centers: int) -> None:
        self._all = _Keys(np.zeros(n_rows, np.int32), np.zeros(n_rows, np.int32), *np.full((2, n_rows), -np.inf))
        #: The keys that are kept up to date: those of all rows, or of the watched ones.
        self._keys = self._all
        self._watched: NDArray[np.int64] | None = None
        self._place = np.zeros(n_rows, np.int32)  # of a watched row among them
        self._centers: NDArray | None = None
        self._drift = np.zeros(n_centers)  # D
        self._drift_rest = np.zeros(n_centers)  # R
        self._known: tuple[NDArray | None, NDArray | None, F64] = (None, None, self._drift)
        self._n_steps = 0
        self._last_step = 0.0
        self._watched_from = self._drift_rest
        self._watched_for = 0.0

    def advance(self, centers: NDArray) -> None:
        """The centers are these now."""
        if self._centers is None or self._n_steps == MOST_STEPS:
            self.forget()
            self._drift = np.zeros(len(centers))
            self._drift_rest = np.zeros(len(centers))
            self._n_steps = 0
        elif centers is not self._centers:
            before, after, square = self._known
            if before is not self._centers or after is not centers:
                square = center_shift_square(centers, self._centers)
            drift = np.sqrt(square * (1.0 + 2.0 * square_distance_radius(centers.shape[1])) + 2.0**-990)
            order = np.argsort(drift)
            others = np.full(len(drift), drift[order[-1]])
            others[order[-1]] = drift[order[-2]]
            self._drift = self._drift + gap_after_move(drift, 0.0 * drift)
            self._drift_rest = self._drift_rest + gap_after_move(drift, others)
            self._last_step = 2.0 * float(drift.max())
            self._n_steps += 1
        self._centers = centers

    def shifted(self, before: NDArray, centers: NDArray, square: F64) -> None:
        """|centers - before|^2 of each center, in float64, for an `advance` from the ones to the others."""
        self._known = (before, centers, square)

    def forget(self) -> None:
        """No row is settled."""
        self._keys, self._watched = self._all, None
        self._all.near[:] = -np.inf

    def open_rows(self, pool: Workers) -> NDArray[np.int64]:
        """Rows whose label may have changed, in rising order."""
        if self._watched is not None:
            if self._grown() * (1.0 + 2.0**-20) <= self._watched_for:
                return self._watched[~(self._keys.margins(slice(None), *self._thresholds()) > 0.0)]
            self._all.put(self._watched, self._keys)
            self._keys, self._watched = self._all, None
        n = len(self._place)
        thresholds = self._thresholds()
        parts = parts_of(n, SCAN_ROWS)
        margins = pool.map(lambda part: self._all.margins(part, *thresholds), parts)
        open_ = [np.flatnonzero(~(margin > 0.0)) + part.start for part, margin in zip(parts, margins, strict=True)]
        rows = np.concatenate(open_)
        if self._last_step and len(rows) < WATCHED_SHARE * n:
            # The longer the list serves, the longer it is: at best as the square root of the share of open rows.
            tau = self._last_step * max(2.0, np.sqrt(2.0 * n / (len(rows) + 1.0)))
            close = [np.flatnonzero(~(margin > tau)) + part.start for part, margin in zip(parts, margins, strict=True)]
            watched = np.concatenate(close)
            if len(watched) < WATCHED_SHARE * n:
                self._watched, self._watched_for = watched, tau
                self._watched_from = self._drift_rest
                self._keys = self._all.take(watched)
                self._place[watched] = np.arange(len(watched), dtype=np.int32)
        return rows

    def _thresholds(self) -> tuple[F64, F64]:
        return self._drift * (1.0 + ROUNDING), self._drift_rest * (1.0 + ROUNDING)

    def _grown(self) -> float:
        """By how much a threshold has grown at most since the watch list was made: R_a grows by more than D_a + D_s."""
        return float((self._drift_rest - self._watched_from).max())

    def settle(self, rows: Index, best: NDArray[np.int32], second: NDArray[np.int32], found: Screened) -> None:
        """Rows (see `void`) have these nearest and second nearest centers, and the gaps that a screen found."""
        near = found.near + (self._drift[best] + self._drift[second])
        self._keys.put(self._places(rows), _Keys(best, second, near, found.rest + self._drift_rest[best]))

    def gaps(self) -> tuple[NDArray[np.int32], F64, F64]:
        """Of all rows, the second best center and both gaps; called while no center has moved."""
        keys = self._all
        return keys.second, keys.near, keys.rest

    def void(self, rows: Index) -> None:
        """Rows must be looked at next time; only rows of the last `open_rows`, unless that was most of the rows."""
        self._keys.near[self._places(rows)] = -np.inf

    def _places(self, rows: Index) -> Index:
        return rows if self._watched is None else self._place[rows].astype(np.int64)


@dataclass(frozen=True)
class _Keys:
    own: NDArray[np.int32]
    second: NDArray[np.int32]
    near: F64
    rest: F64

    def margins(self, rows: slice, drift: F64, drift_rest: F64) -> F64:
        """How much the drift may still grow before a row is open; NaN or minus infinity for no bound at all."""
        own = self.own[rows].astype(np.intp)
        margins = self.near[rows] - drift.take(own)
        margins -= drift.take(self.second[rows].astype(np.intp))
        return np.minimum(margins, self.rest[rows] - drift_rest.take(own), out=margins)

    def take(self, rows: NDArray[np.int64]) -> _Keys:
        return _Keys(self.own[rows], self.second[rows], self.near[rows], self.rest[rows])

    def put(self, rows: Index, keys: _Keys) -> None:
        self.own[rows], self.second[rows], self.near[rows], self.rest[rows] = (
            keys.own,
            keys.second,
            keys.near,
            keys.rest,
        )
