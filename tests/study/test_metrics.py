"""A metric is one row of a table: what is added there appears everywhere."""

from __future__ import annotations

import copy
import inspect
import json
import pickle

import pytest

from gpukmeans.cli import main
from gpukmeans.evaluation import evaluate, metrics, table
from gpukmeans.evaluation.metrics import METRICS, Metric

LARGEST = Metric(
    "largest_share",
    "share of the largest cluster",
    lambda c: float(c.counts.sum(axis=1).max() / len(c.y)),
    "0 to 1: rows of the largest cluster. A metric of this test only.",
)
X, LABELS, Y = [[0.0], [1.0], [8.0], [9.0]], [0, 0, 0, 1], [7, 7, 8, 8]


@pytest.fixture
def with_one_more(monkeypatch):
    """The table with a row more."""
    for module in (metrics, table):
        monkeypatch.setattr(module, "METRICS", (*METRICS, LARGEST))


def test_a_new_row_appears_everywhere(with_one_more, capsys):
    found = evaluate(LABELS, X, Y)
    assert found.largest_share == 0.75
    assert found.as_dict()["largest_share"] == 0.75
    assert "largest_share" in dir(found)
    assert ("share of the largest cluster", "0.7500") in found.rows()
    assert "share of the largest cluster" in str(found)
    assert "0 to 1: rows of the largest cluster." in table._documented()
    assert main(["digits", "--backend", "numpy", "--no-plots"]) == 0
    assert "share of the largest cluster" in capsys.readouterr().out
    assert main(["digits", "--backend", "numpy", "--no-plots", "--json"]) == 0
    assert 0 < json.loads(capsys.readouterr().out)["metrics"]["largest_share"] < 1


def test_without_the_row_there_is_no_such_metric():
    found = evaluate(LABELS, X, Y)
    assert "largest_share" not in found.as_dict()
    with pytest.raises(AttributeError, match="no attribute 'largest_share'; metrics: inertia, homogeneity"):
        found.largest_share  # noqa: B018


def test_without_classes_their_metrics_are_none_and_not_printed(with_one_more):
    found = evaluate(LABELS, X)
    assert found.largest_share is None
    assert found.accuracy is None
    printed = [metric for metric in METRICS if metric.title and not metric.needs_classes]
    assert [title for title, _ in found.rows()] == [metric.title.format(sample="") for metric in printed]


def test_every_metric_is_documented():
    text = inspect.getdoc(table.Evaluation)
    for metric in METRICS:
        assert f"{metric.name} : float or None" in text
        assert metric.about.split()[0] in text


def test_a_table_can_be_copied_and_pickled():
    found = evaluate(LABELS, X, Y)
    for twin in (copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        assert twin == found
        assert twin.accuracy == found.accuracy
