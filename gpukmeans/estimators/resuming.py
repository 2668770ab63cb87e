"""`resume`: fits that go on from a checkpoint; and what an estimator tells a checkpoint of itself."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike
from sklearn.utils import check_random_state

from gpukmeans.backends.protocol import Backend
from gpukmeans.estimators.saved import CLASSES, NOT_HELD, storable
from gpukmeans.intake.given import Given
from gpukmeans.intake.streams import Stream
from gpukmeans.scale.archives import plain_state
from gpukmeans.scale.checkpoints import Checkpoint, rows_known_by, wrong_state

if TYPE_CHECKING:
    from gpukmeans.estimators.base import BaseKMeans


def begin(kept: Checkpoint, model: BaseKMeans, given: Given) -> None:
    """A fit of `model` begins that keeps a checkpoint.

    Raises
    ------
    RuntimeError, ValueError
        As `gpukmeans.checkpoint` does.
    """
    name = type(model).__name__
    if type(model).__module__ != CLASSES.get(name):
        raise RuntimeError(
            f"{type(model).__qualname__} is none of the classes that a checkpoint can name, {', '.join(CLASSES)}."
        )
    parameters = model.get_params(deep=False)
    if callable(model.init):
        raise ValueError("init is a callable, which a checkpoint does not hold: call it, and pass the centers as init.")
    if plain_state(check_random_state(model.random_state)) is None:
        raise ValueError("random_state draws by another generator than MT19937, which a checkpoint does not hold.")
    plain = {key: storable(value, init=key == "init") for key, value in parameters.items()}
    plain = {key: value for key, value in plain.items() if value is not NOT_HELD}
    X: Any = given.X if isinstance(given.X, Stream) else given.host_rows()
    sparse = X.opened.form()[2] if isinstance(X, Stream) else given.form == "csr"
    kept.begin(name, plain, rows_known_by(X, "sparse" if sparse else "dense", given.sample_weight))


def resume(
    path: str | os.PathLike[str],
    X: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    backend: str | Backend = "auto",
) -> Any:
    """Go on with a fit from its checkpoint, to the bits that it would have ended in.

    The fit goes on to keep the checkpoint.  Labels, centers, inertia, n_iter, the best of the restarts and all random
    draws are those of the fit that was never interrupted, whatever the backend.

    Parameters
    ----------
    path : path
        A file that `gpukmeans.checkpoint` has written.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        The rows of the fit, in the same order and dtype; in memory, on a device or opened by `gpukmeans.open_rows`,
        wherever they were before.  Dense rows stay dense, and CSR stays CSR.
    sample_weight : array-like of shape (n_samples,), default=None
        The weights of the fit.
    backend : {"auto", "numpy", "cupy"} or Backend, default="auto"
        Where to compute.

    Returns
    -------
    KMeans, MiniBatchKMeans, BisectingKMeans or SphericalKMeans
        Fitted.  Its parameters are those of the fit, without what a file does not hold: `callback`, `progress`, and a
        `random_state` that is no number.  Of a fit that had ended: the same, after a pass over the rows.

    Raises
    ------
    OSError
        The file cannot be read or written.
    ValueError
        It is cut short, altered, no checkpoint, or of a later version, or it is of other rows or weights.
    RuntimeError
        Within `gpukmeans.checkpoint`.

    See Also
    --------
    gpukmeans.checkpoint : writes the file, and has an example.

    Notes
    -----
    With ``precision="fast"`` labels depend on rounding, and so may what follows.  Nothing in the file is executed.
    """
    return go_on(Checkpoint.read(Path(path).absolute()), X, sample_weight, backend)


def go_on(
    kept: Checkpoint,
    X: Any,
    sample_weight: ArrayLike | None = None,
    backend: str | Backend = "auto",
    progress: Callable[..., object] | None = None,
) -> Any:
    """`resume` of a file that has been read."""
    try:
        name = kept.head["class"]
        make = getattr(importlib.import_module(CLASSES[name]), name)
        model = make(**kept.head["parameters"] | {"backend": backend} | ({"progress": progress} if progress else {}))
    except (KeyError, TypeError) as error:
        raise wrong_state(kept.path, error) from None
    with kept.keeping():
        return model.fit(X, sample_weight=sample_weight)
