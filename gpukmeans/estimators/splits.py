"""The splits of `BisectingKMeans`: a tree of nodes, of which those not split are the clusters, and how one is split."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.limits import WEIGHT_RANGE
from gpukmeans.arrays.types import F64, I64
from gpukmeans.backends.protocol import Rows
from gpukmeans.engine.lloyd import lloyd
from gpukmeans.engine.lockstep import lockstep
from gpukmeans.engine.records import LloydResult
from gpukmeans.engine.seeding.starts import find_starts
from gpukmeans.engine.standing import check_kept, kept_state
from gpukmeans.intake.checks import check_centers
from gpukmeans.intake.given import Given
from gpukmeans.scale.archives import plain_state
from gpukmeans.scale.checkpoints import Checkpoint, active, wrong_state

#: A further run of a bisection replaces the best one if its inertia is below this multiple, as in scikit-learn, whose
#: inertias are rounded.
BETTER = 1.0 - 1e-6


@dataclass
class Tree:
    """The splits, node by node; node 0 is all rows."""

    centers: dict[int, NDArray] = field(default_factory=dict)
    children: dict[int, tuple[int, int]] = field(default_factory=dict)
    label: dict[int, int] = field(default_factory=dict)  # of the nodes that were not split

    def grow(self, node: int, centers: NDArray) -> tuple[int, int]:
        """Two new nodes below one."""
        first = 2 * len(self.children) + 1
        self.children[node] = pair = first, first + 1
        self.centers.update(zip(pair, centers, strict=True))
        return pair

    def arrays(self) -> dict[str, NDArray]:
        """For pickles: of each node the center (0 of all rows, if split), the first child and the label, or -1."""
        nodes = range(2 * len(self.children) + 1)
        nowhere = np.zeros_like(next(iter(self.centers.values())))
        return {
            "centers": np.stack([self.centers.get(node, nowhere) for node in nodes]),
            "first_child": np.array([self.children.get(node, (-1,))[0] for node in nodes]),
            "label": np.array([self.label.get(node, -1) for node in nodes]),
        }


@dataclass
class Cluster:
    """A node that is not split yet."""

    node: int
    rows: I64
    inertia: float


@dataclass
class Splitter:
    """Runs k-means with two clusters on some of the rows."""

    options: Any  # a BisectingKMeans
    given: Given
    rows: Rows
    random_state: np.random.RandomState

    def __post_init__(self) -> None:
        self.known: list[NDArray] = []
        self.n_splits, self.keep = 0, active()
        if self.keep is not None and self.keep.resumed is not None:
            self._go_on(self.keep)
        elif self.keep is not None:
            self.keep.first(self.state)
        self.calls_users = callable(self.options.init) or self.options._draws_starts()
        if self.calls_users:
            self._host = self.given.host_rows()
            # To center sparse rows would fill them.
            sparse = self.given.form == "csr"
            self._mean = None if sparse else self._host.mean(axis=0, dtype=self.given.center_dtype)

    def split(self, indices: I64) -> tuple[NDArray[np.int32], NDArray, F64] | None:
        """Labels 0 and 1, the two centers and the two inertias; None where too few rows weigh anything."""
        weights = self.given.sample_weight
        weight = None if weights is None else weights[indices]
        n_heavy = len(indices) if weight is None else int(np.count_nonzero(weight))
        if n_heavy < (2 if self.options.init == "random" else 1):
            return None
        if weight is not None and weight.max() < WEIGHT_RANGE[0]:
            return None
        rows = self.rows if len(indices) == self.rows.n_samples else self.rows.subset(indices, weight)
        centers = self.known[self.n_splits] if self.n_splits < len(self.known) else self._best(rows, indices, weight)
        self.n_splits += 1
        if self.options.verbose:
            print(f"New centroids from bisection: {centers}")
        run = rows.start(centers, precision=self.options.precision)
        run.assign(move=False)
        return run.labels(), centers, run.inertias()

    def _best(self, rows: Rows, indices: I64, weight: F64 | None) -> NDArray:
        """The two centers of the best of the runs."""
        best: LloydResult | None = None
        for _ in range(self.options.n_init):
            result = self._run(rows, self._start(rows, indices, weight), weight)
            if best is None or result.inertia < best.inertia * BETTER:
                best = result
        assert best is not None
        self.known.append(best.centers)
        if self.keep is not None:
            self.keep.after(1, partial(dict, self.state()))
        return best.centers

    def state(self) -> dict[str, Any]:
        """The splits so far and the draws that follow, for a checkpoint."""
        centers = np.stack(self.known) if self.known else np.empty((0, 2, self.rows.n_features))
        return {"splits": centers, "random_state": plain_state(self.random_state)}

    def _go_on(self, keep: Checkpoint) -> None:
        """Take the splits of a checkpoint: rows then only go to the nearer of two known centers."""
        assert keep.resumed is not None
        try:
            splits = keep.resumed["splits"]
            shape = (len(splits), 2, self.rows.n_features)
            self.known = list(check_kept(splits, shape, self.given.center_dtype, "splits") if len(splits) else ())
            self.random_state = kept_state(keep.resumed["random_state"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise wrong_state(keep.path, error) from None

    def _start(self, rows: Rows, indices: I64, weight: F64 | None) -> NDArray:
        init = self.options.init
        if self.calls_users:
            mean, X = self._mean, self._host[indices]
            X = X if mean is None else X - mean
            if self.options._draws_starts():
                moved = self.options._drawn_start(X, weight, init, self.random_state, n_centroids=2)
            else:
                assert callable(init)
                moved = init(X, 2, random_state=self.random_state)
            centers = check_centers(moved, 2, rows.n_features, self.given.center_dtype)
            return centers if mean is None else centers + mean
        load, dtype = partial(self.given.backend.load, sums=False), self.given.center_dtype
        return find_starts(str(init), rows, 2, self.random_state, weight, dtype, load)

    def _run(self, rows: Rows, centers: NDArray, weight: F64 | None) -> LloydResult:
        options = self.options
        how: dict[str, Any] = {
            "sample_weight": weight,
            "max_iter": options.max_iter,
            "tol": float(options.tol),
            "precision": options.precision,
        }
        if not options.verbose and rows.runs_at_a_time(2, 1):
            return lockstep(rows, [centers], **how)
        return lloyd(rows, centers, **how, verbose=bool(options.verbose))

    def one_cluster(self, tree: Tree) -> float:
        """Give node 0 its center, the mean of the rows (weights do not enter, as in scikit-learn); its inertia."""
        rows = self.rows if self.given.sample_weight is None else self.rows.unweighted()
        run = rows.start(np.zeros((1, rows.n_features), self.given.center_dtype))
        run.assign()
        run.update()
        tree.centers[0] = run.centers()[0]
        run = self.rows.start(run.centers())
        run.assign(move=False)
        return run.inertia()
