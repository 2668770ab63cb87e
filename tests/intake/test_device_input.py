"""Rows that lie on the device: clustered there, in place, to the bits of the same values on the host."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

import gpukmeans
from gpukmeans import KMeans
from gpukmeans.arrays.on_device import bfloat16_values, on_device
from gpukmeans.backends import BackendUnavailable, get_backend
from gpukmeans.backends.cpu.backend import NumpyBackend
from gpukmeans.backends.cuda.backend import CupyBackend
from gpukmeans.backends.cuda.device.seam import DeviceMemoryError
from gpukmeans.datasets import exact_ties, near_ties
from tests.emulator import EmulatorDevice
from tests.emulator.memory import DeviceArray
from tests.emulator.testing import skip_without_compiler
from tests.support.bfloat16_array import BFloat16Array
from tests.support.small_fits import equal, rows, same

DTYPES = ["uint8", "float16", "bfloat16", "float32", "float64"]


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    skip_without_compiler()


@pytest.fixture
def device():
    return EmulatorDevice()


def on_both(device, X, dtype):
    """Rows of a dtype on the device, and the same values as the host knows them."""
    if dtype == "bfloat16":
        bits = (X.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        return BFloat16Array(device.upload(bits)), bfloat16_values(bits).astype(np.float64)
    X = X.astype(dtype)
    return device.upload(X), X.astype(np.float64) if dtype == "float16" else X


def fitted(X, backend, sample_weight=None, k=4, **params):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return KMeans(k, backend=backend, **{"random_state": 0, **params}).fit(X, sample_weight=sample_weight)


# ---- the same bits ---------------------------------------------------------------------------------------------------


def cases():
    local = np.random.default_rng(3)
    blobs = rows(n=130, d=7)
    uneven = local.uniform(0.1, 3, 130) * (np.arange(130) % 5 != 2)
    ties, tied = exact_ties(130, 4, 9, seed=1)
    near, between = near_ties(130, 4, 9, seed=1)
    return {
        "k-means++": (blobs, None, {}),
        "no tolerance": (blobs, None, {"tol": 0}),
        "weights": (blobs, uneven, {}),
        "random restarts": (blobs, None, {"init": "random", "n_init": 3}),
        "k-means||": (blobs, uneven, {"init": "k-means||"}),
        "a callable": (blobs, None, {"init": lambda X, k, random_state: X[5 : 5 + k]}),
        "exact ties": (ties, None, {"init": tied}),
        "near ties": (near, None, {"init": between, "max_iter": 3}),
        "empty clusters": (blobs, None, {"init": np.concatenate([blobs[:2], np.full((2, 7), 5000.0)])}),
        "precision fast": (blobs, None, {"precision": "fast"}),
    }


CASES = cases()


@pytest.mark.one_in(6)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_a_fit_in_place_ends_in_numpys_bits(device, name, dtype):
    X, weight, params = CASES[name]
    there, here = on_both(device, X, dtype)
    got, want = fitted(there, CupyBackend(device), weight, **params), fitted(here, "numpy", weight, **params)
    assert same(got, want)
    assert got.cluster_centers_.dtype == want.cluster_centers_.dtype
    assert got.labels_.dtype == np.int32
    assert type(got.labels_) is type(got.cluster_centers_) is DeviceArray
    assert got.n_features_in_ == X.shape[1]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_method_takes_rows_on_the_device(device, dtype):
    there, here = on_both(device, rows(n=90), dtype)
    weight = np.random.default_rng(0).uniform(0.5, 2, 90)
    model, host = fitted(there, CupyBackend(device)), fitted(here, "numpy")
    assert equal(model.predict(there), host.predict(here))
    assert equal(model.fit_predict(there), model.labels_)
    assert model.score(there) == host.score(here) == -model.inertia_
    assert model.score(there, sample_weight=weight) == host.score(here, sample_weight=weight)
    accuracy = {"rtol": 1e-4, "atol": 1e-3} if dtype == "float32" else {"rtol": 1e-11}  # that of scikit-learn's
    np.testing.assert_allclose(model.transform(there).get(), host.transform(here), **accuracy)
    assert equal(model.fit_transform(there), model.transform(there))
    assert same(gpukmeans.fit(there, 4, backend=CupyBackend(device), random_state=0), host)


def test_float32_rows_meet_centers_in_float64(device):
    """Converted on the device, so that the centers are not rounded."""
    X = rows()
    model = fitted(X, CupyBackend(device))
    host = fitted(X, "numpy")
    narrow = X.astype(np.float32)
    assert equal(model.predict(device.upload(narrow)), host.predict(narrow))
    assert model.score(device.upload(narrow)) == host.score(narrow)


def test_weights_and_centers_may_lie_on_the_device(device):
    X, weight, centers = rows(), np.random.default_rng(1).uniform(0.5, 2, 60), rows()[:4]
    want = fitted(X, "numpy", weight, init=centers)
    backend = CupyBackend(device)
    for place in (lambda array: array, device.upload):
        got = fitted(device.upload(X), backend, place(weight), init=place(centers))
        assert same(got, want)
        assert got.score(device.upload(X), sample_weight=place(weight)) == want.score(X, sample_weight=weight)
    moved = fitted(
        device.upload(X), backend, init=lambda X, k, random_state: device.upload(np.ascontiguousarray(X[:k]))
    )
    assert same(moved, fitted(X, "numpy", init=lambda X, k, random_state: X[:k]))


# ---- in place --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_are_neither_copied_nor_brought_to_the_host(device, dtype, monkeypatch):
    there, _ = on_both(device, rows(n=600, d=300), dtype)
    nbytes = getattr(there, "bits", there).nbytes
    before, downloads, copy = device.bytes_in_use, [], device.download
    monkeypatch.setattr(device, "download", lambda array: downloads.append(array.nbytes) or copy(array))
    device.peak_bytes = 0
    fitted(there, CupyBackend(device))
    assert device.peak_bytes - before < nbytes
    assert max(downloads) < nbytes
    assert device.bytes_in_use == before


def test_rows_outlive_the_callers_name_for_them(device):
    X = rows(np.float32)
    there = device.upload(X)
    loaded = CupyBackend(device).load(on_device(there))
    assert loaded.table.X.address == there.address
    plain = loaded.unweighted()
    del there, loaded
    assert np.array_equal(plain.take(np.arange(60)), X)
    del plain
    assert device.bytes_in_use == 0


# ---- what is not accepted --------------------------------------------------------------------------------------------


def bad_rows():
    X = rows()
    yield X[0], r"Expected 2D array, got 1D array instead: X has shape \(4,\)"
    yield np.zeros((2, 3, 4)), r"Found array with dim 3, .* pass X.reshape\(len\(X\), -1\)"
    yield (
        np.zeros((0, 4)),
        r"Found array with 0 sample\(s\) \(shape=\(0, 4\)\) while .* required by KMeans",
    )
    yield np.zeros((4, 0)), r"Found array with 0 feature\(s\)"
    for dtype in (np.float16, np.float32, np.float64):
        for value, words in (
            (np.nan, r"NaN\.\nk-means does not accept missing values"),
            (-np.inf, "infinity or a value too large for dtype"),
        ):
            bad = X.astype(dtype)
            bad[41, 2] = value
            yield bad, f"^Input X contains {words}"
    bad = X.copy()
    bad[3, 1] = -1e200
    yield bad, r"X has values up to 1e\+200 in magnitude"


@pytest.mark.parametrize(("X", "words"), list(bad_rows()))
@pytest.mark.parametrize("method", ["fit", "predict", "score"])
def test_bad_rows_get_a_clear_error_and_change_nothing(device, method, X, words):
    model = fitted(rows(), CupyBackend(device))
    before = vars(model).copy()
    with pytest.raises(ValueError, match=words):
        getattr(model, method)(device.upload(X))
    assert vars(model) == before


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_bfloat16_rows_must_be_finite_too(device, value):
    X = rows()
    X[7, 3] = value
    there, _ = on_both(device, X, "bfloat16")
    with pytest.raises(ValueError, match="contains NaN" if np.isnan(value) else "too large for 'bfloat16'"):
        fitted(there, CupyBackend(device))


def test_words_for_other_mistakes(device):
    X = rows()
    backend = CupyBackend(device)
    model = fitted(X, backend)
    with pytest.raises(TypeError, match="Rows of dtype int32 on a device cannot be read; uint8, float16, bfloat16"):
        fitted(device.upload(X.astype(np.int32)), backend)
    with pytest.raises(ValueError, match="X has 3 features, but KMeans is expecting 4 features as input"):
        model.predict(device.upload(X[:, :3].copy()))
    with pytest.raises(ValueError, match="n_samples=3 should be >= n_clusters=4"):
        fitted(device.upload(X[:3]), backend)
    with pytest.raises(ValueError, match=r"sample_weight.shape == \(59,\), expected \(60,\)"):
        fitted(device.upload(X), backend, device.upload(np.ones(59)))
    with pytest.raises(ValueError, match=r"initial centers \(4, 3\) does not match the number of features"):
        fitted(device.upload(X), backend, init=device.upload(X[:4, :3].copy()))


def test_rows_must_lie_where_the_backend_computes(device):
    X = EmulatorDevice(index=1).upload(rows())
    with pytest.raises(ValueError, match="X lies on CUDA device 1, but this backend computes on CUDA device 0: pass"):
        fitted(X, CupyBackend(device))
    assert same(fitted(X, CupyBackend(EmulatorDevice(index=1))), fitted(rows(), "numpy"))
    for backend in ("numpy", NumpyBackend()):
        with pytest.raises(ValueError, match="X lies on CUDA device 1, and backend='numpy' computes on the host"):
            fitted(X, backend)
    with pytest.raises(ValueError, match="X lies on CUDA device 1, and backend='numpy'"):
        fitted(rows(), "numpy").predict(X)


def test_without_cupy_rows_on_a_device_are_out_of_reach(device, monkeypatch):
    from gpukmeans.backends.cuda.device import probe

    monkeypatch.setattr(probe, "probe", lambda: probe.Probe(False, "CuPy is not installed."))
    for backend in ("auto", "cupy"):
        with pytest.raises(BackendUnavailable, match="device 0, where only CuPy computes, but CuPy is not installed"):
            fitted(device.upload(rows()), backend)
    assert get_backend("auto").name == "numpy"  # for rows on the host


def test_memory_that_ends_is_explained(device):
    X = rows(np.float32, n=5000, d=4)
    small = EmulatorDevice(memory_limit=X.nbytes + 10_000)
    there = small.upload(X)
    with pytest.raises(DeviceMemoryError, match="has no room for what is kept of 5000 rows of 4 float32 features"):
        fitted(there, CupyBackend(small))
    model = fitted(rows(), "numpy").set_params(backend=CupyBackend(small))
    with pytest.raises(DeviceMemoryError, match=r"has no room for 5000 rows of 4 float64 features: 0\.2 MiB wanted"):
        model.predict(there)
    assert small.bytes_in_use == X.nbytes


def test_a_bfloat16_tensor_on_the_host_gets_advice():
    class Tensor:
        class dtype:
            def __str__(self):
                return "torch.bfloat16"

        dtype = dtype()

        def __dlpack_device__(self):
            return 1, 0

    with pytest.raises(TypeError, match=r"bfloat16 tensor on the host.* X\.double\(\)"):
        KMeans(3).fit(Tensor())


def test_feature_names_are_minded(device):
    pandas = pytest.importorskip("pandas")
    model = KMeans(3, backend=CupyBackend(device), random_state=0).fit(pandas.DataFrame(rows(), columns=list("abcd")))
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        model.predict(device.upload(rows()))
    assert not hasattr(model.fit(device.upload(rows())), "feature_names_in_")


# ---- what lies where -------------------------------------------------------------------------------------------------


def test_what_lies_on_the_host_is_left_to_numpy(device):
    class Elsewhere:
        def __init__(self, kind):
            self.kind = kind

        def __dlpack_device__(self):
            return self.kind, 0

    for X in (rows(), rows().tolist(), [[1, 2]], None, "rows", Elsewhere(1), Elsewhere(3), Elsewhere(10)):
        assert on_device(X) is None
    found = on_device(device.upload(rows()))
    assert (found.shape, found.dtype, found.device) == ((60, 4), np.float64, 0)
    assert np.array_equal(found.on_host(), rows())
