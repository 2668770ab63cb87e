"""Partial sums of one step of Lloyd's algorithm over some of the rows: they add up to the same bits in any grouping."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64, I64
from gpukmeans.backends.cpu.sparse.sums import SparseSums
from gpukmeans.backends.cpu.sums import ClusterSums, DenseSums
from gpukmeans.backends.csr.table import SparseTable, own_square_distances
from gpukmeans.exact.relocation import Far, relocated
from gpukmeans.exact.sums import Grid, cluster_means
from gpukmeans.exact.totals import Total
from gpukmeans.exact.warp_order import row_square_distances
from gpukmeans.scale.archives import Format, read_archive, write_archive
from gpukmeans.scale.facts import SumGrids
from gpukmeans.scale.files import shown, unreadable
from gpukmeans.threads import parts_of, rows_in_block, workers

FORMAT = Format("gpukmeans partial", 1, "gpukmeans_partial", "`save`")


@dataclass(frozen=True)
class FarRows:
    """The rows of a part that lie farthest from their centers and have a weight, the farthest first.

    Attributes
    ----------
    distances : ndarray of shape (n_rows,), float64
        |x - center|^2, in warp order.
    indices : ndarray of shape (n_rows,), int64
        Among all rows; of equal distances the lowest comes first.
    values : ndarray of shape (n_rows, n_features)
    labels : ndarray of shape (n_rows,), int32
    weights : ndarray of shape (n_rows,), float64
    """

    distances: F64
    indices: I64
    values: NDArray
    labels: NDArray[np.int32]
    weights: F64

    def merged(self, other: FarRows, count: int) -> FarRows:
        """The `count` farthest of both."""
        both = [np.concatenate([vars(self)[name], vars(other)[name]]) for name in vars(self)]
        order = np.lexsort((both[1], -both[0]))[:count]
        return FarRows(*(array[order] for array in both))


@dataclass(frozen=True)
class Partial:
    """What a part of the rows adds to one step of Lloyd's algorithm; made by `gpukmeans.partial`.

    Partials of the same grid and centers add up (``a + b``) in any order and grouping to the same bits: the sums of a
    fit of all rows in memory.

    Attributes
    ----------
    grid : SumGrids
        From `Facts.grid`.
    centers : ndarray of shape (n_clusters, n_features)
        Those that the rows were assigned to.
    sums : ndarray of shape (n_limbs, n_clusters, n_features), int64
        Exact sums of the rows of each cluster, times their weights.
    weights : ndarray of shape (n_weight_limbs, n_clusters), int64
        Exact sums of the weights.
    counts : ndarray of shape (n_clusters,), int64
        Rows of each cluster.
    n_moved : int
        Rows whose label differs from the one given.
    total : Total
        Of the terms of the inertia.
    far : FarRows
        As many rows, the farthest from their centers, as there are clusters without weight here.
    labels : ndarray of shape (n_rows,), int32, or None
        Of the rows of this part; None in a sum, a saved file and `zero`.
    """

    grid: SumGrids
    centers: NDArray
    sums: I64
    weights: I64
    counts: I64
    n_moved: int
    total: Total
    far: FarRows
    labels: NDArray[np.int32] | None = None

    @classmethod
    def zero(cls, grid: SumGrids, centers: NDArray) -> Partial:
        """The partial of no rows."""
        centers = np.ascontiguousarray(centers, grid.center_dtype)
        k, d = centers.shape
        nothing = FarRows(np.empty(0), np.empty(0, np.int64), np.empty((0, d)), np.empty(0, np.int32), np.empty(0))
        return cls(
            grid,
            centers,
            np.zeros((grid.rows.n_limbs, k, d), np.int64),
            np.zeros((grid.weights.n_limbs, k), np.int64),
            np.zeros(k, np.int64),
            0,
            Total.of(np.empty(0), grid.n_samples, grid.top(centers)),
            nothing,
        )

    def __add__(self, other: Partial) -> Partial:
        if not isinstance(other, Partial):
            return NotImplemented
        for what, mine, its in (
            ("grid", self.grid.identity(), other.grid.identity()),
            ("centers", [self.centers.tobytes()], [other.centers.tobytes()]),
        ):
            one, two = (hashlib.sha256(b"".join(parts)).hexdigest()[:12] for parts in (mine, its))
            if one != two:
                raise ValueError(
                    f"Partials of different {what} cannot be added: {one} and {two} (checksums). Take all partials of "
                    "a step with the grid of the facts of all rows and with the same centers."
                )
        weights = self.weights + other.weights
        n_empty = int((weights == 0).all(axis=0).sum())
        return Partial(
            self.grid,
            self.centers,
            self.sums + other.sums,
            weights,
            self.counts + other.counts,
            self.n_moved + other.n_moved,
            self.total + other.total,
            self.far.merged(other.far, n_empty),
        )

    def new_centers(self) -> NDArray:
        """The centers after this step, (n_clusters, n_features): means, and far rows where clusters are empty."""
        self._require_all()
        weights = self.grid.weights.value(self.weights[:, :, None])[:, 0]
        if weights.all():
            return cluster_means(self.sums, weights, self.grid.rows, self.grid.center_dtype)
        far = Far(self.far.values, self.far.labels, self.far.weights if self.grid.weighted else None)
        return relocated(
            self.sums.copy(), self.weights.copy(), self.grid.rows, self.grid.weights, far, self.centers
        )[0]  # fmt: skip

    def inertia(self) -> float:
        """Summed squared distance of all rows to `centers`, times their weights: `KMeans.inertia_` of these."""
        self._require_all()
        return self.total.value()

    def _require_all(self) -> None:
        n = int(self.counts.sum())
        if n != self.grid.n_samples:
            raise ValueError(
                f"The partials added so far are of {n:,} rows; all {self.grid.n_samples:,} are needed. Add the others."
            )

    # ---- files -----------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the partial, without labels, into an npz file without pickle; `load` reads it.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        write_archive(path, FORMAT, *self._parts())
        return Path(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Partial:
        """Read a partial that `save` has written.

        Raises
        ------
        OSError
            The file cannot be read.
        ValueError
            It is damaged, or holds something else.
        """
        head, arrays = read_archive(Path(path), FORMAT)
        try:
            return cls._of_parts(head, arrays)
        except (KeyError, ValueError, TypeError) as error:
            raise unreadable(shown(path), f"no partial as `save` writes it ({error})") from None

    @classmethod
    def _of_parts(cls, head: dict[str, Any], a: dict[str, NDArray]) -> Partial:
        n_samples = head["n_samples"]
        grid = SumGrids(
            Grid(a["scale"], *head["rows_on"]),
            Grid(a["weight_scale"], *head["weights_on"]),
            n_samples,
            head["weighted"],
            np.dtype(head["dtype"]),
            a["largest"],
            head["largest_weight"],
        )
        far = FarRows(*(a[f"far_{name}"] for name in FarRows.__dataclass_fields__))
        top, base = head["total_on"]
        total = Total(n_samples, top, base, a["total"])
        return cls(grid, a["centers"], a["sums"], a["weights"], a["counts"], head["n_moved"], total, far)

    def _parts(self) -> tuple[dict[str, Any], dict[str, NDArray]]:
        """All but the labels, as JSON and as arrays."""
        grid, total = self.grid, self.total
        head = {
            "n_samples": grid.n_samples,
            "weighted": grid.weighted,
            "dtype": grid.dtype.name,
            "rows_on": [grid.rows.bits, grid.rows.n_limbs],
            "weights_on": [grid.weights.bits, grid.weights.n_limbs],
            "largest_weight": grid.largest_weight,
            "n_moved": self.n_moved,
            "total_on": [total.top, total.base],
        }
        return head, {
            "scale": grid.rows.scale,
            "weight_scale": grid.weights.scale,
            "largest": grid.largest,
            "centers": self.centers,
            "sums": self.sums,
            "weights": self.weights,
            "counts": self.counts,
            "total": total.limbs,
            **{f"far_{name}": array for name, array in vars(self.far).items()},
        }


# ---- the rows of one block -------------------------------------------------------------------------------------------


def block_sums(
    X: Any, sample_weight: F64 | None, grid: SumGrids, n_clusters: int, into: ClusterSums | None = None
) -> ClusterSums:
    """Sums to which rows of a block are added on the grids of all rows: all zero, or the arrays of `into`."""
    kind: Any = (DenseSums, X) if isinstance(X, np.ndarray) else (SparseSums, SparseTable(X))
    sums: ClusterSums = kind[0](kind[1], sample_weight, grid.rows, n_clusters, grid.weights)
    if into is not None:
        sums.sums, sums.weights, sums.touched = into.sums, into.weights, into.touched
    return sums


def block_distances(X: Any, labels: NDArray[np.int32], centers: NDArray) -> F64:
    """|x - own center|^2 of every row of a block, float64, in warp order."""
    n, d = X.shape
    with workers(n * d) as pool:
        if not isinstance(X, np.ndarray):
            return own_square_distances(SparseTable(X), labels, centers, pool)
        wide, distances = centers.astype(np.float64), np.empty(n)

        def measure(part: slice) -> None:
            distances[part] = row_square_distances(X, part, wide[labels[part]])

        pool.map(measure, parts_of(n, rows_in_block(d)))
    return distances


def block_far(
    X: Any, distances: F64, labels: NDArray[np.int32], sample_weight: F64 | None, offset: int, count: int
) -> FarRows:
    """The `count` rows of a block, at most, that lie farthest from their centers and have a weight."""
    heavy = np.arange(len(distances)) if sample_weight is None else np.flatnonzero(sample_weight > 0.0)
    chosen = heavy[np.argsort(-distances[heavy], kind="stable")[:count]]
    values = X[chosen] if isinstance(X, np.ndarray) else X[chosen].toarray()
    weights = np.ones(len(chosen)) if sample_weight is None else sample_weight[chosen]
    return FarRows(distances[chosen], chosen + offset, values.astype(np.float64), labels[chosen], weights)


def block_partial(
    X: Any,
    centers: NDArray,
    grid: SumGrids,
    nearest: Callable[[Any, NDArray], NDArray[np.int32]],
    *,
    offset: int,
    before: NDArray | None,
    sample_weight: F64 | None,
) -> Partial:
    """The partial of a block of rows that have been checked; ``nearest(X, centers)`` returns their true labels."""
    zero = Partial.zero(grid, centers)
    labels, n_clusters = nearest(X, zero.centers), len(centers)
    sums = block_sums(X, sample_weight, grid, n_clusters)
    with workers(X.shape[0] * X.shape[1]) as pool:
        sums.add(np.arange(len(labels)), np.full(len(labels), -1, np.int32), labels, pool)
    distances = block_distances(X, labels, zero.centers)
    terms = distances if sample_weight is None else distances * sample_weight
    n_empty = int((sums.weights == 0).all(axis=0).sum())
    return replace(
        zero,
        sums=sums.sums,
        weights=sums.weights,
        counts=np.bincount(labels, minlength=n_clusters),
        n_moved=len(labels) if before is None else int((labels != before).sum()),
        total=Total.of(terms, grid.n_samples, zero.total.top),
        far=block_far(X, distances, labels, sample_weight, offset, n_empty),
        labels=labels,
    )
