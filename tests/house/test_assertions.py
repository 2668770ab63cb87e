"""The shared assertions fail on wrong labels and models, with a message that explains the failure."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pytest
from scipy import sparse

from gpukmeans.certificates.scores import score_radius
from gpukmeans.datasets import exact_ties, near_ties
from tests.emulator.testing import skip_without_compiler
from tests.support.assertions import assert_labels, assert_same, half_screen, same
from tests.support.launches.faults import assert_fault_is_seen, assert_planted
from tests.support.oracles import nearest
from tests.support.small_fits import model, rows


def why(*args, **kwargs):
    """The message of a failure."""
    with pytest.raises(AssertionError) as failure:
        assert_labels(*args, **kwargs)
    return str(failure.value)


def numbers(message):
    margin, radius = re.search(r"margin of center \d+ over center \d+ (\S+) \(.*\), radius (\S+)\n", message).groups()
    return float(margin), float(radius)


def test_right_labels_pass_whatever_holds_the_rows():
    X, C = near_ties(60, 5, 9, seed=1, dtype=np.float64)
    labels = nearest(X, C)
    assert_labels(labels, X, C)
    assert_labels(labels, sparse.csr_array(X), C)
    assert_labels(labels, X, C, want=labels)
    assert_labels(labels, X, C, rows=[])


def test_a_wrong_label_is_named_with_distances_margin_and_radius():
    X, C = np.array([[0.5, 1], [3, 0], [7, 0.25]]), np.array([[0.0, 0], [4, 0], [8, 0]])
    message = why([0, 2, 1], X, C)
    assert "2 of 3 labels are wrong. The first is row 1: label 2 instead of 1." in message
    assert "exact |x - c[2]|^2 = 25 = 25\n" in message
    assert "exact |x - c[1]|^2 = 1 = 1\n" in message
    assert "Center 1 is nearer, by 24 in squared distance." in message
    margin, radius = numbers(message)
    assert margin == 24
    assert radius == pytest.approx(float(score_radius(2, 8.0).of(np.array([3.0]))[0]), rel=1e-5)
    assert "certify center 1" in message
    message = why([0, 1, 1], X, C)
    assert "1 of 3 labels are wrong. The first is row 2: label 1 instead of 2." in message
    assert f"|x - c[1]|^2 = {Fraction(145, 16)} = 9.0625\n" in message


def test_labels_in_csr_and_of_some_rows_are_named_by_their_row():
    X, C = near_ties(60, 5, 9, seed=1, dtype=np.float64)
    labels = nearest(X, C)
    labels[[7, 41]] = (labels[[7, 41]] + 1) % 5
    for table in (X, sparse.csr_array(X)):
        assert "2 of 60 labels are wrong. The first is row 7:" in why(labels, table, C)
    assert "2 of 53 labels are wrong. The first is row 7:" in why(labels, X, C, rows=np.arange(59, 6, -1))
    mask = np.arange(60) > 40
    assert "1 of 19 labels are wrong. The first is row 41:" in why(labels, X, C, rows=mask)
    assert_labels(labels, X, C, rows=~mask & (np.arange(60) != 7))


def test_a_near_tie_is_within_the_radius():
    X, C = near_ties(40, 2, 30, seed=2, dtype=np.float64)
    message = why(1 - nearest(X, C), X, C)
    margin, radius = numbers(message)
    assert abs(margin) <= 2 * radius
    assert "certify neither: exact distances must decide this row" in message


def test_a_tie_goes_to_the_lowest_index():
    X, C = exact_ties(30, 4, 6, seed=0, dtype=np.float64)
    X, C = np.concatenate([C[2:3], X]), np.concatenate([C, C[2:3]])
    labels = nearest(X, C)
    assert labels[0] == 2
    labels[0] = 4
    message = why(labels, X, C)
    assert "Both centers are equally near; 2 is the lower index." in message
    assert_labels(labels, X, C, dead=(2,), rows=[0])


def test_the_scores_of_a_kernel_take_the_place_of_float32():
    X, C = np.array([[1.0, 0], [3, 0]]), np.array([[0.0, 0], [4, 0]])
    message = why([1, 1], X, C, screen=half_screen(X, C, np.array([0.5, 9.0])))
    assert "half-precision scores" in message
    assert numbers(message) == (4.0, 0.5)
    wrong = half_screen(-X, C, np.array([0.0, 0.0]))  # z of other rows: the scores themselves are wrong
    assert "a score or the radius is wrong" in why([0, 0], X, C, screen=wrong)


@pytest.mark.parametrize(
    ("label", "text"), [(-1, "-1 is not one of the 2 centers"), (2, "2 is not one of the 2 centers")]
)
def test_labels_of_no_center_are_named(label, text):
    assert text in why([0, label], np.array([[1.0], [3]]), np.array([[0.0], [4]]))


def test_an_expected_label_that_is_wrong_is_named():
    assert "the expected label is wrong" in why([0], np.array([[1.0]]), np.array([[0.0], [4]]), want=[1])


def test_the_shape_of_labels_counts():
    assert "2 rows have labels of shape (3,)" in why([0, 1, 1], np.array([[1.0], [3]]), np.array([[0.0], [4]]))


# ---- fitted models ---------------------------------------------------------------------------------------------------


def test_equal_models_are_the_same_and_others_are_told_apart():
    X = rows()
    one, other = model().fit(X), model().fit(X)
    assert_same(one, other, history=True)
    other.cluster_centers_[1, 2] = np.nextafter(other.cluster_centers_[1, 2], 0)
    with pytest.raises(
        AssertionError, match=r"cluster_centers_: 1 of 12 values differ, first cluster_centers_\[1, 2\]"
    ):
        assert_same(one, other)
    assert not same(one, other)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("inertia_", 1.0, "inertia_: 1 of 1 values differ"),
        ("n_iter_", 99, "n_iter_: 1 of 1 values differ"),
        ("labels_", np.zeros(60, np.int64), "labels_: int32 of shape"),
        ("labels_", np.zeros(59, np.int32), r"instead of int32 of shape \(59,\)"),
    ],
)
def test_every_result_counts(name, value, text):
    X = rows()
    one, other = model().fit(X), model().fit(X)
    setattr(other, name, value)
    with pytest.raises(AssertionError, match=text):
        assert_same(one, other)


def test_bits_count_not_values():
    """Zeros of different sign differ; what is not a number equals itself."""
    X = rows()
    one, other = model().fit(X), model().fit(X)
    for fitted in (one, other):
        fitted.cluster_centers_[0] = [np.nan, 0, 0, 0]
    assert_same(one, other)
    other.cluster_centers_[0, 1] = -0.0
    assert not same(one, other)


def test_a_result_that_one_model_lacks_is_named():
    X = rows()
    one, other = model().fit(X), model().fit(X)
    del other.inertia_
    with pytest.raises(AssertionError, match="inertia_: only one of the models has it"):
        assert_same(one, other)


def test_the_history_of_iterations_counts_where_asked_for():
    X = rows()
    one, other = model(max_iter=1).fit(X), model(max_iter=2).fit(X)
    for name in ("labels_", "cluster_centers_", "inertia_", "n_iter_"):
        setattr(other, name, getattr(one, name))
    assert_same(one, other)
    with pytest.raises(AssertionError, match=r"fit_report_: (iteration|1 iterations)"):
        assert_same(one, other, history=True)


# ---- planted faults --------------------------------------------------------------------------------------------------


def test_a_fault_on_which_no_check_fails_is_an_error():
    skip_without_compiler()
    with pytest.raises(AssertionError, match="no check failed although all is well"):
        assert_fault_is_seen("all is well", lambda device: None, "const bool is_new = old != label;", "")


def test_a_fault_that_occurs_in_no_source_is_an_error():
    assert_planted({"planted": (None, "const bool is_new = old != label;", "")})
    with pytest.raises(AssertionError, match="no such text"):
        assert_planted({"not planted": (None, "no such text", "")})
