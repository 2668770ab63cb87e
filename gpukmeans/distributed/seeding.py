"""k-means++ and k-means|| over parts: each keeps its rows' distances to the seeds, and sends sums with error bounds.

The draws are those of the same rows in memory: whatever the bounds leave open is decided exactly, as everywhere
(gpukmeans/engine/seeding).  A part knows by a checksum which seeds its distances are to; one that has lost them, with
its worker, answers None and is sent all seeds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from gpukmeans.arrays.types import F64, I64
from gpukmeans.backends.cpu.seeding.screen import PART, SeedScreen
from gpukmeans.backends.cpu.seeding.steps import NumpySeeding, SeedTable
from gpukmeans.backends.cpu.sparse.seeding import SparseSeedScreen
from gpukmeans.backends.csr.table import SparseTable
from gpukmeans.certificates.rounding import SLACK, UNIT64, gamma
from gpukmeans.certificates.scores import exact_in_float64
from gpukmeans.distributed.engine import Engine
from gpukmeans.distributed.parts import Job, Part
from gpukmeans.threads import workers

#: Blocks of rows of which sums are sent, at most; fewer rows are a block each, in which nothing is left to look for.
MOST_BLOCKS = 16384


class Plan(NamedTuple):
    """What all steps of a seeding have in common."""

    job: Job
    block_size: int


def checksum(before: bytes, seeds: NDArray) -> bytes:
    """Of seeds that follow others."""
    for seed in seeds:
        before = hashlib.sha256(before + seed.tobytes()).digest()
    return before


class ElsewhereSeeds(SparseSeedScreen):
    """Rows in CSR, and seeds of which the values alone are known."""

    _dense: F64 | None = None
    _entries: Any

    def _of_seeds(self, which: I64 | int, n: int, seeds: F64, seed_rows: I64) -> Any:
        if self._dense is not seeds:
            self._dense, self._entries = seeds, csr_array(seeds)
        return self._entries[np.broadcast_to(which, n)]


class PartSeeding(NumpySeeding):
    """Distances of the rows of a part to seeds that may lie elsewhere: methods get the seeds' values, not their places.

    Sums are those of the blocks of all rows that this part has rows of.
    """

    def __init__(self, part: Part, plan: Plan) -> None:
        screen: SeedTable
        if isinstance(part.X, np.ndarray):
            with workers(part.X.size) as pool:
                screen = SeedScreen(part.X, plan.job.largest_integer, pool)
        else:
            table = SparseTable(part.X)
            screen = ElsewhereSeeds(table, table.squares(), plan.job.largest_integer, plan.job.n_terms)
        weight = part.weights(plan.job)
        super().__init__(screen, weight)
        size, (n, d) = plan.block_size, part.X.shape
        self.first = part.offset // size
        last = (part.offset + n - 1) // size
        self._starts = np.maximum(np.arange(self.first, last + 1) * size - part.offset, 0)
        plain = screen.exact and weight is None
        self._block_sum = self._total = 0.0
        if not (plain and exact_in_float64(d * n, screen.largest_integer)):
            self._block_sum = SLACK * gamma(size + 2.0, UNIT64)
            self._total = SLACK * gamma(PART + len(self._starts) + n / PART + 8.0, UNIT64)
        self.seeds = self.proposed = b""

    def _set_seeds(self, rows: NDArray) -> None:
        self._seeds = rows.astype(np.float64)
        self._seed_squares = np.vecdot(self._seeds, self._seeds)
        self._largest = float(np.sqrt(self._seed_squares.max()) * (1.0 + 2.0**-20) + self._d * 2.0**-60)
        self._closer = {}

    def _sums(self) -> tuple[F64, F64]:
        n = self._n
        if self._weight is not None:
            terms, slack = self._weighted(self._closest[:n], self._error[:n], slice(0, n))
            self._terms, self._slack = terms, slack
        sums = np.add.reduceat(self._terms[:n], self._starts)
        errors = SLACK * np.add.reduceat(self._slack[:n], self._starts) + self._block_sum * sums
        self._potential = float(sums.sum())
        self._potential_error = SLACK * float(errors.sum()) + self._total * self._potential
        return sums, errors

    def terms_of(self, block: int) -> tuple[F64, F64]:
        """The terms of the rows of one block of all rows."""
        place = block - self.first
        stop = self._starts[place + 1] if place + 1 < len(self._starts) else self._n
        part = slice(int(self._starts[place]), int(stop))
        return self._terms[part], self._slack[part]


# ---- what a part answers; None where it has lost the distances -------------------------------------------------------


def _seeding(part: Part, plan: Plan, seeds: bytes) -> PartSeeding | None:
    key = f"seeding {plan.job.weighted} {plan.block_size}"
    if not seeds:
        part.kept[key] = PartSeeding(part, plan)
    found = part.kept.get(key)
    return found if found is not None and found.seeds == seeds else None


def add(part: Part, plan: Plan, seeds: bytes, rows: NDArray) -> tuple[F64, F64] | None:
    """Make rows seeds; the sums of the potential by blocks, and their errors."""
    found = _seeding(part, plan, seeds)
    if found is None:
        return None
    found.seeds, found.proposed = checksum(seeds, rows), b""
    return found.add(rows)


def propose(part: Part, plan: Plan, seeds: bytes, candidates: NDArray) -> tuple[F64, F64] | None:
    """The potential with each candidate, and its error."""
    found = _seeding(part, plan, seeds)
    if found is None:
        return None
    found.proposed = checksum(b"", candidates)
    return found.propose(candidates)


def _proposed(part: Part, plan: Plan, seeds: bytes, candidates: NDArray) -> PartSeeding | None:
    found = _seeding(part, plan, seeds)
    if found is not None and found.proposed != checksum(b"", candidates):
        propose(part, plan, seeds, candidates)
    return found


def refine(part: Part, plan: Plan, seeds: bytes, candidates: NDArray, places: I64) -> tuple[F64, F64] | None:
    """The same for some candidates, with the errors of float64."""
    found = _proposed(part, plan, seeds, candidates)
    return None if found is None else found.refine(places)


def nearer(part: Part, plan: Plan, seeds: bytes, candidates: NDArray, places: I64) -> I64 | None:
    """Rows, among all, to which one of some candidates may be nearer than their closest seed."""
    found = _proposed(part, plan, seeds, candidates)
    return None if found is None else found.nearer(places) + part.offset


def accept(part: Part, plan: Plan, seeds: bytes, candidates: NDArray, place: int) -> tuple[F64, F64] | None:
    """Make a candidate a seed."""
    found = _proposed(part, plan, seeds, candidates)
    if found is None:
        return None
    found.seeds, found.proposed = checksum(seeds, candidates[place : place + 1]), b""
    return found.accept(place)


def terms(part: Part, plan: Plan, seeds: bytes, block: int | None) -> tuple[F64, F64] | None:
    """The terms of the potential: of a block of all rows, or of all rows of the part."""
    found = _seeding(part, plan, seeds)
    if found is None:
        return None
    return found.terms() if block is None else found.terms_of(block)


def afresh(part: Part, plan: Plan, seeds: bytes, rows: NDArray, work: Callable[..., Any], *args: Any) -> Any:
    """The answer of a part that has lost its distances to the seeds, whose values are `rows`."""
    add(part, plan, b"", rows)
    return work(part, plan, seeds, *args)


# ---- the whole -------------------------------------------------------------------------------------------------------


class PartedSeeding:
    """`gpukmeans.backends.Seeding` over all parts.

    Parameters
    ----------
    engine : Engine
    job : Job
    offsets : ndarray of shape (n_parts + 1,), int64
    n_features : int
    take : callable
        Rows by their places.
    """

    def __init__(self, engine: Engine, job: Job, offsets: I64, n_features: int, take: Callable[[I64], NDArray]) -> None:
        self._engine, self._take, self._offsets = engine, take, offsets
        n = int(offsets[-1])
        self.block_size = -(-n // MOST_BLOCKS)
        self._n_blocks = -(-n // self.block_size)
        self._filled = np.flatnonzero(np.diff(offsets)).tolist()
        self._plan = engine.share(Plan(job, self.block_size))
        plain = job.largest_integer < np.inf and not job.weighted
        exact = plain and exact_in_float64(n_features * n, job.largest_integer)
        self._adding = 0.0 if exact else SLACK * gamma(len(self._filled) + 2.0, UNIT64)
        self._rows: list[NDArray] = []
        self._seeds, self._candidates = b"", np.empty(0)

    def _ask(self, work: Callable[..., Any], *args: Any, only: list[int] | None = None) -> list[Any]:
        """The answers of the parts that have rows, or of some of them."""
        engine = self._engine
        numbers = self._filled if only is None else only
        shared = [engine.share(value) if isinstance(value, np.ndarray) else value for value in args]
        answers = engine.map(work, self._plan, self._seeds, *shared, only=numbers)
        lost = [place for place, answer in enumerate(answers) if answer is None]
        if lost:
            rows = engine.share(np.concatenate(self._rows))
            again = engine.map(
                afresh, self._plan, self._seeds, rows, work, *shared, only=[numbers[place] for place in lost]
            )
            for place, answer in zip(lost, again, strict=True):
                answers[place] = answer
        return answers

    def _sums(self, answers: list[tuple[F64, F64]]) -> tuple[F64, F64]:
        sums, errors = np.zeros(self._n_blocks), np.zeros(self._n_blocks)
        for part, (some, doubt) in zip(self._filled, answers, strict=True):
            first = int(self._offsets[part]) // self.block_size
            sums[first : first + len(some)] += some
            errors[first : first + len(some)] += doubt
        return sums, SLACK * errors + self._adding * sums

    def _seeded(self, rows: NDArray) -> None:
        self._rows.append(rows)
        self._seeds = checksum(self._seeds, rows)

    def add(self, indices: I64) -> tuple[F64, F64]:
        rows = self._take(indices)
        answers = self._ask(add, rows)
        self._seeded(rows)
        return self._sums(answers)

    def propose(self, candidates: I64) -> tuple[F64, F64]:
        self._candidates = self._take(candidates)
        return self._potentials(self._ask(propose, self._candidates))

    def refine(self, indices: I64) -> tuple[F64, F64]:
        return self._potentials(self._ask(refine, self._candidates, np.asarray(indices)))

    def _potentials(self, answers: list[tuple[F64, F64]]) -> tuple[F64, F64]:
        potentials = np.sum([answer[0] for answer in answers], axis=0)
        return potentials, SLACK * np.sum([answer[1] for answer in answers], axis=0) + self._adding * potentials

    def nearer(self, indices: I64) -> I64:
        return np.concatenate(self._ask(nearer, self._candidates, np.asarray(indices)))

    def accept(self, index: int) -> tuple[F64, F64]:
        answers = self._ask(accept, self._candidates, index)
        self._seeded(self._candidates[index : index + 1])
        return self._sums(answers)

    def block(self, block: int) -> tuple[F64, F64]:
        first, stop = block * self.block_size, (block + 1) * self.block_size
        only = [p for p in self._filled if self._offsets[p] < stop and self._offsets[p + 1] > first]
        return _joined(self._ask(terms, block, only=only))

    def terms(self) -> tuple[F64, F64]:
        return _joined(self._ask(terms, None))


def _joined(answers: list[tuple[F64, F64]]) -> tuple[F64, F64]:
    found, errors = zip(*answers, strict=True)
    return np.concatenate(found), np.concatenate(errors)
