"""Parts as an estimator gets them: one more answer of the intake, in the place of rows that stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.magnitude import SAMPLE, exponent_of, near_one
from gpukmeans.arrays.types import F64, I64
from gpukmeans.backends.choice import get_backend
from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.backends.protocol import Backend
from gpukmeans.distributed import parts
from gpukmeans.distributed.engine import Engine, in_groups
from gpukmeans.distributed.parts import Look
from gpukmeans.distributed.rows import PartedRows
from gpukmeans.intake.streams import OpenRows, Stream, Survey
from gpukmeans.scale.checkpoints import digests_of
from gpukmeans.scale.facts import SumGrids
from gpukmeans.scale.row_blocks import joined

#: Parts whose rows at either end are here at a time, for their checksums.
HASHED_TOGETHER = 64


class PartedInput(OpenRows):
    """Rows whose parts lie on workers: made for one call of an estimator, or by `gpukmeans.distributed.fit`.

    Parameters
    ----------
    engine : Engine
    where : str
        What the rows are, for messages.
    names : data frame without rows, optional
        The columns' names.
    sample_weight : ndarray of shape (n_samples,), optional
        That come with the rows.
    """

    def __init__(self, engine: Engine, where: str, names: Any = None, sample_weight: NDArray | None = None) -> None:
        self.engine, self._where, self.names = engine, where, names
        self._looks: list[Look] = []
        self._given_weight = sample_weight
        self.worker_backend: str | Backend = "numpy"

    def __repr__(self) -> str:
        return f"<{self._where} in {self.engine.n_parts:,} parts>"

    def chosen(self, backend: str | Backend) -> Backend:
        """The backend of this process, which tells the name of the one that the workers have chosen."""
        self.worker_backend = get_backend(backend) if backend == "numpy" else backend
        self._looks = self.engine.map(parts.look, backend)
        names = sorted({found.backend for found in self._looks})
        return backend if not isinstance(backend, str) else _OfWorkers(" and ".join(names), self.engine.n_parts)

    def form(self) -> tuple[tuple[int, int], np.dtype, bool]:
        """Shape, dtype, and whether rows are in CSR."""
        found = self.look()
        return (found.facts.n_samples, found.facts.n_features), found.facts.dtype, found.most_entries is not None

    def look(self) -> Look:
        """What the first pass found in all parts."""
        return _all(self._looks)

    def offsets(self) -> I64:
        """Where parts begin."""
        return np.cumsum([0, *(found.facts.n_samples for found in self._looks)])

    @property
    def where(self) -> str:
        return self._where

    @property
    def sample_weight(self) -> NDArray | None:
        return None if self._given_weight is None else np.asarray(self._given_weight)

    def stream(self, n_clusters: int = 1, init: object = None) -> PartedStream:
        """The rows for one fit."""
        (n, d), dtype, _ = self.form()
        if not n or not d:
            raise ValueError(f"{self.where}: {n} rows of {d} features; at least one of each is needed")
        return PartedStream(self, dtype)


def _all(looks: list[Look]) -> Look:
    forms = [
        ("sparse " * (found.most_entries is not None))
        + f"{found.facts.dtype} rows of {found.facts.n_features} features"
        for found in looks
    ]
    other = next((number for number, form in enumerate(forms) if form != forms[0]), None)
    if other is not None:
        raise ValueError(
            f"part {other:,} has {forms[other]}, and part 0 {forms[0]}; give all parts one dtype and width, and all "
            "dense or all sparse"
        )
    facts = reduce(lambda one, other: one + other, (found.facts for found in looks))
    most = None if looks[0].most_entries is None else max(found.most_entries or 0 for found in looks)
    return Look(facts, min(f.low for f in looks), max(f.high for f in looks), looks[0].backend, most)


class _OfWorkers(NumpyBackend):
    """The NumPy backend for a few rows in this process, under the name of the one that the workers chose."""

    def __init__(self, name: str, n_parts: int) -> None:
        super().__init__()
        self.name, self._n_parts = name, n_parts

    def describe(self) -> str:
        return f"{self.name} on workers, {self._n_parts:,} parts; {super().describe()}"


class PartedStream(Stream):
    """Parts in one use."""

    opened: PartedInput

    def __init__(self, opened: PartedInput, dtype: np.dtype, exponent: int = 0) -> None:
        self.opened, self.dtype, self._exponent = opened, dtype, exponent
        self.shape, self.ndim = opened.form()[0], 2
        self.offsets = opened.offsets()
        self._plain = opened.look() if not exponent and dtype == opened.form()[1] else None
        self._placed: list[tuple[F64 | None, Engine, Look]] = []

    def _with(self, sample_weight: F64 | None) -> tuple[Engine, Look]:
        """The parts with their offsets and these weights, and what a pass over them finds."""
        for weight, engine, found in self._placed:
            if weight is sample_weight:
                return engine, found
        where = self.offsets.tolist()
        each = [
            (start, None if sample_weight is None else sample_weight[start:stop]) for start, stop in pairwise(where)
        ]
        engine = self.opened.engine.derived(parts.changed, self.dtype, self._exponent, each=each)
        known = self._plain if sample_weight is None else None
        found = _all(engine.map(parts.look, "numpy")) if known is None else known
        self._placed = [(sample_weight, engine, found)]
        return engine, found

    def survey(self, sample_weight: F64 | None = None) -> Survey:
        if sample_weight is None and self._plain is not None:
            return Survey(self._plain.facts, self._plain.low, self._plain.high)
        found = self._with(sample_weight)[1]
        return Survey(found.facts, found.low, found.high)

    @property
    def surveyed(self) -> Survey:
        """The survey: single rows are never asked for in its place."""
        return self.survey()

    def grids(self, sample_weight: F64 | None) -> SumGrids:
        return self.survey(sample_weight).facts.grid()

    def rows(self, backend: Backend, sample_weight: F64 | None, *, sums: bool) -> PartedRows:  # type: ignore[override]
        engine, found = self._with(sample_weight)
        plain = replace(found.facts, products=None, weights=None).grid()
        grids = found.facts.grid() if sums else None
        return PartedRows(
            engine, found, self.offsets, sample_weight, self.opened.worker_backend, backend, grids, plain
        )  # fmt: skip

    def astype(self, dtype: Any) -> PartedStream:
        return PartedStream(self.opened, np.dtype(dtype), self._exponent)

    def in_unit(self, exponent: int) -> PartedStream:
        return PartedStream(self.opened, self.dtype, exponent)

    def exponent(self, near: NDArray | None) -> int:
        found = self.survey()
        largest = max(found.high, -found.low, 0.0 if near is None else float(np.abs(near).max()))
        if self.dtype.kind != "f" or near_one(largest):
            return 0
        engine = self.opened.engine
        rows = PartedRows(
            engine, self.opened.look(), self.offsets, None, "numpy", NumpyBackend(), None, self.grids(None)
        )
        sample = rows.take(np.arange(0, self.shape[0], max(1, self.shape[0] // SAMPLE)))
        seen = [found for found, _ in engine.map(parts.extremes, 0)]
        exponent = exponent_of(sample, lambda: [*seen, *([] if near is None else [near])])
        return exponent if exponent and all(same for _, same in engine.map(parts.extremes, exponent)) else 0

    def digests(self, step: int) -> list[bytes]:
        engine = self._placed[0][1] if self._placed else self._with(None)[0]
        found, rest = list[bytes](), list[Any]()
        for some in in_groups(range(engine.n_parts), HASHED_TOGETHER):
            for head, whole, tail in engine.map(parts.digests, step, only=some):
                rest.append(head)
                if sum(rows.shape[0] for rows in rest) == step:
                    found.append(digests_of(joined(rest), step))
                    rest = []
                found.append(whole)
                rest.append(tail)
        return [*found, digests_of(joined(rest), step)]

    def n_distinct(self, sample_weight: F64 | None, count: Callable[..., None]) -> int:
        return len(set().union(*self._with(sample_weight)[0].map(parts.distinct)))

    @property
    def bytes_read(self) -> int:
        return 0
