"""Comparisons of starts and of algorithms: each entry is that of its own fit."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

import gpukmeans
from gpukmeans.cli import main
from gpukmeans.evaluation import algorithms, compare, reductions, starts
from gpukmeans.study import beside


@pytest.fixture(scope="module")
def digits():
    X, y = gpukmeans.load_digits(return_X_y=True)
    return StandardScaler().fit_transform(X.astype(float)), y


def test_starts_are_those_of_fits_one_by_one(digits):
    X, y = digits
    told = []
    found = compare(starts(X, 10, random_state=0), X, y, progress=told.append)
    own = {
        "k-means++": gpukmeans.KMeans(10, n_init=4, random_state=0),
        "random": gpukmeans.KMeans(10, init="random", n_init=4, random_state=0),
        "PCA": gpukmeans.KMeans(10, init=PCA(10, random_state=0).fit(X).components_, n_init=1, random_state=0),
    }
    assert told == list(own)
    for name, model in own.items():
        model.fit(X)
        entry = found[name]
        assert np.array_equal(entry.labels, model.labels_)
        want = gpukmeans.evaluate(model.labels_, X, y)
        assert entry.evaluation.values == want.values
        assert entry.evaluation.inertia == pytest.approx(model.inertia_)
    lines = repr(found).splitlines()
    columns = "seconds clusters inertia homog. compl. V ARI AMI silhouette accuracy matched"
    assert " ".join(lines[0].split()) == columns
    assert [line.split()[0] for line in lines[1:]] == list(own)
    assert len({len(line) for line in lines}) == 1
    assert found._repr_html_().count("<tr>") == 4
    assert [entry["name"] for entry in json.loads(json.dumps(found.as_dict()))] == list(own)
    with pytest.raises(KeyError, match=r"'pca'; there are k-means\+\+, random, PCA"):
        found["pca"]


def test_algorithms_are_compared_and_noise_is_left_out(digits):
    X, y = digits[0][:300], digits[1][:300]
    found = compare(algorithms(10), X, y)
    by_name = {entry.name: entry for entry in found.entries}
    assert list(by_name) == list(algorithms(10))
    noisy = by_name["HDBSCAN"]
    kept = noisy.labels >= 0
    assert noisy.n_noise == (~kept).sum() > 0
    if kept.any():
        assert noisy.evaluation.values == gpukmeans.evaluate(noisy.labels[kept], X[kept], y[kept]).values
    assert found.head[:4] == ("", "seconds", "clusters", "noise")
    assert all(len(row) == len(found.head) for row in found.rows())
    assert all(len(np.unique(entry.labels)) == 10 for entry in found.entries if entry is not noisy)


def test_all_noise_has_no_metrics():
    class Nothing(gpukmeans.KMeans):
        def fit_predict(self, X, y=None, sample_weight=None):
            return np.full(len(X), -1)

    found = compare({"nothing": Nothing(2), "k-means": gpukmeans.KMeans(2)}, [[0.0], [1.0], [9.0]])
    assert found["nothing"].evaluation is None
    assert found["nothing"].n_noise == 3
    assert found.rows()[0][2:5] == ("0", "3", "-")


def test_errors_say_what_was_given():
    with pytest.raises(ValueError, match="estimators is empty"):
        compare({}, [[0.0], [1.0]])
    with pytest.raises(ValueError, match="n_clusters=3 should be from 1 to 2"):
        starts([[0.0, 1.0], [1.0, 3.0], [5.0, 5.0]], 3)


def test_the_command_scales_and_compares(digits, capsys):
    assert main(["digits", "--scale", "standard", "--compare", "--no-plots", "--json", "--quiet"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["data"]["unit"] == "standard deviations"
    want = compare(starts(digits[0], 10, random_state=0), *digits)
    for got, entry in zip(told["compared"], want.entries, strict=True):
        assert got["name"] == entry.name
        assert got["metrics"]["v_measure"] == entry.evaluation.v_measure
    model = gpukmeans.fit(digits[0], 10, random_state=0)
    assert told["metrics"]["inertia"] == pytest.approx(model.inertia_)


def test_the_command_compares_algorithms_on_a_sample_that_it_names_and_draws_maps(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(beside, "_SAMPLE", 300)
    assert main(["digits", "--compare", "algorithms", "--map", "pca", "-o", str(tmp_path), "--seed", "3"]) == 0
    text = capsys.readouterr().out
    assert "a random sample of 300 of 1,797 rows\n" in text
    table = [line for line in text.splitlines() if line.startswith(tuple(algorithms(10)))]
    assert [line.split("  ")[0] for line in table] == list(algorithms(10))
    pictures = {"centroids.png", "confusion.png", "map.png", "comparison.png"}
    assert pictures == {path.name for path in tmp_path.iterdir() if path.suffix == ".png"}


def test_reductions_are_judged_in_the_space_of_all_features(digits):
    X, y = digits
    found = compare(reductions(10, [5], n_init=2), X, y)["PCA 5"]
    few = PCA(5, random_state=0).fit_transform(X)
    model = gpukmeans.KMeans(10, random_state=0, n_init=2).fit(few)
    assert np.array_equal(found.labels, model.labels_)
    means = np.stack([X[model.labels_ == j].mean(axis=0) for j in range(10)])
    assert found.evaluation.inertia == pytest.approx(np.square(X - means[model.labels_]).sum())
