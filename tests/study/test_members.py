"""Typical, doubtful and far members, by their definition."""

from __future__ import annotations

import numpy as np
import pytest

import gpukmeans


@pytest.mark.parametrize("cls", ["KMeans", "MiniBatchKMeans", "BisectingKMeans", "SphericalKMeans"])
def test_members_are_those_of_their_definition(cls):
    X = gpukmeans.load_digits(return_X_y=True)[0][:400]
    model = getattr(gpukmeans, cls)(7, random_state=0).fit(X)
    found = gpukmeans.members(model, X, n=4)
    labels = model.predict(X)
    distances = np.sqrt(((X[:, None].astype(np.float64) - model.cluster_centers_) ** 2).sum(axis=2))
    own = distances[np.arange(400), labels]
    others = distances.copy()
    others[np.arange(400), labels] = np.inf
    margin = others.min(axis=1) - own
    assert len(found) == 7
    assert np.array_equal(found.labels, labels)
    assert np.allclose(found.margins.margin, margin, atol=1e-12)
    for cluster, members in enumerate(found):
        rows = np.flatnonzero(labels == cluster)
        assert (members.cluster, members.size) == (cluster, len(rows))
        for got, values in ((members.typical, own), (members.doubtful, margin), (members.farthest, -own)):
            assert set(got.tolist()) <= set(rows.tolist())
            assert np.allclose(values[got], np.sort(values[rows])[:4], atol=1e-12)
    lines = repr(found).splitlines()
    assert len(lines) == 8
    assert lines[1].split()[2] == str(found[0].typical[0])
    assert found._repr_html_().count("<tr>") == 8


def test_equal_rows_come_in_their_order_and_small_clusters_whole():
    X = [[0.0], [0.0], [0.0], [8.0]]
    found = gpukmeans.members(gpukmeans.fit(X, 2, init=[[0.0], [8.0]]), X)
    assert [of.typical.tolist() for of in found] == [[0, 1, 2], [3]]
    assert [of.farthest.tolist() for of in found] == [[0, 1, 2], [3]]
    alone = gpukmeans.members(gpukmeans.fit(X, 1), X)
    assert alone[0].doubtful.tolist() == []
    assert alone[0].farthest[0] == 3


def test_a_cluster_without_rows_has_no_members():
    model = gpukmeans.fit([[0.0], [8.0], [9.0]], 2, init=[[0.0], [8.0]])
    found = gpukmeans.members(model, [[1.0], [2.0]])
    assert (found[1].size, found[1].typical.tolist()) == (0, [])


def test_a_number_below_one_is_refused():
    model = gpukmeans.fit([[0.0], [8.0]], 2)
    with pytest.raises(ValueError, match="n=0 should be at least 1"):
        gpukmeans.members(model, [[0.0]], n=0)
