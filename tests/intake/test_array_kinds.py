"""Arrays in, arrays out: results are what the rows were, where the rows were, and to the bits of a NumPy fit."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone

from gpukmeans import KMeans, fit, open_rows
from gpukmeans.arrays.on_device import host_copy
from gpukmeans.backends.cuda.backend import CupyBackend
from gpukmeans.evaluation import cluster_class_counts, evaluate
from tests.emulator import EmulatorDevice
from tests.emulator.memory import DeviceArray
from tests.support import torch_stand_in
from tests.support.quiet_fits import METHODS, fitted
from tests.support.small_fits import equal, rows, same

# ---- on the host -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_torch_tensors_give_torch_tensors(torch, dtype):
    X = rows(dtype)
    given, want = torch.from_numpy(X), fitted(X)
    got = fitted(given)
    assert type(got.labels_) is type(got.cluster_centers_) is torch.Tensor
    assert str(got.labels_.dtype) == "torch.int32"
    assert str(got.cluster_centers_.dtype) == f"torch.{want.cluster_centers_.dtype}"
    assert (type(got.inertia_), type(got.n_iter_)) == (float, int)
    assert same(got, want)
    for method in METHODS:
        result = getattr(got, method)(given)
        assert type(result) is torch.Tensor
        assert equal(result, getattr(want, method)(X))
    assert got.score(given) == want.score(X)


def test_a_model_takes_any_kind_and_answers_in_it(torch):
    X = rows()
    of_numpy, of_torch = fitted(X), fitted(torch.from_numpy(X))
    for method in ("predict", "transform"):
        assert type(getattr(of_numpy, method)(torch.from_numpy(X))) is torch.Tensor
        for given in (X, X.tolist()):
            assert type(getattr(of_torch, method)(given)) is np.ndarray
            assert equal(getattr(of_torch, method)(given), getattr(of_numpy, method)(X))


def test_tensors_on_the_host_are_read_in_place(torch, monkeypatch):
    X = rows(np.float32, n=500)
    seen = []
    real = KMeans._receive
    monkeypatch.setattr(KMeans, "_receive", lambda *args, **kwargs: seen.append(real(*args, **kwargs)) or seen[-1])
    fitted(torch.from_numpy(X))
    (given,) = seen
    assert given.X.ctypes.data == X.ctypes.data


def test_gradients_stay_behind(torch):
    X = rows(np.float32)
    given = torch.from_numpy(X)
    given.requires_grad = True
    got = fitted(given, sample_weight=given.detach().numpy()[:, 0])
    assert same(got, fitted(X, sample_weight=X[:, 0]))
    assert not got.cluster_centers_.requires_grad
    weight = torch.from_numpy(X[:, 0].copy())
    weight.requires_grad = True
    assert same(fitted(given, sample_weight=weight), got)
    assert type(got.transform(given)) is torch.Tensor


def test_tensors_of_other_layouts_and_dtypes():
    torch = pytest.importorskip("torch")
    X = rows(np.float32)
    for given in (torch.from_numpy(X.T.copy()).T, torch.from_numpy(np.repeat(X, 2, axis=0))[::2]):
        assert not given.is_contiguous()
        assert same(fitted(given), fitted(X))
    half = torch.from_numpy(X).half()
    assert same(fitted(half), fitted(half.double().numpy()))
    with pytest.raises(TypeError, match=r"bfloat16 tensor on the host.* X\.double\(\)"):
        fitted(torch.from_numpy(X).bfloat16())
    weight = torch.full((60,), 1.5).bfloat16()
    assert same(fitted(X, sample_weight=weight), fitted(X, sample_weight=np.full(60, 1.5)))
    with pytest.raises(TypeError, match="Sparse"):
        fitted(torch.from_numpy(X).to_sparse())


def test_weights_and_centers_may_be_tensors(torch):
    X, weight = rows(), np.random.default_rng(0).uniform(0.5, 2, 60)
    params = {"init": torch.from_numpy(X[:3].copy()), "sample_weight": torch.from_numpy(weight)}
    want = fitted(X, init=X[:3], sample_weight=weight)
    for given in (X, torch.from_numpy(X)):
        assert same(fitted(given, **params), want)
    clone(KMeans(3, init=params["init"], backend="numpy")).fit(X)


def test_jax_arrays_give_numpy_arrays():
    """float64 centers would lose half their digits there."""
    jax = pytest.importorskip("jax")
    X = rows(np.float32)
    got = fitted(jax.numpy.asarray(X))
    assert type(got.labels_) is type(got.cluster_centers_) is type(got.predict(jax.numpy.asarray(X))) is np.ndarray
    assert same(got, fitted(X))


@pytest.mark.parametrize("dtype", [">f4", ">f8"])
def test_the_other_order_of_bytes_changes_no_bit(dtype):
    X = np.random.default_rng(4).standard_normal((90, 3)).astype(dtype)
    want = fit(X.astype(X.dtype.newbyteorder("=")), 3, random_state=0)
    for given in (X, open_rows(X)):
        got = fit(given, 3, random_state=0)
        assert got.cluster_centers_.dtype == want.cluster_centers_.dtype
        assert np.array_equal(got.cluster_centers_, want.cluster_centers_)
        assert got.inertia_ == want.inertia_


def test_data_frames_and_lists_give_numpy_arrays():
    pandas = pytest.importorskip("pandas")
    X = rows()
    for given in (pandas.DataFrame(X, columns=list("abcd")), X.tolist()):
        got = fitted(given)
        assert type(got.labels_) is type(got.cluster_centers_) is type(got.predict(given)) is np.ndarray
        assert same(got, fitted(X))


def test_array_api_dispatch_changes_nothing():
    """It must be set up before scikit-learn is imported, hence elsewhere."""
    code = """
import sys, warnings
import numpy as np, sklearn
from tests.support import torch_stand_in
try:
    import torch
except ImportError:
    torch = sys.modules["torch"] = torch_stand_in.module()
from gpukmeans import BisectingKMeans, KMeans, MiniBatchKMeans, SphericalKMeans
from tests.support.small_fits import equal, rows, same
X, plain = rows(), KMeans(3, random_state=0, backend="numpy")
want, weight = plain.fit(X, sample_weight=X[:, 0]), X[:, 0].copy()
with sklearn.config_context(array_api_dispatch=True):
    for kind in (np.asarray, torch.from_numpy):
        got = KMeans(3, random_state=0, backend="numpy").fit(kind(X), sample_weight=kind(weight))
        assert same(got, want)
        for method in ("predict", "transform", "score"):
            assert equal(getattr(got, method)(kind(X)), getattr(want, method)(X))
        assert isinstance(got.labels_, type(kind(X)))
"""
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "SCIPY_ARRAY_API": "1", "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, env=environment, timeout=300)


# ---- what lies elsewhere ---------------------------------------------------------------------------------------------


def test_weights_and_centers_lie_on_the_host_or_with_the_rows(device, tensors):
    X, weight = rows(), np.random.default_rng(0).uniform(0.5, 2, 60)
    elsewhere, backend = EmulatorDevice(index=1), CupyBackend(device)
    there, centers = device.upload(X), X[:3].copy()
    want = fitted(X, init=centers, sample_weight=weight)
    for place in (np.asarray, np.ndarray.tolist, device.upload, lambda array: tensors(device.upload(array))):
        assert same(fitted(there, backend, init=place(centers), sample_weight=place(weight)), want)
    for X_given, given, words in (
        (X, device.upload(weight), "lies on CUDA device 0, but X lies on the host. Bring sample_weight to the host"),
        (there, elsewhere.upload(weight), "lies on CUDA device 1, but X lies on CUDA device 0. Bring sample_weight"),
        (there, tensors(elsewhere.upload(weight)), "lies on CUDA device 1, but X lies on CUDA device 0."),
    ):
        with pytest.raises(ValueError, match=f"^sample_weight {words}"):
            fitted(X_given, backend, sample_weight=given)
        with pytest.raises(ValueError, match=f"^sample_weight {words}"):
            want.score(X_given, sample_weight=given)
    with pytest.raises(
        ValueError, match=r"^init lies on CUDA device 0, but X lies on the host\. Bring init to the host"
    ):
        fitted(X, init=device.upload(centers))
    with pytest.raises(ValueError, match=r"^init lies on CUDA device 1, but X lies on CUDA device 0"):
        fitted(there, backend, init=elsewhere.upload(centers))
    model = fitted(there, backend, init=device.upload(centers))
    assert equal(model.predict(X), model.labels_)  # init matters no more
    with pytest.raises(ValueError, match="X lies on CUDA device 1, but this backend computes on CUDA device 0"):
        model.predict(elsewhere.upload(X))


# ---- centers set by hand ---------------------------------------------------------------------------------------------


def test_centers_may_be_set_by_hand_wherever_they_lie(device, tensors):
    X, backend = rows(), CupyBackend(device)
    centers = X[[7, 30, 50]].copy()
    want = KMeans(3, init=centers, n_init=1, max_iter=1, backend="numpy").fit(X)
    want.cluster_centers_ = centers
    model = fitted(X, backend)
    for given in (centers, device.upload(centers), tensors(centers), tensors(device.upload(centers))):
        model.cluster_centers_ = given
        for rows_given in (X, device.upload(X)):
            assert equal(model.predict(rows_given), want.predict(X))
            assert model.score(rows_given) == want.score(X)
    model.cluster_centers_ = there = device.upload(centers)
    device.write(there, centers[::-1].copy())
    assert equal(model.predict(X), 2 - want.predict(X))  # what is written there counts


# ---- copies ----------------------------------------------------------------------------------------------------------


def test_pickles_hold_numpy_arrays(device, torch):
    X = rows()
    want = fitted(X)
    models = [fitted(torch.from_numpy(X)), fitted(X, init=torch.from_numpy(X[:3].copy()))]
    if torch.Tensor is torch_stand_in.Tensor:  # those of torch need CUDA there
        models.append(fitted(torch.Tensor(device.upload(X)), CupyBackend(device)))
    models.append(fitted(device.upload(X), CupyBackend(device), init=device.upload(X[:3].copy())))
    for model in models:
        back = pickle.loads(pickle.dumps(model.set_params(backend="numpy")))
        assert type(back.labels_) is type(back.cluster_centers_) is np.ndarray
        assert isinstance(back.init, (str, np.ndarray))
        assert same(back, model)
        assert equal(back.predict(X), model.labels_)
    assert same(pickle.loads(pickle.dumps(want)), want)


def test_copies_keep_the_kind(device, torch, monkeypatch):
    monkeypatch.setattr(DeviceArray, "__deepcopy__", lambda self, memo: device.upload(self.get()), raising=False)
    X = rows()
    for model in (
        fitted(X),
        fitted(torch.from_numpy(X)),
        fitted(device.upload(X), CupyBackend(device)).set_params(backend="auto"),
    ):
        shallow, deep, new = copy.copy(model), copy.deepcopy(model), clone(model)
        assert shallow.labels_ is model.labels_
        assert shallow.__dict__ is not model.__dict__
        assert type(deep.labels_) is type(model.labels_)
        assert deep.labels_ is not model.labels_
        assert same(deep, model)
        assert new.get_params() == model.get_params()
        assert not hasattr(new, "labels_")


# ---- metrics and pictures --------------------------------------------------------------------------------------------


def test_metrics_and_pictures_take_arrays_of_any_kind(device, torch):
    X, y = rows(), np.arange(60) % 4
    want = fitted(X)
    table = evaluate(want.labels_, X, y)
    places = [torch.from_numpy, device.upload]
    for place in places:
        labels, classes = place(want.labels_.copy()), place(y)
        assert evaluate(labels, place(X.copy()), classes) == table
        counts, names = cluster_class_counts(labels, classes)
        assert counts.tolist() == cluster_class_counts(want.labels_, y)[0].tolist()
        assert names.tolist() == [0, 1, 2, 3]
    pytest.importorskip("matplotlib")
    from gpukmeans.plots import centroid_grid, confusion_heatmap

    counts, _ = cluster_class_counts(want.labels_, y)
    for place in places:
        grid = centroid_grid(place(want.cluster_centers_.copy()), image_shape=(2, 2), sizes=place(np.arange(3)))
        assert len(grid.axes[0].images) == 3
        assert len(confusion_heatmap(place(counts), classes=place(np.arange(4))).axes) == 2


def test_copies_to_the_host_leave_other_things_alone():
    for values in (None, "k-means++", [1, 2], np.zeros(2)):
        assert host_copy(values) is values
