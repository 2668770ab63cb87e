"""Clusters named after classes: who is named, who is not, and accuracies that are called what they are."""

from __future__ import annotations

import numpy as np
import pytest

import gpukmeans
from gpukmeans.evaluation import cluster_names, evaluate


def points(*groups):
    """One-dimensional rows and classes: (position, class, how many) each."""
    X = np.concatenate([np.full((n, 1), float(position)) for position, _, n in groups])
    return X, np.concatenate([[name] * n for _, name, n in groups])


@pytest.fixture(scope="module")
def named():
    X, y = points((0, "cat", 6), (0, "dog", 1), (10, "dog", 5), (10, "fox", 4), (20, "cat", 3), (30, "cow", 2))
    centers = [[0.0], [10.0], [20.0], [30.0], [40.0]]
    model = gpukmeans.fit(centers, 5, init=centers, backend="numpy")  # X leaves the last one empty
    return gpukmeans.name_clusters(model, X, y), X, y


def test_each_cluster_has_its_name_and_classes_without_one_are_said_so(named):
    names = named[0]
    assert names.names == ["cat", "dog / fox mixed", "cat", "cow", "empty"]
    assert names.unnamed == ["fox"]
    assert names.predict([[1.0], [9.0], [22.0], [44.0]]).tolist() == ["cat", "dog", "cat", "cow"]
    text = repr(names)
    assert "    1  dog / fox mixed, 9 rows, 55.6%" in text
    assert "no cluster is named fox" in text
    assert names._repr_html_().count("<tr>") == 6


def test_both_accuracies_are_those_of_hand_counts_on_train_and_test(named):
    names, X, y = named
    table = evaluate(names.model, X, y)
    assert names.accuracy == (16 / 21, 13 / 21, 21)  # the matching gives "cat" one cluster: 6 + 5 + 2
    assert (names.accuracy.majority, names.accuracy.one_to_one) == (table.accuracy, table.matched_accuracy)
    test = names.score([[0.0], [11.0], [21.0], [31.0], [41.0]], ["cat", "fox", "cat", "new", "cow"])
    assert test == (3 / 5, 1 / 5, 5)
    assert "0.6000 by majority class, 0.2000 with one cluster per class, of 5 rows" in str(test)


def test_a_majority_is_weak_below_a_half_or_with_a_near_second():
    counts = [[60, 40, 0], [61, 39, 0], [49, 26, 25], [0, 0, 7]]
    assert cluster_names(counts, [4, 9, 7]) == ["4", "4", "4 / 9 mixed", "7"]
    assert cluster_names([[60, 41, 0]], [4, 9, 7]) == ["4 / 9 mixed"]
    assert cluster_names([[5]], ["only"]) == ["only"]
    with pytest.raises(ValueError, match="y has shape"):
        gpukmeans.name_clusters(gpukmeans.fit([[0.0], [1.0]], 1), [[0.0], [1.0]], [1])
