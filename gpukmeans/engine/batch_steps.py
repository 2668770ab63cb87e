"""Mini-batch k-means, step by step, over any backend.

D. Sculley, "Web-scale k-means clustering", WWW 2010: each step assigns a few random rows and moves their centers to the
mean of all rows that were assigned to them so far.  The stopping rules, the replacement of centers with few rows and
the order in which random values are used are those of scikit-learn.

The sums of a batch are exact (gpukmeans/exact/sums.py) and centers move on the host, so that every backend ends in the
same bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.arrays.types import F64, I64
from gpukmeans.backends.protocol import BatchSums, Feed, Rows
from gpukmeans.engine.records import Iteration, Watch
from gpukmeans.engine.standing import check_kept, kept_state, plain_records, records_of
from gpukmeans.exact.sums import exact_total
from gpukmeans.exact.warp_order import center_shift_square
from gpukmeans.scale.archives import plain_state
from gpukmeans.scale.checkpoints import Checkpoint, active, wrong_state


class Draws:
    """Rows drawn with replacement, one batch a call: what ``random_state.choice(n, size, p=p)`` draws, but faster.

    Parameters
    ----------
    random_state : RandomState
        Must not be used elsewhere between `ahead` and the `settle` or `take_back` that follows it.
    p : ndarray of shape (n_samples,)
        The probability of each row.
    size : int
        The number of rows in a batch.
    """

    def __init__(self, random_state: np.random.RandomState, p: NDArray, size: int) -> None:
        self.random_state, self.size = random_state, size
        self._even = bool((p == p[0]).all())
        self._before: Any = None
        self._reach = p.astype(np.float64).cumsum()
        self._reach /= self._reach[-1]

    def __call__(self) -> I64:
        """The indices of the next batch, (size,)."""
        values = self.random_state.random_sample(self.size)
        if not self._even:
            return self._reach.searchsorted(values, side="right")
        # The first row whose reach exceeds the value: with equal probabilities a product nearly always gives it.
        # It stays below n: for n > 2**k, n 2**-53 is more than half of the spacing of floats there, and 2**k is exact.
        found = (values * len(self._reach)).astype(np.int64)
        wrong = self._reach[found] <= values
        wrong |= (found > 0) & (self._reach[found - 1] > values)
        found[wrong] = self._reach.searchsorted(values[wrong], side="right")
        return found

    def ahead(self) -> I64:
        """The indices of the next batch, (size,), drawn so that `take_back` can undo it."""
        self._before = self.random_state.get_state()
        return self()

    def next_state(self) -> dict[str, Any] | None:
        """The state that the next batch is drawn from, as `plain_state` returns it."""
        if self._before is None:
            return plain_state(self.random_state)
        twin = np.random.RandomState()
        twin.set_state(self._before)
        return plain_state(twin)

    def settle(self) -> bool:
        """Keep the batch that was drawn ahead.  Returns whether there was one."""
        was, self._before = self._before is not None, None
        return was

    def take_back(self) -> bool:
        """Undo the batch that was drawn ahead.  Returns whether there was one."""
        if self._before is not None:
            self.random_state.set_state(self._before)
        return self.settle()


@dataclass
class MovingCenters:
    """Centers, each the mean of the rows that were assigned to it so far.

    Attributes
    ----------
    centers : ndarray of shape (n_clusters, n_features)
        Never written to: each step makes new ones.
    counts : ndarray of shape (n_clusters,), float64
        Summed weights of the rows that each center is the mean of.
    n_since : int
        Rows since centers with few rows were last replaced.
    """

    centers: NDArray
    counts: F64
    n_since: int = 0

    def due(self, batch_size: int) -> bool:
        """Count `batch_size` rows; returns whether centers with few rows are to be replaced in this step."""
        self.n_since += batch_size
        if (self.counts == 0).any() or self.n_since >= 10 * len(self.counts):
            self.n_since = 0
            return True
        return False

    def move(self, found: BatchSums) -> None:
        """Move the centers by the sums of a batch.

        A center c of weight w that gets rows of weight v and sum s moves to c + (s - v c) / (w + v): each operation is
        rounded to float64, the result to the dtype of the centers.  So a center stays where it is if all rows lie on
        it.  A center without weight moves to s / v; one that gets no rows stays.
        """
        got = np.flatnonzero(found.weights > 0)
        weights, before = found.weights[got, None], self.counts[got, None]
        old = np.where(before > 0, self.centers[got].astype(np.float64), 0.0)
        counts, centers = self.counts.copy(), self.centers.copy()
        counts[got] += found.weights[got]
        centers[got] = old + (found.sums[got] - weights * old) / counts[got, None]
        self.centers, self.counts = centers, counts

    def few(self, ratio: float, batch_size: int) -> NDArray[np.intp]:
        """The clusters whose weight is below `ratio` times the largest: those to be replaced by rows of the batch.

        At most half as many as the batch has rows, the lightest first (of equal ones the lowest index), and never all:
        a replaced cluster takes the smallest weight of the others.
        """
        light = self.counts < ratio * self.counts.max()
        order = self.counts.argsort(kind="stable")
        most = min(int(0.5 * batch_size), len(order) - 1)
        light[order[most:]] = False
        return np.flatnonzero(light)

    def replace(
        self, clusters: NDArray[np.intp], rows: Rows, random_state: np.random.RandomState, *, verbose: bool
    ) -> None:
        """Put clusters on random rows of the batch, with the smallest weight of the other clusters.

        With a smaller weight they would be replaced again at once.  `random_state` is used for one `choice`, or not at
        all if `clusters` is empty.
        """
        if not len(clusters):
            return
        chosen = random_state.choice(rows.n_samples, replace=False, size=len(clusters))
        if verbose:
            print(f"[MiniBatchKMeans] Reassigning {len(clusters)} cluster centers.")
        self.centers = self.centers.copy()
        self.centers[clusters] = rows.take(chosen.astype(np.int64))
        self.counts = self.counts.copy()
        self.counts[clusters] = np.delete(self.counts, clusters).min()


@dataclass
class EarlyStopping:
    """The stopping rules: centers that hardly move, or a smoothed inertia that does not fall.

    Attributes
    ----------
    n_samples, batch_size, n_steps : int
    tol : float
        Absolute: stop when the summed squared shift of the centers is at most `tol`; 0: never.
    max_no_improvement : int or None
        Stop after so many consecutive steps without a lower smoothed inertia; None: never.
    verbose : bool
        Whether to print a line for each step.
    smoothed : float or None
        The exponentially weighted average of the inertia per row, from the second step on; None before.
    first : float or None
        Inertia per row of the first step, which belongs to the initial centers and is not averaged.
    lowest : float or None
        The lowest `smoothed` so far.
    n_without : int
        Steps since then.
    """

    n_samples: int
    batch_size: int
    n_steps: int
    tol: float
    max_no_improvement: int | None
    verbose: bool
    smoothed: float | None = None
    first: float | None = None
    lowest: float | None = None
    n_without: int = 0

    def __call__(self, step: int, inertia: float, shift: float) -> bool:
        """Whether to stop after a step.

        Parameters
        ----------
        step : int
            The number of the step, from 1.
        inertia : float
            Of the batch, with the centers before they moved.
        shift : float
            The summed squared shift of the centers in this step.
        """
        mean = inertia / self.batch_size
        if step == 1:
            self.first = mean
            self._print(f"Minibatch step {step}/{self.n_steps}: mean batch inertia: {mean}")
            return False
        if self.smoothed is None:
            self.smoothed = mean
        else:
            share = min(self.batch_size * 2.0 / (self.n_samples + 1), 1)
            self.smoothed = self.smoothed * (1 - share) + mean * share
        self._print(f"Minibatch step {step}/{self.n_steps}: mean batch inertia: {mean}, ewa inertia: {self.smoothed}")
        if self.tol > 0.0 and shift <= self.tol:
            self._print(f"Converged (small centers change) at step {step}/{self.n_steps}")
            return True
        if self.lowest is None or self.smoothed < self.lowest:
            self.lowest, self.n_without = self.smoothed, 0
        else:
            self.n_without += 1
        if self.max_no_improvement is not None and self.n_without >= self.max_no_improvement:
            self._print(f"Converged (lack of improvement in inertia) at step {step}/{self.n_steps}")
            return True
        return False

    def mean_inertia(self) -> float:
        """The smoothed inertia per row, or the inertia per row of the first step if there was no other."""
        found = self.first if self.smoothed is None else self.smoothed
        assert found is not None, "no step has been taken"
        return found

    def _print(self, line: str) -> None:
        if self.verbose:
            print(line)


def take_steps(
    feed: Feed,
    draws: Draws,
    moving: MovingCenters,
    stopping: EarlyStopping,
    *,
    reassignment_ratio: float,
    precision: str,
    inertia: bool,
    watch: Watch | None,
    past: Sequence[Iteration] = (),
) -> list[Iteration]:
    """Draw batches and move the centers until a stopping rule holds or `watch` stops.

    Parameters
    ----------
    feed : Feed
        Returns the rows of the batches on the backend.
    draws : Draws
    moving : MovingCenters
        The centers to start from, changed in place.
    stopping : EarlyStopping
    reassignment_ratio : float
        See `MovingCenters.few`.
    precision : {"exact", "fast"}
        As of `gpukmeans.KMeans`.
    inertia : bool
        Whether to compute the inertia of the batches even if neither `stopping` nor `watch` needs it.
    watch : Watch or None
    past : sequence of Iteration
        Of a fit that goes on from a checkpoint: one record of all steps so far.

    Returns
    -------
    list of Iteration
        One a step.  `n_moved` is the number of rows in the batch, `n_relocated` the number of replaced clusters.
    """
    inertia |= stopping.verbose or stopping.max_no_improvement is not None or (watch is not None and watch.inertia)
    records = list(past)
    keep, total = active(), records[-1] if records else None
    if keep is not None and not records:
        keep.first(partial(batch_state, draws, moving, stopping, None))
    if keep is not None and keep.ended:
        return records
    feed.send(draws())
    while True:
        started = time.perf_counter()
        step = records[-1].iteration + 1 if records else 1
        rows = feed.receive()
        if feed.ahead and step < stopping.n_steps:
            feed.send(draws.ahead())
        due = moving.due(rows.n_samples)
        found = rows.batch_sums(moving.centers, precision=precision, inertia=inertia)
        before = moving.centers
        moving.move(found)
        few = moving.few(reassignment_ratio, rows.n_samples) if due else np.zeros(0, np.intp)
        if len(few) and draws.take_back():
            feed.drop()
        moving.replace(few, rows, draws.random_state, verbose=stopping.verbose)
        watched = stopping.tol > 0.0 or watch is not None
        shift = exact_total(center_shift_square(moving.centers, before)) if watched else float("nan")
        counts: dict[str, Any] = {"n_skipped": 0, "n_certified": 0, "n_resolved": 0, "n_exact": 0, "n_uncertain": 0}
        records.append(
            Iteration(
                init=0,
                iteration=step,
                n_moved=rows.n_samples,
                shift=shift,
                n_relocated=len(few),
                seconds=time.perf_counter() - started,
                inertia=found.inertia if inertia else None,
                **counts,
            )
        )
        stop = stopping(step, found.inertia, shift)
        stop |= (watch is not None and bool(watch.call(records[-1]))) or step == stopping.n_steps
        if stop and draws.take_back():
            feed.drop()
        if keep is not None:
            total = summed(total, records[-1])
            state: Callable[[], dict[str, Any]] = partial(dict, batch_state(draws, moving, stopping, total))
            if stop:
                keep.end(state)
            else:
                keep.after(1, state)
        if stop:
            return records
        if not draws.settle():
            feed.send(draws())


# ---- checkpoints -----------------------------------------------------------------------------------------------------

_STOPPING = ("smoothed", "first", "lowest", "n_without")


def summed(total: Iteration | None, record: Iteration) -> Iteration:
    """The last record, with the counts of all steps."""
    if total is None:
        return record
    counts = {f.name: vars(total)[f.name] + vars(record)[f.name] for f in fields(record) if f.name.startswith("n_")}
    return replace(record, seconds=total.seconds + record.seconds, **counts)


def batch_state(
    draws: Draws, moving: MovingCenters, stopping: EarlyStopping, total: Iteration | None
) -> dict[str, Any]:
    """Where a fit stands between two steps, as JSON and arrays."""
    return {
        "moving": {"centers": moving.centers, "counts": moving.counts, "n_since": moving.n_since},
        "stopping": {name: vars(stopping)[name] for name in _STOPPING},
        "random_state": draws.next_state(),
        "iterations": plain_records([] if total is None else [total]),
    }


def go_on_from(
    keep: Checkpoint | None, shape: tuple[int, int], dtype: np.dtype, stopping: EarlyStopping
) -> tuple[np.random.RandomState, MovingCenters, list[Iteration]] | None:
    """The draws, the centers and the records of a fit that is to go on; `stopping` is changed in place.

    None where no fit is to go on.  Raises a ValueError if the file holds something else.
    """
    if keep is None or keep.resumed is None:
        return None
    try:
        moving = keep.resumed["moving"]
        centers = check_kept(moving["centers"], shape, dtype, "centers")
        counts = check_kept(moving["counts"], shape[:1], np.dtype(np.float64), "counts")
        for name in _STOPPING:
            setattr(stopping, name, keep.resumed["stopping"][name])
        found = MovingCenters(centers, counts, int(moving["n_since"]))
        return kept_state(keep.resumed["random_state"]), found, records_of(keep.resumed["iterations"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise wrong_state(keep.path, error) from None
