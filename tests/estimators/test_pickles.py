"""Pickled models: equal fits have equal bytes, no time and no step adds to them, and all types in them are public."""

from __future__ import annotations

import io
import math
import pickle
import time

import numpy as np
import pytest

import gpukmeans
from gpukmeans import BisectingKMeans, KMeans, MiniBatchKMeans, SphericalKMeans
from gpukmeans.backends import NumpyBackend
from tests.support.small_fits import rows

ESTIMATORS = [KMeans, MiniBatchKMeans, BisectingKMeans, SphericalKMeans]


@pytest.fixture(params=ESTIMATORS)
def fitted(request):
    """A function that fits one class, always alike."""

    def fit(**params):
        return request.param(4, random_state=0, backend="numpy", **params).fit(rows())

    return fit


def test_equal_fits_have_equal_pickles(fitted, monkeypatch):
    first = pickle.dumps(fitted())
    clock = time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: 3.0 * clock())  # all that is timed takes another time
    second = fitted()
    assert pickle.dumps(second) == first
    report = getattr(second, "fit_report_", None)
    assert report is None or sum(report.stages.values()) > 0.0


def test_batches_that_are_equal_have_equal_pickles():
    a, b = (MiniBatchKMeans(3, random_state=0, backend="numpy") for _ in range(2))
    for part in (slice(0, 30), slice(30, None)):
        assert pickle.dumps(a.partial_fit(rows()[part])) == pickle.dumps(b.partial_fit(rows()[part]))


def test_problems_fitted_together_have_equal_pickles():
    X = np.stack([rows()[:30], rows()[:30]])
    first, second = gpukmeans.fit_many(X, 3, random_state=0, backend="numpy")
    assert pickle.dumps(first) == pickle.dumps(second)


def test_a_model_read_back_is_the_model_without_its_times(fitted):
    model = fitted()
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.labels_, model.labels_)
    assert np.array_equal(again.predict(rows()), model.predict(rows()))
    assert vars(again).keys() == vars(model).keys()
    assert pickle.dumps(pickle.loads(pickle.dumps(again))) == pickle.dumps(again)
    if not hasattr(model, "fit_report_"):
        return
    counted = ("n_moved", "n_skipped", "n_certified", "n_resolved", "n_exact", "n_uncertain", "n_relocated")
    ours, theirs = model.fit_report_, again.fit_report_
    for name in counted:
        assert sum(getattr(i, name) for i in ours.iterations) == sum(getattr(i, name) for i in theirs.iterations)
    assert theirs.backend == ours.backend
    assert list(theirs.stages) == list(ours.stages)
    assert all(math.isnan(value) for value in theirs.stages.values())
    assert all(math.isnan(record.seconds) and not record.stages for record in theirs.iterations)
    assert " -, " in str(theirs) or str(theirs).count(" -") == len(theirs.stages)
    assert " -" not in str(ours)
    assert str(theirs).splitlines()[-1].split(":")[1] == str(ours).splitlines()[-1].split(":")[1]


@pytest.mark.parametrize("cls", [KMeans, SphericalKMeans])
def test_iterations_are_kept_one_by_one(cls):
    model = cls(4, random_state=0, backend="numpy", n_init=2, callback=lambda *_: False).fit(rows())
    again = pickle.loads(pickle.dumps(model.set_params(callback=None)))
    want = [(i.init, i.iteration, i.n_moved, i.shift, i.inertia) for i in model.fit_report_.iterations]
    assert [(i.init, i.iteration, i.n_moved, i.shift, i.inertia) for i in again.fit_report_.iterations] == want
    plain = cls(4, random_state=0, backend="numpy").fit(rows())
    assert pickle.loads(pickle.dumps(plain)).fit_report_.iterations[0].inertia is None


def test_steps_of_batches_do_not_add_to_the_size():
    X = np.random.default_rng(0).uniform(size=(3000, 2))
    sizes = []
    for max_iter in (1, 20):
        model = MiniBatchKMeans(
            8, batch_size=16, max_iter=max_iter, max_no_improvement=None, compute_labels=False, random_state=0
        ).fit(X)
        sizes.append(len(pickle.dumps(model)))
        (record,) = pickle.loads(pickle.dumps(model)).fit_report_.iterations
        assert record.iteration == model.n_steps_
        assert record.n_moved == 16 * model.n_steps_
    assert abs(sizes[1] - sizes[0]) < 100
    assert max(sizes) < 4000


def globals_of(model):
    """All that a pickle imports."""
    found = set()

    class Reader(pickle.Unpickler):
        def find_class(self, module, name):
            found.add(f"{module}.{name}")
            return super().find_class(module, name)

    Reader(io.BytesIO(pickle.dumps(model))).load()
    return found


def test_a_pickle_names_the_class_and_numpy_only(fitted):
    model = fitted()
    assert globals_of(model) - {f"{type(model).__module__}.{type(model).__qualname__}"} <= {
        "numpy._core.multiarray._reconstruct",
        "numpy._core.multiarray.scalar",
        "numpy.dtype",
        "numpy.ndarray",
    }


def test_a_backend_with_switches_is_pickled_by_them():
    backend = NumpyBackend(skip=False)
    model = KMeans(3, random_state=0, backend=backend).fit(rows())
    again = pickle.loads(pickle.dumps(model))
    assert again.backend.switches == backend.switches
    assert {name for name in globals_of(model) if name.startswith("gpukmeans")} == {
        "gpukmeans.estimators.kmeans.KMeans",
        "gpukmeans.backends.cpu.backend.NumpyBackend",
    }


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_skops_trusts_all_but_the_class(cls):
    """A file of skops is read without `trusted` but for the estimator, a public class, by its name."""
    skops = pytest.importorskip("skops.io")
    model = cls(4, random_state=np.random.RandomState(0), backend="numpy").fit(rows())
    if cls is MiniBatchKMeans:
        model.partial_fit(rows())
    written = skops.dumps(model)
    types = skops.get_untrusted_types(data=written)
    assert types == [f"{cls.__module__}.{cls.__name__}"]
    again = skops.loads(written, trusted=types)
    assert np.array_equal(again.predict(rows()), model.predict(rows()))
    assert again.transform(rows()).tobytes() == model.transform(rows()).tobytes()
