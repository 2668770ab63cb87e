"""Every warning names the line of the caller's own code, by whatever public way the fit was called.

Python shows a warning once for each line: if a warning named a line of the package, only the first of two calls would
show it.
"""

from __future__ import annotations

import ast
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import gpukmeans
from gpukmeans import BisectingKMeans, KMeans, MiniBatchKMeans, SphericalKMeans
from gpukmeans.callers import PASSED_THROUGH, warn_caller

X = np.repeat([[0.0, 1.0], [1.0, 1.0]], 5, axis=0)
CENTERS = np.array([[0.0, 1.0], [1.0, 1.0]])
FEW = {"n_clusters": 3, "random_state": 0, "backend": "numpy"}


class Derived(KMeans):
    """A subclass with a method of its own."""

    def fit(self, X, y=None, sample_weight=None):
        return super().fit(X, sample_weight=sample_weight)


#: How a fit may be called; each takes an estimator.
WAYS = {
    "fit": lambda model: model.fit(X),
    "fit_predict": lambda model: model.fit_predict(X),
    "fit_transform": lambda model: model.fit_transform(X),
    "set_params.fit": lambda model: clone(model).set_params().fit(X),
    "Pipeline.fit": lambda model: make_pipeline(StandardScaler(), model).fit(X),
    "Pipeline.fit_predict": lambda model: make_pipeline(StandardScaler(), model).fit_predict(X),
    "Pipeline.fit_transform": lambda model: make_pipeline(StandardScaler(), model).fit_transform(X),
}

#: What an estimator may warn of: (estimator, category, words of the message).
KINDS = {
    "distinct clusters": (KMeans(**FEW), ConvergenceWarning, "Number of distinct clusters"),
    "distinct clusters, subclass": (Derived(**FEW), ConvergenceWarning, "Number of distinct clusters"),
    "n_init": (KMeans(2, init=CENTERS, n_init=3, backend="numpy"), RuntimeWarning, "performing only one init"),
    "elkan": (KMeans(1, algorithm="elkan", backend="numpy"), RuntimeWarning, "algorithm='elkan'"),
    "bisecting": (BisectingKMeans(**FEW), ConvergenceWarning, "clusters have rows"),
    "minibatch n_init": (MiniBatchKMeans(2, init=CENTERS, n_init=3, backend="numpy"), RuntimeWarning, "only one init"),
    "minibatch init_size": (MiniBatchKMeans(2, init_size=1, backend="numpy"), RuntimeWarning, "init_size=1"),
    "spherical": (SphericalKMeans(**FEW), ConvergenceWarning, "Number of distinct clusters"),
    "spherical n_init": (SphericalKMeans(2, init=CENTERS, n_init=3, backend="numpy"), RuntimeWarning, "only one init"),
}

#: Functions, and methods that only one estimator has.
CALLS = {
    "gpukmeans.fit": (lambda: gpukmeans.fit(X, 3, random_state=0, backend="numpy"), ConvergenceWarning),
    "k_means": (lambda: gpukmeans.k_means(X, 3, random_state=0, backend="numpy"), ConvergenceWarning),
    "fit_many": (lambda: gpukmeans.fit_many([X], 3, random_state=0, backend="numpy"), ConvergenceWarning),
    "k_means n_init": (lambda: gpukmeans.k_means(X, 2, init=CENTERS, n_init=2, backend="numpy"), RuntimeWarning),
    "fit_many elkan": (lambda: gpukmeans.fit_many([X], 1, algorithm="elkan", backend="numpy"), RuntimeWarning),
    "partial_fit": (lambda: MiniBatchKMeans(2, init_size=1, backend="numpy").partial_fit(X), RuntimeWarning),
}


def places(call):
    """(file, line, category, message) of the warnings of a call."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [(each.filename, each.lineno, each.category, str(each.message)) for each in caught]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS)
def test_a_warning_of_a_fit_names_the_callers_line(way, kind):
    model, category, words = KINDS[kind]
    call = WAYS[way]
    found = [place for place in places(lambda: call(model)) if words in place[3]]
    assert found, "the fit warns"
    # A subclass is the caller of the method that it overrides.
    lines = {call.__code__.co_firstlineno, Derived.fit.__code__.co_firstlineno + 1 if "subclass" in kind else 0}
    for filename, line, got, _ in found:
        assert filename == __file__
        assert line in lines
        assert got is category


@pytest.mark.parametrize("name", CALLS)
def test_a_warning_of_a_function_names_the_callers_line(name):
    call, category = CALLS[name]
    found = [place for place in places(call) if place[2] is category]
    assert found
    assert {place[:2] for place in found} == {(__file__, call.__code__.co_firstlineno)}


def test_problems_fitted_together_warn_at_the_callers_line(cuda_backend):
    stack = np.stack([X, X])
    found = places(lambda: gpukmeans.fit_many(stack, 3, random_state=0, backend=cuda_backend))
    assert [place[2] for place in found] == [ConvergenceWarning] * 2
    assert {place[0] for place in found} == {__file__}


def test_each_of_two_lines_is_warned_of():
    """With Python's default filter, by which one place in the package would hide the second line."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        KMeans(**FEW).fit_predict(X)
        KMeans(**FEW).fit_predict(X)
    assert [warning.lineno - caught[0].lineno for warning in caught] == [0, 1]


def test_a_filter_by_the_callers_module_applies():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", module=__name__.replace(".", r"\."))
        KMeans(**FEW).fit(X)
    assert not caught


def test_a_warning_that_is_an_error_leaves_the_estimator_as_it_was():
    model = KMeans(**FEW)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ConvergenceWarning):
            model.fit(X)
    assert not hasattr(model, "cluster_centers_")


def test_without_a_caller_on_the_stack_the_outermost_line_is_named():
    """Code whose every frame belongs to the package, as in `python -m gpukmeans`."""
    scope = {"__name__": PASSED_THROUGH[0] + ".somewhere", "warn_caller": warn_caller, "places": places}
    found = []
    exec(compile("def call():\n    warn_caller('here', UserWarning)\n", "<package>", "exec"), scope)
    found = places(scope["call"])
    assert found[0][0] == __file__  # of `places`, the first frame outside


def test_only_one_module_issues_warnings():
    """All others call `warn_caller`, which needs no number of frames."""
    package = Path(gpukmeans.__file__).parent
    wrong = []
    for path in sorted(package.rglob("*.py")):
        if path.name == "callers.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg in ("stacklevel", "skip_file_prefixes"):
                wrong.append((path.name, node.lineno))
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("warnings.warn", "warnings.warn_explicit"):
                wrong.append((path.name, node.lineno))
    assert wrong == []
