"""Thousands of tiny random problems: what must hold to the bit, however odd the rows, weights and starts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gpukmeans import BisectingKMeans, KMeans, MiniBatchKMeans, SphericalKMeans
from tests.support.assertions import assert_same
from tests.support.random_problems import problem_for

#: Problems of a block, and blocks: a few at any time, the others weekly.
PER_BLOCK = 100
BLOCKS = [*range(3), *(pytest.param(block, marks=pytest.mark.weekly) for block in range(3, 60))]
CLASSES = [KMeans, MiniBatchKMeans, BisectingKMeans, SphericalKMeans]


def numbers(block):
    return range(block * PER_BLOCK, (block + 1) * PER_BLOCK)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("cls", CLASSES)
def test_labels_and_inertia_are_those_of_the_fitted_centers(cls, block):
    """Scores of `BisectingKMeans` use all centers, its inertia the splits, so that it is not below them."""
    for seed in numbers(block):
        made = problem_for(cls, seed)
        model = made.fit(cls)
        assert np.isfinite(model.cluster_centers_).all(), seed
        assert np.array_equal(model.labels_, model.predict(made.rows)), seed
        inertia = -model.score(made.rows, sample_weight=made.sample_weight)
        if cls is BisectingKMeans:
            assert inertia <= model.inertia_ * (1 + 2.0**-40), seed
        else:
            assert inertia == model.inertia_, seed


@pytest.mark.one_in(2)
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("cls", [KMeans, SphericalKMeans])
def test_shuffled_rows_have_shuffled_labels(cls, block):
    """From given centers: ties between centers go by the order of these, and sums do not depend on that of the rows.

    Of equally far rows an empty cluster gets the first, so that two orders may differ: fits with such are left out,
    unless all rows are at different distances from all centers.
    """
    compared = 0
    for seed in numbers(block)[::2]:
        made = problem_for(cls, seed)
        if isinstance(made.init, str):
            some = np.arange(0, len(made.X), max(1, len(made.X) // made.n_clusters))[: made.n_clusters]
            made = replace(made, init=made.X[some].astype(np.float64) + (not made.X[some].any()))
        order = np.random.default_rng(seed).permutation(len(made.X))
        weight = None if made.sample_weight is None else made.sample_weight[order]
        want, got = made.fit(cls), made.fit(cls, made.rows[order], weight)
        if any(record.n_relocated for record in want.fit_report_.iterations) and not generic(made.X):
            continue
        compared += 1
        assert np.array_equal(got.labels_, want.labels_[order]), seed
        got.labels_ = want.labels_
        assert_same(got, want)
    assert compared > PER_BLOCK // 6


def generic(X):
    """Whether the rows are irregular enough for no two to be equally far from a center."""
    return X.dtype == np.float64 and len(np.unique(np.abs(X).round(12))) == X.size


@pytest.mark.one_in(2)
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("cls", CLASSES)
def test_where_the_rows_lie_in_memory_changes_no_bit(cls, block):
    for seed in numbers(block)[::33]:
        made = replace(problem_for(cls, seed), csr=False)
        want = made.fit(cls)
        for name, layout in LAYOUTS.items():
            X = layout(made.X)
            assert np.array_equal(X, made.X)
            before, got = X.copy(), made.fit(cls, X)
            assert_same(got, want)
            assert np.array_equal(got.predict(X), want.labels_), (seed, name)
            assert np.array_equal(X, before), (seed, name)


def frozen(X):
    X = X.copy()
    X.flags.writeable = False
    return X


LAYOUTS = {
    "columns first": np.asfortranarray,
    "read only": frozen,
    "every second row of more": lambda X: np.repeat(X, 2, axis=0)[::2],
    "columns of more": lambda X: np.concatenate([X, X], axis=1)[:, : X.shape[1]],
    "from the last row": lambda X: X[::-1].copy()[::-1],
    "from the last column": lambda X: X[:, ::-1].copy()[:, ::-1],
    "not aligned": lambda X: np.frombuffer(b"." + X.tobytes(), X.dtype, offset=1).reshape(X.shape),
    # float32 in the other order of bytes is converted to float64, as in scikit-learn
    "bytes in the other order": lambda X: X if X.dtype == np.float32 else X.astype(X.dtype.newbyteorder()),
}
