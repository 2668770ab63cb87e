"""Rows and bases for screens by components."""

from __future__ import annotations

import numpy as np

from gpukmeans.backends.cpu.backend import NumpyBackend

PLAIN = NumpyBackend(skip=False, screen=False)

K = 8


def decaying(n=9000, d=64):
    """A cloud without clusters, each direction of which is a fifth narrower than the one before."""
    local = np.random.default_rng(49)
    rotation, _ = np.linalg.qr(local.standard_normal((d, d)))
    return local.standard_normal((n, d)) * (6 * 0.8 ** np.arange(d) + 0.2) @ rotation


def skewed_basis(d, m, defect, seed=0):
    """Columns whose products are off those of orthonormal ones by about `defect`."""
    local = np.random.default_rng(seed)
    q, _ = np.linalg.qr(local.standard_normal((d, m)))
    return (q @ (np.eye(m) + defect / 2 * local.uniform(-1, 1, (m, m)))).astype(np.float32)


DATA = {
    "float32": lambda X: X.astype(np.float32),
    "float64": lambda X: X,
    "uint8": lambda X: (4 * X).clip(0, 255).astype(np.uint8),
    "float32 far from the origin": lambda X: (X + 4096).astype(np.float32),
    "float64 far from the origin": lambda X: X + 1e9,
    "uint8 far from the origin": lambda X: (3 * X + 128).clip(0, 255).astype(np.uint8),
}
