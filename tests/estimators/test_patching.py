"""scikit-learn patched: what is replaced, for whom, and that all of it comes back."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import sklearn.cluster
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.preprocessing import KBinsDiscretizer

import gpukmeans
from gpukmeans.patching import NAMES, patch_sklearn, unpatch_sklearn
from tests.support.small_fits import rows


@pytest.fixture
def patched():
    replaced = patch_sklearn()
    yield replaced
    unpatch_sklearn()


def every_name():
    """All that scikit-learn's loaded modules call by one of these names."""
    modules = [module for name, module in sys.modules.items() if name.startswith("sklearn") and module]
    return {(m.__name__, name): vars(m)[name] for m in modules for name in NAMES if name in vars(m)}


def run(code):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=env)


def test_patched_names_are_ours_and_told(patched):
    for name in NAMES:
        assert getattr(sklearn.cluster, name) is getattr(gpukmeans, name)
        assert f"sklearn.cluster.{name}" in patched
    found = every_name()
    told = {tuple(name.rsplit(".", 1)) for name in patched}
    assert {key for key, value in found.items() if value is getattr(gpukmeans, key[1])} == told
    homes = {"sklearn.cluster._kmeans", "sklearn.cluster._bisect_k_means"}
    assert {module for module, _ in found.keys() - told} <= homes


def test_a_patch_can_be_repeated_and_taken_back():
    before = every_name()
    first = patch_sklearn()
    assert patch_sklearn() == first
    assert unpatch_sklearn() == first
    assert every_name() == before
    assert unpatch_sklearn() == ()
    assert patch_sklearn() == first
    unpatch_sklearn()
    assert every_name() == before


def test_what_somebody_else_put_there_is_left():
    original = sklearn.cluster.KMeans
    patch_sklearn()
    other = sklearn.cluster.KMeans = type("Other", (), {})
    try:
        assert "sklearn.cluster.KMeans" not in unpatch_sklearn()
        assert sklearn.cluster.KMeans is other
    finally:
        sklearn.cluster.KMeans = original


def test_scikit_learns_own_code_uses_ours(patched, monkeypatch):
    fits = []
    fit = gpukmeans.KMeans.fit
    monkeypatch.setattr(gpukmeans.KMeans, "fit", lambda self, *a, **k: fits.append(1) or fit(self, *a, **k))
    KBinsDiscretizer(3, strategy="kmeans", encode="ordinal", random_state=0).fit(rows())
    assert fits


def test_models_pickled_by_scikit_learn_load_as_they_were(patched):
    theirs = SklearnKMeans(3, n_init=1, random_state=0).fit(rows())
    again = pickle.loads(pickle.dumps(theirs))
    assert type(again) is SklearnKMeans
    assert np.array_equal(again.predict(rows()), theirs.predict(rows()))


def test_an_estimator_made_under_a_patch_stays_ours():
    patch_sklearn()
    model = sklearn.cluster.KMeans(3, random_state=0)
    unpatch_sklearn()
    again = pickle.loads(pickle.dumps(model.fit(rows())))
    assert type(again) is gpukmeans.KMeans


def test_a_module_imported_later_gets_ours_one_imported_before_keeps_its_own():
    code = (
        "from sklearn.cluster import KMeans as before; import gpukmeans; gpukmeans.patch_sklearn(); "
        "from sklearn.cluster import KMeans as after; print(before.__module__, after.__module__)"
    )
    assert run(code).stdout.split() == ["sklearn.cluster._kmeans", "gpukmeans.estimators.kmeans"]
