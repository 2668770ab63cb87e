"""Where the arithmetic runs: the protocols of a backend; choice.py selects one.

The engine calls a few coarse methods and imports no array library but NumPy.  A backend keeps the rows where it
computes, as they are stored.  Each method returns the same bits on every backend: labels are the true nearest centers,
and sums are exact.

| protocol | one object for each | made by |
|---|---|---|
| `Backend` | place to compute | the caller, or `gpukmeans.backends.get_backend` |
| `Rows` | rows of a fit, shared by its restarts | `Backend.load` |
| `Run` | run of Lloyd's algorithm | `Rows.start` |
| `Seeding` | draw of seeds | `Rows.seeding` |
| `Feed` | mini-batch fit | `Backend.feed` |
| `Runs` | group of runs that advance together | `Rows.start_many` |

Each protocol lists first what a backend must implement, then what it may implement.  The latter have defaults in
defaults.py: `BackendDefaults`, `RowsDefaults`, `RunDefaults` and `SeedingDefaults`, base classes without state.  A
whole backend made of them is tests/support/toy_backend.py.  `Runs` is needed only if `Rows.runs_at_a_time` returns more
than 0, `DeviceRows` only if the backend `reads_device`, and problems.py only if it `fits_many`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.on_device import DeviceInput
from gpukmeans.arrays.types import F64, I64, Limit
from gpukmeans.backends.known import Known
from gpukmeans.exact.sums import Grid

#: SciPy's csr_array or csr_matrix, which the protocol does not import.
CsrRows = Any


class Assigned(NamedTuple):
    """Counts of one assignment: rows whose label changed, and rows whose label was decided at each step.

    All but `n_moved` add up to the number of rows.
    """

    n_moved: int
    n_certified: int  # decided by a screen
    n_resolved: int  # decided by float64 distances
    n_exact: int  # decided by exact arithmetic
    n_uncertain: int = 0  # given the best screened label without proof (precision="fast" only)
    n_skipped: int = 0  # decided by drift bounds, without reading the row
    seconds: Mapping[str, float] = MappingProxyType({})  # by stage, where the backend measures them


@dataclass(frozen=True)
class Updated:
    """Facts about the new centers, one number per cluster each."""

    weights: F64  # (n_clusters,) summed weights; 0 marks an empty cluster, whose center is NaN until it is placed
    shift_square: F64  # (n_clusters,) |new - old|^2 in warp order; NaN for an empty cluster


class Step(NamedTuple):
    """One iteration: an assignment, and the update that followed it."""

    assigned: Assigned
    shift: float  # sum over the clusters of |new - old|^2 (`exact_total`); NaN where a cluster is empty
    n_empty: int  # clusters without weight, whose centers the engine places
    seconds: float  # wall time


@dataclass
class Ended:
    """How one of several runs ended: its labels, and the centers and inertia of the same assignment."""

    labels: Any  # (n_samples,), as `Run.labels_for_caller` returns them
    centers: NDArray
    lowest: float  # bounds of the inertia; equal where it is known
    highest: float
    steps: Sequence[Step]  # the iterations, of which relocations are none
    n_used: int | None = None  # number of clusters with a row, where it is known


class Run(Protocol):
    """One run of Lloyd's algorithm: centers, labels (int32, -1 at first) and exact sums, kept where the rows are."""

    # ---- every backend implements these ----

    def assign(self, *, move: bool = True) -> Assigned:
        """Give every row its true nearest center (ties: the lowest index).

        With `move`, the exact sums follow the rows that changed; without, only the labels do, and the run is over.
        """

    def update(self) -> Updated:
        """Replace the centers by the means of the exact sums, rounded to the center dtype.  Follows an `assign`."""

    def weights(self) -> F64:
        """The summed weights of the clusters, (n_clusters,), as of the last update."""

    def sums(self) -> tuple[I64, I64]:
        """Exact sums (n_limbs, n_clusters, n_features) and weights (n_weight_limbs, n_clusters) of the clusters."""

    def centers(self) -> NDArray:
        """The centers, (n_clusters, n_features), on the host."""

    def assigned_centers(self) -> NDArray:
        """Those that the labels belong to, on the host: the centers of the last `assign`."""

    def set_centers(self, centers: NDArray) -> None:
        """Replace the centers (the labels and sums stay)."""

    def labels(self) -> NDArray[np.int32]:
        """The labels, (n_samples,), on the host."""

    def farthest(self, count: int) -> NDArray[np.int64]:
        """Indices of the `count` rows farthest from their own centers (float64, warp order; ties: the lowest index).

        By the centers of the last `assign`.  Farthest first.
        """

    def inertia(self) -> float:
        """Sum over the rows of weight times |x - own center|^2 (float64, warp order), summed exactly, rounded once."""

    def inertias(self) -> F64:
        """The same of each cluster by itself, (n_clusters,)."""

    # ---- `RunDefaults` has these ----

    def advance(self, limit: int, tol: float) -> list[Step]:
        """Take up to `limit` iterations in one call; an empty list, the default, makes the caller take them one by one.

        Ends after one that moves no row, whose shift is not above `tol`, or that empties a cluster.
        """

    def labels_for_caller(self) -> Any:
        """The labels where the caller has the rows: a copy on the device that they were loaded from, or on the host.

        Default: `labels`.
        """

    def results(self) -> tuple[Any, NDArray, float]:
        """`labels_for_caller`, `centers` and `inertia`.  Default: these."""


class Runs(Protocol):
    """Several runs that advance together."""

    def finish(self, max_iter: int, tols: Sequence[Limit]) -> Sequence[Ended | None]:
        """Take every run to its end, by the rules of `gpukmeans.engine.lloyd.lloyd`; one of `tols` for each run.

        None stands for a run that must start again alone: one that empties a cluster, and any that the backend gives
        up.
        """

    def inertia(self, labels: Any, centers: NDArray) -> float:
        """As `Run.inertia`, of the outcome of a run; called only where its bounds differ."""


class BatchSums(NamedTuple):
    """The result of a single assignment: enough to move centers by."""

    sums: F64  # (n_clusters, n_features) weighted sums of the rows of each cluster; exact, then rounded to float64
    weights: F64  # (n_clusters,) their summed weights, likewise
    inertia: float  # of the rows under the centers they were assigned to, see batch_inertia.py; NaN if not requested


class Drawn(NamedTuple):
    """Seeds of several runs of k-means++, of which the first `n_certain` of each run are right."""

    rows: I64  # (n_runs, n_clusters)
    n_certain: I64  # (n_runs,)

    @classmethod
    def nothing(cls, seeds: I64, n_steps: int) -> Drawn:
        """No seed but those that were given, (n_runs, n_given)."""
        n_runs, n_given = seeds.shape
        rows = np.zeros((n_runs, n_given + n_steps), seeds.dtype)
        rows[:, :n_given] = seeds
        return cls(rows, np.full(n_runs, n_given))


class Seeding(Protocol):
    """The squared distances of all rows to their closest seed, for one run of k-means++ step by step, or of k-means||.

    Block b holds rows ``b * block_size`` and on.  Every returned value comes with a bound of its error.
    """

    block_size: int

    def add(self, indices: NDArray[np.int64]) -> tuple[F64, F64]:
        """Make rows seeds: the first one, or many at once.  Returns what `accept` does."""

    def propose(self, candidates: NDArray[np.int64]) -> tuple[F64, F64]:
        """Per candidate row: the sum over all rows of weight * min(closest, |x - candidate|^2), and its error bound.

        May be rough where that is cheap: see `refine`.  Both of shape (n_candidates,).
        """

    def refine(self, indices: NDArray[np.int64]) -> tuple[F64, F64]:
        """The same for some candidates of the last proposal, with the errors of float64."""

    def accept(self, index: int) -> tuple[F64, F64]:
        """Make a candidate of the last proposal a seed.

        Returns per block the sum of weight * closest and its error bound, both of shape (n_blocks,).
        """

    def block(self, block: int) -> tuple[F64, F64]:
        """The terms weight * closest of the rows of a block, and their error bounds."""

    def terms(self) -> tuple[F64, F64]:
        """The same of all rows."""

    # ---- `SeedingDefaults` has this ----

    def nearer(self, indices: NDArray[np.int64]) -> I64 | None:
        """Rows, rising, to which one of some candidates of the last proposal may be nearer than their closest seed.

        All such rows, and perhaps others.  Default: None, not known.
        """


class Rows(Protocol):
    """The rows of one fit, resident where the backend computes; restarts share them."""

    # ---- every backend implements these ----
    n_samples: int
    n_features: int
    grid: Grid | None
    center_dtype: np.dtype  # float32 for float32 rows, else float64

    def start(self, centers: NDArray, *, precision: str = "exact") -> Run:
        """A new run from `centers` (n_clusters, n_features), in the center dtype of the fit."""

    def seeding(self) -> Seeding:
        """Distances without seeds."""

    def take(self, indices: NDArray[np.int64]) -> NDArray:
        """Some rows, as stored, on the host (bfloat16 as float32)."""

    def unweighted(self) -> Rows:
        """The same rows, not copied, without weights, to be summed."""

    def subset(self, indices: NDArray[np.int64], sample_weight: F64 | None = None, *, sums: bool = True) -> Rows:
        """Some rows (one at least), in this order and as often as they are named: a copy where the backend computes.

        Their weights are `sample_weight`, (n_indices,), or none, whatever the weights of these rows; their grid is
        that of the same values loaded by themselves.
        """

    # ---- `RowsDefaults` has these ----
    def start_from(self, centers: NDArray, known: Known, *, precision: str = "exact") -> Run:
        """As `start`, of rows whose first ones are known beside these centers.  Default: `start`."""

    def plusplus(self, seeds: I64, draws: F64) -> Drawn:
        """Greedy k-means++ for several runs, each on its own as far as every draw and every choice is certain.

        `seeds` (n_runs, n_given) are the rows drawn so far, at least one; `draws` (n_runs, n_steps, n_trials) are the
        random values of the steps that follow.  A backend may leave any number of steps to the engine, all of them too:
        the engine takes one step with `seeding`, decides exactly what is open, and calls again.
        Default: `Drawn.nothing`.
        """

    def runs_at_a_time(self, n_clusters: int, n_runs: int) -> int:
        """How many of `n_runs` are to advance together; 0 if each is to run alone, which is the default."""

    def start_many(self, centers: NDArray) -> Runs:
        """New runs from `centers` (n_runs, n_clusters, n_features).  Called only where `runs_at_a_time` is not 0."""

    def n_used(self, labels: Any, n_clusters: int) -> int:
        """Clusters that have a row, by `Run.labels_for_caller`.  Default: of labels on the host."""

    def batch_sums(self, centers: NDArray, *, precision: str = "exact", inertia: bool = True) -> BatchSums:
        """Assign all rows to `centers` (n_clusters, n_features) once.  `inertia` of rows without weights only.

        Default: by a new run.
        """

    def entries(self, indices: NDArray[np.int64]) -> tuple[NDArray, NDArray, NDArray] | None:
        """The stored entries of some rows: the position of each one's row among `indices`, its column, its value.

        None, the default, for rows that are stored dense.
        """

    def scatter_bounds(self) -> tuple[float, float] | None:
        """A lower and an upper bound of the inertia of one cluster of all rows, without weights.

        Default: None, where these cost no less than the inertia itself.
        """


class DeviceRows(Rows, Protocol):
    """Rows that the caller has on a device: those of a backend whose `reads_device` is true."""

    def center_distances(self, centers: NDArray) -> Any:
        """The distances of every row to every center, (n_samples, n_clusters), as an array for the caller to keep.

        In the center dtype of the rows: the square root, correctly rounded, of `row_square_distances`.  Where rounding
        would make another center than the true nearest (ties: the lowest index) the first of the nearest, the distances
        to others are raised as little as that takes, so that ``argmin(axis=1)`` gives the labels.
        """


class Feed(Protocol):
    """Batches of rows on their way to where the backend computes; close it after use (`with`)."""

    ahead: bool  # whether to send the next batch before the last one is worked on

    def __enter__(self) -> Feed: ...

    def __exit__(self, *error: object) -> None: ...

    def send(self, indices: NDArray[np.int64]) -> None:
        """Name the rows of the next batch.  One may be on its way while another is worked on."""

    def receive(self) -> Rows:
        """The batch on its way, without weights, to be summed.  It ends with the next call of `receive`."""

    def drop(self) -> None:
        """Forget the batch on its way, if any."""

    def some(self, indices: NDArray[np.int64], sample_weight: F64 | None = None) -> Rows:
        """Other rows, with these weights, not to be summed; they stay."""


class Backend(Protocol):
    """A place to compute."""

    # ---- every backend implements these ----

    name: str

    def load(self, X: NDArray | DeviceInput | CsrRows, sample_weight: F64 | None = None, *, sums: bool = True) -> Rows:
        """Bring rows in: C-contiguous uint8, float32 or float64; weights float64 >= 0 or None.

        `DeviceInput` is passed only to backends that `reads_device`.  Such rows are used where they lie, after all work
        that the caller has queued on the device, and may be float16 and bfloat16, too.  Anything else that is not an
        ndarray is CSR, passed only to backends that `reads_sparse`: float32 or float64 and finite, the indices of each
        row rising and not repeated; fits end in the bits of the dense rows.
        The rows' `grid` is ``Grid.for_rows(X, sample_weight)``, or None with ``sums=False``: such rows can be labelled
        and seeded but not summed.  Raises a ValueError, with scikit-learn's message, for a value that is not allowed
        (finite, at most `LARGEST_VALUE`), if this backend checks values of this dtype.
        """

    def checks_values(self, dtype: np.dtype) -> bool:
        """Whether this backend itself rejects NaN, infinity and too large values of this dtype.

        It may do so when rows are loaded or when they are labelled.  If not, the caller must, before `load`.
        """

    def describe(self) -> str:
        """The machine and library versions, in one line."""

    # ---- `BackendDefaults` has these ----

    reads_sparse: bool  # whether `load`, `unit_rows` and `feed` take CSR; False by default
    reads_device: bool  # whether they take `DeviceInput`; False by default
    fits_many: bool  # whether this is a `gpukmeans.backends.problems.BatchBackend`; False by default

    def hand_out(self, values: NDArray) -> Any:
        """A small array for the caller to keep, where this backend computes: on its device, or as it is (default)."""

    def unit_rows(self, X: NDArray | DeviceInput | CsrRows) -> tuple[Any, F64]:
        """`gpukmeans.exact.unit_rows.unit_rows` of X, where X lies: a copy, to be loaded.

        Of rows on the backend's own device nothing has been checked; the largest magnitudes show what is not finite.
        Default: on the host.
        """

    def feed(self, X: NDArray | DeviceInput | CsrRows, batch_size: int) -> Feed:
        """Batches of at most `batch_size` rows of X, which stays where it is.  X and what it raises: see `load`.

        Default: subsets of all rows, loaded without sums.
        """

    def load_in_turn(self, blocks: Iterable[tuple[slice, Any]], most: int) -> Iterator[tuple[slice, Any, Rows]]:
        """Blocks of at most `most` rows, loaded without sums until the next is asked for.  Default: `load`."""


def members(protocol: type) -> tuple[str, ...]:
    """The names that an object must have to fulfil a protocol of this module, inherited ones first.

    Examples
    --------
    >>> from gpukmeans.backends.protocol import Seeding, members
    >>> members(Seeding)
    ('block_size', 'add', 'propose', 'refine', 'accept', 'block', 'terms', 'nearer')
    """
    names: dict[str, None] = {}
    for cls in reversed(protocol.__mro__):
        if cls not in (object, Generic, Protocol):
            names |= dict.fromkeys([*cls.__annotations__, *vars(cls)])
    return tuple(name for name in names if not name.startswith("_"))


def missing(found: object, protocol: type) -> list[str]:
    """The names of a protocol of this module that an object lacks."""
    return [name for name in members(protocol) if not hasattr(found, name)]
