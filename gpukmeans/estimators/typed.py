"""Types for callers' type checkers, which see nothing through the decorators of scikit-learn: it has no types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypedDict, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import _fit_context
from sklearn.utils._param_validation import validate_params

from gpukmeans.backends.protocol import Backend
from gpukmeans.engine.records import Iteration
from gpukmeans.engine.restarts import Init
from gpukmeans.estimators.watching import Callback
from gpukmeans.intake.streams import OpenRows

F = TypeVar("F", bound=Callable[..., Any])

#: Arrays that are NumPy's for NumPy's rows: where X is a torch tensor or a CuPy array, they are such.
Labels = NDArray[np.int32]
Floats = NDArray[np.floating[Any]]

#: Rows for `KMeans`: an array, or rows that stream.
AnyRows = ArrayLike | OpenRows


class KMeansParameters(TypedDict, total=False):
    """The parameters of `gpukmeans.KMeans` but `n_clusters`."""

    init: Init
    n_init: int | Literal["auto"]
    max_iter: int
    tol: float
    verbose: int
    random_state: int | np.random.RandomState | None
    copy_x: bool
    algorithm: Literal["lloyd", "elkan"]
    backend: str | Backend
    precision: Literal["exact", "fast"]
    callback: Callback | None
    progress: bool | Callable[[Iteration], object]


def validates_parameters(fit: F) -> F:
    """scikit-learn's decorator for `fit`, which checks the parameters of the estimator first."""
    decorated: F = _fit_context(prefer_skip_nested_validation=True)(fit)
    return decorated


def validates(constraints: dict[str, Any], *, nested: bool) -> Callable[[F], F]:
    """scikit-learn's decorator for functions, which checks arguments; `nested`: estimators within check theirs, too."""
    decorator: Callable[[F], F] = validate_params(constraints, prefer_skip_nested_validation=not nested)
    return decorator
