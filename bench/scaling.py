"""A cost model of many workers beside measured iterations, and what it says of GPUs: the tables of bench/SCALING.md.

``python -m bench.scaling --out bench/results/scaling.json [--rounds R]`` measures (some 4 minutes on 2 quiet cores) and
rewrites the tables; ``--table FILE.json`` only does the latter, ``--check FILE.json`` compares.

Workers are processes of one thread, each with its rows, joined to this process by TCP over the loopback.  This process
reads and writes the sockets, one worker after the other, no faster than the rate of the link that is imitated: it
sleeps whenever it is ahead.  That stands for the link of one machine to which all others send; not for its latency.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import pickle
import socket
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.cost_model import Cluster, Rates, Work, fitted_rates, on_gpus, seconds
from bench.machine import ROOT, run_info, usable_cores
from bench.results import write_json
from gpukmeans import Facts, partial
from gpukmeans.backends import NumpyBackend
from gpukmeans.scale.partials import Partial

PAGE = ROOT / "bench" / "SCALING.md"
CHUNK, AHEAD = 1 << 16, 5e-4  # bytes at a time; seconds ahead of the link from which it is waited for
#: One worker: what rates are fitted to.
CALIBRATING = [
    Work(40_000, 16, 16), Work(160_000, 16, 16), Work(40_000, 16, 512), Work(20_000, 128, 16), Work(80_000, 128, 16),
    Work(20_000, 128, 512), Work(10_000, 512, 64), Work(10_000, 512, 512), Work(40_000, 64, 128),
]  # fmt: skip
#: Other sizes, numbers of workers and links: what is predicted by them.
CHECKED = [
    Work(60_000, 32, 64), Work(30_000, 256, 256), Work(60_000, 32, 64, 2), Work(120_000, 64, 256, 2),
    Work(60_000, 64, 1024, 2, 1e9), Work(60_000, 64, 1024, 2, 1e8), Work(30_000, 256, 256, 2, 1e9),
    Work(30_000, 256, 256, 2, 1e8), Work(40_000, 256, 1024, 4, 1e9), Work(40_000, 256, 1024, 4, 1e8),
]  # fmt: skip
WITHIN = 0.2
#: What a cluster of H200s is asked for, and the work of which labels were counted for one.
TARGET = Work(1_000_000_000, 128, 65_536, limbs=2, itemsize=2)
COUNTED = ("assign-1048576x128-k65536-float16", 1_048_576 * 128 * 65_536)


def rows_of(work: Work, worker: int) -> NDArray[np.float32]:
    """Rows of a worker: normal, of unit variance."""
    return np.random.default_rng(worker).standard_normal((work.rows, work.d)).astype(np.float32)


class Link:
    """A socket that is read and written at a rate."""

    def __init__(self, wire: socket.socket, rate: float = math.inf) -> None:
        self._wire, self._rate = wire, rate
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, value: Any) -> int:
        """Returns the bytes."""
        data = pickle.dumps(value, 5)
        whole = memoryview(len(data).to_bytes(8, "little") + data)
        started = time.perf_counter()
        for place in range(0, len(whole), CHUNK):
            self._wire.sendall(whole[place : place + CHUNK])
            self._wait(started, place + CHUNK)
        return len(whole)

    def receive(self) -> tuple[Any, int]:
        """What was sent, and its bytes."""
        size = int.from_bytes(self._exactly(8, paced=False), "little")
        return pickle.loads(self._exactly(size)), size + 8

    def _exactly(self, size: int, *, paced: bool = True) -> bytearray:
        data = bytearray(size)
        room, got, started = memoryview(data), 0, time.perf_counter()
        while got < size:
            n = self._wire.recv_into(room[got : got + CHUNK])
            if not n:
                raise SystemExit("a worker is gone")
            got += n
            if paced:
                self._wait(started, got)
        return data

    def _wait(self, started: float, n_bytes: int) -> None:
        ahead = started + n_bytes / self._rate - time.perf_counter()
        if ahead > AHEAD:
            time.sleep(ahead)


def work_on(port: int, worker: int) -> None:
    """A worker: rows of a work, then partials of centers until there are none."""
    link = Link(socket.create_connection(("127.0.0.1", port)))
    link.send(worker)
    while (work := link.receive()[0]) is not None:
        X, backend = rows_of(work, worker), NumpyBackend(project=False)
        link.send(Facts.of(X))
        grid, _ = link.receive()
        while (centers := link.receive()[0]) is not None:
            found = partial(X, centers, grid, offset=worker * work.rows, backend=backend)
            link.send((found.sums, found.weights, found.counts))


class Workers:
    """Processes that wait for works; the first of them take part in one."""

    def __init__(self, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        with socket.create_server(("127.0.0.1", 0)) as server:
            self._processes = [context.Process(target=work_on, args=(server.getsockname()[1], w)) for w in range(count)]
            for process in self._processes:
                process.start()
            wires = [server.accept()[0] for _ in self._processes]
        found = {Link(wire).receive()[0]: wire for wire in wires}
        self._wires = [found[worker] for worker in range(count)]

    def iterations(self, work: Work, rounds: int) -> dict[str, Any]:
        """Seconds and bytes of iterations of a work, after one that is not counted."""
        links = [Link(wire, work.link) for wire in self._wires[: work.workers]]
        plain = [Link(wire) for wire in self._wires[: work.workers]]
        for link in plain:
            link.send(work)
        facts = [link.receive()[0] for link in plain]
        grid = sum(facts[1:], facts[0]).grid()
        for link in plain:
            link.send(grid)
        centers = rows_of(work, 0)[np.linspace(0, work.rows - 1, work.k).astype(int)]
        taken, down, up = [], 0, 0
        for _ in range(rounds + 1):
            started = time.perf_counter()
            for link in links:
                down = link.send(centers)
            total: Partial | None = None
            for link in links:
                (sums, weights, counts), up = link.receive()
                here = replace(Partial.zero(grid, centers), sums=sums, weights=weights, counts=counts)
                total = here if total is None else total + here
            assert total is not None
            centers = total.new_centers()
            taken.append(time.perf_counter() - started)
        for link in plain:
            link.send(None)
        return {"seconds": taken[1:], "down": down, "up": up, "limbs": grid.rows.n_limbs}

    def close(self) -> None:
        for wire in self._wires:
            Link(wire).send(None)
        for process in self._processes:
            process.join()


def alone(work: Work, rounds: int) -> float:
    """Seconds of one worker's part of a work, without the others: the least."""
    X, backend = rows_of(work, 0), NumpyBackend(project=False)
    grid, centers = Facts.of(X).grid(), X[np.linspace(0, work.rows - 1, work.k).astype(int)]

    def once() -> float:
        started = time.perf_counter()
        partial(X, centers, grid, offset=0, backend=backend)
        return time.perf_counter() - started

    return min(once() for _ in range(rounds + 1))


def root_rates(rounds: int) -> tuple[float, float]:
    """Seconds for a value of new centers, and for a limb that is added."""
    work = Work(4096, 256, 1024)
    X = rows_of(work, 0)
    grid, centers = Facts.of(X).grid(), X[: work.k]
    one = partial(X, centers, grid, offset=0, backend=NumpyBackend(project=False))
    made, added = [], []
    for _ in range(rounds + 2):
        started = time.perf_counter()
        both = one + replace(one, labels=None)
        added.append(time.perf_counter() - started)
        both = replace(one, labels=None)
        started = time.perf_counter()
        both.new_centers()
        made.append(time.perf_counter() - started)
    return min(made) / (work.k * work.d), min(added) / one.sums.size


def wire_rate(rounds: int) -> float:
    """Seconds for a byte through a socket of this process, both ends, unlimited."""
    import threading

    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other = server.accept()[0]
    value = np.zeros(1 << 22)
    taken = []
    for _ in range(rounds + 1):
        thread = threading.Thread(target=Link(one).send, args=(value,))
        started = time.perf_counter()
        thread.start()
        Link(other).receive()
        taken.append(time.perf_counter() - started)
        thread.join()
    return min(taken) / value.nbytes


def measure(rounds: int) -> dict[str, Any]:
    """All that the tables are made of."""
    found = [alone(work, rounds) for work in CALIBRATING]
    root, add = root_rates(rounds)
    rates = Rates(fitted_rates(CALIBRATING, found), root, add, wire_rate(rounds), usable_cores())
    checks = []
    workers = Workers(max(work.workers for work in CHECKED))
    for work in CHECKED:
        taken = workers.iterations(work, rounds)
        predicted = seconds(replace(work, limbs=taken["limbs"]), rates)
        plain = {**asdict(work), "link": None if math.isinf(work.link) else work.link}
        checks.append({"work": plain, **taken, "predicted": predicted})
        print(f"{work}: {min(taken['seconds']):.3f} s, predicted {predicted['total']:.3f} s", flush=True)
    workers.close()
    calibration = [{"work": asdict(work), "seconds": spent} for work, spent in zip(CALIBRATING, found, strict=True)]
    return {"rates": asdict(rates), "calibration": calibration, "checks": checks}


def predicted_clusters(root: float) -> list[tuple[str, dict[str, float]]]:
    """Iterations of `TARGET` on clusters of H200s: none of this was measured."""
    counted = json.loads((ROOT / "bench" / "results" / "predicted.json").read_text())
    labels = counted["assignments"][COUNTED[0]]["seconds"]
    rows = []
    for gpus in (1, 8, 64, 512):
        work = replace(TARGET, workers=gpus)
        for name, key in (("products and comparisons in turn", "time"), ("overlapped", "overlapped")):
            cluster = Cluster(gpus, labels[key] / COUNTED[1])
            rows.append((f"{gpus} x H200, {name}", on_gpus(work, cluster)))
        rows.append((f"{gpus} x H200, overlapped, sums over hosts", on_gpus(work, cluster, root)))
    return rows


def tables(document: dict[str, Any]) -> dict[str, str]:
    """The tables of SCALING.md."""
    lines = ["| rows x features, k | workers | link, GB/s | measured, s | predicted, s | predicted / measured |"]
    lines.append("|---|---|---|---|---|---|")
    wrong = 0
    for check in document["checks"]:
        w, took = check["work"], min(check["seconds"])
        ratio = check["predicted"]["total"] / took
        wrong += not 1 / (1 + WITHIN) <= ratio <= 1 + WITHIN
        link = "-" if w["link"] is None else f"{w['link'] / 1e9:g}"
        lines.append(
            f"| {w['n']:,} x {w['d']}, {w['k']:,} | {w['workers']} | {link} | {took:.3f} | "
            f"{check['predicted']['total']:.3f} | {ratio:.2f} |"
        )
    n, rounds = len(document["checks"]), len(document["checks"][0]["seconds"])
    rates, worker = document["rates"], document["rates"]["worker"]
    run = f"`{document['command']}`, {document['datetime'][:10]}, {document['machine_info']['cpu']['brand_raw']}"
    measured = "\n".join(lines) + (
        f"\n\n{n - wrong} of {n} predictions are within {WITHIN:.0%} of the least of {rounds} iterations. {run}. "
        f"Fitted: {worker[0]:.2g} s a step, "
        f"{worker[1]:.2g} a row, {worker[2]:.2g} a value, {worker[3]:.2g} a score, {worker[4]:.2g} a product; measured "
        f"apart: {rates['root']:.2g} s a value of new centers, {rates['add']:.2g} a limb added, "
        f"{rates['wire']:.2g} a byte sent."
    )
    lines = [
        "| cluster (predicted) | labels, s | sums, s | network, s | new centers, s | iteration, s | rows / memory |"
    ]
    lines.append("|---|---|---|---|---|---|---|")
    for name, part in predicted_clusters(rates["root"]):
        cells = [f"{part[key]:.3g}" for key in ("labels", "sums", "network", "centers", "total")]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {part['memory']:.0%} |")
    return {"measured": measured, "predicted": "\n".join(lines)}


def rewritten(text: str, document: dict[str, Any]) -> str:
    """The page with its tables."""
    for name, table in tables(document).items():
        begin, end = f"<!-- scaling:{name} -->", f"<!-- /scaling:{name} -->"
        head, _, rest = text.partition(begin)
        _, found, tail = rest.partition(end)
        if not found:
            raise SystemExit(f"{PAGE.name} needs one {begin} and, after it, one {end}.")
        text = f"{head}{begin}\n{table}\n{end}{tail}"
    return text


def main(arguments: list[str] | None = None) -> int:
    """Measure, and write the tables; 1 if ``--check`` finds others."""
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, help="measure, and write this JSON file and the tables")
    what.add_argument("--table", type=Path, help="write the tables from this file")
    what.add_argument("--check", type=Path, help="compare the tables with this file")
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args(arguments)
    if options.out:
        os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # of the workers
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):
            write_json(options.out, {**run_info("scaling", arguments), **measure(options.rounds)})
    document = json.loads((options.out or options.table or options.check).read_text())
    before = options.page.read_text()
    after = rewritten(before, document)
    if options.check:
        return int(before != after)
    options.page.write_text(after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
