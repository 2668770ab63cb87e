"""k-means++ for several runs at once over few rows.

One product a step gives the distances of all rows to the trials of all runs.  Their errors are bounded in the large, by
one number for each run; a draw that this bound leaves open ends what is certain of its run.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64, I64
from gpukmeans.backends.cpu.lockstep.runs import SmallRows
from gpukmeans.backends.protocol import Drawn
from gpukmeans.certificates.rounding import SLACK, UNIT64, gamma
from gpukmeans.certificates.scores import exact_in_float64


def plusplus_of_few(rows: SmallRows, first: I64, draws: F64) -> Drawn:
    """See `gpukmeans.backends.Rows.plusplus`; `first` (n_runs,) are the first seeds.

    Notes
    -----
    A distance is a sum of d + 2 terms, -2 x.c + |x|^2 + |c|^2, whose magnitudes sum to 2 (|x|^2 + |c|^2) at most.
    Both squares round by gamma(d), rows that were shifted round once more each way: in all it is within
    2 gamma(d + 8) (|x|^2 + |c|^2) of exact, and so is the smallest of several.  Running sums add gamma(n + 2) of the
    total.  Where whole numbers are small enough nothing rounds: x is then not shifted.
    """
    n, d = rows.X.shape
    n_runs, n_steps, n_trials = draws.shape
    weight = rows.sample_weight
    exact = weight is None and exact_in_float64(d * n, rows.largest_integer)
    x = rows.wide if exact else rows.shifted
    squares = np.vecdot(x, x)
    error = 0.0
    if not exact:
        errors = SLACK * 2.0 * gamma(d + 8.0, UNIT64) * (squares + squares.max()) + 2.0**-1000
        error = SLACK * float(errors.sum() if weight is None else errors @ weight + 2.0**-900)
    rounding = 0.0 if exact else SLACK * gamma(n + 4.0, UNIT64)

    def distances_from(index: NDArray[np.int64], out: F64 | None = None) -> F64:
        found = np.matmul(-2.0 * x[index], x.T, out=out)
        found += squares
        found += squares[index, None]
        return found

    picks = np.zeros((n_runs, n_steps + 1), np.int64)
    picks[:, 0] = first
    certain = np.ones(n_runs, bool)
    n_certain = np.ones(n_runs, np.int64)
    each = np.arange(n_runs)
    factor = np.ones(n) if weight is None else weight
    distances = np.empty((n_runs * n_trials, n))
    closest = np.maximum(distances_from(first), 0.0)
    candidates = np.empty((n_runs, n_trials), np.int64)
    for step in range(n_steps):
        running = np.cumsum(closest if weight is None else closest * weight, axis=1)
        total = running[:, -1]
        values = draws[:, step] * total[:, None]
        slack = 2.0 * (error + rounding * (total + error))[:, None] + 4.0 * UNIT64 * values
        ends = np.concatenate([values - slack, values + slack], axis=1)
        for run in range(n_runs):
            reached = running[run].searchsorted(ends[run])
            candidates[run] = reached[:n_trials]
            certain[run] &= bool((reached[:n_trials] == reached[n_trials:]).all() and reached[-n_trials:].max() < n)
        np.minimum(candidates, n - 1, out=candidates)
        new = distances_from(candidates.ravel(), distances).reshape(n_runs, n_trials, n)
        np.minimum(new, closest[:, None], out=new)
        potentials = new @ factor
        radius = error + rounding * (potentials + error)
        low, high = potentials - radius, potentials + radius
        contends = low <= high.min(axis=1)[:, None]
        best = contends.argmax(axis=1)  # the first: right where all that contend are one row, or nothing rounds
        chosen = candidates[each, best]
        certain &= contends.any(axis=1)  # not where sums overflow
        if not exact:
            certain &= ((candidates == chosen[:, None]) | ~contends).all(axis=1)
        picks[:, step + 1] = chosen
        n_certain += certain
        if not certain.any():
            break
        closest = np.maximum(new[each, best], 0.0)
    return Drawn(picks, n_certain)
