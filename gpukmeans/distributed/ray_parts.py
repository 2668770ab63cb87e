"""Parts on the actors of a Ray cluster.

Each actor holds neighbouring parts, which it reads from Ray's object store, and is started again where it dies; a call
tells how each of its parts is made, so that a new actor can go on with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from gpukmeans.arrays.sparse import is_sparse
from gpukmeans.distributed.engine import WorkersLost
from gpukmeans.distributed.executors import ExecutorEngine, Held
from gpukmeans.distributed.parts import Part, part_of
from gpukmeans.scale.sources import require

#: Bytes of an array that is sent with each call.
INLINE = 1 << 14
#: Times that an actor is started again, and a call is.
RESTARTS = 3
#: Seconds between looks at the cluster, and those in which actors must start.
LOOK, PATIENCE = 1.0, 60.0


def _fetched(reference: Any, number: int) -> Part:
    import ray

    return part_of(ray.get(reference), number)


class Worker:
    """An actor: it computes what it is told."""

    def ready(self) -> None:
        """Nothing."""

    def run(self, call: Callable[..., Any], work: Callable[..., Any], parts: Sequence[Any], *shared: Any) -> Any:
        """``call(work, parts, shared)``."""
        return call(work, parts, shared)


class RayEngine(ExecutorEngine):
    """See `gpukmeans.distributed.engine.Engine`."""

    def __init__(self, actors: Sequence[Any], held: Sequence[Held]) -> None:
        self._actors, self._held, self.n_parts = actors, held, len(held)

    @classmethod
    def of(cls, parts: Any) -> RayEngine:  # type: ignore[override]
        """Parts that are a Ray dataset, or a list of object references, arrays and functions."""
        ray: Any = require("ray", "ray", "Ray parts")
        n_free = n_actors()
        blocks = list(parts) if isinstance(parts, list | tuple) else _references(parts)
        if not blocks:
            raise ValueError("parts should be a Ray dataset, or a list of object references; at least one part.")
        held = []
        for number, block in enumerate(blocks):
            if callable(block) and not hasattr(block, "shape"):
                held.append(Held(part_of, (block, number), len(blocks)))
                continue
            if not isinstance(block, ray.ObjectRef):
                block = ray.put(block if is_sparse(block) else np.asarray(block))
            held.append(Held(_fetched, (block, number), len(blocks)))
        n_wanted = min(len(held), n_free)
        actor = ray.remote(Worker).options(
            num_cpus=1, max_restarts=RESTARTS, max_task_retries=RESTARTS, scheduling_strategy="SPREAD"
        )
        actors = [actor.remote() for _ in range(n_wanted)]
        ready = [one.ready.remote() for one in actors]
        started, waiting = ray.wait(ready, num_returns=len(ready), timeout=PATIENCE)
        if not started:
            raise WorkersLost(f"Ray started no worker within {PATIENCE:.0f} s: it has no free CPU, or no nodes.")
        return cls([one for one, answer in zip(actors, ready, strict=True) if answer not in waiting], held)

    def share(self, value: Any) -> Any:
        import ray

        return ray.put(value) if isinstance(value, np.ndarray) and value.nbytes > INLINE else value

    def _submit(
        self, call: Callable[..., Any], work: Callable[..., Any], shared: tuple[Any, ...], each: Any, only: Any
    ) -> list[Any]:
        import ray

        numbers = list(range(self.n_parts)) if only is None else list(only)
        own = [()] * len(numbers) if each is None else [(value,) for value in each]
        chosen = list(zip(numbers, own, strict=True))
        calls = [
            self._actors[place].run.remote(call, work, [(self._held[number], value) for number, value in some], *shared)
            for place, some in groupby(chosen, lambda one: one[0] * len(self._actors) // self.n_parts)
        ]
        try:
            while ray.wait(calls, num_returns=len(calls), timeout=LOOK)[1]:
                if not ray.is_initialized():
                    raise WorkersLost("Ray was shut down in this process during the fit.")
                time.sleep(0)
            return ray.get(calls)
        except ray.exceptions.RayTaskError as error:
            cause = getattr(error, "cause", None) or error
            raise (cause if not isinstance(cause, ray.exceptions.RayError) else self._lost(cause)) from error
        except ray.exceptions.RayError as error:
            raise self._lost(error) from error
        except KeyboardInterrupt:
            for one in calls:
                ray.cancel(one)
            raise

    def _lost(self, error: Exception) -> WorkersLost:
        return WorkersLost(
            f"Ray lost workers or rows and could not make them again ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else ''}). Fit again when the cluster is whole: the same bits."
        )

    def derived(self, work: Callable[..., Any], *shared: Any, each: Sequence[Any]) -> RayEngine:
        held = [Held(work, (before, own, *shared), self.n_parts) for before, own in zip(self._held, each, strict=True)]
        return RayEngine(self._actors, held)


def n_actors() -> int:
    """CPUs of the cluster that are free."""
    ray: Any = require("ray", "ray", "Ray parts")
    if not ray.is_initialized():
        raise WorkersLost("Ray is not running in this process: call ray.init() or ray.init(address=...) first.")
    return max(1, int(ray.available_resources().get("CPU", 1)))


def _references(dataset: Any) -> list[Any]:
    """References to the blocks of a Ray dataset: of its only column if this holds arrays, else of its table."""
    if not hasattr(dataset, "to_pandas_refs"):
        raise TypeError(f"parts is a {type(dataset).__name__}; it should be a Ray dataset or a list.")
    columns = dataset.columns()
    if len(columns) == 1:
        return dataset.to_numpy_refs(column=columns[0])
    return dataset.to_pandas_refs()
