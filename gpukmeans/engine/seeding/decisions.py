"""Decisions of a seeding step: the row that a draw hits, and the candidate that leaves the smallest potential.

Backends return sums with error bounds.  Where the bounds leave a decision open, exact.py makes it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64
from gpukmeans.backends.protocol import Rows, Seeding
from gpukmeans.certificates.rounding import UNIT64, gamma
from gpukmeans.engine.seeding.exact import ExactPotentials
from gpukmeans.exact.tie_break import first_of_equal_rows


def locate(
    draws: F64, sums: F64, errors: F64, seeding: Seeding, exact: ExactPotentials, chosen: list[int]
) -> list[int]:
    """For every draw u, the first row at which the running sum of the potential reaches u times its total.

    Parameters
    ----------
    draws : ndarray of shape (n_draws,), float64
        In [0, 1).
    sums, errors : ndarray of shape (n_blocks,), float64
        The terms of the potential summed over each block of ``seeding.block_size`` rows, and bounds of their errors.
    seeding : Seeding
        Returns the terms of the rows of a block.
    exact : ExactPotentials
        Decides the draws that the errors leave open.
    chosen : list of int
        The seeds so far, in the order drawn.
    """
    running, running_error = running_sums(sums, errors)
    values = draws * running[-1]
    # The product rounds once, and the two sums of `first_reaching` do: four units of the last place.
    value_errors = draws * running_error[-1] + 4.0 * UNIT64 * values
    found, open_ = first_reaching(running, running_error, values, value_errors)
    rows = []
    for i, block in enumerate(found.tolist()):
        row: int | None = None if open_[i] else block
        if row is not None and seeding.block_size > 1:
            row = _locate_within(block, running, running_error, values[i : i + 1], value_errors[i : i + 1], seeding)
        rows.append(exact.locate(float(draws[i]), chosen) if row is None else row)
    return rows


def _locate_within(
    block: int, running: F64, running_error: F64, value: F64, value_error: F64, seeding: Seeding
) -> int | None:
    """The first row of a block at which the running sum reaches a value, or None where the errors leave it open."""
    before, before_error = (running[block - 1], running_error[block - 1]) if block else (0.0, 0.0)
    terms, term_errors = seeding.block(block)
    inner, inner_error = running_sums(np.append(before, terms), np.append(before_error, term_errors))
    row, open_ = first_reaching(inner[1:], inner_error[1:], value, value_error)
    return None if open_[0] else block * seeding.block_size + int(row[0])


def running_sums(terms: F64, errors: F64) -> tuple[F64, F64]:
    """Running sums of non-negative terms, and bounds of their errors.

    Adding n terms one after another rounds n - 1 times, so by gamma(n) of the computed sum at most; the errors of the
    terms add up, and 2**-20 of their sum pays for its own rounding.
    """
    running = terms.cumsum()
    slack = gamma(len(terms), UNIT64) * running
    if errors.any():
        slack += errors.cumsum() * (1.0 + 2.0**-20)
    return running, slack


def first_reaching(
    running: F64, errors: F64, values: F64, value_errors: F64
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """For each value the first index whose running sum is at least the value, and whether the errors leave it open.

    Running sums and their errors rise with the index, and so do their sums.
    """
    may = np.searchsorted(running + errors, values - value_errors)
    last = np.minimum(may, len(running) - 1)
    must = running[last] - errors[last] >= values + value_errors
    return last, ~(must & (may == last))


def smallest(
    candidates: NDArray[np.int64], seeding: Seeding, rows: Rows, exact: ExactPotentials, chosen: list[int]
) -> int:
    """The position among `candidates` of the row that leaves the smallest potential as a seed; of equal ones the first.

    `exact` decides where the errors leave it open.
    """
    potentials, errors = seeding.propose(candidates)
    contenders = _contenders(potentials, errors)
    if len(contenders) > 1:
        contenders = contenders[np.unique(first_of_equal_rows(rows.take(candidates[contenders])))]
    if len(contenders) > 1:
        potentials, errors = seeding.refine(contenders)
        among = _contenders(potentials, errors)
        if len(among) > 1 and errors[among].any():
            open_ = contenders[among]
            return int(open_[exact.smallest(candidates[open_], chosen, seeding.nearer(open_))])
        return int(contenders[among[0]])
    return int(contenders[0])


def _contenders(potentials: F64, errors: F64) -> NDArray[np.intp]:
    """The positions of those that may be the smallest, in rising order."""
    return np.flatnonzero(potentials - errors <= (potentials + errors).min())
