"""Mini-batches on the CPU: rows gathered by index, and a single assignment of them with nothing kept for a second."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numpy.typing import NDArray

from gpukmeans.backends import BatchSums
from gpukmeans.exact_sums import F64, I64

if TYPE_CHECKING:
    from gpukmeans.backends.numpy_backend import NumpyRows


def batch_sums(rows: NumpyRows, centers: NDArray, precision: str, inertia: bool) -> BatchSums:
    """`Rows.batch_sums`"""
    run = rows.start(centers, precision=precision)
    run.assign()
    return run.batch_sums(inertia)


class NumpyFeed:
    """Batches of rows in memory, or in a file that is mapped to it.  Nothing is gained by gathering early."""

    ahead = False

    def __init__(self, rows: NumpyRows) -> None:
        self._rows = rows
        self._sent: list[I64] = []

    def __enter__(self) -> NumpyFeed:
        return self

    def __exit__(self, *error: object) -> None:
        self.drop()

    def send(self, indices: I64) -> None:
        self._sent.append(indices)

    def receive(self) -> NumpyRows:
        return self._rows.subset(self._sent.pop(0))

    def drop(self) -> None:
        self._sent.clear()

    def some(self, indices: I64, sample_weight: F64 | None = None) -> NumpyRows:
        return self._rows.subset(indices, sample_weight, sums=False)
