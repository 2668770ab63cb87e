"""Rows as points of a plane, for maps: two principal components, or a layout that keeps neighbours together."""

from __future__ import annotations

import warnings
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from gpukmeans.arrays.magnitude import rows_times_power, times_power, unit_exponent
from gpukmeans.arrays.types import F64
from gpukmeans.caches import cached, key_of
from gpukmeans.intake.checks import check_rows_on_host
from gpukmeans.scale.sources import require

#: Rows that umap-learn needs to start from.
LEAST_ROWS = 5
#: Components that the neighbours are found in, where there are more features.
COMPONENTS = 50


def layout(
    X: ArrayLike,
    *,
    method: Literal["pca", "neighbours"] = "pca",
    random_state: int = 0,
    cache: bool = True,
) -> F64:
    """Lay rows out in a plane.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        At least two rows and two features.
    method : {"pca", "neighbours"}, default="pca"
        "pca": the first two principal components, distances in which are at most those of the rows.  "neighbours":
        UMAP by umap-learn (extra ``maps``) of at most 50 principal components, where islands are groups of near rows,
        and neither the size of an island nor the distance between two means anything.
    random_state : int, default=0
    cache : bool, default=True
        Keep the neighbours' layout in the user's cache folder, ``gpukmeans`` below ``XDG_CACHE_HOME`` or ``~/.cache``,
        by a checksum of the rows, the parameters and the library's version: 70,000 images take minutes, and from there
        a second.

    Returns
    -------
    ndarray of shape (n_samples, 2), float64
        :func:`gpukmeans.plots.point_map` draws it.

    Raises
    ------
    ValueError
        X has fewer than two rows or features (five rows for neighbours), or `method` is unknown.
    ImportError
        umap-learn is not installed.

    Notes
    -----
    L. McInnes, J. Healy and J. Melville, "UMAP: Uniform Manifold Approximation and Projection for Dimension Reduction",
    arXiv:1802.03426, 2018.  With a seed, umap-learn runs on one thread.

    Examples
    --------
    >>> import gpukmeans
    >>> from gpukmeans.evaluation import layout
    >>> X, y = gpukmeans.load_digits(return_X_y=True)
    >>> layout(X).shape
    (1797, 2)
    """
    rows = check_rows_on_host(X, "layout")
    if method not in ("pca", "neighbours"):
        raise ValueError(f"method={method!r} should be 'pca' or 'neighbours'")
    if min(rows.shape) < 2:
        raise ValueError(f"X has shape {rows.shape}; a plane needs at least two rows and two features")
    if method == "pca":
        return components(rows, 2, random_state)
    if rows.shape[0] < LEAST_ROWS:
        raise ValueError(f"X has {rows.shape[0]} rows; a layout of neighbours needs at least {LEAST_ROWS}")
    umap = require_neighbours()

    def place() -> F64:
        few = components(rows, min(COMPONENTS, *rows.shape), random_state)
        few /= np.abs(few).max() or 1.0  # umap-learn works in float32: no value may be too large or small for it
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "n_jobs value|n_neighbors is larger", UserWarning)
            return umap.UMAP(random_state=random_state).fit_transform(few).astype(np.float64)

    if not cache:
        return place()
    arrays = (rows.data, rows.indices, rows.indptr) if sparse.issparse(rows) else (rows,)
    key = key_of(
        arrays,
        shape=rows.shape,
        method=method,
        random_state=random_state,
        library=f"umap-learn {version('umap-learn')}",
    )
    return cached(f"layout-{key}", (rows.shape[0], 2), place)


def require_neighbours() -> Any:
    """The library that lays neighbours out.

    Raises
    ------
    ImportError
        It is not installed; the message says what installs it.
    """
    return require("umap", "maps", "layouts of neighbours")


def components(rows: Any, n_components: int, random_state: int) -> F64:
    """The leading principal components of each row."""
    from sklearn.decomposition import PCA

    exponent = unit_exponent(rows.data if sparse.issparse(rows) else rows)
    rows = (rows_times_power(rows, exponent) if exponent else rows).astype(np.float64, copy=False)
    found = PCA(n_components, random_state=random_state).fit_transform(rows)
    return times_power(np.ascontiguousarray(found, dtype=np.float64), -exponent)
