"""Checkpoints: a file from which a fit goes on, in another process, to the bits that it would have ended in.

A file holds the parameters, what recognises the rows, and where the fit stands between two iterations: two sets of
centers, the best restart so far, the state of the random draws, the counts of the report.  It holds no label: labels
are the true nearest of the centers before the last move, and sums are exact, so that one assignment brings both back.

An estimator calls `Checkpoint.begin`; the engine asks `active`, and tells it where it stands.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np

from gpukmeans.arrays.types import F64
from gpukmeans.callers import warn_caller
from gpukmeans.scale.archives import Format, apart, read_archive, together, write_archive
from gpukmeans.scale.files import path_error, shown, unreadable
from gpukmeans.threads import parts_of, workers
from gpukmeans.writing import remove_parts, tidied

FORMAT = Format("gpukmeans checkpoint", 1, "gpukmeans_checkpoint", "`gpukmeans.checkpoint`")
#: Bytes of rows that have a checksum of their own, about, and how many of these are read at a time.
HASHED, READ = 1 << 16, 64

#: What a fit tells of itself, by name: JSON, arrays, or a dict of these.
State = dict[str, Any]

_active: ContextVar[Checkpoint | None] = ContextVar("gpukmeans_checkpoint", default=None)


def active() -> Checkpoint | None:
    """The checkpoint that fits of this thread keep, if any."""
    return _active.get()


def refuse(what: str) -> None:
    """Raise if there is a checkpoint: `what` keeps none."""
    if active() is not None:
        raise RuntimeError(
            f"{what} keeps no checkpoint: it would not be there when it is needed. Call it outside of "
            "gpukmeans.checkpoint; KMeans, SphericalKMeans, MiniBatchKMeans and BisectingKMeans keep one in `fit`."
        )


class Checkpoint:
    """The checkpoint of one fit.

    Parameters
    ----------
    path : Path
    every : int
        Iterations between two writes.
    note : dict, optional
        JSON that the file holds for its reader.

    Attributes
    ----------
    resumed : dict or None
        Where the fit stands that is to go on.
    head : dict
        What `begin` was told: class, parameters, rows.
    """

    def __init__(self, path: Path, every: int, note: dict[str, Any] | None = None) -> None:
        self.path, self.every, self.note = path, every, note
        self.resumed: State | None = None
        self.head: dict[str, Any] = {}
        self._begun = self._on_file = False
        self._since = 0
        self._pending: Callable[[], State] | None = None

    # ---- files -------------------------------------------------------------------------------------------------------

    @classmethod
    def read(cls, path: Path) -> Checkpoint:
        """One to go on from.  Raises as `gpukmeans.resume` does."""
        head, arrays = read_archive(path, FORMAT)
        try:
            values = together(head["values"], arrays)
            found = cls(path, head["every"], head["note"])
            found.head = {name: head[name] for name in ("class", "rows", "finished")}
            found.head["parameters"], found.resumed = values.pop("parameters"), values
            if type(found.every) is not int or found.every < 1:
                raise ValueError("every")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise wrong_state(path, error) from None
        found._on_file = True
        return found

    def refuse_to_replace(self) -> None:
        """Raise unless the path is free, or has the checkpoint of a fit that has ended."""
        path = self.path
        if not path.parent.is_dir():
            raise FileNotFoundError(f"{shown(path)}: its folder does not exist; make it first")
        if not (path.exists() or path.is_symlink()):
            return
        try:
            found = Checkpoint.read(path)
        except ValueError:
            raise FileExistsError(f"{shown(path)} is there and no checkpoint; give another path") from None
        if not found.head["finished"]:
            raise FileExistsError(
                f"{shown(path)} is the checkpoint of a fit that has not ended: go on with gpukmeans.resume, or delete "
                "it to begin anew"
            )

    def _write(self, *, finished: bool = False) -> None:
        assert self._pending is not None
        rest, arrays = apart({"parameters": self.head["parameters"], **self._pending()})
        arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        head = {"class": self.head["class"], "rows": self.head["rows"], "finished": finished}
        self._pending, self._since = None, 0
        try:
            write_archive(self.path, FORMAT, head | {"every": self.every, "note": self.note, "values": rest}, arrays)
        except OSError as error:
            if not self._on_file:
                raise path_error(self.path, error) from None
            warn_caller(
                f"{shown(self.path)} could not be written ({error.strerror or error}): the fit goes on, and the "
                "checkpoint before is still there.",
                RuntimeWarning,
            )
        self._on_file = True

    # ---- for the estimators ------------------------------------------------------------------------------------------

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """A context in which a fit keeps this checkpoint; it is written once more if the body raises."""
        if active() is not None:
            raise RuntimeError("A checkpoint within another one: a fit keeps one.")
        remove_parts(self.path)
        token = _active.set(self)
        with tidied():
            try:
                yield
            except BaseException:  # Ctrl-C included
                if self._pending is not None:
                    self._write()
                raise
            finally:
                _active.reset(token)
        if not self._begun:
            warn_caller(f"No fit of gpukmeans ran in this thread while {shown(self.path)} was to be kept.", UserWarning)

    def begin(self, name: str, parameters: dict[str, Any], rows: dict[str, Any]) -> None:
        """A fit begins: its class, its parameters as a file holds them, and what recognises its rows.

        Raises
        ------
        RuntimeError
            It is the second one.
        ValueError
            The rows are not those of the file.
        """
        if self._begun:
            raise RuntimeError(
                f"A second fit while {shown(self.path)} is kept, which is the checkpoint of one: give each fit its own."
            )
        self._begun = True
        if self.resumed is not None and rows != self.head["rows"]:
            raise ValueError(f"{shown(self.path)} {_difference(self.head['rows'], rows)}")
        self.head |= {"class": name, "parameters": parameters, "rows": rows}

    @property
    def ended(self) -> bool:
        """Whether the fit that is to go on had ended."""
        return self.resumed is not None and bool(self.head["finished"])

    # ---- for the engine ----------------------------------------------------------------------------------------------

    @property
    def due_in(self) -> int:
        """Iterations until the file is written again, at least 1."""
        return max(1, self.every - self._since)

    def first(self, state: Callable[[], State]) -> None:
        """Write the file now: the fit has its start."""
        self._pending = state
        self._write()

    def after(self, n_iterations: int, state: Callable[[], State]) -> None:
        """So many iterations later the fit stands here; `state` is called when the file is written, or never."""
        self._since += n_iterations
        self._pending = state
        if self._since >= self.every:
            self._write()

    def end(self, state: Callable[[], State]) -> None:
        """The fit has ended."""
        self._pending = state
        self._write(finished=True)


def wrong_state(path: Path, error: Exception) -> ValueError:
    """The error of a file whose values no fit has."""
    return unreadable(shown(path), f"not as {FORMAT.writer} writes it ({error}); the file was altered")


def _difference(kept: dict[str, Any], given: dict[str, Any]) -> str:
    """The end of the sentence that refuses other rows than those of the file."""
    told = [
        f"{rows['n_samples']:,} {rows['form']} rows of {rows['n_features']:,} features, {rows['dtype']}, "
        f"{'with' if rows['sample_weight'] else 'without'} weights"
        for rows in (kept, given)
    ]
    if told[0] != told[1]:
        return f"is of {told[0]}, and given were {told[1]}; a fit goes on over its own rows only"
    what = "rows" if kept["X"] != given["X"] else "weights"
    return f"is of other {what} than those given: their checksums differ; a fit goes on over its own {what} only"


# ---- rows ------------------------------------------------------------------------------------------------------------


def rows_known_by(X: Any, form: str, sample_weight: F64 | None) -> dict[str, Any]:
    """What recognises rows: their number, how they are stored, and SHA-256 of all values and of all weights.

    Parameters
    ----------
    X : ndarray, CSR or Stream of shape (n_samples, n_features)
    form : {"dense", "sparse"}
    sample_weight : ndarray of shape (n_samples,), float64, or None
    """
    n, d = X.shape
    step = max(1, HASHED // max(1, d * X.dtype.itemsize))
    if hasattr(X, "digests"):
        found = X.digests(step)
    else:
        with workers(n * d) as pool:
            found = pool.map(lambda part: digests_of(X[part], step), parts_of(n, READ * step))
    weights = None if sample_weight is None else hashlib.sha256(np.ascontiguousarray(sample_weight).data).hexdigest()
    return {
        "n_samples": n,
        "n_features": d,
        "form": form,
        "dtype": X.dtype.name,
        "X": hashlib.sha256(b"".join(found)).hexdigest(),
        "sample_weight": weights,
    }


def digests_of(rows: Any, step: int) -> bytes:
    """SHA-256 of each `step` rows, one behind the other."""
    return b"".join(_digest(rows[part]) for part in parts_of(rows.shape[0], step))


def _digest(rows: Any) -> bytes:
    found = hashlib.sha256()
    dense = isinstance(rows, np.ndarray)
    for array in [rows] if dense else [np.diff(rows.indptr).astype(np.int64), rows.indices.astype(np.int64), rows.data]:
        found.update(np.ascontiguousarray(array).view(np.uint8).data)
    return found.digest()


@contextmanager
def checkpoint(path: str | os.PathLike[str], *, every: int = 10) -> Iterator[None]:
    """Keep a checkpoint of the fit that runs inside: a file from which `gpukmeans.resume` goes on to the same bits.

    It is written as soon as the centers to start from are drawn, then after every `every` iterations, and where the fit
    is interrupted (Ctrl-C) or raises.  A new file takes the place of the last one once it is complete, so that a
    process that is killed, at any time, loses at most the last iterations.  A full disk later on is a warning: the fit
    goes on, and the last file stays.

    Parameters
    ----------
    path : path
        Free, or the checkpoint of a fit that has ended.  About twice the size of the centers; the rows are not in it.
    every : int, default=10
        Iterations; of `MiniBatchKMeans` batches (give it some hundreds), of `BisectingKMeans` splits.

    Raises
    ------
    OSError
        The file cannot be written, or FileExistsError: it is another file, or the checkpoint of a fit that has not
        ended.
    RuntimeError
        A second fit runs inside, or one that keeps no checkpoint: `fit_many`, `partial_fit`, a class derived from ours.
    ValueError
        `every` is no whole number, at least 1, or `init` is a callable, which a file does not hold.

    See Also
    --------
    gpukmeans.resume : goes on from it.

    Notes
    -----
    Rows are recognised by SHA-256 of all their values as read (uint8, float32 or float64; of CSR the stored entries),
    their order, their shape and their weights: one pass over the rows when the fit begins.  No other result or
    attribute depends on a checkpoint.  Restarts run one after another.

    Only fits of the thread that entered the context are kept.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import gpukmeans
    >>> X = np.random.default_rng(0).standard_normal((500, 4))
    >>> class Killed(Exception): ...
    >>> def kill(iteration, inertia, shift, n_moved):
    ...     if iteration == 5:
    ...         raise Killed
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "run.ckpt")
    ...     try:
    ...         with gpukmeans.checkpoint(path, every=2):
    ...             gpukmeans.KMeans(3, random_state=0, callback=kill).fit(X)
    ...     except Killed:
    ...         model = gpukmeans.resume(path, X)
    >>> whole = gpukmeans.KMeans(3, random_state=0).fit(X)
    >>> model.inertia_ == whole.inertia_, model.n_iter_ == whole.n_iter_
    (True, True)
    """
    with new_checkpoint(path, every):
        yield


@contextmanager
def new_checkpoint(path: str | os.PathLike[str], every: int, note: dict[str, Any] | None = None) -> Iterator[None]:
    """`checkpoint`, with a note for the reader of the file."""
    if isinstance(every, bool) or not isinstance(every, int | np.integer) or every < 1:
        raise ValueError(f"every={every!r} should be a whole number of iterations, at least 1.")
    kept = Checkpoint(Path(path).absolute(), int(every), note)
    kept.refuse_to_replace()
    with kept.keeping():
        yield
