"""Labels against whole numbers of unlimited size, for rows, weights and centers that hypothesis makes up."""

from __future__ import annotations

import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

from gpukmeans import KMeans
from gpukmeans.certificates.rounding import UNIT64, gamma
from tests.support.oracles import inertia, nearest

#: A saved example would be one that no other machine has, and slow machines are no fault.
SETTINGS = settings(derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))

#: Steps between values: whole numbers, numbers that float64 rounds, and very small and large ones.
STEPS = {
    np.uint8: [1.0],
    np.float16: [1.0, 0.1],
    np.float32: [1.0, 0.1, 2.0**-100, 2.0**55],
    np.float64: [1.0, 0.1, 1 / 3, 1e-300, 2.0**-1000, 1e140],
}


@st.composite
def problems(draw):
    """Rows, few of them distinct and many equally far from two centers; a start; weights or None."""
    dtype = draw(st.sampled_from(list(STEPS)))
    d, step = draw(st.integers(1, 3)), draw(st.sampled_from(STEPS[dtype]))
    value = st.integers(0, 9) if dtype == np.uint8 else st.integers(-9, 9)
    row = st.lists(value, min_size=d, max_size=d)
    distinct = draw(st.lists(row, min_size=1, max_size=8))
    index = draw(st.lists(st.integers(0, len(distinct) - 1), min_size=2, max_size=14))
    X = (np.array(distinct, float)[index] * step).astype(dtype)
    k = draw(st.integers(1, min(6, len(X))))
    centers = (
        np.array(draw(st.lists(row, min_size=k, max_size=k)), float) * step * draw(st.sampled_from([0.5, 1.0, 8.0]))
    )
    weight = draw(
        st.none()
        | st.lists(st.integers(0, 3), min_size=len(X), max_size=len(X)).filter(any)
        | st.lists(st.floats(2.0**-60, 2.0**40), min_size=len(X), max_size=len(X))
    )
    # Weights take the dtype of float32 rows, as in scikit-learn.
    return X, centers, None if weight is None else np.array(weight, np.float32 if dtype == np.float32 else float)


@st.composite
def strided(draw, X):
    """The same values in another place: of more rows or columns, from behind, columns first, in CSR, as a list."""
    form = draw(st.sampled_from(["as it is", "steps", "from behind", "columns first", "csr", "list"]))
    if form == "steps":
        down, across = draw(st.integers(1, 3)), draw(st.integers(1, 3))
        return np.repeat(np.repeat(X, down, axis=0), across, axis=1)[::down, ::across]
    if form == "from behind":
        return X[::-1, ::-1].copy()[::-1, ::-1]
    if form == "columns first":
        return np.asfortranarray(X)
    if form == "csr" and X.dtype in (np.float32, np.float64):
        return sparse.csr_array(X)
    return X.astype(float).tolist() if form == "list" and X.dtype != np.float32 else X


def assert_exact(data):
    X, centers, weight = data.draw(problems())
    rows = data.draw(strided(X))
    params = {
        "max_iter": data.draw(st.sampled_from([1, 2, 300])),
        "algorithm": data.draw(st.sampled_from(["lloyd", "elkan"])),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = KMeans(len(centers), init=centers, n_init=1, tol=0, backend="numpy", **params).fit(
            rows, sample_weight=weight
        )
    labels = nearest(X, model.cluster_centers_)
    assert np.array_equal(model.labels_, labels)
    assert np.array_equal(model.predict(rows), labels)
    true = inertia(X, model.cluster_centers_, labels, weight)
    # Below the smallest normal number a float is off by half a unit, not by a share.
    assert abs(Fraction(model.inertia_) - true) <= Fraction(gamma(X.shape[1] + 3, UNIT64)) * true + Fraction(2) ** -1074
    assert -model.score(rows, sample_weight=weight) == model.inertia_


@settings(SETTINGS, max_examples=200)
@given(st.data())
def test_labels_are_the_nearest_centers_in_real_arithmetic(data):
    assert_exact(data)


@pytest.mark.weekly
@settings(SETTINGS, max_examples=10_000)
@given(st.data())
def test_labels_are_the_nearest_centers_in_real_arithmetic_many_times(data):
    assert_exact(data)
