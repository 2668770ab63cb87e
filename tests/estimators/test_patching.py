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


def run(code, *arguments, **options):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    command = [sys.executable, *(["-c", code] if code else []), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=env, **options)


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


# ---- python -m gpukmeans script.py -----------------------------------------------------------------------------------

SCRIPT = """
import sys
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from neighbour import K

if __name__ == "__main__":
    model = KMeans(K, random_state=0, n_init=1).fit(load_iris().data)
    print(type(model).__module__, len(model.cluster_centers_), sys.argv[1:], __file__)
    sys.exit(int(sys.argv[-1]))
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "their script.py"
    path.write_text(SCRIPT)
    (tmp_path / "neighbour.py").write_text("K = 4\n")
    return path


def test_a_script_runs_as_under_python_with_ours(script):
    result = run(None, "-m", "gpukmeans", str(script), "--flag", "mnist", "7")
    assert result.returncode == 7
    assert result.stdout.strip() == f"gpukmeans.estimators.kmeans 4 ['--flag', 'mnist', '7'] {script}"
    assert result.stderr.startswith("gpukmeans: in place of scikit-learn's: sklearn.cluster")
    assert len(result.stderr.splitlines()) == 1


def test_a_module_runs_too(script):
    script.rename(script.with_name("theirs.py"))
    result = run(None, "-m", "gpukmeans", "-m", "theirs", "0", cwd=script.parent)
    assert result.returncode == 0
    assert result.stdout.split()[:2] == ["gpukmeans.estimators.kmeans", "4"]


def test_an_error_in_a_script_is_its_own_traceback(tmp_path):
    path = tmp_path / "fails.py"
    path.write_text("def inner():\n    raise LookupError('theirs')\ninner()\n")
    result = run(None, "-m", "gpukmeans", str(path))
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == "LookupError: theirs"
    assert f'File "{path}", line 2, in inner' in result.stderr


def test_a_missing_script_or_module_is_said_so(tmp_path):
    missing = run(None, "-m", "gpukmeans", str(tmp_path / "none.py"))
    assert missing.returncode == 2
    assert missing.stderr == f"gpukmeans: error: there is no script {str(tmp_path / 'none.py')!r} to run\n"
    nameless = run(None, "-m", "gpukmeans", "-m")
    assert nameless.returncode == 2
    assert "-m needs the name of a module" in nameless.stderr


def test_commands_still_are_commands():
    result = run(None, "-m", "gpukmeans", "info", "--json")
    assert result.returncode == 0
    assert '"backends"' in result.stdout
