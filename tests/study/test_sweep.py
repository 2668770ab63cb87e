"""Sweeps over the number of clusters: each model is that of its own fit, each metric scikit-learn's."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import sparse
from sklearn import metrics

import gpukmeans
from gpukmeans.evaluation.rules import RULES
from gpukmeans.evaluation.sweeps import sweep
from gpukmeans.plots import sweep_figure

BLOBS = np.array([[0, 0], [30, 0], [0, 40], [30, 40]])


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return BLOBS.repeat(40, axis=0) + rng.standard_normal((160, 2))


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array], ids=["dense", "csr"])
def test_models_and_metrics_are_those_of_fits_one_by_one(rows, form):
    found = sweep(form(rows), [4, 2, 3, 7], n_seeds=2, random_state=5)
    assert found.n_clusters.tolist() == [2, 3, 4, 7]
    assert list(found.values) == ["inertia", "silhouette", "calinski_harabasz", "davies_bouldin", "stability"]
    for i, k in enumerate(found.n_clusters.tolist()):
        fits = [gpukmeans.KMeans(k, random_state=seed).fit(form(rows)) for seed in (5, 6)]
        best = min(fits, key=lambda model: model.inertia_)
        assert np.array_equal(found.models[i].labels_, best.labels_)
        assert np.array_equal(found.models[i].cluster_centers_, best.cluster_centers_)
        for name, score in {
            "inertia": lambda model: model.inertia_,
            "silhouette": lambda model: metrics.silhouette_score(rows, model.labels_),
            "calinski_harabasz": lambda model: metrics.calinski_harabasz_score(rows, model.labels_),
            "davies_bouldin": lambda model: metrics.davies_bouldin_score(rows, model.labels_),
        }.items():
            want = [score(model) for model in fits]
            assert found.values[name][i] == pytest.approx(np.mean(want), rel=1e-10), name
            assert found.spread[name][i] == pytest.approx(np.std(want), rel=1e-6, abs=1e-12), name
        assert found.values["stability"][i] == metrics.adjusted_rand_score(fits[0].labels_, fits[1].labels_)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_sees_clusters_that_are_plain(rows, rule):
    found = sweep(rows, range(1, 9), rule=rule, n_seeds=3, n_references=4)
    assert found.recommended == 4
    assert found.best.n_clusters == 4
    assert RULES[rule].source in repr(found)
    assert "4 *" in repr(found)
    assert found._repr_html_().count("<tr>") == 9


def test_the_gap_is_that_of_its_definition(rows):
    """Of uniform rows in the range of each feature, with as many further fits."""
    told = []
    found = sweep(rows, [1, 2], metrics=["gap"], n_references=3, random_state=0, progress=lambda *n: told.append(n))
    random = np.random.RandomState(0)
    references = [random.uniform(rows.min(axis=0), rows.max(axis=0), rows.shape) for _ in range(3)]
    for i, k in enumerate((1, 2)):
        logs = [np.log(gpukmeans.KMeans(k, random_state=b).fit(X).inertia_) for b, X in enumerate(references)]
        assert found.values["gap"][i] == pytest.approx(np.mean(logs) - np.log(found.values["inertia"][i]))
        assert found.spread["gap"][i] == pytest.approx(np.std(logs) * np.sqrt(4 / 3))
    assert told == [(i + 1, 8) for i in range(8)]


def test_an_estimator_is_a_template(rows):
    template = gpukmeans.BisectingKMeans(99, init="random")
    found = sweep(rows, [2, 5], estimator=template)
    assert [type(model) for model in found.models] == [gpukmeans.BisectingKMeans] * 2
    assert [model.n_clusters for model in found.models] == [2, 5]
    assert template.n_clusters == 99
    assert not hasattr(template, "labels_")


def test_what_is_not_defined_is_told_as_none(rows):
    found = sweep(rows, [1, 2])
    told = json.loads(json.dumps(found.as_dict()))
    assert told["values"]["silhouette"][0] is None
    assert told["values"]["silhouette"][1] > 0.3
    assert told["recommended"] == 2


def test_the_picture_has_a_panel_for_each_metric(rows):
    figure = sweep_figure(sweep(rows, range(1, 7), n_seeds=2))
    assert [axes.get_title(loc="left").split(" ")[0] for axes in figure.axes] == [
        "inertia",
        "silhouette",
        "Calinski-Harabasz",
        "Davies-Bouldin",
        "stability",
    ]
    assert figure._repr_png_().startswith(b"\x89PNG")
    figure.canvas.draw()
    boxes = [
        text.get_window_extent() for axes in figure.axes for text in (axes.title, axes._left_title, axes.xaxis.label)
    ]
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height for box in boxes)


@pytest.mark.parametrize(
    ("n_clusters", "settings", "message"),
    [
        (5, {}, r"n_clusters=5 should be several numbers, such as range\(2, 6\)"),
        ([], {}, r"n_clusters=\[\] should be whole numbers from 1"),
        ([0, 2], {}, "should be whole numbers from 1"),
        ([2.0], {}, "should be whole numbers from 1"),
        ([2, 161], {}, "n_clusters=161 is more than X has rows: 160"),
        ([2], {"rule": "best"}, "rule='best' should be one of 'silhouette', "),
        ([2], {"metrics": ["dunn"]}, "metrics has 'dunn'; allowed are 'inertia', "),
        ([2], {"metrics": ["stability"]}, "n_seeds=1 should be at least 2"),
        ([2], {"n_seeds": 0}, "n_seeds=0"),
        ([1], {}, "silhouette is defined for none of n_clusters"),
    ],
)
def test_errors_say_what_was_given(rows, n_clusters, settings, message):
    with pytest.raises(ValueError, match=message):
        sweep(rows, n_clusters, **settings)
