"""Parts on the workers of a Dask cluster, or in this process where there is no client.

A step is one task for each thread of each worker, over the parts that lie there; sums are added up as a tree.  Tasks
are held to the workers of their parts, so that no part moves.  Where a worker is lost Dask makes its parts again
elsewhere, and the step is taken again.

Of Dask's own reductions none is used: X.T @ X, norms and averages of uint8 wrap, sums of float16 and float32 depend on
the chunks.
"""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from itertools import chain
from typing import Any
from weakref import WeakSet

import numpy as np

from gpukmeans.distributed.engine import Engine, WorkersLost, added, in_groups
from gpukmeans.distributed.executors import ExecutorEngine
from gpukmeans.distributed.parts import part_of
from gpukmeans.distributed.rows_given import PartedInput
from gpukmeans.scale.sources import require

#: Sums that a task adds up.
FAN_IN = 8
#: Bytes of an array that is sent with each task.
INLINE = 1 << 14
#: Seconds between looks at the workers, and those after which no worker or no scheduler is an error.
LOOK, PATIENCE = 1.0, 60.0
#: Times that a step is taken, in all.
TRIES = 20
#: Clients whose workers have been asked for the package.
_asked: WeakSet[Any] = WeakSet()


def given_by_dask(X: Any) -> Any:
    """A Dask array or data frame as the intake reads it; anything else of Dask as it is."""
    if hasattr(X, "to_dask_array"):
        return PartedInput(dask_engine(X), "the Dask data frame", getattr(X, "_meta", None))
    return PartedInput(dask_engine(X), "the Dask array") if hasattr(X, "numblocks") else X


def dask_engine(parts: Any) -> Engine:
    """The engine for a Dask array, a data frame, or a list of futures, delayed objects, arrays and functions."""
    require("dask", "dask", "Dask parts")
    import dask

    client = _client()
    blocks = _blocks(parts, client)
    if not blocks:
        raise ValueError("parts should be a Dask array, a data frame, or a list of at least one part.")
    if client is None:
        return LocalEngine.of(dask.compute(*blocks), ThreadPoolExecutor(1))
    _ask_for_package(client)
    blocks = [client.compute(block) if dask.is_dask_collection(block) else block for block in blocks]
    name = uuid.uuid4().hex[:12]
    futures = [
        client.submit(part_of, block, number, key=f"gpukmeans-part-{name}-{number}")
        for number, block in enumerate(blocks)
    ]
    return DaskEngine(client, futures)


def n_workers() -> tuple[int, int]:
    """The threads of the current client's workers, and the workers; of this process where there is no client.

    Raises
    ------
    WorkersLost
        There is none.
    """
    client = _client()
    if client is None:
        return 1, 1
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError:
        raise WorkersLost(f"{client.scheduler.address} has no workers: start some, and fit again.") from None
    threads = client.nthreads()
    return sum(threads.values()), len(threads)


def _client() -> Any:
    """The current client, None where there is none."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        return distributed.default_client()
    except ValueError:
        return None


def _blocks(parts: Any, client: Any) -> list[Any]:
    """Parts of whole rows, which are computed once where there is a client."""
    if isinstance(parts, list | tuple):
        return list(parts)
    array = parts.to_dask_array() if hasattr(parts, "to_dask_array") else parts
    if not hasattr(array, "numblocks"):
        raise TypeError(f"parts is a {type(parts).__name__}; it should be a Dask array, a data frame or a list.")
    if array.ndim != 2:
        raise ValueError(f"X is a Dask array of shape {array.shape}; rows need two dimensions: X.reshape(n, -1).")
    if array.numblocks[1] > 1:
        array = array.rechunk({1: -1})
    if client is None:
        return list(array.to_delayed().ravel())
    kept = client.persist(array)
    futures = {str(future.key): future for future in sys.modules["distributed"].futures_of(kept)}
    return [futures[str(key)] for key in chain(*kept.__dask_keys__())]


def _ask_for_package(client: Any) -> None:
    """Raise unless all workers have this version."""
    import gpukmeans

    if client in _asked:
        return
    answers = client.run(eval, "__import__('gpukmeans').__version__", on_error="return")
    wrong = {worker: found for worker, found in answers.items() if found != gpukmeans.__version__}
    if wrong:
        worker, found = next(iter(wrong.items()))
        what = f"have gpukmeans {found}" if isinstance(found, str) else f"cannot import gpukmeans ({found})"
        raise WorkersLost(
            f"{len(wrong)} of {len(answers)} Dask workers {what}, {worker} among them: install "
            f"gpukmeans=={gpukmeans.__version__} on all."
        )
    _asked.add(client)


def _same(value: Any) -> Any:
    return value


def _called(work: Callable[..., Any], parts: list[Any], own: list[Any], shared: list[Any]) -> list[Any]:
    return [work(part, *some, *shared) for part, some in zip(parts, own, strict=True)]


def _summed(work: Callable[..., Any], parts: list[Any], own: list[Any], shared: list[Any]) -> Any:
    return added(_called(work, parts, own, shared))


class _TakeAgain(Exception):
    """A worker that a step was held to is gone, or a step was cancelled."""


class DaskEngine:
    """See `gpukmeans.distributed.engine.Engine`.

    Parameters
    ----------
    client : distributed.Client
    parts : list of Future
    """

    def __init__(self, client: Any, parts: list[Any]) -> None:
        self._client, self._parts = client, parts
        self.n_parts = len(parts)
        self._owners: list[str | None] | None = None
        self._threads: dict[str, int] = {}

    def share(self, value: Any) -> Any:
        # A task, and no scattered value: what a lost worker had is made again from the scheduler's copy.
        small = not isinstance(value, np.ndarray) or value.nbytes <= INLINE
        return value if small else self._submit(_same, value)

    def _submit(self, work: Callable[..., Any], *args: Any, owner: str | None = None, held: bool = True) -> Any:
        return self._client.submit(
            work, *args, key=f"gpukmeans-{work.__name__.strip('_')}-{uuid.uuid4().hex}",
            workers=None if owner is None else [owner], allow_other_workers=owner is not None and not held,
        )  # fmt: skip

    # ---- where parts lie ---------------------------------------------------------------------------------------------

    def _places(self) -> list[str | None]:
        """The worker of each part, None where it is not known."""
        if self._owners is None:
            self._wait(self._parts)
            self._threads = self._client.nthreads()
            where = {str(key): [w for w in found if w in self._threads] for key, found in self._who_has().items()}
            self._owners = [next(iter(where.get(str(part.key), [])), None) for part in self._parts]
        return self._owners

    def _who_has(self) -> dict[Any, Any]:
        return self._client.who_has(self._parts)

    def _tasks(self, call: Callable[..., Any], work: Any, shared: Any, numbers: Sequence[int], own: list[Any]) -> Any:
        """Futures of ``call`` over groups of parts, and the parts' numbers in their order."""
        owners, groups = self._places(), dict[str | None, list[int]]()
        for place, number in enumerate(numbers):
            groups.setdefault(owners[number], []).append(place)
        futures, order = [], list[int]()
        for owner, places in groups.items():
            n_tasks = len(places) if owner is None else self._threads[owner]
            for some in in_groups(places, max(1, -(-len(places) // n_tasks))):
                parts = [self._parts[numbers[place]] for place in some]
                futures.append(
                    self._submit(call, work, parts, [own[place] for place in some], list(shared), owner=owner)
                )
                order += some
        return futures, order

    # ---- waiting -----------------------------------------------------------------------------------------------------

    def _finished(self, begin: Callable[[], tuple[Any, list[Any], Any]]) -> tuple[Any, Any]:
        """The result of the first of what ``begin()`` returns, with the last; begun anew where a worker is lost."""
        for _ in range(TRIES):
            pending: list[Any] = []
            try:
                future, pending, more = begin()
                owners = [owner for owner in self._owners or [] if owner]
                return self._watched(self._fetching(future), owners), more
            except _TakeAgain:
                self._owners = None
                self._client.cancel([future, *pending])
            except BaseException as error:
                lost = any(part.status == "cancelled" for part in self._parts)
                if isinstance(error, CancelledError) and self._running() and not lost:
                    self._owners = None  # the step alone was cancelled
                    continue
                self._client.cancel([f for f in pending if f.status == "pending"]) if self._running() else None
                explained = self._explained(error)
                if explained is error:
                    raise
                raise explained from error
        raise WorkersLost(f"Workers of {self._address()} were lost in {TRIES} tries of one step running.")

    def _wait(self, futures: list[Any]) -> list[Any]:
        """Futures that have ended; raises what the first failed one raised."""
        wait = sys.modules["distributed"].wait
        self._watched(lambda: wait(futures, timeout=LOOK), ())
        for future in futures:
            if future.status != "finished":
                self._watched(self._fetching(future), ())
        return futures

    def _fetching(self, future: Any) -> Callable[[], Any]:
        """A function that returns the result, or raises TimeoutError where it is not here within `LOOK` seconds.

        The transfer goes on meanwhile.  ``future.result(timeout)`` would cancel it, and a client whose transfer is
        cancelled as it begins can fetch nothing any more: it waits for the cancelled one each time.
        """
        loop = self._client.loop.asyncio_loop
        coming = asyncio.run_coroutine_threadsafe(self._client.gather(future, asynchronous=True), loop)
        return lambda: coming.result(timeout=LOOK)

    def _watched(self, ask: Callable[[], Any], owners: Sequence[str]) -> Any:
        """What ``ask()`` returns, called until it raises no TimeoutError; raises where waiting is in vain."""
        idle_since = time.monotonic()
        while True:
            try:
                return ask()
            except TimeoutError:
                if not self._running():
                    problem = f"the scheduler {self._address()} does not answer"
                else:
                    workers = self._client.nthreads()
                    if not set(owners) <= set(workers):
                        raise _TakeAgain from None
                    if workers:
                        idle_since = time.monotonic()
                        continue
                    problem = f"{self._address()} has no workers"
                if self._client.status in ("closed", "closing") or time.monotonic() - idle_since > PATIENCE:
                    raise WorkersLost(f"The fit cannot go on: {problem}. Start them again, and fit again.") from None

    def _running(self) -> bool:
        return self._client.status == "running"

    def _address(self) -> str:
        return getattr(self._client.scheduler, "address", "the cluster")

    def _explained(self, error: BaseException) -> BaseException:
        """What a user can do about an error of Dask; others as they are."""
        if isinstance(error, CancelledError):
            if not self._running():
                return WorkersLost(
                    f"The fit cannot go on: the scheduler {self._address()} is gone. Start it again, and fit again."
                )
            return WorkersLost(
                "Rows were lost with their worker, and Dask does not know how to make them again: they were scattered, "
                "or their futures cancelled. Give parts that Dask computes, such as an array read from files."
            )
        if type(error).__name__ == "KilledWorker":
            return WorkersLost(
                f"Workers died one after the other over the same part, for want of memory most likely: {error} Make "
                "chunks smaller, or give workers more memory."
            )
        if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith("gpukmeans"):
            return WorkersLost(f"A Dask worker cannot import gpukmeans ({error}): install it on all workers.")
        return error

    # ---- the verbs ---------------------------------------------------------------------------------------------------

    def map(
        self,
        work: Callable[..., Any],
        *shared: Any,
        each: Sequence[Any] | None = None,
        only: Sequence[int] | None = None,
    ) -> list[Any]:
        numbers = list(range(self.n_parts)) if only is None else list(only)
        own: list[Any] = [() for _ in numbers] if each is None else [(value,) for value in each]

        def begin() -> tuple[Any, list[Any], Any]:
            futures, order = self._tasks(_called, work, shared, numbers, own)
            return self._submit(_same, futures), futures, order

        found, order = self._finished(begin)
        results: list[Any] = [None] * len(numbers)
        for place, result in zip(order, chain(*found), strict=True):
            results[place] = result
        return results

    def total(self, work: Callable[..., Any], *shared: Any) -> Any:
        def begin() -> tuple[Any, list[Any], Any]:
            level, _ = self._tasks(_summed, work, shared, range(self.n_parts), [()] * self.n_parts)
            futures = list(level)
            while len(level) > 1:
                level = [self._submit(added, group) for group in in_groups(level, FAN_IN)]
                futures += level
            return level[0], futures, None

        return self._finished(begin)[0]

    def derived(self, work: Callable[..., Any], *shared: Any, each: Sequence[Any]) -> DaskEngine:
        return DaskEngine(self._client, self._results(work, each, shared))

    def _results(self, work: Callable[..., Any], each: Sequence[Any] | None, shared: Sequence[Any]) -> list[Any]:
        """A future for each part, beside it."""
        own: Sequence[Any] = [()] * self.n_parts if each is None else [(value,) for value in each]
        return [
            self._submit(work, part, *some, *shared, owner=owner, held=False)
            for part, some, owner in zip(self._parts, own, self._places(), strict=True)
        ]

    def rows(self, work: Callable[..., Any], *shared: Any, sizes: Sequence[int], width: int | None, dtype: Any) -> Any:
        import dask.array as da

        futures = self._wait(self._results(work, None, shared))
        shapes = [(size,) if width is None else (size, width) for size in sizes]
        return da.concatenate(
            [da.from_delayed(future, shape, dtype) for future, shape in zip(futures, shapes, strict=True)]
        )


class LocalEngine(ExecutorEngine):
    """Blocks that Dask has computed in this process, without a client."""

    def rows(self, work: Callable[..., Any], *shared: Any, sizes: Sequence[int], width: int | None, dtype: Any) -> Any:
        import dask.array as da

        found = super().rows(work, *shared, sizes=sizes, width=width, dtype=dtype)
        return da.from_array(found, chunks=(tuple(sizes), *found.shape[1:]))

    def derived(self, work: Callable[..., Any], *shared: Any, each: Sequence[Any]) -> LocalEngine:
        found = super().derived(work, *shared, each=each)
        return LocalEngine(found._executor, found._held)
