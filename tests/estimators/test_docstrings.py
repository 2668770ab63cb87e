"""Every public class and function explains each parameter, attribute and result, and names its relatives."""

from __future__ import annotations

import inspect
import re
import warnings

import numpy as np
import pytest

import gpukmeans
from gpukmeans import BisectingKMeans, KMeans, MiniBatchKMeans, SphericalKMeans
from gpukmeans.engine.records import FitReport, Iteration

ESTIMATORS = [KMeans, MiniBatchKMeans, BisectingKMeans, SphericalKMeans]
RECORDS = [FitReport, Iteration]
FUNCTIONS = [gpukmeans.fit, gpukmeans.fit_many, gpukmeans.k_means, gpukmeans.kmeans_plusplus, gpukmeans.read_table]


def section(documented, title):
    """The text below a heading of a docstring, or an empty one."""
    text = inspect.getdoc(documented) or ""
    found = re.search(rf"^{title}\n-+\n(.*?)(?=^\S[^\n]*\n-{{3,}}\n|\Z)", text, re.DOTALL | re.MULTILINE)
    return found.group(1) if found else ""


def explained(documented, title):
    """Name -> explanation, of a section; several names may share one."""
    entries, names = {}, []
    for line in section(documented, title).splitlines():
        if line and not line.startswith(" "):
            names = [name.strip().lstrip("*") for name in line.partition(" : ")[0].split(",")]
            entries |= dict.fromkeys(names, "")
        else:
            for name in names:
                entries[name] += line.strip()
    return entries


def fitted_attributes(cls):
    X = np.random.default_rng(0).random((40, 3))
    try:
        import pandas
    except ModuleNotFoundError:
        return {name for name in vars(cls(2).fit(X)) if name.endswith("_") and not name.startswith("_")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = cls(2, backend="numpy").fit(pandas.DataFrame(X, columns=list("abc")))
    return {name for name in vars(model) if name.endswith("_") and not name.startswith("_")}


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_an_estimator_explains_each_parameter_and_attribute(cls):
    parameters, attributes = explained(cls, "Parameters"), explained(cls, "Attributes")
    assert list(parameters) == list(inspect.signature(cls).parameters)
    assert set(attributes) >= fitted_attributes(cls)
    for name, text in {**parameters, **attributes}.items():
        assert len(text.split()) >= 4, f"{cls.__name__}.{name}: {text!r}"


@pytest.mark.parametrize("cls", RECORDS)
def test_a_record_explains_each_attribute(cls):
    attributes = explained(cls, "Attributes")
    assert list(attributes) == list(cls.__dataclass_fields__)
    for name, text in attributes.items():
        assert len(text.split()) >= 3, f"{cls.__name__}.{name}: {text!r}"


@pytest.mark.parametrize("documented", [*ESTIMATORS, *RECORDS, *FUNCTIONS], ids=lambda found: found.__name__)
def test_relatives_are_named(documented):
    lines = [line for line in section(documented, "See Also").splitlines() if line]
    assert lines
    for line in lines:
        name, _, text = line.partition(" : ")
        assert text
        target = gpukmeans
        for part in name.removeprefix("gpukmeans.").split("."):
            target = getattr(target, part, None) or getattr(inspect.getmodule(documented), part)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda found: found.__name__)
def test_a_function_explains_each_parameter(function):
    signature = inspect.signature(function).parameters
    parameters = explained(function, "Parameters")
    assert set(parameters) == set(signature)
    assert explained(function, "Returns")
