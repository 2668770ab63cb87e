"""Arrays in, arrays out, for rows on a device: nothing as long as the rows goes between host and device."""

from __future__ import annotations

import pickle
import sys
import warnings
from types import ModuleType

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from gpukmeans import BisectingKMeans, KMeans, MiniBatchKMeans, SphericalKMeans
from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda.backend import CupyBackend
from gpukmeans.backends.cuda.table import CupyDenseTable
from gpukmeans.exact.warp_order import row_square_distances
from gpukmeans.intake.kinds import ArrayKind
from tests.emulator import EmulatorDevice
from tests.emulator.memory import DeviceArray
from tests.emulator.testing import skip_without_compiler
from tests.support import torch_stand_in
from tests.support.quiet_fits import METHODS, fitted
from tests.support.small_fits import equal, rows, same


@pytest.mark.parametrize("estimator", [BisectingKMeans, MiniBatchKMeans, SphericalKMeans])
def test_the_other_estimators_do_the_same(device, tensors, torch, estimator):
    """On a device and on the host; NumPy's bits."""
    X = rows(np.float32)
    want = estimator(3, random_state=0, backend="numpy").fit(X)
    there, on_host = CupyBackend(device), torch.from_numpy(X.copy())
    for given, backend in ((device.upload(X), there), (tensors(device.upload(X)), there), (on_host, "numpy")):
        got = estimator(3, random_state=0, backend=backend).fit(given)
        for result, wanted in (
            (got.labels_, want.labels_),
            (got.cluster_centers_, want.cluster_centers_),
            (got.predict(given), want.predict(X)),
        ):
            assert type(result) is type(given)
            assert equal(result, wanted)
        assert type(got.transform(given)) is type(given)
        assert got.inertia_ == want.inertia_
        again = pickle.loads(pickle.dumps(got.set_params(backend="numpy")))
        assert isinstance(again.cluster_centers_, np.ndarray)
        assert equal(again.predict(X), want.predict(X))


@pytest.mark.parametrize("params", [{}, {"init": "random", "n_init": 3}, {"init": "k-means||"}, {"precision": "fast"}])
def test_arrays_on_a_device_give_arrays_there(device, params):
    X = rows(np.float32)
    there, backend, want = device.upload(X), CupyBackend(device), fitted(X, **params)
    got = fitted(there, backend, **params)
    assert same(got, want)
    assert (got.labels_.dtype, got.cluster_centers_.dtype) == (np.int32, np.float32)
    for result in (got.labels_, got.cluster_centers_, *(getattr(got, method)(there) for method in METHODS)):
        assert type(result) is DeviceArray
        assert result.__dlpack_device__() == there.__dlpack_device__()
    assert (type(got.inertia_), type(got.n_iter_), type(got.score(there))) == (float, int, float)


def test_results_on_another_device_than_the_current_one_come_by_its_stream(tensors):
    """The emulator refuses a copy, and torch's stand-in an array, while another device is current."""
    X, other = rows(np.float32), EmulatorDevice(index=1)
    got = fitted(tensors(other.upload(X)), CupyBackend(other))
    assert same(got, fitted(X))
    assert got.labels_.__dlpack_device__() == (2, 1)


def test_tensors_on_a_device_give_tensors_there(device, tensors):
    X = rows(np.float32)
    there = tensors(device.upload(X), requires_grad=True)
    got = fitted(there, CupyBackend(device), sample_weight=tensors(device.upload(X[:, 0].copy()), requires_grad=True))
    assert same(got, fitted(X, sample_weight=X[:, 0]))
    for result in (got.labels_, got.cluster_centers_, *(getattr(got, method)(there) for method in METHODS)):
        assert type(result) is tensors
        assert result.device.type == "cuda"
    assert ArrayKind.of(tensors(EmulatorDevice(index=1).upload(X))) == ArrayKind("torch", 1)


def test_jax_arrays_on_a_device_give_numpy_arrays(device, monkeypatch):
    class Array(torch_stand_in.Tensor):
        def __array__(self, dtype=None, copy=None):
            return self.inner.get()

    jax = ModuleType("jax")
    jax.Array = Array
    monkeypatch.setitem(sys.modules, "jax", jax)
    there = Array(device.upload(rows()))
    there.cpu = None  # JAX has no such method
    got = fitted(there, CupyBackend(device))
    assert same(got, fitted(rows()))
    assert type(got.labels_) is type(got.cluster_centers_) is type(got.transform(there)) is np.ndarray


def test_models_go_from_device_to_host_and_back(device, tensors):
    X, backend = rows(), CupyBackend(device)
    there, host = fitted(device.upload(X), backend), fitted(X)
    assert type(there.predict(X)) is type(there.transform(X)) is np.ndarray
    assert equal(there.predict(X), host.labels_)
    assert equal(there.transform(X), host.transform(X))
    assert equal(there.set_params(backend="numpy").predict(X), host.labels_)
    host.set_params(backend=backend)
    assert type(host.labels_) is np.ndarray
    for given in (device.upload(X), tensors(device.upload(X))):
        assert type(host.predict(given)) is type(given)
        assert equal(host.predict(given), host.labels_)
        assert host.score(given) == -host.inertia_
    assert type(fitted(X, backend).labels_) is np.ndarray  # rows on the host, computed on the device


def test_results_outlive_what_is_computed_next(device):
    """They are copies: a run's own arrays are used again."""
    X, backend = rows(), CupyBackend(device)
    there = device.upload(X)
    first = fitted(there, backend)
    labels, centers = first.labels_.get(), first.cluster_centers_.get()
    other = first.predict(device.upload(X[::-1].copy()))
    fitted(there, backend, init="random", n_init=3, random_state=1)
    assert equal(first.labels_, labels)
    assert equal(first.cluster_centers_, centers)
    assert equal(other, labels[::-1])
    del first, other
    assert device.bytes_in_use == X.nbytes


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("fit_dtype", [np.float32, np.float64])
def test_transform_on_a_device_is_the_root_of_the_canonical_squares(device, dtype, fit_dtype):
    X, host = rows(dtype, d=37), fitted(rows(fit_dtype, d=37))
    got = host.set_params(backend=CupyBackend(device)).transform(device.upload(X)).get()
    want = np.stack(
        [np.sqrt(row_square_distances(X, slice(None), center.astype(np.float64))) for center in host.cluster_centers_],
        axis=1,
    )
    assert got.dtype == (np.float32 if dtype == fit_dtype == np.float32 else np.float64)
    assert got.dtype == host.transform(X).dtype
    assert np.array_equal(got, want.astype(got.dtype))


def test_long_transforms_take_several_launches(device, monkeypatch):
    """Each must end within the seconds that a display's driver allows."""
    model, there = fitted(rows()).set_params(backend=CupyBackend(device)), device.upload(rows())
    want = model.transform(there).get()
    for terms in (1, 7 * 3 * 4):
        monkeypatch.setattr(tuning, "DISTANCE_TERMS", terms)
        before = device.n_launches
        assert np.array_equal(model.transform(there).get(), want)
        assert device.n_launches - before > 60 * 3 * 4 // max(terms, 12)


def test_transform_refuses_what_fit_refuses(device):
    model = fitted(rows()).set_params(backend=CupyBackend(device))
    bad = rows()
    bad[3, 1] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN"):
        model.transform(device.upload(bad))
    with pytest.raises(ValueError, match="X has 3 features, but KMeans is expecting 4"):
        model.transform(device.upload(rows(d=3)))
    small = EmulatorDevice(memory_limit=40_000)
    model.set_params(backend=CupyBackend(small))
    model.cluster_centers_ = np.zeros((200, 4))
    with pytest.raises(MemoryError, match="has no room for 60 x 200 distances"):
        model.transform(small.upload(rows()))


@pytest.mark.parametrize("n_init", [1, 3])
def test_clusters_without_rows_are_counted_there(device, n_init):
    X = np.repeat(rows(n=2), 10, axis=0)
    model = KMeans(3, backend=CupyBackend(device), random_state=0, n_init=n_init)
    with pytest.warns(ConvergenceWarning, match=r"distinct clusters \(2\) found smaller than n_clusters \(3\)"):
        model.fit(device.upload(X))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.set_params(n_clusters=2).fit(device.upload(X))


def test_data_frames_on_request(device):
    pytest.importorskip("pandas")
    X = rows()
    model = fitted(X).set_params(backend=CupyBackend(device)).set_output(transform="pandas")
    frame, want = model.transform(device.upload(X)), model.transform(X)
    assert list(frame.columns) == list(want.columns) == ["kmeans0", "kmeans1", "kmeans2"]
    np.testing.assert_allclose(frame.to_numpy(), want.to_numpy(), rtol=1e-11)
    assert equal(model.predict(device.upload(X)), model.labels_)


class Counting(EmulatorDevice):
    """Knows the most bytes that went to or from the host at once."""

    most = 0

    def download(self, array):
        self.most = max(self.most, array.nbytes)
        return super().download(array)

    def write(self, array, host):
        self.most = max(self.most, host.nbytes)
        super().write(array, host)


def most_transferred(n, **params):
    skip_without_compiler()
    device = Counting()
    there = device.upload(rows(np.float32, n=n))
    device.most = 0
    model = KMeans(3, backend=CupyBackend(device), random_state=0, max_iter=5, **params).fit(there)
    model.predict(there)
    model.transform(there)
    model.score(there)
    return device.most


@pytest.mark.parametrize("params", [{}, {"init": "random", "n_init": 2}, {"n_init": 2}])
def test_nothing_as_long_as_the_rows_goes_between_host_and_device(params):
    """Not even a byte for each row, by far."""
    assert most_transferred(8192, **params) < 8192


def test_transfers_are_seen(monkeypatch):
    monkeypatch.setattr(
        CupyDenseTable, "labels_for_caller", lambda self, labels: self.device.upload(self.device.download(labels))
    )
    assert most_transferred(8192) == 4 * 8192
