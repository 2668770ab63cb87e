"""k-means and k-means++ as plain functions: scikit-learn's signatures over the gpukmeans engine."""

from __future__ import annotations

import os
from collections.abc import Callable
from numbers import Integral
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Hidden, Interval

from gpukmeans.arrays.magnitude import times_power
from gpukmeans.arrays.sparse import scipy_rows
from gpukmeans.backends.protocol import Backend
from gpukmeans.engine.seeding import draws, plusplus
from gpukmeans.estimators.base import BACKEND_CONSTRAINT
from gpukmeans.estimators.kmeans import KMeans
from gpukmeans.estimators.typed import validates
from gpukmeans.intake.given import receive

#: The constraint on X.  Paths pass, so that the error for them says what reads files.
ROWS_CONSTRAINT = ["array-like", "sparse matrix", Hidden(str), Hidden(bytes), Hidden(os.PathLike)]


@validates(
    {
        "X": ROWS_CONSTRAINT,
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "sample_weight": ["array-like", None],
        "x_squared_norms": ["array-like", None],
        "random_state": ["random_state"],
        "n_local_trials": [Interval(Integral, 1, None, closed="left"), None],
        "backend": BACKEND_CONSTRAINT,
    },
    nested=False,
)
def kmeans_plusplus(
    X: ArrayLike,
    n_clusters: int,
    *,
    sample_weight: ArrayLike | None = None,
    x_squared_norms: ArrayLike | None = None,
    random_state: int | np.random.RandomState | None = None,
    n_local_trials: int | None = None,
    backend: str | Backend = "auto",
) -> tuple[Any, Any]:
    """Draw rows to start k-means from by greedy k-means++: those that `sklearn.cluster.kmeans_plusplus` draws.

    Every draw is decided as in real arithmetic, so all backends draw the same rows, and scikit-learn in float64 does
    wherever its rounding does not matter.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        uint8, float32 or float64 rows are read in place; others are converted to float64.  Sparse rows (CSR) stay
        sparse.  Rows on a CUDA device stay there; then uint8, float16, bfloat16, float32 or float64.
    n_clusters : int
        Rows to draw.
    sample_weight : array-like of shape (n_samples,), default=None
        Not negative, not all zero.  None weighs all rows equally.
    x_squared_norms : array-like of shape (n_samples,), default=None
        Accepted for compatibility; only its length is checked.  No |x|^2 is used.
    random_state : int, RandomState or None, default=None
        One `choice`, then `n_local_trials` uniforms for each further row.
    n_local_trials : int, default=None
        Candidates for each row but the first; the one that lowers the potential most is taken.  None:
        ``2 + int(log(n_clusters))``.  1 is k-means++ as it was published.
    backend : {"auto", "numpy", "cupy"} or Backend, default="auto"
        See `gpukmeans.KMeans`.

    Returns
    -------
    centers : ndarray of shape (n_clusters, n_features)
        ``X[indices]``, dense, in the dtype of X where it is a NumPy array or sparse, else as the rows are read
        (bfloat16: float32).
    indices : ndarray of shape (n_clusters,), int64
        In the order drawn.  Both are torch tensors or CuPy arrays where X is one.

    Raises
    ------
    ValueError
        If X is not a finite 2-D array with at least `n_clusters` rows, or a parameter, weight or length is not allowed.
    gpukmeans.backends.BackendUnavailable
        As `gpukmeans.KMeans.fit` does.

    See Also
    --------
    k_means : a fit that starts from such rows.
    KMeans : the estimator, with ``init="k-means++"``.

    Notes
    -----
    D. Arthur and S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans import kmeans_plusplus
    >>> X = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> centers, indices = kmeans_plusplus(X, n_clusters=2, random_state=0)
    >>> indices
    array([3, 2])
    >>> centers
    array([[10,  2],
           [ 1,  0]])
    """
    given = receive(
        type("kmeans_plusplus", (KMeans,), {})(n_clusters),  # errors name the function
        X,
        sample_weight,
        backend=backend,
        reset=True,
        n_clusters=n_clusters,
        check_values=True,
    )
    given, _ = given.narrowed()
    n_samples, weight = given.n_samples, given.sample_weight
    n_norms = n_samples if x_squared_norms is None else np.shape(x_squared_norms)[0]
    if n_norms != n_samples:
        raise ValueError(
            f"The length of x_squared_norms {n_norms} should be equal to the length of n_samples {n_samples}."
        )
    exponent = given.exponent()
    rows = given.in_unit(exponent).load(sums=False)
    p = draws.probabilities(n_samples, weight, given.center_dtype)
    state = check_random_state(random_state)
    indices = plusplus.kmeans_plusplus(rows, n_clusters, state, p, weight, n_local_trials)
    if given.form == "csr":  # in its own dtype, like a NumPy array
        centers = scipy_rows(X).tocsr()[indices].toarray()
    else:
        centers = X[indices] if isinstance(X, np.ndarray) else times_power(rows.take(indices), -exponent)
    return given.give(centers), given.give(indices)


@validates(
    {"X": ROWS_CONSTRAINT, "sample_weight": ["array-like", None], "return_n_iter": [bool]},
    nested=True,
)
def k_means(
    X: ArrayLike,
    n_clusters: int,
    *,
    sample_weight: ArrayLike | None = None,
    init: str | ArrayLike | Callable[..., ArrayLike] = "k-means++",
    n_init: int | Literal["auto"] = "auto",
    max_iter: int = 300,
    verbose: int = False,
    tol: float = 1e-4,
    random_state: int | np.random.RandomState | None = None,
    copy_x: bool = True,
    algorithm: Literal["lloyd", "elkan"] = "lloyd",
    return_n_iter: bool = False,
    backend: str | Backend = "auto",
    precision: Literal["exact", "fast"] = "exact",
) -> Any:
    """Cluster the rows of X, as `sklearn.cluster.k_means` does: a fit of `gpukmeans.KMeans` in one call.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        As for `gpukmeans.KMeans.fit`: also CSR; rows on a CUDA device are clustered there.
    n_clusters : int
    sample_weight : array-like of shape (n_samples,), default=None
        Not negative, not all zero.  None weighs all rows equally.
    init, n_init, max_iter, verbose, tol, random_state, copy_x, algorithm, backend, precision
        Parameters of `gpukmeans.KMeans`.
    return_n_iter : bool, default=False

    Returns
    -------
    centers : ndarray of shape (n_clusters, n_features)
        float32 for float32 rows, else float64.
    labels : ndarray of shape (n_samples,), int32
        Each the true nearest of the centers; ties: the lowest index.  Both are torch tensors or CuPy arrays where X is.
    inertia : float
        Summed squared distance of the rows to their centers, times their weights.
    n_iter : int
        Only with ``return_n_iter=True``.

    Raises
    ------
    ValueError, TypeError, MemoryError, gpukmeans.backends.BackendUnavailable
        As `gpukmeans.KMeans.fit` does.

    See Also
    --------
    KMeans : the estimator.
    gpukmeans.fit : a fitted estimator in one call.
    kmeans_plusplus : the default start.

    Notes
    -----
    S. P. Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory 28 (1982).

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans import k_means
    >>> X = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> centers, labels, inertia = k_means(X, n_clusters=2, random_state=0)
    >>> centers
    array([[10.,  2.],
           [ 1.,  2.]])
    >>> labels
    array([1, 1, 1, 0, 0, 0], dtype=int32)
    >>> inertia
    16.0
    """
    model = KMeans(
        n_clusters,
        init=init,
        n_init=n_init,
        max_iter=max_iter,
        verbose=verbose,
        tol=tol,
        random_state=random_state,
        copy_x=copy_x,
        algorithm=algorithm,
        backend=backend,
        precision=precision,
    ).fit(X, sample_weight=sample_weight)
    found = (model.cluster_centers_, model.labels_, model.inertia_)
    return (*found, model.n_iter_) if return_n_iter else found
