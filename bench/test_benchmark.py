"""MNIST and digits by pytest-benchmark: ``python -m pytest bench/test_benchmark.py --benchmark-json=FILE``.

pytest-benchmark times one system after the other, so a drifting machine enters its comparison; ``python -m bench.run``
alternates and is what the README's tables come from.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from time import perf_counter
from typing import Any

import pytest

from bench.peers import systems_of
from bench.quality import judge
from bench.systems import System, Unsupported
from bench.workloads import WORKLOADS, Problem

pytest.importorskip("pytest_benchmark")

ROUNDS = 3


@lru_cache(maxsize=1)
def _problem(name: str) -> Problem:
    return WORKLOADS[name].load()


@pytest.mark.parametrize("system", systems_of("gpu"), ids=lambda system: system.name.replace(" ", "-"))
@pytest.mark.parametrize("workload", ["digits-k10", "mnist-k10"])
def test_fit(benchmark: Any, tell: Callable[[str, int, int, float], None], workload: str, system: System) -> None:
    reason = system.unavailable()
    if reason:
        pytest.skip(f"{system.name}: {reason}")
    problem = _problem(workload)
    try:
        run, outcome = system.prepare(problem)
    except Unsupported as unsupported:
        pytest.skip(f"{system.name}: {unsupported}")
    if system.device == "gpu":
        from bench.run import _synchronize

        def timed() -> Any:
            result = run()
            _synchronize()
            return result
    else:
        timed = run
    benchmark.group = workload
    turn, started = -1, 0.0

    def before_a_round() -> None:
        nonlocal turn, started
        if turn >= 0:
            tell(system.name, turn, ROUNDS, perf_counter() - started)
        turn, started = turn + 1, perf_counter()

    result = outcome(benchmark.pedantic(timed, setup=before_a_round, rounds=ROUNDS, warmup_rounds=1))
    tell(system.name, turn, ROUNDS, perf_counter() - started)
    quality = judge(problem.X, result)
    benchmark.extra_info.update(
        system=system.name, ours=system.ours, n_iter=result.n_iter, quality=quality and quality.as_dict()
    )
    if system.ours and "fast" not in system.name:
        assert quality is not None
        assert quality.wrong_labels == 0
