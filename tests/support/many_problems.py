"""Problems of one shape for `fit_many`, and what must not differ from fits one by one."""

from __future__ import annotations

import numpy as np

from gpukmeans import KMeans
from gpukmeans.backends.cuda.backend import CupyBackend
from tests.emulator import EmulatorDevice
from tests.support import assertions


def emulated(order="random", seed=1):
    return CupyBackend(EmulatorDevice(order=order, seed=seed))


def watched(order="random", seed=1):
    """Every access to memory is checked, which takes several times as long."""
    return CupyBackend(EmulatorDevice(mode="check", order=order, seed=seed))


def problems(dtype=np.float32, n_problems=3, n=70, d=5, seed=0):
    """Blobs; of floats, about places and of sizes that differ much."""
    local = np.random.default_rng(seed)
    X = 40 * local.integers(1, 5, (n_problems, n, d)) + 6 * local.standard_normal((n_problems, n, d))
    if dtype != np.uint8:
        place = np.arange(n_problems)[:, None, None]
        X = X * 10.0 ** (2 * place - 3) + 1e6 * place
    return X.clip(0, 255).astype(dtype) if dtype == np.uint8 else X.astype(dtype)


def weights_of(n_problems, n, seed=1):
    local = np.random.default_rng(seed)
    return (
        local.uniform(0, 2, (n_problems, n))
        * (local.random((n_problems, n)) > 0.2)
        * 3.0 ** np.arange(n_problems)[:, None]
    )


def one_by_one(X, k, weights=None, backend="numpy", **params):
    init = params.pop("init", "k-means++")
    stacked = not isinstance(init, str) and np.ndim(init) == 3
    models = []
    for i, rows in enumerate(X):
        own = init[i] if stacked else init
        models.append(KMeans(k, init=own, backend=backend, **params).fit(rows, sample_weight=weights and weights[i]))
    return models


def assert_same(got, want):
    """Models of as many problems, one by one: the same bits by the same iterations."""
    for a, b in zip(got, want, strict=True):
        assertions.assert_same(a, b, history=True)


def differs(got, want):
    try:
        assert_same(got, want)
    except AssertionError:
        return True
    return False
