"""Tiny clustering problems of every kind of rows, weights, starts and sizes of values, by number."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse

from gpukmeans import BisectingKMeans, MiniBatchKMeans, SphericalKMeans

KINDS = ["normal", "whole", "tenths", "thirds", "few", "constant", "far row", "mixed sizes", "line"]
STARTS = ["k-means++", "random", "k-means||", "far", "mostly far", "rows", "one row", "midpoints"]
#: Exponents of two that the values are multiplied by; the largest values stay below 2**480, or are floats still.
EXPONENTS = {np.float64: [0, 0, 0, -996, -540, -300, 300, 440], np.float32: [0, 0, 0, -100, -60, 60]}


@dataclass(frozen=True)
class Problem:
    """What a fit is given; `X` is dense, and read as CSR if `csr`."""

    seed: int
    X: np.ndarray
    sample_weight: np.ndarray | None
    n_clusters: int
    init: Any
    params: dict[str, Any]
    csr: bool

    @property
    def rows(self):
        return sparse.csr_array(self.X) if self.csr else self.X

    def fit(self, cls, rows=None, sample_weight="own", **params):
        """A fitted model of this problem, or of other rows and weights in the place of its own."""
        weight = self.sample_weight if isinstance(sample_weight, str) else sample_weight
        given = {"init": self.init, "backend": "numpy", **self.params, **params}
        if cls is not BisectingKMeans:
            given.setdefault("n_init", 1)
        if cls in (MiniBatchKMeans, SphericalKMeans):
            given.pop("algorithm")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return cls(self.n_clusters, **given).fit(self.rows if rows is None else rows, sample_weight=weight)


def values(kind, local, n, d):
    """Rows of a kind, (n, d) float64; whole numbers and steps of 0.1 or 1/3 tie."""
    if kind in ("whole", "tenths", "thirds"):
        return local.integers(-3, 4, (n, d)) * {"whole": 1.0, "tenths": 0.1, "thirds": 1 / 3}[kind]
    if kind == "few":
        return local.standard_normal((max(1, n // 4), d))[local.integers(max(1, n // 4), size=n)]
    if kind == "constant":
        return np.full((n, d), local.standard_normal())
    if kind == "mixed sizes":
        return local.choice([-1, 0, 1], (n, d)) * 10.0 ** local.uniform(-8, 8, (n, d))
    if kind == "line":
        return np.repeat(np.arange(float(n))[:, None], d, axis=1)
    X = local.standard_normal((n, d))
    if kind == "far row":
        X[local.integers(n)] *= 1e6
    return X


def weights(local, n):
    """None, whole numbers, real ones, mostly zeros, or of very different sizes; not all zero."""
    weight = [
        None,
        local.integers(0, 4, n).astype(float),
        local.random(n),
        local.random(n) * (local.random(n) < 0.4),
        10.0 ** local.uniform(-12, 12, n),
    ][local.integers(5)]
    if weight is not None and not weight.any():
        weight[0] = 1.0
    return weight


def start(kind, local, X, k):
    """Centers: of random rows, beside all rows, far from them, all alike, or between two rows."""
    size, d = float(np.abs(X).max()) or 1.0, X.shape[1]
    if kind == "far":
        return 3 * size * local.standard_normal((k, d))
    if kind == "mostly far":
        far = size * 2.0 ** int(local.integers(1, 9)) * (1 + local.random((k - k // 2, d)))
        return np.concatenate([X[local.integers(len(X), size=k // 2)], far])
    if kind == "rows":
        return X[local.integers(len(X), size=k)]
    if kind == "one row":
        return np.repeat(X[:1], k, axis=0)
    if kind == "midpoints":
        first, second = local.integers(len(X), size=(2, k))
        return X[first] / 2 + X[second] / 2
    return kind


def problem(seed):
    """The problem of this number, for `KMeans`."""
    local = np.random.default_rng(seed)
    n, d = int(local.integers(1, 25)), int(local.integers(1, 6))
    k = int(local.integers(1, min(n, 9) + 1))
    dtype = [np.float64, np.float32, np.uint8, np.float16][local.choice(4, p=[0.5, 0.25, 0.15, 0.1])]
    X = values(KINDS[local.integers(len(KINDS))], local, n, d)
    if local.random() < 0.2:
        X = X + local.choice([1.0, 1000.0, 1e6])
    if dtype == np.uint8:
        X = np.rint(np.abs(X) * 7).clip(0, 255)
    X = np.ldexp(X.clip(-6e4, 6e4) if dtype == np.float16 else X, local.choice(EXPONENTS.get(dtype, [0])))
    X = X.astype(dtype)
    weight = weights(local, n)
    init = start(STARTS[local.integers(len(STARTS))], local, X.astype(np.float64), k)
    if isinstance(init, str) and init == "random" and weight is not None and np.count_nonzero(weight) < k:
        init = "k-means++"
    params = {
        "tol": float(local.choice([0.0, 1e-4, 0.3])),
        "max_iter": int(local.choice([1, 2, 3, 300])),
        "algorithm": str(local.choice(["lloyd", "elkan"])),
        "random_state": seed,
    }
    return Problem(seed, X, weight, k, init, params, dtype in (np.float32, np.float64) and bool(local.random() < 0.35))


def problem_for(cls, seed):
    """The problem of this number, changed where a class cannot take it."""
    made = problem(seed)
    named = made.init if isinstance(made.init, str) else None
    if cls is BisectingKMeans:
        return replace(made, init=named if named in ("k-means++", "random") else ["k-means++", "random"][seed % 2])
    if cls is MiniBatchKMeans:
        params = made.params | {"batch_size": [2, 5, 1024][seed % 3]}
        if named and made.sample_weight is not None and not made.sample_weight.all():
            init = made.X[: made.n_clusters].astype(np.float64)  # the sample to draw from might weigh nothing
        else:
            init = "k-means++" if named == "k-means||" else made.init
        return replace(made, init=init, params=params)
    if cls is SphericalKMeans:  # rows of zeros have no direction: as many as the clusters must have one
        X = made.X + ((made.X == 0).all(axis=1) * (np.arange(len(made.X)) % 4 < 3))[:, None].astype(made.X.dtype)
        heads = X.any(axis=1)
        weighs = made.sample_weight is None or made.sample_weight[heads].any()
        if heads.sum() < made.n_clusters or not weighs:
            X = X + (~heads)[:, None].astype(X.dtype)
        init = made.init if named else made.init + (np.asarray(made.init) == 0).all(axis=1)[:, None]
        return replace(made, X=X, init="k-means++" if named == "random" else init)
    return made
