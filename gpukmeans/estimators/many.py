"""Many problems in one call, and on a GPU in one set of launches: `fit_many`.

A problem too small to fill a device costs what its launches cost, and the looks at the device in between.  Problems of
one shape share them: their rows lie one after another, kernels take the problem as one more axis of the grid, and each
run stops by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from gpukmeans.arrays.on_device import DeviceInput, center_dtype, host_copy, host_view, is_torch, on_device
from gpukmeans.arrays.sparse import is_sparse
from gpukmeans.arrays.types import F64
from gpukmeans.backends.choice import get_backend
from gpukmeans.backends.problems import BatchBackend, ProblemError, Problems
from gpukmeans.backends.protocol import Rows
from gpukmeans.engine.lockstep import Contest, contend
from gpukmeans.engine.records import FitReport
from gpukmeans.engine.restarts import Init
from gpukmeans.engine.seeding.draws import probabilities
from gpukmeans.engine.seeding.plusplus import completed, plusplus_draws
from gpukmeans.engine.seeding.starts import draw_rows
from gpukmeans.estimators.kmeans import KMeans
from gpukmeans.intake.checks import check_rows, check_weights
from gpukmeans.intake.kinds import ArrayKind, check_places

#: Rows that are read as they are; other dtypes are converted one problem at a time.
_AS_THEY_ARE = (np.dtype(np.uint8), np.dtype(np.float32), np.dtype(np.float64))


def fit_many(
    problems: ArrayLike | Sequence[ArrayLike],
    n_clusters: int = 8,
    *,
    sample_weight: ArrayLike | Sequence[ArrayLike | None] | None = None,
    **params: Any,
) -> list[KMeans]:
    """Cluster many independent problems: what ``KMeans(n_clusters, **params).fit(X)`` says of each, bit by bit.

    On a GPU, problems of one shape and dtype share their launches (up to 64 clusters, and as far as a problem does not
    fill the device by itself), so that a thousand small ones take little longer than one.  Others are fitted one after
    another, and so are all of them on the CPU.

    Parameters
    ----------
    problems : array of shape (n_problems, n_samples, n_features), or sequence of arrays (n_samples, n_features)
        A 3-D array may lie on a CUDA device, where it is read in place.  A sequence may mix lengths, numbers of
        features and dtypes; those of its arrays that lie on a device are fitted one by one: stack them to have them
        together.
    n_clusters : int, default=8
        Of every problem.
    sample_weight : array of shape (n_problems, n_samples), or sequence of arrays (n_samples,) or None, default=None
    **params
        Parameters of `KMeans`.  `init` may also be a stack (n_problems, n_clusters, n_features), a start for each.
        With a callable `init`, a `callback`, `progress` or `verbose`, problems are fitted one by one.  An int
        `random_state` serves every problem anew; a RandomState is used by one problem after another.

    Returns
    -------
    list of KMeans
        Fitted, one for each problem, in order.  `fit_report_` of problems that were fitted together holds their even
        shares of the time.  ``precision="fast"`` makes no difference to these: they are exact.

    Raises
    ------
    ValueError, TypeError
        As `KMeans.fit`; the message begins with the number of the problem.  Or if `problems`, `sample_weight` or `init`
        have the wrong number of dimensions or of problems.
    gpukmeans.backends.BackendUnavailable, MemoryError
        As `KMeans.fit`.

    Examples
    --------
    >>> import numpy as np
    >>> import gpukmeans
    >>> X = np.array([[[0.0], [1.0], [9.0], [10.0]], [[-5.0], [-5.0], [5.0], [7.0]]])
    >>> models = gpukmeans.fit_many(X, 2, random_state=0)
    >>> [sorted(model.cluster_centers_.ravel().tolist()) for model in models]
    [[0.5, 9.5], [-5.0, 6.0]]
    """
    n_problems, stack, table = _problems(problems)
    check_places(problems, sample_weight=sample_weight, init=params.get("init"))
    weights = _one_each(sample_weight, n_problems, "sample_weight")
    inits = _inits(params.pop("init", "k-means++"), n_problems)
    models = [KMeans(n_clusters, init=init, **params) for init in inits]
    if not models:
        return models
    models[0]._validate_params()
    together = _backend_together(models[0], stack)
    shared_state = not isinstance(models[0].random_state, Integral)
    jobs: list[_Job | int] = list(range(len(models)))
    if together is not None:
        jobs = _jobs(together, models, stack, table, weights, in_order=shared_state or isinstance(stack, DeviceInput))
    for job in jobs:
        if isinstance(job, int):
            with _named(job):
                models[job].fit(table(job), sample_weight=weights[job])
        else:
            assert together is not None
            job.fit(together)
    return models


# ---- what is given --------------------------------------------------------------------------------------------------


def _problems(problems: Any) -> tuple[int, NDArray | DeviceInput | None, Callable[[int], Any]]:
    """How many; all rows in one array, if they are given so; and what gives the rows of one problem."""
    found = on_device(problems)
    shape = found.shape if found is not None else getattr(problems, "shape", None)
    if shape is None or (isinstance(problems, np.ndarray) and problems.dtype == object and problems.ndim == 1):
        tables = list(problems)
        return len(tables), None, tables.__getitem__
    if len(shape) != 3:
        raise ValueError(
            f"problems has shape {tuple(shape)}; a 3-D array (n_problems, n_samples, n_features) or a sequence of 2-D "
            "arrays is needed. For a single problem call gpukmeans.fit."
        )
    stack = host_view(problems) if found is None else found
    if found is None and not is_torch(stack):  # what of torch's is left, NumPy lacks
        stack = np.asarray(stack)
    return shape[0], stack, lambda number: problems[number : number + 1].reshape(shape[1:])


def _one_each(values: Any, n_problems: int, name: str) -> Sequence[Any]:
    if values is None:
        return [None] * n_problems
    values = host_copy(values)
    if len(values) != n_problems:
        raise ValueError(f"{name} has {len(values)} entries for {n_problems} problems; give one for each, or None.")
    return values


def _inits(init: Any, n_problems: int) -> Sequence[Init]:
    if isinstance(init, str) or callable(init):
        return [init] * n_problems
    init = host_copy(init)
    return _one_each(init, n_problems, "init") if np.ndim(init) == 3 else [init] * n_problems


def _backend_together(model: KMeans, stack: NDArray | DeviceInput | None) -> BatchBackend | None:
    """The backend, if it takes problems together and nobody looks on."""
    if callable(model.init) or model.callback is not None or model.verbose or model.progress:
        return None
    backend = get_backend(model.backend, stack.device if isinstance(stack, DeviceInput) else None)
    return backend if isinstance(backend, BatchBackend) else None


@contextmanager
def _named(number: int) -> Iterator[None]:
    """Errors say which problem they are about."""
    try:
        yield
    except Exception as error:
        if error.args and isinstance(error.args[0], str):
            error.args = (f"problem {number}: {error.args[0]}", *error.args[1:])
        else:
            error.add_note(f"This is about problem {number}.")
        raise


# ---- which go together ----------------------------------------------------------------------------------------------


@dataclass
class _Entry:
    """A problem that has been checked."""

    number: int
    model: KMeans
    X: NDArray | None  # None: part of the stack
    weight: F64 | None
    init: Init
    n_init: int
    kind: ArrayKind  # of what the model is to hold


@dataclass
class _Job:
    """Problems of one shape and dtype to be fitted together."""

    entries: list[_Entry]
    stack: NDArray | DeviceInput | None
    dtype: np.dtype  # of the centers

    def fit(self, backend: BatchBackend) -> None:
        """Fit all models."""
        times = [time.perf_counter()]
        rows = self._loaded(backend)
        model = self.entries[0].model
        tols = float(model.tol) * rows.variances() if model.tol > 0 else np.zeros(len(self.entries))
        times.append(time.perf_counter())
        starts = self._starts(backend, rows)
        times.append(time.perf_counter())
        contests = [
            Contest(partial(rows.problem, i), entry.weight, float(tols[i])) for i, entry in enumerate(self.entries)
        ]
        runs = rows.start_many(starts.reshape(-1, *starts.shape[2:]))
        contend(runs, starts, contests, max_iter=model.max_iter, precision=model.precision)
        times.append(time.perf_counter())
        load, seed, lloyd = (np.diff(times) / len(self.entries)).tolist()
        described = backend.describe()
        for i, (entry, contest) in enumerate(zip(self.entries, contests, strict=True)):
            best, inertia = contest.result(), contest.inertia_seconds
            stages = {"load": load, "seed": seed, "lloyd": lloyd, "inertia": inertia}
            n_used = best.n_used
            if n_used is None:
                n_used = rows.problem(i).n_used(best.labels, model.n_clusters)
            report = FitReport(described, stages, best.iterations)
            entry.model._take(best, n_used, entry.kind, backend, report, stacklevel=4)

    def _loaded(self, backend: BatchBackend) -> Problems:
        numbers = [entry.number for entry in self.entries]
        weights = [entry.weight for entry in self.entries if entry.weight is not None]
        X: NDArray | DeviceInput
        if self.stack is None:
            X = np.stack([entry.X for entry in self.entries if entry.X is not None])
        elif isinstance(self.stack, DeviceInput):  # neighbours
            part = self.stack.array[numbers[0] : numbers[-1] + 1]
            X = replace(self.stack, array=part, shape=(len(numbers), *self.stack.shape[1:]))
        else:
            X = self.stack[numbers]
        try:
            return backend.load_many(X, np.stack(weights) if weights else None)
        except ProblemError as caught:
            with _named(numbers[caught.number]):
                raise caught.error from None

    def _starts(self, backend: BatchBackend, rows: Problems) -> NDArray:
        """The centers that all runs start from, (n_problems, n_init, n_clusters, n_features)."""
        first = self.entries[0]
        if not isinstance(first.init, str):
            return np.stack([np.asarray(entry.init) for entry in self.entries])[:, None]
        k, shape = first.model.n_clusters, (len(self.entries), first.n_init)
        # The same draws serve all problems where these begin with the same state and weigh all rows equally.
        alike = isinstance(first.model.random_state, Integral) and first.weight is None
        drawing = enumerate(self.entries[:1] if alike and first.init != "k-means||" else self.entries)
        if first.init == "k-means++":
            drawn = [self._draws(entry, rows.n_samples) for _, entry in drawing]
            seeds, draws = (np.concatenate(values) for values in zip(*drawn, strict=True))
            if alike:
                seeds, draws = np.tile(seeds, (shape[0], 1)), np.tile(draws, (shape[0], 1, 1))
            found = completed(rows.plusplus(seeds, draws), draws, partial(self._of_run, rows))
        else:
            load = partial(backend.load, sums=False)
            found = np.array(
                [
                    draw_rows(first.init, rows.problem(i), k, state, entry.weight, self.dtype, load)
                    for i, entry in drawing
                    for state in [check_random_state(entry.model.random_state)]
                    for _ in range(first.n_init)
                ]
            )
        problem = np.arange(shape[0])[:, None, None] * rows.n_samples
        found = problem + np.broadcast_to(found.reshape(-1, shape[1], k), (*shape, k))
        return rows.take(found.reshape(-1)).astype(self.dtype).reshape(*shape, k, rows.n_features)

    def _draws(self, entry: _Entry, n_samples: int) -> tuple[NDArray[np.int64], F64]:
        state = check_random_state(entry.model.random_state)
        p = probabilities(n_samples, entry.weight, self.dtype)
        return plusplus_draws(n_samples, entry.model.n_clusters, entry.n_init, state, p)

    def _of_run(self, rows: Problems, run: int) -> tuple[Rows, F64 | None]:
        number = run // self.entries[0].n_init
        return rows.problem(number), self.entries[number].weight


def _jobs(
    backend: BatchBackend,
    models: list[KMeans],
    stack: NDArray | DeviceInput | None,
    table: Callable[[int], Any],
    weights: Sequence[Any],
    *,
    in_order: bool,
) -> list[_Job | int]:
    """Problems that go together, and the numbers of those that go alone; neighbours only where the order counts."""
    found: dict[Any, list[_Entry]] = {}
    alone: list[int] = []
    stretch, last = 0, None
    for number, model in enumerate(models):
        with _named(number):
            entry, kind = _checked(backend, number, model, stack, table, weights[number])
        stretch += in_order and kind != last
        last = kind
        if kind is None:
            alone.append(number)
        else:
            assert entry is not None
            found.setdefault((*kind, stretch), []).append(entry)
    jobs: list[tuple[int, _Job | int]] = [(number, number) for number in alone]
    for (shape, dtype, weighted, *_), entries in found.items():
        n_runs = entries[0].n_init
        most = backend.problems_at_a_time(shape, dtype, models[0].n_clusters, n_runs, weighted=weighted)
        most = most if len(entries) > 1 else 0
        for start in range(0, len(entries), max(1, most)):
            part = entries[start : start + max(1, most)]
            first = part[0].number
            if len(part) == 1:
                jobs.append((first, first))
            else:
                centers = center_dtype(dtype)
                jobs.append((first, _Job(part, stack, centers)))
    return [job for _, job in sorted(jobs, key=lambda pair: pair[0])]


def _checked(
    backend: BatchBackend,
    number: int,
    model: KMeans,
    stack: NDArray | DeviceInput | None,
    table: Callable[[int], Any],
    weight: Any,
) -> tuple[_Entry | None, tuple[tuple[int, ...], np.dtype, bool] | None]:
    """A problem ready to go with others of its kind (shape, dtype, whether it is weighted); None: alone."""
    rows: NDArray | None = None
    if isinstance(stack, DeviceInput) or (stack is not None and stack.dtype in _AS_THEY_ARE):
        shape, dtype = stack.shape[1:], stack.dtype
        if number == 0:
            first = replace(stack, shape=shape) if isinstance(stack, DeviceInput) else stack[0]
            check_rows(model, first, reset=True, backend=backend)
        model.n_features_in_ = shape[1]
    else:
        given = table(number)
        if is_sparse(given) or on_device(given) is not None:
            return None, None
        checked = check_rows(model, given, reset=True, backend=backend)
        assert not isinstance(checked, DeviceInput)
        rows, shape, dtype = checked, checked.shape, checked.dtype
    model._check_enough(shape[0])
    centers = center_dtype(dtype)
    own_weight = check_weights(weight, shape[0], centers)
    init, n_init = model._starts(shape[1], centers, default_n_init=10)
    model._check_algorithm()
    kind = ArrayKind.of(table(number))
    entry = _Entry(number, model, rows, own_weight, init, n_init, kind)
    return entry, (tuple(shape), dtype, own_weight is not None)
