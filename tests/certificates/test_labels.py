"""Labels on near ties, huge and tiny values are exact on every backend, and wrong without a certificate."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.certificates.rounding import ScoreRadius
from gpukmeans.datasets import near_ties
from tests.support.assertions import assert_labels
from tests.support.oracles import nearest

# ---- the certificates at work ------------------------------------------------------------------------------------


def labels_of(backend, X, C):
    run = backend.load(X).start(C)
    assigned = run.assign(move=False)
    assert assigned.n_certified + assigned.n_resolved + assigned.n_exact == len(X)  # none skipped: the first look
    return run.labels(), assigned


def scaled_near_ties(name):
    """Near ties where the arithmetic is at its weakest: (rows, centers)."""
    dtype = np.float64 if "float64" in name else np.float32
    X, C = near_ties(150, 6, 17, seed=8, dtype=dtype)
    if "tiny" in name:
        scale = 2.0**-120 if dtype == np.float32 else 2.0**-500
    elif "subnormal" in name:
        return (X * dtype(2.0**-138)).astype(dtype), (C * dtype(2.0**-138)).astype(dtype)
    elif "huge" in name:
        scale = 2.0**58 if dtype == np.float32 else 2.0**470
    elif "offset" in name:
        return (X + dtype(4096)).astype(dtype), (C + dtype(4096)).astype(dtype)
    elif "duplicated" in name:
        return X, C[np.array([3, 1, 3, 0, 1, 1])]
    else:
        scale = 1.0
    return X * dtype(scale), C * dtype(scale)


NEAR_TIES = [
    f"{kind} {dtype}"
    for dtype in ("float32", "float64")
    for kind in ("plain", "tiny", "huge", "offset", "duplicated centers")
] + ["subnormal float32"]


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", NEAR_TIES)
def test_labels_of_near_ties_are_the_true_nearest(backend, name):
    X, C = scaled_near_ties(name)
    labels, _ = labels_of(backend, X, C)
    assert_labels(labels, X, C)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_near_ties_are_ties_only_nearly(dtype):
    """Plain scores get many wrong, so that the test above can fail; and a step of one ulp decides."""
    X, C = near_ties(150, 6, 17, seed=8, dtype=dtype)
    plain = ((C * C).sum(axis=1) - 2 * X @ C.T).argmin(axis=1)
    assert (plain != nearest(X, C)).sum() > 15


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_ulp_decides(backend, dtype):
    """A row half way between two centers, and the same row moved by one ulp to either side."""
    a, b = dtype(1), dtype(3)
    C = np.array([[a, 5], [b, 5]], dtype)
    below, above = np.nextafter(dtype(2), dtype(0)), np.nextafter(dtype(2), dtype(9))
    X = np.array([[2, 0.1], [below, 0.1], [above, 0.1]], dtype)
    assert labels_of(backend, X, C)[0].tolist() == [0, 0, 1]
    assert labels_of(backend, X, C[::-1].copy())[0].tolist() == [0, 1, 0]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_ordinary_rows_are_certified_by_the_screen(backend, dtype):
    """Not vacuous: clusters a hundred spreads apart need no second look."""
    centers = 20 + 50 * np.arange(4)[:, None] + np.zeros((4, 30))
    X = (np.repeat(centers, 25, axis=0) + np.random.default_rng(30).uniform(-2, 2, (100, 30))).astype(dtype)
    labels, assigned = labels_of(backend, X, centers)
    assert labels.tolist() == np.repeat(np.arange(4), 25).tolist()
    assert assigned.n_certified == 100


def test_scores_that_overflow_certify_nothing(backend):
    """-2 x.c leaves float32 on the way although |x|^2 and |c|^2 stay within it: -inf is no score."""
    X = np.array([[1.5e19, 7e18, 7e18], [1e19, 1.2e19, 0]], np.float32)
    C = np.array([[1.5e19, -7e18, -7e18], [0, 0, 0], [-1.7e19, 0, 0]], np.float32)
    assert_labels(labels_of(backend, X, C)[0], X, C)


@pytest.mark.parametrize("largest", [1e19, 1e20, 3e38])
def test_the_largest_float32_values_are_labelled_right(backend, largest):
    local = np.random.default_rng(3)
    X = (largest * local.uniform(-1, 1, (60, 5))).astype(np.float32)
    C = (largest * local.uniform(-1, 1, (4, 5))).astype(np.float32)
    C[0] *= np.float32(1e-20)
    assert_labels(labels_of(backend, X, C)[0], X, C)


# ---- planted faults ----------------------------------------------------------------------------------------------


def plant(monkeypatch, name, fake):
    """Replace a certificate wherever the engine looks it up."""
    for module in [m for key, m in sys.modules.items() if key.startswith("gpukmeans")]:
        if hasattr(module, name):
            monkeypatch.setattr(module, name, fake)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_screen_without_radius_gives_wrong_labels(monkeypatch, dtype):
    X, C = near_ties(150, 6, 17, seed=8, dtype=dtype)
    plant(monkeypatch, "score_radius", lambda *args: ScoreRadius(0.0, 0.0))
    plant(monkeypatch, "gamma", lambda m, unit: 0.0)  # nor any allowance for |x|^2
    labels, _ = labels_of(NumpyBackend(), X, C)
    assert (labels != nearest(X, C)).any()


def test_float64_distances_without_radius_give_wrong_labels(monkeypatch):
    X, C = near_ties(400, 6, 17, seed=8, dtype=np.float64)
    plant(monkeypatch, "square_distance_radius", lambda n_features: 0.0)
    labels, _ = labels_of(NumpyBackend(), X, C)
    assert (labels != nearest(X, C)).any()


def test_whole_numbers_wrongly_called_exact_give_wrong_labels(monkeypatch):
    """Twin centers two apart, rows 2**40 away in another feature: their squares differ by 4 in 2**80."""
    local = np.random.default_rng(2)
    first = local.integers(-1000, 1000, (3, 8)).astype(np.float64)
    C = np.repeat(first, 2, axis=0)
    C[1::2, 0] += 2
    X = first[local.integers(3, size=180)]
    X[:, 0] += 2 * local.integers(0, 2, 180)
    X[:, 1] += local.integers(2**39, 2**40, 180)
    assert_labels(labels_of(NumpyBackend(), X, C)[0], X, C)
    plant(monkeypatch, "exact_in_float64", lambda *args: True)
    assert (labels_of(NumpyBackend(), X, C)[0] != nearest(X, C)).any()
