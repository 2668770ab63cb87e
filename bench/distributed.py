"""Fits on a local Dask cluster whose workers are killed at random moments.

``python -m bench.distributed --out FILE [--fits N] [--seed S]``

The file is written after each fit, and fits that it holds are not repeated: a run may be cut, and gone on with.

Each fit has its own number of chunks and way to start, and at least one of its worker processes dies by SIGKILL after a
random share of the time that an undisturbed fit takes.  It must end in the bits of the fit in memory or with
`gpukmeans.distributed.WorkersLost`, within 10 times the undisturbed time plus 60 s.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import run_info
from bench.results import write_json
from gpukmeans import KMeans
from gpukmeans.distributed import WorkersLost

TIMES, ROOM = 10.0, 60.0
STARTS = ("k-means++", "k-means||", "random")


def rows(rng: np.random.Generator, n: int = 20_000, d: int = 16) -> np.ndarray:
    """Blobs that lie so close that a fit takes some twenty iterations."""
    return (rng.integers(0, 12, (n, 1)) * 1.5 + rng.standard_normal((n, d))).astype(np.float32)


def same(model: KMeans, want: KMeans) -> bool:
    """Whether two models have the same bits."""
    return (
        np.array_equal(np.asarray(model.labels_), want.labels_)
        and np.array_equal(model.cluster_centers_, want.cluster_centers_)
        and (model.inertia_, model.n_iter_) == (want.inertia_, want.n_iter_)
    )


def _two_workers(cluster: Any, client: Any) -> None:
    """Wait for two workers; Dask's nannies give up a process that is killed while it starts."""
    for _ in range(60):
        if len(client.nthreads()) >= 2:
            return
        time.sleep(0.5)
    cluster.scale(len(cluster.worker_spec) + 2 - len(client.nthreads()))
    client.wait_for_workers(2, timeout=120)


def one_fit(cluster: Any, client: Any, seed: int) -> dict[str, Any]:
    """An undisturbed fit, and one with kills."""
    import dask.array as da

    rng = np.random.default_rng(seed)
    X, init, n_kills = rows(rng), STARTS[seed % 3], int(rng.integers(1, 3))
    params = {"init": init, "n_init": 1, "random_state": seed, "backend": "numpy"}
    want = KMeans(12, **params).fit(X)
    array = da.from_array(X, chunks=(int(rng.integers(1500, 9000)), X.shape[1]))
    _two_workers(cluster, client)
    started = time.perf_counter()
    undisturbed = KMeans(12, **params).fit(array)
    alone = time.perf_counter() - started

    def kill() -> None:
        found = list(client.run(os.getpid, on_error="ignore").values())
        if found:
            os.kill(found[int(rng.integers(len(found)))], signal.SIGKILL)

    moments = sorted((rng.uniform(0.0, 1.0, n_kills) * alone).tolist())
    timers = [threading.Timer(moment, kill) for moment in moments]
    started = time.perf_counter()
    for timer in timers:
        timer.start()
    try:
        outcome = "the same bits" if same(KMeans(12, **params).fit(array), want) else "other bits"
    except WorkersLost as error:
        outcome = f"WorkersLost: {error}"
    seconds = time.perf_counter() - started
    for timer in timers:
        timer.join()
    return {
        "seed": seed, "init": init, "chunks": array.numblocks[0], "kills_at": moments, "undisturbed_s": alone,
        "undisturbed_same": same(undisturbed, want), "seconds": seconds, "outcome": outcome,
    }  # fmt: skip


def wrong(fit: dict[str, Any]) -> bool:
    """Whether a fit broke its promise."""
    late = fit["seconds"] > TIMES * fit["undisturbed_s"] + ROOM
    return late or not fit["undisturbed_same"] or fit["outcome"] == "other bits"


def main(arguments: list[str] | None = None) -> int:
    """Run the fits; 1 if one broke its promise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--fits", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    import distributed

    fits: list[dict[str, Any]] = json.loads(options.out.read_text())["fits"] if options.out.exists() else []
    if fits != [fit for number, fit in enumerate(fits) if fit["seed"] == options.seed + number]:
        parser.error(f"{options.out} holds fits of other seeds than from {options.seed} on; give another file")
    document = {**run_info("distributed", arguments), "dask": distributed.__version__, "fits": fits}
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        for number in range(len(fits), options.fits):
            fits.append(one_fit(cluster, client, options.seed + number))
            write_json(options.out, document)
            print({name: fits[-1][name] for name in ("init", "undisturbed_s", "seconds", "outcome")}, flush=True)
    return int(any(map(wrong, fits)))


if __name__ == "__main__":
    sys.exit(main())
