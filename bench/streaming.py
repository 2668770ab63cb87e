"""Fits of rows that stream: bytes read, speed beside the same rows in memory and beside the file alone, memory taken.

``python -m bench.streaming --out FILE [--rounds R] [--works bytes,pass,speed,memory]``
``python -m bench.streaming --out FILE --infinite 2000000``: a fit of so many rows of infinite MNIST, no other work

- bytes: bytes of rows that a fit reads, over those of a pass over the file for each iteration; at most 0.5.
- pass: `predict` of a file, beside reading the file alone, its pages dropped before, and beside `predict` of the same
  rows in memory: no pass is faster than the slower of both; at least 0.7 of that.
- speed: seconds of the process of the fit in memory over those of the streamed one, k=256; at least 0.85.
- memory: growth of the anonymous memory in a fit, over its limit, of a file four times the limit; at most 1.

Turns alternate, and ratios are taken within rounds.  Every streamed fit ends in the bits of the one in memory.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import gpukmeans
import gpukmeans.datasets
from bench.machine import ROOT, run_info
from bench.names import chosen
from bench.results import write_json
from gpukmeans.backends import NumpyBackend

WORKS = ("bytes", "pass", "speed", "memory")
BACKEND = NumpyBackend()


def mnist() -> NDArray[Any]:
    return np.ascontiguousarray(gpukmeans.load_mnist(return_X_y=True)[0])


def blobs() -> NDArray[Any]:
    rng = np.random.default_rng(0)
    centers = rng.uniform(-10.0, 10.0, (16, 16))
    return (centers[rng.integers(0, 16, 1_000_000)] + rng.standard_normal((1_000_000, 16))).astype(np.float32)


def saved_images(path: Path, n: int) -> Any:
    """Infinite MNIST in an npy file."""
    rows = gpukmeans.datasets.make_infinite_mnist(n, 0)
    out = np.lib.format.open_memmap(path, "w+", np.uint8, rows.shape)
    for start in range(0, n, 20_000):
        out[start : start + 20_000] = rows[start : start + 20_000]
    out.flush()
    return rows


def fitted(rows: Any, k: int, **params: Any) -> tuple[gpukmeans.KMeans, float]:
    """A fit, and the processor seconds that it took."""
    started = time.process_time()
    model = gpukmeans.KMeans(k, **{"n_init": 1, "random_state": 0, "tol": 0.0, "backend": BACKEND} | params).fit(rows)
    return model, time.process_time() - started


def require_same(one: gpukmeans.KMeans, other: gpukmeans.KMeans) -> None:
    if (one.inertia_, one.n_iter_, one.labels_.tobytes()) != (other.inertia_, other.n_iter_, other.labels_.tobytes()):
        raise SystemExit("the streamed fit differs from the one in memory")


def bytes_read(folder: Path, rounds: int) -> list[dict[str, Any]]:
    works = []
    images, points = mnist(), blobs()
    shuffled = np.random.default_rng(1).permutation(len(images))
    for title, X, k in (
        ("blobs 1M x 16, k=16, random start", points, 16),
        ("MNIST k=10, random start", images[shuffled], 10),
        ("MNIST k=10, random start, rows sorted by cluster", None, 10),
    ):
        if X is None:
            X = images[np.argsort(fitted(images, k, init="random")[0].labels_, kind="stable")]
        np.save(folder / "rows.npy", X)
        ratios, times = [], []
        for seed in range(rounds):
            want, in_memory = fitted(X, k, init="random", random_state=seed)
            got, streamed = fitted(gpukmeans.open_rows(folder / "rows.npy"), k, init="random", random_state=seed)
            require_same(got, want)
            times.append(streamed / in_memory)
            ratios.append(got.fit_report_.bytes_read / (got.n_iter_ * X.nbytes))
        works.append(
            told(title, "bytes read / (iterations x file)", ratios, n_iter=got.n_iter_, seconds_over_memory=times)
        )
    return works


def plain_pass(folder: Path, rounds: int) -> list[dict[str, Any]]:
    path = folder / "rows.npy"
    rows = saved_images(path, 600_000)
    X, size = np.load(path), f"{path.stat().st_size / 1e6:.0f} MB"
    works = []
    for k in (2, 10):
        start = rows[:k].astype(np.float64)
        model, _ = fitted(X[:20_000], k, init=start, max_iter=2)
        want = model.predict(X)
        if not np.array_equal(model.predict(gpukmeans.open_rows(path)), want):
            raise SystemExit("the labels of streamed rows differ from those in memory")
        turns: dict[str, Callable[[], Any]] = {
            "file alone": lambda: wall(path, lambda: read_alone(path)),
            "arithmetic": lambda model=model: wall(path, lambda: model.predict(X)),
            "pass": lambda model=model: wall(path, lambda: model.predict(gpukmeans.open_rows(path))),
        }
        seconds: dict[str, list[float]] = {name: [] for name in turns}
        for _ in range(rounds):
            for name, turn in turns.items():
                seconds[name].append(turn())
        title = f"predict of a streamed file, {size}, k={k}"
        alone, arithmetic, whole = seconds.values()
        works += [
            told(title, "file alone / pass", [a / w for a, w in zip(alone, whole, strict=True)], seconds=seconds),
            told(title, "file alone / the same in memory", [a / m for a, m in zip(alone, arithmetic, strict=True)]),
            told(
                title,
                "slower of both / pass",
                [max(a, m) / w for a, m, w in zip(alone, arithmetic, whole, strict=True)],
            ),
        ]
    return works


def wall(path: Path, run: Callable[[], Any]) -> float:
    """Seconds of a run after the file's pages have been dropped."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def read_alone(path: Path) -> None:
    room = bytearray(1 << 24)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(room):
            pass


def speed(folder: Path, rounds: int) -> list[dict[str, Any]]:
    works = []
    for title, X in (("MNIST", mnist()), ("blobs 1M x 16", blobs())):
        np.save(folder / "rows.npy", X)
        ratios = []
        for _ in range(rounds):
            want, in_memory = fitted(X, 256, init=X[:256], max_iter=20)
            got, streamed = fitted(gpukmeans.open_rows(folder / "rows.npy"), 256, init=X[:256], max_iter=20)
            require_same(got, want)
            ratios.append(in_memory / streamed)
        works.append(told(f"{title}, k=256, 20 iterations", "seconds in memory / streamed", ratios))
    return works


def infinite(n: int, k: int = 256, max_iter: int = 20) -> dict[str, Any]:
    """A fit of `n` rows of infinite MNIST as `gpukmeans fit infinite-mnist:N` reads them, on the NumPy backend."""
    rows = gpukmeans.open_rows(gpukmeans.datasets.make_infinite_mnist(n, 0))
    started = time.perf_counter()
    model, processor = fitted(rows, k, init="random", max_iter=max_iter)
    record = {
        "n_samples": n, "n_clusters": k, "max_iter": max_iter, "n_iter": model.n_iter_, "inertia": model.inertia_,
        "seconds": time.perf_counter() - started, "processor_seconds": processor,
        "bytes_read": model.fit_report_.bytes_read, "rows_of_bytes": n * rows.n_features,
    }  # fmt: skip
    print(record, flush=True)
    return record


def memory(folder: Path, rounds: int) -> list[dict[str, Any]]:
    works = []
    path = folder / "rows.npy"
    saved_images(path, 600_000)
    for k, init in ((64, None), (10, "k-means++")):
        limit = path.stat().st_size // 4
        command = [sys.executable, "-m", "bench.streaming", "--peak", str(path), str(limit), str(k), str(init)]
        ratios = []
        for _ in range(rounds):
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
            ratios.append(json.loads(done.stdout) / limit)
        title = f"infinite MNIST, {path.stat().st_size / 1e6:.0f} MB, limit {limit / 1e6:.0f} MB, k={k}"
        works.append(told(f"{title}, {init or 'given centers'}", "growth of anonymous memory / limit", ratios))
    return works


def peak(path: str, limit: str, k: str, init: str) -> float:
    """The most by which a fit lets the anonymous memory of this process grow, looked at every 3 ms."""
    small = np.random.default_rng(0).random((2000, 16)).astype(np.float32)
    fitted(gpukmeans.open_rows(small), 4)
    rows = gpukmeans.open_rows(path, memory_limit=int(limit))
    start = init if init != "None" else next(rows.blocks(int(k)))
    before, seen, done = anonymous(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.003):
            seen[0] = max(seen[0], anonymous())

    thread = threading.Thread(target=watch)
    thread.start()
    fitted(rows, int(k), init=start, max_iter=5)
    done.set()
    thread.join()
    return seen[0] - before


def anonymous() -> int:
    """Bytes of anonymous memory of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return 1024 * int(line.split()[1])
    raise SystemExit("this system does not tell the anonymous memory of a process")


def told(work: str, what: str, ratios: list[float], **more: Any) -> dict[str, Any]:
    print(f"{work}: {what} {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})", flush=True)
    return {"work": work, "what": what, "ratio": statistics.median(ratios), "ratios": ratios, **more}


def main(arguments: list[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["--peak"]:
        print(json.dumps(peak(*given[1:])))
        return 0
    parser = argparse.ArgumentParser(prog="python -m bench.streaming", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="JSON file for every run")
    parser.add_argument("--rounds", type=int, default=2, help="default 2")
    parser.add_argument("--works", default=",".join(WORKS), help="default %(default)s")
    parser.add_argument("--infinite", type=int, metavar="ROWS", help="fit so many rows of infinite MNIST instead")
    options = parser.parse_args(given)
    if options.infinite:
        write_json(options.out, {**run_info("streaming", given), "infinite_mnist": infinite(options.infinite)})
        return 0
    works: list[dict[str, Any]] = []
    runs = {"bytes": bytes_read, "pass": plain_pass, "speed": speed, "memory": memory}
    document = {
        **run_info("streaming", given),
        "works": works,
    }
    with tempfile.TemporaryDirectory(dir=options.out.absolute().parent) as folder:
        for name in chosen(parser, options.works, runs, "work"):
            works += runs[name](Path(folder), options.rounds)
            write_json(options.out, document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
