"""The door for several problems: the rows of `gpukmeans.fit_many`, given as one 3-D array or as a sequence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from gpukmeans.arrays.magnitude import unit_exponent
from gpukmeans.arrays.on_device import DeviceInput, center_dtype, host_copy, host_view, is_torch, on_device
from gpukmeans.arrays.sparse import is_sparse
from gpukmeans.arrays.types import F64
from gpukmeans.backends.choice import get_backend
from gpukmeans.backends.problems import BatchBackend
from gpukmeans.backends.protocol import Backend
from gpukmeans.intake.checks import check_rows, check_weights, lone_as_one, refuse_path
from gpukmeans.intake.given import check_enough, n_distinct_rows
from gpukmeans.intake.kinds import ArrayKind, check_places

#: Rows that are read as they are; other dtypes are converted one problem at a time.
_AS_THEY_ARE = (np.dtype(np.uint8), np.dtype(np.float32), np.dtype(np.float64))


@dataclass(frozen=True)
class GivenProblem:
    """One problem that has been checked and may be fitted together with others of its `alike`.

    Attributes
    ----------
    number : int
        Among all problems, from 0.
    X : ndarray of shape (n_samples, n_features), or None
        None: part of the 3-D array.
    shape : tuple of int
        (n_samples, n_features)
    dtype, center_dtype : dtype
        Of the rows, and of centers fitted to them.
    sample_weight : ndarray of shape (n_samples,), float64, or None
        Checked, rounded; None if all are one.
    kind : ArrayKind
        Of the fitted arrays.
    """

    number: int
    X: NDArray | None
    shape: tuple[int, int]
    dtype: np.dtype
    center_dtype: np.dtype
    sample_weight: F64 | None
    kind: ArrayKind

    @property
    def alike(self) -> tuple[tuple[int, int], np.dtype, bool]:
        """Problems are loaded together only if they agree in this: shape, dtype, whether they are weighted."""
        return self.shape, self.dtype, self.sample_weight is not None


@dataclass(frozen=True)
class GivenProblems:
    """All problems, unread.

    Attributes
    ----------
    n_problems : int
    stack : ndarray or DeviceInput of shape (n_problems, n_samples, n_features), or None
        All rows in one array, if they are given so.
    table : callable
        ``table(number)`` are the rows of one problem, as the caller gave them.
    sample_weight : sequence
        The weights of each problem, or None.
    """

    n_problems: int
    stack: NDArray | DeviceInput | None
    table: Callable[[int], Any]
    sample_weight: Sequence[Any]

    @property
    def device(self) -> int | None:
        """The device of the 3-D array; None for the host."""
        return self.stack.device if isinstance(self.stack, DeviceInput) else None

    def backend_for_all(self, backend: str | Backend) -> BatchBackend | None:
        """The backend of the 3-D array, if it fits several problems together."""
        found = get_backend(backend, self.device)
        return cast(BatchBackend, found) if found.fits_many else None

    def check(self, estimator: BaseEstimator, number: int, n_clusters: int, backend: Backend) -> GivenProblem | None:
        """One problem, checked; None if it must be fitted alone.

        Such are sparse rows, single arrays on a device, and values far from one.  `estimator` gets `n_features_in_`.
        The values of a 3-D array are not checked here but by the backend.
        """
        rows: NDArray | None = None
        stack = self.stack
        if isinstance(stack, DeviceInput) or (stack is not None and stack.dtype in _AS_THEY_ARE):
            shape, dtype = stack.shape[1:], stack.dtype
            if number == 0:
                first = replace(stack, shape=shape) if isinstance(stack, DeviceInput) else stack[0]
                check_rows(estimator, first, reset=True, backend=backend)
            estimator.n_features_in_ = shape[1]
        else:
            given = self.table(number)
            refuse_path(given)
            if is_sparse(given) or on_device(given) is not None:
                return None
            checked = check_rows(estimator, given, reset=True, backend=backend)
            assert not isinstance(checked, DeviceInput)
            rows, shape, dtype = checked, checked.shape, checked.dtype
        values = stack[number] if rows is None and isinstance(stack, np.ndarray) else rows
        if values is not None and unit_exponent(values):
            return None
        check_enough(shape[0], n_clusters)
        centers = center_dtype(dtype)
        weight = lone_as_one(check_weights(self.sample_weight[number], shape[0], centers))
        kind = ArrayKind.of(self.table(number))
        return GivenProblem(number, rows, (shape[0], shape[1]), dtype, centers, weight, kind)

    def host_rows(self, problem: GivenProblem) -> NDArray | None:
        """The rows of a problem; None if they lie on a device."""
        return self.stack[problem.number] if problem.X is None and isinstance(self.stack, np.ndarray) else problem.X

    def n_distinct(self, problem: GivenProblem) -> int:
        """How many distinct rows of positive weight a problem has."""
        rows = problem.X if problem.X is not None else host_copy(self.table(problem.number))
        return n_distinct_rows(np.asarray(rows), problem.sample_weight)

    def stacked(self, problems: Sequence[GivenProblem]) -> NDArray | DeviceInput:
        """The rows of some problems that are alike, in one array; on a device these must be neighbours."""
        numbers = [problem.number for problem in problems]
        if self.stack is None:
            return np.stack([problem.X for problem in problems if problem.X is not None])
        if isinstance(self.stack, DeviceInput):
            part = self.stack.array[numbers[0] : numbers[-1] + 1]
            return replace(self.stack, array=part, shape=(len(numbers), *self.stack.shape[1:]))
        return self.stack[numbers]


def receive_problems(problems: Any, sample_weight: Any = None, init: Any = None) -> GivenProblems:
    """Find out how several problems are given; no value is read.

    Raises
    ------
    ValueError
        If the number of dimensions is wrong, or `sample_weight` has another number of problems, or `sample_weight` or
        `init` lies on a device where the problems do not lie.
    """
    refuse_path(problems, "problems")
    found = on_device(problems)
    shape = found.shape if found is not None else getattr(problems, "shape", None)
    stack: NDArray | DeviceInput | None = None
    if shape is None or (isinstance(problems, np.ndarray) and problems.dtype == object and problems.ndim == 1):
        tables = list(problems)
        n_problems, table = len(tables), tables.__getitem__
    else:
        if len(shape) != 3:
            raise ValueError(
                f"problems has shape {tuple(shape)}; a 3-D array (n_problems, n_samples, n_features) or a sequence of "
                "2-D arrays is needed. For a single problem call gpukmeans.fit."
            )
        stack = host_view(problems) if found is None else found
        if found is None and not is_torch(stack):  # a torch tensor here is bfloat16, which NumPy lacks
            stack = np.asarray(stack)
        n_problems, table = shape[0], lambda number: problems[number : number + 1].reshape(shape[1:])
    check_places(problems, sample_weight=sample_weight, init=init)
    return GivenProblems(n_problems, stack, table, _one_each(sample_weight, n_problems, "sample_weight"))


def starts_of_each(init: Any, n_problems: int) -> Sequence[str | ArrayLike | Callable[..., ArrayLike]]:
    """`init` of each problem: the same for all, or one of a stack of centers (n_problems, n_clusters, n_features)."""
    if isinstance(init, str) or callable(init):
        return [init] * n_problems
    init = host_copy(init)
    return _one_each(init, n_problems, "init") if np.ndim(init) == 3 else [init] * n_problems


def _one_each(values: Any, n_problems: int, name: str) -> Sequence[Any]:
    if values is None:
        return [None] * n_problems
    values = host_copy(values)
    if len(values) != n_problems:
        raise ValueError(f"{name} has {len(values)} entries for {n_problems} problems; give one for each, or None.")
    return values
