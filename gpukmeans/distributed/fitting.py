"""`fit`: parts on any engine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

from numpy.typing import ArrayLike

from gpukmeans.distributed.engine import Engine
from gpukmeans.distributed.executors import ExecutorEngine
from gpukmeans.distributed.pieces import pieces
from gpukmeans.distributed.rows_given import PartedInput
from gpukmeans.intake.streams import OpenRows


def fit(
    parts: Any,
    n_clusters: int = 8,
    *,
    executor: Executor | str,
    sample_weight: ArrayLike | None = None,
    **params: Any,
) -> Any:
    """Cluster rows that lie in parts on workers: the bits of ``KMeans(n_clusters, **params).fit(all rows)``.

    The rows stay where they are.  Facts, centers and exact sums travel, which add up to the same bits however the rows
    are cut and however many workers there are, so that a step that is lost with its worker can be taken anywhere again.

    Parameters
    ----------
    parts : sequence, Dask array or data frame, Ray dataset, or OpenRows
        Arrays of shape (n_rows, n_features), dense or in CSR, or functions without arguments that return one and are
        called where the rows are needed.  For Dask also futures and delayed objects, for Ray object references of
        arrays.  Or `gpukmeans.open_rows` of a path that all workers see, or of a callable: each worker reads its share
        of the rows once and keeps it, for which `memory_limit` should have room.
    n_clusters : int, default=8
    executor : concurrent.futures.Executor, "dask" or "ray"
        "dask": the current client's workers (``pip install 'gpukmeans[dask]'``).  "ray": the cluster that `ray.init`
        has joined (``pip install 'gpukmeans[ray]'``).  Workers run what they unpickle: use machines that you trust,
        over a network that you trust.
    sample_weight : array-like of shape (n_samples,), optional
        In the order of the parts.
    **params
        Parameters of `gpukmeans.KMeans`; workers choose ``backend="auto"`` each for itself.

    Returns
    -------
    KMeans
        Fitted; `labels_` is a Dask array with ``executor="dask"``, else an ndarray.

    Raises
    ------
    ValueError, TypeError
        A part is no table of finite numbers, or parts differ in width or dtype; the message names the part.
    OSError
        A worker cannot read its part.
    gpukmeans.distributed.WorkersLost
        The workers are gone, or cannot import gpukmeans.
    ImportError
        Dask or Ray is not installed.

    See Also
    --------
    gpukmeans.open_rows : rows of one machine that exceed its memory.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> import numpy as np
    >>> import gpukmeans, gpukmeans.distributed
    >>> X = np.arange(12.0).reshape(6, 2)
    >>> with ThreadPoolExecutor(2) as executor:
    ...     model = gpukmeans.distributed.fit([X[:1], lambda: X[1:]], 2, executor=executor, random_state=0)
    >>> model.labels_.tolist() == gpukmeans.KMeans(2, random_state=0).fit_predict(X).tolist()
    True
    """
    from gpukmeans.estimators.kmeans import KMeans

    rows = parted(parts, executor, n_clusters)
    model = KMeans(n_clusters, **params).fit(rows, sample_weight=sample_weight)
    if isinstance(parts, OpenRows):
        parts.unchanged()
    return model


def resume(
    path: str | os.PathLike[str],
    parts: Any,
    *,
    executor: Executor | str,
    sample_weight: ArrayLike | None = None,
    backend: str = "auto",
) -> Any:
    """Go on with a fit from its checkpoint, over rows that lie in parts on workers: `gpukmeans.resume` for `fit`.

    The fit may have run anywhere: in memory, over a stream, or over these rows cut otherwise.

    Parameters
    ----------
    path : path
        A file that `gpukmeans.checkpoint` has written.
    parts : sequence, Dask array or data frame, or Ray dataset
        The rows of the fit, as of `fit`.
    executor : concurrent.futures.Executor, "dask" or "ray"
    sample_weight : array-like of shape (n_samples,), optional
        The weights of the fit.
    backend : {"auto", "numpy", "cupy"}, default="auto"
        Where the workers compute.

    Returns
    -------
    KMeans
        The bits that the fit would have ended in.

    Raises
    ------
    OSError, ValueError, TypeError, RuntimeError
        As `fit` and `gpukmeans.resume`.

    Examples
    --------
    >>> import os, tempfile
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> import numpy as np
    >>> import gpukmeans, gpukmeans.distributed
    >>> parts = np.split(np.random.default_rng(0).standard_normal((500, 4)), 5)
    >>> with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as executor:
    ...     path = os.path.join(folder, "run.ckpt")
    ...     with gpukmeans.checkpoint(path):
    ...         model = gpukmeans.distributed.fit(parts, 3, executor=executor, random_state=0)
    ...     again = gpukmeans.distributed.resume(path, parts, executor=executor)
    >>> again.inertia_ == model.inertia_
    True
    """
    from gpukmeans.estimators.resuming import resume

    return resume(path, parted(parts, executor), sample_weight=sample_weight, backend=backend)


def parted(parts: Any, executor: Executor | str, n_clusters: int = 1) -> PartedInput:
    """Parts as an estimator gets them."""
    weight = None
    if isinstance(parts, OpenRows):
        weight = parts.sample_weight
        parts = pieces(parts, n_clusters, *_workers(executor))
    engine, where = _engine(parts, executor)
    return PartedInput(engine, where, sample_weight=weight)


def _workers(executor: Executor | str) -> tuple[int, int]:
    """The threads and the processes that an engine has."""
    if executor == "dask":
        from gpukmeans.distributed.dask_parts import n_workers

        return n_workers()
    if executor == "ray":
        from gpukmeans.distributed.ray_parts import n_actors

        return (n_actors(),) * 2
    n = int(getattr(executor, "_max_workers", None) or 1)
    return n, 1 if isinstance(executor, ThreadPoolExecutor) else n


def _engine(parts: Any, executor: Executor | str) -> tuple[Engine, str]:
    if executor == "dask":
        from gpukmeans.distributed.dask_parts import dask_engine

        return dask_engine(parts), "Dask parts"
    if executor == "ray":
        from gpukmeans.distributed.ray_parts import RayEngine

        return RayEngine.of(parts), "Ray parts"
    if isinstance(executor, str) or not hasattr(executor, "submit"):
        raise ValueError(f"executor={executor!r} should be 'dask', 'ray' or an Executor of concurrent.futures.")
    if not isinstance(parts, Sequence) or not len(parts):
        raise ValueError("parts should be a list of arrays, or of functions that return one; at least one of them.")
    return ExecutorEngine.of(parts, executor), "parts"
