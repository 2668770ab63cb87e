"""Silhouettes against scikit-learn's, and against their definition where that loses digits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import silhouette_samples
from threadpoolctl import threadpool_limits

import gpukmeans
import gpukmeans.evaluation.silhouettes as module
from gpukmeans.evaluation.silhouettes import silhouette


def by_definition(labels, X):
    """From all differences, in float64; also that of the distances to the means."""
    X = np.asarray(X, np.float64)
    labels = np.asarray(labels)
    distances = np.sqrt(((X[:, None] - X[None]) ** 2).sum(axis=2))
    used = np.unique(labels)
    to_clusters = np.stack([distances[:, labels == c].mean(axis=1) for c in used], axis=1)
    to_means = np.sqrt(((X[:, None] - np.stack([X[labels == c].mean(axis=0) for c in used])) ** 2).sum(axis=2))
    own = np.searchsorted(used, labels)
    size = np.bincount(own)[own]
    found = []
    for table, factor in ((to_clusters, size / np.maximum(size - 1, 1)), (to_means, 1.0)):
        a = table[np.arange(len(X)), own] * factor
        others = table.copy()
        others[np.arange(len(X)), own] = np.inf
        b = others.min(axis=1)
        larger = np.maximum(a, b)
        found.append(np.where((size > 1) & (larger > 0), (b - a) / np.where(larger > 0, larger, 1.0), 0.0))
    return found


def rows_of(kind, rng):
    X = rng.integers(0, 256, (150, 20)) * (rng.random((150, 20)) < 0.4)
    return {
        "uint8": lambda: X.astype(np.uint8),
        "negative whole numbers": lambda: X - 300,
        "float32": lambda: (X / 7).astype(np.float32),
        "float64": lambda: X / 7,
        "wide whole numbers": lambda: X * 1e5,
        "csr": lambda: sparse.csr_array(X / 7),
    }[kind]()


@pytest.mark.parametrize("block", [7, 512])
@pytest.mark.parametrize("kind", ["uint8", "negative whole numbers", "float32", "float64", "wide whole numbers", "csr"])
def test_every_row_has_scikit_learns_silhouette(kind, block, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", block)
    rng = np.random.default_rng(0)
    X, labels = rows_of(kind, rng), rng.choice([0, 1, 3, 4, 9], 150)
    labels[17] = 7  # alone: 0
    found = silhouette(labels, X)
    want = silhouette_samples(X.astype(np.float64), labels)
    assert np.allclose(found.samples, want, rtol=0, atol=1e-11)
    assert found.clusters.tolist() == [0, 1, 3, 4, 7, 9]
    assert np.allclose(found.per_cluster, [want[labels == c].mean() for c in found.clusters], atol=1e-11)
    assert found.mean == pytest.approx(want.mean(), abs=1e-11)


@pytest.mark.parametrize("transformed", [lambda X: X, lambda X: X + 1e9, lambda X: 1e-200 * X, lambda X: 1e140 * X])
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
def test_neither_unit_nor_origin_takes_digits(form, transformed):
    """Rows that lie near each other, some twice."""
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1, 2], 20)
    X = transformed(rng.integers(0, 3, (3, 5))[labels] * 4.0 + rng.integers(-2, 3, (60, 5)) / 1024)
    unit = 1.0 if np.abs(X).max() > 1e-100 else 2.0**700
    unit = 2.0**-400 if np.abs(X).max() > 1e100 else unit
    exact, simplified = by_definition(labels, X * unit)
    assert np.allclose(silhouette(labels, form(X)).samples, exact, rtol=0, atol=1e-9)
    if np.abs(X).max() < 1e9:  # else the means round
        assert np.allclose(silhouette(labels, form(X), kind="simplified").samples, simplified, rtol=0, atol=1e-9)


def test_the_number_of_threads_changes_no_bit():
    rng = np.random.default_rng(2)
    X, labels = rng.standard_normal((1400, 200)), rng.integers(0, 5, 1400)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="blas"):
            found.append(silhouette(labels, X).samples.tobytes())
    assert found[0] == found[1]


@pytest.mark.parametrize("cls", ["KMeans", "MiniBatchKMeans", "BisectingKMeans", "SphericalKMeans"])
def test_a_model_brings_its_labels_and_centers(cls):
    X = gpukmeans.load_digits(return_X_y=True)[0][:300]
    model = getattr(gpukmeans, cls)(6, random_state=0).fit(X)
    assert silhouette(model, X).samples.tobytes() == silhouette(model.predict(X), X).samples.tobytes()
    simplified = silhouette(model, X, kind="simplified")
    others = model.transform(X)
    a = np.take_along_axis(others, model.predict(X)[:, None], axis=1)[:, 0]
    np.put_along_axis(others, model.predict(X)[:, None], np.inf, axis=1)
    b = others.min(axis=1)  # may be less, as a bisecting model goes down its tree
    assert np.allclose(simplified.samples, (b - a) / np.maximum(a, b))
    assert repr(simplified).startswith("simplified silhouette of 300 rows: mean 0.")
    assert "cluster 5</th>" in simplified._repr_html_()


def test_progress_tells_pairs_and_their_total(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 10)
    told = []
    X = np.random.default_rng(0).random((45, 2))
    silhouette(np.arange(45) % 2, X, progress=lambda done, total: told.append((done, total)))
    assert {total for _, total in told} == {45 * 46 // 2}
    done = [done for done, _ in told]
    assert done == sorted(set(done))
    assert done[-1] == 45 * 46 // 2
    assert len(done) == 5


@pytest.mark.parametrize(
    ("labels", "X", "kind", "message"),
    [
        ([0, 0, 0], [[1], [2], [3]], "exact", "1 clusters have rows; the silhouette of 3 rows needs 2 to 2"),
        ([0, 1, 2], [[1], [2], [3]], "exact", "3 clusters have rows"),
        ([0, 1], [[1], [2], [3]], "exact", "X has 3 rows, but labels has 2"),
        ([0, 1, 1], [[1], [2], [np.nan]], "exact", "contains NaN"),
        ([0, 1, 1], [[1], [2], [3]], "sampled", "kind='sampled' should be 'exact' or 'simplified'"),
    ],
)
def test_errors_say_what_was_given(labels, X, kind, message):
    with pytest.raises(ValueError, match=message):
        silhouette(labels, X, kind=kind)


def test_rows_before_labels_are_told_apart():
    with pytest.raises(TypeError, match=r"gpukmeans\.silhouette\(labels, X\)"):
        silhouette([[1.0], [2.0], [3.0]], [0, 1, 1])


def test_constant_features_change_no_bit():
    X = gpukmeans.load_digits().data[:300, 20:40]
    labels = np.arange(300) % 3
    wider = np.concatenate([np.full((300, 5), 1e6), X], axis=1)
    for dtype in (np.float32, np.float64):
        found = [gpukmeans.silhouette(labels, rows.astype(dtype)).samples for rows in (X + 0.1, wider + 0.1)]
        np.testing.assert_array_equal(*found)
    assert not gpukmeans.silhouette(labels, np.full((300, 4), 7.5)).samples.any()
