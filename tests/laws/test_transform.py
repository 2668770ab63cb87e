"""`transform`: right to rounding wherever the rows lie, and its nearest center is the label of `predict`."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy import sparse

from gpukmeans import KMeans, MiniBatchKMeans, SphericalKMeans
from gpukmeans.backends.cuda.backend import CupyBackend
from gpukmeans.certificates.rounding import UNIT64, gamma
from tests.emulator import EmulatorDevice
from tests.emulator.testing import skip_without_compiler
from tests.support.oracles import square_distances


def times():
    """Seconds since 1970, half a minute each on two occasions."""
    return 1.7e9 + np.r_[np.arange(30.0), 5000 + np.arange(30.0)][:, None]


def lattice(step=1.0, n=7):
    return step * np.stack(np.meshgrid(np.arange(n), np.arange(n)), axis=-1).reshape(-1, 2)


def tables():
    local = np.random.default_rng(0)
    yield "times", times(), times()[[3, 3, 9, 40, 44]] + 0.25
    yield "lattice", lattice(), lattice()[[8, 10, 8, 24, 22, 40]]  # rows halfway between centers, and equal centers
    yield "lattice in steps of 0.1", lattice(0.1), lattice(0.1)[[8, 10, 24, 22, 40]]
    yield "far lattice", 2.0**40 + lattice(), 2.0**40 + lattice()[[8, 10, 24, 22]]
    yield "mirrored", np.outer([1.0, -1.0, 0.0, 0.3, -0.3], np.ones(9)), np.outer([1.0, -1.0, 0.1], np.ones(9))
    X = local.normal(size=(80, 12))
    yield "normal", X, X[:6]
    near = X[:6] + 1e-9 * local.normal(size=(6, 12))
    yield "nearly equal centers", X, np.r_[X[:3], near]
    yield "one center", X, X[:1]
    yield "tight clusters apart", 1e5 * local.integers(0, 9, (80, 1)) + X, 1e5 * np.arange(9)[:, None] + X[:9]


CASES = {name: (X, C) for name, X, C in tables()}
FORMS = ["float64", "float32", "uint8", "csr", "csr32"]


def given(name, form):
    X, C = CASES[name]
    if form == "uint8":
        X, C = X % 251, C % 251
    X = X.astype({"csr": "float64", "csr32": "float32"}.get(form, form))
    C = C.astype(np.float32 if X.dtype == np.float32 else np.float64)
    return (sparse.csr_array(X) if form.startswith("csr") else X), X, C


def model(C, cls=KMeans, backend="numpy"):
    fitted = cls(len(C), backend=backend)
    fitted.cluster_centers_ = C
    return fitted


def assert_right(distances, X, C, relative):
    """Each within its bound of the real one, and the first of the lowest is the first of the nearest."""
    squares, unit = square_distances(X, C)
    for row, distance in zip(squares, distances, strict=True):
        for square, found in zip(row, distance.tolist(), strict=True):
            true = Fraction(square) * unit
            assert abs(Fraction(found) ** 2 - true) <= Fraction(relative) * true
    nearest = [min(range(len(C)), key=row.__getitem__) for row in squares]
    assert distances.argmin(axis=1).tolist() == nearest


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CASES)
def test_distances_are_right_and_agree_with_predict(name, form):
    """Ten of 53 bits may cancel before differences are taken; a float32 is rounded, and may move by a unit."""
    rows, X, C = given(name, form)
    for cls in (KMeans, MiniBatchKMeans):
        fitted = model(C, cls)
        distances = fitted.transform(rows)
        assert distances.dtype == C.dtype
        assert np.array_equal(distances.argmin(axis=1), fitted.predict(rows))
    rounding = 2.0**-21 if C.dtype == np.float32 else 0.0
    assert_right(distances, X, C, 2.0**13 * gamma(X.shape[1] + 16, UNIT64) + rounding)


@pytest.mark.parametrize("form", ["float64", "float32", "uint8"])
@pytest.mark.parametrize("name", CASES)
def test_rows_on_a_device_agree_with_predict(name, form):
    skip_without_compiler()
    device = EmulatorDevice()
    _, X, C = given(name, form)
    fitted = model(C, backend=CupyBackend(device))
    there = device.upload(np.ascontiguousarray(X))
    distances = fitted.transform(there).get()
    assert distances.dtype == C.dtype
    assert np.array_equal(distances.argmin(axis=1), fitted.predict(there).get())
    rounding = 2.0**-21 if C.dtype == np.float32 else 0.0
    assert_right(distances, X, C, gamma(X.shape[1] + 16, UNIT64) + rounding)


@pytest.mark.parametrize("form", ["float64", "float32", "csr", "csr32"])
def test_float32_rows_and_wide_centers_the_other_way_round(form):
    for name in ("times", "normal", "lattice in steps of 0.1"):
        rows, _, C = given(name, form)
        C = C.astype(np.float32 if C.dtype == np.float64 else np.float64)
        fitted = model(C)
        distances = fitted.transform(rows)
        assert distances.dtype == np.float64
        assert np.array_equal(distances.argmin(axis=1), fitted.predict(rows))


def test_unix_times():
    fitted = KMeans(10, random_state=0, backend="numpy").fit(times())
    distances = fitted.transform(times())
    assert np.array_equal(distances, np.abs(times() - fitted.cluster_centers_.T))
    assert np.array_equal(distances.argmin(axis=1), fitted.labels_)
    assert (distances.min(axis=1) ** 2).sum() == fitted.inertia_


@pytest.mark.one_in(3)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_hundreds_of_tiny_problems_agree_with_predict(seed):
    local = np.random.default_rng(seed)
    for _ in range(500):
        n, d, k = local.integers(1, 12), local.integers(1, 5), local.integers(1, 7)
        step = local.choice([1.0, 0.1, 1e-3, 1e6, 2.0**-300])
        X = (step * local.integers(-4, 5, (n, d)) + local.choice([0.0, 1e9 * step])).astype(local.choice(["f4", "f8"]))
        C = (step * local.integers(-4, 5, (k, d)) + local.choice([0.0, 1e9 * step])).astype(X.dtype)
        fitted = model(C)
        for rows in (X, sparse.csr_array(X)):
            assert np.array_equal(fitted.transform(rows).argmin(axis=1), fitted.predict(rows)), (X, C)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
@pytest.mark.parametrize("as_csr", [False, True])
def test_angles_agree_with_predict_and_keep_small_ones(dtype, as_csr):
    local = np.random.default_rng(2)
    X = local.integers(0, 4, (120, 4)).astype(dtype)  # many equal directions, and zeros
    rows = sparse.csr_array(X.astype(np.float32 if dtype == np.uint8 else dtype)) if as_csr else X
    fitted = SphericalKMeans(6, random_state=0, backend="numpy").fit(rows)
    distances = fitted.transform(rows)
    assert np.array_equal(distances.argmin(axis=1), fitted.labels_)
    assert (distances[~X.any(axis=1)] == 1.0).all()
    assert distances.min() >= 0.0
    assert distances.max() <= 2.0


def test_small_angles_keep_their_digits():
    angles = np.array([0.0, 1e-9, 1e-7, 1e-5])
    fitted = SphericalKMeans(1, backend="numpy")
    fitted.cluster_centers_ = np.array([[1.0, 0.0]])
    found = fitted.transform(np.stack([np.cos(angles), np.sin(angles)], axis=1)).ravel()
    np.testing.assert_allclose(found, angles**2 / 2, rtol=1e-10)
    fitted.cluster_centers_ = np.array([[7.0, 0.0], [0.0, -0.5]])  # set by hand: of any length
    np.testing.assert_allclose(fitted.transform([[3.0, 0.0], [0.0, 2.0]]), [[0.0, 1.0], [1.0, 2.0]], rtol=1e-15)
    assert fitted.predict([[3.0, 0.0], [0.0, -2.0]]).tolist() == [0, 1]
    fitted.cluster_centers_ = np.array([[7.0, 0.0], [0.0, 0.0]])
    with pytest.raises(ValueError, match="Row 1 of cluster_centers_ is zero, which is no direction"):
        fitted.transform([[3.0, 0.0]])


def test_several_blocks_and_threads_give_the_same(monkeypatch):
    from gpukmeans.backends.cpu import distances as module

    local = np.random.default_rng(3)
    X = np.round(local.normal(size=(5000, 3)), 1)
    for rows in (X, sparse.csr_array(X), X.astype(np.float32)):
        fitted = model(X[:9].astype(rows.dtype))
        want = fitted.transform(rows)
        monkeypatch.setattr(module, "rows_in_block", lambda *_: 37)
        monkeypatch.setattr(module, "LEAST", 1)
        got = fitted.transform(rows)
        monkeypatch.undo()
        np.testing.assert_allclose(got, want, rtol=1e-6 if rows.dtype == np.float32 else 1e-12)
        assert np.array_equal(got.argmin(axis=1), want.argmin(axis=1))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rows_that_are_not_finite_are_refused(value):
    X = np.ones((50, 3), np.float32)
    X[7, 1] = value
    with pytest.raises(ValueError, match="Input X contains"):
        model(np.eye(3, dtype=np.float32)).transform(X)
