"""Many problems in one call, and on a GPU in one set of launches: `fit_many`.

The cost of a problem too small to fill a device is that of its launches, and of the host's looks at the device in
between.  Problems of one shape share them: their rows lie one after another, kernels take the problem as one more axis
of the grid, and each run stops by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from numbers import Integral
from typing import Any, NamedTuple, Unpack

from numpy.typing import ArrayLike
from sklearn.utils import check_random_state

from gpukmeans.backends.problems import BatchBackend, ProblemError
from gpukmeans.engine.problems import Job
from gpukmeans.engine.restarts import Init
from gpukmeans.estimators.kmeans import KMeans
from gpukmeans.estimators.typed import KMeansParameters
from gpukmeans.intake.problems import GivenProblem, GivenProblems, receive_problems, starts_of_each
from gpukmeans.intake.ranges import range_of
from gpukmeans.scale.checkpoints import refuse


def fit_many(
    problems: ArrayLike | Sequence[ArrayLike],
    n_clusters: int = 8,
    *,
    sample_weight: ArrayLike | Sequence[ArrayLike | None] | None = None,
    **params: Unpack[KMeansParameters],
) -> list[KMeans]:
    """Cluster many independent problems: ``KMeans(n_clusters, **params).fit(X)`` of each, bit by bit.

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
        Of each problem: not negative, not all zero.  None weighs all rows equally.
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

    See Also
    --------
    gpukmeans.fit : one problem.
    KMeans : the estimator that is returned for each problem.

    Examples
    --------
    >>> import numpy as np
    >>> import gpukmeans
    >>> X = np.array([[[0.0], [1.0], [9.0], [10.0]], [[-5.0], [-5.0], [5.0], [7.0]]])
    >>> models = gpukmeans.fit_many(X, 2, random_state=0)
    >>> [sorted(model.cluster_centers_.ravel().tolist()) for model in models]
    [[0.5, 9.5], [-5.0, 6.0]]
    """
    refuse("fit_many")
    given = receive_problems(problems, sample_weight, params.get("init"))
    inits = starts_of_each(params.get("init", "k-means++"), given.n_problems)
    models = [KMeans(n_clusters, **(params | {"init": init})) for init in inits]
    if not models:
        return models
    models[0]._validate_params()
    backend = _backend_for_all(models[0], given)
    jobs: list[list[_Entry] | int] = list(range(len(models)))
    if backend is not None:
        jobs = _jobs(backend, models, given)
    for job in jobs:
        if isinstance(job, int):
            with _named(job):
                models[job].fit(given.table(job), sample_weight=given.sample_weight[job])
        else:
            assert backend is not None
            _fit_together(backend, given, job)
    return models


class _Entry(NamedTuple):
    """A problem that may be fitted together with others."""

    model: KMeans
    problem: GivenProblem
    init: Init
    n_init: int


def _backend_for_all(model: KMeans, given: GivenProblems) -> BatchBackend | None:
    """The backend, if it fits problems together and no iteration is to be shown."""
    if callable(model.init) or model.callback is not None or model.verbose or model.progress:
        return None
    return given.backend_for_all(model.backend)


def _jobs(backend: BatchBackend, models: list[KMeans], given: GivenProblems) -> list[list[_Entry] | int]:
    """Problems that are fitted together, and the numbers of those that are fitted alone.

    Only neighbours are fitted together if their order counts: if they draw from one RandomState, or lie on a device in
    one array.
    """
    in_order = not isinstance(models[0].random_state, Integral) or given.device is not None
    groups: dict[Any, list[_Entry]] = {}
    jobs: list[tuple[int, list[_Entry] | int]] = []
    stretch, last = 0, None
    for number, model in enumerate(models):
        with _named(number):
            problem = given.check(model, number, model.n_clusters, backend)
            alike = None if problem is None else problem.alike
            stretch += in_order and alike != last
            last = alike
            if problem is None:
                jobs.append((number, number))
                continue
            init, n_init = model._starts(problem.shape[1], problem.center_dtype, default_n_init=10)
            model._check_algorithm()
            groups.setdefault((alike, stretch), []).append(_Entry(model, problem, init, n_init))
    for ((shape, dtype, weighted), _), entries in groups.items():
        n_runs = entries[0].n_init
        most = backend.problems_at_a_time(shape, dtype, models[0].n_clusters, n_runs, weighted=weighted)
        most = max(1, most) if len(entries) > 1 else 1
        for start in range(0, len(entries), most):
            part = entries[start : start + most]
            first = part[0].problem.number
            jobs.append((first, first if len(part) == 1 else part))
    return [job for _, job in sorted(jobs, key=lambda pair: pair[0])]


def _fit_together(backend: BatchBackend, given: GivenProblems, entries: list[_Entry]) -> None:
    """Fit the models of problems that are alike."""
    model = entries[0].model
    job = Job(
        given,
        [entry.problem for entry in entries],
        [entry.init for entry in entries],
        n_clusters=model.n_clusters,
        n_init=entries[0].n_init,
        max_iter=model.max_iter,
        tol=float(model.tol),
        precision=model.precision,
        new_state=partial(check_random_state, model.random_state),
        same_state=isinstance(model.random_state, Integral),
    )
    try:
        outcomes = job.run(backend)
    except ProblemError as caught:
        with _named(caught.number):
            raise caught.error from None
    for entry, outcome in zip(entries, outcomes, strict=True):
        n_distinct = partial(given.n_distinct, entry.problem)
        entry.model._take(outcome.best, outcome.n_used, n_distinct, entry.problem.kind, backend, outcome.report)
        rows = given.host_rows(entry.problem)
        entry.model.data_range_ = None if rows is None else range_of(rows)


@contextmanager
def _named(number: int) -> Iterator[None]:
    """Put the number of the problem in front of an error's message."""
    try:
        yield
    except Exception as error:
        if error.args and isinstance(error.args[0], str):
            error.args = (f"problem {number}: {error.args[0]}", *error.args[1:])
        else:
            error.add_note(f"This is about problem {number}.")
        raise
