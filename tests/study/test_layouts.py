"""Layouts in a plane: components are those of the rows, and neighbours' layouts are kept on disk."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.manifold import trustworthiness

import gpukmeans
from gpukmeans.evaluation import layout, layouts

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("unit", [1.0, 2.0**400, 2.0**-400])
@pytest.mark.parametrize("kind", [np.asarray, csr_array])
def test_two_components_are_those_of_the_singular_vectors(unit, kind):
    X = RANDOM.normal(size=(60, 5)) * [5, 3, 1, 1, 1] * unit
    left, values, _ = np.linalg.svd(X / unit - (X / unit).mean(axis=0), full_matrices=False)
    found = layout(kind(X))
    assert found.shape == (60, 2)
    assert np.allclose(np.abs(found / unit), np.abs(left[:, :2] * values[:2]))


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """umap-learn as far as it is called; counts its fits."""
    fits = []

    class UMAP:
        def __init__(self, random_state):
            self.seed = random_state

        def fit_transform(self, X):
            fits.append(X)
            return (X[:, :2] + self.seed).astype(np.float32)

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=UMAP))
    monkeypatch.setattr(layouts, "version", lambda _: "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return fits


def test_a_layout_of_neighbours_is_kept_by_rows_and_parameters(stand_in, tmp_path, monkeypatch):
    X = RANDOM.integers(0, 255, (80, 60)).astype(np.uint8)
    first = layout(X, method="neighbours")
    assert stand_in[0].shape == (80, layouts.COMPONENTS)
    assert np.abs(stand_in[0]).max() == 1.0
    assert np.array_equal(layout(X.copy(), method="neighbours"), first)
    assert len(stand_in) == 1
    others = [X[::-1], X.astype(np.float64), csr_array(X.astype(np.float64))]
    for other in others:
        layout(other, method="neighbours")
    layout(X, method="neighbours", random_state=1)
    monkeypatch.setattr(layouts, "version", lambda _: "2")
    layout(X, method="neighbours")
    assert len(stand_in) == 6
    assert len(list((tmp_path / "gpukmeans").iterdir())) == 6
    layout(X, method="neighbours", cache=False)
    assert len(stand_in) == 7


def test_a_damaged_or_foreign_file_in_the_cache_is_replaced(stand_in, tmp_path):
    X = RANDOM.normal(size=(30, 4))
    want = layout(X, method="neighbours")
    (path,) = (tmp_path / "gpukmeans").iterdir()
    whole = path.read_bytes()
    for content in (b"", whole[:-1], whole + b"0", b"1" + whole[1:], bytes(len(whole))):
        path.write_bytes(content)
        assert np.array_equal(layout(X, method="neighbours"), want)
        assert path.read_bytes() == whole
    assert len(stand_in) == 6


def test_a_cache_that_cannot_be_written_to_is_done_without(stand_in, tmp_path, monkeypatch):
    (tmp_path / "gpukmeans").write_text("a file where the folder would be")
    X = RANDOM.normal(size=(30, 4))
    assert np.array_equal(layout(X, method="neighbours"), layout(X, method="neighbours"))
    assert os.listdir(tmp_path) == ["gpukmeans"]


def test_errors_say_what_was_given(monkeypatch):
    with pytest.raises(ValueError, match="method='tsne' should be 'pca' or 'neighbours'"):
        layout(np.eye(3), method="tsne")
    with pytest.raises(ValueError, match=r"X has shape \(3, 1\); a plane needs at least two rows and two features"):
        layout([[0.0], [1.0], [2.0]])
    with pytest.raises(ValueError, match="X has 3 rows; a layout of neighbours needs at least 5"):
        layout(np.eye(3), method="neighbours")
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ImportError, match=r"layouts of neighbours need umap .* pip install 'gpukmeans\[maps\]'"):
        layout(np.eye(5), method="neighbours")


@pytest.mark.weekly
def test_neighbours_stay_neighbours():
    pytest.importorskip("umap")
    X, _ = gpukmeans.load_digits(return_X_y=True)
    found = layout(X, method="neighbours", cache=False)
    assert trustworthiness(X, found, n_neighbors=10) > 0.95 > trustworthiness(X, layout(X), n_neighbors=10)
    for rows in (
        np.eye(5),
        np.ones((30, 2)),
        RANDOM.normal(size=(30, 3)) * 1e300,
        RANDOM.normal(size=(30, 3)) * 1e-300,
    ):
        assert np.isfinite(layout(rows, method="neighbours", cache=False)).all()
