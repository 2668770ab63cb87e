"""The price of exactness on data that rounding cannot decide, beside scikit-learn.

``python -m bench.ties --out FILE [--rounds N] [--works NAMES] [--minutes M]``

Every work is a kind of rows and a way to cluster them, at three sizes.  All three systems alternate round by round:
``precision="exact"``, ``"fast"``, and scikit-learn's class of the same name.  The bounds that must hold for each work:

- exact takes at most 2 times fast;
- exact takes at most 3 times scikit-learn, plus 20 ms;
- from one size to the next the time grows no faster than n_samples * n_clusters * n_features, times the iterations
  where the larger fit takes more, plus 20 ms.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.cluster
from numpy.typing import NDArray
from scipy import sparse
from sklearn.datasets import load_digits

import gpukmeans
from bench.machine import run_info
from bench.names import chosen
from bench.results import write_json
from gpukmeans.datasets import exact_ties

FAST, THEIRS, ROOM = 2.0, 3.0, 0.02
Rows = Callable[[np.random.Generator, int], NDArray]


@dataclass(frozen=True)
class TieWork:
    """Rows of one kind at three sizes, and how they are clustered.

    `rows(rng, n)` makes n rows; `n_clusters(n)` says into how many clusters.  `form` is the container: a dtype's name
    or "csr"; `weights` is "whole", "real" or nothing; `settings` go to both classes.
    """

    title: str
    rows: Rows
    n: tuple[int, int, int]
    n_clusters: Callable[[int], int]
    estimator: str = "KMeans"
    form: str = "float64"
    weights: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    group: str = "float64, k-means++"

    def make(self, size: int) -> tuple[Any, NDArray | None, int]:
        """Rows, weights or None, and the number of clusters."""
        rng, n = np.random.default_rng(size), self.n[size]
        X: Any = self.rows(rng, n)
        X = sparse.csr_array(X) if self.form == "csr" else X.astype(self.form)
        weight = None
        if self.weights == "whole":
            weight = np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float64)
        elif self.weights == "real":
            weight = rng.uniform(0.1, 2.0, n)
        return X, weight, self.k(size)

    def k(self, size: int) -> int:
        """Into how many clusters; at most 32 by bisecting."""
        most = 32 if self.estimator == "BisectingKMeans" else self.n[size]
        return min(self.n_clusters(self.n[size]), most)


# ---- kinds of rows ---------------------------------------------------------------------------------------------------


def _normal(d: int, scale: float = 1.0) -> Rows:
    return lambda rng, n: rng.standard_normal((n, d)) * scale


def _lattice(values: int, d: int, step: float) -> Rows:
    return lambda rng, n: rng.integers(0, values, (n, d)) * step


def _one_hot(d: int, constant: float) -> Rows:
    return lambda rng, n: np.eye(d)[rng.integers(0, d, n)] * constant


def _scaled_columns(d: int) -> Rows:
    """Whole numbers of few values, each column min-max scaled by its own odd range."""
    return lambda rng, n: rng.integers(0, 8, (n, d)) / np.arange(3.0, 3.0 + 2 * d, 2.0)


def _duplicates(d: int, share: int) -> Rows:
    """Every row `share` times."""
    return lambda rng, n: rng.standard_normal((-(-n // share), d))[rng.permutation(np.arange(n) % -(-n // share))]


def _mirrored(d: int) -> Rows:
    """Rows beside their mirror images and with their features turned round."""

    def make(rng: np.random.Generator, n: int) -> NDArray:
        base = rng.standard_normal((-(-n // 4), d))
        return np.concatenate([base, -base, base[:, ::-1], -base[:, ::-1]])[:n]

    return make


def _equidistant(d: int) -> Rows:
    """Rows halfway between pairs of others, in thirds."""

    def make(rng: np.random.Generator, n: int) -> NDArray:
        ends = rng.integers(-9, 9, (2, n // 3 + 1, d)) / 3.0
        return np.concatenate([*ends, ends.mean(axis=0)])[:n]

    return make


def _exact_ties(rng: np.random.Generator, n: int) -> NDArray:
    return exact_ties(n, 16, 12, seed=int(rng.integers(1 << 30)), dtype=np.float64)[0] / 3.0


def _digits(rng: np.random.Generator, n: int) -> NDArray:
    return load_digits().data[:n]


def _works() -> dict[str, TieWork]:
    """All kinds in float64 with k-means++, then each in another container, from other starts, in another class."""
    few, half, sixth, all_but = (lambda n: 16), (lambda n: n // 2), (lambda n: n // 6), (lambda n: n - n // 50)
    kinds = {
        "ties": TieWork("exact ties x 1/3", _exact_ties, (2_000, 8_000, 32_000), few),
        "thirds": TieWork("0 and 1/3, 10 features", _lattice(2, 10, 1 / 3), (3_000, 12_000, 50_000), few),
        "tenths": TieWork(
            "steps of 0.1, 3 features, k=100", _lattice(100, 3, 0.1), (6_000, 25_000, 100_000), lambda n: 100
        ),
        "tenths20": TieWork("0 and 0.1, 20 features", _lattice(2, 20, 0.1), (2_000, 6_000, 20_000), lambda n: 8),
        "one-hot": TieWork("one-hot x 0.1, 50 features", _one_hot(50, 0.1), (2_000, 8_000, 32_000), few),
        "columns": TieWork("min-max scaled columns", _scaled_columns(12), (2_000, 8_000, 32_000), few),
        "copies": TieWork("every row 20 times", _duplicates(10, 20), (2_000, 8_000, 32_000), few),
        "mirrored": TieWork("mirrored and turned copies", _mirrored(8), (2_000, 8_000, 32_000), few),
        "halfway": TieWork("rows halfway between others", _equidistant(6), (2_000, 8_000, 32_000), few),
        "k-half": TieWork("normal rows, k=n/2", _normal(6), (500, 1_000, 2_000), half),
        "k-near-n": TieWork("normal rows, k near n", _normal(6), (500, 1_000, 2_000), all_but),
        "k-is-n": TieWork("normal rows, k=n", _normal(30), (300, 600, 1_200), lambda n: n),
        "digits": TieWork("digits, bootstrap weights, k=n/6", _digits, (450, 900, 1_797), sixth, weights="whole"),
        "real weights": TieWork("digits, real weights, k=n/6", _digits, (450, 900, 1_797), sixth, weights="real"),
    }
    for scale in (1e-300, 1e-160, 1e-80, 1e80, 4e143):
        kinds[f"{scale:g}"] = TieWork(
            f"normal rows x {scale:g}", _normal(4, scale), (2_000, 8_000, 32_000), lambda n: 8
        )
    works = dict(kinds)

    def varied(name: str, kind: str, title: str, **changed: Any) -> None:
        work = kinds[kind]
        works[name] = TieWork(**{**vars(work), "title": f"{work.title}, {title}", "group": title, **changed})

    for kind in ("ties", "thirds", "tenths20", "one-hot", "columns", "copies", "mirrored", "halfway", "k-near-n"):
        varied(f"{kind} csr", kind, "CSR", form="csr")
        varied(f"{kind} float32", kind, "float32", form="float32", group="float32, uint8")
        varied(f"{kind} random", kind, "random start", settings={"init": "random"})
        varied(f"{kind} parallel", kind, "k-means||", settings={"init": "k-means||"})
        varied(f"{kind} batches", kind, "mini-batches", estimator="MiniBatchKMeans")
        varied(f"{kind} bisecting", kind, "bisecting", estimator="BisectingKMeans")
        varied(f"{kind} whole", kind, "whole weights", weights="whole", group="weights")
        varied(f"{kind} real", kind, "real weights", weights="real", group="weights")
    for values, name in ((2, "bits"), (256, "bytes")):
        for form in ("uint8", "csr", "float32"):
            group = "CSR" if form == "csr" else "float32, uint8"
            works[f"{name} {form}"] = TieWork(
                f"{name}, 16 features, {form}",
                _lattice(values, 16, 1.0),
                (2_000, 8_000, 32_000),
                few,
                form=form,
                group=group,
            )
    return works


WORKS = _works()


# ---- measurement -----------------------------------------------------------------------------------------------------


def fits(work: TieWork, size: int) -> dict[str, Callable[[], Any]]:
    """What is timed, by name."""
    X, weight, k = work.make(size)
    ours, theirs = getattr(gpukmeans, work.estimator), getattr(sklearn.cluster, work.estimator)
    settings = {"random_state": 0, "max_iter": 30, **work.settings}
    their_settings = {**settings, "init": "k-means++"} if settings.get("init") == "k-means||" else settings
    if work.estimator == "KMeans":
        settings, their_settings = settings | {"n_init": 1}, their_settings | {"n_init": 1}
    found = {
        precision: lambda precision=precision: ours(k, precision=precision, backend="numpy", **settings).fit(
            X, sample_weight=weight
        )
        for precision in ("exact", "fast")
    }
    return {**found, "scikit-learn": lambda: theirs(k, **their_settings).fit(X, sample_weight=weight)}


def measure(work: TieWork, size: int, rounds: int) -> dict[str, Any]:
    """The seconds of each round, of each system."""
    lanes = fits(work, size)
    report: dict[str, Any] = {"n": work.n[size], "k": work.k(size), "seconds": {n: [] for n in lanes}}
    for turn in range(rounds + 1):  # the first turn warms up
        names = list(lanes)
        for name in names[turn % 3 :] + names[: turn % 3]:
            gc.collect()
            started = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = lanes[name]()
            spent = time.perf_counter() - started
            if turn:
                report["seconds"][name].append(spent)
            elif name == "exact":
                report["n_iter"] = getattr(model, "n_iter_", 1)
                records = model.fit_report_.iterations if work.estimator != "BisectingKMeans" else ()
                report["n_uncertain"] = sum(record.n_uncertain for record in records)
    return report


def judged(sizes: list[dict[str, Any]]) -> dict[str, float]:
    """The largest ratios: exact / fast, (exact - 20 ms) / scikit-learn, growth / growth of n k and the iterations."""
    best = [{name: min(seconds) for name, seconds in size["seconds"].items()} for size in sizes]
    growth = [
        max(0.0, b["exact"] - ROOM)
        / a["exact"]
        / (y["n"] * y["k"] / (x["n"] * x["k"]) * max(1.0, y["n_iter"] / x["n_iter"]))
        for a, b, x, y in zip(best, best[1:], sizes, sizes[1:], strict=False)
    ]
    return {
        "fast": max(b["exact"] / b["fast"] for b in best),
        "scikit-learn": max((b["exact"] - ROOM) / b["scikit-learn"] for b in best),
        "growth": max(growth, default=0.0),
    }


def broken_bounds(ratios: dict[str, float]) -> list[str]:
    """The bounds that a work breaks, by what it is compared with."""
    most = {"fast": FAST, "scikit-learn": THEIRS, "growth": 1.0}
    return [name for name, ratio in ratios.items() if ratio > most[name]]


def main(argv: list[str] | None = None) -> int:
    """Measure, write, and say which bounds are broken."""
    parser = argparse.ArgumentParser(prog="python -m bench.ties", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", type=int, default=3, help="of the three, from the smallest")
    parser.add_argument("--works", default=",".join(WORKS), help="all by default")
    options = parser.parse_args(argv)
    names = chosen(parser, options.works, WORKS, "work")
    document = {
        **run_info("ties", argv),
        "works": {},
    }
    broken = 0
    for name in names:
        sizes = [measure(WORKS[name], size, options.rounds) for size in range(options.sizes)]
        found = judged(sizes)
        bad = bool(broken_bounds(found))
        broken += bad
        document["works"][name] = {
            "title": WORKS[name].title,
            "group": WORKS[name].group,
            "sizes": sizes,
            "ratios": found,
        }
        last = {system: min(s) for system, s in sizes[-1]["seconds"].items()}
        print(
            f"{'BROKEN' if bad else 'ok':7}{name:22} exact/fast {found['fast']:5.2f}  exact/scikit-learn "
            f"{found['scikit-learn']:6.2f}  growth {found['growth']:5.2f}  largest: "
            + ", ".join(f"{system} {s * 1e3:.1f} ms" for system, s in last.items()),
            flush=True,
        )
        write_json(options.out, document)
    print(f"{len(names) - broken} of {len(names)} works keep all bounds")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
