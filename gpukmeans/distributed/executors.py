"""Parts in the threads of this process, or in the processes of any executor of `concurrent.futures`.

Threads share the parts.  Processes make each part when a call first reaches them (by the caller's function, or from a
file to which rows are written once) and keep some; which process a call reaches is the executor's
choice.
"""

from __future__ import annotations

import tempfile
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from gpukmeans.distributed.engine import WorkersLost, added, in_groups
from gpukmeans.distributed.parts import Part, part_of

#: Parts that this process keeps for executors of other processes, the last used at the end.
_kept: OrderedDict[str, Part] = OrderedDict()
#: Parts of one fit that a process keeps at most, beyond its share of them.
SPARE = 2


class Held:
    """How a process gets a part: the part itself where it is shared, else the call that makes it.

    Parameters
    ----------
    make : callable
    args : tuple
        ``make(*args)`` returns the part; a `Held` among `args` stands for its part.
    most : int or None
        Parts that a process keeps; None: this process has them all, and they stay with this object.
    """

    def __init__(self, make: Callable[..., Part], args: tuple[Any, ...], most: int | None) -> None:
        self._make, self._args, self._most = make, args, most
        self._name = uuid.uuid4().hex
        self._part: Part | None = None

    def get(self, *, keep: bool = True) -> Part:
        """The part."""
        found = self._part or _kept.get(self._name)
        if found is None:
            found = self._make(*(arg.get(keep=False) if isinstance(arg, Held) else arg for arg in self._args))
        if self._most is None:
            self._part = found
        elif keep:
            _kept[self._name] = found
            _kept.move_to_end(self._name)
            while len(_kept) > self._most:
                _kept.popitem(last=False)
        return found


def _called(work: Callable[..., Any], parts: Sequence[tuple[Held, tuple[Any, ...]]], shared: tuple[Any, ...]) -> Any:
    return [work(held.get(), *own, *shared) for held, own in parts]


def _summed(work: Callable[..., Any], parts: Sequence[tuple[Held, tuple[Any, ...]]], shared: tuple[Any, ...]) -> Any:
    return added(_called(work, parts, shared))


def _written(folder: str, X: Any, number: int) -> Path:
    """A file of the rows of a part: mapped into memory where they are dense, and read where they are in CSR."""
    if isinstance(X, np.ndarray):
        np.save(path := Path(folder, f"{number}.npy"), X)
    else:
        sparse.save_npz(path := Path(folder, f"{number}.npz"), X, compressed=False)
    return path


def _mapped(path: str, number: int) -> Part:
    return part_of(np.load(path, mmap_mode="r") if path.endswith(".npy") else sparse.load_npz(path), number)


class ExecutorEngine:
    """See `gpukmeans.distributed.engine.Engine`."""

    def __init__(self, executor: Executor, held: Sequence[Held], folder: Any = None) -> None:
        self._executor, self._held, self._folder = executor, held, folder
        self.n_parts = len(held)
        self._n_workers = int(getattr(executor, "_max_workers", None) or 1)

    @classmethod
    def of(cls, blocks: Sequence[Any], executor: Executor) -> ExecutorEngine:
        """Parts that are arrays, or functions that return one."""
        if isinstance(executor, ThreadPoolExecutor):
            return cls(executor, [Held(part_of, (block, number), None) for number, block in enumerate(blocks)])
        most = -(-len(blocks) // int(getattr(executor, "_max_workers", None) or 1)) + SPARE
        folder, held = None, []
        for number, block in enumerate(blocks):
            if callable(block) and not hasattr(block, "shape"):
                held.append(Held(part_of, (block, number), most))
                continue
            folder = folder or tempfile.TemporaryDirectory(prefix="gpukmeans-")
            path = _written(folder.name, part_of(block, number).X, number)
            held.append(Held(_mapped, (str(path), number), most))
        return cls(executor, held, folder)

    def share(self, value: Any) -> Any:
        return value

    def _submit(
        self, call: Callable[..., Any], work: Callable[..., Any], shared: tuple[Any, ...], each: Any, only: Any
    ) -> list[Any]:
        """``call(work, parts, shared)`` for groups of neighbouring parts."""
        numbers = range(self.n_parts) if only is None else only
        own = [()] * len(numbers) if each is None else [(value,) for value in each]
        chosen = [(self._held[number], value) for number, value in zip(numbers, own, strict=True)]
        futures: list[Future] = []
        try:
            groups = in_groups(chosen, max(1, -(-len(chosen) // (2 * self._n_workers))))
            futures = [self._executor.submit(call, work, group, shared) for group in groups]
            return [future.result() for future in futures]
        except BrokenExecutor as error:
            raise WorkersLost(
                f"A process of {type(self._executor).__name__} has died, killed or for want of memory ({error}). Make "
                "a new executor and fit again: the same bits. Dask and Ray go on where a worker dies."
            ) from error
        finally:
            for future in futures:
                future.cancel()

    def map(
        self,
        work: Callable[..., Any],
        *shared: Any,
        each: Sequence[Any] | None = None,
        only: Sequence[int] | None = None,
    ) -> list[Any]:
        return [result for group in self._submit(_called, work, shared, each, only) for result in group]

    def total(self, work: Callable[..., Any], *shared: Any) -> Any:
        return added(self._submit(_summed, work, shared, None, None))

    def derived(self, work: Callable[..., Any], *shared: Any, each: Sequence[Any]) -> ExecutorEngine:
        held = [Held(work, (before, own, *shared), before._most) for before, own in zip(self._held, each, strict=True)]
        return ExecutorEngine(self._executor, held, self._folder)

    def rows(self, work: Callable[..., Any], *shared: Any, sizes: Sequence[int], width: int | None, dtype: Any) -> Any:
        return np.concatenate(self.map(work, *shared))
