"""Every backend ends in the same bits (labels, centers, inertia, n_iter), and they are those of real arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.backends.cuda.backend import CupyBackend
from gpukmeans.datasets import exact_ties, near_ties
from gpukmeans.exact.sums import Grid
from tests.emulator import KINDS_OF_TENSOR_CORES, EmulatorDevice
from tests.emulator.testing import skip_without_compiler
from tests.support.assertions import assert_labels, assert_same
from tests.support.law_cases import DTYPES, blobs, fit, uneven
from tests.support.oracles import float64_nearest, long_double_nearest, rational_lloyd


def case(name):
    """(rows, number of clusters, fit parameters)."""
    local = np.random.default_rng(72)
    kind, _, dtype = name.rpartition(" ")
    dtype = np.dtype(dtype).type
    if kind == "near ties":
        X, C = near_ties(130, 7, 11, seed=1, dtype=dtype)
        return X, 7, {"init": C, "max_iter": 3}
    if kind == "near ties in one feature":
        X, C = near_ties(60, 4, 1, seed=2, dtype=dtype)
        return X, 4, {"init": C, "max_iter": 3}
    if kind == "exact ties":
        X, C = exact_ties(130, 7, 12, seed=1, dtype=dtype)
        return X, 7, {"init": C, "max_iter": 4}
    if kind == "duplicates":
        X = blobs(dtype, 5, 4)[local.integers(5, size=60)]
        return X, 7, {"random_state": 1}
    if kind == "one row":
        return blobs(dtype, 1, 5), 1, {}
    if kind == "one column":
        return blobs(dtype, 120, 1), 4, {"random_state": 0}
    if kind == "k = n":
        return blobs(dtype, 33, 6), 33, {"random_state": 0}
    if kind == "many clusters":
        return blobs(dtype, 150, 5), 70, {"random_state": 0, "max_iter": 4}
    if kind == "ragged":
        return blobs(dtype, 131, 67), 5, {"random_state": 3, "tol": 1e-4}
    if kind == "weights":
        return blobs(dtype, 120, 9), 5, {"random_state": 0, "sample_weight": uneven(120)}
    if kind == "wide range":
        X = blobs(np.float64, 100, 4) * np.array([1e-12, 1.0, 1e9, 1e-25])
        X[::9] *= 1e-8
        return X.astype(dtype), 5, {"random_state": 0}
    if kind == "far from the origin":
        return (blobs(dtype, 100, 6) + dtype(2**20)).astype(dtype), 5, {"random_state": 0}
    if kind == "empty clusters":
        X = blobs(dtype, 60, 3)
        return X, 4, {"init": np.stack([X[0], X[30], np.full(3, 5000), np.full(3, 6000)]).astype(np.float64)}
    if kind == "weights and empty clusters":
        X = blobs(dtype, 60, 3)
        init = np.stack([X[0], X[30], np.full(3, 5000)]).astype(np.float64)
        return X, 3, {"init": init, "sample_weight": uneven(60)}
    if kind == "random restarts":
        return blobs(dtype, 80, 3), 4, {"init": "random", "n_init": 3, "random_state": 5}
    raise ValueError(kind)


KINDS = [
    "exact ties",
    "duplicates",
    "one row",
    "one column",
    "k = n",
    "many clusters",
    "ragged",
    "weights",
    "empty clusters",
    "weights and empty clusters",
    "random restarts",
]
FLOAT_KINDS = ["near ties", "near ties in one feature", "wide range", "far from the origin"]
CASES = [f"{kind} {np.dtype(dtype)}" for kind in KINDS for dtype in DTYPES] + [
    f"{kind} {np.dtype(dtype)}" for kind in FLOAT_KINDS for dtype in (np.float32, np.float64)
]


@pytest.mark.parametrize("name", CASES)
def test_every_backend_ends_in_numpys_bits(other_backend, name):
    X, k, params = case(name)
    assert_same(fit(X, k, other_backend, **params), fit(X, k, "numpy", **params))


@pytest.mark.parametrize("name", CASES)
def test_no_kind_of_tensor_cores_changes_a_bit(name):
    """All other emulated fits run on those of sm_90."""
    skip_without_compiler()
    X, k, params = case(name)
    device = EmulatorDevice(tensor_cores=KINDS_OF_TENSOR_CORES[1 + CASES.index(name) % 2])
    assert_same(fit(X, k, CupyBackend(device), **params), fit(X, k, "numpy", **params))


@pytest.mark.parametrize("dtype", DTYPES)
def test_mnist_ends_in_numpys_bits(other_backend, mnist_sample, dtype):
    X = mnist_sample.astype(dtype) if dtype == np.uint8 else (mnist_sample / 255).astype(dtype)
    params = {"random_state": 0, "max_iter": 4}
    assert_same(fit(X, 10, other_backend, **params), fit(X, 10, "numpy", **params))


# ---- NumPy against real arithmetic -----------------------------------------------------------------------------------


@pytest.mark.parametrize("lockstep", [True, False])
@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith(("random restarts", "k = n"))])
def test_numpy_ends_in_the_bits_of_real_arithmetic(name, lockstep):
    X, k, params = case(name)
    weight = params.get("sample_weight")
    got = fit(X, k, NumpyBackend(lockstep=lockstep), **{**params, "tol": 0})
    if "init" in params:
        start = np.asarray(params["init"])
    else:  # the engine's own draw; test_seeding.py has its laws
        from gpukmeans.engine.seeding.draws import probabilities
        from gpukmeans.engine.seeding.plusplus import kmeans_plusplus

        state = np.random.RandomState(params.get("random_state", 0))
        p = probabilities(len(X), weight, got.cluster_centers_.dtype)
        start = X[kmeans_plusplus(NumpyBackend().load(X, weight), k, state, p, weight)]
    if weight is not None and X.dtype == np.float32:  # scikit-learn's rounding of weights
        weight = weight.astype(np.float32)
    want = rational_lloyd(
        X, start.astype(got.cluster_centers_.dtype), max_iter=params.get("max_iter", 300), sample_weight=weight
    )
    assert_labels(got.labels_, X, want.centers, want=want.labels)
    assert np.array_equal(got.cluster_centers_, want.centers)
    assert got.n_iter_ == want.n_iter


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sample_of_mnist_ends_in_the_bits_of_real_arithmetic(mnist_sample, dtype):
    X = mnist_sample[:100]
    X = X.astype(dtype) if dtype == np.uint8 else (X / 255).astype(dtype)
    start = X[:6].astype(np.float32 if dtype == np.float32 else np.float64)
    got = fit(X, 6, NumpyBackend(), init=start, max_iter=4)
    want = rational_lloyd(X, start, max_iter=4)
    assert_labels(got.labels_, X, want.centers, want=want.labels)
    assert np.array_equal(got.cluster_centers_, want.centers)
    assert got.n_iter_ == want.n_iter


# ---- every way of getting there --------------------------------------------------------------------------------------

WAYS = [
    {"lockstep": False},
    {"skip": False},
    {"project": False},
    {"skip": False, "project": False},
    {"skip": False, "screen": False, "project": False},
]


@pytest.mark.one_in(2)
@pytest.mark.parametrize("way", WAYS, ids=[" ".join(f"no {key}" for key in way) for way in WAYS])
@pytest.mark.parametrize("name", CASES)
def test_short_cuts_change_no_bit(name, way):
    X, k, params = case(name)
    assert_same(fit(X, k, NumpyBackend(**way), **params), fit(X, k, NumpyBackend(), **params))


@pytest.mark.one_in(3)
@pytest.mark.parametrize("dtype", DTYPES)
def test_short_cuts_change_no_bit_of_mnist(mnist, dtype):
    """Rows and features enough for every short cut to be taken, projections too."""
    X = np.ascontiguousarray(mnist[::3])
    X = X if dtype == np.uint8 else (X / 255).astype(dtype)
    params = {"init": X[:20], "max_iter": 8}
    seen = []
    want = fit(X, 20, NumpyBackend(), progress=seen.append, **params)
    assert sum(record.n_skipped for record in seen) > len(X) / 10  # drift bounds settled rows
    assert_labels(want.labels_, X, want.cluster_centers_, want=float64_nearest(X, want.cluster_centers_))
    for way in WAYS[2:4]:
        assert_same(fit(X, 20, NumpyBackend(**way), **params), want)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_many_near_ties_in_many_features(dtype):
    """Rows in the thousands and features beyond 48, where projections begin, over several iterations."""
    X, C = near_ties(5000, 8, 60, seed=4, dtype=dtype)
    got = fit(X, 8, NumpyBackend(), init=C, max_iter=3)
    assert_same(got, fit(X, 8, NumpyBackend(skip=False, screen=False, project=False), init=C, max_iter=3))
    some = slice(0, 400)
    assert_labels(got.labels_, X, got.cluster_centers_, rows=some)
    if dtype == np.float32:
        assert_labels(got.labels_, X, got.cluster_centers_, want=long_double_nearest(X, got.cluster_centers_))


@pytest.mark.parametrize("n_left", [1, 2])
def test_centers_that_meet_and_part_again(every_backend, n_left):
    """Equal centers are one candidate; when one of them is moved away, no kept bound may hold for it."""
    X = blobs(np.float64, 80, 2)
    rows = every_backend.load(X)
    apart = np.array([[60.0, 60.0], [100.0, 100.0], [150.0, 150.0]])
    together = np.repeat(apart[1:2], 3, axis=0)
    if n_left == 2:
        together[2] = apart[2]
    run = rows.start(apart)
    for centers in (apart, together, apart, together[::-1], apart + 1, apart[::-1], together, apart[::-1]):
        run.set_centers(centers)
        run.assign()
        assert_labels(run.labels(), X, centers)


def test_every_label_is_the_nearest_whatever_the_centers_do(every_backend):
    """Centers set at will between assignments: small steps, jumps, swaps and returns."""
    X = blobs(np.float32, 90, 3)
    local = np.random.default_rng(73)
    centers = X[:5].copy()
    run = every_backend.load(X).start(centers)
    for step in range(25):
        if step % 5 == 4:
            centers = centers[local.permutation(5)]
        elif step % 7 == 6:
            centers = X[local.choice(90, 5)]
        else:
            centers = (centers + local.standard_normal((5, 3)) * 4.0 ** -(step % 6)).astype(np.float32)
        run.set_centers(centers)
        assert sum(run.assign()[1:6]) == 90
        assert_labels(run.labels(), X, centers)
        assert np.array_equal(run.centers(), centers)


def test_kept_sums_are_those_of_the_labels(every_backend):
    """After any number of moves the sums are the plain sums of the rows as they are labelled."""
    X = blobs(np.uint8, 90, 3)
    weight = np.random.default_rng(74).integers(0, 8, 90) / 4.0
    for w in (None, weight):
        run = every_backend.load(X, w).start(X[:5].astype(np.float64))
        for _ in range(6):
            run.assign()
            sums, weights = run.sums()
            values = X.astype(int) if w is None else X * (4 * w[:, None])
            unit = 1 if w is None else Grid.for_rows(X, w).scale / 4
            for j in range(5):
                mine = run.labels() == j
                assert np.array_equal(sums[0, j], values[mine].sum(axis=0) * unit)
            assert weights.shape[1] == 5
            run.update()


def test_precision_fast_keeps_the_contract_and_settles_nothing_exactly(backend):
    """Labels may differ near ties, nothing else: far from ties they are the exact ones."""
    X = np.repeat(np.eye(4) * 100, 20, axis=0) + np.random.default_rng(75).random((80, 4))
    got = fit(X, 4, backend, precision="fast", init=X[::20])
    assert_same(got, fit(X, 4, backend, init=X[::20]))
    X, C = near_ties(100, 6, 9, seed=3)
    seen = []
    fit(X, 6, backend, precision="fast", init=C, max_iter=1, progress=seen.append)
    assert seen[0].n_uncertain > 0
    assert seen[0].n_resolved == seen[0].n_exact == 0
