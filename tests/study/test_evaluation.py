"""The metric table against hand-computed values, brute force and scikit-learn."""

from __future__ import annotations

import itertools
import json
import re

import numpy as np
import pytest
from scipy import sparse
from sklearn import metrics

import gpukmeans
from gpukmeans.evaluation import cluster_class_counts, evaluate, majority_classes, matched_classes
from gpukmeans.tables import html_table


@pytest.fixture
def clustering():
    """Rows, labels and classes that agree in part; cluster 3 of 6 is empty."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 300)
    labels = np.where(rng.random(300) < 0.6, y, rng.integers(0, 6, 300))
    labels[labels == 3] = 5
    X = rng.integers(0, 256, (300, 7), dtype=np.uint8)
    return X, labels, y


def counts_by_loop(labels, y, n_clusters, classes):
    counts = [[0] * len(classes) for _ in range(n_clusters)]
    for label, digit in zip(labels, y, strict=True):
        counts[label][classes.index(digit)] += 1
    return counts


def test_counts_equal_a_loops_and_keep_empty_clusters(clustering):
    _, labels, y = clustering
    counts, classes = cluster_class_counts(labels, y, n_clusters=8)
    assert counts.tolist() == counts_by_loop(labels, y, 8, classes.tolist())
    assert counts[3].tolist() == counts[7].tolist() == [0, 0, 0, 0]


def test_classes_may_be_words():
    counts, classes = cluster_class_counts([0, 1, 1], ["b", "a", "b"])
    assert classes.tolist() == ["a", "b"]
    assert counts.tolist() == [[0, 1], [1, 1]]
    assert majority_classes(counts, classes).tolist() == ["b", "a"]


def test_matching_is_the_best_of_all_permutations():
    rng = np.random.default_rng(1)
    for n_clusters, n_classes in [(4, 4), (6, 4), (3, 5)]:
        counts = rng.integers(0, 50, (n_clusters, n_classes))
        small, large = sorted(counts.shape)
        wide = counts if n_clusters <= n_classes else counts.T
        best = max(wide[range(small), list(p)].sum() for p in itertools.permutations(range(large), small))
        clusters, columns = matched_classes(counts)
        assert len(set(clusters)) == len(set(columns)) == small
        assert counts[clusters, columns].sum() == best


def test_the_table_equals_scikit_learns_metrics_and_hand_counts(clustering):
    X, labels, y = clustering
    table = evaluate(labels, X, y, n_clusters=6)
    counts = np.array(counts_by_loop(labels, y, 6, [0, 1, 2, 3]))
    assert table.sizes == tuple(counts.sum(axis=1).tolist())
    assert table.classes == tuple(max(range(4), key=lambda c: row[c]) for row in counts.tolist())
    assert table.accuracy == sum(max(row) for row in counts.tolist()) / 300
    assert table.matched_accuracy <= table.accuracy
    assert table.homogeneity == metrics.homogeneity_score(y, labels)
    assert table.completeness == metrics.completeness_score(y, labels)
    assert table.v_measure == metrics.v_measure_score(y, labels)
    assert table.adjusted_rand == metrics.adjusted_rand_score(y, labels)
    assert table.nmi == metrics.normalized_mutual_info_score(y, labels)
    assert table.silhouette == pytest.approx(metrics.silhouette_score(X.astype(float), labels), rel=1e-12)
    assert table.silhouette_sample_size == 300


def test_a_perfect_clustering_scores_one_and_renaming_clusters_changes_nothing():
    y = np.array([4, 4, 9, 9, 9, 7])
    table = evaluate([2, 2, 0, 0, 0, 1], np.eye(6), y)
    assert table.accuracy == table.matched_accuracy == table.v_measure == table.adjusted_rand == 1
    assert table.classes == (9, 7, 4)


def test_uint8_rows_are_not_subtracted_as_bytes():
    """Means 101.5 and 0; 3 - 200 wraps round in uint8."""
    X = np.array([[200], [3], [0]], dtype=np.uint8)
    table = evaluate([0, 0, 1], X)
    assert table.inertia == 2 * 98.5**2
    # Row 200: a = 197, b = 200. Row 3: a = 197, b = 3. Row 0 is alone: 0.
    assert table.silhouette == pytest.approx(((200 - 197) / 200 + (3 - 197) / 197 + 0) / 3, rel=1e-15)


def test_inertia_is_taken_from_the_fit_or_computed_in_blocks(clustering, monkeypatch):
    X, labels, _ = clustering
    want = sum(
        float(((X[labels == j].astype(float) - X[labels == j].mean(axis=0)) ** 2).sum()) for j in np.unique(labels)
    )
    assert evaluate(labels, X).inertia == pytest.approx(want, rel=1e-13)  # float64 sums of 300 rows
    monkeypatch.setattr("gpukmeans.evaluation.metrics.BLOCK_BYTES", 7 * 8 * 11)
    assert evaluate(labels, X).inertia == pytest.approx(want, rel=1e-13)
    assert evaluate(labels, X, inertia=12.5).inertia == 12.5


def test_the_silhouette_comes_from_the_stated_sample(clustering):
    X, labels, _ = clustering
    table = evaluate(labels, X, silhouette_sample_size=50, random_state=7)
    sample = np.random.RandomState(7).choice(300, 50, replace=False)
    want = metrics.silhouette_score(X[sample].astype(float), labels[sample])
    assert table.silhouette == pytest.approx(want, rel=1e-12)  # the rows are summed in another order
    assert table.silhouette_sample_size == 50
    assert "silhouette (random sample of 50 rows)" in str(table)
    assert evaluate(labels, X, silhouette_sample_size=50, random_state=8).silhouette != table.silhouette


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_no_silhouette_where_none_is_defined(labels):
    table = evaluate(labels, [[0.0], [1.0], [5.0]])
    assert table.silhouette is None
    assert "silhouette" not in str(table)


def test_without_classes_only_the_inner_metrics_are_there(clustering):
    X, labels, _ = clustering
    table = evaluate(labels, X)
    assert table.accuracy is table.v_measure is table.classes is None
    assert "accuracy" not in str(table)
    assert "inertia" in str(table)


def test_the_table_goes_to_json(clustering):
    X, labels, y = clustering
    table = evaluate(labels.astype(np.int32), X, y)
    assert json.loads(json.dumps(table.as_dict())) == {
        **table.as_dict(),
        "sizes": list(table.sizes),
        "classes": list(table.classes),
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[0], [1]], [0, 1, 1]), "X has 2 rows, but labels has 3"),
        (([0, 1], [0, 1]), "Expected 2D array, got 1D array instead"),
        ((np.zeros((2, 2, 2)), [0, 1]), r"Found array with dim 3, .* required by evaluate.*X\.reshape\(len\(X\), -1\)"),
        (([[0], [1j]], [0, 1]), "Complex data not supported"),
        ((sparse.csr_array([[0], [1j]]), [0, 1]), "Complex data not supported"),
        (([[0], [np.nan]], [0, 1]), "Input X contains NaN"),
        ((sparse.csr_array([[0], [np.inf]]), [0, 1]), "Input X contains infinity"),
        (([[0], [1]], [0, -1]), "labels range from -1 to 0, expected 0 to n_clusters - 1 = 0"),
        (([[0], [1]], [0.0, 1.0]), r"labels has shape \(2,\) and dtype float64, expected \(n_samples,\) whole"),
        (([[0], [1]], []), r"labels has shape \(0,\)"),
        (([[0], [1]], [0, 1], [3]), r"y has shape \(1,\), expected \(2,\)"),
    ],
)
def test_bad_input_is_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        evaluate(arguments[1], arguments[0], *arguments[2:])


def test_a_path_is_no_table_of_rows():
    with pytest.raises(TypeError, match=r"X is a path or text, 'digits\.npy'"):
        evaluate([0, 1], "digits.npy")


@pytest.mark.parametrize("form", ["csr_array", "csr_matrix", "coo_array", "frame", "repeated"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_sparse_rows_have_the_table_of_the_dense_ones(form, dtype):
    local = np.random.default_rng(5)
    dense = (local.integers(0, 9, (80, 6)) * (local.random((80, 6)) < 0.4)).astype(dtype)
    labels, y = local.integers(0, 3, 80), local.integers(0, 4, 80)
    if form == "frame":
        pandas = pytest.importorskip("pandas")
        X = pandas.DataFrame.sparse.from_spmatrix(sparse.csr_array(dense))
    elif form == "repeated":
        one = sparse.coo_array(dense)
        data, rows, columns = (np.concatenate([part, part]) for part in (one.data, *one.coords))
        X = sparse.coo_array((data, (rows, columns)), shape=dense.shape)
        dense = 2 * dense
    else:
        X = getattr(sparse, form)(dense)
    got, want = (evaluate(labels, rows, y, n_clusters=4, silhouette_sample_size=50) for rows in (X, dense))
    assert got.sizes == want.sizes
    for name, value in want.values.items():
        assert got.values[name] == pytest.approx(value, rel=1e-12), name


def test_the_inertia_of_sparse_rows_does_not_cancel():
    X = 1.7e9 + np.r_[np.arange(30.0), 5000 + np.arange(30.0)][:, None]
    labels = np.repeat([0, 1], 30)
    assert evaluate(labels, sparse.csr_array(X)).inertia == evaluate(labels, X).inertia == 2 * 30 * (30**2 - 1) / 12


def test_bad_options_are_explained():
    with pytest.raises(ValueError, match="labels range from 0 to 1, expected 0 to n_clusters - 1 = 0"):
        evaluate([0, 1], [[0], [1]], n_clusters=1)
    with pytest.raises(ValueError, match="silhouette_sample_size=0 should be at least 1"):
        evaluate([0, 1], [[0], [1]], silhouette_sample_size=0)


def test_a_model_is_judged_by_its_own_labels_and_centers(clustering):
    X, _, y = clustering
    model = gpukmeans.fit(X[:200], 4, random_state=0, backend="numpy", max_iter=2)
    table = gpukmeans.evaluate(model, X[200:], y[200:])
    labels = model.predict(X[200:])
    assert table.as_dict() == evaluate(labels, X[200:], y[200:], n_clusters=4, inertia=table.inertia).as_dict()
    assert table.inertia == pytest.approx(-model.score(X[200:]), rel=1e-12)
    assert evaluate(labels, X[200:]).inertia < table.inertia  # about the means of these rows
    sphere = gpukmeans.SphericalKMeans(4, random_state=0, backend="numpy").fit(X)
    assert evaluate(sphere, X).inertia == pytest.approx(sphere.inertia_, rel=1e-12)


def test_the_old_order_is_answered_with_the_new_call(clustering):
    X, labels, y = clustering
    for rows in (X, X.tolist(), sparse.csr_array(X.astype(float))):
        with pytest.raises(TypeError, match=r"before the rows: gpukmeans\.evaluate\(labels, X\)$"):
            evaluate(rows, labels)
    with pytest.raises(TypeError, match=r"gpukmeans\.evaluate\(labels, X, y\)$"):
        evaluate(X, labels.tolist(), y)


def test_weights_count_as_repetitions(clustering):
    X, labels, y = clustering
    weight = np.random.default_rng(3).integers(1, 4, 300)
    again = np.repeat(np.arange(300), weight)
    want = evaluate(labels[again], X[again], y[again], n_clusters=6)
    for rows in (X, sparse.csr_array(X.astype(float))):
        got = evaluate(labels, rows, y, n_clusters=6, sample_weight=weight)
        for name, value in got.values.items():
            expected = (
                None
                if name in ("adjusted_rand", "adjusted_mutual_information", "silhouette")
                else pytest.approx(want.values[name], rel=1e-12)
            )
            assert value == expected, name
        assert got.classes == want.classes
    model = gpukmeans.fit(X, 3, random_state=0, backend="numpy", sample_weight=weight)
    assert evaluate(model, X, sample_weight=weight).inertia == pytest.approx(model.inertia_, rel=1e-12)


def test_representations_are_short_and_escaped(clustering):
    X, labels, _ = clustering
    words = np.array(["<b>&", "plain"])[labels % 2]
    table = evaluate(labels, X, words)
    assert repr(table).splitlines()[0] == "Evaluation of 300 rows in 6 clusters"
    assert len(repr(table)) < 800
    assert table._repr_html_().count("<tr>") == len(table.rows())
    report = gpukmeans.fit(X, 4, random_state=0, backend="numpy").fit_report_
    assert len(repr(report)) < 400
    assert repr(report).startswith(f"FitReport of {len(report.iterations)} iterations\n")
    assert '<th scope="row">seconds</th><td>load ' in report._repr_html_()
    whole = html_table([("<i>", "&")], ["<u>"], "<s>")
    assert not {"<i>", "<u>", "<s>"} & set(re.findall("<.>", whole))
    assert "&lt;i&gt;" in whole
